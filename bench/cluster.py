"""`rs5m pub11` on a local Ray of 1, 2 and 4 workers with a slow host, and what its driver holds.

    python -m bench.cluster [--name workers] [--sizes 1000 4000] [--workers 1 2 4] [--out FILE]

Pages come from `bench.scaling`'s server on loopback, at most 40 kB each; one shard in eight has a
host that takes `SLOW` seconds an answer (another server). Every run has a Ray and a driver of its
own; the driver's memory is its peak less what it held before the run. Bytes through it are what it
reads and writes by /proc/self/io, from the first look at the input to the last page, and what it
sends with tasks: in all, and of the three stages that workers do. Modules that are imported on the
way are in them, so sizes are to be compared, not levels. Seconds are left out where the machine had
more to do (a load of BUSY before the run). With the same name, runs are replaced by size and
workers. Chapter: scaling.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, Queue
from pathlib import Path

import pandas as pd

from bench import scaling

ROOT = Path(__file__).resolve().parents[1]
SHARD, EVERY, SLOW = 64, 8, 0.5  # URLs of a shard, shards for each with a slow host, seconds
BUSY = 3  # mean of a minute, of /proc/loadavg


class Late(BaseHTTPRequestHandler):
    """Answers each request alike, after a while."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802
        time.sleep(SLOW)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def late(said: Queue) -> None:
    """A slow host until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Late)
    said.put(server.server_port)
    server.serve_forever()


def through() -> int:
    """Bytes that this process has read and written."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))


def drive(pairs: str, out: str, workers: int) -> dict:
    """In the driver's process: a run, and what it cost there."""
    import ray

    from rs5m import pub11, web
    from rs5m.data import cluster
    from rs5m.pub11.judge import Named

    context = ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    stages, sent, work = {}, [], cluster.work

    def counted(task, given, out):
        before, size = through(), len(pickle.dumps(list(given.values())))
        work(task, given, out)
        sent.append(size)
        stages[task.stage] = (size + through() - before) / 1e6

    cluster.work = counted
    limits = web.Limits(allow_loopback=True, per_host=4, retries=0)
    judge = Named("none", "", "", "none", None, None)
    load = os.getloadavg()[0]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    bytes_before = through()
    pub11.run(pairs, out, judge, limits, SHARD, workers=16)
    seconds, passed = time.perf_counter() - start, through() - bytes_before
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ray.shutdown()
    tables = [pd.read_parquet(Path(out, f"{name}.parquet")) for name in ("kept", "dropped")]
    rows = b"".join(table.drop(columns="url").to_csv().encode() for table in tables)
    for path in sorted(Path(out).glob("*.tar")):
        rows += hashlib.sha256(path.read_bytes()).digest()
    return {
        "seconds": seconds if load < BUSY else None,
        "grown_mb": (after - before) / 1e3,
        "through_mb": (passed + sum(sent)) / 1e6,
        "of_stages_mb": stages,
        "tars_mb": sum(path.stat().st_size for path in Path(out).glob("*.tar")) / 1e6,
        "kept": len(tables[0]),
        "rows": hashlib.sha256(rows).hexdigest(),
    }


def measure(n: int, workers: list[int]) -> list[dict]:
    """Runs on n pages, one for each number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        site, said = Path(folder, "site"), Queue()
        site.mkdir()
        scaling.pages(site, n)
        servers = [Process(target=late, args=(said,), daemon=True)]
        servers[0].start()
        slow = said.get()
        servers.append(Process(target=scaling.serve, args=(str(site), said), daemon=True))
        servers[1].start()
        fast, rows = said.get(), []
        for k in range(n):
            shard, place = divmod(k, SHARD)
            port = slow if shard % EVERY == 0 and place % 2 else fast
            rows.append((f"http://127.0.0.1:{port}/{k}.jpg", f"aerial photo {k}"))
        table = Path(folder, "pairs.parquet")
        pd.DataFrame(rows, columns=["url", "text"]).to_parquet(table)
        found = []
        for count in workers:
            out = Path(folder, f"out{count}")
            command = [sys.executable, "-m", "bench.cluster", "--drive", table, out, count]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            found.append({"pages": n, "workers": count} | json.loads(done.stdout.split("\n")[-2]))
            print(found[-1], flush=True)
        for server in servers:
            server.terminate()
    return found


def main() -> None:
    """Measure what was asked for and write it beside what was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="workers", help="of these runs in the file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "cluster.json")
    parser.add_argument("--drive", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        print(json.dumps(drive(*given.drive[:2], int(given.drive[2]))))
        return
    from bench import stored

    result = stored.begun(given.out) | {"slow_seconds": SLOW, "shard": SHARD, "slow_one_in": EVERY}
    runs = {(one["pages"], one["workers"]): one for one in result.get(given.name, [])}
    for n in given.sizes:
        runs |= {(one["pages"], one["workers"]): one for one in measure(n, given.workers)}
        result[given.name] = [runs[key] for key in sorted(runs)]
        stored.save(result, given.out)


if __name__ == "__main__":
    main()
