"""The pair record, and shards of pairs: written, read in order, and indexed for reading at random.
Chapter: data.

Two layouts: the official one of RS5M (img_content, img_name, caption) and webdataset's usual one
(jpg, txt, json).
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import webdataset

from rs5m.data.tar import LARGEST_IMAGE, LONGEST_TEXT, walk

OFFICIAL = ("img_content", "img_name", "caption")
PICTURES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "gif", "bmp")
TEXTS = ("caption", "txt", "json")  # where captions may stand; an Index refers to them by position
LAYOUTS = ("rs5m", "webdataset")
MEMBER = re.compile(
    r"((?:.*/|)[^./]+)[.]([^/]*)", re.DOTALL
)  # webdataset's stem and kind: at the name's first dot


class Record(NamedTuple):
    """One image-text pair: the encoded image, its file name and its caption."""

    image: bytes
    name: str
    caption: str


class Index(NamedTuple):
    """Where the pairs of a shard stand: their names, `places` (n, 5) int64, what was left out, and
    a digest.

    A place: offset and bytes of the image, offset and bytes of the text, and the text's kind as its
    position in TEXTS.
    """

    names: list[str]
    places: np.ndarray
    damaged: list[str]
    digest: bytes


def read(shards: Iterable[Path]) -> Iterator[Record]:
    """The pairs of the shards in order, each with its first caption; both layouts, even mixed.

    Raises ValueError that names a shard which is no whole tar file, or a sample that lacks a
    member: an error, not a shorter pair. Members are read by name, never extracted to a path.
    """
    for shard in shards:
        try:
            _whole(shard)
            for sample in webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False):
                yield _record(sample, shard)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise ValueError(f"{shard} is not a whole tar file: fetch it again") from error


def _whole(shard: Path) -> None:
    """Raise TarError unless the members end with the format's mark: tarfile takes a damaged header
    for the end too.
    """
    with tarfile.open(shard, "r:") as archive:
        archive.getmembers()
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark")


def _record(sample: dict, shard: Path) -> Record:
    image, kind, missing = parts(sample)
    if missing:
        raise ValueError(f"{shard}: sample {sample.get('__key__')} {missing}")
    return Record(sample[image], name(sample, sample["__key__"]), captions(kind, sample[kind])[0])


def write(shard: Path, pairs: Iterable[Record], layout: str = "rs5m") -> int:
    """Write one shard by a temporary name and a rename; returns how many pairs it holds.

    layout: "rs5m", the official one, or "webdataset", which puts the name into the json. Same
    pairs, same bytes: members carry no date, owner or order of their own. ValueError for another
    layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    temporary = shard.with_suffix(".tar.tmp")
    count = 0
    with webdataset.TarWriter(str(temporary), encoder=False, mtime=0, user="", group="") as sink:
        for count, record in enumerate(pairs, 1):
            sink.write({"__key__": f"{count - 1:08d}", **_members(record, layout)})
    temporary.replace(shard)
    return count


def _members(record: Record, layout: str) -> dict[str, bytes]:
    caption = record.caption.encode()
    if layout == "rs5m":
        return {"img_content": record.image, "img_name": record.name.encode(), "caption": caption}
    ending = record.name.rpartition(".")[2].lower()
    note = json.dumps({"img_name": record.name}, ensure_ascii=False).encode()
    return {ending if ending in PICTURES else "jpg": record.image, "txt": caption, "json": note}


# ---------------------------------------------------------------- one sample, both layouts


def parts(sample: Mapping[str, object]) -> tuple[str, str, str | None]:
    """The kinds of the image and of the text that holds the captions, and what the sample lacks
    (else None).

    sample: members by kind; those of TEXTS as bytes. A json with several "captions" goes before the
    txt, and the txt before a json with one "caption".
    """
    if any(kind in sample for kind in OFFICIAL):
        missing = sorted(set(OFFICIAL) - sample.keys())
        return "img_content", "caption", f"lacks {', '.join(missing)}" if missing else None
    image = next((kind for kind in PICTURES if kind in sample), None)
    in_json = captions("json", sample.get("json", b""))
    text = "txt" if "txt" in sample and len(in_json) < 2 else "json"
    lacking = ["an image"] * (image is None) + ["a caption (txt or json)"] * (
        text == "json" and not in_json
    )
    return image, text, f"lacks {' and '.join(lacking)}" if lacking else None


def captions(kind: str, data: bytes) -> tuple[str, ...]:
    """The captions in a member of that kind: one, or for a json those of its "captions", else its
    "caption".
    """
    text = data.decode("utf-8", "replace")
    if kind != "json":
        return (text,)
    value = _object(text)
    several = value.get("captions")
    several = (
        [one for one in several if isinstance(one, str) and one.strip()]
        if isinstance(several, list)
        else []
    )
    return tuple(several) or ((value["caption"],) if isinstance(value.get("caption"), str) else ())


def name(sample: Mapping[str, object], stem: str) -> str:
    """The file name of a sample's image: its own word for it, else the member's name."""
    if "img_name" in sample:
        return sample["img_name"].decode("utf-8", "replace")
    given = _object(sample.get("json", b"").decode("utf-8", "replace")).get("img_name")
    return given if isinstance(given, str) else f"{stem}.{parts(sample)[0]}"


def _object(text: str) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no json, or nested to break the parser
        return {}
    return value if isinstance(value, dict) else {}


# ---------------------------------------------------------------- the index of a shard


def index(shard: Path) -> Index:
    """Where every whole pair of a shard stands, from the headers and texts alone; no image is read.

    Members belong together by their stem, wherever in the tar they are. A damaged header is stepped
    over, a truncated tar ends early: the pairs that are whole stay, the others are named in
    `damaged`, and so is what is no tar at all. Links and folders are passed over; a second member
    of the same name is left out and named. Chapter: tune.
    """
    damaged, samples = [], {}
    with shard.open("rb") as stream:
        file = stream.fileno()
        for stem, kind, at, length in _pieces(file, damaged):
            sample = samples.setdefault(stem, {})
            if kind in sample or length > LARGEST_IMAGE:
                fault = (
                    "a second member of that name"
                    if kind in sample
                    else f"{length} bytes are no image"
                )
                damaged.append(f"{stem}.{kind}: {fault}")
            elif kind in TEXTS or kind == "img_name":
                sample[kind] = os.pread(file, min(length, LONGEST_TEXT), at)
                sample["at", kind] = at, len(sample[kind])
            else:
                sample[kind] = sample["at", kind] = at, length
    names, places, total = [], [], hashlib.sha256()
    for stem, sample in samples.items():
        image, text, fault = parts(sample)
        if fault or not any(one.strip() for one in captions(text, sample[text])):
            damaged.append(f"{stem}: {fault or 'has an empty caption'}")
            continue
        names.append(name(sample, stem))
        places.append((*sample["at", image], *sample["at", text], TEXTS.index(text)))
        total.update(repr((names[-1], places[-1], sample[text])).encode("utf-8", "surrogatepass"))
    found = np.array(places, np.int64).reshape(-1, 5)
    return Index(names, found, [f"{shard.name} {one}" for one in damaged], total.digest())


def _pieces(file: int, damaged: list[str]) -> Iterator[tuple[str, str, int, int]]:
    """Stem, kind, offset and length of every member that may belong to a pair."""
    for member, at, length in walk(file, damaged):
        match = MEMBER.fullmatch(member)
        kind = match[2].lower() if match else None
        if kind in (*OFFICIAL, *PICTURES, *TEXTS):
            yield match[1], kind, at, length
