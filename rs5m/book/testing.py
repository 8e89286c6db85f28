"""The book's test sets through its models: vectors kept in runs/<scale>/ under a model's name, and
the words of the prompts varied. Chapter: zeroshot.
"""

import csv
import re
from collections.abc import Callable
from importlib.resources import files

import numpy as np

from rs5m import intervals, paper, reach, zeroshot
from rs5m.book import models
from rs5m.book.scales import Scale
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.data.datasets import Labelled, Pairs
from rs5m.evaluate import features, prompts

ALONE = ("a photo of a {}.", "{}")  # what people ask with when they take one prompt only
PLAINER = {  # one or two everyday words for a land cover of the pocket world
    "open water": "water",
    "evergreen needleleaf forest": "conifers",
    "evergreen broadleaf forest": "rainforest",
    "open shrubland": "shrubs",
    "woody savanna": "open woodland",
    "grassland": "grass",
    "cropland": "farmland",
    "barren desert": "desert",
    "urban area": "city",
    "snow and ice": "snow",
}


def text_vectors(
    scale: Scale, stage: str, texts: list[str], name: str, model: Callable[[], Model]
) -> np.ndarray:
    """Un-normalised vectors (n, dim) of texts, each different text encoded once, kept in runs/.

    Args:
        scale: where the text tower is locked, its general model stands for every other.
        stage: the folder's name.
        texts: any number of times each.
        name: "general", or the name of the domain model's folder (`rs5m.book.domain.folder`), which
            tells how it was made.
        model: makes the model if something must be encoded.
    """
    if scale.lock_text and name != "general":
        name, model = "general", lambda: models.general(scale)
    key = (scale.model, scale.pretrained, name, reach.code(__name__))
    return features.Store(model, key, scale.name).texts(texts, stage)


def _image_vectors(
    scale: Scale, data: Labelled | Pairs, name: str, model: Callable[[], Model]
) -> np.ndarray:
    images = datasets.held(data.images, [str(i) for i in range(len(data.images))])
    store = features.Store(model, (scale, name, reach.code(__name__)), scale.name)
    return store.images(images, data.name).vectors


def vectors(scale: Scale, data: Labelled, name: str, model: Callable[[], Model]) -> dict:
    """{"image": (n, dim), "text": (classes, prompts, dim)} of a test set, un-normalised. Loaded
    from runs/ where this model met this data before; encoded once otherwise.

    Args:
        data: the set; its prompts are the paper's.
        scale, name, model: those of `text_vectors`.
    """
    groups = prompts.prompts(data)
    texts = [text for group in groups for text in group]
    text = text_vectors(scale, f"prompts-{data.name}", texts, name, model)
    image = _image_vectors(scale, data, name, model)
    return {"image": image, "text": text.reshape(len(groups), len(groups[0]), -1)}


def caption_vectors(scale: Scale, data: Pairs, name: str, model: Callable[[], Model]) -> dict:
    """{"image": (n, dim), "text": (m, dim), "image_of_text": (m,)} of a captioned set; kept like
    `vectors`.

    Args:
        data: the set; m captions of n images.
        scale, name, model: those of `text_vectors`.
    """
    texts = [text for group in data.captions for text in group]
    owner = np.repeat(np.arange(len(data.captions)), [len(group) for group in data.captions])
    text = text_vectors(scale, f"captions-{data.name}", texts, name, model)
    image = _image_vectors(scale, data, name, model)
    return {"image": image, "text": text, "image_of_text": owner}


def spellings(data: Labelled) -> dict[str, list[str]]:
    """The names of the classes as different people write them, those of `prompts` first."""
    known = {"the protocol's names": [prompts.class_prompt(name) for name in data.classes]}
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


def wordings(
    scale: Scale, data: Labelled, name: str, model: Callable[[], Model]
) -> dict[str, np.ndarray]:
    """{spelling: (classes, 107, dim)}: un-normalised vectors of the 105 prompts and of `ALONE` with
    each spelling. Kept like `vectors`; no image is read.

    Args:
        data: the set; see `spellings`.
        scale, name, model: those of `text_vectors`.
    """
    known, patterns = spellings(data), [*paper.prompts(), *ALONE]
    texts = [
        pattern.format(word) for names in known.values() for word in names for pattern in patterns
    ]
    found = text_vectors(scale, f"wordings-{data.name}", texts, name, model)
    found = found.reshape(len(known), len(data.classes), len(patterns), -1)
    return dict(zip(known, found, strict=True))


def choices(image: np.ndarray, text: np.ndarray, label: np.ndarray) -> dict:
    """Top-1 in % of the same images by each way to use one of `wordings`: (classes, 107, dim).

    "rs5m", "clip": the 105 prompts by either averaging; "alone": (105,), each of them by itself;
    each of `ALONE`.
    """
    count, label = len(paper.prompts()), np.asarray(label)

    def top1(weights: np.ndarray) -> float:
        return 100 * float(zeroshot.hits(image, weights, label).mean())

    single = np.array([top1(zeroshot.normalise(text[:, p])) for p in range(text.shape[1])])
    averaged = {key: top1(zeroshot.classifier(text[:, :count], key)) for key in ("rs5m", "clip")}
    return (
        averaged
        | {"alone": single[:count]}
        | dict(zip(ALONE, single[count:].tolist(), strict=True))
    )


def measure(vectors: dict, data: Labelled, protocol: str = "rs5m") -> dict:
    """`rs5m.zeroshot.measure` of what `vectors` gave for a test set."""
    weights = zeroshot.classifier(vectors["text"], protocol)
    return zeroshot.measure(vectors["image"], weights, data.labels)


def mean_over_seeds(measured: list[dict], label: np.ndarray) -> dict:
    """Means of what `measure` gave for each seed; the interval of the balanced accuracy is over
    seeds and images.
    """
    hits = [one["hit"] for one in measured]
    means = {
        key: float(np.mean([one[key] for one in measured])) for key in ("top1", "top5", "balanced")
    }
    bounds = (
        intervals.gain_over_seeds(np.zeros(len(label)), hits, label)
        if len(hits) > 1
        else measured[0]
    )
    return means | {"low": bounds["low"], "high": bounds["high"]}
