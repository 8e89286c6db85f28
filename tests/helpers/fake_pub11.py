"""A cheap judge for tests of the pipeline: the mean blue of a picture; importable by a child
process. And such a process, and what it ends with.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rs5m import pub11, web

LIMITS = web.Limits(allow_loopback=True, per_host=8, retries=0, timeout=20)
WHOLE = ("kept.parquet", "dropped.parquet", "copies.parquet", "attrition.parquet")
WHOLE += ("pub11-train-0000.tar",)


def mean_blue(pictures):
    """Scores and probabilities (n,) without any network."""
    value = np.array([p[..., 2].mean() / 255 for p in pictures])
    return value, 1 - value


@dataclass(frozen=True)
class Cheap:
    """Stands where rs5m.book.judge.Model stands."""

    def about(self):
        return "judge: a test's"

    def identity(self):
        return ["cheap"]

    def prepare(self, out):
        pass

    def load(self, out):
        with (out / "loads.txt").open("a") as log:
            log.write(f"{os.getpid()}\n")
        return mean_blue

    def reasons(self, score, probability, out):
        return ["too_blue" if s > 0.6 else None for s in score]


def contents(out):
    return {name: (out / name).read_bytes() for name in WHOLE}


def child(pairs, out, **environment):
    """A process that runs pub11 in shards of 8 URLs and says "ready" first."""
    here = Path(__file__)
    path = os.pathsep.join([str(here.parents[2]), str(here.parent)])
    return subprocess.Popen(
        [sys.executable, str(here), str(pairs), str(out), "8"],
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    print("ready", flush=True)
    pub11.run(sys.argv[1], Path(sys.argv[2]), Cheap(), LIMITS, int(sys.argv[3]))
