"""`rs5m pub11` on a local Ray, killed again and again, against a run that nobody disturbed.

    python -m bench.kills [--pages 1000] [--kills 20] [--seed 0] [--out FILE]

Each kill waits until a further share of the run's shards is there, then takes the driver or a
worker that is at work, drawn by chance. A driver is started again. At the end, all files of both
folders are compared, byte by byte, but for those that name a folder or a time.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Process, Queue
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
SHARD, TAR, WORKERS = 16, 50, 2  # URLs of a shard, pairs of a tar, of Ray
ENDS = (".parquet", ".tar", ".json")


def drive(pairs: str, out: str) -> None:
    """In the driver's process: a run, with RAY_ADDRESS or without."""
    from rs5m import pub11, web
    from rs5m.data import runfolder
    from rs5m.pub11.judge import Named

    runfolder.TAR = TAR
    limits = web.Limits(allow_loopback=True, per_host=4, retries=0)
    judge = Named("none", "", "", "none", None, None)
    pub11.run(pairs, out, judge, limits, SHARD, workers=16)


def made(out: Path) -> int:
    """How many shards and tars are finished."""
    kinds = ("fetch/[0-9]*.parquet", "look/[0-9]*.parquet", "[a-z]*.tar")
    return sum(len(list(out.glob(kind))) for kind in kinds)


def busy() -> list[int]:
    """Ray's workers that are at work on a task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes()
        except OSError:  # it has just ended
            continue
        if name.startswith(b"ray::_write"):
            found.append(int(path.parent.name))
    return found


def disturb(
    start: Callable[[], subprocess.Popen], out: Path, total: int, kills: int, seed: int = 0
) -> list[dict]:
    """Kill a run so many times, then let it finish: of each kill what died, and how many shards
    were there. What found nothing to kill is called "missed".

    start: starts the driver of a run of `total` shards in the folder `out`.
    """
    draw, found, driver = random.Random(seed), [], start()
    for k in range(kills):
        place, kind = (k + draw.random()) / (kills + 1) * total, draw.choice(("driver", "worker"))
        while made(out) < place and driver.poll() is None:
            time.sleep(0.002)
        if kind == "worker":
            while not (there := busy()) and driver.poll() is None:
                time.sleep(0.002)
        victim = driver.pid if kind == "driver" else draw.choice(there or [0])
        if driver.poll() is not None:
            kind = "missed"
        else:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                kind = "missed"
        found.append({"killed": kind, "shards": made(out)})
        if kind == "driver":
            driver.wait()
            driver = start()
    if driver.wait(1200):
        raise SystemExit(f"the run ended with {driver.returncode}")
    return found


def ends(out: Path) -> dict[str, bytes]:
    """What a run ends with, by name."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in ENDS}


def measure(pages: int, kills: int, seed: int) -> dict:
    """Both runs on so many pages, and what became of the disturbed one."""
    import ray

    from bench import scaling

    with tempfile.TemporaryDirectory() as folder:
        site, said, table = Path(folder, "site"), Queue(), Path(folder, "pairs.parquet")
        site.mkdir()
        scaling.pages(site, pages)
        server = Process(target=scaling.serve, args=(str(site), said), daemon=True)
        server.start()
        base = f"http://127.0.0.1:{said.get()}"
        rows = [(f"{base}/{k}.jpg", f"aerial photo {k}") for k in range(pages)]
        pd.DataFrame(rows, columns=["url", "text"]).to_parquet(table)

        def start(out: Path, **environment: str) -> subprocess.Popen:
            command = [sys.executable, "-m", "bench.kills", "--drive", str(table), str(out)]
            own = {"cwd": ROOT, "env": os.environ | environment}
            with Path(folder, "log.txt").open("a") as log:
                return subprocess.Popen(command, stdout=log, stderr=log, **own)

        alone, out = Path(folder, "alone"), Path(folder, "out")
        if start(alone).wait():
            raise SystemExit(Path(folder, "log.txt").read_text()[-3000:])
        context = ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        address, total = context.address_info["gcs_address"], made(alone)
        found = disturb(lambda: start(out, RAY_ADDRESS=address), out, total, kills, seed)
        ray.shutdown()
        server.terminate()
        theirs, ours = ends(alone), ends(out)
    facts = {"pages": pages, "shards": total, "workers": WORKERS, "seed": seed}
    return facts | {"kills": found, "files": len(theirs), "equal": ours == theirs}


def main() -> None:
    """Kill, compare and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "kills.json")
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(*given.drive)
        return
    from bench import stored

    result = stored.begun(given.out) | measure(given.pages, given.kills, given.seed)
    stored.save(result, given.out)
    print(pd.DataFrame(result["kills"]).to_string(), result["files"], result["equal"])


if __name__ == "__main__":
    main()
