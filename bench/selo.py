"""Semantic localization of a large image outside the encoder, beside one window and one pixel at a
time.

    python -m bench.selo [--height 2000] [--width 3000] [--queries 5] [--rounds 5] [--plain-rounds
    2]

Both sides, in turn in one run (the plain one, which is slow, in the first rounds only), from a
decoded image and the queries' vectors to the four metrics of each query:

* ours: `rs5m.evaluate.localize.cut` once, `rs5m.selo.probability_map` and `rs5m.selo.metrics` for
  each query
* plain (`tests/slow_selo.py`): for each query every window through a file, a loop over the map's
  pixels, the median filter, metrics that find the attention centres for Ras and again for Rda, as
  the official code does

The encoder is the same trifling one on both sides, the windows' mean colours, and is timed apart.
The maps must be equal to the last bit and the metrics to 1e-9. Targets: at least 10 times faster
outside the encoder, and at most 0.45 s a query. Processor seconds stand beside the clock's: on a
busy machine they say more. Chapter: selo.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from rs5m import results, selo
from rs5m.evaluate import localize
from rs5m.zeroshot import normalise

sys.path.append(str(Path(__file__).parents[1] / "tests/helpers"))

import slow_selo  # noqa: E402

TARGET, TARGET_SECONDS = 10.0, 0.45
CUTTING, ENCODER, MAP, MEDIAN, METRICS = (
    "cutting windows",
    "encoder",
    "map",
    "median filter",
    "metrics",
)


def inputs(height: int, width: int, queries: int) -> tuple[np.ndarray, np.ndarray, list]:
    """A smooth random image, query vectors (queries, 3), one to three polygons for each query."""
    generator = np.random.default_rng(0)
    rough = generator.integers(0, 256, (height // 100, width // 100, 3), np.uint8)
    image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    middles = generator.uniform(0.2, 0.8, (queries, 3, 1, 2)) * (width, height)
    regions = middles + generator.normal(0, 150, (queries, 3, 6, 2))
    return (
        image,
        normalise(generator.normal(size=(queries, 3))),
        [r[: 1 + i % 3] for i, r in enumerate(regions)],
    )


def encode(windows) -> np.ndarray:
    """Centred mean colours (n, 3): the encoder of this bench."""
    return normalise(np.array([window.mean((0, 1)) for window in windows]) - 127)


class Clock:
    """Seconds of the clock and of the processor, by part."""

    def __init__(self):
        self.parts = {}

    def __call__(self, part: str, work, *arguments):
        clock, cpu = time.perf_counter(), time.process_time()
        result = work(*arguments)
        spent = np.array([time.perf_counter() - clock, time.process_time() - cpu])
        self.parts[part] = self.parts.get(part, 0) + spent
        return result

    def outside(self) -> np.ndarray:
        """Seconds outside the encoder."""
        return sum(spent for part, spent in self.parts.items() if part != ENCODER)


def ours(image: np.ndarray, queries: np.ndarray, regions: list, clock: Clock) -> list:
    windows = clock(CUTTING, selo.windows, *image.shape[:2])
    vectors = clock(ENCODER, encode, clock(CUTTING, localize.cut, image, windows))
    found = []
    for query, polygons in zip(queries, regions, strict=True):
        heat = clock(MAP, selo.probability_map, windows, vectors @ query, *image.shape[:2])
        found.append((heat, clock(METRICS, selo.metrics, heat, polygons)))
    return found


def plain(image: np.ndarray, queries: np.ndarray, regions: list, clock: Clock) -> list:
    found = []
    for query, polygons in zip(queries, regions, strict=True):
        windows = clock(CUTTING, slow_selo.windows, *image.shape[:2])
        vectors = clock(ENCODER, encode, clock(CUTTING, slow_selo.through_files, image, windows))
        heat = clock(MAP, slow_selo.probability_map, windows, vectors @ query, *image.shape[:2])
        found.append((heat, clock(METRICS, slow_selo.metrics, heat, polygons)))
    return found


def timed(side, given: tuple) -> tuple[list, Clock]:
    """What a side found, and its seconds; the median filter, which both call within their map, is
    told apart.
    """
    clock = Clock()
    with mock.patch.object(cv2, "medianBlur", partial(clock, MEDIAN, cv2.medianBlur)):
        found = side(*given, clock)
    clock.parts[MAP] -= clock.parts[MEDIAN]
    return found, clock


def assert_equal(found: list, expected: list) -> None:
    for (heat, told), (plain_heat, plain_told) in zip(found, expected, strict=True):
        assert (heat == plain_heat).all()
        assert all(abs(told[key] - plain_told[key]) < 1e-9 for key in ("rsu", "rda", "ras", "rmi"))


def measure(given: tuple, rounds: int, plain_rounds: int) -> dict[str, list[Clock]]:
    """The clocks of every round of both sides, which must find the same; every other round in
    reverse order.
    """
    clocks, told = {"ours": [], "plain": []}, {}
    for number in range(rounds):
        sides = {"ours": ours} | ({"plain": plain} if number < plain_rounds else {})
        for name in list(sides)[:: -1 if number % 2 else 1]:
            told[name], clock = timed(sides[name], given)
            clocks[name].append(clock)
            print(
                f"round {number + 1}  {name:6s}{clock.outside()[0]:8.2f} s outside the encoder",
                flush=True,
            )
        assert_equal(told["ours"], told["plain"])
    return clocks


def summary(clocks: dict[str, list[Clock]], queries: int) -> dict:
    """Medians over rounds: ratios, and seconds a query in all and by part."""
    total = {
        name: np.median([clock.outside() for clock in side], 0) / queries
        for name, side in clocks.items()
    }
    parts = {
        name: {
            part: np.median([clock.parts[part][0] for clock in side]) / queries
            for part in side[0].parts
        }
        for name, side in clocks.items()
    }
    ratio, cpu_ratio = (total["plain"] / total["ours"]).tolist()
    return {
        "ratio": round(ratio, 2),
        "ratio_cpu": round(cpu_ratio, 2),
        "target": TARGET,
        "target_met": ratio >= TARGET,
        "seconds_a_query": {name: round(float(found[0]), 3) for name, found in total.items()},
        "cpu_seconds_a_query": {name: round(float(found[1]), 3) for name, found in total.items()},
        "target_seconds": TARGET_SECONDS,
        "target_seconds_met": bool(total["ours"][0] <= TARGET_SECONDS),
        "parts": {
            name: {part: round(float(spent), 4) for part, spent in told.items()}
            for name, told in parts.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=2000)
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain-rounds", type=int, default=2)
    args = parser.parse_args()
    began, count = time.perf_counter(), len(selo.windows(args.height, args.width))
    assert (args.height, args.width) != (2000, 3000) or count == 261, count
    clocks = measure(
        inputs(args.height, args.width, args.queries), args.rounds, max(1, args.plain_rounds)
    )
    values = vars(args) | {"windows": count} | summary(clocks, args.queries)
    values |= {"cpus": len(os.sched_getaffinity(0)), "load_average": os.getloadavg()}
    print(f"{count} windows, {args.queries} queries; seconds a query by part: {values['parts']}")
    for name, unit, what in (
        ("ratio", "times", "target"),
        ("seconds_a_query", "s a query", "target_seconds"),
    ):
        verdict = "met" if values[what + "_met"] else "missed"
        print(f"{values[name]} {unit}, target {values[what]} {verdict}")
    print("stored in", results.save("selo", "bench", values, time.perf_counter() - began))


if __name__ == "__main__":
    main()
