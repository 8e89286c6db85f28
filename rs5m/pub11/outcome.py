"""Stages 4 and 5 of PUB11, and what a run ends with: shards, and tables of fixed types.

Chapter: pub11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m.data import cluster, records, runfolder
from rs5m.pub11.curation import NOTHING, Curation
from rs5m.pub11.download import content
from rs5m.pub11.duplicates import duplicates, pictures, valid
from rs5m.pub11.stages import STAGES, arrow

SHARDS = "pub11-train"
ROW = ["row", "url", "text", "shard", "key"]  # what a shard is made from, with fetch/
COLUMNS = (
    "pairs_listed",
    "after_keyword_filter",
    "downloaded",
    "invalid_removed",
    "duplicate_removed",
    "outlier_removed",
    "remaining",
)
PAIR = [("row", pa.int64()), *((name, pa.string()) for name in ("source", "url", "text"))]
PICTURE = [
    ("shard", pa.int64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("sha256", pa.string()),
    ("score", pa.float64()),
    ("probability", pa.float64()),
]
KEPT = pa.schema([*PAIR, *PICTURE, ("tar", pa.string()), ("key", pa.string())])
DROPPED = pa.schema([*PAIR, ("stage", pa.string()), ("reason", pa.string()), *PICTURE])


class Judge(Protocol):
    """What decides which pictures are outliers; `rs5m.book.judge.Model` is one."""

    def identity(self) -> list:
        """What run.json remembers of it. Asked before any work: whatever keeps it from judging is
        raised here.
        """

    def about(self) -> str:
        """One sentence on what it is worth, for run.json and report.html; need not be there."""

    def prepare(self, out: Path) -> None:
        """Leave in the run's folder what `load` and `reasons` need there."""

    def load(self, out: Path) -> Callable:
        """A function from images (h, w, 3) uint8 to score (n,) and probability (n,)."""

    def reasons(self, score: np.ndarray, probability: np.ndarray, out: Path) -> list[str | None]:
        """Why each picture is an outlier, None to keep it."""


def decide(hits: pd.DataFrame, urls: pd.DataFrame, out: Path, judge: Judge) -> pd.DataFrame:
    """Every hit with stage and reason (None: kept), sorted by row. What joined near-copies goes to
    copies.parquet.

    Args:
        hits: of `input.select`.
        urls: the key and the shard of every distinct URL.
        out: the folder of the run, whose finished shards hold what is known of each picture.
        judge: says which pictures are outliers.
    """
    shards = urls.shard.nunique()
    found = pictures(shards, out)
    table = hits.merge(found, on="key", how="left").sort_values("row")
    table["status"] = table.status.fillna("bad_url")
    table["stage"], table["reason"] = None, None
    _drop(table, table.status != "ok", "download", table.status)
    _drop(table, table.invalid.notna(), "invalid", table.invalid)
    found = valid(found)
    first = table.drop_duplicates("key").set_index("key")
    found["row"] = first.row.reindex(found.key).to_numpy()
    found["url"] = first.url.reindex(found.key).to_numpy()
    twin = dict(zip(found.key, duplicates(found, shards, out), strict=True))
    again = table.key.duplicated() & table.reason.isna()
    _drop(table, again, "duplicates", "duplicate_url")
    _drop(table, table.key.map(twin).notna(), "duplicates", table.key.map(twin))
    outlier = pd.Series(
        judge.reasons(table.score.to_numpy(float), table.probability.to_numpy(float), out),
        table.index,
    )
    _drop(table, outlier.notna(), "outliers", outlier)
    return table.reset_index(drop=True)


def _drop(table: pd.DataFrame, which: pd.Series, stage: str, reason) -> None:
    """Set stage and reason where `which` holds and no earlier stage has dropped the row."""
    which = which & table.reason.isna()
    table.loc[which, "stage"] = stage
    table.loc[which, "reason"] = reason[which] if isinstance(reason, pd.Series) else reason


def finish(
    table: pd.DataFrame,
    listed: dict,
    out: Path,
    layout: str = records.LAYOUTS[0],
    asked: Curation = NOTHING,
) -> None:
    """kept.parquet, the shards that follow from it, attrition and, as the mark of a whole run,
    dropped.parquet.

    Args:
        table: of `decide`, or of `curation.apply` where something is asked for.
        listed: for each source the pairs that it listed, and how many of them have no text.
        out: the run's folder.
        layout: one of `records.LAYOUTS`.
        asked: the filters beyond the paper.
    """
    # of fetch/, where the bytes are; none for a hopeless URL
    table["shard"] = table.shard.astype("Int64")
    kept = table[table.reason.isna()].reset_index(drop=True)
    kept, more = kept.assign(**runfolder.places(out, SHARDS, len(kept))), asked.fields()
    _keep(arrow(kept, [*KEPT, *more]), out)
    rows = list(kept[ROW].itertuples(index=False, name=None))
    parts = range(0, len(rows), runfolder.TAR)
    given = {start // runfolder.TAR: rows[start : start + runfolder.TAR] for start in parts}
    cluster.work(cluster.Task("join", _tar, partial(_write_tar, layout), 1), given, out)
    runfolder.save(_counted(_attrition(table, listed, asked)), out / "attrition.parquet")
    dropped = table[table.reason.notna()]
    runfolder.sweep(out)
    runfolder.save(arrow(dropped, [*DROPPED, *more]), out / "dropped.parquet")


def _counted(frame: pd.DataFrame) -> pa.Table:
    return arrow(frame, [("source", pa.string()), *((n, pa.int64()) for n in frame.columns[1:])])


def _keep(table: pa.Table, out: Path) -> None:
    """Save kept.parquet; shards that are there stay if it is as it was."""
    path = out / "kept.parquet"
    if path.is_file() and pq.read_table(path).equals(table):
        return
    for shard in out.glob(f"{SHARDS}-*.tar"):
        shard.unlink()
    runfolder.save(table, path)


def _tar(out: Path, number: int) -> Path:
    return out / f"{SHARDS}-{number:04d}.tar"


def _write_tar(layout: str, out: Path, number: int, rows: list[tuple]) -> None:
    """One shard, from the ROW of each of its pairs."""
    pairs = pd.DataFrame(rows, columns=ROW)
    records.write(_tar(out, number), _records(pairs, out), layout, int(pairs.key[0]))


def _records(pairs: pd.DataFrame, out: Path) -> Iterator[records.Record]:
    for row, data, text in zip(pairs.row, content(out, pairs), pairs.text, strict=True):
        yield records.Record(data, f"{row}.{_ending(data)}", text)


def _ending(data: bytes) -> str:
    starts = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp"}
    return starts.get(data[:2], "tif")


def _attrition(table: pd.DataFrame, listed: dict, asked: Curation) -> pd.DataFrame:
    rows, more = [], [step.stage for step in asked.steps()]
    names = [*COLUMNS[:-1], *(f"{stage}_removed" for stage in more), COLUMNS[-1], "no_text"]
    for source in sorted(listed):
        pairs, no_text = listed[source]
        mine = table[table.source == source]
        removed = [int((mine.stage == stage).sum()) for stage in (*STAGES[1:], *more)]
        downloaded = len(mine) - removed[0]
        remaining = len(mine) - sum(removed)
        rows.append((source, pairs, len(mine), downloaded, *removed[1:], remaining, no_text))
    frame = pd.DataFrame(rows, columns=["source", *names])
    total = {"source": "total"} | {name: int(frame[name].sum()) for name in frame.columns[1:]}
    return pd.concat([frame, pd.DataFrame([total])], ignore_index=True)


def attrition(out: str | Path) -> pd.DataFrame:
    """The attrition table of a finished run: source and the paper's columns; no_text of those not
    passing stage 1.

    FileNotFoundError for a folder whose run has not finished.
    """
    path = Path(out) / "attrition.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: let rs5m pub11 finish first")
    return pd.read_parquet(path)
