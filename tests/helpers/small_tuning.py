"""Small networks and pairs for tests of tuning; importable by a child process."""

import os
from pathlib import Path

import numpy as np
import torch

from rs5m import clip
from rs5m.clip import Model, open_clip
from rs5m.tune import Settings, loader

ROOT = Path(__file__).parents[2]
CFG = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TEXT = open_clip.CLIPTextCfg(**CFG)
QUICK = Settings(size=4, learning_rate=3e-3, batch=32, epochs=2)
VARIABLES = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests/helpers"))),
    "OMP_NUM_THREADS": "1",
}


def tiny(seed: int = 0) -> Model:
    """CLIP's two transformers, small and random."""
    torch.manual_seed(seed)
    vision = open_clip.CLIPVisionCfg(
        image_size=32, layers=2, width=64, head_width=32, patch_size=16
    )
    net = open_clip.CLIP(32, vision, TEXT).eval()
    return Model(
        net, open_clip.tokenizer.SimpleTokenizer(context_length=16), (0.5,) * 3, (0.5,) * 3, 32
    )


def pocket_like() -> Model:
    """The pocket model's convolutional image tower, random, with a small text tower."""
    torch.manual_seed(0)
    vision = open_clip.CLIPVisionCfg(
        **clip.TOWERS["image"], timm_model_name="tf_efficientnet_lite0", image_size=32
    )
    net = open_clip.CustomTextCLIP(32, vision, TEXT).eval()
    return Model(
        net, open_clip.tokenizer.SimpleTokenizer(context_length=16), (0.5,) * 3, (0.5,) * 3, 32
    )


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
