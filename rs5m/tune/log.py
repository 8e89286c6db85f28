"""What a tuning run leaves in its folder: a checkpoint and a JSON line for every step. Chapter:
tune.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from rs5m.tune.distributed import rank

CHECKPOINT, LOG, DAMAGED = "checkpoint.safetensors", "log.jsonl", "damaged.txt"


class State(NamedTuple):
    """Where a run goes on: the next step, and the losses of those before."""

    step: int
    losses: list[float]


def trained(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters being trained, by name."""
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


def save_checkpoint(
    out: str | Path, identity: str, step: int, net: nn.Module, optimiser, scaler
) -> None:
    """Write what is trained and the optimiser's moments after `step` steps, by a temporary name and
    a rename.
    """
    if rank() > 0:
        return
    tensors = {}
    for name, parameter in trained(net).items():
        tensors[name] = parameter.detach()
        tensors |= {f"{key}|{name}": value for key, value in optimiser.state[parameter].items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    about = {
        "identity": identity,
        "step": str(step),
        "scaler": json.dumps(scaler.state_dict()),
        "base": _base(net),
    }
    path = Path(out) / CHECKPOINT
    temporary = path.with_suffix(".tmp")
    try:
        save_file(tensors, temporary, about)
        with temporary.open("rb") as stream:
            os.fsync(
                stream.fileno()
            )  # a rename that is on disk before the bytes are would name an empty file
        temporary.replace(path)
    except Exception as error:  # safetensors reports a full disk as its own error
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error}): free space, then run it again"
        ) from error


def _base(net: nn.Module) -> str:
    """The length of every frozen parameter: two base models of one shape are told apart, last
    digits are not.
    """
    return json.dumps(
        {
            name: float(p.detach().norm())
            for name, p in net.named_parameters()
            if not p.requires_grad
        }
    )


def load_checkpoint(
    out: str | Path | None, identity: str, net: nn.Module, optimiser, scaler
) -> State:
    """Put the checkpoint of the run's folder into network and optimiser; State(0, []) where there
    is none.

    ValueError for the folder of another run and for a checkpoint that cannot be read.
    """
    path = Path(out) / CHECKPOINT if out else None
    if path is None or not path.is_file():
        return State(0, [])
    try:
        kept = safe_open(path, "pt")
        about = kept.metadata()
    except Exception as error:
        raise ValueError(
            f"{path} is no whole checkpoint ({error}): remove it to begin anew"
        ) from error
    base = [json.loads(facts) for facts in (about.get("base", "{}"), _base(net))]
    same = base[0].keys() == base[1].keys() and all(
        math.isclose(base[0][k], base[1][k], rel_tol=1e-3) for k in base[0]
    )
    if about.get("identity") != identity or not same:
        raise ValueError(
            f"{path} belongs to another run (settings, data or model differ): name another folder"
        )
    for name, parameter in trained(net).items():
        with torch.no_grad():
            parameter.copy_(kept.get_tensor(name))
        moments = {
            key: kept.get_tensor(f"{key}|{name}") for key in ("step", "exp_avg", "exp_avg_sq")
        }
        on = {
            key: value if key == "step" else value.to(parameter) for key, value in moments.items()
        }
        optimiser.state[parameter] = on
    scaler.load_state_dict(json.loads(about["scaler"]))
    step = int(about["step"])
    return State(step, [line["loss"] for line in _lines(Path(out) / LOG)[:step]])


def _lines(path: Path) -> list[dict]:
    """The whole lines of a log; a process that was killed may have left half of one."""
    if not path.is_file():
        return []
    return [
        json.loads(line)
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


class Log:
    """A line of JSON for every step in log.jsonl, and the same to TensorBoard if asked; the first
    process writes.
    """

    def __init__(self, out: str | Path | None, step: int, board: bool = False):
        self.losses, self.speed, self.began, self.file, self.board = (
            [],
            0.0,
            time.perf_counter(),
            None,
            None,
        )
        self.folder = Path(out) if out else None
        if out is None or rank() > 0:
            return
        path = Path(out) / LOG
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines(path)[
            :step
        ]  # later steps were taken after the checkpoint, and are taken again
        if len(kept) < step:
            raise ValueError(
                f"{path} has {len(kept)} lines, the checkpoint beside it {step} steps: remove both"
            )
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(path)
        self.file = path.open("a")
        if board:
            self.board = _board(path.parent)

    def damaged(self, names: list[str]) -> None:
        """Name the pairs that a batch went without: in damaged.txt, by every process."""
        if names and self.folder:
            with (self.folder / DAMAGED).open("a") as stream:
                stream.write("".join(f"{name}\n" for name in names))

    def line(self, step: int, images: int, **values: float) -> None:
        """Note a step: loss, rate and norm, with images a second since the step before."""
        now = time.perf_counter()
        self.speed, self.began = images / max(now - self.began, 1e-9), now
        self.losses.append(values["loss"])
        if self.file:
            facts = {
                name: value if math.isfinite(value) else None for name, value in values.items()
            }
            record = {"step": step, **facts, "images_per_second": round(self.speed, 1)}
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()  # a reader follows the run
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring the lines to the disk, before a checkpoint counts on them."""
        if self.file:
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
            "TensorBoard is not installed: pip install tensorboard, or leave it away"
        ) from error
    return SummaryWriter(str(folder / "board"))
