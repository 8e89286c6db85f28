"""A large file from a URL to disk, whole or not at all."""

import hashlib
import os
import re
from functools import partial
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
SIGNED = {"signature", "sig", "x-amz-signature", "x-goog-signature"}

LIMITS = Limits(  # of a shard from the web
    max_bytes=2**37, timeout=86_400, stalled=60, connect=10, retries=4, backoff=2.0
)


class _Disk(Exception):
    """Carries what the disk, not the network, refused."""


def fetch(url: str, limits: Limits = LIMITS) -> Path:
    """The shard at a URL, fetched whole into $RS5M_CACHE (else ~/.cache/rs5m/shards) unless it is
    there already, in the size in which it came.

    One process at a time, by the requests and redirects of `rs5m.web`: to public addresses only,
    unless the limits allow others. OSError that tells the status.
    """
    asked = normalise(url)
    if asked is None:
        raise ValueError(f"{url} is not a URL: check its spelling")
    base = re.sub(r"[^\w.-]", "_", asked.partition("?")[0].rpartition("/")[2])[-100:] or "shard.tar"
    folder = Path(os.environ.get("RS5M_CACHE") or Path.home() / ".cache/rs5m/shards")
    path = folder / hashlib.sha256(unsigned(asked).encode()).hexdigest()[:16] / base
    path.parent.mkdir(parents=True, exist_ok=True)
    size = path.with_name(f"{base}.size")
    try:
        with FileLock(f"{path}.lock"):
            if not path.is_file() or not size.is_file() or _bytes(path) != size.read_text():
                with files.whole(path) as temporary:
                    _download(asked, temporary, limits)
                size.write_text(_bytes(path))
    except Stop as stop:
        private = stop.status == "refused_address"
        cure = "allow it with --allow-private, or fetch it yourself"
        hint = f"this address is private: {cure}" if private else "check the address"
        raise OSError(
            f"{url} could not be fetched ({stop.status}): {hint}, or name a file on this machine"
        ) from stop
    return path


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
    try:
        with path.open("wb") as sink:
            status = crawl.fetch(url, limits, partial(_keep, sink)).status
    except _Disk as disk:
        raise disk.__cause__ from None
    if status != "ok":
        raise Stop(status)


def _keep(sink, reply, limits: Limits) -> tuple[str, None]:
    """The body of an answer to an open file: our status, and no content in memory."""
    name = Path(sink.name).name
    sink.seek(0)
    sink.truncate()  # of an attempt before
    with tqdm(total=reply.length_remaining, desc=name, unit="B", unit_scale=True) as bar:
        try:
            for chunk in reply.stream(2**20, decode_content=True):  # raises where it ends early
                bar.update(_written(sink, chunk))
                if sink.tell() > limits.max_bytes:
                    return "too_large", None
        except FAULTS as error:
            raise Stop("incomplete_body", reply.status) from error
    return ("ok" if sink.tell() else "empty"), None


def _written(sink, chunk: bytes) -> int:
    try:
        return sink.write(chunk)
    except OSError as error:
        raise _Disk from error
