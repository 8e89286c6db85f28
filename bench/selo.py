"""Semantic localization of a large image outside the encoder, beside one window and one pixel at a time.

    python -m bench.selo [--height 2000] [--width 3000] [--queries 5] [--rounds 3]

Both sides, in turn in one run, from a decoded image and the queries' vectors to the four metrics of each query:

* ours: `rs5m.localize.cut` once, `rs5m.selo.probability_map` and `rs5m.selo.metrics` for each query
* plain (`tests/slow_selo.py`): for each query every window through a file, a loop over the map's pixels, the median
  filter, metrics that find the attention centres for Ras and again for Rda, as the official code does

The encoder is the same trifling one on both sides, the windows' mean colours, and is timed apart. The maps must be
equal to the last bit and the metrics to 1e-9. Target: at least 10 times faster outside the encoder. Chapter: selo.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from rs5m import localize, results, selo
from rs5m.zeroshot import normalise

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import slow_selo  # noqa: E402

TARGET = 10.0


def inputs(height: int, width: int, queries: int) -> tuple[np.ndarray, np.ndarray, list]:
    """A smooth random image, query vectors (queries, 3) and one to three polygons for each query."""
    generator = np.random.default_rng(0)
    rough = generator.integers(0, 256, (height // 100, width // 100, 3), np.uint8)
    image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    middles = generator.uniform(0.2, 0.8, (queries, 3, 1, 2)) * (width, height)
    regions = middles + generator.normal(0, 150, (queries, 3, 6, 2))
    return image, normalise(generator.normal(size=(queries, 3))), [r[: 1 + i % 3] for i, r in enumerate(regions)]


def encode(windows) -> np.ndarray:
    """Centred mean colours (n, 3): the encoder of this bench."""
    return normalise(np.array([window.mean((0, 1)) for window in windows]) - 127)


class Clock:
    """Seconds by part."""

    def __init__(self):
        self.parts = {}

    def __call__(self, part: str, work, *arguments):
        began = time.perf_counter()
        result = work(*arguments)
        self.parts[part] = self.parts.get(part, 0) + time.perf_counter() - began
        return result


def ours(image: np.ndarray, queries: np.ndarray, regions: list, clock: Clock) -> list:
    windows = clock("windows", selo.windows, *image.shape[:2])
    vectors = clock("encoder", encode, clock("windows", localize.cut, image, windows))
    found = []
    for query, polygons in zip(queries, regions, strict=True):
        heat = clock("map and median", selo.probability_map, windows, vectors @ query, *image.shape[:2])
        found.append((heat, clock("metrics", selo.metrics, heat, polygons)))
    return found


def plain(image: np.ndarray, queries: np.ndarray, regions: list, clock: Clock) -> list:
    found = []
    for query, polygons in zip(queries, regions, strict=True):
        windows = clock("windows", slow_selo.windows, *image.shape[:2])
        vectors = clock("encoder", encode, clock("windows", slow_selo.through_files, image, windows))
        heat = clock("map and median", slow_selo.probability_map, windows, vectors @ query, *image.shape[:2])
        found.append((heat, clock("metrics", slow_selo.metrics, heat, polygons)))
    return found


def outside(parts: dict[str, float]) -> float:
    return sum(seconds for part, seconds in parts.items() if part != "encoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=2000)
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    began, given = time.perf_counter(), inputs(args.height, args.width, args.queries)
    sides, rounds = {"ours": ours, "plain": plain}, {"ours": [], "plain": []}
    for number in range(args.rounds):
        told = {}
        for name in list(sides)[:: -1 if number % 2 else 1]:
            clock = Clock()
            told[name] = sides[name](*given, clock)
            rounds[name].append(clock.parts)
            print(f"round {number + 1}  {name:6s}{outside(clock.parts):8.2f} s outside the encoder", flush=True)
        for (map_a, metrics_a), (map_b, metrics_b) in zip(*told.values(), strict=True):
            assert (map_a == map_b).all() and all(abs(metrics_a[k] - metrics_b[k]) < 1e-9 for k in metrics_a)
    ratio = statistics.median(outside(p) / outside(o) for o, p in zip(rounds["ours"], rounds["plain"], strict=True))
    values = {
        "height": args.height, "width": args.width, "queries": args.queries, "rounds": args.rounds,
        "windows": len(selo.windows(args.height, args.width)), "ratio": round(ratio, 2), "target": TARGET,
        "target_met": ratio >= TARGET, "cpus": len(os.sched_getaffinity(0)), "load_average": os.getloadavg(),
        "seconds_a_query": {n: round(statistics.median(map(outside, r)) / args.queries, 3) for n, r in rounds.items()},
        "parts": {n: {p: round(statistics.median(told[p] for told in r), 3) for p in r[0]} for n, r in rounds.items()},
    }  # fmt: skip
    print(f"{values['windows']} windows, {args.queries} queries, {values['seconds_a_query']} s a query")
    print(f"{ratio:.1f} times, target {TARGET} {'met' if ratio >= TARGET else 'missed'}; by part {values['parts']}")
    print("stored in", results.save("selo", "bench", values, time.perf_counter() - began))


if __name__ == "__main__":
    main()
