"""What PUB11's workers do to one batch of a shard: fetch it, or look at it. Loaded once per worker.
Chapter: pub11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock

import daft
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import dedup, web
from rs5m.data import images
from rs5m.data.runfolder import shard_path

STAGES = ("keywords", "download", "invalid", "duplicates", "outliers")
KEY = [("key", pa.string()), ("shard", pa.int64())]
FETCHED = pa.schema(
    [*KEY, ("status", pa.string()), ("http_status", pa.int64()), ("content", pa.large_binary())]
)
BLOB, REAL = pa.large_binary(), pa.float64()
LOOKED = pa.schema(
    [
        *KEY,
        ("invalid", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("thumb", BLOB),
        ("colour", BLOB),
        ("hash", BLOB),
        ("score", REAL),
        ("probability", REAL),
    ]
)
BATCH = 128  # decoded pictures held at a time


def struct(schema: pa.Schema) -> pa.StructType:
    """The Arrow type of a worker's answer: the columns after key and shard."""
    return pa.struct(list(schema)[2:])


def arrow(frame: pd.DataFrame, fields: Sequence) -> pa.Table:
    """The columns of a frame that `fields`, names and types or a schema, have, in their order."""
    schema = pa.schema(fields)
    table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
    return table.replace_schema_metadata(None)


def fetch_shard(
    out: Path, number: int, urls: list[str], limits: web.Limits, workers: int
) -> pa.Table:
    """Stage 2 on a cluster: the URLs of a shard to FETCHED.

    Args:
        out: the folder of the run; not needed here.
        number: of the shard.
        urls: of the shard.
        limits: of each request.
        workers: requests at a time.
    """
    rows = [
        {"key": urls[place], "shard": number, "status": got.status}
        | {"http_status": got.http_status, "content": got.content}
        for place, got in sorted(dict(web.fetch_many(urls, limits, workers)).items())
    ]
    return pa.Table.from_pylist(rows, FETCHED)


def look_shard(out: Path, number: int, urls: list[str], judge) -> pa.Table:
    """Stage 3 on a cluster: a shard of fetch/ to LOOKED; ValueError where it is not whole.

    Args:
        out: the folder of the run.
        number: of the shard.
        urls: that the shard must hold, in this order.
        judge: see `rs5m.pub11.outcome.Judge`; loaded once a process.
    """
    path = shard_path(out, "fetch", number)
    held, rows = pq.read_table(path, columns=["key", "content"]), []
    if held["key"].to_pylist() != urls:  # a shard that was changed
        raise lost("look", number, len(held), len(urls), out)
    values = _loaded(judge, str(out))
    for some in held.to_batches(BATCH):
        rows += look(some["content"].to_pylist(), values)
    keys = [{"key": url, "shard": number} for url in urls]
    return pa.Table.from_pylist([a | b for a, b in zip(keys, rows, strict=True)], LOOKED)


def lost(stage: str, number: int, here: int, wanted: int, out: Path) -> ValueError:
    """The error of a shard that lacks rows.

    Args:
        stage, number: which shard.
        here, wanted: its rows, and how many it should have.
        out: the folder of the run.
    """
    return ValueError(
        f"{stage} {number:05d} has {here} of {wanted} rows in {out}: run it again, and if that "
        "repeats, name a new folder"
    )


_LOADING = Lock()


def _loaded(judge, out: str):
    """Once per process: Ray and Daft come with each shard, and two threads may come at once."""
    with _LOADING:  # of two threads that find a cache empty, both would load
        return _cached(judge, out)


@cache
def _cached(judge, out: str):
    return judge.load(Path(out))


@daft.cls(use_process=False, max_concurrency=None)
class Looker:
    """Stage 3 and what stages 4 and 5 need: content to validity, size, signature, score and
    probability.
    """

    def __init__(self, judge, out: str):
        self.values = _loaded(judge, out)

    @daft.method.batch(return_dtype=daft.DataType.from_arrow_type(struct(LOOKED)), batch_size=BATCH)
    def go(self, contents):
        """A batch of files to structs of LOOKED."""
        return daft.Series.from_arrow(
            pa.array(look(contents.to_pylist(), self.values), struct(LOOKED))
        )


def look(contents: list[bytes | None], values) -> list[dict]:
    """One row per file: the reason why it is invalid, or its size, signature and `values` (score,
    probability).
    """
    read = [images.read(data) if data is not None else (None, None) for data in contents]
    rows = [
        _facts(data, image, reason) for data, (image, reason) in zip(contents, read, strict=True)
    ]
    valid = [i for i, (image, _) in enumerate(read) if image is not None]
    if valid:
        pictures = [read[i][0] for i in valid]
        signature = dedup.signatures(pictures)
        score, probability = values([np.array(p) for p in pictures])
        for j, i in enumerate(valid):
            rows[i] |= {name: signature[name][j].tobytes() for name in ("thumb", "colour", "hash")}
            rows[i] |= {"score": float(score[j]), "probability": float(probability[j])}
    return rows


def _facts(data: bytes | None, image, reason: str | None) -> dict:
    width, height = image.size if image else (None, None)
    facts = {
        "invalid": reason,
        "width": width,
        "height": height,
        "bytes": len(data) if data is not None else None,
    }
    return facts | {"sha256": hashlib.sha256(data).hexdigest() if data is not None else None}
