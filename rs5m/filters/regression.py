"""The detector: a logistic regression on frozen features. Chapter: filters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Detector(NamedTuple):
    """A logistic regression on normalised image features: weight (dim,), bias (1,), centre and
    spread (dim,).
    """

    weight: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    spread: np.ndarray


def fit_detector(
    vectors: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    weights: np.ndarray | None = None,
    strength: float = 0.01,
    ground: np.ndarray | None = None,
) -> Detector:
    """A detector by logistic regression; ValueError where one of the two labels is missing.

    Args:
        vectors: features (n, dim).
        labels: bool (n,).
        seed: of the solver.
        weights: how much each counts, (n,); by default both labels together count the same.
        strength: C of the regression.
        ground: features whose centre and spread scale the others, by default all of `vectors`.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(labels, bool)
    if labels.all() or not labels.any():
        raise ValueError(
            "a detector needs examples of remote sensing and of everything else: one of them is "
            "missing"
        )
    ground = vectors if ground is None else ground
    centre, spread = ground.mean(0), ground.std(0) + 1e-6
    balance = "balanced" if weights is None else None
    head = LogisticRegression(C=strength, max_iter=1000, class_weight=balance, random_state=seed)
    head.fit((vectors - centre) / spread, labels, weights)
    return Detector(head.coef_[0].astype(np.float64), head.intercept_, centre, spread)


def probability(detector: Detector, vectors: np.ndarray) -> np.ndarray:
    """Probability (n,) that features (n, dim) are remote sensing.

    A detector of fewer numbers rests on the last ones: the inner part of `features`.
    """
    inner = vectors[:, vectors.shape[1] - len(detector.weight) :]
    z = ((inner - detector.centre) / detector.spread) @ detector.weight + detector.bias
    return 1 / (1 + np.exp(-np.clip(z, -50, 50)))
