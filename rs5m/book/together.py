"""What transduction needs, measured: its gain where the texts are made worse, where the images are,
and where the texts are as good as one text of a class can be. Chapter: leaderboard.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from rs5m import results, zeroshot
from rs5m.book import weights
from rs5m.book.scales import Scale, data_folder
from rs5m.evaluate import frozen, stored
from rs5m.vectors import normalise

FAMILIES = ("CLIP", "GeoRSCLIP", "RemoteCLIP")
AMOUNT = 2.0  # of noise, by the mean distance of vectors from their middle
AS_IS, TEXTS, IMAGES, MEANS = "as they are", "texts with noise", "images with noise", "class means"


def noisy(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Vectors (n, dim) moved by AMOUNT, each in a random direction."""
    spread = np.linalg.norm(vectors - vectors.mean(0), axis=1).mean()
    drawn = normalise(np.random.default_rng(seed).normal(size=vectors.shape))
    return normalise(vectors + AMOUNT * spread * drawn)


def measured(image: np.ndarray, label: np.ndarray, text: np.ndarray) -> dict[str, dict]:
    """By what was changed: zero-shot's top-1 and transduction's gain over it, in % and points, and
    the share of nearest neighbours that are of an image's class, in %.

    Args:
        image: vectors (n, dim).
        label: (n,).
        text: class vectors (classes, dim).
    """
    image, text = normalise(image), normalise(text)
    means = np.stack([image[label == c].mean(0) for c in range(len(text))])
    changed = {
        AS_IS: (image, text),
        TEXTS: (image, noisy(text)),
        IMAGES: (noisy(image), text),
        MEANS: (image, normalise(means)),
    }
    found = {}
    for name, (images, texts) in changed.items():
        nearest, _ = frozen.nearest(images)
        before = zeroshot.hits(images, texts, label).mean()
        after = (frozen.transductive(images, texts).argmax(1) == label).mean()
        agree = (label[nearest] == label[:, None]).mean()
        shares = {"zero": before, "gain": after - before, "agree": agree}
        found[name] = {key: 100 * float(share) for key, share in shares.items()}
    return found


def published(scale: Scale) -> dict | None:
    """`measured` of each of WHU-RS19's files of vectors in the scale's data folder, or what was
    stored, see `rs5m.results.measured`.
    """
    here = scale.name == "local" and any((data_folder(scale) / weights.FOLDER).glob("*.npz"))
    return results.measured(
        "together", "local", here, lambda: of_files(data_folder(scale) / weights.FOLDER)
    )


def of_files(folder: Path) -> dict:
    """`published` of a folder of npz files, those of FAMILIES, by the usual prompts."""
    found = {}
    for family in FAMILIES:
        for path in sorted(folder.glob(f"{family}_*.npz")):
            one = stored.read(path)
            text = next(iter(stored.classifiers(one).values()))
            found[path.stem.replace("_", " ", 1)] = measured(one.image, one.label, text)
    return found


def table(values: dict[str, dict]) -> pd.DataFrame:
    """A row for each change: over all models, the ranges of zero-shot, of transduction's gain and
    of neighbours that agree.
    """
    rows = {
        name: {
            "zero-shot, %": _between(_range(values, name, "zero")),
            "gain, points": _between(_range(values, name, "gain"), "+"),
            "neighbours that agree, %": _between(_range(values, name, "agree")),
        }
        for name in next(iter(values.values()))
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("vectors")


def ends(values: dict[str, dict] | None) -> dict[str, float]:
    """The numbers of the paragraph: the ranges of zero-shot and gain with noise in the texts, of
    the gain with class means, and of neighbours that agree; NaN where nothing is stored.
    """
    found = {}
    shown = {"zero": TEXTS, "gain": TEXTS, "means": MEANS, "agree": AS_IS}
    for title, name in shown.items():
        key = "gain" if title == "means" else title
        low, high = _range(values, name, key) if values else (np.nan, np.nan)
        found |= {f"{title}_low": low, f"{title}_high": high}
    return found


def _range(values: dict[str, dict], name: str, key: str) -> tuple[float, float]:
    every = [of[name][key] for of in values.values()]
    return min(every), max(every)


def _between(ends: tuple[float, float], sign: str = "") -> str:
    low, high = (f"{end:{sign}.1f}" for end in ends)
    return low if low == high else f"{low} to {high}"
