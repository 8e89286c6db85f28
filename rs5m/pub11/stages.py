"""What PUB11's workers do to one batch of a shard: fetch it, or look at it. Loaded once per worker.
Chapter: pub11.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from threading import Lock

import daft
import numpy as np
import pyarrow as pa

from rs5m import dedup, web
from rs5m.data import images

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


@daft.cls(use_process=False, max_concurrency=None)
class Fetcher:
    """Stage 2 on a cluster: URLs to status and content, a shard at a time."""

    def __init__(self, limits: web.Limits, workers: int = 64):
        self.limits, self.workers = limits, workers

    @daft.method.batch(return_dtype=daft.DataType.from_arrow_type(struct(FETCHED)))
    def go(self, urls):
        """A batch of URLs to structs of FETCHED."""
        found = dict(web.fetch_many(urls.to_pylist(), self.limits, self.workers))
        rows = [
            {"status": f.status, "http_status": f.http_status, "content": f.content}
            for _, f in sorted(found.items())
        ]
        return daft.Series.from_arrow(pa.array(rows, struct(FETCHED)))


_LOADING = Lock()


def _loaded(judge, out: str):
    """Once per process: Ray makes a new Looker for each wave of shards, and may make two of them at
    once.
    """
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
