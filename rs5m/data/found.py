"""Pairs of an image and its captions as people have them, in tables, folders and json: each whole,
or with the reason why it is left out. Chapter: tune.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import NamedTuple

import pyarrow as pa

from rs5m import files
from rs5m.data import datasets, documents, records, tables
from rs5m.data.tables import CAPTION_NAMES, FAULT

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture")  # usual names, squeezed
IMAGES += ("imagepath", "path", "filepath", "imagefile", "file", "filename")
CAPTIONS = (*CAPTION_NAMES, "sentence", "sentences", "rawcaption")
IMAGE = "--image-column"
PLACES = "paths, bytes or a struct with a field bytes"
NO_IMAGE = "has no image"
LONGEST = 1000  # characters of a path
REPORT = re.compile(r"\d+_stats[.]json")  # beside img2dataset's shards and folders


class Pair(NamedTuple):
    """What was found: its name, what gives the image's bytes, its captions (any value), or why it
    is left out.
    """

    name: str
    read: Callable[[], bytes | None] | None = None
    captions: object = None
    fault: str | None = None


class Column(NamedTuple):
    """What stands beside an image in a table: its word, the option that names its column, usual
    names of it (squeezed), which types will do, and those in words.
    """

    word: str
    option: str
    usual: tuple[str, ...]
    fits: Callable[[pa.DataType], bool]
    wanted: str


def found(path: Path, image: str = "", caption: str = "", part: str = "train") -> Iterator[Pair]:
    """The pairs of a table, a folder or a json of captions; ValueError where it is none of these,
    or a table has no such columns, before any image is read.

    Args:
        image, caption: the names of a table's columns; guessed, and said, where not given.
        part: of a json whose images have a split, the one that is taken: train, val or test.
    """
    if not path.is_dir():
        if path.suffix.lower() == ".json" and (document := documents.read(path)):
            rows, left_out = documents.listed(path, document, part)
            return chain(_files(path, rows), (Pair(name, fault=why) for name, why in left_out))
        return of_table(path, image, caption)
    every = list(files.walk(path))
    aside = {file: why for file in every if (why := _aside(file, path))}
    rest = [file for file in every if file not in aside]
    named = [file for file in rest if file.name.lower() in METADATA]
    listed = named or [file for file in rest if file.suffix.lower() in tables.ENDINGS]
    beside = {file.with_suffix("") for file in rest if file.suffix.lower() in (".txt", ".json")}
    pictures = [file for file in rest if file.suffix.lower() in datasets.ENDINGS]
    if not named and any(file.with_suffix("") in beside for file in pictures):
        others = (Pair(file.relative_to(path).as_posix(), fault=why) for file, why in aside.items())
        return chain(_beside(path, rest), others)
    if not listed:
        kinds = Counter(file.suffix.lower() or "no ending" for file in every)
        has = ", ".join(f"{count} {ending}" for ending, count in kinds.most_common(5)) or "nothing"
        raise ValueError(
            f"{path} holds neither shards, tables, images with a .txt beside each, nor "
            f"metadata.csv: it has {has}"
        )
    return of_tables(path, listed, image, caption)


def _aside(file: Path, folder: Path) -> str | None:
    """Why a file of a folder belongs to no pair, whatever else lies there."""
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return "is hidden"
    return "is a report of img2dataset" if REPORT.fullmatch(file.name) else None


def of_tables(
    folder: Path, given: list[Path], image: str = "", words: str = "", column: Column | None = None
) -> Iterator[Pair]:
    """The pairs of some tables in a folder, and its other files, which no table names.

    Args:
        folder: of the tables; the one table itself where nothing lies beside it.
        given: the tables.
        image, words, column: as of `of_table`.
    """
    opened = [of_table(table, image, words, column) for table in given]  # names wrong columns
    every = list(files.walk(folder)) if folder.is_dir() else []

    def pairs() -> Iterator[Pair]:
        seen = set(map(os.path.abspath, given))
        for pair in chain.from_iterable(opened):
            yield pair
            if isinstance(file := getattr(pair.read, "__self__", None), Path):
                seen.add(os.path.abspath(file))
        for file in every:
            if os.path.abspath(file) not in seen:
                why = _aside(file, folder) or "is in no table"
                yield Pair(file.relative_to(folder).as_posix(), fault=why)

    return pairs()


def _beside(folder: Path, every: list[Path]) -> Iterator[Pair]:
    """Images with a caption in a file beside them."""
    samples: dict[str, dict[str, Path]] = {}
    for file in every:
        stem, kind = file.with_suffix("").relative_to(folder).as_posix(), file.suffix[1:].lower()
        if kind not in (*records.PICTURES, "txt", "json") or kind in samples.get(stem, ()):
            yield Pair(file.relative_to(folder).as_posix(), fault="belongs to no pair")
        elif not file.is_file():  # whoever reads a pipe waits for ever
            yield Pair(file.relative_to(folder).as_posix(), fault=datasets.NO_FILE)
        else:
            samples.setdefault(stem, {})[kind] = file
    for paths in samples.values():
        named = {k: path.relative_to(folder).as_posix() for k, path in paths.items()}
        try:
            sample = {
                k: path.read_bytes() if k in records.TEXTS else b"" for k, path in paths.items()
            }
        except OSError as error:  # it went, or may not be read
            yield Pair(next(iter(named.values())), fault=f"{datasets.UNREAD} ({error.strerror})")
            continue
        image, text, fault = records.parts(sample)
        captions = () if fault else records.captions(text, sample[text])
        name = named[image or next(iter(paths))]
        yield Pair(name, None if fault else paths[image].read_bytes, captions, fault)
        for kind in sorted(paths.keys() & {*records.PICTURES} - {image}):
            yield Pair(named[kind], fault=records.SECOND)


def of_table(
    path: Path, image: str = "", words: str = "", column: Column | None = None
) -> Iterator[Pair]:
    """The pairs of one table; ValueError where it is none, or has no such columns.

    Args:
        image, words: the names of its columns; guessed, and said, where not given.
        column: what the second one holds; captions where it is not given.
    """
    table, column = tables.look(path), column or CAPTION
    alone = sorted(map(str.lower, table.names)) == ["filename", "title"]
    if column is CAPTION and alone and not (image or words):
        named = datasets.table_rows(path, ("UTF-8", "gb18030"))  # RSICD's is in either
        return _files(path, ((file, title) for _, file, title in named))
    where = tables.column(table, image, IMAGES, IMAGE, _is_image, PLACES)
    beside = tables.column(table, words, column.usual, column.option, column.fits, column.wanted)
    if where != image or beside != words:
        print(
            f"{path.name}: {where} is taken as the image and {beside} as the {column.word} "
            f"({IMAGE} and {column.option} choose others)"
        )
    rows = tables.rows(table, [where, beside])
    kind = tables.plain(table.schema.field(where).type)
    if pa.types.is_struct(kind) or tables.is_bytes(kind):
        return _inside(path, rows, where, beside)
    faults: list[Pair] = []
    return chain(_files(path, _named(path, rows, where, beside, faults)), faults)


def _is_image(kind: pa.DataType) -> bool:
    struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return struct or tables.is_text(kind) or tables.is_bytes(kind)


def _is_caption(kind: pa.DataType) -> bool:
    return tables.is_text(tables.of_list(kind) or kind)


CAPTION = Column("caption", "--caption-column", CAPTIONS, _is_caption, "texts or lists of them")


def _inside(path: Path, rows: Iterable[dict], where: str, words: str) -> Iterator[Pair]:
    """Images whose bytes stand in the table."""
    for i, row in enumerate(rows):
        value = row.get(where)
        struct = value if isinstance(value, dict) else {"bytes": value}
        given = struct.get("path")
        name = f"{path.stem}-{i}{'-' if given else '.jpg'}{PurePath(given).name if given else ''}"
        data = _bytes(struct.get("bytes"))
        if not data and isinstance(given, str) and given and not row.get(FAULT):
            inside, fault = _file(path.absolute().parent, given)
            yield Pair(name, None if fault else inside.read_bytes, row.get(words), fault)
        else:
            read = None if data is None else (lambda data=data: data)
            yield Pair(name, read, row.get(words), row.get(FAULT))


def _bytes(value: object) -> object:
    """The bytes that stand in a list of numbers; any other value as it is."""
    try:
        return bytes(value) if isinstance(value, list) else value
    except (TypeError, ValueError):  # a null, or more than a byte holds
        return None


def _file(base: Path, name: str) -> tuple[Path, str | None]:
    """The file `name` of a folder, and why it is left out."""
    inside = Path(os.path.normpath(base / name))
    if len(name) > LONGEST:
        return inside, "is too long for a path (of base64, store the bytes)"
    if not inside.is_relative_to(base):
        return inside, "is a path outside the folder"
    if not _is_file(inside):  # the folder itself keeps its form
        inside = base / unicodedata.normalize("NFC", str(inside.relative_to(base)))
    if not _is_file(inside):
        inside = base / unicodedata.normalize("NFD", str(inside.relative_to(base)))
    return inside, None if _is_file(inside) else "is missing"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no disk takes
        return False


def _named(
    path: Path, rows: Iterable[dict], where: str, words: str, faults: list[Pair]
) -> Iterator[tuple[str, object]]:
    for i, row in enumerate(rows):
        file = row.get(where)
        if row.get(FAULT) or not isinstance(file, str) or not file.strip():
            faults.append(Pair(f"{path.name} row {i}", fault=row.get(FAULT) or NO_IMAGE))
        else:
            yield file.strip(), row.get(words)


def _files(path: Path, rows: Iterable[tuple[str, object]]) -> Iterator[Pair]:
    """Image files that a table names, each with all its captions; paths begin at the table's
    folder, a folder in it or beside it.
    """
    captions: dict[str, list] = {}
    for file, words in rows:
        if "\\" in file and not _is_file(path.parent / file):  # written on Windows
            file = file.replace("\\", "/")
        several = words if isinstance(words, list | tuple) else [words]
        captions.setdefault(file, []).extend(several)
    base = _base(path, list(islice(captions, 100)))
    for file, texts in captions.items():
        inside, fault = _file(base, file)
        if fault:
            yield Pair(file[:LONGEST], fault=fault)
        else:
            yield Pair(inside.relative_to(base).as_posix(), inside.read_bytes, texts)


def _base(path: Path, names: Sequence[str | PurePath]) -> Path:
    """Where the images lie that a table names."""
    here = path.absolute().parent
    plain = (PurePath(name) for name in names)
    names = [one for one in plain if not one.is_absolute() and ".." not in one.parts]
    near = [one for top in (here, here.parent) for one in (top, *sorted(top.iterdir()))]
    holds = (one for one in near if one.is_dir() and any(_is_file(one / name) for name in names))
    return next(holds, here)
