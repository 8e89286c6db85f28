"""The rows of a table in order, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from rs5m.data.tables import lines
from rs5m.data.tables.kinds import HEAD, STRING, Table, is_text

BATCH = 2**17  # rows of parquet held at a time
FAULT = "fault"  # the column that says why a row could not be read


def batches(table: Table, names: Sequence[str]) -> Iterator[pa.Table]:
    """The columns `names` of all rows in order, and `FAULT`: null, or why the row, which is null in
    all columns, could not be read (wrong_fields, open_quote, not_json, not_text).

    ValueError that names a file which is damaged or not UTF-8.
    """
    return {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}[table.kind](table, list(names))


def rows(table: Table, names: Sequence[str]) -> Iterator[dict]:
    """As `batches`, row by row as Python's values; lists and numbers of jsonl come as they are."""
    if table.kind == "jsonl":
        for row in lines.objects(table.path):
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
                yield pa.table([*values, pa.nulls(len(batch), STRING)], [*names, FAULT])
            missing = file.metadata.num_rows - rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table.path} {_why(error)}") from error
    if missing:
        raise ValueError(f"{table.path} is damaged inside: fetch it again or leave it out")


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is no longer there: put it back, then run it again"
    said = str(error).strip().partition("\n")[0]
    if "UTF8" in said:
        return f"is not UTF-8 ({said}): save it as UTF-8"
    if "straddl" in said:
        return f"has a row of more than {lines.BLOCK >> 20} MB: close the quotation mark before it"
    if "Expected all lists" in said:
        return "has a null in a list of fixed length, which Arrow does not read: save plain lists"
    return f"is damaged inside ({said}): fetch it again or leave it out"


# ---------------------------------------------------------------- csv and tsv


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
        rest = pa.table([pa.nulls(len(wrong), STRING)] * len(names), names)
        yield rest.append_column(FAULT, pa.array(["wrong_fields"] * len(wrong)))
    elif table.header and "\n" in (tail or "") and _ends_open(table.path):
        raise ValueError(
            f"{table.path} has a quotation mark in row {at - 2} that nothing closes: close it, or "
            "double it"
        )


def _open_csv(table: Table, columns: list[str], wrong: list[int]):
    def note(row) -> str:
        wrong.append(row.number - 1 - table.above)
        return "skip"

    return pa.csv.open_csv(
        table.path,
        # rows have no numbers in several threads
        pa.csv.ReadOptions(
            use_threads=False,
            block_size=lines.BLOCK,
            autogenerate_column_names=True,
            skip_rows=table.above,
        ),
        pa.csv.ParseOptions(
            delimiter=table.delimiter,
            quote_char='"' if table.header else False,
            newlines_in_values=table.header,
            invalid_row_handler=note,
        ),
        pa.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, STRING),
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
    faults = pa.array(np.where(index < 0, "wrong_fields", None), STRING)
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


# ---------------------------------------------------------------- jsonl


def _jsonl(table: Table, names: list[str]) -> Iterator[pa.Table]:
    schema = pa.schema([*((name, STRING) for name in names), (FAULT, STRING)])
    found = lines.objects(table.path)
    while some := list(islice(found, BATCH // 8)):
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
