"""Ctrl-C in `rs5m tune` and `rs5m rs3` at many moments: one line, exit code 130, no process left,
and the same command ends with the bytes of a run that nobody interrupted.
"""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import killed
import numpy as np
import pytest
import small_clip
import torch
from cheap_rs3 import Cheap, cheap_rankers
from small import encoded

from rs5m import cli
from rs5m.commands import rs3

LINE = "rs5m: interrupted: run the same command again to go on"
MODEL = small_clip.NAMES[True]
SET = "epochs=2 warm_up=1 compiled=off precision=float32 checkpoint_every=2".split()
TUNE = ["tune", "--model", MODEL, "--data", "pairs.csv", "--batch-size", "4", "--set", *SET]
RS3 = ["rs3", "--images", "images", "--candidates", "6"]
FORK = -1  # in place of a step: while a worker is forked
MOMENTS = {  # files that were opened or renamed before, each time from the last one's leftovers
    "tune": (TUNE, (2, 22, 12), "open_clip_*"),
    "tune, a worker": ([*TUNE, "--workers", "1"], (FORK, 10, 11), "open_clip_*"),
    "tune, two workers": ([*TUNE, "--workers", "2"], (22, 12), "open_clip_*"),
    "rs3": (RS3, (4, 8, 7), "*.[pt]a*"),
}


def run(words: list[str], folder: Path, step: int) -> None:
    """One command in a group of processes of its own, with a cheap model and a signal at a step to
    all of them, as a terminal sends it.
    """
    os.setsid()
    os.chdir(folder)
    said = os.open(folder / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    torch.set_num_threads(1)
    small_clip.register(folder / "models")
    rs3._captioner = lambda _: (Cheap, "cheap")
    rs3._rankers = lambda _: (cheap_rankers, "cheap")
    multiprocessing.set_start_method("fork", force=True)  # of workers, as where nobody names one
    if step == FORK:
        os.register_at_fork(after_in_parent=lambda: os.killpg(0, signal.SIGINT))
    killed.at(step, "out", signal.SIGINT, group=True)
    sys.exit(cli.main([*words, "--out", "out"]))


@pytest.fixture(scope="module")
def processes():
    return killed.ready()


@pytest.fixture
def folder(tmp_path) -> Path:
    """pairs.csv of the pictures in images/."""
    (tmp_path / "models").mkdir()
    (tmp_path / "images").mkdir()
    rows = ["image,caption"]
    for i in range(16):
        pixels = np.random.default_rng(i).integers(1, 256, (40, 40, 3), np.uint8)
        (tmp_path / f"images/{i}.jpg").write_bytes(encoded(pixels, "JPEG"))
        rows.append(f"images/{i}.jpg,view {i}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    return tmp_path


def ended(processes, folder: Path, words: list[str], step: int) -> tuple[int, list[str]]:
    """The exit code, and the lines that it wrote, those of bars left out."""
    process = processes.Process(target=run, args=(words, folder, step))
    process.start()
    process.join()
    with pytest.raises(ProcessLookupError):  # no worker is left of the group
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    said = (folder / "said.txt").read_text().replace("\r", "\n").splitlines()
    return process.exitcode, [line for line in said if line.strip() and "it/s" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("command", MOMENTS)
def test_an_interrupted_run_says_one_line_and_goes_on(processes, folder, command):
    words, steps, made = MOMENTS[command]
    for step in steps:
        code, said = ended(processes, folder, words, step)
        assert code == 130 and said[-1] == LINE, said
        assert not any("Traceback" in line or "Error" in line for line in said), said
        assert not list(folder.glob("out/**/*.tmp")), "nothing is left half-written"
    assert ended(processes, folder, words, 0)[0] == 0
    found = {path.name: path.read_bytes() for path in (folder / "out").glob(made)}
    (folder / "out").rename(folder / "interrupted")
    assert ended(processes, folder, words, 0)[0] == 0
    assert found and found == {path.name: path.read_bytes() for path in (folder / "out").glob(made)}
