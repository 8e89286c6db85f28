"""A large file from a URL to disk, whole or not at all."""

import errno
import hashlib
import os
import re
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from filelock import FileLock
from tqdm.auto import tqdm

from rs5m.web.request import FAULTS, Limits, _connect, _cut_off, status_of
from rs5m.web.urls import normalise

LIMITS = Limits(
    max_bytes=2**37, timeout=86_400, connect=10, retries=4, backoff=2.0
)  # of a shard from the web
STALLED = 60.0  # seconds without a byte


def fetch(url: str, limits: Limits = LIMITS) -> Path:
    """The shard at a URL, fetched whole into $RS5M_CACHE (else ~/.cache/rs5m/shards) unless it is
    there already.

    Written by a temporary name and a rename, one process at a time. Addresses as in `rs5m.web`:
    public ones only, unless the limits allow loopback. OSError that tells the status. Chapter:
    tune.
    """
    asked = normalise(url)
    if asked is None:
        raise ValueError(f"{url} is no URL: check its spelling")
    base = re.sub(r"[^\w.-]", "_", asked.partition("?")[0].rpartition("/")[2])[-100:] or "shard.tar"
    folder = Path(os.environ.get("RS5M_CACHE") or Path.home() / ".cache/rs5m/shards")
    path = folder / hashlib.sha256(asked.encode()).hexdigest()[:16] / base
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        status = "ok" if path.is_file() else _download(asked, path, limits)
    if status != "ok":
        hint = (
            "this address is private: fetch it yourself"
            if status == "refused_address"
            else "check the address"
        )
        raise OSError(
            f"{url} could not be fetched ({status}): {hint}, or name a file on this machine"
        )
    return path


def _download(url: str, path: Path, limits: Limits) -> str:
    temporary, status = path.with_name(f"{path.name}.tmp"), ""
    for attempt in range(limits.retries + 1):
        try:
            status = _follow(url, temporary, limits)
            if status == "ok":
                temporary.replace(path)
        except FAULTS as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise OSError(
                    f"{path.parent} has no space left for {url}: free some, or set RS5M_CACHE"
                ) from error
            status = status_of(error)
        finally:
            temporary.unlink(missing_ok=True)
        if status not in ("timeout", "connection_reset", "http_429") and status[:6] != "http_5":
            break
        if attempt < limits.retries:
            time.sleep(min(limits.backoff * 2**attempt, limits.max_wait))
    return status


def _follow(url: str, temporary: Path, limits: Limits) -> str:
    for _ in range(limits.redirects + 1):
        status, there = _get(url, temporary, limits)
        url = normalise(urljoin(url, there)) if status == "redirect" else url
        if status != "redirect" or url is None:
            return status if url else "bad_redirect"
    return "too_many_redirects"


def _get(url: str, temporary: Path, limits: Limits) -> tuple[str, str]:
    """One request to one checked address, its body to a file: status, and where a redirect leads."""
    end, parts = time.monotonic() + limits.timeout, urlsplit(url)
    headers = {"Host": parts.netloc, "User-Agent": limits.user_agent, "Accept-Encoding": "identity"}
    with closing(_connect(parts, limits, end)) as line, _cut_off(line.sock, limits.timeout):
        line.timeout = STALLED
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        line.request(
            "GET", target, headers=headers | {"Connection": "close"}, preload_content=False
        )
        with closing(line.getresponse()) as reply:
            if reply.status in (301, 302, 303, 307, 308) and "Location" in reply.headers:
                return "redirect", reply.headers["Location"]
            if reply.status != 200:
                return f"http_{reply.status}", ""
            return _keep(reply, temporary, limits), ""


def _keep(reply, temporary: Path, limits: Limits) -> str:
    bar = tqdm(total=reply.length_remaining, desc=temporary.stem, unit="B", unit_scale=True)
    with bar, temporary.open("wb") as sink:
        for chunk in reply.stream(
            2**20, decode_content=True
        ):  # raises where the body is shorter than it said
            bar.update(sink.write(chunk))
            if sink.tell() > limits.max_bytes:
                return "too_large"
    return "ok" if temporary.stat().st_size else "empty"
