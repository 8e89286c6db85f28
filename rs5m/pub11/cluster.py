"""Shards of a stage on a Ray cluster: the worker that makes a shard writes it, and the driver sees
its number alone. Chapter: pub11.

* the run's folder has to be on a disk that every machine of the cluster has under the same path
* there are no waves: a shard that waits for a slow host holds up no other
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from rs5m import __version__
from rs5m.data import runfolder
from rs5m.data.runfolder import shard_path

AHEAD = 2  # tasks for each that can run, so that no worker waits for the driver


class Task(NamedTuple):
    """What a stage does to a shard on a cluster: its folder; a function from the run's folder, a
    shard's number and its URLs to the table; the share of a core that one shard takes.
    """

    stage: str
    make: Callable[[Path, int, list[str]], pa.Table]
    cores: float


def work(task: Task, urls: dict[int, list[str]], out: Path) -> None:
    """Make the shards that are missing, on the cluster that RAY_ADDRESS names.

    OSError in one sentence where a worker fails, has another version of this package, or does not
    write where this process reads.

    Args:
        task: the stage.
        urls: of each shard, in order.
        out: the run's folder, held by this process.
    """
    todo = deque(runfolder.missing(out, task.stage, urls))
    if not todo:
        return
    import ray

    (out / task.stage).mkdir(exist_ok=True)
    address = os.environ["RAY_ADDRESS"]
    ray.init(address, ignore_reinit_error=True, log_to_driver=False)
    cores = ray.cluster_resources().get("CPU", 1)
    remote = ray.remote(num_cpus=task.cores, max_retries=3)(_write)
    make, running = ray.put(task.make), {}
    total = sum(len(urls[number]) for number in todo)
    with tqdm(total=total, desc=task.stage, unit=" images", miniters=1) as bar:
        while todo or running:
            while todo and len(running) < AHEAD * max(1, cores / task.cores):
                number = todo.popleft()
                given = make, task.stage, str(out.resolve()), number, urls[number], __version__
                running[remote.remote(*given)] = number
            (done, *_), _ = ray.wait(list(running))
            number = running.pop(done)
            _came(ray, done, f"{task.stage} {number:05d}", address)
            if not shard_path(out, task.stage, number).is_file():
                raise OSError(
                    f"a worker of {address} wrote {task.stage} {number:05d} to a disk of its own: "
                    f"name a folder that all machines share in place of {out}"
                )
            runfolder.log(out, task.stage, number)
            bar.update(len(urls[number]))


def _came(ray, done, what: str, address: str) -> None:
    """Wait for a task; its own errors pass, those of its worker are told."""
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError | OSError):
            raise error.cause from None
        raise _failed(what, address, error.cause) from error
    except ray.exceptions.RayError as error:
        raise _failed(what, address, error) from error


def _failed(what: str, address: str, error: BaseException) -> OSError:
    said = (str(error).strip().splitlines() or [""])[-1]
    return OSError(
        f"no worker of {address} could make {what} ({type(error).__name__}: {said:.200}): install "
        "this version of rs5m on every machine, then run it again; finished shards stay"
    )


def _write(
    make: Callable, stage: str, out: str, number: int, urls: list[str], version: str
) -> None:
    """In a worker: make a shard and write it, whole or not at all."""
    if version != __version__:
        raise ValueError(
            f"a worker has rs5m {__version__}, and this process {version}: install the same one"
        )
    runfolder.save(make(Path(out), number, urls), shard_path(Path(out), stage, number))
