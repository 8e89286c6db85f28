"""What a table is, by its first bytes, and which of its columns is wanted."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import files
from rs5m.data.tables.lines import objects

ENDINGS = (".parquet", ".pq", ".parq", ".csv", ".tsv", ".jsonl", ".ndjson")
KINDS = "parquet, csv, tsv or jsonl"
HEAD = 2**16  # bytes that tell what a file is
SAMPLE = 1000  # objects of json that tell its columns
SHOWN = 20  # columns that a sentence lists
LINE_END = re.compile(r"\r\n|\r|\n")
ABOVE = re.compile(  # what may stand above a header: Excel's first line, comments, empty lines
    r'(?:(?:"?sep=(?P<mark>[^\w\s"]|\t)"?|#(?:[ \t#!][^\r\n]*)?|)(?:\r\n|\r|\n))*', re.IGNORECASE
)
URL = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
CAPTION_NAMES = ("text", "caption", "captions", "alttext", "alt", "title", "description")
BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
TEXT = (*STRINGS, *BYTES, pa.types.is_null)
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
STRING = pa.string()


class Table(NamedTuple):
    """A file of rows: "parquet", "csv" (with its delimiter, and whether its first row is a header)
    or "jsonl", and its columns.

    above: the lines before the header.
    """

    path: Path
    kind: str
    schema: pa.Schema
    delimiter: str = ","
    header: bool = True
    above: int = 0

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return self.schema.names


def look(path: Path) -> Table:
    """What a file holds, by its first bytes. ValueError for what is not a table or is cut off."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    files.refuse_pointer(path, head)
    if head.startswith(b"PAR1"):
        return Table(path, "parquet", _parquet_schema(path))
    zeros = (set(head[:64][start::2]) == {0} for start in (0, 1))  # Latin letters, without a mark
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or any(zeros):
        raise ValueError(f"{path} is UTF-16: save it as UTF-8")
    text = head.decode("utf-8-sig", "replace")
    told = ABOVE.match(text)
    above, text = len(LINE_END.findall(told[0])), text[told.end() :]
    bare = next((delimiter for delimiter in "\t," if _bare(text, delimiter)), None)
    if bare:
        return Table(path, "csv", _strings_of(_bare(text, bare)), bare, False, above)
    found = files.kind(head[:64])
    if found == "json":
        return Table(path, "jsonl", _json_schema(path))
    if not found and path.suffix.lower() in ENDINGS[:3]:
        _parquet_schema(path)  # says what is wrong with it
    if not found.startswith("text"):
        raise ValueError(f"{path} is {found or 'neither text nor parquet'}: give {KINDS}")
    first = LINE_END.split(text, 1)[0]
    delimiter = told["mark"] or next((mark for mark in "\t,;|" if mark in first), ",")
    return Table(path, "csv", _strings_of(_fields(text, delimiter)), delimiter, above=above)


def _bare(text: str, delimiter: str) -> list[str]:
    """The columns of a table without a header, [] where the first row is one."""
    row = LINE_END.split(text, 1)[0].split(delimiter)
    urls = [bool(URL.fullmatch(field)) for field in row]
    return ["url" if url else "text" for url in urls] if len(row) == 2 and sum(urls) == 1 else []


def _fields(text: str, delimiter: str) -> list[str]:
    return [
        field.strip()
        for field in next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), ())
    ]


def _strings_of(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, STRING) for name in names])


def _parquet_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a whole parquet file: fetch it again or leave it out"
        ) from error


def _json_schema(path: Path) -> pa.Schema:
    """The keys of the first lines; a value's type is text where it is text or null on any line."""
    columns: dict[str, pa.DataType] = {}
    for row in islice(objects(path), SAMPLE):
        for name, value in (row or {}).items():
            kind = STRING if isinstance(value, str) else pa.scalar(_shape(value)).type
            if columns.get(name) != STRING and not (pa.types.is_null(kind) and name in columns):
                columns[name] = kind
    if not columns:
        raise ValueError(f"{path} is json, not jsonl: put one object with its names on each line")
    return pa.schema(list(columns.items()))


def _shape(value: object) -> object:
    """A value that tells its type and that Arrow has a type for."""
    return {list: [""], dict: {"": ""}, int: 0}.get(type(value), value)


# ---------------------------------------------------------------- columns


def column(
    table: Table,
    given: str,
    usual: Sequence[str],
    option: str,
    fits: Callable[[pa.DataType], bool] | None = None,
    wanted: str = "strings (or bytes)",
) -> str:
    """The name of a column: the one given, else the only one with a usual name.

    ValueError where there is none or are several, or where it does not hold what it should; it
    names the columns there are.

    Args:
        usual: names in small letters, without what is neither letter nor digit.
        option: what chooses the column on the command line.
        fits: whether values of a type will do; texts where it is not given.
        wanted: those types in words.
    """
    path, names = table.path, table.names
    listed = ", ".join(names[:SHOWN]) or "none"
    listed += f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    same = [name for name in names if (name == given if given else squeezed(name) in usual)]
    if given and not same:
        raise ValueError(f"{path} has no column {given!r}: {option} is one of {listed}")
    if not same:
        if names and "://" in names[0]:
            raise ValueError(
                f"{path} begins with an address: a table's first line names its columns (url and "
                "text, say), and each further line has an address and its text"
            )
        raise ValueError(
            f"{path} has no column {usual[0]!r} or of a like name (it has {listed}): name one with "
            f"{option}"
        )
    if len(same) > 1:
        alike = same[0].lower() if len({name.lower() for name in same}) == 1 else usual[0]
        cure = "rename or remove the others"
        if len(set(same)) > 1:
            cure = f"choose one with {option}, or {cure}"
        raise ValueError(
            f"{path} has {len(same)} columns called {alike!r} ({', '.join(same)}): {cure}"
        )
    kind = table.schema.field(same[0]).type
    if not (fits or is_text)(plain(kind)):
        raise ValueError(f"{path} has {kind} in its column {same[0]!r}: give {wanted} there")
    return same[0]


def squeezed(name: str) -> str:
    """A column's name in small letters, without what is neither letter nor digit."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is of strings, or of bytes that may be some."""
    return any(test(kind) for test in TEXT)


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of a dictionary's values; any other as it is."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def of_list(kind: pa.DataType) -> pa.DataType | None:
    """The type of a list's values, None for what is no list."""
    return plain(kind.value_type) if any(test(kind) for test in LISTS) else None


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is of a file's bytes, as such or as a list of numbers."""
    of = of_list(kind)
    return any(test(kind) for test in BYTES) or (of is not None and pa.types.is_integer(of))


def strings(values: pa.Array) -> pa.Array:
    """A column as strings: numbers spelled, bytes read as UTF-8 with bad ones replaced."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(values.type):
        return values.cast(STRING)
    raw = values.cast(pa.large_binary())
    try:
        return raw.cast(STRING)  # this cast is the one that checks UTF-8
    except pa.ArrowInvalid:
        return pa.array([one and one.decode("utf-8", "replace") for one in raw.to_pylist()], STRING)
