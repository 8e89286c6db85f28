"""A model that sees the mean colour and reads the names of colours, and sets of such pictures."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from small import encoded
from torch import nn

from rs5m import clip

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 60, 200)}
PICTURES = [("red", 0), ("red", 1), ("green", 2), ("green", 3), ("blue", 4), ("blue", 5)]


def seen(colour) -> np.ndarray:
    return np.array(colour) / 127.5 - 1


class Net(nn.Module):
    """The mean colour of a picture, times a weight; tokens are vectors already."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def encode_image(self, pixels):
        return pixels.mean((2, 3)) * self.weight

    def encode_text(self, tokens):
        return tokens.float()


class Words:
    """A tokenizer that gives the mean colour of the words that are one."""

    def __call__(self, texts):
        return torch.tensor(np.array([self.read(text) for text in texts]))

    @staticmethod
    def read(text: str) -> np.ndarray:
        words = (word.strip(".,") for word in text.lower().split())
        found = [seen(COLOURS[word]) for word in words if word in COLOURS]
        return np.mean(found, 0) if found else np.full(3, 0.1)


def model(*_, **__) -> clip.Model:
    return clip.Model(Net().eval(), Words(), (0.5,) * 3, (0.5,) * 3, 8, "colours")


def picture(colour: str, shade: int = 0) -> bytes:
    """A PNG of one colour, each shade with bytes of its own."""
    value = np.array(COLOURS[colour]) + shade
    return encoded(np.broadcast_to(value.astype(np.uint8), (9, 12, 3)))


def files(folder: Path) -> list[tuple[str, str]]:
    """PICTURES as flat files: (name, colour)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(f"{i}.png", colour) for colour, i in PICTURES]
    for (name, colour), (_, shade) in zip(rows, PICTURES, strict=True):
        (folder / name).write_bytes(picture(colour, shade))
    return rows


def tar(path: Path, samples: list[dict[str, bytes]]) -> None:
    """A shard of samples: their members by kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, sample in enumerate(samples):
            for kind, data in sample.items():
                info = tarfile.TarInfo(f"{i:04d}.{kind}")
                info.size = len(data)
                archive.addfile(info, BytesIO(data))


def labelled_json(value: object) -> bytes:
    return json.dumps({"label": value}).encode()
