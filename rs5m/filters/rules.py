"""Score and detector joined: reasons, thresholds, and how good they are. Chapter: filters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

SCORE, PROBABILITY = "low_score", "low_probability"  # reasons of the rules with one criterion
BOTH, EITHER = "low_score_and_probability", "low_score_or_probability"
RULES = ("both", "either", "score", "probability")


class Thresholds(NamedTuple):
    """Below `score` or `probability` an image looks like an outlier; `rule`: both, either, score or
    probability.
    """

    score: float
    probability: float
    rule: str = "both"


def joint(score: float, probability: float, thresholds: Thresholds) -> str | None:
    """Why an image is dropped by the joint rule, or None to keep it.

    Paper: PUB11, outliers; the paper does not say how; `choose_thresholds` decides.
    """
    return joint_all(np.array([score]), np.array([probability]), thresholds)[0]


def joint_all(
    scores: np.ndarray, probabilities: np.ndarray, thresholds: Thresholds
) -> list[str | None]:
    """`joint` of arrays (n,): a reason or None per image. ValueError for an unknown rule."""
    low, unlikely = scores < thresholds.score, probabilities < thresholds.probability
    rules = {
        "both": (low & unlikely, BOTH),
        "either": (low | unlikely, EITHER),
        "score": (low, SCORE),
        "probability": (unlikely, PROBABILITY),
    }
    if thresholds.rule not in rules:
        raise ValueError(f"unknown rule {thresholds.rule!r}: choose one of {', '.join(rules)}")
    drop, reason = rules[thresholds.rule]
    return [reason if d else None for d in drop]


def choose_thresholds(
    scores, probabilities, labels, beta: float = 1.0, rules=("both", "either")
) -> Thresholds:
    """The thresholds and the rule of the highest F-beta on a validation split. Ties go to the rule
    and to the thresholds that keep more, and between those to the middle.

    Args:
        scores: (n,); candidates are 41 quantiles of them.
        probabilities: (n,); candidates are 49 steps from 0.02 to 0.98.
        labels: bool (n,), True to keep.
        beta: below 1 prefers precision, above 1 recall.
        rules: to choose from, of "both" and "either".
    """
    labels = np.asarray(labels, bool)
    grid = np.linspace(0, 1, 41)
    best, ties = -1.0, []
    for rule in rules:
        for s in np.unique(np.quantile(scores, grid)):
            for p in np.linspace(0.02, 0.98, 49):
                drop = (
                    (scores < s) & (probabilities < p)
                    if rule == "both"
                    else (scores < s) | (probabilities < p)
                )
                value = f_beta(labels, ~drop, beta)
                ties = [] if value > best + 1e-12 else ties
                best = max(best, value)
                ties += [Thresholds(float(s), float(p), rule)] if value >= best - 1e-12 else []
    ties = [t for t in ties if t.rule == ties[0].rule]
    return sorted(ties)[len(ties) // 2]


def f_beta(labels: np.ndarray, kept: np.ndarray, beta: float) -> float:
    """F-beta of what is kept, 0 if nothing true is kept."""
    hit = int((labels & kept).sum())
    return (1 + beta**2) * hit / (beta**2 * labels.sum() + kept.sum()) if hit else 0.0


def auc(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of pairs of a right and a wrong picture that stand in the
    right order, a tie for half; arrays (..., n). NaN where one of the two is missing.
    """
    from scipy.stats import rankdata

    ranks, right = rankdata(score, axis=-1), label.sum(-1)
    wrong = label.shape[-1] - right
    with np.errstate(invalid="ignore"):
        return ((ranks * label).sum(-1) - right * (right + 1) / 2) / (right * wrong)


def roc(values: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """DataFrame threshold, false_positive_rate, true_positive_rate of keeping `values` >=
    threshold.
    """
    from sklearn.metrics import roc_curve

    false, true, threshold = roc_curve(labels, values)
    return pd.DataFrame(
        {"threshold": threshold, "false_positive_rate": false, "true_positive_rate": true}
    )


def precision_recall(values: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """DataFrame threshold, precision, recall of keeping `values` >= threshold."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, threshold = precision_recall_curve(labels, values)
    return pd.DataFrame(
        {"threshold": threshold, "precision": precision[:-1], "recall": recall[:-1]}
    )
