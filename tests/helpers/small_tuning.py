"""Small networks and pairs for tests of tuning; importable by a child process."""

import os
from pathlib import Path

import numpy as np
import small

from rs5m.clip import Model
from rs5m.tune import Settings, loader

ROOT = Path(__file__).parents[2]
QUICK = Settings(size=4, learning_rate=3e-3, batch_size=32, epochs=2)
VARIABLES = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests/helpers"))),
    "OMP_NUM_THREADS": "1",
}


def tiny(seed: int = 0) -> Model:
    """CLIP's two transformers, small and random."""
    return small.model(small.vit(seed))


def pocket_like() -> Model:
    """The pocket model's convolutional image tower, random, with a small text tower."""
    return small.model(small.pocket())


def some_pairs(count: int = 64) -> tuple[list[np.ndarray], list[tuple[str, ...]]]:
    """Images of eight colours, with two captions that name the colour."""
    generator = np.random.default_rng(0)
    names = ("black", "blue", "green", "cyan", "red", "magenta", "yellow", "white")
    images, captions = [], []
    for i in range(count):
        colour = np.array([i % 8 & 4, i % 8 & 2, i % 8 & 1], bool) * 200
        images.append((colour + generator.integers(0, 56, (15, 15, 3))).astype(np.uint8))
        captions.append((f"{names[i % 8]} land", f"a view of {names[i % 8]}"))
    return images, captions


def memory(count: int = 64) -> loader.Memory:
    return loader.Memory(*some_pairs(count), 32)
