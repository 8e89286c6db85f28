"""What a tuning run leaves in its folder: a checkpoint and a JSON line for every step. Chapter:
tune.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import nn

from rs5m import results
from rs5m.clip.checkpoints import write
from rs5m.data import runfolder
from rs5m.files import unwritten, whole
from rs5m.tune.distributed import rank
from rs5m.tune.schedule import Settings

CHECKPOINT, LOG, DAMAGED = "checkpoint.safetensors", "log.jsonl", "damaged.txt"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of every parameter


class State(NamedTuple):
    """Where a run goes on: the next step, and the losses of those before."""

    step: int
    losses: list[float]


def trained(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters being trained, by name."""
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


@contextmanager
def held(out: str | Path | None) -> Iterator[None]:
    """Hold a run's folder: one run at a time, without the half-written files of killed ones.

    OSError where another run is at work. The first of several processes holds it for all.
    """
    if out is None or rank() > 0:
        yield
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with runfolder.lock(folder / ".tune.lock", folder):
        runfolder.sweep(folder)
        yield


def save_checkpoint(out: str | Path, data: str, step: int, run) -> None:
    """Write what is trained and the optimizer's moments, whole or not at all; by the first process
    alone.

    Args:
        out: the folder of the run.
        data: the source's fingerprint.
        step: how many are done.
        run: net, settings, optimizer and scaler, as `rs5m.tune.loop.Run` holds them.
    """
    if rank() > 0:
        return
    tensors = {}
    for name, parameter in trained(run.net).items():
        tensors[name] = parameter.detach()
        moments = run.optimizer.state[parameter]
        tensors |= {f"{key}|{name}": value for key, value in moments.items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    header = {
        "identity": _identity(data, run.settings),
        "settings": json.dumps(asdict(run.settings.alike())),
        "step": str(step),
        "scaler": json.dumps(run.scaler.state_dict()),
        "base": json.dumps(_base(run.net)),
    }
    with whole(Path(out) / CHECKPOINT) as temporary:
        write(tensors, temporary, header)


def _identity(data: str, settings: Settings) -> str:
    return results.digest(settings.alike(), data)


def refuse_other(out: str | Path, settings: Settings) -> None:
    """ValueError that says which settings differ from those of the run in a folder; nothing where
    there is none, or its checkpoint cannot be read.
    """
    path = Path(out) / CHECKPOINT
    try:
        kept = safe_open(path, "pt").metadata()["settings"]
    except Exception:  # none there, cut off, or written before it said its settings
        return
    here = asdict(settings.alike())
    there = asdict(Settings()) | json.loads(kept)  # written before a setting was: its default
    said = {None: "all"}  # of steps
    changed = [
        f"{name} {said.get(there[name], there[name])} -> {said.get(new, new)}"
        for name, new in here.items()
        if there[name] != new
    ]
    if changed:
        raise ValueError(
            f"{path} belongs to another run ({', '.join(changed)}): give the settings it was begun "
            "with to go on with it, or name another folder"
        )


def _base(net: nn.Module) -> dict[str, float]:
    """The length of every frozen parameter: it distinguishes two base models of one shape,
    but not last digits.
    """
    frozen = ((name, p) for name, p in net.named_parameters() if not p.requires_grad)
    return {name: float(p.detach().norm()) for name, p in frozen}


def load_checkpoint(out: str | Path | None, data: str, run) -> State:
    """Put the checkpoint of the run's folder into its network, optimizer and scaler; State(0, [])
    where there is none. data and run: as in `save_checkpoint`.

    ValueError for the folder of another run and for a checkpoint that cannot be read.
    """
    path = Path(out) / CHECKPOINT if out else None
    if path is None or not path.is_file():
        return State(0, [])
    try:
        kept = safe_open(path, "pt")
        header = kept.metadata()
    except Exception as error:
        raise ValueError(
            f"{path} is not a whole checkpoint ({error}): remove it to start over"
        ) from error
    there, here = json.loads(header.get("base", "{}")), _base(run.net)
    same = there.keys() == here.keys() and all(
        math.isclose(there[name], here[name], rel_tol=1e-3) for name in here
    )
    refuse_other(out, run.settings)
    if header.get("identity") != _identity(data, run.settings) or not same:
        what = "its model differs" if not same else "its data differ"
        what = what if "settings" in header else "settings, data or model differ"
        raise ValueError(f"{path} belongs to another run ({what}): name another folder")
    for name, parameter in trained(run.net).items():
        with torch.no_grad():
            parameter.copy_(kept.get_tensor(name))
        moments = {key: kept.get_tensor(f"{key}|{name}") for key in MOMENTS}
        run.optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter) for key, value in moments.items()
        }
    if scaler := json.loads(header["scaler"]):  # {}: of a GPU where "auto" was not fp16
        run.scaler.load_state_dict(scaler)
    step = int(header["step"])
    return State(step, [line["loss"] for line in _lines(Path(out) / LOG)[:step]])


def _lines(path: Path) -> list[dict]:
    """The whole lines of a log; a process that was killed may have left half of one."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def spent(out: str | Path) -> float:
    """Seconds from the first step to the last that the log of a folder has, over all processes that
    wrote it.
    """
    lines = _lines(Path(out) / LOG)
    return lines[-1].get("seconds", 0.0) if lines else 0.0


@contextmanager
def _saying(path: str | Path) -> Iterator[None]:
    """A full disk is an OSError that names the file."""
    try:
        yield
    except OSError as error:
        raise unwritten(path, error) from error


class Log:
    """A line of JSON for every step in log.jsonl, and the same to TensorBoard if asked; the first
    process writes.
    """

    def __init__(self, out: str | Path | None, step: int, board: bool = False):
        self.losses, self.speed, self.began = [], 0.0, time.perf_counter()
        self.origin = self.began - (spent(out) if out else 0.0)
        self.file, self.board = None, None
        self.folder = Path(out) if out else None
        if out is None or rank() > 0:
            return
        path = Path(out) / LOG
        # later steps were taken after the checkpoint, and are taken again
        kept = _lines(path)[:step]
        if len(kept) < step:
            raise ValueError(
                f"{path} has {len(kept)} lines, the checkpoint beside it {step} steps: remove both"
            )
        with whole(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a")
        if board:
            self.board = _board(path.parent)

    def damaged(self, names: list[str]) -> None:
        """Name the pairs that a batch went without: in damaged.txt, by every process."""
        if names and self.folder:
            path = self.folder / DAMAGED
            with _saying(path), path.open("a", errors="backslashreplace") as stream:
                stream.writelines(f"{' '.join(name.splitlines())}\n" for name in names)

    def time(self, images: int) -> None:
        """Take the time of a step of so many images: the speed is that since the line before."""
        self.speed = images / max(time.perf_counter() - self.began, 1e-9)

    def line(self, step: int, **values: float) -> None:
        """Note a step: loss, rate and norm, with its images a second, and what else is given."""
        self.began = now = time.perf_counter()
        self.losses.append(values["loss"])
        if self.file:
            record = {"step": step, **values, "images_per_second": round(self.speed, 1)}
            record["seconds"] = round(now - self.origin, 3)
            record = {name: v if math.isfinite(v) else None for name, v in record.items()}
            with _saying(self.file.name):
                self.file.write(json.dumps(record) + "\n")
                self.file.flush()  # a reader follows the run
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring the lines to the disk, before a checkpoint counts on them."""
        if self.file:
            with _saying(self.file.name):
                os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the files."""
        for stream in (self.file, self.board):
            if stream:
                stream.close()


def _board(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "TensorBoard is not installed: pip install tensorboard, or leave it out"
        ) from error
    return SummaryWriter(str(folder / "board"))
