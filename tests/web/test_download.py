"""A download that is cut off goes on by ranges, and never joins two versions of a file."""

import http.server
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rs5m.web import download

ONCE = replace(download.LIMITS, allow_loopback=True, backoff=0.0, retries=0, timeout=5.0)
BODY = np.random.default_rng(0).bytes(100_000)
CUT = 30_000  # bytes after which the server lets go


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server
        site.asked.append(self.headers.get("Range", ""))
        refused = site.refuses.pop(0) if site.refuses else 0
        if refused:
            self.send_error(refused)
            return
        body, start = site.body, 0
        known = self.headers.get("If-Range") in site.versions.values()
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if known else None
        if match and int(match[1]) >= len(body):
            self.send_error(416)
            return
        if match:
            start = int(match[1])
            self.send_response(206)
            shown = start + site.shift
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        for name, value in site.versions.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + site.cut])


@pytest.fixture
def site(tmp_path, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.asked, server.refuses, server.cut, server.shift = BODY, [], [], CUT, 0
    server.versions, server.daemon_threads = {"ETag": '"first"'}, True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/a.tar"
    monkeypatch.setenv("RS5M_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "CHUNK", 1000)
    yield server
    server.shutdown()
    server.server_close()


def kept(site) -> list[str]:
    """What is beside the whole file, but its lock and its size."""
    cache = Path(download.os.environ["RS5M_CACHE"])
    return sorted(p.name for p in cache.rglob("*.*") if p.suffix not in (".lock", ".size"))


@pytest.mark.parametrize(
    "versions",
    [{"ETag": '"first"'}, {"ETag": 'W/"weak"', "Last-Modified": "Thu, 01 Oct 2026 10:00:00 GMT"}],
)
def test_each_byte_comes_once(site, versions):
    site.versions = versions  # a weak tag names no bytes: then the date is what is asked with
    path = download.fetch(site.url, ONCE)
    assert path.read_bytes() == BODY and kept(site) == ["a.tar"]
    assert site.asked == ["", "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_another_run_goes_on_where_the_network_failed(site):
    site.refuses = [0, 404]  # the first request is answered, the second is not
    with pytest.raises(OSError, match="http_404"):
        download.fetch(site.url, ONCE)
    assert kept(site) == [".a.tar.part", ".a.tar.version"]
    site.cut = len(BODY)
    path = download.fetch(site.url, ONCE)
    assert path.read_bytes() == BODY and site.asked == ["", "bytes=30000-", "bytes=30000-"]
    assert kept(site) == ["a.tar"]


def begun(site) -> Path:
    """A download of which 30,000 bytes have come."""
    path = download.fetch(site.url, ONCE)
    came = download._Came(path)
    came.path.write_bytes(BODY[:CUT])
    came.tag.write_text('"first"')
    path.unlink()
    site.asked.clear()
    return path


def test_a_file_that_has_changed_begins_anew(site):
    path = begun(site)
    site.versions, site.body, site.cut = {"ETag": '"second"'}, BODY[::-1], len(BODY)
    assert download.fetch(site.url, ONCE).read_bytes() == BODY[::-1] and path.is_file()
    assert site.asked == ["bytes=30000-"]


def test_another_part_than_asked_for_is_not_joined(site):
    begun(site)
    site.shift = 10
    with pytest.raises(OSError, match="incomplete_body"):
        download.fetch(site.url, ONCE)
    assert kept(site) == []
    site.shift = 0
    assert download.fetch(site.url, ONCE).read_bytes() == BODY


def test_what_is_longer_than_the_file_begins_anew(site):
    path = begun(site)
    download._Came(path).path.write_bytes(BODY + b"more")
    site.cut = len(BODY)
    assert download.fetch(site.url, ONCE).read_bytes() == BODY
    assert site.asked == [f"bytes={len(BODY) + 4}-", ""]


def test_without_a_version_it_begins_anew(site):
    site.versions = {}
    with pytest.raises(OSError, match="incomplete_body"):
        download.fetch(site.url, ONCE)
    assert kept(site) == [] and site.asked == [""]


def test_an_expired_signature_is_told_and_a_new_one_goes_on(site):
    site.url += "?part=1&Expires=1&Signature=old"
    path = begun(site)
    site.refuses = [403]
    with pytest.raises(OSError, match="http_403.: its signature has expired .* sign the address"):
        download.fetch(site.url, ONCE)
    site.cut = len(BODY)
    assert download.fetch(site.url.replace("old", "new"), ONCE) == path
    assert path.read_bytes() == BODY and site.asked == ["bytes=30000-"] * 2
