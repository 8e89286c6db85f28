"""The download: real HTTP from loopback with real faults; no test leaves this machine."""

import contextlib
import gzip
import http.server
import ipaddress
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
import tracemalloc
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest

from rs5m import web
from rs5m.web import limits, lines, request, task

BODY = bytes(range(256)) * 40
LIMITS = web.Limits(
    allow_loopback=True,
    timeout=2.0,
    connect=1.0,
    backoff=0.01,
    max_wait=0.3,
    max_bytes=100_000,
    per_host=4,
)


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hits, self.lock, self.seen = Counter(), threading.Lock(), []
        self.open, self.most, self.times = Counter(), Counter(), defaultdict(list)

    def handle_error(self, request, client_address):
        pass  # the client hangs up on purpose


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site, host = self.server, self.headers["Host"].split(":")[0]
        name = self.path.strip("/").split("?")[0].split("/")[0]
        with site.lock:
            site.hits[self.path] += 1
            site.seen.append(dict(self.headers))
            site.times[self.path].append(time.monotonic())
            site.open[host] += 1
            site.most[host] = max(site.most[host], site.open[host])
            count = site.hits[self.path]
        try:
            getattr(self, "on_" + name.replace("-", "_"), self.on_missing)(count)
        finally:
            with site.lock:
                site.open[host] -= 1

    def reply(self, code=200, body=BODY, **headers):
        self.send_response(code)
        headers = {"Content_Length": str(len(body))} | headers
        for key, values in headers.items():
            for value in [values] if isinstance(values, str) else values or ():
                self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def on_missing(self, count):
        self.reply(404)

    def on_ok(self, count):
        self.reply()

    def on_flaky(self, count):
        self.reply(500 if count == 1 else 200)

    def on_broken(self, count):
        self.reply(503)

    def on_busy(self, count):
        self.reply(429, Retry_After="3600") if count == 1 else self.reply()

    def on_to_private(self, count):
        self.reply(302, Location="http://10.0.0.1/secret")

    def on_to_metadata(self, count):
        self.reply(301, Location="http://169.254.169.254/latest/meta-data/")

    def on_to_file(self, count):
        self.reply(302, Location="file:///etc/passwd")

    def on_loop(self, count):
        self.reply(302, Location="/loop")

    def on_hop(self, count):
        left = int(self.path.rsplit("/", 1)[-1])
        self.reply(307, b"", Location=f"/hop/{left - 1}" if left else "/ok?arrived=1")

    def on_relative(self, count):
        self.reply(308, b"", Location="../ok#part")

    def on_drip(self, count):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.drip()

    def on_drip_head(self, count):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drip()

    def drip(self):
        with contextlib.suppress(OSError):
            for _ in range(60):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)

    def on_silent(self, count):
        time.sleep(1.5)

    def on_slow(self, count):
        time.sleep(0.15)
        self.reply()

    def on_endless(self, count):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                self.wfile.write(bytes(10_000))

    def on_liar(self, count):
        self.reply(200, b"", Content_Length=str(10**12))

    def on_bomb(self, count):
        self.reply(200, ZEROS, Content_Encoding="gzip")

    def on_gzip(self, count):
        self.reply(200, gzip.compress(BODY), Content_Encoding="gzip")

    def on_bad_gzip(self, count):
        self.reply(200, b"plain", Content_Encoding="gzip")

    def on_brotli(self, count):
        self.reply(200, b"plain", Content_Encoding="br")

    def on_chunked(self, count):
        self.reply(
            200, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Content_Length=[], Transfer_Encoding="chunked"
        )

    def on_half_chunked(self, count):
        self.reply(200, b"5\r\nab", Content_Length=[], Transfer_Encoding="chunked")

    def on_half(self, count):
        self.reply(200, BODY[:100], Content_Length="200")

    def on_half_once(self, count):
        self.reply(200, BODY[:100], Content_Length="200") if count == 1 else self.reply()

    def on_reset(self, count):
        if count == 1:
            self.hang_up(b"")
        self.reply()

    def on_reset_body(self, count):
        self.hang_up(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nabc")

    def hang_up(self, said):
        self.wfile.write(said)
        self.wfile.flush()
        time.sleep(0.02)
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # RST, not FIN
        self.connection.close()
        raise ConnectionAbortedError

    def on_hints(self, count):
        for line in (b"102 Processing", b"103 Early Hints", b"103 Early Hints"):
            self.wfile.write(b"HTTP/1.1 " + line + b"\r\nLink: </x>; rel=preload\r\n\r\n")
        self.reply()

    def on_hints_for_ever(self, count):
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.01)

    def on_part(self, count):
        self.reply(206, BODY[:100], Content_Range="bytes 0-99/200")

    def on_garbage(self, count):
        self.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    def on_empty(self, count):
        self.reply(200, b"")

    def on_robots(self, count):
        self.reply(X_Robots_Tag=TAGS[int(self.path.rsplit("/", 1)[-1])][0])


ZEROS = gzip.compress(bytes(200_000_000), 9)
TAGS = [
    ("noai", True),
    ("noimageai", True),
    ("noindex", True),
    ("NoImageIndex", True),
    ("none", True),
    ("nofollow, noarchive", False),
    ("all", False),
    ("max-snippet: 5, noai", True),
    ("noai, unavailable_after: 25 Jun 2030 15:00:00 PST", True),
    ("unavailable_after: 25 Jun 2030 15:00:00 PST", False),
    ("otherbot: noai", False),
    ("otherbot: nofollow, noindex", False),
    ("rs5m: noai", True),
    ("RS5M: nofollow, noimageai", True),
    ("noai, otherbot: noindex", True),
    ("otherbot: noindex, rs5m: noai", True),
    (["nofollow", "otherbot: noai", "noindex"], True),
    (["nofollow", "otherbot: noai"], False),
]


@pytest.fixture(scope="module")
def server():
    site = Site()
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def site(server):
    with server.lock:
        server.hits.clear()
        server.times.clear()
        server.seen.clear()
    server.base = f"http://127.0.0.1:{server.server_port}"
    return server


@pytest.fixture
def names(monkeypatch):
    """A resolver of our own: name -> list of answers, one a call; numbers resolve to themselves.
    Counts the calls.
    """
    real, calls, book = socket.getaddrinfo, Counter(), {}

    def resolve(host, port, *args, **kwargs):
        calls[host] += 1
        if host in book:
            answers = book[host][min(calls[host], len(book[host])) - 1]
            if isinstance(answers, Exception):
                raise answers
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers
            ]
        ipaddress.ip_address(host)  # a test that would ask a real resolver fails here
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return SimpleNamespace(calls=calls, book=book)


@pytest.fixture
def no_connection(monkeypatch):
    tried = []
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: tried.append(address) or 1 / 0
    )
    return tried


# Normalisation


@pytest.mark.parametrize(
    "url, clean",
    [
        ("HTTP://Example.COM:80/a%7eb/%c3%a9?B=2&a=1#top", "http://example.com/a~b/%C3%A9?B=2&a=1"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("  http://a.com/x y.jpg\n", "http://a.com/x%20y.jpg"),
        ("http://a.com/é", "http://a.com/%C3%A9"),
        ("http://a.com/100%", "http://a.com/100%25"),
        ("http://a.com/a%2Fb%2fc", "http://a.com/a%2Fb%2Fc"),
        ("http://a.com/./b/../c/%2e%2e/d", "http://a.com/d"),
        ("http://a.com/../../x/..", "http://a.com/"),
        ("http://a.com/a/b/.", "http://a.com/a/b/"),
        ("http://a.com//x", "http://a.com//x"),
        ("http://a.com\\b\\c?d\\e", "http://a.com/b/c?d%5Ce"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
        ("http://例え.テスト/", "http://xn--r8jz45g.xn--zckzah/"),
        ("http://my_host.example.com./", "http://my_host.example.com/"),
        ("http://user:secret@a.com/", "http://a.com/"),
        ("http://example.com@127.0.0.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1\\@example.com/", "http://127.0.0.1/@example.com/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.1/", "http://127.0.0.1/"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
        ("http://１２７。０.0.1/", "http://127.0.0.1/"),
        ("http://[::FFFF:127.0.0.1]:8080/", "http://[::ffff:7f00:1]:8080/"),
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
        ("http://a.com/%u1234", "http://a.com/%25u1234"),
        ("http://a.com/?a=1&amp;b=2", "http://a.com/?a=1&b=2"),
        ("http://a.com/?a=1&amp;amp;b=2", "http://a.com/?a=1&b=2"),
        ("http://a.com/it&#39;s.jpg?x=&#x41;", "http://a.com/it's.jpg?x=A"),
        ("http://a.com/?a=1&copy=2&lt=3", "http://a.com/?a=1&copy=2&lt=3"),
    ],
)
def test_normalise(url, clean):
    assert web.normalise(url) == clean
    assert web.normalise(clean) == clean


@pytest.mark.parametrize(
    "url",
    [
        None,
        float("nan"),
        b"http://a.com/",
        "",
        "a.com/x.jpg",
        "//a.com/x.jpg",
        "file:///etc/passwd",
        "ftp://a.com/x",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "http://",
        "http:///x",
        "http://a..com/",
        "http://a b.com/",
        "http://a.com:99999/",
        "http://a.com:0/",
        "http://a.com:x/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://256.256.256.256/",
        "http://1.2.3.4.5/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/",
        "http://a.com/" + "x" * 9000,
        "http://a.com/\ud800",
        "http://\ud800.com/",
        "http://a.com%00.b.com/",
    ],
)
def test_hopeless_urls(url):
    assert web.normalise(url) is None
    assert web.fetch(url, LIMITS).status == "bad_url"


def test_normalise_is_idempotent_and_never_raises():
    rng = random.Random(0)
    pieces = [
        "http://",
        "https://",
        "a.com",
        "ü",
        "%",
        "%2",
        "%41",
        "/",
        "..",
        "?",
        "#",
        "@",
        ":",
        "[",
        "]",
        "\\",
        " ",
    ]
    pieces += ["::1", "80", "0x7f", "\x00", "\u3002", "xn--", "&", "=", "%2e", "\u202e", "1"]
    kept = 0
    for _ in range(20_000):
        clean = web.normalise(
            "http://" * (rng.random() < 0.7) + "".join(rng.choices(pieces, k=rng.randint(1, 8)))
        )
        if clean is not None:
            kept += 1
            assert clean.isascii() and web.normalise(clean) == clean
    assert kept > 1000


# Addresses

OUT_OF_BOUNDS = """
10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1
240.0.0.1 255.255.255.255 192.0.0.192 192.0.2.1 198.18.0.1 203.0.113.9 168.63.129.16 :: fe80::1
fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 fec0::1 ::ffff:10.0.0.1
::ffff:169.254.169.254 ::ffff:0.0.0.0 ::10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 192.88.99.1
2001:0:808:808::1 2002:808:808:: 2002:a00:1:: 2002:7f00:1:: 64:ff9b::7f00:1 100::1
""".split()


def test_addresses():
    for address in OUT_OF_BOUNDS:
        assert web.refused(address), address
        assert web.refused(address, allow_loopback=True), address
    for address in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"]:
        assert web.refused(address) and not web.refused(address, allow_loopback=True)
    for address in [
        "8.8.8.8",
        "93.184.216.34",
        "2606:2800:220:1::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ]:
        assert not web.refused(address) and not web.refused(address, allow_loopback=True), address


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 2130706433 0x7f.1 0177.1 127.1 [::1] [::ffff:127.0.0.1] 0.0.0.0".split()
    + "example.com@127.0.0.1 １２７.0.0.1 10.0.0.1 192.168.0.1 169.254.169.254".split()
    + ["[fd00:ec2::254]", "[::]", "0xA9FEA9FE", "[::ffff:10.0.0.1]"],
)
def test_refused_before_any_connection(host, no_connection):
    got = web.fetch(f"http://{host}:80/", web.Limits())
    assert (got.status, got.attempts) == ("refused_address", 1)
    assert not no_connection


@pytest.mark.parametrize(
    "host", "0.0.0.0 10.0.0.1 169.254.169.254 [::] [fe80::1] [::ffff:192.168.0.1]".split()
)
def test_allow_loopback_allows_nothing_else(host, no_connection):
    assert web.fetch(f"http://{host}/", LIMITS).status == "refused_address"
    assert not no_connection


def test_every_spelling_of_loopback_works_where_allowed(site):
    port = site.server_port
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "example.com@127.0.0.1"]:
        assert web.fetch(f"http://{host}:{port}/ok", LIMITS).content == BODY


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_names_that_resolve_inside(names, no_connection, address):
    names.book["inside.example"] = [[address]]
    assert web.fetch("http://inside.example/", web.Limits()).status == "refused_address"
    names.book["mixed.example"] = [["93.184.216.34", address]]
    assert web.fetch("https://mixed.example/", web.Limits()).status == "refused_address"
    assert not no_connection


def test_a_name_is_resolved_once_and_asked_by_name(site, names):
    names.book["chips.example"] = [["127.0.0.1"], ["10.0.0.1"]]
    got = web.fetch(f"http://chips.example:{site.server_port}/ok", LIMITS)
    assert got.status == "ok" and names.calls["chips.example"] == 1
    assert site.seen[0]["Host"] == f"chips.example:{site.server_port}"
    assert site.seen[0]["User-Agent"] == LIMITS.user_agent


def test_rebinding_between_check_and_connection(site, names):
    """The first answer is public; whatever would resolve again, the checked number included, gets
    loopback.
    """
    names.book["rebind.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    names.book["93.184.216.34"] = [["127.0.0.1"]]
    got = web.fetch(f"http://rebind.example:{site.server_port}/ok", web.Limits(timeout=2))
    assert got.status == "refused_address" and got.content is None
    assert (
        names.calls["rebind.example"] == 1 and names.calls["93.184.216.34"] == 1
    )  # it did connect, and saw the peer
    assert not site.hits


def test_the_second_address_is_tried(site, names):
    names.book["two.example"] = [["127.0.0.2", "127.0.0.1"]]
    with socket.socket() as other:  # bound, not listening: refuses
        other.bind(("127.0.0.2", 0))
        assert web.fetch(f"http://two.example:{site.server_port}/ok", LIMITS).status == "ok"


def test_names_that_do_not_resolve(names):
    names.book["gone.example"] = [[socket.gaierror(socket.EAI_NONAME, "no such name")][0]]
    assert web.fetch("http://gone.example/", LIMITS).status == "dns_failure"
    names.book["label.example"] = [UnicodeError("label too long")]
    assert web.fetch("http://label.example/", LIMITS).status == "bad_response"


def test_a_hanging_resolver_times_out(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(3))
    since = time.monotonic()
    assert web.fetch("http://slow.example/", web.Limits(timeout=0.2)).status == "timeout"
    assert time.monotonic() - since < 1


def test_environment_proxies_are_not_used(site, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"{site.base}/proxy")
        monkeypatch.setenv(name.upper(), f"{site.base}/proxy")
    assert web.fetch(f"{site.base}/ok", LIMITS).status == "ok"
    assert web.fetch("http://10.0.0.1/", LIMITS).status == "refused_address"
    assert dict(site.hits) == {"/ok": 1}


# Redirects


@pytest.mark.parametrize(
    "path, status, http_status",
    [
        ("to-private", "refused_address", None),
        ("to-metadata", "refused_address", None),
        ("to-file", "bad_redirect", 302),
        ("loop", "too_many_redirects", 302),
        ("hop/5", "too_many_redirects", 307),
        ("hop/4", "ok", 200),
        ("deep/../relative/x", "ok", 200),
    ],
)
def test_redirects(site, path, status, http_status):
    got = web.fetch(f"{site.base}/{path}", LIMITS)
    assert (got.status, got.http_status) == (status, http_status)
    if status == "ok":
        assert got.content == BODY and "/ok" in got.url


def test_a_redirect_from_a_public_name_to_loopback_is_refused(site, monkeypatch):
    """Loopback plays a public host for the first hop only."""
    judged = []

    def refused(address, allow_loopback=False):
        judged.append(address)
        return len(judged) > 2

    monkeypatch.setattr(lines, "refused", refused)
    assert web.fetch(f"{site.base}/hop/0", web.Limits()).status == "refused_address"
    assert len(judged) == 3 and dict(site.hits) == {"/hop/0": 1}


# Faults


@pytest.mark.parametrize(
    "path, status, http_status, attempts",
    [
        ("ok", "ok", 200, 1),
        ("nothing-here", "http_404", 404, 1),
        ("flaky", "ok", 200, 2),
        ("broken", "http_503", 503, 3),
        ("busy", "ok", 200, 2),
        ("drip", "timeout", None, 1),
        ("drip-head", "timeout", None, 1),
        ("silent", "timeout", None, 1),
        ("endless", "too_large", 200, 1),
        ("liar", "too_large", 200, 1),
        ("bomb", "too_large", 200, 1),
        ("gzip", "ok", 200, 1),
        ("bad-gzip", "bad_encoding", 200, 1),
        ("brotli", "bad_encoding", 200, 1),
        ("half", "incomplete_body", 200, 3),
        ("half-once", "ok", 200, 2),
        ("half-chunked", "incomplete_body", 200, 3),
        ("reset", "ok", 200, 2),
        ("reset-body", "incomplete_body", 200, 3),
        ("garbage", "bad_response", None, 1),
        ("hints", "ok", 200, 1),
        ("hints-for-ever", "timeout", None, 1),
        ("part", "http_206", 206, 1),
        ("empty", "empty", 200, 1),
    ],
)
def test_faults(site, path, status, http_status, attempts):
    limits = web.Limits(**vars(LIMITS) | {"timeout": 0.5})
    since = time.monotonic()
    got = web.fetch(f"{site.base}/{path}", limits)
    assert (got.status, got.http_status, got.attempts) == (status, http_status, attempts)
    assert got.content == (BODY if status == "ok" else None)
    assert time.monotonic() - since < 1.5
    assert site.hits[f"/{path}"] == attempts


def test_chunked(site):
    assert web.fetch(f"{site.base}/chunked", LIMITS).content == b"abcde"


def test_waits_between_attempts(site):
    web.fetch(f"{site.base}/busy", LIMITS)
    first, second = site.times["/busy"]
    assert 0.28 <= second - first < 0.6  # asked for an hour, capped at max_wait
    web.fetch(f"{site.base}/broken", web.Limits(**vars(LIMITS) | {"backoff": 0.05}))
    a, b, c = site.times["/broken"]
    assert 0.05 <= b - a < 0.2 and 0.1 <= c - b < 0.3


def test_retry_after():
    assert task._retry_after({}) == 0
    assert task._retry_after({"Retry-After": "7"}) == 7
    assert task._retry_after({"Retry-After": "soon"}) == 0
    assert task._retry_after({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}) == 0
    assert task._retry_after({"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}) > 1e6


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        got = web.fetch(f"http://127.0.0.1:{free.getsockname()[1]}/", LIMITS)
    assert (got.status, got.attempts) == ("connection_error", 1)


def test_a_gzip_bomb_costs_no_memory(site):
    tracemalloc.start()
    assert web.fetch(f"{site.base}/bomb", LIMITS).status == "too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # 200 MB when inflated; the cap is 0.1 MB


@pytest.mark.parametrize("index", range(len(TAGS)))
def test_opt_out(site, index):
    tags, out = TAGS[index]
    assert web.opted_out([tags] if isinstance(tags, str) else tags, LIMITS.user_agent) is out
    assert web.fetch(f"{site.base}/robots/{index}", LIMITS).status == ("opt_out" if out else "ok")


# TLS


@pytest.fixture
def tls_site(tmp_path, monkeypatch):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    more = ["-subj", "/CN=chips.example", "-addext", "subjectAltName=DNS:chips.example"]
    more += ["-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command.split() + more, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl cannot make a certificate here")
    site, asked = Site(), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.sni_callback = lambda sock, name, context: asked.append(name)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    site.asked, site.trusted = asked, ssl.create_default_context(cafile=cert)
    yield site
    site.shutdown()
    site.server_close()


def test_tls_keeps_the_name(tls_site, names, monkeypatch):
    names.book |= {"chips.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    port = tls_site.server_port
    assert (
        web.fetch(f"https://chips.example:{port}/ok", LIMITS).status == "tls_error"
    )  # nobody signed it
    monkeypatch.setattr(lines, "_tls", lambda: tls_site.trusted)
    got = web.fetch(f"https://chips.example:{port}/ok", LIMITS)
    assert got.content == BODY and tls_site.asked[-1] == "chips.example"
    assert (
        web.fetch(f"https://other.example:{port}/ok", LIMITS).status == "tls_error"
    )  # signed for another name
    drip = web.fetch(
        f"https://chips.example:{port}/drip", web.Limits(**vars(LIMITS) | {"timeout": 0.4})
    )
    assert drip.status == "timeout"


def test_plain_http_on_a_tls_port(site):
    assert web.fetch(f"https://127.0.0.1:{site.server_port}/ok", LIMITS).status == "tls_error"


# Many at once


def many(*args, **kwargs):
    """The results of fetch_many in the order of the URLs."""
    found = dict(web.fetch_many(*args, **kwargs))
    return [found[place] for place in range(len(found))]


def test_many_have_their_places_and_come_twice_the_same(site):
    paths = ["ok", "nope", "flaky", "half", "brotli", "gzip", "busy", "to-private", "slow"] * 5
    urls = [f"{site.base}/{path}?{i}" for i, path in enumerate(paths)] + [
        None,
        "ftp://a/",
        "http://[::1",
    ]
    one_by_one = [web.fetch(url, LIMITS) for url in urls]
    site.hits.clear()
    assert many(urls, LIMITS, workers=16) == one_by_one
    site.hits.clear()
    assert many(iter(urls), LIMITS, workers=3, window=5) == one_by_one
    assert many([], LIMITS) == []


def test_per_host_bound(site, names):
    """12 slow requests each for two hosts: never more than `per_host` open at either, yet as many
    as allowed.
    """
    site.most.clear()
    names.book |= {host: [["127.0.0.1"]] for host in ("one.example", "two.example")}
    urls = [
        f"http://{('one', 'two')[i % 2]}.example:{site.server_port}/slow?{i}" for i in range(24)
    ]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 3})
    assert {got.status for _, got in web.fetch_many(urls, limits, workers=16)} == {"ok"}
    assert site.most["one.example"] == site.most["two.example"] == 3


def test_per_host_bound_counts_redirects(site, names):
    sources = [f"from{i}.example" for i in range(12)]
    names.book |= {host: [["127.0.0.1"]] for host in [*sources, "target.example"]}
    Handler.on_away = lambda self, count: self.reply(
        302, b"", Location=f"http://target.example:{site.server_port}/slow{self.path}"
    )
    urls = [f"http://{host}:{site.server_port}/away?{host}" for host in sources]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 2})
    assert {got.status for _, got in web.fetch_many(urls, limits, workers=12)} == {"ok"}
    assert site.most["target.example"] == 2


def test_a_slow_host_does_not_hold_up_the_others(site, names):
    names.book |= {host: [["127.0.0.1"]] for host in ("slow.example", "quick.example")}
    port = site.server_port
    urls = [f"http://slow.example:{port}/slow?{i}" for i in range(12)]
    urls += [f"http://quick.example:{port}/ok?{i}" for i in range(12)]
    limits, since = web.Limits(**vars(LIMITS) | {"per_host": 2}), time.monotonic()
    assert len(list(web.fetch_many(urls, limits, workers=4))) == 24
    took = max(max(site.times[f"/ok?{i}"]) for i in range(12)) - since
    assert took < 0.6  # the slow host needs 0.9 s, and its URLs come first


# Connections that are kept


class Kept(Handler):
    """Speaks HTTP/1.1, and counts its connections by the name that they are asked for."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.asked = 0

    def do_GET(self):
        self.asked += 1
        if self.asked == 1:
            self.server.connections[self.headers["Host"].split(":")[0]] += 1
        super().do_GET()

    def on_leaves(self, count):
        self.reply()
        self.close_connection = True  # without a word in its answer

    def on_more(self, count):
        self.reply(body=BODY + b"HTTP/1.1 200 OK\r\n\r\nforged", Content_Length=str(len(BODY)))


@pytest.fixture
def kept_site():
    site = Site()
    site.RequestHandlerClass, site.connections = Kept, Counter()
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


def alone(**changed):
    return web.Limits(**vars(LIMITS) | {"per_host": 1} | changed)


def test_a_connection_is_kept_for_the_same_host_whatever_it_answers(kept_site, names):
    names.book |= {host: [["127.0.0.1"]] for host in ("one.example", "two.example")}
    paths = ["ok", "nope", "relative/x", "gzip", "empty", "chunked", "robots/5", "ok"]
    for host in ("one", "two"):
        urls = [f"http://{host}.example:{kept_site.server_port}/{p}" for p in paths]
        got = [one.status for one in many(urls, alone(), workers=1)]
        assert got == ["ok", "http_404", "ok", "ok", "empty", "ok", "ok", "ok"]
    assert kept_site.connections == {"one.example": 1, "two.example": 1}
    assert names.calls["one.example"] == names.calls["two.example"] == 1, "asked once a crawl"


def test_a_kept_connection_belongs_to_one_name_and_one_checked_address(kept_site, names):
    lines, port = request.Lines(), kept_site.server_port
    names.book |= {"a.example": [["127.0.0.1"], ["127.0.0.3"]], "b.example": [["127.0.0.1"]]}

    def ask(host):
        return request.get(f"http://{host}.example:{port}/ok", LIMITS, 2.0, lines)[2]

    with contextlib.closing(lines), socket.create_server(("127.0.0.3", port)) as other:
        assert ask("a") == ask("a") == ask("b") == "ok"
        assert kept_site.connections == {"a.example": 1, "b.example": 1}
        lines._names.clear()  # as after FRESH seconds: the name has another address now
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        with pytest.raises(ConnectionError):
            ask("a")
        assert names.calls["a.example"] == 2 and kept_site.hits["/ok"] == 3


def test_a_name_that_moves_inside_is_refused_although_a_connection_is_kept(kept_site, names):
    names.book["moves.example"] = [["127.0.0.1"], ["10.0.0.1"]]
    url = f"http://moves.example:{kept_site.server_port}/ok"
    with contextlib.closing(request.Lines()) as lines:
        assert request.get(url, LIMITS, 2.0, lines)[2] == "ok"
        lines._names.clear()
        with pytest.raises(limits.Stop, match="refused_address"):
            request.get(url, LIMITS, 2.0, lines)


def test_a_connection_that_the_server_closed_costs_no_attempt(kept_site):
    urls = [f"http://127.0.0.1:{kept_site.server_port}/leaves?{i}" for i in range(20)]
    got = many(urls, alone(retries=0), workers=1)
    assert {(one.status, one.attempts) for one in got} == {("ok", 1)}
    assert sum(kept_site.hits.values()) == 20


def test_bytes_that_nobody_asked_for_are_no_answer_to_the_next_url(kept_site):
    urls = [f"http://127.0.0.1:{kept_site.server_port}/{p}" for p in ("more", "hop/0", "more")]
    with contextlib.closing(request.Lines()) as lines:
        for url in urls:
            status, content = request.get(url, LIMITS, 2.0, lines)[2:]
            assert (status, content) in (("ok", BODY), ("redirect", None))
            time.sleep(0.02)


# Hosts that do not answer


@pytest.fixture
def deaf():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.9", 0), backlog=512) as listener:
        yield f"http://127.0.0.9:{listener.getsockname()[1]}"


@pytest.fixture
def full():
    """Never takes a connection: its queue is full."""
    with socket.create_server(("127.0.0.8", 0), backlog=0) as listener, contextlib.ExitStack() as s:
        for _ in range(4):
            line = s.enter_context(socket.socket())
            line.setblocking(False)
            line.connect_ex(listener.getsockname())
        yield f"http://127.0.0.8:{listener.getsockname()[1]}"


QUICK = web.Limits(**vars(LIMITS) | {"timeout": 0.4, "connect": 0.4})


@pytest.mark.parametrize("kind", ["deaf", "full"])
def test_a_dead_host_is_given_up_and_holds_nobody(kind, site, request):
    base = request.getfixturevalue(kind)
    urls = [f"{base}/{i}" for i in range(40)] + [f"{site.base}/ok?{i}" for i in range(40)]
    since, found, last_ok = time.monotonic(), {}, 0.0
    for place, got in web.fetch_many(urls, QUICK, workers=8):
        found[place] = got
        last_ok = time.monotonic() - since if got.status == "ok" else last_ok
    took = time.monotonic() - since
    assert all(found[i].status == "ok" for i in range(40, 80)) and last_ok < 0.4
    counts = Counter((found[i].status, found[i].attempts) for i in range(40))
    assert counts == {("timeout", 1): 5, ("dead_host", 0): 35}, "four at once, then one alone"
    assert 0.8 <= took < 1.6, "two time-outs, not ten"


def test_all_hosts_dead(deaf, full):
    urls = [f"{base}/{i}" for i in range(20) for base in (deaf, full)]
    since = time.monotonic()
    counts = Counter(got.status for got in many(urls, QUICK, workers=16))
    assert set(counts) == {"timeout", "dead_host"} and counts["dead_host"] >= 28
    assert time.monotonic() - since < 2.5


def test_a_host_that_answers_now_and_then_is_not_given_up(monkeypatch):
    asked = []

    def get(url, *_):
        asked.append(url)
        if len(asked) % 3:
            time.sleep(0.005)
            raise limits.Silent
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)
    got = many([f"http://a.example/{i}" for i in range(30)], alone(), workers=4)
    assert Counter(one.status for one in got) == {"timeout": 20, "http_404": 10}


def test_a_network_that_is_down_for_a_while_condemns_no_host(monkeypatch):
    since = time.monotonic()

    def get(url, *_):
        time.sleep(0.02)
        if 0.1 < time.monotonic() - since < 0.6:
            time.sleep(0.05)
            raise limits.Silent
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)
    urls = [f"http://host{i % 8}.example/{i}" for i in range(800)]
    counts = Counter(got.status for got in many(urls, LIMITS, workers=16))
    assert counts["timeout"] > 20 and counts["http_404"] > 400 and "dead_host" not in counts


def test_the_host_with_most_urls_is_not_left_over(monkeypatch):
    """Four requests at a time, two of them for the large host: its last but one is asked when about
    20 of 40 others have been, not after all of them.
    """
    asked = []

    def get(url, *_):
        asked.append(url)
        time.sleep(0.01)
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)
    urls = [f"http://host{i}.example/" for i in range(40)]
    urls += [f"http://large.example/{i}" for i in range(20)]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 2})
    assert len(many(urls, limits, workers=4)) == 60 == len(set(asked))
    assert [i for i, url in enumerate(asked) if "large" in url][-2] < 52


def test_hosts_that_drip_redirect_for_ever_or_hang_up_hold_their_own_rows_only(site, names):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as rude:

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    rude.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        names.book |= {f"{n}.example": [["127.0.0.1"]] for n in ("drip", "loop", "rude", "good")}
        kinds = {"drip": "timeout", "loop": "too_many_redirects", "rude": "connection_reset"}
        ports = defaultdict(lambda: site.server_port, rude=rude.getsockname()[1])
        urls = [f"http://{k}.example:{ports[k]}/{k}?{i}" for i in range(6) for k in kinds]
        urls += [f"http://good.example:{site.server_port}/ok?{i}" for i in range(24)]
        since, good, found = time.monotonic(), 0.0, defaultdict(Counter)
        for place, got in web.fetch_many(urls, QUICK, workers=24):
            found[urls[place].split(".")[0][7:]][got.status] += 1
            good = time.monotonic() - since if got.status == "ok" else good
        rude.shutdown(socket.SHUT_RDWR)
    assert found == {k: {status: 6} for k, status in kinds.items()} | {"good": {"ok": 24}}
    assert good < 0.4, "the drips end later"


def test_no_thread_for_a_request_or_a_name(site, names, monkeypatch):
    started, start = [], threading.Thread.start

    def count(thread):
        started.append(getattr(thread._target, "__qualname__", ""))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", count)
    names.book |= {f"h{i}.example": [["127.0.0.1"]] for i in range(100)}
    urls = [f"http://h{i % 100}.example:{site.server_port}/ok?{i}" for i in range(300)]
    assert {got.status for got in many(urls, LIMITS, workers=4)} == {"ok"}
    ours = Counter(name for name in started if name.startswith(("_Crawl", "Lines")))
    assert ours["_Crawl._work"] <= 4 and ours["Lines._resolve"] <= 5
    assert sum(ours.values()) == len([n for n in started if "process_request" not in n])


def test_the_tally_knows_counts_bytes_and_the_hosts(site, deaf):
    urls = [f"{deaf}/{i}" for i in range(8)] + [f"{site.base}/ok?{i}" for i in range(3)] + ["x"]
    tally = web.Tally()
    for place, got in web.fetch_many(urls, QUICK):
        tally.add(urls[place], got)
    assert tally.statuses == {"ok": 3, "timeout": 5, "dead_host": 3, "bad_url": 1}
    assert tally.bytes == 3 * len(BODY)
    assert tally.slowest()[0][0] == "127.0.0.9" and 0.35 < tally.slowest()[0][1] < 0.6
    ((name, host),) = tally.deadest()
    assert name == "127.0.0.9" and (host.results, host.asked, host.failed, host.silent) == (
        8,
        5,
        8,
        8,
    )


def test_a_reader_who_stops_early(site):
    results = web.fetch_many(
        (f"{site.base}/ok?{i}" for i in range(10**9)), LIMITS, workers=4, window=8
    )
    assert next(results)[1].status == "ok"
    results.close()
    assert sum(site.hits.values()) <= 16


def test_ipv6_loopback():
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback")

    def serve():
        line, _ = listener.accept()
        with line:
            asked = line.recv(4096)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked)

    with listener:
        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        got = web.fetch(f"http://[0:0::1]:{port}/a?b", LIMITS)
    assert got.status == "ok" and f"Host: [::1]:{port}\r\n".encode() in got.content
    assert got.content.startswith(b"GET /a?b HTTP/1.1\r\n")
