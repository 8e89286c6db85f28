"""Stage 2 on one machine: results are kept on disk as they come, so that no shard waits for
another and a killed run asks again only what was under way.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from rs5m import web
from rs5m.data import runfolder
from rs5m.data.runfolder import shard_path
from rs5m.pub11.stages import FETCHED
from rs5m.web.urls import normalise

CAME = "fetch/.came.sqlite"  # results of shards that are not whole yet
TABLE = """
pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = off;
create table if not exists came
(key text primary key, shard integer, status text, http_status integer, content blob);
create index if not exists shards on came (shard);
"""


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
    (out / "fetch").mkdir(exist_ok=True)
    with _came(out / CAME) as came:
        known = _known(came, set(todo.shard))
        left = Counter(todo.shard[~todo.key.isin(known)])
        for shard in todo.shard.unique():
            if not left[shard]:  # its last result came just before a kill
                _finish(came, todo, int(shard), out)
        asked = todo[~todo.key.isin(known)].reset_index(drop=True)
        results = web.fetch_many(asked.key, limits, workers, window=2 * workers)
        with contextlib.closing(results), _bar(todo, asked) as bar:
            for place, got in results:
                key, shard = asked.key[place], int(asked.shard[place])
                row = (key, shard, got.status, got.http_status, got.content)
                came.execute("insert into came values (?, ?, ?, ?, ?)", row)
                if progress:
                    progress(key, got)
                bar.add(int(asked.pairs[place]), got)
                left[shard] -= 1
                if not left[shard]:
                    _finish(came, todo, shard, out)


def content(out: Path, rows: pd.DataFrame) -> list[bytes | None]:
    """The downloaded bytes of rows of kept or dropped.parquet, None where nothing came."""
    keys, found = [normalise(url) for url in rows.url], {}
    for number in rows.shard.dropna().unique():
        path = shard_path(Path(out), "fetch", int(number))
        table = pq.read_table(
            path, columns=["key", "content"], filters=[("key", "in", list(set(keys) - {None}))]
        )
        found |= dict(zip(table["key"].to_pylist(), table["content"].to_pylist(), strict=True))
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


@contextlib.contextmanager
def _came(path: Path) -> Iterator[sqlite3.Connection]:
    """The table of what has come, empty where a power cut has damaged it; removed at the end."""
    came = sqlite3.connect(path, isolation_level=None)
    try:
        try:
            came.executescript(TABLE).execute("select count(*) from came")
        except sqlite3.DatabaseError:
            came.close()
            _remove(path)
            came = sqlite3.connect(path, isolation_level=None)
            came.executescript(TABLE)
        yield came
    except sqlite3.OperationalError as error:
        raise OSError(
            f"{path} could not be written ({error}): free some space, then run it again"
        ) from error
    finally:
        came.close()
    _remove(path)


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _known(came: sqlite3.Connection, shards: set) -> set[str]:
    """The URLs that need not be asked again; rows of finished shards are forgotten."""
    for (shard,) in came.execute("select distinct shard from came").fetchall():
        if shard not in shards:
            came.execute("delete from came where shard = ?", (shard,))
    return {key for (key,) in came.execute("select key from came")}


def _finish(came: sqlite3.Connection, urls: pd.DataFrame, shard: int, out: Path) -> None:
    """Keep a whole shard in the order of its URLs."""
    found = came.execute(
        "select key, shard, status, http_status, content from came where shard = ?", (shard,)
    )
    rows = {row[0]: dict(zip(FETCHED.names, row, strict=True)) for row in found}
    table = pa.Table.from_pylist([rows[key] for key in urls.key[urls.shard == shard]], FETCHED)
    runfolder.keep(table, out, "fetch", shard)
    came.execute("delete from came where shard = ?", (shard,))
