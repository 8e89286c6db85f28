"""What colour alone knows: the mean and the deviation of red, green and blue of an image, learned
from captions or from labels; and what a linear probe finds in a model's vectors.
Chapter: zeroshot.

Every gain of the book stands beside these: a tuned model that six numbers beat has learned nothing
that the colours did not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rs5m import intervals, tune
from rs5m.book import head, testing
from rs5m.clip import Model
from rs5m.data.datasets import Labelled
from rs5m.tune import loader

CHANCE, CAPTIONS = "chance", "six colour numbers, same captions"
LABELS, PROBE = "six colour numbers, labels", "linear probe of the general model, labels"


def numbers(images: Sequence[np.ndarray]) -> np.ndarray:
    """Mean and deviation of the three channels of images (h, w, 3): float32 (n, 6)."""
    pixels = (image.reshape(-1, 3) for image in images)
    return np.array([[*p.mean(0), *p.std(0)] for p in pixels], np.float32).reshape(-1, 6)


def named(captions: Sequence[Sequence[str]], spellings: Sequence[Sequence[str]]) -> np.ndarray:
    """The one class that an image's captions name, -1 for none or several: (n,).

    spellings: the ways to write each class, compared in lower case; the longest match counts, so
    that a woody savanna is no savanna.
    """
    words = sorted(((w.lower(), c) for c, of in enumerate(spellings) for w in of), key=_longest)
    found = np.full(len(captions), -1)
    for i, texts in enumerate(captions):
        text, hits = " ".join(texts).lower(), set()
        for word, c in words:
            if word in text:
                hits.add(c)
                text = text.replace(word, "|")
        if len(hits) == 1:
            found[i] = hits.pop()
    return found


def _longest(word: tuple[str, int]) -> int:
    return -len(word[0])


def from_captions(
    colours: np.ndarray, captions: Sequence, spellings: Sequence, tested: np.ndarray
) -> np.ndarray:
    """The class of each tested image (m,) by a logistic regression on six numbers that learns from
    the pairs whose captions name exactly one class; -1 for all where they name fewer than two.

    Args:
        colours: `numbers` of the pairs' images (n, 6).
        captions: of each of them.
        spellings: see `named`.
        tested: `numbers` of the images to classify (m, 6).
    """
    label = named(captions, spellings)
    learned = label >= 0
    if len(np.unique(label[learned])) < 2:
        return np.full(len(tested), -1)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return regression.fit(colours[learned], label[learned]).predict(tested)


def probe(features: np.ndarray, labels: np.ndarray, strength: float = 0.1) -> np.ndarray:
    """Whether a logistic regression on half of a test set's labels is right (n,), halves in turn:
    what features (n, width) hold for someone with labels.
    """
    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    regression = LogisticRegression(C=strength, max_iter=300)
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    return cross_val_predict(regression, scaled, labels, cv=halves) == labels


def fit_head(
    colours: np.ndarray, captions: list, settings: tune.Settings, model: Model, known: dict
):
    """Six numbers in place of the trunk, tuned by the contrastive loss on the same captions: a
    function from `numbers` (n, 6) to vectors (n, dim). For captions that name no class of the test.

    Args:
        colours: `numbers` of the pairs' images.
        captions: of each of them.
        settings: of the run; learning rate and epochs are the head's own.
        model: whose head gives the width.
        known: `rs5m.book.head.text_features` of the captions.
    """
    centre, spread = colours.mean(0), colours.std(0)

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.c_[(values - centre) / spread, np.ones(len(values))].astype(np.float32)

    width = head.weight(model).shape[0]
    start = np.random.default_rng(0).normal(size=(width, 7), scale=0.02).astype(np.float32)
    settings = replace(settings, learning_rate=1e-2, epochs=16)
    fitted, _ = head.fit(model, scaled(colours)[:, None], captions, settings, start, known)
    return lambda values: scaled(values) @ fitted.T


def hits(
    data: Labelled, pairs: loader.Shards | loader.Memory, general: np.ndarray
) -> dict[str, np.ndarray]:
    """Baseline -> whether it is right on each image of a test set (n,).

    Args:
        data: the test set.
        pairs: of the tuning run (`rs5m.book.domain.source`).
        general: vectors (n, dim) of the test set by the general model.
    """
    tested = numbers(data.images)
    batch = pairs[np.arange(len(pairs)), None]
    seen = numbers(batch.pixels.permute(0, 2, 3, 1).numpy())
    captions = [pairs.captions(i) for i in batch.index]
    spellings = list(zip(*testing.spellings(data).values(), strict=True))
    said = from_captions(seen, captions, spellings, tested)
    return {
        CAPTIONS: said == data.labels,
        LABELS: probe(tested, data.labels, 1.0),
        PROBE: probe(general, data.labels),
    }


def levels(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict]:
    """Balanced accuracy in % of what `hits` found, with low and high, and that of chance."""
    nothing, chance = np.zeros(len(labels)), 100 / len(np.unique(labels))
    rows = {CHANCE: {"balanced": chance, "low": chance, "high": chance}}
    for name, hit in found.items():
        one = intervals.gain_over_seeds(nothing, [hit], labels)
        rows[name] = {"balanced": one["gain"], "low": one["low"], "high": one["high"]}
    return rows
