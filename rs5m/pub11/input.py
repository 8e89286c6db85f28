"""PUB11's input: tables of listed pairs that are checked before any work, and stage 1.
Chapter: pub11.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rs5m import files, keywords
from rs5m.data import runfolder, sample, tables
from rs5m.web.urls import normalise, unescape

STRING = pa.string()
HITS = pa.schema([("row", pa.int64()), ("source", STRING), ("url", STRING), ("text", STRING)])
UNMATCHED = pa.schema([("row", pa.int64()), ("reason", STRING)])
FAULTS = ("wrong_fields", "open_quote", "not_json", "not_text")  # of rows that do not parse
URLS = ("url", "imageurl", "imgurl", "imagelink", "image")  # usual names, squeezed
ENTITY = "&#?[0-9A-Za-z]+;"
NUMBERS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_timestamp,
)

# ---------------------------------------------------------------- input


def inputs(pairs: str | Path | list, url: str = "", caption: str = "") -> list[Path]:
    """The tables of a pattern, a folder or a list, sorted; each is opened, and its columns are
    checked, before any work. FileNotFoundError or ValueError that names the file and the cure.

    url, caption: the names of the columns; where they are not given, usual names are looked for,
    and what is taken is printed.
    """
    paths = _checked(pairs, *listed(pairs))
    taken: dict[tuple, list[Path]] = {}
    for path in paths:
        found = columns(path, url, caption)
        taken.setdefault((found["url"], found["text"]), []).append(path)
    for (one, other), files_of in taken.items():
        if (one, other) not in (("url", "text"), (url, caption)):
            print(
                f"pairs: {one} is taken as the URL and {other} as the text of "
                f"{_some(files_of)} (--url-column and --caption-column choose others)"
            )
    return paths


def _some(paths: list[Path]) -> str:
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0].name}{others}"


def listed(pairs: str | Path | list) -> tuple[list[Path], dict[str, list[str]]]:
    """The files of a pattern, a folder with all below it, or a list of these, sorted; of a folder
    also what is left out, by reason. As much of a path as exists is never read as a pattern.
    """
    several = not isinstance(pairs, str | Path)
    kept: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for one in pairs if several else [pairs]:
        matched = sum(files.matches(one).values(), []) or [Path(one)] * several
        inside = (_inside(path, left_out) if path.is_dir() else [path] for path in matched)
        kept += dict.fromkeys(chain.from_iterable(inside))
    return sorted(kept), left_out


def _inside(folder: Path, left_out: dict[str, list[str]]) -> list[Path]:
    kept = []
    for path in files.walk(folder):
        name = path.relative_to(folder)
        if any(part[0] == "." for part in name.parts):  # a pattern leaves them out, too
            left_out.setdefault("hidden", []).append(name.as_posix())
        elif path.suffix.lower() not in tables.ENDINGS:
            reason = f"not a table's ending: {path.suffix.lower() or 'none'}"
            left_out.setdefault(reason, []).append(name.as_posix())
        else:
            kept.append(path)
    return kept


def _checked(pairs: str | Path | list, paths: list[Path], left_out: Mapping) -> list[Path]:
    if not paths:
        others = f" ({sum(map(len, left_out.values()))} other files)" if left_out else ""
        raise FileNotFoundError(
            f"{pairs} holds no table ({tables.KINDS}){others}: give files, their folder, or a "
            "pattern such as 'pairs/*.parquet', in quotes"
        )
    real = [path.resolve() for path in paths]
    if twice := next((path for path in real if real.count(path) > 1), None):
        raise ValueError(f"{twice} is named twice: name it once, or its pairs count double")
    if gone := next((path for path in paths if not path.is_file()), None):
        raise FileNotFoundError(f"{gone} is not a file: check the spelling of --pairs")
    return paths


def columns(path: Path, url: str = "", caption: str = "") -> dict[str, str]:
    """The names in a table of `url`, `text` and, where there is one, `source`, in any case.

    ValueError for a file that is not a table, and for a column that is not there, is there twice or
    holds something else.
    """
    return _named(tables.look(path), url, caption)


def _named(table: tables.Table, url: str, caption: str) -> dict[str, str]:
    found = {
        "url": tables.column(table, url, URLS, "--url-column"),
        "text": tables.column(table, caption, tables.CAPTION_NAMES, "--caption-column"),
    }
    if found["url"] == found["text"]:
        raise ValueError(f"{table.path} has {found['url']!r} for URL and caption: name two columns")
    if any(name.lower() == "source" for name in table.names):
        found["source"] = tables.column(
            table, "", ("source",), "", _is_source, "strings or numbers"
        )
    return found


def _is_source(kind: pa.DataType) -> bool:
    return tables.is_text(kind) or any(test(kind) for test in NUMBERS)


# ---------------------------------------------------------------- stage 1


def select(
    paths: list[Path],
    out: Path,
    url: str = "",
    caption: str = "",
    terms: keywords.Keywords | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Stage 1: rows with a keyword, and how many pairs each source listed and how many of them had
    no text; kept on disk by file.

    The rows that stop here are in unmatched/, a file for each input, as row and reason (no_keyword,
    trap, no_text for what is no caption, one of FAULTS).

    Args:
        paths: tables of listed pairs.
        out: the folder of the run.
        url, caption: names of columns; guessed where empty, see `columns`.
        terms: the keywords; None: those of the package.
    """
    folder, rest = out / "select", out / "unmatched"
    folder.mkdir(exist_ok=True)
    rest.mkdir(exist_ok=True)
    terms = terms or keywords.choose()
    kept, listed, first = [], {}, 0
    for i, path in enumerate(paths):
        name = f"{i:05d}.parquet"
        if not (folder / name).is_file():
            hits, unmatched = _select_one(path, first, url, caption, terms)
            runfolder.save(unmatched, rest / name)
            runfolder.save(hits, folder / name)
        table = pq.read_table(folder / name)
        for source, (pairs, missing) in json.loads(table.schema.metadata[b"listed"]).items():
            before = listed.get(source, (0, 0))
            listed[source] = (before[0] + pairs, before[1] + missing)
            first += pairs
        kept.append(table.to_pandas())
    return pd.concat(kept, ignore_index=True), listed


def unparsed(paths: list[Path], out: Path) -> dict[str, list[str]]:
    """The rows that `select` could not read, by reason, each as its file and number from 0."""
    found, first = {}, 0
    for i, path in enumerate(paths):
        rest = pq.read_table(out / "unmatched" / f"{i:05d}.parquet").to_pydict()
        for row, reason in zip(rest["row"], rest["reason"], strict=True):
            if reason in FAULTS:
                found.setdefault(f"rows: {reason}", []).append(f"{path.name} row {row - first}")
        first += len(rest["row"]) + pq.read_metadata(out / "select" / f"{i:05d}.parquet").num_rows
    return found


def _select_one(
    path: Path, first: int, url: str, caption: str, terms: keywords.Keywords
) -> tuple[pa.Table, pa.Table]:
    """HITS of a file, `listed` (pairs, pairs without text by source) in their metadata; UNMATCHED
    of the rest.
    """
    hits, rest, listed, row = [], [], {}, first
    for batch in batches(path, url, caption):
        has_text = batch["text"].is_valid().to_numpy()
        why = terms.reasons(batch["text"])
        hit = np.equal(why, None)
        no_text = ~has_text & batch[tables.FAULT].is_null().to_numpy()
        missing = pd.DataFrame({"source": batch["source"].to_pylist(), "missing": no_text})
        for name, group in missing.groupby("source").missing:
            before = listed.get(name, (0, 0))
            listed[name] = (before[0] + len(group), before[1] + int(group.sum()))
        index, other = np.flatnonzero(hit), np.flatnonzero(~hit)
        found = batch.select(HITS.names[1:]).take(index)
        hits.append(found.add_column(0, HITS.field("row"), pa.array(row + index)))
        usual = pa.array(np.where(has_text[other], why[other], "no_text"), pa.string())
        reasons = pc.coalesce(batch[tables.FAULT].take(other), usual)
        rest.append(pa.table([row + other, reasons], UNMATCHED))
        row += len(batch)
    metadata = {"listed": json.dumps(listed, sort_keys=True)}
    return (
        pa.concat_tables([HITS.empty_table(), *hits]).replace_schema_metadata(metadata),
        pa.concat_tables([UNMATCHED.empty_table(), *rest]),
    )


def batches(path: Path, url: str = "", caption: str = "") -> Iterator[pa.Table]:
    """Tables of source, url, text and FAULT as strings, in the file's order. Bad bytes of parquet
    are replaced, and the text's HTML entities are decoded. ValueError names a broken file.
    """
    table = tables.look(path)
    names = _named(table, url, caption)
    for batch in tables.batches(table, list(names.values())):
        held = {
            name: tables.strings(batch[column].combine_chunks()) for name, column in names.items()
        }
        source = held.get("source", pa.nulls(len(batch), pa.string()))
        held["source"] = pc.fill_null(source, path.stem)
        held["text"] = _said(_decoded(held["text"]))
        columns = [*(held[name] for name in HITS.names[1:]), batch[tables.FAULT]]
        yield pa.table(columns, [*HITS.names[1:], tables.FAULT])


def _decoded(texts: pa.Array) -> pa.Array:
    """Texts with their HTML entities decoded once; few have any, and only those are touched."""
    some = pc.fill_null(pc.match_substring_regex(texts, ENTITY), False)
    if not pc.any(some).as_py():
        return texts
    decoded = pa.array([unescape(text) for text in texts.filter(some).to_pylist()], pa.string())
    return pc.replace_with_mask(texts, some, decoded)


def _said(texts: pa.Array) -> pa.Array:
    """Texts, null in place of what is no caption (`rs5m.data.sample.is_caption`)."""
    plain = pc.ascii_lower(pc.utf8_trim_whitespace(texts))
    return pc.if_else(pc.is_in(plain, pa.array(sample.ABSENT)), pa.scalar(None, STRING), texts)


def shards(hits: pd.DataFrame, size: int) -> pd.DataFrame:
    """The distinct normalised URLs of the hits in order of their first row: key, shard and how
    many pairs have it. Hopeless URLs are left out.
    """
    hits["key"] = pd.Series([normalise(url) for url in hits.url], hits.index, object)
    keys = hits.key.dropna()
    counts = keys.value_counts()
    keys = keys.drop_duplicates().reset_index(drop=True).astype(str)
    shard = np.arange(len(keys)) // size
    return pd.DataFrame({"key": keys, "shard": shard, "pairs": keys.map(counts).astype(int)})
