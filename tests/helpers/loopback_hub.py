"""A hub on this machine: files OWNER/NAME/FILE of a folder, answered as the real hub answers."""

import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from loopback_server import running

FILE = re.compile(r"/(?:datasets/)?([^/]+(?:/[^/]+)?)/resolve/[^/]+/(.+)")
LISTED = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/[^/]+)?")


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
        listed = LISTED.fullmatch(self.path.partition("?")[0])
        known = listed and (hub.folder / listed[1]).is_dir()
        status = hub.status or (200 if known or path.is_file() else 404)
        body = b""
        if status == 200:
            body = self.listing(*listed.groups()) if listed else path.read_bytes()
        if hub.once and asked:  # not the library's own questions
            hub.status = None
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(first[1]) if first else 0
        self.send_response(206 if status == 200 and first else status)
        if status == 429 and hub.wait:
            self.send_header("Retry-After", hub.wait)
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

    def listing(self, repo: str, what: str | None) -> bytes:
        folder = self.server.folder / repo
        held = [(path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.*")]
        if what == "tree":
            files = [{"path": n, "size": p.stat().st_size} for n, p in sorted(held)]
            return json.dumps([{"type": "file", "oid": "0"} | file for file in files]).encode()
        files = [{"rfilename": name} for name, _ in sorted(held)]
        return json.dumps({"id": repo, "sha": "0" * 40, "siblings": files}).encode()


@contextmanager
def served(folder: Path):
    """The server: `address` for HF_ENDPOINT; `status` that it answers to all, `cut` bytes after
    which it breaks off the next body, `asked` what came; `once`: the status is that of the
    next file alone, `wait`: seconds that a 429 asks for.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.folder, server.status, server.cut, server.asked = Path(folder), None, None, []
    server.once, server.wait = False, ""
    server.address = f"http://127.0.0.1:{server.server_port}"
    with running(server):
        yield server


def at(address: str, home: Path, monkeypatch) -> None:
    """The library asks that hub, and keeps what it fetches in a folder of its own."""
    from huggingface_hub import constants

    file = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", file)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
