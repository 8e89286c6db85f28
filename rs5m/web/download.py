"""A large file from a URL to disk, whole or not at all; one that was cut off goes on where it
was.
"""

import hashlib
import http
import os
import re
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from rs5m import files
from rs5m.web import crawl
from rs5m.web.limits import FAULTS, Limits, Stop
from rs5m.web.urls import normalise

# parameters of a signed URL that differ each time it is signed, in lower case
SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|signature|expires|sig|se|sv|st|sp|sr|key-pair-id|policy|awsaccesskeyid"
    r"|googleaccessid"
)
CHUNK = 2**20  # bytes that are read at once, and lost where the connection ends within them
SIGNED = {"signature", "sig", "x-amz-signature", "x-goog-signature"}

LIMITS = Limits(  # of a shard from the web
    max_bytes=2**37, timeout=86_400, stalled=60, connect=10, retries=4, backoff=2.0
)


class _Disk(Exception):
    """Carries what the disk, not the network, refused."""


def fetch(url: str, limits: Limits = LIMITS) -> Path:
    """The shard at a URL, fetched whole into $RS5M_CACHE (else ~/.cache/rs5m/shards) unless it is
    there already, in the size in which it came.

    What has come of one that is cut off stays beside it, and the next attempt, of this process or a
    later one, asks for the rest where the server names the file's version. One process at a time,
    by the requests and redirects of `rs5m.web`: to public addresses only, unless the limits allow
    others. OSError that tells the status.
    """
    asked = normalise(url)
    if asked is None:
        raise ValueError(f"{url} is not a URL: check its spelling")
    base = re.sub(r"[^\w.-]", "_", asked.partition("?")[0].rpartition("/")[2])[-100:] or "shard.tar"
    path = folder() / hashlib.sha256(unsigned(asked).encode()).hexdigest()[:16] / base
    path.parent.mkdir(parents=True, exist_ok=True)
    size = path.with_name(f"{base}.size")
    try:
        with FileLock(f"{path}.lock"):
            if not path.is_file() or not size.is_file() or _bytes(path) != size.read_text():
                _download(asked, path, limits)
                size.write_text(_bytes(path))
    except Stop as stop:
        raise OSError(f"{url} could not be fetched ({stop.status}): {_cure(asked, stop)}") from stop
    return path


def folder() -> Path:
    """Where what is fetched from elsewhere is kept."""
    return Path(os.environ.get("RS5M_CACHE") or Path.home() / ".cache/rs5m/shards")


def _cure(url: str, stop: Stop) -> str:
    if stop.status == "refused_address":
        return (
            "this address is private: allow it with --allow-private, or fetch it yourself, or name "
            "a file on this machine"
        )
    if stop.status == "http_403" and unsigned(url) != url:
        return "its signature has expired or is another file's: sign the address again"
    return "check the address, or name a file on this machine"


def unsigned(url: str) -> str:
    """A URL less the parameters of its signature, so that a file that is signed twice is one file;
    one without a signature stays as it is.
    """
    address, _, query = url.partition("?")
    parts = query.split("&")
    names = [part.partition("=")[0].lower() for part in parts]
    if not SIGNED.intersection(names):
        return url
    kept = [part for part, name in zip(parts, names, strict=True) if not SIGNATURE.fullmatch(name)]
    return address + ("?" + "&".join(kept) if kept else "")


def _bytes(path: Path) -> str:
    return str(path.stat().st_size)


def _download(url: str, path: Path, limits: Limits) -> None:
    """Stop where it does not come, OSError where it cannot be kept."""
    came = _Came(path)
    try:
        while (status := _attempt(url, limits, came)) != "ok":
            if status:
                raise Stop(status)
        with files.whole(path) as temporary:
            came.path.replace(temporary)
    finally:
        if not came.version():
            came.forget()
    came.forget()


def _attempt(url: str, limits: Limits, came: "_Came") -> str:
    """The status of a file's next attempts; "" where another one goes on from more than before."""
    before = came.length()
    try:
        status = crawl.fetch(url, limits, came).status
    except _Disk as disk:
        raise files.unwritten(came.whole, disk.__cause__) from None
    if status in ("too_large", "empty", "http_416"):  # 416: what came is longer than the file
        came.forget()
    further = came.length() > before and came.version()
    return "" if status != "ok" and (further or (before and status == "http_416")) else status


class _Came:
    """What has come of a file, `.NAME.part`, and the server's word for its version beside it."""

    def __init__(self, path: Path):
        self.whole, self.path = path, path.with_name(f".{path.name}.part")
        self.tag = path.with_name(f".{path.name}.version")

    def length(self) -> int:
        """In bytes."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self) -> str:
        """A strong entity tag or a date; "" where the server gave none, so that it cannot go on."""
        return self.tag.read_text() if self.tag.is_file() else ""

    def forget(self) -> None:
        """Start over."""
        self.path.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    @property
    def headers(self) -> dict[str, str]:
        """What asks for the rest, or for all of it where the file has changed."""
        if not (self.length() and self.version()):
            return {}
        return {"Range": f"bytes={self.length()}-", "If-Range": self.version()}

    def __call__(self, reply, limits: Limits) -> tuple[str, None]:
        """The body of an answer to the file: our status, and no content in memory."""
        if reply.status != http.HTTPStatus.PARTIAL_CONTENT:
            self._begin(reply.headers)
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {self.length()}-"):
            self.forget()  # another part than asked for
            raise Stop("incomplete_body", reply.status)
        try:
            with self.path.open("ab") as sink:
                return self._keep(sink, reply, limits), None
        except OSError as error:
            raise _Disk from error

    def _begin(self, headers: Mapping[str, str]) -> None:
        self.forget()
        tag = headers.get("ETag", "")
        version = headers.get("Last-Modified", "") if tag[:1] != '"' else tag
        try:
            self.path.write_bytes(b"")
            self.tag.write_text(version)
        except OSError as error:
            raise _Disk from error

    def _keep(self, sink, reply, limits: Limits) -> str:
        here, rest = sink.tell(), reply.length_remaining
        total = None if rest is None else here + rest
        with tqdm(
            total=total, initial=here, desc=self.whole.name, unit="B", unit_scale=True
        ) as bar:
            try:
                for chunk in reply.stream(CHUNK, decode_content=True):  # raises where it ends early
                    bar.update(_written(sink, chunk))
                    if sink.tell() > limits.max_bytes:
                        return "too_large"
            except FAULTS as error:
                raise Stop("incomplete_body", reply.status) from error
        return "ok" if sink.tell() else "empty"


def _written(sink, chunk: bytes) -> int:
    try:
        return sink.write(chunk)
    except OSError as error:
        raise _Disk from error
