"""The pair record and RS5M's shards in the official layout: img_content, img_name, caption. Chapter: data."""

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import webdataset


class Record(NamedTuple):
    """One image-text pair: the encoded image, its file name and its caption."""

    image: bytes
    name: str
    caption: str


def read(shards: Iterable[Path]) -> Iterator[Record]:
    """The pairs of the shards in order. Raises ValueError that names a shard which is no whole tar file.

    Members are read by name, never extracted to a path. A sample that lacks a member is an error, not a shorter pair.
    """
    for shard in shards:
        try:
            _whole(shard)
            for sample in webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False):
                yield _record(sample, shard)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise ValueError(f"{shard} is not a whole tar file: fetch it again") from error


def _whole(shard: Path) -> None:
    """Raise TarError unless the members end with the format's mark: tarfile takes a damaged header for the end too."""
    with tarfile.open(shard, "r:") as archive:
        archive.getmembers()
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark")


def _record(sample: dict, shard: Path) -> Record:
    missing = {"img_content", "img_name", "caption"} - sample.keys()
    if missing:
        raise ValueError(f"{shard}: sample {sample.get('__key__')} lacks {', '.join(sorted(missing))}")
    text = {key: sample[key].decode("utf-8", "replace") for key in ("img_name", "caption")}
    return Record(sample["img_content"], text["img_name"], text["caption"])


def write(shard: Path, pairs: Iterable[Record]) -> int:
    """Write one shard in the official layout by a temporary name and a rename; returns how many pairs it holds.

    Same pairs, same bytes: members carry no date, owner or order of their own.
    """
    temporary = shard.with_suffix(".tar.tmp")
    count = 0
    with webdataset.TarWriter(str(temporary), encoder=False, mtime=0, user="", group="") as sink:
        for count, record in enumerate(pairs, 1):
            sample = {"img_content": record.image, "img_name": record.name.encode(), "caption": record.caption.encode()}
            sink.write({"__key__": f"{count - 1:08d}", **sample})
    temporary.replace(shard)
    return count
