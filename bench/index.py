"""The index of a shard of 4 GB: walked, walked and kept, read from where it was kept.

    python -m bench.index [--pairs 39000] [--rounds 3] [--out results/bench/index.json]

The shard is made on the spot, 39,000 pairs of 100 kB in webdataset's layout, its images as holes of
a sparse file: headers and texts lie where a full shard has them, in the page cache. What a disk
takes to bring them is not measured. `tarfile` lists the same members beside. Chapter: tune.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rs5m.data import indexed, records

ROOT = Path(__file__).resolve().parents[1]
IMAGE = 100_000  # bytes


def shard(path: Path, pairs: int) -> None:
    """A tar whose images are holes."""
    with path.open("wb") as stream:
        for number in range(pairs):
            text = f"a satellite image of place {number}, with a river and some fields".encode()
            name = json.dumps({"img_name": f"laion2b_{number // 997}_{number:09d}.jpg"}).encode()
            for kind, content in (("jpg", None), ("txt", text), ("json", name)):
                member = tarfile.TarInfo(f"{records.key(number)}.{kind}")
                member.size = IMAGE if content is None else len(content)
                stream.write(member.tobuf(tarfile.USTAR_FORMAT) + (content or b""))
                end = stream.tell() + (IMAGE if content is None else 0)
                stream.seek(-(-end // 512) * 512)
        stream.write(bytes(10240))
    then = time.time() - 60
    os.utime(path, (then, then))


def seconds(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median of the clock and of the processor."""
    clock, processor = [], []
    for _ in range(rounds):
        before, spent = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - before)
        processor.append(time.process_time() - spent)
    return {
        "seconds": round(statistics.median(clock), 3),
        "processor_seconds": round(statistics.median(processor), 3),
    }


def members(path: Path) -> int:
    with tarfile.open(path) as tar:
        return sum(1 for _ in tar)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=39_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "index.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pub11-train-0000.tar"
        os.environ["RS5M_CACHE"] = str(Path(folder) / "cache")
        shard(path, options.pairs)
        walked = records.index(path)
        rows = {"walk": seconds(lambda: records.index(path), options.rounds)}
        rows["walk and keep"] = seconds(lambda: indexed.index(path), 1)
        rows["kept"] = seconds(lambda: indexed.index(path), options.rounds)
        rows["tarfile"] = seconds(lambda: members(path), 1)
        (kept,) = (Path(folder) / "cache" / "index").iterdir()
        again = indexed.index(path)
        assert again.names == walked.names and (again.places == walked.places).all()
        assert again.digest == walked.digest and len(walked.names) == options.pairs
        record = {
            "bench": "index",
            "pairs": options.pairs,
            "gigabytes": round(path.stat().st_size / 1e9, 2),
            "kept_megabytes": round(kept.stat().st_size / 1e6, 2),
            "sides": rows,
            "rounds": options.rounds,
            "load": [round(value, 1) for value in os.getloadavg()],
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
    for name, row in rows.items():
        print(f"{name:<14} {row['seconds']:8.3f} s  {row['processor_seconds']:8.3f} s of processor")
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
