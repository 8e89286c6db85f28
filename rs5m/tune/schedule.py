"""A tuning run's settings, and what they decide before the first step: the pairs of each step, its
random draws, its rate. Chapter: tune.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from rs5m.adapters import METHODS
from rs5m.tune.augment import DRAWS, TURNS, View
from rs5m.tune.distributed import rank, world

WIDEST = 2048  # numbers of a tower's vectors: open_clip's widest has 1,792
PRECISIONS = {"auto": None, "float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """One tuning run. ValueError, naming the setting, for a value that makes no sense."""

    method: str = "lora"  # one of rs5m.adapters.METHODS
    size: int = 16  # rank, bottleneck width or prefix length
    lock_text: bool = True  # leave the text tower as it is
    lock_image: bool = False
    learning_rate: float = 2e-3
    weight_decay: float = 0.01  # not on gains and biases
    batch_size: int = 128  # of the contrastive batch, over all GPUs
    chunk: int = 0  # images a GPU holds at once (gradient caching); 0: all of its share
    epochs: int = 8
    warm_up: float = 0.1  # below 1: share of the steps over which the rate rises; else steps
    max_norm: float = 0.0  # of the gradient; 0: not clipped
    augment: bool = True  # crops, turns and mirror images; off: the images as in evaluation
    crop: float = 0.9  # smallest share of an image that is shown, of its area; 1: all of it
    turns: str = "any"  # any, right (by 0, 90, 180 or 270 degrees) or none
    mirror: bool = True  # half of the images
    precision: str = "auto"  # auto, float32, bf16 or fp16
    compiled: bool = False  # torch.compile of both towers
    checkpoint_every: int = 500  # steps
    keep_every: int = 0  # steps between weights that are kept for good; 0: the last ones alone
    seed: int = 0
    steps: int | None = None  # of the optimizer, the rate planned for them; None: all of the epochs

    def __repr__(self) -> str:
        # stored runs are known by it: what is newer than they are is left out where it is not set
        shown = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __post_init__(self):
        words = {"method": tuple(METHODS), "turns": TURNS, "precision": tuple(PRECISIONS)}
        for name, known in words.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")
        for name in ("size", "batch_size", "epochs", "checkpoint_every", "steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}: give 1 or more")
        if self.size > WIDEST:
            raise ValueError(f"size is {self.size}: give at most {WIDEST}, no tower is wider")
        for name in (
            "learning_rate",
            "weight_decay",
            "chunk",
            "warm_up",
            "max_norm",
            "keep_every",
            "seed",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give 0 or more")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is {self.crop}: give the smallest share of an image, up to 1")

    def towers(self) -> tuple[str, ...]:
        """The towers that are tuned."""
        locked = {"image": self.lock_image, "text": self.lock_text}
        return tuple(tower for tower in locked if not locked[tower])

    def view(self) -> View | None:
        """What may be drawn of an image; None: it is shown as in evaluation."""
        return View(self.crop, self.turns, self.mirror) if self.augment else None

    def alike(self) -> Settings:
        """The settings less what may change when a run goes on."""
        return replace(self, chunk=0, compiled=False, checkpoint_every=1, keep_every=0)


def plan(count: int, settings: Settings) -> np.ndarray:
    """Which pairs each step sees: positions (steps, batch), every epoch shuffled by seed and epoch,
    no pair twice.

    Batches are whole: a short last one would be an easier task, so up to batch_size - 1 pairs rest
    in an epoch. ValueError where the batch is larger than the data, and for more steps than the
    epochs have.
    """
    size = settings.batch_size
    if size > count:
        raise ValueError(
            f"a batch of {size} is larger than the data, {count} pairs: make the batch smaller "
            f"(--set batch_size={count})"
        )
    each = count // size
    if (settings.steps or 0) > each * settings.epochs:
        raise ValueError(
            f"steps is {settings.steps}: {settings.epochs} epochs of {count} pairs have "
            f"{each * settings.epochs}, give fewer or more epochs (--set epochs=N)"
        )
    orders = [
        np.random.default_rng([settings.seed, epoch]).permutation(count)
        for epoch in range(settings.epochs)
    ]
    every = np.concatenate([order[: each * size].reshape(each, -1) for order in orders])
    return every[: settings.steps]


def shortened(steps: int, every: int, settings: Settings) -> list[str]:
    """What is said of a run of so many of the epochs' steps before the first: what it has less."""
    said, rise = [], warming(steps, settings.warm_up)
    if steps < every:
        said += [f"{steps} of the {every} steps of {settings.epochs} epochs (--set steps)"]
    if rise < int(settings.warm_up):
        said += [f"the rate rises over {rise} of {steps} steps, not over {settings.warm_up:g}"]
    return said


def draws(step: int, settings: Settings) -> np.ndarray:
    """Random numbers for a step's crops, turns and captions: float32 (batch, DRAWS) in [0, 1)."""
    # two numbers seed an epoch's order, three a step
    generator = np.random.default_rng([settings.seed, 1, step])
    return generator.random((settings.batch_size, DRAWS), np.float32)


def items(steps: np.ndarray, settings: Settings, start: int = 0) -> Iterator[tuple]:
    """(positions, draws, view) of this process's share of every step from `start` on."""
    mine, view = slice(rank(), None, world()), settings.view()
    for step in range(start, len(steps)):
        yield steps[step][mine], draws(step, settings)[mine], view


def warming(steps: int, warm_up: float) -> int:
    """How many of the steps the rate rises over: a tenth where the warm-up leaves none to fall."""
    share = warm_up if warm_up < 1 else 0.1
    return int(warm_up) if 1 <= warm_up < steps else max(1, int(share * steps))


def rate(step: int, steps: int, warm_up: float = 0.1) -> float:
    """The learning rate's factor: a linear rise over the warm-up, then half a cosine to zero."""
    rise = warming(steps, warm_up)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def batches(count: int, settings, generator: torch.Generator) -> list[list[int]]:
    """Shuffled positions for all epochs in whole batches: of `settings.batch_size`, or of all pairs
    if there are fewer.

    For trainings that go in one piece, of a head or a captioner: unlike `plan` it draws from the
    generator that chooses their captions and turns afterwards.
    """
    size = min(settings.batch_size, count)
    orders = [torch.randperm(count, generator=generator).tolist() for _ in range(settings.epochs)]
    starts = range(0, count - size + 1, size)
    return [order[start : start + size] for order in orders for start in starts]
