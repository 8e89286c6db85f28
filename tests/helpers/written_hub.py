"""A hub on this machine that takes commits to data sets, with the bytes of all files in them; of
the real hub's, large ones go to another service first.
"""

import base64
import json
import re
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import loopback_hub
from loopback_server import running

API = re.compile(r"/api/datasets/([^/]+/[^/]+)/(auth-check/write|tree|preupload|commit)(?:/(.*))?")


class Handler(loopback_hub.Handler):
    def answer(self, whole: bool) -> None:
        asked = API.fullmatch(self.path.partition("?")[0])
        if asked:
            self.asked(*asked.groups())
        else:
            super().answer(whole)

    def asked(self, repo: str, what: str, rest: str) -> None:
        folder = self.server.folder / repo
        status = self.server.fault(self.command, self.path) or (0 if folder.is_dir() else 404)
        if status:
            self.say({"error": "no"}, status, "RepoNotFound" if status == 404 else "")
        else:
            self.say(*(self.tree(folder, rest.partition("/")[2]) if what == "tree" else ({},)))

    def tree(self, folder: Path, path: str):
        if not (folder / path).is_dir():
            return {"error": "no"}, 404, "EntryNotFound"
        held = sorted(p for p in (folder / path).rglob("*") if p.is_file())
        named = [(p.relative_to(folder).as_posix(), p.stat().st_size) for p in held]
        return ([{"type": "file", "path": n, "size": s, "oid": "0"} for n, s in named],)

    def say(self, body, status: int = 200, code: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self):  # noqa: N802
        data, path = self.body(), self.path.partition("?")[0]
        status = self.server.fault("POST", path)
        self.say({"error": "no"} if status else self.done(path, data), status or 200)

    def done(self, path: str, data: bytes) -> dict:
        if path.endswith("/validate-yaml"):
            return {"errors": [], "warnings": []}
        repo, what, _ = API.fullmatch(path).groups()
        if what == "preupload":
            return {"files": [self.mode(one) for one in json.loads(data)["files"]]}
        self.commit(self.server.folder / repo, [json.loads(x) for x in data.splitlines()])
        at = f"{self.server.address}/datasets/{repo}/commit/{'0' * 40}"
        return {"commitUrl": at, "commitOid": "0" * 40, "success": True}

    def mode(self, one: dict) -> dict:
        return {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}

    def commit(self, folder: Path, lines: list) -> None:
        names = []
        for line in lines[1:]:
            value = line["value"]
            data = base64.b64decode(value["content"])
            path = folder / value["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            names.append(value["path"])
        self.server.commits.append(names)


@contextmanager
def served(folder: Path):
    """As `loopback_hub.served`; `commits`: the names of each; `fault`: a function from a request's
    method and path to a status, 0 for none.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.folder, server.status, server.cut, server.asked = Path(folder), None, None, []
    server.once, server.wait, server.commits = False, "", []
    server.fault = lambda method, path: 0
    server.address = f"http://127.0.0.1:{server.server_port}"
    with running(server):
        yield server
