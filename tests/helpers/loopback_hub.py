"""A hub on this machine: files OWNER/NAME/FILE of a folder, answered as the real hub answers."""

import hashlib
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from loopback_server import running

FILE = re.compile(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, whole: bool) -> None:
        hub, asked = self.server, FILE.fullmatch(self.path.partition("?")[0])
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        path = hub.folder / "/".join(asked.groups()) if asked else hub.folder / "none"
        status = hub.status or (200 if path.is_file() else 404)
        body = path.read_bytes() if status == 200 else b""
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(first[1]) if first else 0
        self.send_response(206 if status == 200 and first else status)
        if status == 200:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Accept-Ranges", "bytes")
            if first:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        elif status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if whole and body:
            self.wfile.write(body[start : hub.cut] if hub.cut else body[start:])
            self.close_connection = bool(hub.cut)
            hub.cut = None  # the next attempt gets the rest


@contextmanager
def served(folder: Path):
    """The server: `address` for HF_ENDPOINT; `status` that it answers to all, `cut` bytes after
    which it breaks off the next body, `asked` what came.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.folder, server.status, server.cut, server.asked = Path(folder), None, None, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    with running(server):
        yield server
