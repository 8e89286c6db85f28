"""Published weights, measured: the vectors that CLIP, GeoRSCLIP, RemoteCLIP and SkyCLIP gave for
WHU-RS19, scored. Chapter: zeroshot.

The vectors were computed by others and come as one npz for each model (`rs5m.evaluate.stored`).
Class names are theirs, with spaces; the paper does not report this set.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from rs5m import results, zeroshot
from rs5m.book import plots
from rs5m.book.scales import Scale, data_folder
from rs5m.evaluate import stored
from rs5m.intervals import in_words

FOLDER = "whurs19"  # in RS5M_DATA
CLASSES = ("airport", "beach", "bridge", "commercial", "desert", "farmland", "football field",
           "forest", "industrial", "meadow", "mountain", "park", "parking", "pond", "port",
           "railway station", "residential", "river", "viaduct")  # fmt: skip
MANY, ONE = "105 prompts", "one prompt"
ORDER = ("CLIP", "GeoRSCLIP", "SkyCLIP50", "RemoteCLIP")


def published(scale: Scale) -> dict | None:
    """`measure` of the scale's data folder, or what was stored, see `rs5m.results.measured`."""
    here = scale.name == "local" and any((data_folder(scale) / FOLDER).glob("*.npz"))
    return results.measured("weights", "local", here, lambda: measure(data_folder(scale) / FOLDER))


def measure(folder: Path) -> dict:
    """Scores, paired gains over CLIP, spread and errors of every npz file in a folder.

    Keys: images; models: name -> protocol -> top1, balanced, low, high (% of images, the interval
    of top1); gains: name -> protocol -> gain, low, high (points of top1, paired by image); spread:
    name -> top1 of each prompt alone; worst: name -> the classes most often wrong with what they
    are called. FileNotFoundError where the folder holds none; errors of `stored.read`.
    """
    files = sorted(folder.glob("*.npz"), key=_order)
    if not files:
        raise FileNotFoundError(f"{folder} holds no npz file of vectors")
    read = {_name(path): stored.read(path) for path in files}
    label = next(iter(read.values())).label
    if any(not np.array_equal(one.label, label) for one in read.values()):
        raise ValueError(f"{folder}: the files label the images in different orders")
    scores = {name: _by_protocol(stored.score(one)) for name, one in read.items()}
    return {
        "images": len(label),
        "models": {name: {p: _row(s) for p, s in by.items()} for name, by in scores.items()},
        "gains": _gains(scores, label),
        "spread": {
            name: stored.spread(one).tolist() for name, one in read.items() if "text" in one.texts
        },
        "worst": {name: worst(one) for name, one in read.items()},
    }


def _order(path: Path) -> tuple[int, str]:
    family = path.stem.partition("_")[0]
    return ORDER.index(family) if family in ORDER else len(ORDER), path.stem


def _name(path: Path) -> str:
    return path.stem.replace("_", " ", 1)


def _by_protocol(scores: dict) -> dict:
    """The mean over 105 prompts under one name, whether a file keeps each of them or the mean."""
    return {ONE if name == ONE else MANY: found for name, found in scores.items()}


def _row(score: dict) -> dict:
    return {key: score[key] for key in ("top1", "balanced", "low", "high")}


def _gains(scores: dict, label: np.ndarray) -> dict:
    """Every model beside CLIP of the same architecture, where there is one."""
    gains = {}
    for name, by in scores.items():
        family, _, architecture = name.partition(" ")
        before = scores.get(f"CLIP {architecture}")
        if before and family != "CLIP":
            gains[name] = {
                p: stored.gain(before[p]["hit"], by[p]["hit"], label) for p in by if p in before
            }
    return gains


def worst(vectors: stored.Stored, count: int = 3) -> list[dict]:
    """The classes that a model gets wrong most often: class, accuracy (%), and what its images are
    called most often instead, with the share (%).
    """
    classifier = next(iter(stored.classifiers(vectors).values()))
    confusion = zeroshot.confusion(vectors.image, classifier, vectors.label)
    right = np.diag(confusion).copy()
    np.fill_diagonal(confusion, -1)
    return [
        {
            "class": CLASSES[c],
            "accuracy": float(right[c]),
            "called": CLASSES[confusion[c].argmax()],
            "share": float(confusion[c].max()),
        }
        for c in np.argsort(right)[:count]
    ]


def table(values: dict) -> pd.DataFrame:
    """A row for each model: top-1 by protocol and the gain over CLIP, with their intervals."""
    rows = {}
    for name, by in values["models"].items():
        gain = values["gains"].get(name, {})
        rows[name] = {
            f"{MANY}, top-1 %": in_words(by[MANY], "top1"),
            f"{ONE}, top-1 %": in_words(by[ONE], "top1") if ONE in by else "",
            "gain over CLIP, points": in_words(gain[MANY], "gain", sign="+")
            if MANY in gain
            else "",
        }
    return pd.DataFrame(rows).T


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the section's first paragraph; NaN where none is stored."""
    nothing = {"top1": np.nan, "gain": np.nan, "low": np.nan, "high": np.nan}

    def of(part: str, name: str) -> dict:
        return values[part][name][MANY] if values else nothing

    numbers = {
        "images": values["images"] if values else np.nan,
        "chance": 100 / len(CLASSES),
        "before": of("models", "CLIP ViT-B-32")["top1"],
        "after": of("models", "GeoRSCLIP ViT-B-32")["top1"],
    }
    for prefix, name in (("", "GeoRSCLIP ViT-B-32"), ("large_", "GeoRSCLIP ViT-L-14")):
        numbers |= {f"{prefix}{key}": of("gains", name)[key] for key in ("gain", "low", "high")}
    real = results.load("rsicd", "local")  # of chapter tune, which runs before
    return numbers | {"contact": real["values"]["contact"]["whurs19"] if real else np.nan}


def figure(values: dict):
    """Top-1 of every model with its interval, a line for each architecture."""
    points = []
    for name, by in values["models"].items():
        family, _, architecture = name.partition(" ")
        points.append((architecture, family, by[MANY]["top1"], by[MANY]["low"], by[MANY]["high"]))
    points.sort(key=lambda point: (point[0], ORDER.index(point[1])))
    return plots.intervals(points, "zero-shot top-1 on WHU-RS19, %", limits=(65, 100))
