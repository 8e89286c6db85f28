"""A detector for photographs: fitted on three real sets and on web pictures judged by eye, beside
the pocket web's. Chapter: filters.

The judged pictures come as inner vectors of the pocket's image tower at SIZE pixels
(`rs5m.filters.features` without the projected part), 183 of them keyword hits of a real crawl.
Every figure is of pictures that the detector at hand was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rs5m import filters, intervals, results
from rs5m.book import criteria, plots
from rs5m.book.rsicd import folder as rsicd_folder
from rs5m.book.scales import Scale, data_folder
from rs5m.book.wordlists import JUDGED, READINGS
from rs5m.data import datasets
from rs5m.intervals import in_words

SIZE = 224  # pixels, those of the judged vectors
RECALL = 0.7  # where precision is read, and where the threshold lies
EACH = 400  # images of each real set
# How many times an ordinary example a judged one counts. In the same cross-validation 1 and 4 times
# are worth .02 and .01 less AUC and 64 times the same; so are balanced labels and another scaling.
HEAVY = 16
STRENGTHS = (1e-4, 1e-3, 1e-2)  # C of the regression, `strengths` shows what each is worth
STRENGTH = 1e-3  # the one taken
SIZES = (20, 40, 80, 140)  # judged pictures to learn from, for the learning curve
FILE = "detector.npz"  # in results/local


def there(scale: Scale) -> bool:
    """Whether the scale's data folder holds the judged pictures."""
    return scale.name == "local" and (data_folder(scale) / JUDGED).is_file()


def published(scale: Scale) -> dict | None:
    """`measure`, or what was stored, see `rs5m.results.measured`."""
    return results.measured("detector", "local", there(scale), lambda: measure(scale))


def _model():
    from rs5m.clip.pocket import pocket_model

    return pocket_model(SIZE)


def inner(model, images: list[np.ndarray]) -> np.ndarray:
    """The inner part of `filters.features`: (n, 2272) for the pocket's tower."""
    return filters.features(model, images)[:, model.net.visual.head.proj.out_features :]


def real_sets(scale: Scale) -> np.ndarray:
    """Inner vectors of EACH images of EuroSAT, UC Merced and RSICD (its training half)."""

    def make(out: Path) -> None:
        from rs5m.tune import ret2

        folder, generator, pictures = data_folder(scale), np.random.default_rng(0), []
        for name in ("eurosat", "ucm"):
            found = datasets.classes(name, folder).images
            drawn = generator.permutation(len(found.names))[:EACH]
            pictures += [datasets.decode(found.read(int(i)))[0] for i in drawn]
        paths = ret2.split(rsicd_folder(scale), "rsicd", "train").paths
        for i in generator.permutation(len(paths))[:EACH]:
            pictures.append(datasets.decode(paths[i].read_bytes())[0])
        np.save(out / "inner.npy", inner(_model(), pictures))

    return np.load(results.artefact("detector-real", scale.name, (SIZE, EACH), make) / "inner.npy")


def pocket_web(scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Inner vectors and labels of the pocket web's training examples at SIZE, kept in runs/."""

    def make(out: Path) -> None:
        from rs5m.pocket import webpages

        images, labels, validation = webpages.labelled()
        chosen = [image for image, held in zip(images, validation, strict=True) if not held]
        np.savez(out / "web.npz", x=inner(_model(), chosen), y=labels[~validation])

    kept = results.artefact("detector-pocket", scale.name, (SIZE,), make)
    with np.load(kept / "web.npz") as held:
        return held["x"], held["y"]


def learned(hits, labels, real, photographs, strength: float = STRENGTH) -> filters.Detector:
    """The detector of judged hits, real sets and ordinary photographs together.

    Args:
        hits: inner vectors (n, dim), each counted HEAVY times.
        labels: bool (n,), True for remote sensing.
        real, photographs: inner vectors of the two other kinds, counted once.
        strength: C of the regression.
    """
    vectors = np.concatenate([hits, real, photographs])
    answers = np.concatenate([labels, np.ones(len(real)), np.zeros(len(photographs))])
    weights = np.ones(len(vectors))
    weights[: len(hits)] = HEAVY
    return filters.fit_detector(
        vectors, answers, weights=weights, strength=strength, ground=photographs
    )


def figures(score: np.ndarray, label: np.ndarray, photographs: np.ndarray) -> dict:
    """auc, precision at RECALL and the share of photographs that pass there, with intervals over
    pictures (low, high).
    """
    threshold = float(np.quantile(score[label], 1 - RECALL))
    return {
        "auc": intervals.named(filters.auc, score, label),
        "precision": _share(label[score >= threshold]),
        "photographs": _share(photographs >= threshold),
        "threshold": round(threshold, 6),  # further digits are the processor's
    }


def _share(hit: np.ndarray) -> dict[str, float]:
    low, high = intervals.wilson(int(hit.sum()), hit.size)
    return {"value": 100 * float(hit.mean()), "low": low, "high": high}


def measure(scale: Scale) -> dict:
    """The judged half by reading: the detector cross-validated, the pocket web's beside it, how
    many judged pictures it takes. The detector of the wide reading, fitted on all, is written to
    results/local.

    Keys: hits; readings: wide, strict -> arm -> `figures`; added: reading -> what the score adds
    to the AUC; by the wide reading, curve: judged pictures -> auc, and strengths: C -> auc.
    """
    hits, kinds, like, photo, unseen = _judged(data_folder(scale) / JUDGED)
    real, (web, answers) = real_sets(scale), pocket_web(scale)
    pocket = filters.fit_detector(web, answers, weights=np.ones(len(web)), strength=STRENGTH)

    def learn(x, y, strength=STRENGTH):
        return learned(x, y, real, photo, strength)

    never = {"pocket web": pocket, "real sets alone": learn(hits[:0], np.zeros(0, bool))}
    readings, added, model = {}, {}, _model()
    prompted = criteria.score_odds(model, unseen)
    for name, right in READINGS.items():
        asked, label = _asked(kinds, name, right)
        x, near = hits[asked], like[asked]
        found = {}
        for arm, one in never.items():
            found[arm] = figures(criteria.odds(one, x), label, criteria.odds(one, unseen))
        score, others = criteria.cross_validated(x, label, near, unseen, learn)
        found["judged hits too"] = figures(score, label, others)
        told = criteria.score_odds(model, x)
        found[criteria.SCORE] = figures(told, label, prompted)
        both, rest = criteria.joined(told, score, label, (prompted, others))
        found[criteria.JOINED] = figures(both, label, rest)
        readings[name], added[name] = found, criteria.added(score, both, label)
    asked, label = _asked(kinds, "wide", READINGS["wide"])
    x, near = hits[asked], like[asked]

    def auc(way: Callable, size: int = 0) -> dict[str, float]:
        found = criteria.cross_validated(x, label, near, unseen[:1], way, size)
        return intervals.named(filters.auc, found[0], label)

    full = readings["wide"]["judged hits too"]
    _keep(learn(x, label), full)
    return {
        "hits": len(kinds),
        "readings": readings,
        "added": added,
        "curve": {str(size): auc(learn, size) for size in SIZES},
        "strengths": {
            str(c): full["auc"] if c == STRENGTH else auc(partial(learn, strength=c))
            for c in STRENGTHS
        },
    }


def _judged(path: Path) -> tuple[np.ndarray, ...]:
    """Inner vectors of the hits, their kinds and `criteria.alike`; photographs to learn from and
    others to test with.
    """
    with np.load(path) as held:
        hits, photo, unseen = (held[k].astype(float) for k in ("hit", "photo", "test_photo"))
        like = criteria.alike(hits, held["hit_text"], photo)
        return hits, held["hit_label"].astype(str), like, photo, unseen


def _asked(kinds: np.ndarray, name: str, right: str) -> tuple[np.ndarray, np.ndarray]:
    """Which hits a reading asks, and their labels: by the wide one a picture of the whole earth is
    neither.
    """
    asked = np.isin(kinds, [*READINGS["wide"], "N"]) if name == "wide" else kinds != ""
    return asked, np.isin(kinds[asked], list(right))


def _keep(detector: filters.Detector, figures: dict) -> None:
    """Write the detector with its threshold and what it was measured to be worth."""
    model, threshold = _model(), 1 / (1 + np.exp(-figures["threshold"]))
    validation = {
        "judged by": "cross-validation on keyword hits of CC3M",
        "AUC": round(figures["auc"]["value"], 3),
        f"precision at recall {RECALL}": round(figures["precision"]["value"] / 100, 3),
        "photographs that pass": round(figures["photographs"]["value"] / 100, 4),
    }
    about = {"model": "pocket", "tower": filters.tower_digest(model), "image_size": SIZE}
    about["validation"] = validation
    thresholds = filters.Thresholds(0.0, float(threshold), "probability")
    path = results.root() / "results" / "local" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    # weights differ in their last digits between processors: a file of the same worth stays
    if not path.is_file() or filters.about_detector(path) != about:
        filters.save_detector(path, detector, thresholds, about)


def table(values: dict) -> pd.DataFrame:
    """By reading and arm: AUC, precision at RECALL, photographs that pass there, with intervals."""
    rows = {
        (reading, arm): {
            "AUC": in_words(found["auc"], digits=2),
            f"precision at recall {RECALL}, %": in_words(found["precision"], digits=0),
            "photographs that pass, %": in_words(found["photographs"]),
        }
        for reading, arms in values["readings"].items()
        for arm, found in arms.items()
    }
    return pd.DataFrame(rows).T


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the section's first paragraph; NaN where none is stored."""
    arms = {"pocket": "pocket web", "real": "real sets alone", "judged": "judged hits too"}
    numbers = {"hits": values["hits"] if values else np.nan}
    for short, arm in arms.items():
        for reading in READINGS:
            found = values["readings"][reading][arm] if values else {}
            for ending, key in ("", "auc"), ("_precision", "precision"), ("_photos", "photographs"):
                numbers[f"{short}_{reading}{ending}"] = found[key]["value"] if found else np.nan
    return numbers


def figure(values: dict):
    """AUC over the number of judged pictures that the detector learned from."""
    import matplotlib.pyplot as plt

    sizes = [int(size) for size in values["curve"]]
    found = [values["curve"][str(size)] for size in sizes]
    drawn, axis = plt.subplots(figsize=(7, 3.4))
    middle, low, high = (np.array([one[key] for one in found]) for key in ("value", "low", "high"))
    error = [middle - low, high - middle]
    axis.errorbar(sizes, middle, error, fmt="o-", color=plots.AFTER, capsize=3)
    pocket = values["readings"]["wide"]["pocket web"]["auc"]["value"]
    axis.axhline(pocket, color=plots.BEFORE, linestyle="--", label="pocket web")
    axis.axhline(0.5, color=plots.INK, linestyle=":", label="chance")
    axis.set(xlabel="judged pictures to learn from", ylabel="AUC, wide reading")
    axis.legend()
    drawn.tight_layout()
    return drawn
