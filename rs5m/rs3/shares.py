"""A stage of RS3 on a Ray cluster: a task is a share of the shards, for which a worker loads the
models once. Chapter: rs3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa

from rs5m.data import cluster, runfolder
from rs5m.data.runfolder import shard_path

EACH = 4  # shares for each place of the cluster: a slow machine holds up no more than one


def work(stage: str, load: Callable, do: Callable, sizes: Mapping[int, int], out: Path) -> None:
    """Make shards on the cluster that RAY_ADDRESS names; a task takes one of its GPUs, or a core
    where it has none. Errors as of `cluster.work`.

    Args:
        stage: the folder of the shards.
        load: returns the stage's models, on the worker.
        do: those and a shard's number to its table.
        sizes: the shards that are missing, in order, and how many images each has.
        out: the run's folder, held by this process.
    """
    numbers, path = list(sizes), partial(_path, stage)
    n = min(len(numbers), EACH * int(cluster.places(1, gpu=True)))
    shares = {share[-1]: share for share in (numbers[i::n] for i in range(n))}
    task = cluster.Task(stage, path, partial(_write, stage, load, do, shares), 1, gpu=True)
    given = {last: range(sum(map(sizes.get, share))) for last, share in shares.items()}
    cluster.work(task, given, out, shares)


def _path(stage: str, out: Path, number: int) -> Path:
    return shard_path(out, stage, number)


def _write(
    stage: str,
    load: Callable,
    do: Callable[[object, int], pa.Table],
    shares: Mapping[int, list[int]],
    out: Path,
    number: int,
    given: range,
) -> None:
    """On a worker: what is missing of a share, its last shard at the end."""
    models = load()
    for one in runfolder.missing(out, stage, shares[number]):
        runfolder.save(do(models, one), shard_path(out, stage, one))
