"""Shards by name: files, folders, patterns, URLs and the hub; named twice, missing, and fetched."""

import contextlib
import hashlib
import http.server
import os
import resource
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rs5m.commands import tune
from rs5m.data import shards
from rs5m.data.records import Record, read, write
from rs5m.web import download, hub

PAIRS = [
    Record(b"\x89PNG" * 900, "first.png", "a farm"),
    Record(b"\xff\xd8", "2.jpg", "Z\u00fcrich"),
]


@pytest.fixture
def shard(tmp_path) -> Path:
    path = tmp_path / "pub11-train-0000.tar"
    assert write(path, PAIRS) == 2
    return path


# ---------------------------------------------------------------- on this machine


def made(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, PAIRS)
    return list(paths)


@pytest.mark.parametrize("other", ["link", "hard link", "linked folder", "another spelling"])
def test_one_shard_under_two_names_is_named_twice(tmp_path, monkeypatch, other):
    (path,) = made(tmp_path / "in" / "a.tar")
    monkeypatch.chdir(tmp_path)
    again = {
        "link": tmp_path / "b.tar",
        "hard link": tmp_path / "c.tar",
        "linked folder": tmp_path / "linked",
        "another spelling": Path("in/../in/a.tar"),
    }[other]
    if other == "hard link":
        os.link(path, again)
    elif other != "another spelling":
        again.symlink_to(path if other == "link" else path.parent)
    with pytest.raises(ValueError, match="is named twice among the shards, also as"):
        shards.local([path, again])


def test_nested_linked_and_packed_shards_of_a_folder(tmp_path):
    here, (outer,) = tmp_path / "here", made(tmp_path / "there" / "x.tar")
    paths = made(here / "a.tar", here / "in" / "b.TAR")
    (here / "z").symlink_to(outer.parent)
    (here / "in" / "loop").symlink_to(here)
    for name in ("c.tar.gz", "d.tgz", "notes.txt", ".a.tar.1.tmp", "a.tar.lock"):
        (here / name).write_bytes(b"\x1f\x8b")
    packed = [here / "c.tar.gz", here / "d.tgz"]
    assert shards.local(here) == sorted([*paths, *packed, here / "z" / "x.tar"])


def test_what_exists_literally_is_not_a_pattern(tmp_path):
    inside = made(tmp_path / "out[1]" / "a-0.tar", tmp_path / "out[1]" / "a-1.tar")
    made(tmp_path / "out1" / "a-0.tar")
    braces = made(tmp_path / "x{0,1}.tar")
    assert shards.local(str(tmp_path / "out[1]")) == inside
    assert shards.local(str(tmp_path / "out[1]" / "a-*.tar")) == inside
    assert shards.local(str(tmp_path / "out[1]" / "a-{0..1}.tar")) == inside
    assert shards.local(str(tmp_path / "x{0,1}.tar")) == braces
    assert shards.local(str(tmp_path / "out[0-9]")) == [tmp_path / "out1" / "a-0.tar"]


def test_two_stars_find_each_shard_once(tmp_path):
    paths = made(tmp_path / "a.tar", tmp_path / "d" / "b.tar", tmp_path / "d" / "e" / "c.tar")
    assert shards.local(str(tmp_path / "**" / "*.tar")) == paths
    assert shards.local(str(tmp_path / "**" / "**" / "*.tar")) == paths


def test_a_missing_one_of_a_range_is_named(tmp_path):
    made(tmp_path / "a-0.tar", tmp_path / "a-2.tar")
    with pytest.raises(FileNotFoundError, match="a-1.tar is not there"):
        shards.local(str(tmp_path / "a-{0..2}.tar"))


# ---------------------------------------------------------------- from elsewhere


LOOPBACK = replace(download.LIMITS, allow_loopback=True, backoff=0.01, retries=2, timeout=5.0)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site, kind = self.server, self.path.strip("/").partition("/")[0]
        site.hits[kind] += 1
        early = {
            "gone": 404,
            "busy": 503 if site.hits[kind] == 1 else 200,
            "moved": 302,
            "inside": 302,
        }
        self.send_response(early.get(kind, 200))
        if kind in ("moved", "inside"):
            self.send_header(
                "Location", "/ok/b.tar" if kind == "moved" else "http://10.0.0.1/x.tar"
            )
        body = b"" if kind == "empty" else site.body
        short = kind == "short" or (kind == "flaky" and site.hits[kind] == 1)
        if kind != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[: len(body) // 2] if short else body)


@pytest.fixture
def site(shard, tmp_path, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.hits, server.daemon_threads = shard.read_bytes(), Counter(), True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("RS5M_CACHE", str(tmp_path / "cache"))
    yield SimpleNamespace(
        url=f"http://127.0.0.1:{server.server_port}", hits=server.hits, cache=tmp_path / "cache"
    )
    server.shutdown()
    server.server_close()


def kept(site) -> list[str]:
    return sorted(
        path.name
        for path in site.cache.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".size")
    )


@pytest.mark.parametrize("kind", ["ok", "moved", "busy", "flaky", "unsized"])
def test_a_shard_is_fetched_once(site, shard, kind):
    url = f"{site.url}/{kind}/pub11-train-0000.tar?token=a%2Fb"
    first, again = (shards.local([url], LOOPBACK)[0] for _ in range(2))
    assert (
        first == again
        and first.name == "pub11-train-0000.tar"
        and first.read_bytes() == shard.read_bytes()
    )
    assert site.hits[kind] == 1 + (kind in ("busy", "flaky")) and kept(site) == [
        "pub11-train-0000.tar"
    ]
    assert list(read([first])) == PAIRS


@pytest.mark.parametrize(
    ("kind", "status", "asked"),
    [
        ("gone", "http_404", 1),
        ("short", "incomplete_body", 3),
        ("empty", "empty", 1),
        ("inside", "refused_address", 1),
    ],
)
def test_a_shard_that_does_not_come_is_named(site, kind, status, asked):
    url = f"{site.url}/{kind}/a.tar"
    with pytest.raises(
        OSError, match=rf"^{url} could not be fetched \({status}\): [^\n]*name a file"
    ) as caught:
        shards.local([url], LOOPBACK)
    assert site.hits[kind] == asked and kept(site) == [] and "\n" not in str(caught.value)


def test_private_addresses_are_refused_unless_allowed(site):
    with pytest.raises(OSError, match=r"refused_address\): this address is private"):
        shards.local([f"{site.url}/ok/a.tar"])
    assert not site.hits
    (path,) = tune.fetched([f"{site.url}/ok/a.tar"])  # --allow-private
    assert site.hits and list(read([Path(path)])) == PAIRS


def test_a_shard_larger_than_the_cap_is_not_kept(site):
    with pytest.raises(OSError, match="too_large"):
        shards.local([f"{site.url}/ok/a.tar"], replace(LOOPBACK, max_bytes=1000))
    assert kept(site) == []


def test_a_kept_shard_of_another_size_is_fetched_again(site, shard):
    url = f"{site.url}/ok/a.tar"
    (path,) = shards.local([url], LOOPBACK)
    for content in (b"", path.read_bytes()[:700], path.read_bytes() + b"more"):
        path.write_bytes(content)
        assert shards.local([url], LOOPBACK) == [path]
        assert path.read_bytes() == shard.read_bytes()
    path.with_name("a.tar.size").unlink()  # of a cache without sizes
    shards.local([url], LOOPBACK)
    assert site.hits["ok"] == 5 and kept(site) == ["a.tar"]


def test_a_full_disk_is_not_the_networks_fault(site):
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, whole[1]))
    try:
        with pytest.raises(OSError, match="a.tar could not be written .* run it again"):
            shards.local([f"{site.url}/ok/a.tar"], LOOPBACK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert kept(site) == [] and site.hits["ok"] == 1


def test_several_processes_fetch_one_copy(site):
    found, threads = [], []
    for _ in range(6):
        threads.append(
            threading.Thread(
                target=lambda: found.append(download.fetch(f"{site.url}/ok/a.tar", LOOPBACK))
            )
        )
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1 and site.hits["ok"] == 1


def test_braces_and_hosts_make_other_files(site):
    found = shards.local(
        [f"{site.url}/ok/x-{{00..02}}.tar", f"{site.url}/other/x-00.tar"], LOOPBACK
    )
    assert [path.name for path in found] == [
        "x-00.tar",
        "x-01.tar",
        "x-02.tar",
        "x-00.tar",
    ] and len(set(found)) == 4


def test_a_shard_from_the_hub(shard, monkeypatch):
    import huggingface_hub

    asked = []

    def download(*which):
        asked.append(which)
        if which[0] == "om/gone":
            raise huggingface_hub.errors.HFValidationError("no such thing")
        return Path(str(shard))

    names = ["README.md", "a-1.tar", "a-0.tar", "b-0.tar"]
    files = [SimpleNamespace(rfilename=name) for name in names]
    monkeypatch.setattr(hub, "fetch", download)
    monkeypatch.setattr(hub, "ask", lambda _: SimpleNamespace(siblings=files))
    assert (
        list(read(shards.local(["hf://datasets/omlab/RS5M@v1/in/pub11-train-0000.tar"]))) == PAIRS
    )
    assert asked == [("omlab/RS5M", "in/pub11-train-0000.tar", "dataset", "v1")]
    with pytest.raises(
        ValueError, match="is named twice"
    ):  # the stand-in gives the same file for both
        shards.local(["hf://datasets/omlab/RS5M/a-*.tar"])
    assert [which[1] for which in asked[1:]] == ["a-0.tar", "a-1.tar"]
    with pytest.raises(
        OSError, match=r"hf://datasets/om/gone/a.tar could not be fetched from the hub \(HFVal"
    ):
        shards.local("hf://datasets/om/gone/a.tar")
    with pytest.raises(FileNotFoundError, match="matches no file"):
        shards.local("hf://datasets/omlab/RS5M/c-*.tar")
    with pytest.raises(ValueError, match="write hf://datasets/OWNER/NAME/FILE"):
        shards.local("hf://omlab/RS5M/a.tar")


def test_folders_patterns_and_files(tmp_path):
    paths = [tmp_path / f"{name}.tar" for name in ("b-1", "b-0", "a[1]")]
    for path in paths:
        write(path, PAIRS[:1])
    (tmp_path / "notes.txt").write_text("no shard")
    in_order = sorted(paths)
    assert shards.local(tmp_path) == in_order == shards.local([str(tmp_path)])
    assert shards.local(paths) == paths, "the order given"
    assert (
        shards.local([tmp_path / "b-*.tar"])
        == in_order[1:]
        == shards.local(str(tmp_path / "b-{0..1}.tar"))
    )
    assert shards.local([str(paths[2])]) == [paths[2]], "a file whose name looks like a pattern"


def test_shards_that_are_not_there(tmp_path):
    write(tmp_path / "a.tar", PAIRS[:1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="^no shard was given: name .tar files"):
        shards.local([])
    for gone in ("gone.tar", "gone-*.tar", "pipe:touch x"):
        with pytest.raises(FileNotFoundError, match="is not there"):
            shards.local([str(tmp_path / gone)])
    with pytest.raises(FileNotFoundError, match="empty holds no .tar file"):
        shards.local([tmp_path / "empty"])
    with pytest.raises(ValueError, match="ftp://x/a.tar is not an address"):
        shards.local(["ftp://x/a.tar"])
    with pytest.raises(ValueError, match="a.tar is named twice among the shards"):
        shards.local([tmp_path, tmp_path / "a.tar"])


@pytest.mark.parametrize("text", [None, "Data processing error: No space left (os error 28)"])
def test_a_full_disk_below_the_hub_is_told_with_its_folder(monkeypatch, tmp_path, text):
    import huggingface_hub

    def download(*_, **__):
        try:
            raise OSError(28, "No space left on device") if text is None else RuntimeError(text)
        except Exception as error:
            raise huggingface_hub.errors.HFValidationError("wrapped") from error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "size", lambda *_: 0)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=f"{tmp_path} could not be written .the disk is full.: free"):
        shards.local("hf://datasets/om/rs5m/a.tar")


AZURE = "?sv=2022&st=a&se=b&sr=b&sp=r&sig="
UNSIGNED = {
    "/a.tar": "/a.tar",
    "/a.tar?st=5&sr=1&expires=never": "/a.tar?st=5&sr=1&expires=never",  # nothing is signed
    "/a.tar?X-Amz-Date=1&X-Amz-Signature=2&part=3": "/a.tar?part=3",
    "/a.tar?part=3&X-Goog-Expires=1&X-Goog-Signature=2": "/a.tar?part=3",
    "/a.tar?Expires=1&Signature=2&Key-Pair-Id=3": "/a.tar",
    "/a.tar?Policy=1&Signature=2&Key-Pair-Id=3": "/a.tar",
    f"/a.tar{AZURE}1": "/a.tar",
}


@pytest.mark.parametrize("url", UNSIGNED)
def test_a_signature_is_no_part_of_a_files_name(url):
    assert download.unsigned(f"https://host.org{url}") == f"https://host.org{UNSIGNED[url]}"


def test_a_shard_that_is_signed_twice_is_fetched_once(monkeypatch, tmp_path):
    def kept(url, path, limits):
        asked.append(url)
        path.write_text(url)

    asked, address = [], "https://host.org/a.tar"
    monkeypatch.setenv("RS5M_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "_download", kept)
    first, again, other = (
        download.fetch(address + query) for query in (f"{AZURE}1", f"{AZURE}2", "?part=2")
    )
    assert first == again != other and asked == [f"{address}{AZURE}1", f"{address}?part=2"]
    assert other.parent.name == hashlib.sha256(asked[1].encode()).hexdigest()[:16]


def test_what_lies_beside_shards_is_named(tmp_path, shard):
    folder = tmp_path / "data"
    (folder / "in").mkdir(parents=True)
    for name in ("a-train-0000.tar", "a-val-0000.tar"):
        shutil.copy(shard, folder / name)
    for name in ("in/0.jpg", "in/0.txt", "pairs.csv", "a_stats.json", "more.PARQUET"):
        (folder / name).write_bytes(b"x")
    read = [folder / "a-train-0000.tar"]
    others = ["a-val-0000.tar", "in/0.jpg", "more.PARQUET", "pairs.csv"]
    assert shards.beside([folder], read) == others
    assert shards.beside([folder / "in", *read, tmp_path / "none"], read) == []
    assert shards.beside([folder], [tmp_path / "other.tar"]) == []
