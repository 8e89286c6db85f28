"""The HTTP server of the pocket web, a process of its own: `python -m rs5m.pocket.server SEED
LISTED PORT`.

Prints its base URL, then answers until its standard input ends, so it never outlives who started
it. Chapter: pub11.
"""

import contextlib
import http.server
import os
import sys
import threading

from rs5m.pocket.pictures import encoded
from rs5m.pocket.webpages import build


class Site(http.server.ThreadingHTTPServer):
    """Threads that die with the process, and a queue as long as a crawl's burst."""

    daemon_threads = True
    request_queue_size = 128


def handler(web) -> type:
    """A request handler that answers for the pictures of one web; anything else is a 404."""
    pictures = list(web.pictures.itertuples())

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            stem = self.path.strip("/").removesuffix(".jpg")
            known = stem.isascii() and stem.isdigit() and int(stem) < len(pictures)
            answer(self, pictures[int(stem)] if known else None, web.seed)

    return Handler


def answer(request, picture, seed: int) -> None:
    """One response: the file of `picture`, or the fault that its row asks for."""
    broken = "http_404" if picture is None else picture.broken
    code = {"http_404": 404, "http_503": 503, "refused_address": 302}.get(broken, 200)
    body = encoded(picture, seed) if code == 200 else b""
    request.send_response(code)
    if broken == "refused_address":
        request.send_header("Location", "http://10.0.0.1/inside.jpg")
    if broken == "opt_out":
        request.send_header("X-Robots-Tag", "noai, noimageai")
    request.send_header(
        "Content-Length", str(len(body) + (1000 if broken == "incomplete_body" else 0))
    )
    request.end_headers()
    with contextlib.suppress(OSError):
        request.wfile.write(body)


def main(seed: int, listed: int, port: int) -> None:
    """Serve until standard input ends."""
    site = Site(("127.0.0.1", port), handler(build(seed, listed)))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(f"http://127.0.0.1:{site.server_port}", flush=True)
    site.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
