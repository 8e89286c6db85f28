"""The pair record, and shards of pairs: written, read in order, and indexed for reading at random. Chapter: data.

Two layouts: the official one of RS5M (img_content, img_name, caption) and webdataset's usual one (jpg, txt, json).
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

OFFICIAL = ("img_content", "img_name", "caption")
PICTURES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "gif", "bmp")
TEXTS = ("caption", "txt", "json")  # where captions may stand; an Index refers to them by position
LAYOUTS = ("rs5m", "webdataset")
BLOCK, PADDING = tarfile.BLOCKSIZE, 2**20  # bytes; no tar is padded with more zeros than that
LONGEST_TEXT, LARGEST_IMAGE = 2**16, 2**28  # bytes of one member that are ever read
PAX = re.compile(rb"(\d{1,9}) (?:(path|size)=)?")  # how a record of POSIX's extended header begins: length, key
MEMBER = re.compile(r"((?:.*/|)[^./]+)[.]([^/]*)", re.DOTALL)  # webdataset's stem and kind: at the name's first dot


class Record(NamedTuple):
    """One image-text pair: the encoded image, its file name and its caption."""

    image: bytes
    name: str
    caption: str


class Index(NamedTuple):
    """Where the pairs of a shard stand: their names, `places` (n, 5) int64, what was left out, and a digest.

    A place: offset and bytes of the image, offset and bytes of the text, and the text's kind as its position in TEXTS.
    """

    names: list[str]
    places: np.ndarray
    damaged: list[str]
    digest: bytes


def read(shards: Iterable[Path]) -> Iterator[Record]:
    """The pairs of the shards in order, each with its first caption; both layouts, even mixed.

    Raises ValueError that names a shard which is no whole tar file, or a sample that lacks a member: an error, not a
    shorter pair. Members are read by name, never extracted to a path.
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
    image, kind, missing = parts(sample)
    if missing:
        raise ValueError(f"{shard}: sample {sample.get('__key__')} {missing}")
    return Record(sample[image], name(sample, sample["__key__"]), captions(kind, sample[kind])[0])


def write(shard: Path, pairs: Iterable[Record], layout: str = "rs5m") -> int:
    """Write one shard by a temporary name and a rename; returns how many pairs it holds.

    layout: "rs5m", the official one, or "webdataset", which puts the name into the json. Same pairs, same bytes:
    members carry no date, owner or order of their own. ValueError for another layout.
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
    """The kinds of the image and of the text that holds the captions, and what the sample lacks (else None).

    sample: members by kind; those of TEXTS as bytes. A json with several "captions" goes before the txt, and the txt
    before a json with one "caption".
    """
    if any(kind in sample for kind in OFFICIAL):
        missing = sorted(set(OFFICIAL) - sample.keys())
        return "img_content", "caption", f"lacks {', '.join(missing)}" if missing else None
    image = next((kind for kind in PICTURES if kind in sample), None)
    in_json = captions("json", sample.get("json", b""))
    text = "txt" if "txt" in sample and len(in_json) < 2 else "json"
    lacking = ["an image"] * (image is None) + ["a caption (txt or json)"] * (text == "json" and not in_json)
    return image, text, f"lacks {' and '.join(lacking)}" if lacking else None


def captions(kind: str, data: bytes) -> tuple[str, ...]:
    """The captions in a member of that kind: one, or for a json those of its "captions", else its "caption"."""
    text = data.decode("utf-8", "replace")
    if kind != "json":
        return (text,)
    value = _object(text)
    several = value.get("captions")
    several = [one for one in several if isinstance(one, str) and one.strip()] if isinstance(several, list) else []
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

    Members belong together by their stem, wherever in the tar they are. A damaged header is stepped over, a truncated
    tar ends early: the pairs that are whole stay, the others are named in `damaged`, and so is what is no tar at all.
    Links and folders are passed over; a second member of the same name is left out and named. Chapter: tune.
    """
    damaged, samples = [], {}
    with shard.open("rb") as stream:
        file = stream.fileno()
        for stem, kind, at, length in _pieces(file, damaged):
            sample = samples.setdefault(stem, {})
            if kind in sample or length > LARGEST_IMAGE:
                fault = "a second member of that name" if kind in sample else f"{length} bytes are no image"
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


def walk(file: int, damaged: list[str]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and length of each regular file in an open tar; what is broken goes to `damaged`.

    About three times as fast as tarfile, which stops at a damaged header as if the tar ended there.
    """
    size, at, longer = os.fstat(file).st_size, 0, {}
    while True:
        head = os.pread(file, BLOCK, at)
        if head == bytes(BLOCK) and size - at <= PADDING and not any(os.pread(file, PADDING, at)):
            return
        parsed = _header(head)
        if parsed is None:
            there = _next_header(file, at, size)
            damaged.append(_broken(at, there, size, head))
            if there == size:
                return
            at, longer = there, {}
            continue
        member, length, kind = parsed
        start, length, member = at + BLOCK, longer.get("size", length), longer.get("path", member)
        regular = kind in b"0\x007" and not member.endswith("/")
        at = start + (-(-length // BLOCK) * BLOCK if regular or kind not in b"12345\x006" else 0)
        if kind in b"LxgK":
            longer |= _extended(kind, os.pread(file, min(length, LONGEST_TEXT), start))
            continue
        if regular and start + length > size:
            damaged.append(f"{member}: the tar ends inside it (truncated: fetch it again)")
            return
        if regular:
            yield member, start, length
        longer = {}


def _header(head: bytes) -> tuple[str, int, bytes] | None:
    """Name, length and type of a member, None where the checksum or the length is wrong."""
    try:
        if int(head[148:156].strip(b"\0 "), 8) != sum(head) - sum(head[148:156]) + 8 * ord(" "):
            return None
        length = tarfile.nti(head[124:136])
    except (ValueError, tarfile.HeaderError):
        return None
    prefix, member = (tarfile.nts(part, "utf-8", "replace") for part in (head[345:500], head[:100]))
    kind = head[156:157]
    return (f"{prefix}/{member}" if prefix and kind not in b"LKS" else member, length, kind) if length >= 0 else None


def _next_header(file: int, at: int, size: int) -> int:
    """Where the next header begins after a damaged one, by its magic word and its checksum; `size` if nowhere."""
    for start in range(at + BLOCK, size, 2048 * BLOCK):
        chunk = os.pread(file, 2048 * BLOCK, start)
        for block in range(0, len(chunk), BLOCK):
            head = chunk[block : block + BLOCK]
            if head[257:262] == b"ustar" and _header(head):
                return start + block
    return size


def _broken(at: int, there: int, size: int, head: bytes) -> str:
    if not at and there == size:
        return "is not a tar file" + (" but gzip: unpack it first" if head[:2] == b"\x1f\x8b" else ": fetch it again")
    if len(head) < BLOCK:
        return f"ends at byte {size} without an end mark (truncated: fetch it again)"
    return f"has a damaged header at byte {at}: {there - at} bytes are left out"


def _extended(kind: bytes, data: bytes) -> dict:
    """What a header before the header says: GNU's long name, or POSIX's path and size."""
    if kind == b"L":
        return {"path": data.rstrip(b"\0").decode("utf-8", "replace")}
    found, at = {}, 0
    while kind == b"x" and (match := PAX.match(data, at)):
        end = at + int(match[1])
        value = data[match.end() : end - 1].decode("utf-8", "replace")
        if match[2] == b"path":
            found["path"] = value
        elif match[2] == b"size" and value.isdecimal():
            found["size"] = int(value)
        at = max(end, at + 1)
    return found
