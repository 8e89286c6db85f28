"""Files of an object store or of the hub that are copied here once, and a finished run that is
copied to a store.

Addresses are those that Arrow knows (s3://, gs://) and hf://datasets/OWNER/NAME[@REVISION]/PATH;
credentials, endpoint and region come from the usual environment alone (AWS_ACCESS_KEY_ID,
AWS_PROFILE, AWS_ENDPOINT_URL, HF_TOKEN and so on). Chapter: setup.

* a server that AWS_ENDPOINT_URL names has PATIENCE for its first answer; one that falls silent
  later ends a run when Arrow has asked it 31 times, for 3 s each
* [NOT IMPLEMENTED] a run that works on the store itself: shards are made on a local disk
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import shutil
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs
from tqdm.auto import tqdm

from rs5m import files, web
from rs5m.data import runfolder
from rs5m.web import hub

BLOCK = 2**23  # bytes held at a time
MARKS = "*?["
PATIENCE = 20  # seconds
STORES = ("s3://", "gs://")
HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?")


def is_remote(path: str) -> bool:
    """Whether a path is an address of an object store or of the hub."""
    return path.startswith((*STORES, "hf://"))


@contextmanager
def _told(url: str):
    """A store's refusal as one sentence."""
    try:
        yield
    except OSError as error:
        said = str(error).partition(" (Request ID")[0].strip().rstrip(".")
        if getattr(error, "errno", None) == 28:
            raise
        cure = "check the bucket's name and the environment's credentials, endpoint and region"
        cure = "set this machine's clock" if "SKEWED" in said else cure
        cure = "it is busy, wait a while" if "SLOW_DOWN" in said else cure
        raise OSError(f"{url} refuses ({said}): {cure}, then run it again") from error


def _opened(url: str) -> tuple[fs.FileSystem, str]:
    if not url.startswith(STORES):
        raise ValueError(
            f"{url} is not the address of an object store: begin it with s3://, gs:// or hf://"
        )
    if url.startswith("s3://"):
        _greet(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", ""))
    with _told(url):
        return fs.FileSystem.from_uri(url.rstrip("/"))


def _greet(server: str) -> None:
    """OSError where a server takes a question and gives no whole answer in time; what it answers
    is no matter.
    """
    allowed = {"redirects": 0, "retries": 0, "allow_loopback": True, "allow_private": True}
    limits = web.Limits(timeout=PATIENCE, connect=PATIENCE, **allowed)
    if server and web.fetch(server, limits).status == "timeout":
        raise OSError(
            f"{server} gives no answer within {PATIENCE} s: check AWS_ENDPOINT_URL and the network,"
            " then run it again"
        )


# ---------------------------------------------------------------- from there


def fetch(url: str, folder: Path, endings: Iterable[str]) -> list[Path]:
    """Copies in `folder`, sorted, of an object, of all below a prefix that have one of `endings`,
    or of what a pattern matches; those that are there whole are not fetched again.

    FileNotFoundError where nothing is there, OSError where the store or the hub refuses.
    """
    if not url.startswith(STORES):
        return _linked(from_hub(url, endings), folder)
    store, path = _opened(_plain(url))
    with _told(url):
        found = [one for one in _below(store, path) if _wanted(one.path, url, tuple(endings))]
    if not found:
        raise FileNotFoundError(f"{url} holds no such object: check its spelling")
    copies = []
    sizes = sum(one.size for one in found)
    with tqdm(total=sizes, desc="fetch", unit="B", unit_scale=True) as bar:
        for one in sorted(found, key=lambda one: one.path):
            copy = folder / one.path
            if not (copy.is_file() and copy.stat().st_size == one.size):
                copy.parent.mkdir(parents=True, exist_ok=True)
                _copy_here(store, one.path, copy, url)
            bar.update(one.size)
            copies.append(copy)
    return copies


def _plain(url: str) -> str:
    """The folder above the first mark of a pattern, or the address itself."""
    first = min((url.index(mark) for mark in MARKS if mark in url), default=None)
    return url if first is None else url[:first].rpartition("/")[0]


def _below(store: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    here = store.get_file_info(path)
    if here.type == fs.FileType.File:
        return [here]
    every = store.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    return [one for one in every if one.type == fs.FileType.File]


def _wanted(path: str, url: str, endings: tuple[str, ...]) -> bool:
    asked = url.partition("://")[2].rstrip("/")
    if any(mark in asked for mark in MARKS):
        return fnmatch.fnmatch(path, asked)
    return path == asked or path.lower().endswith(endings)


def _copy_here(store: fs.FileSystem, path: str, copy: Path, url: str) -> None:
    with (
        files.whole(copy) as temporary,
        temporary.open("wb") as file,
        _told(url),
        store.open_input_stream(path) as stream,
    ):
        while block := stream.read(BLOCK):
            file.write(block)


# ---------------------------------------------------------------- from the hub


def from_hub(url: str, endings: Iterable[str]) -> dict[str, Path]:
    """Files of a data set on the hub, in the hub's cache, by OWNER/NAME/PATH: one, all below a
    folder that have one of `endings`, or what a pattern matches.

    ValueError for another address, else errors as of `fetch`.
    """
    match = HUB.fullmatch(url.rstrip("/"))
    if not match:
        raise ValueError(f"{url} is not an address of the hub: write hf://datasets/OWNER/NAME/FILE")
    repo, revision, path = match[1], match[2], match[3] or ""
    try:
        names = _on_hub(repo, revision, path, tuple(endings))
        found = {f"{repo}/{one}": hub.fetch(repo, one, "dataset", revision) for one in names}
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        from huggingface_hub import constants

        files.refuse_full(error, constants.HF_HUB_CACHE)
        raise OSError(
            f"{url} could not be fetched from the hub ({hub.why(error)}): check the name,"
            " the network and, for a private data set, HF_TOKEN"
        ) from error
    if not found:
        raise FileNotFoundError(f"{url} matches no file of the data set: check its spelling")
    return found


def _on_hub(repo: str, revision: str | None, path: str, endings: tuple[str, ...]) -> list[str]:
    """The names that a path means, sorted; the hub is asked where it may mean several."""
    from huggingface_hub import HfApi, constants

    pattern = any(mark in path for mark in MARKS)
    if path.lower().endswith(endings) and not pattern:
        return [path]
    limit = constants.HF_HUB_ETAG_TIMEOUT
    told = hub.ask(lambda: HfApi().dataset_info(repo, revision=revision, timeout=limit))
    held = sorted(one.rfilename for one in told.siblings or [])
    if path in held:
        return [path]
    if pattern:
        return fnmatch.filter(held, path)
    below = f"{path}/" if path else ""
    return [one for one in held if one.startswith(below) and one.lower().endswith(endings)]


def _linked(found: dict[str, Path], folder: Path) -> list[Path]:
    """The same files in `folder`, which outlive the hub's cache and take no further space where
    the disk is the same.
    """
    copies = []
    for name, path in sorted(found.items()):
        copy, held = folder / name, path.resolve()
        copy.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(copy) as temporary:
            try:
                os.link(held, temporary)
            except OSError:  # another disk
                shutil.copyfile(held, temporary)
        copies.append(copy)
    return copies


# ---------------------------------------------------------------- to there


def check(url: str) -> None:
    """OSError, before any work, where nothing can be listed at an address."""
    store, path = _opened(url)
    with _told(url):
        store.get_file_info(fs.FileSelector(path, recursive=False, allow_not_found=True))
        bucket = path.partition("/")[0]
        if store.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OSError(f"there is no bucket {bucket}")


def send(out: Path, names: Iterable[str], url: str) -> int:
    """Copy files of a run's folder to an address, its run.json first; returns how many were sent.

    What is there with the same size is not sent again, so a copy that was cut off goes on. A run's
    bytes follow from its run.json: ValueError where another one is there.
    """
    store, path = _opened(url)
    sent = 0
    with _told(url):
        there = {one.path: one.size for one in _below(store, path)}
        note, mine = posixpath.join(path, runfolder.NOTE), (out / runfolder.NOTE).read_bytes()
        if note in there and store.open_input_stream(note).read() != mine:
            raise ValueError(f"{url} holds another run: name another folder there")
        for name in tqdm([runfolder.NOTE, *names], desc="upload", unit=" files"):
            place = posixpath.join(path, name)
            if there.get(place) != (out / name).stat().st_size:
                _copy_there(store, out / name, place)
                sent += 1
    return sent


def _copy_there(store: fs.FileSystem, file: Path, place: str) -> None:
    """An object appears when its stream is closed: a killed process leaves none, a file that cannot
    be read to its end a short one, which the next `send` puts anew.
    """
    with file.open("rb") as stream:
        there = store.open_output_stream(place)
        while block := stream.read(BLOCK):
            there.write(block)
        there.close()
