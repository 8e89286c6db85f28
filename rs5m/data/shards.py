"""Shards by name: files, folders, patterns, URLs and hub addresses become files on this machine. Chapter: tune."""

import errno
import fnmatch
import hashlib
import os
import re
import time
from collections.abc import Iterable
from contextlib import closing
from glob import glob
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from braceexpand import braceexpand
from filelock import FileLock
from tqdm.auto import tqdm

from rs5m import request
from rs5m.request import Limits
from rs5m.urls import normalise

LIMITS = Limits(max_bytes=2**37, timeout=86_400, connect=10, retries=4, backoff=2.0)  # of a shard from the web
STALLED = 60.0  # seconds without a byte


def local(shards: str | Path | Iterable[str | Path], limits: Limits = LIMITS) -> list[Path]:
    """The files of shards on this machine, in the order given, each folder's and pattern's sorted.

    shards: .tar files, folders of them, patterns (`*`, `{0000..0031}`), http(s) URLs, or hub addresses
    `hf://datasets/OWNER/NAME[@REVISION]/FILE`, of which FILE may be a pattern. Those from elsewhere are fetched whole
    once. ValueError or OSError that names what is not there, is named twice or cannot be had. Chapter: tune.
    """
    given = [shards] if isinstance(shards, str | Path) else list(shards)
    paths = [path for one in given for path in _found(one, limits)]
    if not paths:
        raise ValueError("no shard was given: name .tar files, folders of them, URLs or hf://datasets/OWNER/NAME/FILE")
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice:
        raise ValueError(f"{twice} is named twice among the shards: name it once, or its pairs count double")
    return paths


def _found(shard: str | Path, limits: Limits) -> list[Path]:
    address, path = str(shard), Path(shard)
    if isinstance(shard, str) and "://" in shard:
        if not shard.startswith(("http://", "https://", "hf://")):
            raise ValueError(f"{shard} is no address that can be fetched: give http://, https:// or hf://datasets/...")
        return [p for one in braceexpand(shard) for p in (_hub(one) if one[:2] == "hf" else [fetch(one, limits)])]
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.tar")) if path.is_dir() else []
    if not path.is_dir() and re.search(r"[*?\[{]", address):
        found = [Path(file) for one in braceexpand(address) for file in sorted(glob(one, recursive=True))]
    if not found:
        raise FileNotFoundError(f"{address} {'holds no .tar file' if path.is_dir() else 'is not there'}: name shards")
    return found


def _hub(address: str) -> list[Path]:
    from huggingface_hub import hf_hub_download, list_repo_files

    match = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)", address)
    if not match:
        raise ValueError(f"{address} is no shard on the hub: write hf://datasets/OWNER/NAME/FILE.tar")
    owner_and_name, revision, file = match.groups()
    where = {"repo_id": owner_and_name, "repo_type": "dataset", "revision": revision}
    try:
        files = [file] if not re.search(r"[*?\[]", file) else sorted(fnmatch.filter(list_repo_files(**where), file))
        found = [Path(hf_hub_download(filename=one, **where)) for one in files]
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        raise OSError(f"{address} could not be fetched from the hub ({type(error).__name__}): check the name, the"
                      " network and, for a private data set, HF_TOKEN") from error  # fmt: skip
    if not found:
        raise FileNotFoundError(f"{address} matches no file of the data set: name shards")
    return found


def fetch(url: str, limits: Limits = LIMITS) -> Path:
    """The shard at a URL, fetched whole into $RS5M_CACHE (else ~/.cache/rs5m/shards) unless it is there already.

    Written by a temporary name and a rename, one process at a time. Addresses as in `rs5m.web`: public ones only,
    unless the limits allow loopback. OSError that tells the status. Chapter: tune.
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
        hint = "this address is private: fetch it yourself" if status == "refused_address" else "check the address"
        raise OSError(f"{url} could not be fetched ({status}): {hint}, or name a file on this machine")
    return path


def _download(url: str, path: Path, limits: Limits) -> str:
    temporary, status = path.with_name(f"{path.name}.tmp"), ""
    for attempt in range(limits.retries + 1):
        try:
            status = _follow(url, temporary, limits)
            if status == "ok":
                temporary.replace(path)
        except request.FAULTS as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise OSError(f"{path.parent} has no space left for {url}: free some, or set RS5M_CACHE") from error
            status = request.status_of(error)
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
    with closing(request._connect(parts, limits, end)) as line, request._cut_off(line.sock, limits.timeout):
        line.timeout = STALLED
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        line.request("GET", target, headers=headers | {"Connection": "close"}, preload_content=False)
        with closing(line.getresponse()) as reply:
            if reply.status in (301, 302, 303, 307, 308) and "Location" in reply.headers:
                return "redirect", reply.headers["Location"]
            if reply.status != 200:
                return f"http_{reply.status}", ""
            return _keep(reply, temporary, limits), ""


def _keep(reply, temporary: Path, limits: Limits) -> str:
    bar = tqdm(total=reply.length_remaining, desc=temporary.stem, unit="B", unit_scale=True)
    with bar, temporary.open("wb") as sink:
        for chunk in reply.stream(2**20, decode_content=True):  # raises where the body is shorter than it said
            bar.update(sink.write(chunk))
            if sink.tell() > limits.max_bytes:
                return "too_large"
    return "ok" if temporary.stat().st_size else "empty"
