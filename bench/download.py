"""The download of PUB11 beside img2dataset's: one server on loopback, hosts that never answer.

    python3.11 -m venv PEERS
    PEERS/bin/pip install img2dataset
    python -m bench.download --peer-python PEERS/bin/python [--urls 1536] [--rounds 3]
        [--out results/bench/download.json]

img2dataset lives in an environment of its own: it pins packages that this one has in other
versions. The server is a process of its own; each of its hosts is an address of 127/8, and it waits
50 ms before it answers with bytes of lognormal length (median 60 kB). Of the hosts that never
answer, half take the connection and are silent, half never take it. Sides run in turn, each in a
new process, from a list of URLs to files that are written; imports are not timed, but those of the
worker process that img2dataset starts are part of how it works. `span` is what the server sees,
from the first request to the end of the last answer; for a run with dead hosts `seconds` counts.
Both sides have 64 threads and 10 s a URL, neither decodes an image. Chapter: pub11.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
HOSTS, DEAD_HOSTS, DELAY, MEDIAN, MOST = 48, 8, 0.05, 60_000, 1_000_000
WORKERS, TIMEOUT, SEED = 64, 10, 0
SIDES = ("ours", "img2dataset")


# ---------------------------------------------------------------- the server


class Server:
    """Answers /LENGTH/NAME with that many bytes; /reset and /facts are for the bench."""

    def __init__(self):
        self.body = os.urandom(MOST)
        self.reset()

    def reset(self) -> dict:
        """Forget what was asked; what there was to tell."""
        facts = getattr(self, "facts", {})
        self.facts = {"requests": 0, "connections": 0, "first": None, "last": None}
        return facts

    async def serve(self, reader, writer) -> None:
        """One connection, kept alive unless the client wants it closed."""
        first = True
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await self.answer(head.split(b" ", 2)[1].decode(), first)
                first = False
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                self.facts["last"] = time.monotonic()
                if b"connection: close" in head:
                    break
        writer.close()

    async def answer(self, path: str, first: bool) -> bytes:
        if path in ("/reset", "/facts"):
            facts = self.facts if path == "/facts" else self.reset()
            return json.dumps(facts).encode()
        self.facts["first"] = self.facts["first"] or time.monotonic()
        self.facts["requests"] += 1
        self.facts["connections"] += first
        await asyncio.sleep(DELAY)
        return self.body[: int(path.split("/")[1])]


def dead(port: int) -> list[socket.socket]:
    """Listeners that nobody serves: every second one has a queue that is full already."""
    held = []
    for i in range(DEAD_HOSTS):
        listener = socket.create_server((f"127.0.1.{i + 1}", port), backlog=0 if i % 2 else 512)
        held.append(listener)
        for _ in range(4 if i % 2 else 0):
            line = socket.socket()
            line.setblocking(False)
            line.connect_ex(listener.getsockname())
            held.append(line)
    return held


async def serve() -> None:
    """Print the port, then answer until stdin ends."""
    state = Server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = [f"127.0.0.{i + 1}" for i in range(HOSTS)]
    await asyncio.start_server(state.serve, hosts, port, backlog=512)
    held = dead(port)
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    del held


def addresses(port: int, count: int, share: float) -> list[str]:
    """URLs of live hosts, of which the first has most, and a share of dead ones, mixed."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    weight = 1 / (np.arange(HOSTS) + 8)
    hosts = generator.choice(HOSTS, count, p=weight / weight.sum())
    sizes = np.minimum(MOST, MEDIAN * np.exp(generator.normal(0, 0.9, count))).astype(int)
    urls = [
        f"http://127.0.0.{h + 1}:{port}/{n}/{i}.jpg"
        for i, (h, n) in enumerate(zip(hosts, sizes, strict=True))
    ]
    for j, i in enumerate(generator.choice(count, round(share * count), replace=False)):
        urls[i] = f"http://127.0.1.{j % DEAD_HOSTS + 1}:{port}/{sizes[i]}/{i}.jpg"
    return urls


# ---------------------------------------------------------------- the sides, in a process each


def ours(urls: list[str], out: Path) -> dict:
    """The second stage of `rs5m pub11`."""
    import pandas as pd

    from rs5m import web
    from rs5m.pub11 import SHARD
    from rs5m.pub11.download import download

    tally = web.Tally()
    table = pd.DataFrame({"key": urls, "pairs": 1, "shard": [i // SHARD for i in range(len(urls))]})
    limits = web.Limits(timeout=TIMEOUT, allow_loopback=True)
    return timed(lambda: download(table, limits, out, WORKERS, tally.add)) | {
        "statuses": dict(tally.statuses)
    }


def img2dataset(urls: list[str], out: Path) -> dict:
    """webdataset shards, bytes as they came."""
    from img2dataset import download

    (out / "urls.txt").write_text("\n".join(urls))
    facts = timed(
        lambda: download(
            url_list=str(out / "urls.txt"),
            output_folder=str(out / "out"),
            output_format="webdataset",
            thread_count=WORKERS,
            processes_count=1,
            timeout=TIMEOUT,
            disable_all_reencoding=True,
            enable_wandb=False,
        )
    )
    stats = [json.loads(p.read_text()) for p in sorted((out / "out").glob("*_stats.json"))]
    return facts | {"statuses": {"ok": sum(s["successes"] for s in stats)}}


def timed(work) -> dict:
    """Wall and processor seconds and memory of a call, its child processes included."""

    def cpu():
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    since, before = time.monotonic(), cpu()
    work()
    facts = {"seconds": time.monotonic() - since, "cpu_seconds": cpu() - before}
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return facts | {"mb": max(resource.getrusage(who).ru_maxrss for who in kinds) / 1024}


# ---------------------------------------------------------------- the bench


def one(side: str, python: str, urls: list[str], base: str) -> dict:
    """One run of one side, and what the server saw of it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.json").write_text(json.dumps(urls))
        urlopen(f"{base}/reset").read()
        command = [python, __file__, "--side", side, "--folder", folder]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{side} failed under {python}: {done.stderr.strip()[-500:]}")
    seen = json.loads(urlopen(f"{base}/facts").read())
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    facts |= {"span": seen["last"] - seen["first"]}
    return facts | {name: seen[name] for name in ("requests", "connections")}


def middle(runs: list[dict]) -> dict:
    """Medians; every run's seconds; statuses of the last run."""
    names = ("seconds", "span", "cpu_seconds", "mb", "requests", "connections")
    facts = {name: round(statistics.median(run[name] for run in runs), 2) for name in names}
    every = [round(run["seconds"], 2) for run in runs]
    return facts | {"every_seconds": every, "statuses": runs[-1]["statuses"]}


def compare(pythons: dict[str, str], base: str, count: int, share: float, rounds: int) -> dict:
    """All sides in turn on the same URLs, and ours relative to the other."""
    urls = addresses(int(base.rpartition(":")[2]), count, share)
    runs = {side: [] for side in pythons}
    for _ in range(rounds):
        for side, python in pythons.items():
            runs[side].append(one(side, python, urls, base))
            print(share, side, runs[side][-1], flush=True)
    found = {side: middle(each) for side, each in runs.items()}
    for side in found:
        found[side]["urls_per_second"] = round(count / found[side]["seconds"], 1)
    if "img2dataset" in found:
        names = ("seconds", "span", "cpu_seconds", "mb")
        ratio = {n: round(found["ours"][n] / found["img2dataset"][n], 3) for n in names}
        found["ours_to_img2dataset"] = ratio
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--urls", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "download.json")
    parser.add_argument("--side", choices=[*SIDES, "server"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side == "server":
        asyncio.run(serve())
        return
    if a.side:
        urls = json.loads((a.folder / "list.json").read_text())
        print(json.dumps({"ours": ours, "img2dataset": img2dataset}[a.side](urls, a.folder)))
        return
    pythons = {"ours": sys.executable} | ({"img2dataset": a.peer_python} if a.peer_python else {})
    command = [sys.executable, __file__, "--side", "server"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        base = f"http://127.0.0.1:{int(server.stdout.readline())}"
        result = {
            "bench": "download",
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_before": round(os.getloadavg()[0], 1),
            "urls": a.urls,
            "hosts": [HOSTS, DEAD_HOSTS],
            "delay_ms": round(DELAY * 1000),
            "threads": WORKERS,
            "no_dead_hosts": compare(pythons, base, a.urls, 0.0, a.rounds),
            "two_percent_dead": compare(pythons, base, a.urls, 0.02, a.rounds),
        }
        server.stdin.close()
    result["load_after"] = round(os.getloadavg()[0], 1)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
