"""PUB11: from listed web pairs to clean remote-sensing pairs, parquet to parquet, with a reason for
every drop.

Paper: PUB11. Chapter: pub11. The stages in order are `STAGES`. The work is cut into shards of URLs;
a finished shard of `fetch/` or `look/` is a parquet file under its final name and is never made
again, so a run that is killed at any moment and started again ends with the same bytes. With
RAY_ADDRESS set, shards are worked on by that Ray cluster (the output folder is then the driver's;
contents pass through it).

* `row` is a pair's position in the input, files in the order of their names; outputs are sorted by
  it
* [NOT IMPLEMENTED] duplicates beyond one machine's memory: about 2.2 kB an image are held at once
"""

from __future__ import annotations

import os
from pathlib import Path

import daft
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from rs5m import dedup, keywords, web
from rs5m.book.judge import Model
from rs5m.data import records
from rs5m.pub11.input import claim, digest, inputs, save, select, shards
from rs5m.pub11.stages import FETCHED, LOOKED, Fetcher, Looker
from rs5m.web.urls import normalise

STAGES = ("keywords", "download", "invalid", "duplicates", "outliers")
COLUMNS = (
    "pairs_listed",
    "after_keyword_filter",
    "downloaded",
    "invalid_removed",
    "duplicate_removed",
    "outlier_removed",
    "remaining",
)
SHARD = 512  # unique URLs of one shard: what a killed run may have to do again
TAR = 1000  # pairs of one webdataset shard


def run(
    pairs: str | list,
    out: str | Path,
    model: Model | None = None,
    limits: web.Limits = web.LIMITS,
    shard_size: int = SHARD,
) -> Path:
    """All stages from `pairs` (a glob or a list of parquet files with url and text) into the folder
    `out`.

    Leaves kept.parquet, dropped.parquet (stage, reason), unmatched/ (rows that stage 1 stops),
    attrition.parquet and pub11-train-NNNN.tar; a source is the column `source`, else the file's
    stem. Resumes an interrupted run. ValueError or FileNotFoundError, before any work, for
    unreadable input and for the folder of another run. Chapter: pub11.
    """
    out, model = Path(out), model or Model()
    paths = inputs(pairs)
    claim(
        out,
        paths,
        {
            "model": model.identity(),
            "limits": repr(limits),
            "shard": shard_size,
            "keywords": digest(keywords.pattern().encode()),
            "duplicates": [dedup.MAX_DISTANCE, dedup.MIN_SCORE],
        },
    )
    runner()
    if not (out / "dropped.parquet").is_file():
        model.prepare(out)
        hits, listed = select(paths, out)
        urls = shards(hits, shard_size)
        work("fetch", urls, out, Fetcher(limits), FETCHED)
        work("look", urls, out, Looker(model, str(out)), LOOKED)
        finish(judge(hits, urls, out, model), listed, out)
    return out


def runner() -> None:
    """Daft's default is the native runner; where RAY_ADDRESS names a cluster, that one is used."""
    os.environ.setdefault(
        "DAFT_PROGRESS_BAR", "0"
    )  # `work` counts shards; Daft's own fills a notebook with lines
    if os.environ.get("RAY_ADDRESS"):
        daft.set_runner_ray(os.environ["RAY_ADDRESS"], noop_if_initialized=True)


# ---------------------------------------------------------------- stages 2 and 3, and what later
# stages look at


def work(stage: str, urls: pd.DataFrame, out: Path, worker, schema: pa.Schema) -> None:
    """Run `worker` over the shards that are not done, one Daft dataframe a wave; log.txt tells
    which were done.

    A wave is one shard on the native runner and one per core on Ray.
    """
    folder = out / stage
    folder.mkdir(exist_ok=True)
    numbers = [int(n) for n in urls.shard.unique()]
    todo = [n for n in numbers if not (folder / f"{n:05d}.parquet").is_file()]
    width = _cores() if os.environ.get("RAY_ADDRESS") else 1
    for start in tqdm(range(0, len(todo), width), desc=stage, unit="wave", disable=not todo):
        wave = todo[start : start + width]
        if stage == "fetch":
            frame = daft.from_arrow(
                pa.Table.from_pandas(urls[urls.shard.isin(wave)], preserve_index=False)
            )
        else:
            frame = daft.read_parquet([str(out / "fetch" / f"{n:05d}.parquet") for n in wave])
        frame = frame.repartition(len(wave), "shard") if width > 1 else frame
        argument = daft.col("key" if stage == "fetch" else "content")
        frame = frame.select("key", "shard", worker.go(argument).alias("got"))
        frame = frame.select(
            "key", "shard", *(daft.col("got").get(n).alias(n) for n in schema.names[2:])
        )
        table = pa.Table.from_pylist(frame.to_pylist(), schema)
        for number in wave:
            part = table.filter(pc.equal(table["shard"], number))
            order = {key: i for i, key in enumerate(urls.key[urls.shard == number])}
            if len(part) != len(order):  # Daft 0.7 sometimes swallows the error of a damaged file
                lost = f"{stage} {number:05d} has {len(part)} of {len(order)} rows"
                raise ValueError(
                    f"{lost} in {out}: run it again, and if that repeats, name a new folder"
                )
            part = part.take(
                np.argsort([order[key] for key in part["key"].to_pylist()], kind="stable")
            )
            save(part, folder / f"{number:05d}.parquet")
            with (out / "log.txt").open("a") as log:
                log.write(f"{stage} {number:05d}\n")


def _cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


# ---------------------------------------------------------------- stages 4 and 5, and the tables


def judge(hits: pd.DataFrame, urls: pd.DataFrame, out: Path, model: Model) -> pd.DataFrame:
    """Every hit with stage and reason (None: kept), sorted by row; picture facts from the finished
    shards.
    """
    pictures = _pictures(urls, out)
    table = hits.merge(
        pictures.drop(columns=["thumb", "colour", "hash"]), on="key", how="left"
    ).sort_values("row")
    table["status"] = table.status.fillna("bad_url")
    table["stage"], table["reason"] = None, None
    _drop(table, table.status != "ok", "download", table.status)
    _drop(table, table.invalid.notna(), "invalid", table.invalid)
    pictures = pictures[(pictures.status == "ok") & pictures.invalid.isna()].reset_index(drop=True)
    twin = dict(zip(pictures.key, _duplicates(pictures), strict=True))
    again = table.key.duplicated() & table.reason.isna()
    _drop(table, again, "duplicates", "duplicate_url")
    _drop(table, table.key.map(twin).notna(), "duplicates", table.key.map(twin))
    outlier = pd.Series(
        model.reasons(table.score.to_numpy(float), table.probability.to_numpy(float), out),
        table.index,
    )
    _drop(table, outlier.notna(), "outliers", outlier)
    return table.reset_index(drop=True)


def _drop(table: pd.DataFrame, which: pd.Series, stage: str, reason) -> None:
    """Set stage and reason where `which` holds and no earlier stage has dropped the row."""
    which = which & table.reason.isna()
    table.loc[which, "stage"] = stage
    table.loc[which, "reason"] = reason[which] if isinstance(reason, pd.Series) else reason


def _pictures(urls: pd.DataFrame, out: Path) -> pd.DataFrame:
    numbers = [int(n) for n in urls.shard.unique()]
    columns = ["key", "shard", "status"]
    fetched = [
        pq.read_table(out / "fetch" / f"{n:05d}.parquet", columns=columns).to_pandas()
        for n in numbers
    ]
    looked = [pq.read_table(out / "look" / f"{n:05d}.parquet").to_pandas() for n in numbers]
    if not numbers:
        return pd.DataFrame(columns=[*columns, *LOOKED.names[2:]], dtype=object)
    return pd.concat(fetched, ignore_index=True).merge(
        pd.concat(looked).drop(columns="shard"), on="key"
    )


def _duplicates(pictures: pd.DataFrame) -> list[str | None]:
    """Per valid picture None, duplicate_bytes or duplicate_near; of every set of copies the largest
    stays.
    """
    n = len(pictures)
    reasons = np.full(n, None, object)
    if not n:
        return []
    same = dedup.exact(pictures.sha256)
    first = same == np.arange(n)
    reasons[~first] = "duplicate_bytes"
    index = np.flatnonzero(first)
    unique = pictures.iloc[index]
    signatures = {
        "thumb": np.stack(
            [np.frombuffer(b, np.float16).reshape(dedup.SIDE, dedup.SIDE) for b in unique.thumb]
        ),
        "colour": np.stack([np.frombuffer(b, np.float32).reshape(2, 3) for b in unique.colour]),
        "hash": np.stack([np.frombuffer(b, np.uint64) for b in unique.hash]),
    }
    kept = dedup.keep_largest(
        dedup.groups(signatures), unique.width * unique.height, index, unique.bytes
    )
    reasons[index[~kept]] = "duplicate_near"
    return reasons.tolist()


def finish(table: pd.DataFrame, listed: dict, out: Path) -> None:
    """Shards first, then kept, attrition and, as the mark of a whole run, dropped.parquet."""
    facts = [
        "row",
        "source",
        "url",
        "text",
        "shard",
        "width",
        "height",
        "sha256",
        "score",
        "probability",
    ]
    table["shard"] = table.shard.astype(
        "Int64"
    )  # of fetch/, where the bytes are; none for a hopeless URL
    kept = table[table.reason.isna()].reset_index(drop=True)
    kept["tar"] = [f"pub11-train-{i // TAR:04d}.tar" for i in range(len(kept))]
    for name, part in kept.groupby("tar"):
        _whole_tar(out / name, part, out)
    save(_arrow(kept[[*facts, "tar"]]), out / "kept.parquet")
    save(_arrow(_attrition(table, listed)), out / "attrition.parquet")
    dropped = table[table.reason.notna()]
    save(
        _arrow(dropped[["row", "source", "url", "text", "stage", "reason", *facts[4:]]]),
        out / "dropped.parquet",
    )


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _whole_tar(path: Path, part: pd.DataFrame, out: Path) -> None:
    contents = content(out, part)
    rows = zip(part.row, contents, part.text, strict=True)
    try:
        records.write(
            path, (records.Record(data, f"{row}.{_ending(data)}", text) for row, data, text in rows)
        )
    except OSError as error:
        path.with_suffix(".tar.tmp").unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror}): free space, then run it again"
        ) from error


def _ending(data: bytes) -> str:
    starts = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp"}
    return starts.get(data[:2], "tif")


def content(out: Path, rows: pd.DataFrame) -> list[bytes | None]:
    """The downloaded bytes of rows of kept or dropped.parquet, None where nothing came. Chapter:
    pub11.
    """
    keys, found = [normalise(url) for url in rows.url], {}
    for number in rows.shard.dropna().unique():
        path = Path(out) / "fetch" / f"{int(number):05d}.parquet"
        table = pq.read_table(
            path, columns=["key", "content"], filters=[("key", "in", list(set(keys) - {None}))]
        )
        found |= dict(zip(table["key"].to_pylist(), table["content"].to_pylist(), strict=True))
    return [found.get(key) for key in keys]


def _attrition(table: pd.DataFrame, listed: dict) -> pd.DataFrame:
    rows = []
    for source in sorted(listed):
        mine = table[table.source == source]
        stage = mine.stage.value_counts()
        removed = [int(stage.get(s, 0)) for s in STAGES[2:]]
        left = len(mine) - int(stage.get("download", 0))
        rows.append(
            (
                source,
                listed[source][0],
                len(mine),
                left,
                *removed,
                left - sum(removed),
                listed[source][1],
            )
        )
    frame = pd.DataFrame(rows, columns=["source", *COLUMNS, "no_text"])
    total = {"source": "total"} | {name: int(frame[name].sum()) for name in frame.columns[1:]}
    return pd.concat([frame, pd.DataFrame([total])], ignore_index=True).astype(
        dict.fromkeys([*COLUMNS, "no_text"], int)
    )


def attrition(out: str | Path) -> pd.DataFrame:
    """The attrition table of a finished run: source and the paper's columns; no_text of those not
    passing stage 1.

    FileNotFoundError for a folder whose run has not finished. Chapter: pub11.
    """
    path = Path(out) / "attrition.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: let rs5m pub11 finish first")
    return pd.read_parquet(path)
