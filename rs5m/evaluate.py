"""Test sets through a model: vectors of images and of class prompts, kept in runs/. Chapter: zeroshot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rs5m import clip, datasets, paper, pocket, results, zeroshot
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
    name: "general", or the name of the domain model's folder (`rs5m.dvlm.folder`), which tells how it was made.
    """

    def make(folder: Path) -> None:
        encoder = model()
        np.save(folder / "image.npy", clip.encode_images(encoder, data.images))
        np.save(folder / "text.npy", class_text(encoder, data))

    inputs = (scale, name, datasets.fingerprint(data.images, data.classes), clip, datasets, paper, pocket)
    folder = results.artefact(f"vectors-{data.name}", scale.name, inputs, make)
    return {key: np.load(folder / f"{key}.npy") for key in ("image", "text")}


def measure(vectors: dict, data: Labelled, protocol: str = "rs5m") -> dict:
    """Accuracies in % with the bootstrap interval of the balanced one, and the hits they come from."""
    weights = zeroshot.classifier(vectors["text"], protocol)
    hit = zeroshot.hits(vectors["image"], weights, data.labels)
    low, high = zeroshot.interval(hit, data.labels)
    return zeroshot.accuracy(vectors["image"], weights, data.labels) | {"low": low, "high": high, "hit": hit}


def some(data: Labelled, per_class: int, seed: int = 0) -> Labelled:
    """At most `per_class` images of each class of a test set, drawn with a fixed seed, in order. Chapter: tune."""
    generator, keep = np.random.default_rng(seed), np.zeros(len(data.labels), bool)
    for c in np.unique(data.labels):
        keep[generator.permutation(np.flatnonzero(data.labels == c))[:per_class]] = True
    return datasets.subset(data, keep)


def gain_over_seeds(before, after, label: np.ndarray, resamples: int = 2000, level: float = 0.95) -> dict:
    """Gain in balanced accuracy, its interval over seeds and images, and the gain of each seed, in points.

    before, after: hits bool (n,), or a list of them, one for each seed; each resample draws seeds on both sides, then
    images within their classes. Chapter: tune.
    """
    sides = [np.atleast_2d(np.asarray(side, float)) for side in (before, after)]
    label, generator = np.asarray(label), np.random.default_rng(0)
    members = [np.flatnonzero(label == c) for c in np.unique(label)]
    found = np.empty(resamples)
    for r in range(resamples):
        drawn = [side[generator.integers(0, len(side), len(side))].mean(0) for side in sides]
        change = drawn[1] - drawn[0]
        found[r] = np.mean([change[generator.choice(index, len(index))].mean() for index in members])
    low, high = np.quantile(100 * found, ((1 - level) / 2, (1 + level) / 2))
    change = [zeroshot.balanced(hit - sides[0].mean(0), label) for hit in sides[1]]
    return {"gain": float(np.mean(change)), "low": float(low), "high": float(high), "seeds": change}
