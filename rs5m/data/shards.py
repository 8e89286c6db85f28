"""Shards by name: files, folders, patterns, URLs and hub addresses become files on this machine.
Chapter: tune.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from braceexpand import braceexpand

from rs5m import files
from rs5m.data import remote, tables
from rs5m.data.sample import PICTURES
from rs5m.web.download import LIMITS, fetch, folder
from rs5m.web.limits import Limits

ENDINGS = (".tar", ".tgz", *(f".tar.{packed}" for packed in ("gz", "bz2", "xz", "zst", "lz4")))
HOLD = (*ENDINGS, ".zip", *tables.ENDINGS, *(f".{kind}" for kind in PICTURES))  # may hold pairs
BESIDE = "beside the shards that are read"  # tables, pictures and other shards of a folder
SHARD = re.compile(r".*[.](tar([.](gz|bz2|xz|zst|lz4))?|tgz)", re.IGNORECASE | re.DOTALL)


def local(shards: str | Path | Iterable[str | Path], limits: Limits = LIMITS) -> list[Path]:
    """The files of shards on this machine, in the order given, each folder's and pattern's sorted.

    shards: .tar files; folders of them, with what is nested and linked there, packed ones too,
    which an index names; patterns (`*`, `**`, `[ab]`, `{0000..0031}`), after as much of the path as
    exists literally; http(s) URLs; objects, folders or patterns of s3:// or gs://; or hub addresses
    `hf://datasets/OWNER/NAME[@REVISION]/FILE`, of which FILE may be a folder or a pattern. Those
    from elsewhere are fetched whole once. ValueError or OSError that names what is not there, is
    named twice, by whatever path or link, or is not available.
    """
    given = [shards] if isinstance(shards, str | Path) else list(shards)
    paths = [path for one in given for path in _named(one, limits)]
    if not paths:
        raise ValueError(
            "no shard was given: name .tar files, folders of them, URLs or"
            " hf://datasets/OWNER/NAME/FILE"
        )
    seen = {}
    for path in paths:
        status = path.stat()
        other = seen.setdefault((status.st_dev, status.st_ino), path)
        if other is not path:
            also = "" if other == path else f", also as {other}"
            raise ValueError(
                f"{path} is named twice among the shards{also}: name it once, or its pairs count"
                " double"
            )
    return paths


def beside(given: Iterable[str | Path], read: Iterable[Path]) -> list[str]:
    """What else lies in the folders given of which shards are read: other shards, zips, tables and
    pictures, which nobody opens.
    """
    there, found = {path.resolve() for path in read}, []
    for top in (Path(one) for one in given if Path(one).is_dir()):
        whole = top.resolve()
        if any(path.is_relative_to(whole) for path in there):
            found += [
                path.relative_to(top).as_posix()
                for path in files.walk(top)
                if path.name.lower().endswith(HOLD) and path.resolve() not in there
            ]
    return found


def _named(shard: str | Path, limits: Limits) -> list[Path]:
    if not isinstance(shard, str) or "://" not in shard or Path(shard).exists():
        return _here(Path(shard))
    if not (remote.is_remote(shard) or shard.startswith(("http://", "https://"))):
        raise ValueError(
            f"{shard} is not an address that can be fetched: give http://, https://, s3://, gs://"
            " or hf://datasets/..."
        )
    return [path for one in braceexpand(shard) for path in _fetched(one, limits)]


def _fetched(address: str, limits: Limits) -> list[Path]:
    if address.startswith("hf://"):
        return list(remote.from_hub(address, ENDINGS).values())
    if remote.is_remote(address):
        return remote.fetch(address, folder() / "objects", ENDINGS)
    return [fetch(address, limits)]


def _here(path: Path) -> list[Path]:
    found = []
    for one, matched in files.matches(path).items():
        if not matched:
            raise FileNotFoundError(f"{one} is not there: name shards")
        found += [file for match in matched for file in _files(match)]
    return list(dict.fromkeys(found))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in files.walk(path) if SHARD.fullmatch(file.name)]
    if not found:
        raise FileNotFoundError(f"{path} holds no .tar file: name shards")
    return found
