"""Test sets through a model: vectors of images and of class prompts, kept in runs/. Chapter:
zeroshot.
"""

import csv
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np

from rs5m import clip, intervals, paper, results, zeroshot
from rs5m.book import models
from rs5m.book.scales import Scale
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.data.datasets import Labelled, Pairs
from rs5m.evaluate.prompts import prompts

ALONE = ("a photo of a {}.", "{}")  # what people ask with when they take one prompt only
PLAINER = {  # one or two everyday words for a land cover of the pocket world
    "open water": "water", "evergreen needleleaf forest": "conifers", "evergreen broadleaf forest": "rainforest",
    "open shrubland": "shrubs", "woody savanna": "open woodland", "grassland": "grass", "cropland": "farmland",
    "barren desert": "desert", "urban area": "city", "snow and ice": "snow",
}  # fmt: skip






def text_vectors(scale: Scale, stage: str, texts: list[str], name: str, model: Callable[[], Model]) -> np.ndarray:
    """Un-normalised vectors (n, dim) of texts under the model called `name`, each different text
    encoded once.

    Kept in runs/ under `stage`. Where tuning leaves the text tower locked, the general model stands
    for all.
    """
    if scale.lock_text and name != "general":
        name, model = "general", lambda: models.general(scale)
    distinct = sorted(set(texts), key=lambda text: (len(text), text))

    def make(folder: Path) -> None:
        np.save(folder / "text.npy", clip.encode_texts(model(), distinct))

    inputs = (scale.model, scale.pretrained, name, distinct)
    kept = np.load(results.artefact(stage, scale.name, inputs, make) / "text.npy")
    place = {text: i for i, text in enumerate(distinct)}
    return kept[[place[text] for text in texts]]


def _image_vectors(scale: Scale, data: Labelled | Pairs, name: str, model: Callable[[], Model]) -> np.ndarray:
    def make(folder: Path) -> None:
        np.save(folder / "image.npy", clip.encode_images(model(), data.images))

    inputs = (scale, name, datasets.fingerprint(data.images))
    return np.load(results.artefact(f"images-{data.name}", scale.name, inputs, make) / "image.npy")


def vectors(scale: Scale, data: Labelled, name: str, model: Callable[[], Model]) -> dict:
    """{"image": (n, dim), "text": (classes, prompts, dim)} of a test set under the model called
    `name`.

    Loaded from runs/ where this model met this data before; encoded once otherwise. `model` makes
    the model if needed. name: "general", or the name of the domain model's folder
    (`rs5m.book.domain.folder`), which tells how it was made.
    """
    groups = prompts(data)
    text = text_vectors(scale, f"prompts-{data.name}", [text for group in groups for text in group], name, model)
    image = _image_vectors(scale, data, name, model)
    return {"image": image, "text": text.reshape(len(groups), len(groups[0]), -1)}




def caption_vectors(scale: Scale, data: Pairs, name: str, model: Callable[[], Model]) -> dict:
    """{"image": (n, dim), "text": (m, dim), "image_of_text": (m,)} of a captioned set; kept as of
    `vectors`.
    """
    texts = [text for group in data.captions for text in group]
    owner = np.repeat(np.arange(len(data.captions)), [len(group) for group in data.captions])
    text = text_vectors(scale, f"captions-{data.name}", texts, name, model)
    return {"image": _image_vectors(scale, data, name, model), "text": text, "image_of_text": owner}


def spellings(data: Labelled) -> dict[str, list[str]]:
    """The names of the classes as different people write them, those of `prompts` first. Chapter:
    zeroshot.
    """
    known = {"the protocol's names": [datasets.class_prompt(data.name, name) for name in data.classes]}
    if data.name == "pocket":
        known["IGBP's names"] = igbp(data.classes)
        known["plainer names"] = [PLAINER.get(name, name) for name in data.classes]
    else:
        known["folder names"] = [paper.class_name(name) for name in data.classes]
        parted = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in data.classes]
        known["parted words"] = [paper.class_name(name) for name in parted]
    kept = {}
    for spelling, names in known.items():
        if names not in kept.values():
            kept[spelling] = names
    return kept


def igbp(names: list[str]) -> list[str]:
    """The land covers' names in the IGBP legend, in lower case, for names of
    `rs5m.pocket.class_names`.
    """
    with (files("rs5m.pocket") / "land_cover.csv").open() as stream:
        legend = {row["name"]: row["igbp"].lower() for row in csv.DictReader(stream)}
    return [legend[name] for name in names]


def wordings(scale: Scale, data: Labelled, name: str, model: Callable[[], Model]) -> dict[str, np.ndarray]:
    """{spelling: (classes, 107, dim)}: un-normalised vectors of the 105 prompts and of `ALONE` with
    each spelling.

    Kept in runs/ like `vectors`, with the same `name` and `model`; no image is read. Chapter:
    zeroshot.
    """
    known, patterns = spellings(data), [*paper.prompts(), *ALONE]
    texts = [pattern.format(word) for names in known.values() for word in names for pattern in patterns]
    found = text_vectors(scale, f"wordings-{data.name}", texts, name, model)
    found = found.reshape(len(known), len(data.classes), len(patterns), -1)
    return dict(zip(known, found, strict=True))


def choices(image: np.ndarray, text: np.ndarray, label: np.ndarray) -> dict:
    """Top-1 in % of the same images by each way to use one of `wordings`: (classes, 107, dim).
    Chapter: zeroshot.

    "rs5m", "clip": the 105 prompts by either averaging; "alone": (105,), each of them by itself;
    each of `ALONE`.
    """
    count, label = len(paper.prompts()), np.asarray(label)

    def top1(weights: np.ndarray) -> float:
        return 100 * float(zeroshot.hits(image, weights, label).mean())

    single = np.array([top1(zeroshot.normalise(text[:, p])) for p in range(text.shape[1])])
    averaged = {key: top1(zeroshot.classifier(text[:, :count], key)) for key in ("rs5m", "clip")}
    return averaged | {"alone": single[:count]} | dict(zip(ALONE, single[count:].tolist(), strict=True))


def measure(vectors: dict, data: Labelled, protocol: str = "rs5m") -> dict:
    """Accuracies in % with the bootstrap interval of the balanced one, and the hits they come from.
    """
    weights = zeroshot.classifier(vectors["text"], protocol)
    hit = zeroshot.hits(vectors["image"], weights, data.labels)
    low, high = zeroshot.interval(hit, data.labels)
    return zeroshot.accuracy(vectors["image"], weights, data.labels) | {"low": low, "high": high, "hit": hit}




def mean_over_seeds(measured: list[dict], label: np.ndarray) -> dict:
    """Means of what `measure` gave for each seed; the interval of the balanced accuracy is over
    seeds and images.
    """
    hits = [one["hit"] for one in measured]
    means = {key: float(np.mean([one[key] for one in measured])) for key in ("top1", "top5", "balanced")}
    bounds = intervals.gain_over_seeds(np.zeros(len(label)), hits, label) if len(hits) > 1 else measured[0]
    return means | {"low": bounds["low"], "high": bounds["high"]}
