"""Tables in parquet, csv, tsv or jsonl, told apart by content: their columns, and their rows in
order, a batch at a time.

Of csv and tsv the text is UTF-8, with a byte-order mark or without; a quoted field may hold line
breaks. A table without a header is known by its first row: two fields, of which one is a URL
(Google's Conceptual Captions are like this); there a quotation mark is a letter like any other.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from rs5m import files

ENDINGS = (".parquet", ".pq", ".parq", ".csv", ".tsv", ".jsonl", ".ndjson")
KINDS = "parquet, csv, tsv or jsonl"
BATCH = 2**17  # rows of parquet held at a time
BLOCK = 2**24  # bytes of text held at a time; no row is longer
HEAD = 2**16  # bytes that tell what a file is
SAMPLE = 1000  # lines of jsonl that tell its columns
URL = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
CAPTION_NAMES = ("text", "caption", "captions", "alttext", "alt", "title", "description")
FAULT = "fault"  # the column that says why a row could not be read
TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)
_text = pa.string()


class Table(NamedTuple):
    """A file of rows: "parquet", "csv" (with its delimiter, and whether its first row is a header)
    or "jsonl", and its columns.
    """

    path: Path
    kind: str
    schema: pa.Schema
    delimiter: str = ","
    header: bool = True

    @property
    def names(self) -> list[str]:
        return self.schema.names


def look(path: Path) -> Table:
    """What a file holds, by its first bytes. ValueError for what is no table or is cut off."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    files.refuse_pointer(path, head)
    if head.startswith(b"PAR1"):
        return Table(path, "parquet", _parquet_schema(path))
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is UTF-16: save it as UTF-8")
    text = head.decode("utf-8-sig", "replace").lstrip("\r\n")
    bare = next((delimiter for delimiter in "\t," if _bare(text, delimiter)), None)
    if bare:
        return Table(path, "csv", _strings_of(_bare(text, bare)), bare, header=False)
    found = files.kind(head[:64])
    if found == "json" and text.lstrip()[0] == "{":
        return Table(path, "jsonl", _json_schema(path))
    if not found and path.suffix.lower() in ENDINGS[:3]:
        _parquet_schema(path)  # says what is wrong with it
    if not found.startswith("text"):
        raise ValueError(f"{path} is {found or 'neither text nor parquet'}: give {KINDS}")
    first = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first else ","
    return Table(path, "csv", _strings_of(_fields(text, delimiter)), delimiter)


def _bare(text: str, delimiter: str) -> list[str]:
    """The columns of a table without a header, [] where the first row is one."""
    row = text.partition("\n")[0].rstrip("\r").split(delimiter)
    urls = [bool(URL.fullmatch(field)) for field in row]
    return ["url" if url else "text" for url in urls] if len(row) == 2 and sum(urls) == 1 else []


def _fields(text: str, delimiter: str) -> list[str]:
    return [field.strip() for field in next(csv.reader(io.StringIO(text), delimiter=delimiter))]


def _strings_of(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, _text) for name in names])


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
    for row in islice(_objects(path), SAMPLE):
        for name, value in (row or {}).items():
            kind = _text if isinstance(value, str) else pa.scalar(_shape(value)).type
            if columns.get(name) != _text and not (pa.types.is_null(kind) and name in columns):
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
    listed = ", ".join(names) or "none"
    same = [name for name in names if (name == given if given else squeezed(name) in usual)]
    if given and not same:
        raise ValueError(f"{path} has no column {given!r}: {option} is one of {listed}")
    if not same:
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
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (fits or is_text)(kind):
        raise ValueError(f"{path} has {kind} in its column {same[0]!r}: give {wanted} there")
    return same[0]


def squeezed(name: str) -> str:
    """A column's name in small letters, without what is neither letter nor digit."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is of strings, or of bytes that may be some."""
    return any(test(kind) for test in TEXT)


def strings(values: pa.Array) -> pa.Array:
    """A column as strings: numbers spelled, bytes read as UTF-8 with bad ones replaced."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(values.type):
        return values.cast(_text)
    raw = values.cast(pa.large_binary())
    try:
        return raw.cast(_text)  # this cast is the one that checks UTF-8
    except pa.ArrowInvalid:
        return pa.array([one and one.decode("utf-8", "replace") for one in raw.to_pylist()], _text)


# ---------------------------------------------------------------- rows


def batches(table: Table, names: Sequence[str]) -> Iterator[pa.Table]:
    """The columns `names` of all rows in order, and `FAULT`: null, or why the row, which is null in
    all columns, could not be read (wrong_fields, open_quote, not_json, not_text).

    ValueError that names a file which is damaged or not UTF-8.
    """
    return {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}[table.kind](table, list(names))


def rows(table: Table, names: Sequence[str]) -> Iterator[dict]:
    """As `batches`, row by row as Python's values; lists and numbers of jsonl come as they are."""
    if table.kind == "jsonl":
        for row in _objects(table.path):
            yield {FAULT: "not_json"} if row is None else {name: row.get(name) for name in names}
        return
    for batch in batches(table, names):
        yield from batch.to_pylist()


def _parquet(table: Table, names: list[str]) -> Iterator[pa.Table]:
    rows = 0
    try:
        with pq.ParquetFile(table.path) as file:
            for batch in file.iter_batches(BATCH, columns=names):
                rows += len(batch)
                values = [batch[name] for name in names]
                yield pa.table([*values, pa.nulls(len(batch), _text)], [*names, FAULT])
            missing = file.metadata.num_rows - rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table.path} {_why(error)}") from error
    if missing:
        raise ValueError(f"{table.path} is damaged inside: fetch it again or leave it out")


def _why(error: Exception) -> str:
    said = str(error).strip().partition("\n")[0]
    if "UTF8" in said:
        return f"is not UTF-8 ({said}): save it as UTF-8"
    if "straddl" in said:
        return f"has a row of more than {BLOCK >> 20} MB: close the quotation mark before it"
    return f"is damaged inside ({said}): fetch it again or leave it out"


def _csv(table: Table, names: list[str]) -> Iterator[pa.Table]:
    wrong: list[int] = []  # the numbers, from 0, of rows with more or fewer fields than the first
    columns = [f"f{table.names.index(name)}" for name in names]
    columns.append(f"f{len(table.names) - 1}")  # a mark left open ends there
    at, tail = 0, None
    try:
        with _open_csv(table, list(dict.fromkeys(columns)), wrong) as stream:
            for batch in stream:
                part = pa.table([batch[column] for column in columns], [*names, "last"])
                found, at = _placed(part, at, wrong)
                tail = found["last"][-1].as_py() if len(found) else tail
                first = at == len(found) and table.header
                yield _judged(found.drop("last").slice(int(first)), table)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table.path} {_why(error)}") from error
    if wrong:
        rest = pa.table([pa.nulls(len(wrong), _text)] * len(names), names)
        yield rest.append_column(FAULT, pa.array(["wrong_fields"] * len(wrong)))
    elif table.header and "\n" in (tail or "") and _ends_open(table.path):
        raise ValueError(
            f"{table.path} has a quotation mark in row {at - 2} that nothing closes: close it, or "
            "double it"
        )


def _open_csv(table: Table, columns: list[str], wrong: list[int]):
    def note(row) -> str:
        wrong.append(row.number - 1)
        return "skip"

    return pa.csv.open_csv(
        table.path,
        # rows have no numbers in several threads
        pa.csv.ReadOptions(use_threads=False, block_size=BLOCK, autogenerate_column_names=True),
        pa.csv.ParseOptions(
            delimiter=table.delimiter,
            quote_char='"' if table.header else False,
            newlines_in_values=table.header,
            invalid_row_handler=note,
        ),
        pa.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, _text),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _placed(part: pa.Table, at: int, wrong: list[int]) -> tuple[pa.Table, int]:
    """The rows from number `at` on, with a null one for each in `wrong` before the last, which is
    taken out there; and the number that comes next.
    """
    numbers = np.setdiff1d(np.arange(at, at + len(part) + len(wrong)), wrong)[: len(part)]
    end = int(numbers[-1]) + 1 if len(part) else at
    index = np.full(end - at, -1)
    index[numbers - at] = np.arange(len(part))
    wrong[:] = [number for number in wrong if number >= end]
    faults = pa.array(np.where(index < 0, "wrong_fields", None), _text)
    return part.take(pa.array(index, mask=index < 0)).append_column(FAULT, faults), end


def _judged(rows: pa.Table, table: Table) -> pa.Table:
    """Rows with a field that holds the next rows, since a quotation mark is left open, are null."""
    mark = table.delimiter
    swallowed = rf"\n[^\n]*(https?://[^\n]*{mark}|{mark}[^\n]*https?://)"
    bad = pa.array(np.zeros(len(rows), bool))
    for name in rows.column_names[:-1] if table.header else ():
        found = pc.match_substring_regex(rows[name], swallowed)
        bad = pc.or_(bad, pc.fill_null(found, False).combine_chunks())
    if not pc.any(bad).as_py():
        return rows
    values = [pc.if_else(bad, None, rows[name]) for name in rows.column_names[:-1]]
    faults = pc.if_else(bad, "open_quote", rows[FAULT])
    return pa.table([*values, faults], rows.column_names)


def _ends_open(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - HEAD))
        return not stream.read().rstrip().endswith(b'"')


def _jsonl(table: Table, names: list[str]) -> Iterator[pa.Table]:
    schema = pa.schema([*((name, _text) for name in names), (FAULT, _text)])
    lines = _objects(table.path)
    while some := list(islice(lines, BATCH // 8)):
        yield pa.Table.from_pylist([_texts(row, names, table.schema) for row in some], schema)


def _texts(row: dict | None, names: list[str], schema: pa.Schema) -> dict:
    if row is None:
        return {FAULT: "not_json"}
    found = {}
    for name in names:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            if is_text(schema.field(name).type):
                return {FAULT: "not_text"}
            value = json.dumps(value)
        found[name] = value and value.encode("utf-8", "replace").decode()  # lone surrogates go
    return found


def _objects(path: Path) -> Iterator[dict | None]:
    """The object of each line that is not blank, None where there is none."""
    with path.open("rb") as stream:
        while line := stream.readline(BLOCK):
            if len(line) == BLOCK:
                raise ValueError(
                    f"{path} has a line of more than {BLOCK >> 20} MB: put one object on each line"
                )
            try:
                text = line.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
            if text:
                yield _object(text)


def _object(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no json, or nested to break the parser
        return None
    return value if isinstance(value, dict) else None
