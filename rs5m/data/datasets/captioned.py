"""Captioned sets: RSITMD and RSICD by their csv, UC Merced by UCM-captions."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from rs5m import files
from rs5m.data import documents
from rs5m.data.datasets.labelled import Classes, Images, LeftOut, classes
from rs5m.data.datasets.memory import Labelled
from rs5m.data.sample import is_caption
from rs5m.data.tables.kinds import ABOVE, LINE_END

CAPTIONED = {  # folder of images, encodings of the csv in the order in which they are tried
    "rsitmd": ("images", ("UTF-8",)),
    "rsicd": ("RSICD_images", ("UTF-8", "gb18030")),
}
COLUMNS = ("filename", "title")
LONGEST = 2**16  # characters of a caption; a quotation mark left open makes one of the whole rest


class Captions(NamedTuple):
    """A captioned set: images by name, captions in the csv's order; left_out: images that are
    named but not usable.
    """

    name: str
    images: Images
    captions: list[tuple[str, ...]]
    left_out: LeftOut


def captions(name: str, folder: Path) -> Captions:
    """The test part of a captioned set: rsitmd, rsicd, or ucm by UCM-captions. Errors like those of
    `classes`.

    The official order: images sorted by name, each with its captions as the csv has them.
    """
    if name == "ucm":
        return _ucm_test(folder)
    held, encodings = CAPTIONED[name]
    tables = f"{name}/{name}_test.csv", f"{name}/dataset_{name}.json"
    known = ((base_of(folder, table), table) for table in tables)
    base, table = next(((base, table) for base, table in known if base), (None, tables[0]))
    if base is None:
        raise FileNotFoundError(f"{folder} has no {tables[0]}, nor {tables[1]}")
    rows: dict[str, list[str]] = {}
    for where, file, title in _test_rows(base / table, encodings):
        if not is_caption(title):
            raise ValueError(f"{where}: a row needs a filename and a title")
        rows.setdefault(file, []).append(title)
    paths = {file: base / name / held / file for file in sorted(rows)}
    kept = [file for file, path in paths.items() if path.is_file()]
    if not kept:
        raise ValueError(
            f"{base / name / held} holds none of the {len(rows)} images that {table} names: put "
            "them there"
        )
    _tell_letters(table, rows)
    missing = [file for file in paths if file not in set(kept)]
    if missing:
        print(
            f"{name}: {len(missing)} images of {table} are missing and left out: "
            f"{', '.join(missing[:10])}"
        )
    images = Images(kept, lambda i: paths[kept[i]].read_bytes())
    left_out = {"missing": missing} if missing else {}
    return Captions(name, images, [tuple(rows[file]) for file in kept], left_out)


def _test_rows(path: Path, encodings: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Place, file and caption of every row of a set's test part, from its csv or json."""
    if path.suffix == ".csv":
        for line, file, title in table_rows(path, encodings):
            yield f"{path}, line {line}", file, title
    else:
        for file, title in documents.of_part(path, "test"):
            if file != PurePosixPath(file).name:
                raise ValueError(f"{path}: {file!r} is not a file name")
            yield f"{path}, image {file}", file, title


def base_of(folder: Path, inside: str) -> Path | None:
    """Where a path of the official folder lies, in the folder or in its rs5m_test_data."""
    bases = (folder, folder / "rs5m_test_data")
    return next((base for base in bases if (base / inside).exists()), None)


# ---------------------------------------------------------------- the csv


def table_rows(path: Path, encodings: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """(line, file name, caption) of every row of a csv with the columns filename and title, in any
    case; the caption may be empty.

    ValueError names the line that has more or fewer fields than the header (a caption with a comma
    outside quotation marks), a file name that is a path, or a caption that never ends.
    """
    text = text_of(path, encodings)
    above = ABOVE.match(text)[0]
    reader = csv.reader(io.StringIO(text[len(above) :], newline=""))
    first = len(LINE_END.findall(above))
    try:
        places = _places(next(reader, []), path)
        empty = True
        for row in filter(None, reader):
            empty, line = False, first + reader.line_num
            yield line, *_fields(row, *places, f"{path}, line {line}")
    except csv.Error as error:
        line = first + reader.line_num
        raise ValueError(f"{path}, line {line}: {error}; fetch it again") from error
    if empty:
        raise ValueError(f"{path} has no rows: fetch it again")


def _places(header: list[str], path: Path) -> tuple[int, int, int]:
    """Where the two columns stand, and how many columns there are."""
    known = [column.strip().lower() for column in header]
    if missing := sorted(set(COLUMNS) - set(known)):
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}: it has {', '.join(header) or 'none'}"
        )
    for column in COLUMNS:
        if known.count(column) > 1:
            raise ValueError(
                f"{path} has the column {column} more than once: {', '.join(header)}; keep one"
            )
    return known.index(COLUMNS[0]), known.index(COLUMNS[1]), len(header)


def _fields(row: list[str], file: int, title: int, columns: int, where: str) -> tuple[str, str]:
    if any(row[columns:]):
        raise ValueError(
            f"{where}: {len(row)} fields under {columns} columns: put a caption with a comma "
            "between quotation marks"
        )
    if len(row) <= max(file, title) or not row[file]:
        raise ValueError(f"{where}: a row needs a filename and a title")
    if row[file] != PurePosixPath(row[file]).name:  # a list from elsewhere names files, not places
        raise ValueError(f"{where}: {row[file]!r} is not a file name")
    if len(row[title]) > LONGEST:  # other packages lift the csv module's own limit
        raise ValueError(f"{where}: field larger than {LONGEST}; fetch it again")
    return row[file], row[title]


def text_of(path: Path, encodings: Sequence[str]) -> str:
    """A csv's text, by the first encoding that its bytes are valid in; ValueError where none is.

    RSITMD is published in UTF-8, RSICD in gb18030. UTF-8 goes first: gb18030 takes almost any bytes
    and would read UTF-8's as other letters. The reverse is rare: a text whose only foreign letters
    are few Chinese ones (C2 A3).
    """
    content = files.content(path)
    for encoding in encodings:
        try:
            return content.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
        except UnicodeDecodeError:
            continue
    if len(encodings) == 1:
        raise ValueError(f"{path} is not {encodings[0]}: save it as that")
    raise ValueError(f"{path} is neither {' nor '.join(encodings)}: save it as one of them")


def _tell_letters(table: str, rows: dict[str, list[str]]) -> None:
    """Warn where English captions have Chinese characters: other encodings look so when read as
    gb18030.
    """
    every = [title for titles in rows.values() for title in titles]
    if odd := [title for title in every if re.search("[\u3400-\u9fff]", title)]:
        print(
            f"{len(odd)} of {len(every)} captions of {table} have Chinese characters, the first "
            f"is {odd[0]!r}: check that the file is in the encoding it was published in"
        )


# ---------------------------------------------------------------- UCM-captions


def _ucm_test(folder: Path) -> Captions:
    data = classes("ucm", folder)
    texts, split = ucm_captions(folder, data)
    index = np.flatnonzero(split == "test")
    names = [data.images.names[i] for i in index]
    images = Images(names, lambda i: data.images.read(int(index[i])))
    return Captions("ucm", images, [texts[i] for i in index], {})


def ucm_captions(
    folder: Path, data: Classes | Labelled
) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Five captions for each image of `data` and its split ("train", "val", "test") from
    UCM-captions.

    The json calls image (N - 1) % 100 of class (N - 1) // 100, classes in alphabetical order,
    "N.tif". FileNotFoundError without it, ValueError where it and the images do not fit.
    """
    places = (folder / "captions/ucm_captions.json", folder / "ucm_captions.json")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has no captions/ucm_captions.json (UCM-captions)")
    content, entries = files.content(path), {}
    names = data.names if isinstance(data, Labelled) else data.images.names
    try:
        for entry in json.loads(content)["images"]:
            number = int(Path(entry["filename"]).stem) - 1
            name = f"{data.classes[number // 100]}{number % 100:02d}"
            entries[name] = (tuple(s["raw"].strip() for s in entry["sentences"]), entry["split"])
        found = [entries[Path(name).stem] for name in names]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{folder}: ucm_captions.json and the images of UC Merced do not fit, or one is not "
            "whole: fetch both again"
        ) from error
    return [texts for texts, _ in found], np.array([split for _, split in found])
