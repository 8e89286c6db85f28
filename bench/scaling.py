"""What a stage of `rs5m pub11` costs: processor seconds and memory of whole runs at three sizes.

    python -m bench.scaling [--sizes 300 1000 3000] [--out results/bench/scaling.json]

Pages come from a server of another process on loopback; nine of ten listed pairs have no keyword;
pictures are made JPEG files of 320 x 240 pixels, one in fifty comes again as another file; nothing
judges them. Each run has a process of its own. The numbers of one size are not used to predict that
size in the chapter. Chapter: scaling.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, Queue, get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LISTED = 10  # pairs for each one with a keyword
STAGES = {  # of rs5m.pub11.pipeline: its functions
    "select": "select",
    "download": "_fetch",
    "look": "_pictured",
    "write": "finish",
    "report": "_tell",
}


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass


def serve(folder: str, said: Queue) -> None:
    """A server until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    said.put(server.server_port)
    server.serve_forever()


def pages(folder: Path, n: int) -> float:
    """Write n pictures; returns their mean bytes."""
    r, size = np.random.default_rng(0), 0
    for k in range(n):
        coarse = Image.fromarray(r.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        picture, quality = coarse.resize((320, 240), Image.Resampling.BICUBIC), 90
        fine = r.integers(-12, 13, (240, 320, 1))
        picture = Image.fromarray((np.asarray(picture) + fine).clip(0, 255).astype(np.uint8))
        if k % 50 == 49:
            picture, quality = Image.open(folder / f"{k - 1}.jpg"), 60
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality)
        size += (folder / f"{k}.jpg").write_bytes(data.getvalue())
    return size / n


def timed(found: dict, name: str, work):
    """`work`, which adds its processor seconds, less those of stages inside it, to `found`."""

    def call(*given, **named):
        start, before = time.process_time(), sum(found.values())
        try:
            return work(*given, **named)
        finally:
            inside = sum(found.values()) - before
            found[name] = found.get(name, 0.0) + time.process_time() - start - inside

    return call


def run(pairs: Path, out: Path) -> dict:
    """One run in this process."""
    from rs5m import pub11, web
    from rs5m.pub11 import duplicates, pipeline
    from rs5m.pub11.judge import Named

    found: dict[str, float] = {}
    duplicates._pairs = timed(found, "duplicates", duplicates._pairs)
    for name, function in STAGES.items():
        setattr(pipeline, function, timed(found, name, getattr(pipeline, function)))
    limits = web.Limits(allow_loopback=True, per_host=16, retries=0)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    pub11.run(pairs, out, Named("none", "", "", "none", None, None), limits, 512)
    after = resource.getrusage(resource.RUSAGE_SELF)
    sizes = {
        p.name: sum(f.stat().st_size for f in p.rglob("*")) for p in out.iterdir() if p.is_dir()
    }
    kept = len(pd.read_parquet(out / "kept.parquet"))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": found,
        "grown_mb": (after.ru_maxrss - before) / 1e3,
        "kept": kept,
        "bytes": sizes | {"tars": sum(f.stat().st_size for f in out.glob("*.tar"))},
    }


def measure(n: int) -> dict:
    """A run on n pages."""
    with tempfile.TemporaryDirectory() as folder:
        site, said = Path(folder, "site"), Queue()
        site.mkdir()
        size = pages(site, n)
        server = Process(target=serve, args=(str(site), said), daemon=True)
        server.start()
        base = f"http://127.0.0.1:{said.get()}"
        rows = [
            (f"{base}/{k // LISTED}.jpg", "a cat on a sofa" if k % LISTED else f"aerial photo {k}")
            for k in range(n * LISTED)
        ]
        table = Path(folder, "pairs.parquet")
        pd.DataFrame(rows, columns=["url", "text"]).to_parquet(table)
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            found = fresh.submit(run, table, Path(folder, "out")).result()
        server.terminate()
    return {"pages": n, "listed": n * LISTED, "bytes_a_picture": size} | found


def main() -> None:
    """Measure what was asked for and write it beside what was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "scaling.json")
    given = parser.parse_args()
    kept = json.loads(given.out.read_text())["runs"] if given.out.exists() else []
    runs = {one["pages"]: one for one in kept} | {n: measure(n) for n in given.sizes}
    said = {
        "bench": "scaling",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "runs": [runs[n] for n in sorted(runs)],
    }
    given.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
