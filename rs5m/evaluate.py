"""Test sets through a model: vectors of images and of class prompts, kept in runs/. Chapter: zeroshot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rs5m import clip, datasets, paper, pocket, results, tune, zeroshot
from rs5m.clip import Model
from rs5m.datasets import Labelled
from rs5m.scales import Scale


def prompts(data: Labelled) -> list[list[str]]:
    """The paper's 105 prompts for each class of a test set."""
    names = [datasets.class_prompt(data.name, name) for name in data.classes]
    return [[prompt.format(name) for prompt in paper.prompts()] for name in names]


def class_text(model: Model, data: Labelled) -> np.ndarray:
    """Un-normalised vectors of every prompt of every class: (classes, prompts, dim)."""
    texts = prompts(data)
    flat = clip.encode_texts(model, [text for group in texts for text in group])
    return flat.reshape(len(texts), len(texts[0]), -1)


def vectors(scale: Scale, data: Labelled, name: str, model: Callable[[], Model]) -> dict:
    """{"image": (n, dim), "text": (classes, prompts, dim)} of a test set under the model called `name`.

    Loaded from runs/ where this model met this data before; encoded once otherwise. `model` makes the model if needed.
    """

    def make(folder: Path) -> None:
        encoder = model()
        np.save(folder / "image.npy", clip.encode_images(encoder, data.images))
        np.save(folder / "text.npy", class_text(encoder, data))

    # the scale and the module tune stand for the model called `name`
    inputs = (scale, name, datasets.fingerprint(data.images, data.classes), clip, datasets, paper, pocket, tune)
    folder = results.artefact(f"vectors-{data.name}", scale.name, inputs, make)
    return {key: np.load(folder / f"{key}.npy") for key in ("image", "text")}


def measure(vectors: dict, data: Labelled, protocol: str = "rs5m") -> dict:
    """Accuracies in % with the bootstrap interval of the balanced one, and the hits they come from."""
    weights = zeroshot.classifier(vectors["text"], protocol)
    hit = zeroshot.hits(vectors["image"], weights, data.labels)
    low, high = zeroshot.interval(hit, data.labels)
    return zeroshot.accuracy(vectors["image"], weights, data.labels) | {"low": low, "high": high, "hit": hit}
