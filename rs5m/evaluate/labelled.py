"""A labelled set of one's own, as people keep them beside folders of classes: a table of image and
label, Hugging Face's imagefolder or parquet, webdataset's shards. Chapter: leaderboard.

Tables are read by `rs5m.data.found`, as pairs of images and captions are. A label is a name, or a
number where the table itself or a file of class names says what it means; a list of labels makes
the set one of several labels an image. What is left out is named by its reason.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from rs5m import files
from rs5m.data import datasets, found, shards, tables
from rs5m.data.datasets import Classes, Images, LeftOut
from rs5m.data.found import METADATA, Column, Pair
from rs5m.evaluate import testsets
from rs5m.evaluate.packed import NAMES, NO_LABEL, labels_of, samples

SPLITS = {
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("train", "training"), "training"),
}
ORDER = ("test", "validation", "training")  # of splits, of which the first one there is read
SEVERAL, OTHER = "has several labels", "is beside the part that is read"


class Several(NamedTuple):
    """A set with any number of labels an image: labels bool (n, classes); the rest as in
    `Classes`.
    """

    name: str
    images: Images
    labels: np.ndarray
    classes: list[str]
    left_out: LeftOut


def _is_label(kind: pa.DataType) -> bool:
    kind = tables.of_list(kind) or kind
    return tables.is_text(kind) or pa.types.is_integer(kind)


LABEL = Column("label", "--label-column", NAMES, _is_label, "texts, whole numbers or lists of them")


def read(path: str | Path, image: str = "", label: str = "") -> Classes | Several | None:
    """The set in a table, a shard, or a folder that holds some; None for any other folder.

    ValueError that names what is wrong: no or several columns that fit, a split or a set without an
    image, labels of one class.

    Args:
        path: of a file or folder; of train, validation and test the test part is read, and said.
        image, label: the names of a table's columns, the label's of a shard's json, too; guessed,
            and said, where not given.
    """
    path = Path(path).resolve()
    held = _of_split(path, _held(path)) if path.is_dir() else [path]
    if not held:
        return None
    name = path.name if path.is_dir() else path.stem
    left_out: LeftOut = {}
    if shards.SHARD.fullmatch(held[0].name):
        rows, meaning = list(samples(held, left_out, label)), []
        several = any(isinstance(labels, tuple) for _, _, labels in rows)
        if unread := shards.beside([path], held):
            left_out[shards.BESIDE] = unread
    else:
        several, meaning = _kind(held[0], label)
        top = _top(path, held)
        rows = list(_pairs(found.of_tables(top, held, image, label, LABEL), left_out))
        left_out |= _others(path, top)
    return _set(name, rows, several, meaning, left_out)


def own(path: str | Path, image: str = "", label: str = "") -> Classes | Several | None:
    """`read`, or `rs5m.evaluate.testsets.own` of a folder of classes or of its tested split."""
    if (some := read(path, image, label)) is not None or not Path(path).is_dir():
        return some
    if image or label:
        raise ValueError(f"{path} has no table: leave --image-column and --label-column out")
    folder, part = Path(path), split(Path(path))
    if (inside := testsets.own(part)) is None:
        return None
    left_out = inside.left_out | _others(folder, part)
    return inside._replace(name=folder.resolve().name, left_out=left_out)


def _held(folder: Path) -> list[Path]:
    """The tables or shards in a folder, metadata before others; [] where it has neither."""
    every = [path for path in files.walk(folder) if path.name[0] != "."]
    named = [path for path in every if path.name.lower() in METADATA]
    packed = [path for path in every if shards.SHARD.fullmatch(path.name)]
    pictures = [path for path in every if path.suffix.lower() in datasets.ENDINGS]
    loose = [path for path in every if path.suffix.lower() in tables.ENDINGS]
    inside = loose and {path.suffix for path in loose} <= {".parquet", ".pq", ".parq"}
    return sorted(named or packed or (loose if inside and not pictures else []))


def split(folder: Path) -> Path:
    """The folder itself, or, where all images are in folders of splits, the one that is tested."""
    names = datasets.listed(folder, datasets.ENDINGS, below=1)[0]
    some = [one.relative_to(folder) for one in _of_split(folder, [folder / n for n in names])]
    return folder / some[0].parts[0] if some and all(map(_part, some)) else folder


def _top(folder: Path, held: list[Path]) -> Path:
    """The folder of a split that holds all of some files, else the folder itself."""
    tops = {path.relative_to(folder).parts[0] for path in held} if folder.is_dir() else set()
    top = folder.joinpath(*tops) if len(tops) == 1 else folder
    return top if top.name.lower() in SPLITS and top.is_dir() else folder


def _others(folder: Path, part: Path) -> LeftOut:
    """What lies in a folder beside the part of it that is read."""
    if part == folder:
        return {}
    return {OTHER: [path.name for path in sorted(folder.iterdir()) if path != part]}


def _of_split(folder: Path, held: list[Path]) -> list[Path]:
    """The files of the split that is tested, which is printed; all files where some have no split.

    ValueError where a folder of an earlier split is there and empty.
    """
    parts = [_part(path.relative_to(folder)) for path in held]
    if not held or not all(parts):
        return held
    first = next(kind for kind in ORDER if kind in parts)
    for one in folder.iterdir():
        kind = SPLITS.get(one.name.lower()) if one.is_dir() else None
        if kind and kind not in parts and ORDER.index(kind) < ORDER.index(first):
            raise ValueError(
                f"{folder.name} has nothing in its split {one.name}: fill the folder, or remove it "
                f"to have the {first} part read"
            )
    print(f"{folder.name}: the {first} part is read, of {', '.join(sorted(set(parts)))}")
    return [path for path, part in zip(held, parts, strict=True) if part == first]


def _part(path: Path) -> str:
    """The split that the first folder of a path tells, or the first word of a file's name."""
    if len(path.parts) > 1 and path.parts[0] != "data":
        return SPLITS.get(path.parts[0].lower(), "")
    return SPLITS.get(re.split(r"[-_.]", path.stem.lower())[0], "")


# ---------------------------------------------------------------- tables


def _kind(path: Path, label: str) -> tuple[bool, list[str]]:
    """Whether the column of labels holds lists, as such or as texts, and what its numbers mean
    where the table says so: Hugging Face writes the names of its ClassLabel into the header of a
    parquet file.
    """
    table = tables.look(path)
    name = tables.column(table, label, NAMES, LABEL.option, LABEL.fits, LABEL.wanted)
    kind = table.schema.field(name).type
    try:
        told = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = told.get("info", {}).get("features", {}).get(name, {})
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        meaning = [str(one) for one in feature.get("names") or ()]
    except (ValueError, AttributeError, TypeError, IndexError):
        meaning = []
    first = islice(tables.rows(table, [name]), 1000)
    texts = (row[name] for row in first if isinstance(row.get(name), str | list))
    listed = any(isinstance(text, list) or text.strip().startswith("[") for text in texts)
    return tables.of_list(kind) is not None or listed, meaning


def _pairs(pairs: Iterable[Pair], left_out: LeftOut) -> Iterator[tuple[str, Callable, list[str]]]:
    """Name, what reads the bytes, and labels of each whole row; bytes that stand in a table are
    spooled to a file, so that no set lies in memory.
    """
    spool = tempfile.TemporaryFile()  # noqa: SIM115  (closed with its last reader)
    for pair in pairs:
        several = pair.captions if isinstance(pair.captions, list | tuple) else [pair.captions]
        given = [label for one in several for label in labels_of(one)]
        fault = pair.fault or ("" if given else NO_LABEL)
        if not fault and not isinstance(getattr(pair.read, "__self__", None), Path):
            data = pair.read and pair.read()
            fault = found.NO_IMAGE if data is None else ""
            pair = pair._replace(read=_spooled(spool, data or b""))
        if fault:
            left_out.setdefault(fault, []).append(pair.name)
        else:
            yield pair.name, pair.read, given


def _spooled(spool, data: bytes) -> Callable[[], bytes]:
    at = spool.seek(0, os.SEEK_END)
    spool.write(data)
    spool.flush()
    return lambda: os.pread(spool.fileno(), len(data), at)


# ---------------------------------------------------------------- the set


def _set(
    name: str, rows: list, several: bool, meaning: list[str], left_out: LeftOut
) -> Classes | Several:
    given = [list(dict.fromkeys(labels)) for _, _, labels in rows]
    if not several:
        twice = {i for i, one in enumerate(given) if len(one) > 1}
        if twice:
            left_out.setdefault(SEVERAL, []).extend(rows[i][0] for i in sorted(twice))
        rows = [row for i, row in enumerate(rows) if i not in twice]
        given = [one for i, one in enumerate(given) if i not in twice]
    if not rows:
        why = datasets.in_words(left_out) or "nothing is there"
        cure = "; name the one that counts with --label-column" if SEVERAL in left_out else ""
        raise ValueError(f"{name} has no image with a label: {why}{cure}")
    every = sorted({label for one in given for label in one}, key=_order)
    classes = meaning or every
    place = {str(i): i for i in range(len(meaning))} if meaning else {}
    place = {label: i for i, label in enumerate(classes)} | place
    if strange := [label for label in every if label not in place]:
        raise ValueError(
            f"{name} has the label {strange[0]} beside its {len(classes)} names: correct it"
        )
    if len(every) < 2:
        raise ValueError(
            f"{name} has the one label {every[0]}: zero-shot classification needs two or more"
        )
    images = Images(_told_apart([row[0] for row in rows]), lambda i: rows[i][1]())
    if several:
        labels = np.zeros((len(rows), len(classes)), bool)
        for i, one in enumerate(given):
            labels[i, [place[label] for label in one]] = True
        return Several(name, images, labels, classes, left_out)
    return Classes(name, images, np.array([place[one[0]] for one in given]), classes, left_out)


def _told_apart(names: list[str]) -> list[str]:
    """Names of which none comes twice, as those of several shards may."""
    counts = Counter(names)
    return [f"{name} (image {i})" if counts[name] > 1 else name for i, name in enumerate(names)]


def _order(label: str) -> tuple[int, str]:
    """Numbers by their size."""
    return (int(label), "") if label.isdecimal() else (2**62, label)
