"""PUB11's input: parquet files that are checked before any work, and stage 1. Chapter: pub11."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rs5m import files, keywords
from rs5m.data import runfolder
from rs5m.web.urls import normalise, unescape

HITS = pa.schema(
    [("row", pa.int64()), ("source", pa.string()), ("url", pa.string()), ("text", pa.string())]
)
UNMATCHED = pa.schema([("row", pa.int64()), ("reason", pa.string())])
ENDINGS = (".parquet", ".pq", ".parq")
ENTITY = "&#?[0-9A-Za-z]+;"
TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)
NUMBERS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_timestamp,
)
BATCH = 2**17  # rows held at a time

# ---------------------------------------------------------------- input


def inputs(pairs: str | Path | list) -> list[Path]:
    """The parquet files of a pattern, a folder or a list, sorted; each is opened, and its columns
    are checked, before any work. FileNotFoundError or ValueError that names the file and the cure.
    """
    return _checked(pairs, *listed(pairs))


def listed(pairs: str | Path | list) -> tuple[list[Path], dict[str, list[str]]]:
    """The files of a pattern, a folder with all below it, or a list, sorted; of a folder also what
    is left out, by reason. A path that exists is never read as a pattern.
    """
    left_out: dict[str, list[str]] = {}
    if not isinstance(pairs, str | Path):
        return sorted(map(Path, pairs)), left_out
    folder = Path(pairs)
    if not folder.is_dir():
        matched = [pairs] if folder.exists() else glob.glob(str(pairs), recursive=True)
        return sorted(map(Path, matched)), left_out
    kept = []
    for path in files.walk(folder):
        name = path.relative_to(folder)
        if any(part[0] == "." for part in name.parts):  # a pattern leaves them out, too
            left_out.setdefault("hidden", []).append(name.as_posix())
        elif path.suffix.lower() not in ENDINGS:
            reason = f"not a parquet file's ending: {path.suffix.lower() or 'none'}"
            left_out.setdefault(reason, []).append(name.as_posix())
        else:
            kept.append(path)
    return kept, left_out


def _checked(pairs: str | Path | list, paths: list[Path], left_out: Mapping) -> list[Path]:
    if not paths:
        others = f" ({sum(map(len, left_out.values()))} other files)" if left_out else ""
        raise FileNotFoundError(
            f"{pairs} holds no parquet file{others}: give files, their folder, or a pattern such "
            "as 'pairs/*.parquet', in quotes"
        )
    real = [path.resolve() for path in paths]
    if twice := next((path for path in real if real.count(path) > 1), None):
        raise ValueError(f"{twice} is named twice: name it once, or its pairs count double")
    for path in paths:
        _check(path)
    return paths


def _check(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the spelling of --pairs")
    columns(path)


def columns(path: Path) -> dict[str, str]:
    """The names in a file of `url`, `text` and, where there is one, `source`: crawls write URL and
    TEXT as often. ValueError for a file that is not parquet, or lacks one, has two or another type.
    """
    schema, found = _schema(path), {}
    for name in ("url", "text", "source"):
        same = [column for column in schema.names if column.lower() == name]
        if len(same) > 1:
            raise ValueError(
                f"{path} has {len(same)} columns called {name!r} ({', '.join(same)}): "
                "rename or remove the others"
            )
        if same:
            found[name] = same[0]
            _check_type(path, same[0], schema.field(same[0]).type, name == "source")
        elif name != "source":
            raise ValueError(
                f"{path} has no column {name!r} (it has {', '.join(schema.names) or 'none'}): "
                "rename one to it"
            )
    return found


def _schema(path: Path) -> pa.Schema:
    with path.open("rb") as stream:
        files.refuse_other(path, stream.read(64), "parquet")
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a whole parquet file: fetch it again or leave it out"
        ) from error


def _check_type(path: Path, column: str, kind: pa.DataType, numbers: bool) -> None:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if any(test(kind) for test in TEXT) or (numbers and any(test(kind) for test in NUMBERS)):
        return
    wanted = "strings or numbers" if numbers else "strings (or bytes)"
    raise ValueError(f"{path} has {kind} in its column {column!r}: give {wanted} there")


# ---------------------------------------------------------------- stage 1


def select(paths: list[Path], out: Path) -> tuple[pd.DataFrame, dict]:
    """Stage 1: rows with a keyword, and how many pairs each source listed; kept on disk by file.

    The rows that stop here are in unmatched/, a file for each input, as row and reason (no_keyword,
    no_text).
    """
    folder, rest = out / "select", out / "unmatched"
    folder.mkdir(exist_ok=True)
    rest.mkdir(exist_ok=True)
    tables, listed, first = [], {}, 0
    for i, path in enumerate(paths):
        kept = folder / f"{i:05d}.parquet"
        if not kept.is_file():
            hits, unmatched = _select_one(path, first)
            runfolder.save(unmatched, rest / kept.name)
            runfolder.save(hits, kept)
        table = pq.read_table(kept)
        for source, (pairs, missing) in json.loads(table.schema.metadata[b"listed"]).items():
            before = listed.get(source, (0, 0))
            listed[source] = (before[0] + pairs, before[1] + missing)
        tables.append(table.to_pandas())
        first += pq.read_metadata(path).num_rows
    return pd.concat(tables, ignore_index=True), listed


def _select_one(path: Path, first: int) -> tuple[pa.Table, pa.Table]:
    """HITS of a file, `listed` (pairs, pairs without text by source) in their metadata; UNMATCHED
    of the rest.
    """
    hits, rest, listed, row = [], [], {}, first
    for batch in _batches(path):
        has_text = batch["text"].is_valid().to_numpy(zero_copy_only=False)
        hit = keywords.matches(batch["text"])
        missing = pd.DataFrame({"source": batch["source"].to_pylist(), "missing": ~has_text})
        for name, group in missing.groupby("source").missing:
            before = listed.get(name, (0, 0))
            listed[name] = (before[0] + len(group), before[1] + int(group.sum()))
        index, other = np.flatnonzero(hit), np.flatnonzero(~hit)
        hits.append(batch.take(index).add_column(0, HITS.field("row"), pa.array(row + index)))
        reasons = np.where(has_text[other], "no_keyword", "no_text")
        rest.append(pa.table([row + other, reasons], UNMATCHED))
        row += len(batch)
    if row - first != pq.read_metadata(path).num_rows:
        raise ValueError(f"{path} is damaged inside: fetch it again or leave it out")
    metadata = {"listed": json.dumps(listed, sort_keys=True)}
    return (
        pa.concat_tables([HITS.empty_table(), *hits]).replace_schema_metadata(metadata),
        pa.concat_tables([UNMATCHED.empty_table(), *rest]),
    )


def _batches(path: Path) -> Iterator[pa.Table]:
    """Tables of source, url and text as strings, in the file's order. Bad bytes are replaced, and
    the text's HTML entities are decoded. ValueError names a broken file.
    """
    names = columns(path)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=list(names.values())):
                held = {name: _strings(batch[column]) for name, column in names.items()}
                source = held.get("source", pa.nulls(len(batch), pa.string()))
                held["source"] = pc.fill_null(source, path.stem)
                held["text"] = _decoded(held["text"])
                yield pa.table([held[name] for name in HITS.names[1:]], HITS.names[1:])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is damaged inside ({_first_line(error)}): fetch it again or leave it out"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _strings(column: pa.Array) -> pa.Array:
    """A column as strings: numbers spelled, bytes read as UTF-8 with bad ones replaced."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(test(column.type) for test in TEXT):
        return column.cast(pa.string())
    return keywords.as_strings(column).cast(pa.string())


def _decoded(texts: pa.Array) -> pa.Array:
    """Texts with their HTML entities decoded once; few have any, and only those are touched."""
    some = pc.fill_null(pc.match_substring_regex(texts, ENTITY), False)
    if not pc.any(some).as_py():
        return texts
    decoded = pa.array([unescape(text) for text in texts.filter(some).to_pylist()], pa.string())
    return pc.replace_with_mask(texts, some, decoded)


def shards(hits: pd.DataFrame, size: int) -> pd.DataFrame:
    """The distinct normalised URLs of the hits in order of their first row: key, shard. Hopeless
    URLs are left out.
    """
    hits["key"] = pd.Series([normalise(url) for url in hits.url], hits.index, object)
    keys = hits.key.dropna().drop_duplicates().reset_index(drop=True)
    return pd.DataFrame({"key": keys.astype(str), "shard": np.arange(len(keys)) // size})
