"""Shards of a stage on a Ray cluster: the worker that makes a shard writes it, and the driver sees
its number alone. Chapters: pub11, rs3.

* the run's folder has to be on a disk that every machine of the cluster has under the same path;
  workers are in the driver's folder where they have it, so that relative paths mean the same
* there are no waves: a shard that waits for a slow host holds up no other
* a task may spread what it does over the workers in turn (`spread`)
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from rs5m import __version__
from rs5m.data import runfolder
from rs5m.data.runfolder import shard_path

CURE = "check RAY_ADDRESS and this machine's Ray, or unset RAY_ADDRESS to work here alone"
PATIENCE = 10  # seconds
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # no settings
WORDS = ("auto", "local")  # of Ray's own
AHEAD = 2  # tasks for each that can run, so that no worker waits for the driver


class Task(NamedTuple):
    """What a stage does to a shard: the stage's name; a function from the run's folder and a
    shard's number to the shard's file; one that writes the file, from the folder, the number and
    what is given for it; the share of a core that one shard takes; whether it takes a GPU of a
    cluster that has any.
    """

    stage: str
    path: Callable[[Path, int], Path]
    write: Callable[[Path, int, Sized], None]
    cores: float
    gpu: bool = False


def table(stage: str, make: Callable[[Path, int, Sized], pa.Table], cores: float) -> Task:
    """The task of a stage whose shards are tables."""
    path = partial(_table_path, stage)
    return Task(stage, path, partial(_save, make, path), cores)


def _table_path(stage: str, out: Path, number: int) -> Path:
    return shard_path(out, stage, number)


def _save(make: Callable, path: Callable, out: Path, number: int, given: Sized) -> None:
    runfolder.save(make(out, number, given), path(out, number))


def places(cores: float, gpu: bool) -> float:
    """How many such tasks the cluster that RAY_ADDRESS names takes at a time."""
    found = _joined().cluster_resources()
    return (gpu and found.get("GPU", 0)) or max(1, found.get("CPU", 1) / cores)


def check() -> None:
    """OSError in one sentence, before any work, where RAY_ADDRESS is set and no Ray answers there
    in PATIENCE; Ray itself would ask for minutes.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address and not find_spec("ray"):
        raise OSError(f"RAY_ADDRESS is {address}, but Ray is not installed here: {CURE}")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not address or address in WORDS:
        return
    if not (host and port.isdecimal()):  # Ray itself ends the process
        raise OSError(f"RAY_ADDRESS is {address}, not HOST:PORT or auto: {CURE}")
    try:
        _greet(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        raise OSError(f"no Ray answers at {address} ({error}): {CURE}") from error


def _greet(host: str, port: int) -> None:
    """OSError unless HTTP/2 is spoken there, as by every server of Ray: its first words are its
    settings.
    """
    with socket.create_connection((host, port), PATIENCE) as there:
        there.sendall(HELLO)
        if os.environ.get("RAY_USE_TLS", "0") == "0" and there.recv(9)[3:4] != HELLO[-6:-5]:
            raise OSError("it speaks another protocol")


def _joined():
    """Ray, of the cluster."""
    import ray

    address = os.environ["RAY_ADDRESS"]
    try:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:  # none, or of another version
        said = " ".join(str(error).split())
        raise OSError(f"the Ray at {address} cannot be joined ({said:.200}): {CURE}") from error
    return ray


def work(
    task: Task,
    given: Mapping[int, Sized],
    out: Path,
    shares: Mapping[int, Sequence[int]] | None = None,
) -> None:
    """Make the shards that are missing: on the cluster that RAY_ADDRESS names, else here.

    OSError in one sentence where a worker fails, has another version of this package, or does not
    write where this process reads.

    Args:
        task: the stage.
        given: of each shard, in order, what it is made of, an item for each image.
        out: the run's folder, held by this process.
        shares: the shards that a task makes, by its last one, where they are several.
    """
    todo = deque(number for number in given if not task.path(out, number).is_file())
    total = sum(len(given[number]) for number in todo)
    task.path(out, 0).parent.mkdir(exist_ok=True)
    make = _on_cluster if os.environ.get("RAY_ADDRESS") else _here
    with tqdm(total=total, desc=task.stage, unit=" images", miniters=1, disable=not todo) as bar:
        for number in make(task, todo, given, out) if todo else ():
            for one in (shares or {}).get(number, [number]):
                runfolder.log(out, task.stage, one)
            bar.update(len(given[number]))


def _here(task: Task, todo: deque, given: Mapping, out: Path) -> Iterator[int]:
    for number in todo:
        task.write(out, number, given[number])
        yield number


def _on_cluster(task: Task, todo: deque, given: Mapping, out: Path) -> Iterator[int]:
    """Numbers of shards as they are made."""
    ray, address = _joined(), os.environ["RAY_ADDRESS"]
    gpus = int(task.gpu and "GPU" in ray.cluster_resources())
    remote = ray.remote(num_cpus=task.cores, num_gpus=gpus, max_retries=3)(_write)
    write, running = ray.put(task.write), {}
    while todo or running:
        while todo and len(running) < AHEAD * places(task.cores, task.gpu):
            number = todo.popleft()
            asked = write, str(out.resolve()), number, given[number], __version__, os.getcwd()
            running[remote.remote(*asked)] = number
        (done, *_), _ = ray.wait(list(running))
        number = running.pop(done)
        path = task.path(out, number)
        _came(ray, done, f"{task.stage} {number:05d}", address)
        if not path.is_file():
            raise OSError(
                f"a worker of {address} wrote {path.name} to a disk of its own: name a folder that "
                f"all machines share in place of {out}"
            )
        yield number


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


def spread(function: Callable, held: object) -> Callable[[Sequence], list]:
    """In a task of the cluster: a function from parts to `function(held, part)` of each, in order,
    by all workers. A machine gets `held` once; a worker that waits for others leaves its core to
    them.
    """
    import ray

    remote, shared = ray.remote(num_cpus=1, max_retries=3)(function), ray.put(held)
    return lambda parts: ray.get([remote.remote(shared, part) for part in parts])


def _failed(what: str, address: str, error: BaseException) -> OSError:
    said = (str(error).strip().splitlines() or [""])[-1]
    return OSError(
        f"no worker of {address} could make {what} ({type(error).__name__}: {said:.200}): install "
        "this version of rs5m on every machine, then run it again; finished shards stay"
    )


def _write(write: Callable, out: str, number: int, given: Sized, version: str, folder: str) -> None:
    """In a worker: write a shard, whole or not at all."""
    if version != __version__:
        raise ValueError(
            f"a worker has rs5m {__version__}, and this process {version}: install the same one"
        )
    if not Path(out).is_dir():
        raise OSError(f"a worker has no folder {out}: name one that all machines share")
    if Path(folder).is_dir():
        os.chdir(folder)
    write(Path(out), number, given)
