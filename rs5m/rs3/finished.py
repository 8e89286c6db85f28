"""What a finished run of RS3 holds. Chapter: rs3."""

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m.data import runfolder


def pairs(out: str | Path) -> pd.DataFrame:
    """The pairs of a finished run, columns as in PAIRS; month 1 to 12. FileNotFoundError for one
    that has not finished.
    """
    return pd.read_parquet(_finished(out) / "pairs.parquet").astype({"month": "Int64"})


def choices(out: str | Path) -> pd.DataFrame:
    """Every image of a finished run as in CHOSEN, in order; rotations are float64 (angles, ranked).

    FileNotFoundError for a run that has not finished.
    """
    paths = sorted((_finished(out) / "choose").glob("*.parquet"))
    frame = (
        pa.concat_tables([pq.read_table(path) for path in paths])
        .to_pandas()
        .astype({"chosen": "Int64"})
    )
    turns = len(json.loads((Path(out) / "run.json").read_text())["angles"])
    frame["rotations"] = [
        flat.reshape(turns, -1) if len(flat) else np.empty((turns, 0)) for flat in frame.rotations
    ]
    return frame


def summary(out: str | Path) -> pd.DataFrame:
    """What became of the images of a finished run: what, count. FileNotFoundError as in `pairs`."""
    out, made = _finished(out), pairs(out)
    note = json.loads((out / "run.json").read_text())
    dropped, left_out = (
        pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("dropped", "left_out")
    )
    reasons = Counter((row["stage"], row["reason"]) for row in dropped)
    rows = chain(
        [("images", len(note["images"])), ("pairs", len(made))],
        [("pairs without metadata", (made.metadata == "").sum())],
        [("metadata without an image", note["records"]["without_image"])],
        [
            (f"{stage} dropped: {reason}", reasons[stage, reason])
            for stage, reason in sorted(reasons, reverse=True)
        ],
        [(f"field left out: {row['field']}", row["images"]) for row in left_out],
        [(f"file left out: {why}", len(names)) for why, names in runfolder.left_out(out).items()],
    )
    return pd.DataFrame(rows, columns=["what", "count"])


def _finished(out: str | Path) -> Path:
    if not (Path(out) / "dropped.parquet").is_file():
        raise FileNotFoundError(
            f"{Path(out) / 'dropped.parquet'} does not exist: let rs5m rs3 finish first"
        )
    return Path(out)
