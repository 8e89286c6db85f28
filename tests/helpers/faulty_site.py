"""A web site on loopback with real faults, and limits that suit it."""

import contextlib
import gzip
import http.server
import socket
import struct
import threading
import time
from collections import Counter, defaultdict

from rs5m import web

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
        self.over = False
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
            self.end()

    def end(self):
        """No longer open: said before the answer, after which the client may ask the next."""
        with self.server.lock:
            self.server.open[self.headers["Host"].split(":")[0]] -= not self.over
        self.over = True

    def reply(self, code=200, body=BODY, **headers):
        self.end()
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


def many(*args, **kwargs):
    """The results of fetch_many in the order of the URLs."""
    found = dict(web.fetch_many(*args, **kwargs))
    return [found[place] for place in range(len(found))]


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


def alone(**changed):
    return web.Limits(**vars(LIMITS) | {"per_host": 1} | changed)


QUICK = web.Limits(**vars(LIMITS) | {"timeout": 0.4, "connect": 0.4})  # where nobody answers
PATIENT = web.Limits(**vars(LIMITS) | {"timeout": 1.2, "connect": 1.2})  # where some hosts do
