"""A chat model on loopback that answers from a table, with faults on demand."""

import base64
import hashlib
import io
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from loopback_server import running
from PIL import Image

NOUNS = "river forest harbour runway field road lake bridge quarry desert".split()


class Chat(ThreadingHTTPServer):
    """table: a function from (picture, prompt, seed) to a text; requests: what was asked, in order;
    fault: a function from the request's number, from 0, to (status, headers, body) or None.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.lock = [], Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.table, self.fault = said, lambda number: None


def said(picture: Image.Image, prompt: str, seed: int) -> str:
    """A sentence that its question and picture decide."""
    digest = hashlib.sha256(f"{prompt} {seed}".encode() + picture.tobytes()).digest()
    return f"A {NOUNS[digest[0] % 10]} near a {NOUNS[digest[1] % 10]} and a {NOUNS[seed % 10]}."


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):  # noqa: N802
        server, data = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(data) | {"path": self.path, "key": self.headers.get("Authorization")}
        with server.lock:
            number = len(server.requests)
            server.requests.append(asked)
        wrong = server.fault(number)
        self.answer(*(wrong or (200, {}, self.completion(asked))))

    def completion(self, asked: dict) -> bytes:
        url, prompt = (part[part["type"]] for part in asked["messages"][-1]["content"])
        picture = Image.open(io.BytesIO(base64.b64decode(url["url"].partition(",")[2])))
        text = self.server.table(picture, prompt, asked["seed"])
        body = {"choices": [{"message": {"content": text}}], "usage": {"total_tokens": 100}}
        return json.dumps(body).encode()

    def answer(self, status: int, headers: dict, body: bytes):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def chat():
    """A `Chat` that answers; its address in `url`."""
    with running(Chat()) as server:
        yield server
