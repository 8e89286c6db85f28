"""Stage 2 on one machine: results are kept on disk as they come, so that no shard waits for
another and a killed run asks again only what was under way.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from rs5m import web
from rs5m.data import runfolder
from rs5m.data.runfolder import shard_path
from rs5m.pub11.arrivals import Arrivals
from rs5m.web.urls import normalise


def download(
    urls: pd.DataFrame,
    limits: web.Limits,
    out: Path,
    workers: int = 64,
    progress: Callable[[str, web.Fetched], None] | None = None,
) -> None:
    """Make the shards of fetch/ that are missing.

    Args:
        urls: key (a normalised URL), shard and pairs of all URLs.
        limits: what one URL may cost.
        out: the run's folder, held by this process.
        workers: requests open at a time; a killed run asks at most twice as many URLs again.
        progress: called with each URL and its result as it comes, in this thread; not for results
            of an earlier run.
    """
    todo = urls[urls.shard.isin(runfolder.missing(out, "fetch", urls.shard.unique().tolist()))]
    wanted = {int(n): keys.tolist() for n, keys in todo.groupby("shard").key}
    came = _arrived(out, wanted)
    known = todo.key.isin({key for one in came.values() for key in one.rows})
    left, asked = Counter(todo.shard[~known]), todo[~known]
    keys, shards, pairs = asked.key.tolist(), asked.shard.tolist(), asked.pairs.tolist()
    for shard in sorted(came.keys() - left):  # its last result came just before a kill
        _finish(came.pop(shard), wanted[shard], shard, out)
    results = web.fetch_many(keys, limits, workers, window=2 * workers)
    with contextlib.closing(results), _bar(todo, asked) as bar:
        for place, got in results:
            shard = shards[place]
            came[shard].add(keys[place], got)
            if progress:
                progress(keys[place], got)
            bar.add(pairs[place], got)
            left[shard] -= 1
            if not left[shard]:
                _finish(came.pop(shard), wanted[shard], shard, out)


def _arrived(out: Path, shards: Iterable[int]) -> dict[int, Arrivals]:
    """What an earlier run has of every shard; files of finished shards are removed."""
    folder = out / "fetch"
    folder.mkdir(exist_ok=True)
    came = {n: Arrivals(folder / f".{n:05d}.came") for n in shards}
    for path in set(folder.glob(".*.came")) - {one.path for one in came.values()}:
        path.unlink()
    return came


def _finish(came: Arrivals, keys: list[str], shard: int, out: Path) -> None:
    """Keep a whole shard in the order of its URLs."""
    runfolder.keep(came.table(keys, shard), out, "fetch", shard)
    came.path.unlink()


def content(out: Path, rows: pd.DataFrame) -> list[bytes | None]:
    """The downloaded bytes of rows of kept or dropped.parquet, None where nothing came."""
    keys, found = [normalise(url) for url in rows.url], {}
    wanted = set(keys) - {None}
    for number in rows.shard.dropna().unique():
        with pq.ParquetFile(shard_path(Path(out), "fetch", int(number))) as file:
            for group in range(file.num_row_groups):
                some = file.read_row_group(group, ["key"])["key"].to_pylist()
                if wanted & set(some):  # the others' bytes are not read
                    held = file.read_row_group(group, ["content"])["content"]
                    pairs = zip(some, held, strict=True)
                    found |= {key: value.as_py() for key, value in pairs if key in wanted}
    return [found.get(key) for key in keys]


class _Bar(tqdm):
    """Progress in pairs, with the share of failures and the bytes of this run."""

    came = failed = size = 0

    def add(self, pairs: int, got: web.Fetched) -> None:
        """Count a result that stands for so many pairs."""
        self.came += pairs
        self.failed += pairs * (got.status != "ok")
        self.size += len(got.content or b"")
        said = f"{self.failed / self.came:.0%} failed, {self.size / 1e6:,.1f} MB"
        self.set_postfix_str(said, refresh=False)
        self.update(pairs)


def _bar(todo: pd.DataFrame, asked: pd.DataFrame) -> _Bar:
    """A bar of all pairs, at those that an earlier run has; it tells the time left by the mean rate
    of the last minutes, since single answers come in bursts.
    """
    total, left = int(todo.pairs.sum()), int(asked.pairs.sum())
    made = {"initial": total - left, "miniters": 1, "smoothing": 0.02, "disable": not left}
    return _Bar(total=total, desc="download", unit=" pairs", **made)
