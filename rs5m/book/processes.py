"""A scale's tuning in as many processes as there are GPUs, started from a chapter. Chapter: tune.

torchrun starts `rs5m.book.worker` once for each; what they tune, and where, is in a file. A single
GPU, or none, needs none of it.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import torch

from rs5m.book.scales import Scale
from rs5m.tune import Settings

TASK, WORKER = "task.pickle", "rs5m.book.worker"
VARIABLE = "RS5M_PROCESSES"
FAULT = "rs5m: "


def count() -> int:
    """As many as RS5M_PROCESSES says, else one for each GPU. ValueError for another word."""
    word = os.environ.get(VARIABLE) or str(max(1, torch.cuda.device_count()))
    if not word.isdecimal() or int(word) < 1:
        raise ValueError(f"{VARIABLE} is {word!r}: give a whole number, 1 or more")
    return int(word)


def start(number: int, scale: Scale, run: tuple[str, ...], chosen: Settings, out: Path) -> None:
    """`rs5m.book.domain.tuned` in several processes; what they print is printed. ValueError with
    their sentence where they stop.

    Args:
        number: of processes.
        scale, run, chosen, out: those of `tuned`.
    """
    task = out / TASK
    task.write_bytes(pickle.dumps((scale, run, chosen, out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(number), "-m", WORKER, str(task)]
    print(f"tuning in {number} processes", flush=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process, said = subprocess.Popen(command, env=_variables(), **pipes), []
    try:
        for line in process.stdout:
            said.append(line)
            print(line, end="")
        process.wait()
    finally:
        if process.poll() is None:  # torchrun takes its processes with it
            process.terminate()
            process.wait()
        task.unlink(missing_ok=True)
    if process.returncode:
        faults = [line for line in said if line.startswith(FAULT)]
        why = faults[0].removeprefix(FAULT) if faults else "".join(said[-3:])
        raise ValueError(f"tuning in {number} processes stopped: {why.strip()}")


def _variables() -> dict[str, str]:
    """The package is where it is here, also beside a notebook; a thread for each process where
    nobody says otherwise, as torchrun has it.
    """
    package = str(Path(__file__).parents[2])
    held = os.environ.get("PYTHONPATH")
    path = package if not held else f"{package}{os.pathsep}{held}"
    return {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": path}
