"""PUB11's input: parquet files that are checked before any work, the folder of a run, and stage 1.
Chapter: pub11.
"""

from __future__ import annotations

import glob
import hashlib
import json
from pathlib import Path

import daft
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import keywords
from rs5m.web.urls import normalise

HITS = pa.schema(
    [("row", pa.int64()), ("source", pa.string()), ("url", pa.string()), ("text", pa.string())]
)
UNMATCHED = pa.schema([("row", pa.int64()), ("reason", pa.string())])
TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_dictionary,
    pa.types.is_null,
)


def digest(data: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------- input


def inputs(pairs: str | list) -> list[Path]:
    """The parquet files of a glob, a folder or a list, by name; each is opened, and its columns are
    checked, first.
    """
    if isinstance(pairs, str | Path):
        folder = Path(pairs)
        paths = (
            sorted(folder.glob("*.parquet"))
            if folder.is_dir()
            else sorted(map(Path, glob.glob(str(pairs))))
        )
    else:
        paths = sorted(map(Path, pairs))
    if not paths:
        raise FileNotFoundError(
            f"{pairs} holds no parquet file: give a glob such as 'pairs/*.parquet', in quotes"
        )
    for path in paths:
        _check(path)
    return paths


def _check(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: check the spelling of --pairs")
    try:
        names, schema = _names(path), pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a whole parquet file: fetch it again or leave it out"
        ) from error
    for name in ("url", "text"):
        if name not in names:
            raise ValueError(
                f"{path} has no column {name!r} (it has {', '.join(names) or 'none'}): rename one to it"
            )
        kind = schema.field(names[name]).type
        if not any(is_text(kind) for is_text in TEXT):
            raise ValueError(
                f"{path} has {kind} in its column {names[name]!r}: give strings (or bytes) there"
            )


def _names(path: Path) -> dict[str, str]:
    """The columns of a file by lower-case name: crawls write URL and TEXT as often as url and text."""
    return {name.lower(): name for name in pq.read_schema(path).names}


def claim(out: Path, paths: list[Path], config: dict) -> None:
    """Take `out` for this run by run.json, or find that it is ours. ValueError for the folder of
    another run.
    """
    facts = {
        "config": config,
        "inputs": {str(i): [p.name, _file_digest(p)] for i, p in enumerate(paths)},
    }
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    note = out / "run.json"
    if note.is_file():
        if note.read_text() != text:
            raise ValueError(
                f"{out} holds another run (its run.json differs in input or settings): name a new folder"
            )
        return
    if out.is_dir() and any(p.name != "run.json.tmp" for p in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no run.json: name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    whole(note, lambda path: path.write_text(text))


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def whole(path: Path, write) -> None:
    """`write(temporary)` and then a rename; a write that fails leaves nothing behind. OSError names
    file and cure.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror or error}): free space, then run it again"
        ) from error


def save(table: pa.Table, path: Path) -> None:
    """Write a table by a temporary name and a rename; same rows, same bytes."""
    whole(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


# ---------------------------------------------------------------- stage 1


def select(paths: list[Path], out: Path) -> tuple[pd.DataFrame, dict]:
    """Stage 1: rows with a keyword, and how many pairs each source listed. A Daft dataframe a file,
    kept on disk.

    The rows that stop here are in unmatched/, a file for each input, as row and reason (no_keyword,
    no_text).
    """
    folder, rest = out / "select", out / "unmatched"
    folder.mkdir(exist_ok=True)
    rest.mkdir(exist_ok=True)
    tables, counts, first = [], [], 0
    for i, path in enumerate(paths):
        kept = folder / f"{i:05d}.parquet"
        if not kept.is_file():
            hits, unmatched = _select_one(path, first)
            save(unmatched, rest / kept.name)
            save(hits, kept)
        table = pq.read_table(kept)
        counts.append(json.loads(table.schema.metadata[b"listed"]))
        tables.append(table.to_pandas())
        first += pq.read_metadata(path).num_rows
    listed: dict = {}
    for count in counts:
        for source, (pairs, missing) in count.items():
            old = listed.get(source, (0, 0))
            listed[source] = (old[0] + pairs, old[1] + missing)
    return pd.concat(tables, ignore_index=True), listed


def _select_one(path: Path, first: int) -> tuple[pa.Table, pa.Table]:
    """HITS of a file, `listed` (pairs, pairs without text by source) in their metadata; UNMATCHED
    of the rest.
    """
    found, rest, listed, row = [], [], {}, first
    for batch in _batches(path):
        text = batch["text"].is_valid().to_numpy(zero_copy_only=False)
        if "hit" in batch.column_names:
            hit = batch["hit"].to_numpy(zero_copy_only=False)
        else:  # bytes of mixed encodings, read as UTF-8 with bad bytes replaced; or nulls
            hit = keywords.matches(batch["text"].to_pylist())
        for name, group in (
            pd.DataFrame({"s": batch["source"].to_pylist(), "m": ~text}).groupby("s").m
        ):
            old = listed.get(name, (0, 0))
            listed[name] = (old[0] + len(group), old[1] + int(group.sum()))
        index, other = np.flatnonzero(hit), np.flatnonzero(~hit)
        part = {
            n: [keywords._string(v) for v in batch[n].take(index).to_pylist()]
            for n in ("source", "url", "text")
        }
        found.append(pa.table({"row": row + index} | part, HITS))
        rest.append(
            pa.table([row + other, np.where(text[other], "no_keyword", "no_text")], UNMATCHED)
        )
        row += len(batch)
    if (
        row - first != pq.read_metadata(path).num_rows
    ):  # Daft 0.7 sometimes ends at a damaged page without an error
        raise ValueError(f"{path} is damaged inside: fetch it again or leave it out")
    hits = pa.concat_tables(found) if found else HITS.empty_table()
    unmatched = pa.concat_tables(rest) if rest else UNMATCHED.empty_table()
    return hits.replace_schema_metadata({"listed": json.dumps(listed, sort_keys=True)}), unmatched


def _batches(path: Path):
    """Tables of source, url, text and, for string columns, hit; in the file's order. ValueError
    names a broken file.
    """
    names = _names(path)
    try:
        frame = daft.read_parquet(str(path))
        source = (
            daft.col(names["source"]).cast(daft.DataType.string())
            if "source" in names
            else daft.lit(path.stem)
        )
        text, url = daft.col(names["text"]), daft.col(names["url"])
        frame = frame.select(
            source.fill_null(path.stem).alias("source"), url.alias("url"), text.alias("text")
        )
        if frame.schema()["text"].dtype == daft.DataType.string():
            frame = frame.with_column("hit", keywords.expression("text"))
        for batch in frame.to_arrow_iter():
            yield pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    except (daft.exceptions.DaftCoreException, OSError) as error:
        raise ValueError(
            f"{path} is damaged inside: fetch it again or leave it out ({error})"
        ) from error


def shards(hits: pd.DataFrame, size: int) -> pd.DataFrame:
    """The distinct normalised URLs of the hits in order of their first row: key, shard. Hopeless
    URLs are left out.
    """
    hits["key"] = pd.Series([normalise(url) for url in hits.url], hits.index, object)
    keys = hits.key.dropna().drop_duplicates().reset_index(drop=True)
    return pd.DataFrame({"key": keys.astype(str), "shard": np.arange(len(keys)) // size})
