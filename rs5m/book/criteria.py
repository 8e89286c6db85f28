"""What each of the two criteria is worth on the judged pictures: the prompts' score, the detector,
and the two joined. Chapter: filters.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from rs5m import filters, intervals
from rs5m.device import processors
from rs5m.intervals import in_words
from rs5m.zeroshot import logits

SCORE, JOINED = "score of the prompts", "score and detector"
FOLDS, REPEATS = 5, 3
NEAR = 0.7  # cosine above which two pictures count as alike


def alike(vectors: np.ndarray, texts: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Group ids (n,): pictures of one group have the same caption or look alike, such as frames of
    one film, or are linked by such pictures. They look alike where the cosine of their vectors,
    scaled by those of `ground`, is above NEAR.
    """
    from scipy.sparse.csgraph import connected_components

    scaled = (vectors - ground.mean(0)) / (ground.std(0) + 1e-6)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    near = (scaled @ scaled.T > NEAR) | (texts[:, None] == texts[None])
    return connected_components(near)[1]


def cross_validated(
    hits: np.ndarray,
    label: np.ndarray,
    like: np.ndarray,
    photographs: np.ndarray,
    learn: Callable,
    size: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean log-odds of every hit (n,) and every photograph (m,) by detectors that did not learn
    from that hit or one like it, over FOLDS and REPEATS.

    Args:
        hits, photographs: inner vectors (n, dim) and (m, dim).
        label: bool (n,), True for remote sensing.
        like: `alike`.
        learn: hits and labels to a detector.
        size: how many judged hits it may learn from, 0 for all.
    """
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    jobs = []
    for seed in range(REPEATS):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        for train, test in folds.split(hits, label, like):
            jobs.append((_some(train, label, size, seed) if size else train, test))
    scores, others = np.zeros(len(hits)), np.zeros(len(photographs))
    # a fit on each core is faster than one on all: its products of matrix and vector are narrow
    with threadpool_limits(1), ThreadPoolExecutor(processors()) as pool:
        detectors = pool.map(lambda job: learn(hits[job[0]], label[job[0]]), jobs)
        for (_, test), detector in zip(jobs, detectors, strict=True):
            scores[test] += odds(detector, hits[test]) / REPEATS
            others += odds(detector, photographs) / REPEATS / FOLDS
    return scores, others


def _some(index: np.ndarray, label: np.ndarray, size: int, seed: int) -> np.ndarray:
    """`size` of the positions with both labels among them."""
    drawn = np.random.default_rng(seed).permutation(index)
    first = [drawn[label[drawn] == kind][0] for kind in (True, False)]
    return np.array([*first, *[i for i in drawn if i not in first][: size - 2]])


def odds(detector: filters.Detector, vectors: np.ndarray) -> np.ndarray:
    """Log-odds (n,) of a detector from inner vectors (n, dim), within 1e-12 of either end."""
    likely = np.clip(filters.probability(detector, vectors), 1e-12, 1 - 1e-12)
    return np.log(likely / (1 - likely))


def score_odds(model, inner: np.ndarray) -> np.ndarray:
    """Log-odds (n,) of the prompts' score from inner vectors, whose first part is the pooled output
    that the tower projects.
    """
    head = model.net.visual.head.proj
    with torch.inference_mode():
        pooled = torch.from_numpy(inner[:, : head.in_features]).to(head.weight)
        vectors = head(pooled).float().cpu().numpy()
    found = logits(vectors, filters.prompts(model)) / 10
    return found[:, 0] - found[:, 1]


def joined(
    score: np.ndarray, detector: np.ndarray, label: np.ndarray, others: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of a regression on both criteria, cross-validated, and of others: (n,), (m,).

    Args:
        score: log-odds of the prompts' score, (n,).
        detector: log-odds of a detector that did not learn from the picture, (n,).
        label: bool (n,).
        others: score and detector of the other pictures, (m,) each.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    both, rest, found = np.stack([score, detector], 1), np.stack(others, 1), np.zeros(len(label))
    centre, spread = both.mean(0), both.std(0)
    both, rest, more = (both - centre) / spread, (rest - centre) / spread, 0.0
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(both, label):
        head = LogisticRegression().fit(both[train], label[train])
        found[test] = head.decision_function(both[test])
        more = more + head.decision_function(rest) / FOLDS
    return found, more


def added(detector: np.ndarray, both: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """What the score adds to the detector's AUC: value, low, high, over pictures."""

    def difference(a, b, truth):
        return filters.auc(b, truth) - filters.auc(a, truth)

    return intervals.named(difference, detector, both, label)


def words(values: dict | None) -> str:
    """What joining the two criteria changes, in a sentence."""
    if not values or "added" not in values:
        return "What the score adds to the detector is not stored here."
    gain = values["added"]["wide"]
    ranks = "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "measurably no better"
    return (
        f"Joined with the prompts' score, the detector ranks pictures {ranks}: "
        f"{in_words(gain, digits=3, sign='+')} of the AUC by the wide reading."
    )
