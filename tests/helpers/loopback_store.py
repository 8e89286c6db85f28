"""An object store on loopback that speaks as much of S3 as Arrow asks for, with faults on demand;
and moto's server, where it is installed (RS5M_MOTO names a Python that has it).
"""

import io
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from loopback_server import running

MOTO = """import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("at", *server.get_host_and_port(), flush=True)
sys.stdin.read()
"""
CONTENT = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;1&quot;</ETag><Size>{}</Size></Contents>"
)


class Store(ThreadingHTTPServer):
    """buckets: names; objects: bytes by "bucket/key"; puts: keys in the order in which they came;
    fault: a function from a request's method and path to a status or a code of S3, 0 for none.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets, self.objects, self.parts, self.puts = set(), {}, {}, []
        self.fault = lambda method, path: 0


def chunks(stream):
    """The chunks of a stream up to the last one, which is empty."""
    while size := int(stream.readline().partition(b";")[0], 16):
        yield stream.read(size)
        stream.readline()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("size") or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str):
        text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self.answer(status, text.encode(), Content_Type="application/xml")

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b"".join(chunks(self.rfile))
            while self.rfile.readline().strip():
                pass
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        inner = "aws-chunked" in self.headers.get("Content-Encoding", "")
        return b"".join(chunks(io.BytesIO(data))) if inner else data

    def handle_any(self):
        address = urlsplit(self.path)
        name, asked = unquote(address.path).strip("/"), parse_qs(address.query, True)
        data, store = self.body(), self.server
        if status := store.fault(self.command, name):
            codes = {403: "AccessDenied", 503: "SlowDown"}
            return self.refuse(
                403 if isinstance(status, str) else status, codes.get(status, status)
            )
        bucket, _, key = name.partition("/")
        if bucket not in store.buckets:
            return self.refuse(404, "NoSuchBucket")
        if not key or "list-type" in asked:
            return self.listed(bucket, asked) if self.command == "GET" else self.answer(200)
        return getattr(self, self.command.lower())(name, asked, data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def listed(self, bucket: str, asked: dict):
        prefix, mark = (asked.get(name, [""])[0] for name in ("prefix", "delimiter"))
        keys = sorted(
            k.partition("/")[2] for k in self.server.objects if k.startswith(bucket + "/")
        )
        keys, folders, rows = [k for k in keys if k.startswith(prefix)], set(), []
        for key in keys:
            head, found, _ = key[len(prefix) :].partition(mark) if mark else ("", "", "")
            if found:
                folders.add(prefix + head + mark)
            else:
                rows.append(CONTENT.format(key, len(self.server.objects[f"{bucket}/{key}"])))
        rows += [f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in sorted(folders)]
        text = f"<KeyCount>{len(rows)}</KeyCount><IsTruncated>false</IsTruncated>{''.join(rows)}"
        body = f"<ListBucketResult>{text}</ListBucketResult>".encode()
        self.answer(200, body, Content_Type="application/xml")

    def head(self, name, asked, data):
        held = self.server.objects.get(name)
        if held is None:
            return self.answer(404)
        return self.answer(200, size=str(len(held)))

    def get(self, name, asked, data):
        held = self.server.objects.get(name)
        if held is None:
            return self.refuse(404, "NoSuchKey")
        start, end = 0, len(held) - 1
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(int(found[2] or end), end)
        part = held[start : end + 1]
        where = f"bytes {start}-{end}/{len(held)}"
        return self.answer(206 if len(part) < len(held) else 200, part, Content_Range=where)

    def put(self, name, asked, data):
        if "partNumber" in asked:
            parts = self.server.parts.setdefault(asked["uploadId"][0], {})
            parts[int(asked["partNumber"][0])] = data
        else:
            self.keep(name, data)
        self.answer(200, ETag='"1"')

    def keep(self, name: str, data: bytes):
        self.server.objects[name] = data
        self.server.puts.append(name)

    def post(self, name, asked, data):
        if "uploads" in asked:
            number = str(len(self.server.parts) + 1)
            self.server.parts[number] = {}
            bucket, _, key = name.partition("/")
            told = f"<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{number}</UploadId>"
            text = f"<InitiateMultipartUploadResult>{told}</InitiateMultipartUploadResult>"
        else:
            parts = self.server.parts[asked["uploadId"][0]]  # may be asked twice, as of S3
            self.keep(name, b"".join(parts[n] for n in sorted(parts)))
            text = '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
        self.answer(200, text.encode(), Content_Type="application/xml")


@contextmanager
def small():
    """A `Store` with a bucket called crawl; its address in `url`."""
    server = Store()
    server.buckets.add("crawl")
    server.url = f"http://127.0.0.1:{server.server_port}"
    with running(server):
        yield server


@contextmanager
def moto():
    """The address of moto's server, None where it is not installed."""
    python = os.environ.get("RS5M_MOTO", sys.executable)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([python, "-c", MOTO], text=True, **pipes) as process:
        at = next((line.split() for line in process.stdout if line.startswith("at ")), None)
        try:
            yield at and f"http://{at[1]}:{at[2]}"
        finally:
            process.terminate()
