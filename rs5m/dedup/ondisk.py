"""What finds near-copies among more pictures than fit into memory: signatures in files, near hashes
joined bucket by bucket, candidates sorted out range by range.

The bands are those of `hamming`, and each pair of buckets is searched by the same code, with the
bits that the two buckets differ in taken off: the work is the same, and so are the pairs. Beyond 3
billion pictures a pair's number leaves 64 bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from math import ceil, log2
from pathlib import Path

import numpy as np

from rs5m import files
from rs5m.dedup.hamming import band_pairs, hash_pairs, plan
from rs5m.dedup.thumbnails import CROPS, HALVES, SIDE

ROWS = 2**20  # hashes of a bucket, and numbers of candidates, that are held at a time
SPAN = 2**16  # pictures whose candidates share a file
RECORD = np.dtype([("hash", np.uint64), ("place", np.int64)])


def room(folder: str | Path | None, n: int) -> dict[str, np.ndarray]:
    """Files in `folder` for `signatures` of n pictures, to be filled a part at a time and used as
    those in memory (None: arrays there). The hashes of one window lie together.

    OSError that names the file where the disk is full.
    """
    kinds = {"thumb": np.float16, "colour": np.float32, "hash": np.uint64}
    shapes = {"thumb": (n, SIDE, SIDE), "colour": (n, 2, 3), "hash": (len(CROPS + HALVES), n)}
    made = {name: _array(folder, name, kinds[name], shape) for name, shape in shapes.items()}
    return made | {"hash": made["hash"].T}


def _array(folder: str | Path | None, name: str, kind: type, shape: tuple) -> np.ndarray:
    if folder is None:
        return np.empty(shape, kind)
    path = Path(folder, f"{name}.npy")
    try:
        return np.lib.format.open_memmap(path, "w+", kind, shape)
    except OSError as error:
        raise files.unwritten(path, error) from error


def opened(folder: str | Path) -> dict[str, np.ndarray]:
    """A filled `room`'s files, of this process or of another one, to be read."""
    names = ("thumb", "colour", "hash")
    found = {name: np.load(Path(folder, f"{name}.npy"), mmap_mode="r") for name in names}
    return found | {"hash": found["hash"].T}


# ---------------------------------------------------------------- near hashes


def bucket_pairs(
    a: np.ndarray, b: np.ndarray, max_distance: int, folder: str | Path, rows: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `hash_pairs`, with about 300 bytes for each of `rows` held at a time, whatever the number
    of hashes and however many of them share a bucket.

    Args:
        a, b: hashes (n,), (m,) uint64, which may lie in files.
        max_distance: in bits.
        folder: where 16 bytes a hash are kept for one band at a time.
        rows: hashes of a bucket that are held at a time; 0: ROWS of them.
    """
    rows = rows or ROWS
    bands, most = plan(len(a), len(b), max_distance), max(len(a), len(b))
    if most <= rows or not bands:
        yield from hash_pairs(a, b, max_distance)
        return
    edges, radius = np.linspace(0, 64, bands + 1).astype(int).tolist(), max_distance // bands
    for lo, hi in pairwise(edges):
        top = min(hi - lo, ceil(log2(most / rows)))
        with tempfile.TemporaryDirectory(dir=folder) as own:
            left = _scattered(a, hi - top, top, Path(own, "a"), rows)
            right = left if a is b else _scattered(b, hi - top, top, Path(own, "b"), rows)
            for p, q in product(range(2**top), repeat=2):
                rest = radius - (p ^ q).bit_count()
                if rest < 0 or (a is b and q < p):
                    continue
                for x, y in _met(left[p], right[q], a is b and p == q, rows):
                    yield from _near(x, y, lo, hi - lo - top, rest, max_distance)


def _near(x: np.ndarray, y: np.ndarray, *band: int):
    """The pairs of two pieces, which may be one, as places."""
    u = x["hash"]
    for i, j in band_pairs(u, u if y is x else y["hash"], *band):
        yield x["place"][i], y["place"][j]


def _scattered(x: np.ndarray, shift: int, bits: int, stem: Path, rows: int) -> list[Path]:
    """Files of RECORD, one for each value of `bits` bits of the hashes from `shift` on."""
    paths = [stem.with_name(f"{stem.name}{k:04x}") for k in range(2**bits)]
    for start in range(0, len(x), rows):
        part = np.asarray(x[start : start + rows])
        key = ((part >> np.uint64(shift)) & np.uint64(2**bits - 1)).astype(np.int64)
        order = np.argsort(key, kind="stable")
        held = np.empty(len(part), RECORD)
        held["hash"], held["place"] = part[order], start + order
        ends = np.cumsum(np.bincount(key, minlength=2**bits))
        for path, records in zip(paths, np.split(held, ends[:-1]), strict=True):
            _append(path, records)
    return paths


def _append(path: Path, values: np.ndarray) -> None:
    try:
        with path.open("ab") as file:
            file.write(values.data)
    except OSError as error:
        raise files.unwritten(path, error) from error


def _met(left: Path, right: Path, same: bool, rows: int) -> Iterator[tuple]:
    """Pieces of two buckets that have to meet; of one bucket each two pieces once."""
    for s in range(0, _count(left), rows):
        x = np.fromfile(left, RECORD, rows, offset=s * RECORD.itemsize)
        for t in range(s if same else 0, _count(right), rows):
            twin = same and s == t
            yield x, x if twin else np.fromfile(right, RECORD, rows, offset=t * RECORD.itemsize)


def _count(path: Path) -> int:
    return path.stat().st_size // RECORD.itemsize


# ---------------------------------------------------------------- candidates


def distinct(
    numbers: Iterable[np.ndarray], width: int, folder: str | Path, rows: int = 0
) -> Iterator[np.ndarray]:
    """The numbers of a stream, sorted and, unless one range of i has more than `rows`, each once;
    kept in files in between.

    Args:
        numbers: i * width + j, int64, in pieces.
        width: how many j there are.
        folder: for the files, which go at the end.
        rows: numbers held at a time, 0 for ROWS.
    """
    rows = rows or ROWS
    with tempfile.TemporaryDirectory(dir=folder) as own:
        for some in numbers:
            span = some // (SPAN * width)
            order = np.argsort(span, kind="stable")
            for k, part in zip(*_runs(span[order], some[order]), strict=True):
                _append(Path(own, f"{k:08d}"), part)
        for path in sorted(Path(own).iterdir()):
            for s in range(0, path.stat().st_size // 8, rows):
                yield np.unique(np.fromfile(path, np.int64, rows, offset=8 * s))


def _runs(key: np.ndarray, values: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """The distinct keys, which are sorted, and the values of each."""
    names, start = np.unique(key, return_index=True)
    return names.tolist(), np.split(values, start[1:]) if len(names) else []
