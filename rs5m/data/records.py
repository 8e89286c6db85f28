"""The pair record, and shards of pairs: written, indexed, and read by the index, in order or at
random. Chapter: data.

Two layouts: webdataset's usual one (jpg, txt, json), which is written unless another is named, and
that of RS5M's release (img_content, img_name, caption). A member's kind is what follows its last
dot, so that a key may hold dots.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rs5m import files
from rs5m.data.sample import KINDS, NO_CAPTION, PICTURES, READ, TEXTS, captions, joined, name, parts
from rs5m.data.tar import Fault, walk

LAYOUTS = ("webdataset", "rs5m")
SECOND = "is a second image of a pair"
EMPTY = "not_an_image"  # as `rs5m.data.images` calls what has no bytes
NAMED = 100  # members of each reason that are named; the others are counted
LONGEST_TEXT, LARGEST_IMAGE = 2**24, 2**28  # bytes of one member that are ever read
MEMBER = re.compile(r"((?:.*/)?[^/]+)[.]([^./]*)", re.DOTALL)  # stem and kind, at the last dot


class Record(NamedTuple):
    """One image-text pair: the encoded image, its file name and its caption.

    In webdataset's layout there may be several captions.
    """

    image: bytes
    name: str
    caption: str | tuple[str, ...]


class Others(NamedTuple):
    """Members that belong to no pair: how many, and the names of the first ones."""

    count: int = 0
    names: tuple[str, ...] = ()

    def __add__(self, more: "Others") -> "Others":
        return Others(self.count + more.count, (self.names + more.names)[:NAMED])

    def listed(self) -> list[str]:
        """The names, and how many more there are."""
        more = self.count - len(self.names)
        return [*self.names, *([f"and {more} more"] if more else [])]


def together(found: Iterable[Mapping[str, Others]]) -> dict[str, Others]:
    """What several indices have in their `others`, by reason."""
    total = defaultdict(Others)
    for others in found:
        for reason, some in others.items():
            total[reason] += some
    return dict(total)


class Index(NamedTuple):
    """Where the pairs of a shard are: names, `places` (n, 5) int64, what was left out, a digest.

    A place: offset and bytes of the image, offset and bytes of the text, and the text's kind as its
    position in TEXTS. damaged: a line for each broken pair and each broken place of the tar;
    left_out: how often each reason occurred; others: the members that belong to no pair, by reason.
    """

    names: list[str]
    places: np.ndarray
    damaged: list[str]
    digest: bytes
    left_out: dict[str, int]
    others: dict[str, Others]


def read(shards: Iterable[Path]) -> Iterator[Record]:
    """The pairs of the shards in order, each with its first caption: those of `index`, and all of
    them.

    Raises ValueError that names a shard which is not a whole tar file, or holds a broken pair: an
    error, not a shorter list. Members are read by place, never extracted to a path.
    """
    for shard in shards:
        try:
            with Path(shard).open("rb") as stream:
                file = stream.fileno()
                found = _scan(file)
                _strict(found, shard)
                for name, place in zip(found.names, found.places, strict=True):
                    start, length, text, size, kind = place
                    caption = captions(TEXTS[kind], os.pread(file, size, text))[0]
                    yield Record(os.pread(file, length, start), name, caption)
        except OSError as error:
            raise ValueError(f"{shard} cannot be read ({error.strerror}): name another") from error


def write(shard: Path, pairs: Iterable[Record], layout: str = LAYOUTS[0], first: int = 0) -> int:
    """Write one shard, whole or not at all; returns how many pairs it holds.

    Same pairs, same bytes: members carry no date, owner or order of their own. ValueError for
    another layout.

    Args:
        layout: one of `LAYOUTS`: "webdataset", which puts the name into the json, or "rs5m".
        first: the number in the `key` of the first pair.
    """
    import webdataset  # brings torch, which a reader of shards does without

    check_layout(layout)
    count = 0
    plain = {"encoder": False, "mtime": 0, "user": "", "group": ""}
    with files.whole(shard) as path, webdataset.TarWriter(str(path), **plain) as sink:
        for count, record in enumerate(pairs, 1):
            sink.write({"__key__": key(first + count - 1), **_members(record, layout)})
    return count


def check_layout(layout: str) -> None:
    """ValueError for what is none of `LAYOUTS`."""
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}")


def key(number: int) -> str:
    """What the members of a pair with that number are called."""
    return f"{number:08d}"


def _members(record: Record, layout: str) -> dict[str, bytes]:
    several = record.caption if isinstance(record.caption, tuple) else (record.caption,)
    caption = several[0].encode()
    if layout == "rs5m":
        return {"img_content": record.image, "img_name": record.name.encode(), "caption": caption}
    ending = record.name.rpartition(".")[2].lower()
    note = {"img_name": record.name} | ({"captions": several} if len(several) > 1 else {})
    return {
        ending if ending in PICTURES else "jpg": record.image,
        "txt": caption,
        # halves of surrogate pairs, from names that are not UTF-8, as JSON writes them
        "json": json.dumps(note, ensure_ascii=False).encode("utf-8", "backslashreplace"),
    }


# ---------------------------------------------------------------- the index of a shard


def index(shard: Path) -> Index:
    """Where every whole pair of a shard is, from the headers and texts alone; no image is read.

    Members belong together by their stem, wherever in the tar they are, and x.image.jpg to
    x.text.txt where there is no other (`sample.joined`). A damaged header is stepped
    over, a truncated tar ends early: the pairs that are whole stay, the others are named in
    `damaged`, and so is what is not a tar at all. A second member of the same name is left out and
    named, a second image of a pair and members that belong to none are counted.
    """
    with shard.open("rb") as stream:
        found = _scan(stream.fileno())
    faults = [*found.broken, *found.faults]
    counts = Counter({reason: len(names) for reason, names in found.others.items()})
    return Index(
        found.names,
        np.array(found.places, np.int64).reshape(-1, 5),
        [f"{shard.name} {fault}" for fault in faults],
        found.digest,
        dict(Counter(fault.reason for fault in faults) + counts),
        {
            reason: Others(counts[reason], tuple(f"{shard.name} {name}" for name in names[:NAMED]))
            for reason, names in found.others.items()
        },
    )


class _Scan(NamedTuple):
    broken: list[Fault]  # of the tar
    faults: list[Fault]  # of pairs
    others: dict[str, list[str]]  # members that belong to no pair, by reason
    names: list[str]
    places: list[tuple[int, int, int, int, int]]
    digest: bytes


class Samples(NamedTuple):
    """Offset and bytes of a tar's members by stem and kind; what is left out: places of the tar,
    members, and members by reason that belong to no sample.
    """

    held: dict[str, dict[str, tuple[int, int]]]
    broken: list[Fault]
    faults: list[Fault]
    others: dict[str, list[str]]


def samples(file: int, kinds: Collection[str] = KINDS) -> Samples:
    """The members of an open tar that are of some kinds, put together by their stems."""
    broken, faults, others, samples = [], [], defaultdict(list), {}
    for member, start, length in walk(file, broken):
        stem, kind = _split(member, kinds)
        if kind not in kinds:
            others[kind].append(member)
            continue
        sample = samples.setdefault(stem, {})
        if kind in sample:
            faults.append(Fault(f"{stem}.{kind}", "comes twice"))
        elif length > (LONGEST_TEXT if kind in READ else LARGEST_IMAGE):
            faults.append(Fault(f"{stem}.{kind}", "is too large", f" ({length} bytes)"))
        else:
            sample[kind] = start, length
    for text, image in joined(samples).items():
        samples[image] |= samples.pop(text)
    mine = [one for one in broken if not one.member or _split(one.member, kinds)[1] in kinds]
    for fault in broken:
        if fault not in mine:
            others[fault.reason].append(fault.member)
    return Samples(samples, mine, faults, others)


def _scan(file: int) -> _Scan:
    held, broken, faults, others = samples(file)
    names, places, total = [], [], hashlib.sha256()
    for stem, members in held.items():
        sample = {k: os.pread(file, n, at) if k in READ else b"" for k, (at, n) in members.items()}
        image, text, fault = parts(sample)
        if not fault and not captions(text, sample[text]):
            fault = NO_CAPTION
        if fault := fault or EMPTY * (members[image][1] == 0):
            faults.append(Fault(stem, fault))
            continue
        for kind in sorted({"img_content", *PICTURES} & sample.keys() - {image}):
            others[SECOND].append(f"{stem}.{kind}")
        names.append(name(sample, stem))
        places.append((*members[image], *members[text], TEXTS.index(text)))
        total.update(repr((names[-1], places[-1], sample[text])).encode("utf-8", "surrogatepass"))
    return _Scan(broken, faults, others, names, places, total.digest())


def _split(member: str, kinds: Collection[str]) -> tuple[str, str]:
    """Stem and kind of a member; for one that can belong to no pair the reason as its kind."""
    match = MEMBER.fullmatch(member)
    kind = match[2].lower() if match else ""
    if member.rpartition("/")[2].startswith("."):
        return member, "is hidden"
    return (match[1], kind) if kind in kinds else (member, f"is of another kind (.{kind})")


def _strict(found: _Scan, shard: Path) -> None:
    for fault in found.broken:
        if fault.reason.startswith("is not a tar file"):
            raise ValueError(f"{shard} {fault}")
        raise ValueError(f"{shard} is not a whole tar file ({fault}): fetch it again")
    for fault in found.faults:
        raise ValueError(f"{shard}: sample {fault.member} {fault.reason}{fault.detail}")
