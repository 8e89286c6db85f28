"""Near-duplicates beyond memory: made hashes up to ten millions with buckets on disk, a database's
join beside them, and 100,000 pictures grouped in memory and on disk.

    python bench/beyond.py --data DIR [--only hashes,buckets,look,join,pictures] [--out FILE]

DIR holds eurosat_rgb.zip. The pictures are EuroSAT's in four orientations, which are no copies of
each other, and one in ten once more as a JPEG file of quality 30 to 90. Each measurement has a
process of its own; memory is its peak less what it held before the search. Chapter: scaling.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import stored
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIZES = {8: (100_000, 1_000_000, 3_000_000, 10_000_000), 12: (30_000, 100_000, 300_000)}
FEW = 300_000  # hashes that are grouped both ways, with a sixteenth of them held at a time
JOINED = (100_000, 300_000)  # hashes that the database joins
TURNS = (None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180)
TURNS += (Image.Transpose.FLIP_TOP_BOTTOM,)


def made(n: int, distance: int) -> np.ndarray:
    """Hashes of which a fifth lies near another one and a tenth are equal."""
    r = np.random.default_rng(0)
    hashes = r.integers(0, 2**64, n, dtype=np.uint64)
    hashes[: n // 5] = hashes[r.integers(0, n, n // 5)]
    for _ in range(distance // 2):
        hashes[: n // 5] ^= np.uint64(1) << r.integers(0, 64, n // 5).astype(np.uint64)
    hashes[-n // 10 :] = 0
    return hashes


def measured(work) -> tuple[object, dict]:
    """What `work` gives, and its seconds, processor's seconds and gigabytes."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = work()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    grown = (after.ru_maxrss - before.ru_maxrss) / 1e6
    return found, {"seconds": seconds, "cpu_seconds": used, "gb": grown}


def grouped(n: int, distance: int, on_disk: bool, rows: int = 0) -> dict:
    """Grouping n made hashes; rows: of a bucket at a time, where it is not the package's own."""
    from rs5m import dedup
    from rs5m.dedup import ondisk

    ondisk.ROWS = rows or ondisk.ROWS
    hashes = made(n, distance)
    dedup.near_duplicates(hashes[:1000], distance)  # whatever is loaded once
    with tempfile.TemporaryDirectory() as folder:
        where = folder if on_disk else None
        ids, cost = measured(lambda: dedup.near_duplicates(hashes, distance, where))
    said = {"hashes": n, "max_distance": distance, "on_disk": on_disk} | cost
    said |= {"rows": rows} if rows else {}
    return said | {"clusters": len(np.unique(ids)), "sum": int(ids.sum())}


def joined(n: int, distance: int = 8) -> dict:
    """The same pairs by DuckDB: three bands, every key within two bits of one probed."""
    import duckdb

    hashes = np.unique(made(n, distance))
    from rs5m.dedup import hamming

    base = duckdb.connect(config={"threads": 1})
    base.execute("create table h as select * from (select unnest(?) as h)", [hashes])
    flips = [0] + [1 << i for i in range(22)]
    flips += [1 << i | 1 << j for i in range(22) for j in range(i)]
    base.execute("create table f as select unnest(?) as f", [np.uint64(flips)])
    bands = " union ".join(
        f"select a.h, b.h as o from (select h, ((h >> {lo}) & {2**width - 1}) ^ f as k from h, f "
        f"where f < {2**width}) a join (select h, (h >> {lo}) & {2**width - 1} as k from h) b "
        f"on a.k = b.k where a.h < b.h and bit_count(xor(a.h, b.h)) <= {distance}"
        for lo, width in ((0, 21), (21, 21), (42, 22))
    )
    asked = f"select count(*) from ({bands})"
    theirs, cost = measured(lambda: base.execute(asked).fetchone()[0])

    def ours():
        found = hamming.hash_pairs(hashes, hashes, distance)
        i, j = (np.concatenate(x) for x in zip(*found, strict=True))
        i, j = np.minimum(i, j), np.maximum(i, j)
        return len(np.unique((i * len(hashes) + j)[i != j]))

    mine, own = measured(ours)
    assert theirs == mine, (theirs, mine)
    return {"hashes": len(hashes), "max_distance": distance, "pairs": mine} | {
        "duckdb": cost,
        "rs5m": own,
    }


def looked(n: int = 1024) -> dict:
    """Closer looks at pairs of made pictures, on one core."""
    from rs5m import dedup
    from rs5m.dedup import copies
    from rs5m.dedup.registration import THRESHOLDS

    r = np.random.default_rng(0)
    coarse = (Image.fromarray(r.integers(0, 256, (6, 8, 3), np.uint8)) for _ in range(n // 8))
    signed = dedup.signatures([one.resize((128, 96), Image.Resampling.BICUBIC) for one in coarse])
    signed["colour"][:] = 90  # or most pairs would end at their colours
    pair = r.integers(0, n // 8, (n, 2))
    copies._look(signed, signed, pair[:64], 0, THRESHOLDS)
    parts = np.split(pair, range(512, n, 512))
    found, cost = measured(lambda: [copies._look(signed, signed, p, 0, THRESHOLDS) for p in parts])
    return {"pairs": sum(map(len, found))} | cost


# ---------------------------------------------------------------- pictures


def pictures(data: Path, count: int):
    """`count` pictures, one in ten of them a copy."""
    r, distinct = np.random.default_rng(0), count - count // 10
    with zipfile.ZipFile(data / "eurosat_rgb.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
        plain = [Image.open(io.BytesIO(archive.read(n))).convert("RGB") for n in names]
    for k in range(distinct):
        yield turned(plain, k)
    for k in r.choice(distinct, count - distinct, replace=False).tolist():
        file = io.BytesIO()
        turned(plain, k).save(file, "JPEG", quality=int(r.integers(30, 91)))
        yield Image.open(file)


def turned(plain: list, k: int) -> Image.Image:
    turn = TURNS[k // len(plain)]
    picture = plain[k % len(plain)]
    return picture if turn is None else picture.transpose(turn)


def signed(data: Path, count: int, folder: Path) -> dict:
    """Signatures of the pictures, written into files a part at a time."""
    from rs5m import dedup

    room, at, start = dedup.room(folder, count), 0, time.perf_counter()
    every = pictures(data, count)
    while some := list(islice(every, 1000)):
        for name, values in dedup.signatures(some).items():
            room[name][at : at + len(some)] = values
        at += len(some)
    for name in ("thumb", "colour"):
        room[name].flush()
    return {"seconds": time.perf_counter() - start}


def clustered(folder: Path, on_disk: bool) -> dict:
    """Groups of signatures in files: read whole, or as they lie."""
    from rs5m import dedup

    room = {name: np.load(folder / f"{name}.npy", "r") for name in ("thumb", "colour", "hash")}
    room["hash"] = room["hash"].T

    def work():
        with tempfile.TemporaryDirectory(dir=folder) as own:
            if on_disk:
                return dedup.groups(room, folder=own)
            return dedup.groups({name: np.array(values) for name, values in room.items()})

    ids, cost = measured(work)
    return cost | {"images": len(ids), "groups": len(np.unique(ids)), "ids": ids.tolist()}


def apart(work, *given):
    """The answer of a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        return fresh.submit(work, *given).result()


def compared(data: Path, count: int, folder: Path) -> dict:
    """Both ways on the same pictures; what `folder` holds of an earlier call is not made again."""
    said = {"images": count}
    steps = {"signatures": (signed, data, count, folder)}
    steps |= {name: (clustered, folder, name == "on_disk") for name in ("in_memory", "on_disk")}
    for name, step in steps.items():
        kept = folder / f"{name}-{count}.json"
        if not kept.exists():
            kept.write_text(json.dumps(apart(*step)))
        said[name] = json.loads(kept.read_text())
    said["equal"] = said["in_memory"].pop("ids") == said["on_disk"].pop("ids")
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RS5M_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--only", default="hashes,buckets,look,join,pictures")
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keeps what --pictures has made so far")
    parser.add_argument("--most", type=int, default=10_000_000, help="hashes")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "beyond.json")
    a = parser.parse_args()
    result = stored.begun(a.out)
    if "hashes" in a.only:
        kept = {(o["max_distance"], o["hashes"], o["on_disk"]): o for o in result.get("hashes", [])}
        for distance, sizes in SIZES.items():
            for n in sizes:
                for on_disk in (False, True) if n <= 1_000_000 else (True,):
                    if n <= a.most and (distance, n, on_disk) not in kept:
                        kept[distance, n, on_disk] = apart(grouped, n, distance, on_disk)
                        print(kept[distance, n, on_disk], flush=True)
                        result["hashes"] = [kept[key] for key in sorted(kept)]
                        stored.save(result, a.out)
    if "buckets" in a.only:  # small enough to be held in memory, too: both ways must agree
        result["buckets"] = [apart(grouped, FEW, 8, rows > 0, rows) for rows in (0, FEW // 16)]
        assert len({(one["clusters"], one["sum"]) for one in result["buckets"]}) == 1
    if "look" in a.only:
        result["look"] = apart(looked)
    if "join" in a.only:
        result["join"] = [apart(joined, n) for n in JOINED]
    if "pictures" in a.only:
        with tempfile.TemporaryDirectory() as own:
            folder = a.folder or Path(own)
            folder.mkdir(exist_ok=True)
            result["pictures"] = compared(a.data, a.pictures, folder)
    stored.save(result, a.out)


if __name__ == "__main__":
    sys.exit(main())
