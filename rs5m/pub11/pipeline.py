"""PUB11: from listed web pairs to clean remote-sensing pairs, parquet to parquet, with a reason for
every drop.

Paper: PUB11. Chapter: pub11. The stages in order are `STAGES`. The work is divided into shards of
URLs (`rs5m.data.runfolder`). With RAY_ADDRESS set, workers of that Ray cluster make and write the
shards (`rs5m.data.cluster`): its machines then share the disk of the output folder.

A run's folder holds kept.parquet, dropped.parquet (stage, reason), copies.parquet (which pair
joined near-copies, by what score), unmatched/ (rows that stage 1 stops), attrition.parquet,
keywords.parquet (what each keyword found), left_out.json (files and rows of the input that were not
read), pub11-train-NNNN.tar, a card (README.md, croissant.json) and report.html, a page of samples.

* `row` is a pair's position in the input, files in the order of their names; outputs are sorted by
  it
* near-duplicates of more than 200,000 images are looked for on disk; what is held at once are URLs,
  texts, digests and scores
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import daft
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rs5m import dedup, files, keywords, web
from rs5m.data import cluster, images, records, runfolder
from rs5m.data.runfolder import shard_path
from rs5m.pub11 import card, curation, report
from rs5m.pub11.curation import Curation
from rs5m.pub11.download import download
from rs5m.pub11.input import inputs, listed, select, shards, unparsed
from rs5m.pub11.outcome import Judge, decide, finish
from rs5m.pub11.stages import LOOKED, Looker, fetch_shard, look_shard, lost
from rs5m.pub11.words import check_labels, save_words

SHARD = 512  # unique URLs of one shard: what a killed run may have to do again
FETCH_CORES = 0.25  # of a worker, for a shard whose hosts are waited for


def run(
    pairs: str | Path | list,
    out: str | Path,
    judge: Judge,
    limits: web.Limits = web.LIMITS,
    shard_size: int = SHARD,
    workers: int = 64,
    progress: Callable[[str, web.Fetched], None] | None = None,
    terms: keywords.Keywords | None = None,
    labels: str = "",
    url_column: str = "",
    caption_column: str = "",
    layout: str = records.LAYOUTS[0],
    asked: Curation = curation.NOTHING,
) -> Path:
    """All stages from listed pairs into the folder `out`; resumes an interrupted run.

    Writes the files that the module's head names. ValueError, FileNotFoundError or OSError, before
    any work, for unreadable input, another run's folder and one that is in use.

    Args:
        pairs: a folder, a pattern or a list of tables with url, text and perhaps source.
        out: a new folder, or one of an interrupted run.
        judge, limits: what finds the outliers; what one URL may cost.
        shard_size, workers: unique URLs of one shard; requests open at a time.
        progress: called with each URL and its result as it comes, unless Ray does the work.
        terms, labels: keywords, None for the package's; the column of which pairs are right.
        url_column, caption_column: names of the input's columns, guessed where they are not given.
        layout, asked: names of members, one of `records.LAYOUTS`; filters beyond the paper.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    cluster.check()
    out, columns, terms = Path(out), (url_column, caption_column), terms or keywords.choose()
    paths = inputs(pairs, *columns)
    check_labels(paths if labels else [], labels)
    facts = _facts(judge, limits, shard_size, terms, paths, columns, layout, asked)
    fetch = partial(_fetch, limits=limits, workers=workers, progress=progress)
    with runfolder.claim(out, facts, notes=_notes(judge, asked)):
        if not (out / "dropped.parquet").is_file():
            judge.prepare(out)
            hits, counts = select(paths, out, *columns, terms)
            curation.check_sources(asked, counts)
            runfolder.save_left_out(out, listed(pairs)[1] | unparsed(paths, out))
            save_words(terms, hits, paths, labels, out)
            table = _pictured(hits, shards(hits, shard_size), out, judge, fetch)
            finish(curation.apply(asked, table, out), counts, out, layout, asked)
        _tell(out, paths, columns)
    return out


def _tell(out: Path, paths: list[Path], columns: tuple[str, str]) -> None:
    """The card and, last, the page of samples, unless they are there."""
    if not (out / report.PAGE).is_file():
        card.write(out)
        report.write(out, paths, *columns)


def _notes(judge: Judge, asked: Curation) -> dict:
    """What run.json says beside the facts."""
    about = {"judge": judge.about()} if hasattr(judge, "about") else {}
    about |= {"curation": words} if (words := asked.about()) else {}
    return {"images": images.RULE} | about


def _facts(
    judge: Judge,
    limits: web.Limits,
    shard_size: int,
    terms: keywords.Keywords,
    paths: list[Path],
    columns: tuple[str, str],
    layout: str,
    asked: Curation,
) -> dict:
    """What decides the outcome, for run.json."""
    records.check_layout(layout)
    facts = {
        "model": judge.identity(),
        "limits": repr(replace(limits, per_host=1)),  # it changes no outcome
        "shard": shard_size,
        "keywords": terms.digest(),
        "duplicates": [dedup.MAX_DISTANCE, dedup.MIN_SCORE, dedup.VERSION],
        "layout": layout,
        "inputs": [[path.name, files.sha256(path)] for path in paths],
    }
    facts |= {"columns": columns} if any(columns) else {}
    return facts | ({"curation": beyond} if (beyond := asked.identity()) else {})


def _pictured(
    hits: pd.DataFrame, urls: pd.DataFrame, out: Path, judge: Judge, fetch: Callable
) -> pd.DataFrame:
    """Stages 2 to 5: every hit with stage and reason."""
    fetch(urls, out)
    _look(urls, out, judge)
    (out / report.PAGE).unlink(missing_ok=True)  # of a folder whose tables were removed
    return decide(hits, urls, out, judge)


def _fetch(
    urls: pd.DataFrame, out: Path, limits: web.Limits, workers: int, progress: Callable | None
) -> None:
    if os.environ.get("RAY_ADDRESS"):
        fetch = partial(fetch_shard, limits=limits, workers=workers)
        cluster.work(cluster.table("fetch", fetch, FETCH_CORES), _keys(urls), out)
    else:
        download(urls, limits, out, workers, progress)


# ---------------------------------------------------------------- stages 2 and 3, and what later
# stages look at


def _look(urls: pd.DataFrame, out: Path, judge: Judge) -> None:
    """Make the shards of look/ that are missing: a Daft dataframe each, or a task each."""
    if os.environ.get("RAY_ADDRESS"):
        cluster.work(cluster.table("look", partial(look_shard, judge=judge), 1), _keys(urls), out)
        return
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # ours counts shards
    looker = Looker(judge, str(out))

    def make(number: int) -> pa.Table:
        path = shard_path(out, "fetch", number)
        frame = daft.from_arrow(pq.read_table(path, columns=["key", "shard", "content"]))
        answer = looker.go(daft.col("content")).alias("answer")
        fields = (daft.col("answer").get(name).alias(name) for name in LOOKED.names[2:])
        frame = frame.select("key", "shard", answer).select("key", "shard", *fields)
        table = pa.Table.from_pylist(frame.to_pylist(), LOOKED)
        return _part(table, number, "look", urls, out)

    runfolder.work(out, "look", urls.shard.value_counts(sort=False).to_dict(), make)


def _keys(urls: pd.DataFrame) -> dict[int, list[str]]:
    """The URLs of each shard."""
    return {int(number): keys.tolist() for number, keys in urls.groupby("shard").key}


def _part(table: pa.Table, number: int, stage: str, urls: pd.DataFrame, out: Path) -> pa.Table:
    """The rows of one shard in its order; ValueError where some are lost."""
    part = table.filter(pc.equal(table["shard"], number))
    order = {key: i for i, key in enumerate(urls.key[urls.shard == number])}
    if len(part) != len(order):  # a shard of fetch/ that was changed
        raise lost(stage, number, len(part), len(order), out)
    places = [order[key] for key in part["key"].to_pylist()]
    return part.take(np.argsort(places, kind="stable"))
