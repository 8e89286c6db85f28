"""Stage 4 of PUB11: copies of a picture, byte by byte or nearly. Chapter: pub11.

What compares pictures reads their signatures, 2.2 kB each, from the finished shards. On a cluster a
task of one worker finds candidates, all workers take a closer look at them, and the driver gets the
pairs that met.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import dedup
from rs5m.data import cluster, runfolder
from rs5m.data.runfolder import shard_path
from rs5m.pub11.stages import LOOKED, arrow, lost

BEYOND = 200_000  # pictures whose signatures are held in memory
PART = 2**13  # candidates that a worker looks at
SIGNED = ("thumb", "colour", "hash")
FACTS = tuple(name for name in LOOKED.names[2:] if name not in SIGNED)
COPIES = pa.schema(
    [
        ("stays", pa.int64()),
        ("first_row", pa.int64()),
        ("second_row", pa.int64()),
        ("score", pa.float64()),
        ("road", pa.string()),
        ("distance", pa.int64()),
        ("proposed", pa.string()),
        ("outcome", pa.string()),
        ("first_url", pa.string()),
        ("second_url", pa.string()),
    ]
)


def pictures(shards: int, out: Path, facts: tuple[str, ...] = FACTS) -> pd.DataFrame:
    """What finished shards know of every URL: key, shard, status and columns of LOOKED but
    signatures.
    """
    columns = ["key", "shard", "status"]
    if not shards:
        return pd.DataFrame(columns=[*columns, *facts], dtype=object)
    fetched = _read(out, "fetch", shards, columns)
    return fetched.merge(_read(out, "look", shards, ["key", *facts]), on="key")


def _read(out: Path, stage: str, shards: int, columns: list[str]) -> pd.DataFrame:
    parts = (pq.read_table(shard_path(out, stage, n), columns=columns) for n in range(shards))
    return pd.concat([part.to_pandas() for part in parts], ignore_index=True)


def valid(found: pd.DataFrame) -> pd.DataFrame:
    """Those of `pictures` that are pictures."""
    return found[(found.status == "ok") & found.invalid.isna()].reset_index(drop=True)


def duplicates(found: pd.DataFrame, shards: int, out: Path) -> list[str | None]:
    """For each valid picture None, duplicate_bytes or duplicate_near; of every set of copies the
    largest stays. Writes copies.parquet.

    Args:
        found: of `valid`, with row and url of each.
        shards: how many there are.
        out: the run's folder.
    """
    reasons = np.full(len(found), None, object)
    first = dedup.exact(found.sha256) == np.arange(len(found))
    reasons[~first] = "duplicate_bytes"
    index = np.flatnonzero(first)
    unique = found.iloc[index]
    pairs = _near(unique.sha256, shards, out)
    groups = dedup.groups_of(pairs, len(unique))
    kept = dedup.keep_largest(groups, unique.width * unique.height, index, unique.bytes)
    runfolder.save(_copies(unique, pairs, groups, kept), out / "copies.parquet")
    reasons[index[~kept]] = "duplicate_near"
    return reasons.tolist()


def _copies(unique: pd.DataFrame, pairs: pd.DataFrame, groups: np.ndarray, kept: np.ndarray):
    """Which pairs joined near-copies, by what score, as a table: the groups in the order of the
    rows that stay, in each the surest pair first. A pair that was cut stands with its first.
    """
    row, url = unique.row.to_numpy(), unique.url.to_numpy()
    stays = np.zeros(len(unique), np.int64)
    stays[groups[kept]] = row[kept]
    links = dedup.links(pairs, len(unique))
    i, j = links["first"].to_numpy(int), links["second"].to_numpy(int)
    links = links.assign(stays=stays[groups[i]], first_row=row[i], second_row=row[j])
    links = links.assign(first_url=url[i], second_url=url[j])
    order = ["stays", "score", "first_row", "second_row"]
    return arrow(links.sort_values(order, ascending=[True, False, True, True]), COPIES)


# ---------------------------------------------------------------- near-copies, on a worker


def _near(sha256: pd.Series, shards: int, out: Path) -> pd.DataFrame:
    """Pairs of near-copies among pictures of these digests, as `dedup.scored_pairs` has them."""
    name = hashlib.sha256("".join(sha256).encode()).hexdigest()[:16]
    path = partial(_near_path, name)  # of other pictures there is nothing
    write = partial(_write_near, path, shards, bool(os.environ.get("RAY_ADDRESS")))
    cluster.work(cluster.Task("near", path, write, 1), {0: range(len(sha256))}, out)
    return pq.read_table(path(out, 0)).to_pandas()


def _near_path(name: str, out: Path, number: int) -> Path:
    return out / "near" / f"{name}.parquet"


def _write_near(path, shards: int, spread: bool, out: Path, number: int, given: range) -> None:
    """Write the pairs among the valid pictures of a run, one of each set of equal bytes."""
    found = valid(pictures(shards, out, ("invalid", "sha256")))
    unique = found[dedup.exact(found.sha256) == np.arange(len(found))]
    if len(unique) != len(given):
        raise lost("near", number, len(unique), len(given), out)
    pairs = pa.Table.from_pandas(_pairs(unique, out, spread), preserve_index=False)
    runfolder.save(pairs.replace_schema_metadata(None), path(out, number))


def _pairs(unique: pd.DataFrame, out: Path, spread: bool) -> pd.DataFrame:
    """Pairs of near-copies as `dedup.scored_pairs` has them. Of more than BEYOND pictures
    signatures and candidates lie in files of the run's folder meanwhile. spread: over a cluster.
    """
    folder = out / ".near" if len(unique) > BEYOND else None
    if folder:
        shutil.rmtree(folder, ignore_errors=True)  # a killed run's
        folder.mkdir()
    room, place = dedup.room(folder, len(unique)), pd.Series(range(len(unique)), unique.key)
    for number in unique.shard.unique().tolist():
        path = shard_path(out, "look", int(number))
        part = pq.read_table(path, columns=["key", *SIGNED]).to_pandas()
        part = part[part.key.isin(place.index)]
        for name in SIGNED:
            values = np.frombuffer(b"".join(part[name]), room[name].dtype)
            room[name][place[part.key]] = values.reshape(len(part), *room[name].shape[1:])
    look = _everywhere(room, folder) if spread else None
    found = dedup.scored_pairs(room, folder=folder, least=dedup.MIN_SCORE, look=look)
    if folder:
        shutil.rmtree(folder)
    return found


def _everywhere(room: dict, folder: Path | None):
    """The closer look at candidates, by all workers of the cluster."""
    if folder:
        for name in SIGNED:
            room[name].base.flush()  # other machines read it
    parts = cluster.spread(_look, folder or room)
    return lambda pair: sum(parts(np.split(pair, range(PART, len(pair), PART))), [])


def _look(held: dict | Path, pair: np.ndarray) -> list[pd.DataFrame]:
    """On a worker: the candidates that are near-copies."""
    room = dedup.opened(held) if isinstance(held, Path) else held
    return dedup.looked(room, room, pair, least=dedup.MIN_SCORE)
