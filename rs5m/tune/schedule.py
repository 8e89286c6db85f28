"""A tuning run's settings, and what they decide before the first step: the pairs of each step, its
random draws, its rate. Chapter: tune.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from rs5m.tune.augment import DRAWS
from rs5m.tune.distributed import rank, world


@dataclass(frozen=True)
class Settings:
    """One tuning run."""

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
    precision: str = "auto"  # auto, float32, bf16 or fp16
    compiled: bool = False  # torch.compile of both towers
    checkpoint_every: int = 500  # steps
    seed: int = 0

    def towers(self) -> tuple[str, ...]:
        """The towers that are tuned."""
        locked = {"image": self.lock_image, "text": self.lock_text}
        return tuple(tower for tower in locked if not locked[tower])


def plan(count: int, settings: Settings) -> np.ndarray:
    """Which pairs each step sees: positions (steps, batch), every epoch shuffled by seed and epoch,
    no pair twice.

    Batches are whole: a short last one would be an easier task, so up to batch_size - 1 pairs rest
    in an epoch. ValueError where the batch is larger than the data.
    """
    size = settings.batch_size
    if size > count:
        raise ValueError(
            f"a batch of {size} is larger than the data, {count} pairs: make the batch smaller"
        )
    each = count // size
    orders = [
        np.random.default_rng([settings.seed, epoch]).permutation(count)
        for epoch in range(settings.epochs)
    ]
    return np.concatenate([order[: each * size].reshape(each, -1) for order in orders])


def draws(step: int, settings: Settings) -> np.ndarray:
    """Random numbers for a step's crops, turns and captions: float32 (batch, DRAWS) in [0, 1)."""
    # two numbers seed an epoch's order, three a step
    generator = np.random.default_rng([settings.seed, 1, step])
    return generator.random((settings.batch_size, DRAWS), np.float32)


def items(steps: np.ndarray, settings: Settings, start: int = 0) -> Iterator[tuple]:
    """(positions, draws) of this process's share of every step from `start` on."""
    mine = slice(rank(), None, world())
    for step in range(start, len(steps)):
        yield steps[step][mine], draws(step, settings)[mine]


def rate(step: int, steps: int, warm_up: float = 0.1) -> float:
    """The learning rate's factor: a linear rise over the warm-up, then half a cosine to zero."""
    rise = max(1, int(warm_up * steps if warm_up < 1 else warm_up))
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
