"""Weights that a run keeps on its way: every so many steps, and the best by a validation. Chapter:
tune.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from rs5m import adapters
from rs5m.clip import Model, export
from rs5m.files import whole
from rs5m.tune.distributed import rank

KEPT, BEST, SCORE = "kept", "best", "score.json"


class Validation(NamedTuple):
    """What judges a model while it is tuned; the first of several processes asks it.

    Args:
        score: a model to its scores by name, which go into the log as validation/NAME; higher is
            better. It must leave the model as it is.
        by: the score that chooses the best weights.
        every: steps between two validations; 0: an epoch. The last step has one, too.
        about: what run.json says of it; the best weights by another one are not compared.
    """

    score: Callable[[Model], Mapping[str, float]]
    by: str
    every: int = 0
    about: Mapping[str, object] = {}


def save(model: Model, method: str, folder: Path) -> None:
    """Write the weights as they are now: a folder that open_clip loads, or the adapters alone where
    they cannot be merged. The model stays as it is.
    """
    if not adapters.mergeable(method):
        adapters.save(model.net, folder)
        return
    # unmerged weights would have other last digits
    net = model.net if method in ("full", "head") else copy.deepcopy(model.net)
    export.openclip(replace(model, net=adapters.merge(net).eval()), folder)


def best(out: str | Path) -> dict | None:
    """The step and the scores of the weights in out/best; None where there are none."""
    path = Path(out) / BEST / SCORE
    if not path.is_file():
        return None
    known = json.loads(path.read_text())
    return {key: known[key] for key in ("step", "by", "scores")}


class Keeper:
    """Validates and keeps weights while a run goes on. keep_every: steps, 0: never."""

    def __init__(
        self, out: str | Path | None, method: str, keep_every: int, validate: Validation | None
    ):
        self.out, self.method = Path(out) if out else None, method
        self.keep_every, self.validate = keep_every, validate

    def __call__(self, model: Model, done: int, last: bool, epoch: int) -> dict[str, float]:
        """After `done` steps: the scores by their names in the log, {} where none is due.

        epoch: steps of one.
        """
        scores = {}
        if not rank():
            if self.out and self.keep_every and done % self.keep_every == 0:
                save(model, self.method, self.out / KEPT / f"step-{done}")
            if self.validate and (last or done % (self.validate.every or epoch) == 0):
                scores = self._judged(model, done)
        return scores

    def _judged(self, model: Model, done: int) -> dict[str, float]:
        with torch.random.fork_rng():
            scores = {name: float(value) for name, value in self.validate.score(model).items()}
        if self.out and self._is_best(scores[self.validate.by], done):
            save(model, self.method, self.out / BEST)
            about = {"step": done, "by": self.validate.by, "scores": scores}
            with whole(self.out / BEST / SCORE) as temporary:
                temporary.write_text(json.dumps(about | {"about": self.validate.about}, indent=1))
        return {f"validation/{name}": value for name, value in scores.items()}

    def _is_best(self, score: float, done: int) -> bool:
        """Whether a score is above all before; what a killed run kept of later steps counts not."""
        path = self.out / BEST / SCORE
        if math.isnan(score):
            return False
        if not path.is_file():
            return True
        known = json.loads(path.read_text())
        rival = known["by"] == self.validate.by and known["about"] == {**self.validate.about}
        return not rival or known["step"] >= done or score > known["scores"][known["by"]]
