"""The folder of a run: one process at a time, one note of what it rests on, shards that are whole.

A finished shard is a parquet file under its final name and is never made again, so a run that is
killed at any moment and started again ends with the same bytes. Chapter: setup.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from rs5m import files
from rs5m.data import records

NOTE, REPORT = "run.json", "left_out.json"
TAR = 1000  # pairs of one webdataset shard
GROUP = 8  # files of images that are read together


@contextmanager
def claim(
    out: Path, facts: Mapping, part: str = "run", notes: Mapping | None = None
) -> Iterator[None]:
    """Hold the folder `out` for a run that rests on `facts`: they are its run.json from now on.

    ValueError for the folder of another run or of something else, OSError where the same part is
    at work.

    Args:
        part: processes of different parts may share a folder, two of the same part may not.
        notes: what else run.json says; a folder whose notes differ is no other run's.
    """
    note = out / NOTE
    out.mkdir(parents=True, exist_ok=True)
    strange = [path for path in out.iterdir() if path.name != NOTE and not _own(path)]
    if strange and not note.is_file():  # in this order: another part's note may just have come
        raise ValueError(f"{out} is not empty and holds no {NOTE}: name a new folder")
    with lock(out / f".{part}.lock", out):
        with alone(out):
            if not note.is_file():
                _write_json(note, {**facts, "notes": notes} if notes else facts)
        changed = _differences(note, facts)
        if changed:
            raise ValueError(
                f"{out} holds another run ({', '.join(changed)} differ by its {NOTE}): "
                "name a new folder"
            )
        yield


def sweep(out: Path) -> None:
    """Remove what killed runs left half-written; for the one process that is at work."""
    for path in out.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _own(path: Path) -> bool:
    """Whether a file is a lock, or what a killed run left of its note."""
    return path.name.startswith(".") and path.suffix in (".lock", ".tmp")


@contextmanager
def lock(path: Path, out: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path` of the folder `out`, or raise OSError where another process has it.

    wait: until it is free.
    """
    held = FileLock(path)
    try:
        held.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise OSError(
            f"{out} is in use by another run: let it finish, or name a new folder"
        ) from error
    except (NotImplementedError, OSError) as error:
        raise OSError(f"{out} cannot be locked ({error}): name a folder on another disk") from error
    try:
        yield
    finally:
        held.release()


def alone(out: Path):
    """A context for one process of a folder at a time, whatever its part; the others wait."""
    return lock(out / ".note.lock", out, wait=True)


def _differences(note: Path, facts: Mapping) -> list[str]:
    """The names under which run.json and `facts` differ."""
    wanted = json.loads(json.dumps(facts))  # tuples become lists
    try:
        known = json.loads(note.read_text())
    except ValueError:
        return ["its settings"]
    known = known if isinstance(known, dict) else {}
    names = (known.keys() | wanted.keys()) - {"notes"}
    return sorted(name for name in names if known.get(name) != wanted.get(name))


def _write_json(path: Path, value: object) -> None:
    with files.whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def save_left_out(out: Path, left_out: Mapping[str, Sequence[str]]) -> None:
    """Write left_out.json: the names of the input that were left out, by reason."""
    _write_json(out / REPORT, left_out)


def left_out(out: Path) -> dict[str, list[str]]:
    """What `save_left_out` wrote, {} where nothing was."""
    path = out / REPORT
    return json.loads(path.read_text()) if path.is_file() else {}


def save(table: pa.Table, path: Path) -> None:
    """Write a table, whole or not at all; same rows, same bytes."""
    with (
        files.whole(path) as temporary,
        pq.ParquetWriter(temporary, table.schema, **_stored(table)) as writer,
    ):
        if len(table):  # Hugging Face's datasets reads no group of no rows
            group = GROUP if "content" in table.column_names else None
            writer.write_table(table, group)


def _stored(table: pa.Table) -> dict:
    """How parquet stores a table: files of images as they are, for no second compression helps."""
    if "content" not in table.column_names:
        return {"compression": "zstd"}
    others = [name for name in table.column_names if name != "content"]
    compression = dict.fromkeys(others, "zstd") | {"content": "none"}
    return {"compression": compression, "use_dictionary": others, "write_statistics": others}


def shard_path(out: Path, stage: str, number: int) -> Path:
    """Where a finished shard of a stage lies."""
    return out / stage / f"{number:05d}.parquet"


def missing(out: Path, stage: str, numbers: Iterable[int]) -> list[int]:
    """The shards of a stage that are not finished."""
    return [number for number in numbers if not shard_path(out, stage, number).is_file()]


def work(out: Path, stage: str, sizes: Mapping[int, int], make: Callable[[int], pa.Table]) -> None:
    """Make and keep the shards that are missing.

    Args:
        out: the run's folder; its log.txt names each shard that was made.
        stage: the folder of the shards.
        sizes: the shards' numbers, and how many images each has.
        make: a shard's number to its table.
    """
    todo = missing(out, stage, sizes)
    (out / stage).mkdir(exist_ok=True)
    total = sum(sizes[number] for number in todo)
    with tqdm(total=total, desc=stage, unit=" images", miniters=1, disable=not todo) as bar:
        for number in todo:
            keep(make(number), out, stage, number)
            bar.update(sizes[number])


def keep(table: pa.Table, out: Path, stage: str, number: int) -> None:
    """Keep a finished shard and log it.

    Args:
        table: the shard.
        out, stage, number: those of `shard_path`.
    """
    save(table, shard_path(out, stage, number))
    log(out, stage, number)


def log(out: Path, stage: str, number: int) -> None:
    """Note that a shard was made."""
    with (out / "log.txt").open("a") as file:
        file.write(f"{stage} {number:05d}\n")


def write_tars(
    out: Path, name: str, count: int, make: Callable, layout: str = records.LAYOUTS[0]
) -> dict[str, list[str]]:
    """Write pairs into shards NAME-NNNN.tar, with `places`; returns what that returns.

    Args:
        out: the run's folder.
        name: what shards are called.
        count: how many pairs there are.
        make: a slice of the pairs' positions to their records.
        layout: one of `records.LAYOUTS`.
    """
    found = places(out, name, count)
    for start in tqdm(range(0, count, TAR), desc="join", unit="tar", disable=not count):
        pairs = make(slice(start, start + TAR))
        records.write(out / found["tar"][start], pairs, layout, start)
    return found


def places(out: Path, name: str, count: int) -> dict[str, list[str]]:
    """Where so many pairs are to lie: "tar", NAME-NNNN.tar, and "key" of each.

    Writes what stands beside the shards: NAME-NNNN_stats.json, as img2dataset has it, and
    sizes.json, from which open_clip's trainer knows the number of pairs.
    """
    tars = [f"{name}-{place // TAR:04d}.tar" for place in range(count)]
    sizes = Counter(tars)
    for path in out.glob(f"{name}-*_stats.json"):  # of another choice of pairs
        path.unlink()
    for tar, size in sizes.items():
        _write_json(out / tar.replace(".tar", "_stats.json"), _stats(size))
    _write_json(out / "sizes.json", sizes)
    return {"tar": tars, "key": [records.key(place) for place in range(count)]}


def _stats(size: int) -> dict:
    failed = {"failed_to_download": 0, "failed_to_resize": 0}
    return {"count": size, "successes": size, "status_dict": {"success": size}} | failed
