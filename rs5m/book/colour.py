"""What colour alone knows: the mean and the deviation of red, green and blue of an image, learned
from captions or from labels; and what a linear probe finds in a model's vectors.
Chapter: zeroshot.

Every gain of the book stands beside these: a tuned model that six numbers beat has learned nothing
that the colours did not tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rs5m import intervals

if TYPE_CHECKING:  # the scorecard reads names here and needs no torch
    from rs5m import tune
    from rs5m.clip import Model
    from rs5m.data.datasets import Labelled
    from rs5m.tune import loader

CHANCE, CAPTIONS = "chance", "six colour numbers, same captions"
MOST = 20_000  # pairs that colour learns from, drawn at random where there are more
LABELS, PROBE = "six colour numbers, labels", "linear probe of the general model, labels"


def numbers(images: Sequence[np.ndarray]) -> np.ndarray:
    """Mean and deviation of the three channels of images (h, w, 3): float32 (n, 6)."""
    pixels = (image.reshape(-1, 3) for image in images)
    return np.array([[*p.mean(0), *p.std(0)] for p in pixels], np.float32).reshape(-1, 6)


def mentions(
    captions: Sequence[Sequence[str]], spellings: Sequence[Sequence[str]]
) -> list[set[int]]:
    """The classes that the captions of each image name.

    spellings: the ways to write each class, compared in lower case as whole words or their plural,
    so that a sports ground is no port; the longest match counts, so that a woody savanna is no
    savanna.
    """
    words = sorted(((w.lower(), c) for c, of in enumerate(spellings) for w in of), key=_longest)
    patterns = [(re.compile(rf"\b{re.escape(word)}(?:e?s)?\b"), c) for word, c in words]
    found = []
    for texts in captions:
        text, hits = " | ".join(texts).lower(), set()
        for pattern, c in patterns:
            text, count = pattern.subn("|", text)
            hits |= {c} if count else set()
        found.append(hits)
    return found


def named(captions: Sequence[Sequence[str]], spellings: Sequence[Sequence[str]]) -> np.ndarray:
    """The one class that an image's captions name, -1 for none or several: (n,)."""
    found = mentions(captions, spellings)
    return np.array([next(iter(hits)) if len(hits) == 1 else -1 for hits in found])


def _longest(word: tuple[str, int]) -> int:
    return -len(word[0])


def from_captions(
    colours: np.ndarray,
    captions: Sequence,
    spellings: Sequence,
    tested: np.ndarray,
    class_weight: str | None = None,
) -> np.ndarray:
    """The class of each tested image (m,) by a logistic regression on six numbers that learns from
    the pairs whose captions name exactly one class; -1 for all where they name fewer than two.

    Args:
        colours: `numbers` of the pairs' images (n, 6).
        captions: of each of them.
        spellings: see `mentions`.
        tested: `numbers` of the images to classify (m, 6).
        class_weight: None, each pair counts the same, or "balanced", each class (scikit-learn's).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    label = named(captions, spellings)
    learned = label >= 0
    if len(np.unique(label[learned])) < 2:
        return np.full(len(tested), -1)
    learner = LogisticRegression(max_iter=1000, class_weight=class_weight)
    regression = make_pipeline(StandardScaler(), learner)
    return regression.fit(colours[learned], label[learned]).predict(tested)


def strongest(
    colours: np.ndarray,
    captions: Sequence,
    spellings: Sequence,
    tested: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """`from_captions` with each pair or each class counting the same, whichever has the higher
    balanced accuracy on the tested images: a choice on the test, to the baseline's advantage.

    Args:
        colours, captions, spellings, tested: see `from_captions`.
        labels: the true classes of the tested images, int (m,).
    """
    both = [
        from_captions(colours, captions, spellings, tested, weight) for weight in (None, "balanced")
    ]
    return max(both, key=lambda said: intervals.balanced(said == labels, labels))


def probe(features: np.ndarray, labels: np.ndarray, strength: float = 0.1) -> np.ndarray:
    """Whether a logistic regression on half of a test set's labels is right (n,), halves in turn:
    what features (n, width) hold for someone with labels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

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
    from rs5m.book import head

    centre, spread = colours.mean(0), colours.std(0)

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.c_[(values - centre) / spread, np.ones(len(values))].astype(np.float32)

    width = head.weight(model).shape[0]
    start = np.random.default_rng(0).normal(size=(width, 7), scale=0.02).astype(np.float32)
    settings = replace(settings, learning_rate=1e-2, epochs=16)
    fitted, _ = head.fit(model, scaled(colours)[:, None], captions, settings, start, known)
    return lambda values: scaled(values) @ fitted.T


def answers(data: Labelled, pairs: loader.Shards | loader.Memory) -> np.ndarray:
    """The class of each image of a test set (m,) by `strongest`, learned from the pairs of a
    tuning run.
    """
    from rs5m.book import testing

    drawn = np.random.default_rng(0).permutation(len(pairs))[:MOST]
    batch = pairs[np.sort(drawn), None]
    seen = numbers(batch.pixels.permute(0, 2, 3, 1).numpy())
    captions = [pairs.captions(i) for i in batch.index]
    spellings = list(zip(*testing.spellings(data).values(), strict=True))
    return strongest(seen, captions, spellings, numbers(data.images), data.labels)


def hits(
    data: Labelled, pairs: loader.Shards | loader.Memory, general: np.ndarray
) -> dict[str, np.ndarray]:
    """Baseline -> whether it is right on each image of a test set (n,).

    Args:
        data: the test set.
        pairs: of the tuning run (`rs5m.book.domain.source`).
        general: vectors (n, dim) of the test set by the general model.
    """
    return {
        CAPTIONS: answers(data, pairs) == data.labels,
        LABELS: probe(numbers(data.images), data.labels, 1.0),
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


def against(gain: dict) -> str:
    """Who wins, in words, from a tuned model's gain over six colour numbers and its interval."""
    size = f"{abs(gain['gain']):.1f} points"
    interval = f"{gain['low']:+.1f} to {gain['high']:+.1f}"
    if gain["low"] > 0:
        return f"the tuned model is ahead of them by {size} ({interval})"
    if gain["high"] < 0:
        return f"they beat the tuned model by {size} ({interval})"
    return f"the tuned model cannot be told apart from them ({interval})"


def carried(gains: np.ndarray, classes: Sequence[str], count: int = 4) -> str:
    """Which classes carry a gain in balanced accuracy, and which lose, in words.

    gains: points of each class.
    """
    order, share = np.argsort(-gains), gains / len(gains)
    first, lost = order[:count], order[gains[order] < 0][::-1]
    text = f"{', '.join(f'{classes[c]} ({gains[c]:+.0f})' for c in first)} carry "
    text += f"{share[first].sum():.1f} of its {share.sum():.1f} points"
    if len(lost):
        text += "; " + ", ".join(f"{classes[c]} ({gains[c]:+.0f})" for c in lost)
        text += " lose" if len(lost) > 1 else " loses"
    return text
