"""A finished run that is copied to a data set of the hub. Chapter: setup.

Addresses are hf://datasets/OWNER/NAME[@REVISION]/PATH. The data set has to be there: who may see it
is its owner's to say. HF_TOKEN, or what `hf auth login` keeps, has to allow writing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from rs5m.data import remote, runfolder
from rs5m.web import hub

COMMIT = 20  # files of one commit: what is sent again where one breaks off


class _Place(NamedTuple):
    repo: str
    revision: str | None
    path: str

    def of(self, name: str) -> str:
        """The path there of a file."""
        return f"{self.path}/{name}" if self.path else name


def _place(url: str) -> _Place:
    match = remote.HUB.fullmatch(url.rstrip("/"))
    if not match:
        raise ValueError(
            f"{url} is not an address of the hub: write hf://datasets/OWNER/NAME/FOLDER"
        )
    return _Place(match[1], match[2], match[3] or "")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """The hub's refusal as one sentence; what is already there stays."""
    try:
        yield
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        raise OSError(
            f"{url} refuses ({hub.why(error)}): check that the data set is there and that HF_TOKEN "
            "may write to it, then run it again"
        ) from error


def check(url: str) -> None:
    """OSError, before any work, where nothing may be written at an address."""
    from huggingface_hub import HfApi

    ask, place = HfApi().auth_check, _place(url)
    write = {"write": True} if "write" in inspect.signature(ask).parameters else {}
    with _told(url):
        hub.ask(lambda: ask(place.repo, repo_type="dataset", **write))


def send(out: Path, names: Iterable[str], url: str) -> int:
    """Copy files of a run's folder to an address, its run.json first; returns how many were sent.

    As `remote.send`: what is there with the same size is not sent again, and ValueError where
    another run is there. A commit holds COMMIT files.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    place, api = _place(url), HfApi()
    where = {"repo_type": "dataset", "revision": place.revision}
    with _told(url):
        there = _sizes(place)
    _check_run(out, there, place, url)
    names = [runfolder.NOTE, *names]
    missing = [name for name in names if there.get(place.of(name)) != (out / name).stat().st_size]
    with tqdm(total=len(names), initial=len(names) - len(missing), desc="upload", unit="file") as b:
        for start in range(0, len(missing), COMMIT):
            some = missing[start : start + COMMIT]
            added = [CommitOperationAdd(place.of(name), str(out / name)) for name in some]
            said = f"{out.name}: files {start + 1} to {start + len(some)} of {len(missing)}"
            with _told(url):
                api.create_commit(place.repo, added, commit_message=said, **where)
            b.update(len(some))
    return len(missing)


def _sizes(place: _Place) -> dict[str, int]:
    """Bytes of the files at an address, by their paths there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError

    where = {"repo_type": "dataset", "revision": place.revision, "recursive": True}
    ask = HfApi().list_repo_tree
    try:
        found = hub.ask(lambda: list(ask(place.repo, place.path or None, **where)))
    except EntryNotFoundError:  # no such folder yet
        return {}
    return {one.path: one.size for one in found if hasattr(one, "size")}


def _check_run(out: Path, there: dict[str, int], place: _Place, url: str) -> None:
    note = place.of(runfolder.NOTE)
    if note not in there:
        return
    with _told(url):
        held = hub.fetch(place.repo, note, "dataset", place.revision).read_bytes()
    if held != (out / runfolder.NOTE).read_bytes():
        raise ValueError(f"{url} holds another run: name another folder there")
