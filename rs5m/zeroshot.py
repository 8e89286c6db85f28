"""Zero-shot classification on arrays: no path, no data set inside. Paper: zero-shot tables.
Chapter: zeroshot.
"""

import numpy as np

from rs5m.intervals import balanced, balanced_draws, percentiles
from rs5m.vectors import normalise


def classifier(text: np.ndarray, protocol: str = "rs5m") -> np.ndarray:
    """One vector per class from un-normalised prompt vectors: (classes, prompts, dim) -> (classes,
    dim).

    "rs5m" averages the prompts and then normalises (official evaluation code); "clip" normalises
    each prompt first, as CLIP and open_clip do. Raises ValueError for another protocol.
    """
    if protocol not in ("rs5m", "clip"):
        raise ValueError(f"unknown protocol {protocol!r}: choose rs5m or clip")
    text = normalise(text) if protocol == "clip" else text
    return normalise(text.mean(1))


def logits(image: np.ndarray, classifier: np.ndarray) -> np.ndarray:
    """100 x cosine of every image (n, dim) with every class (classes, dim): (n, classes)."""
    return 100 * normalise(image) @ classifier.T


def hits(image: np.ndarray, classifier: np.ndarray, label: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether the true class is among the k best of each image: bool (n,).

    Of classes with equal scores the first counts as the better one, as numpy's argmax has it; the
    official code leaves that to torch.topk, which promises no order. ValueError where a score is
    not a number.

    Args:
        image: vectors (n, dim), which need no normalisation.
        classifier: of `classifier`.
        label: positions of the true classes (n,).
        k: how many classes count.
    """
    scores = logits(image, classifier)
    if np.isnan(scores).any():
        count = np.isnan(scores).any(1).sum()
        raise ValueError(
            f"{count} of {len(scores)} images have scores that are not numbers: "
            "the model's vectors are broken"
        )
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return (best == np.asarray(label)[:, None]).any(1)


def confusion(image: np.ndarray, classifier: np.ndarray, label: np.ndarray) -> np.ndarray:
    """What the images of each class are called: (classes, classes), rows are the truth, in % of the
    class's images.

    The diagonal's mean over the classes that have images is the balanced accuracy; the row of
    another class is zero.
    """
    from sklearn.metrics import confusion_matrix  # a second to import

    said, classes = logits(image, classifier).argmax(1), np.arange(len(classifier))
    return 100 * confusion_matrix(label, said, labels=classes, normalize="true")


def accuracy(
    image: np.ndarray, classifier: np.ndarray, label: np.ndarray, top: tuple[int, ...] = (1, 5)
) -> dict:
    """Accuracies in %: top1, top5, ... over all images, and balanced (the mean of the classes'
    top-1).

    Args:
        image, classifier, label: those of `hits`.
        top: the k.
    """
    result = {f"top{k}": 100 * float(hits(image, classifier, label, k).mean()) for k in top}
    return result | {"balanced": balanced(hits(image, classifier, label), label)}


def measure(image: np.ndarray, classifier: np.ndarray, label: np.ndarray) -> dict:
    """`accuracy` with the bootstrap interval of the balanced one (low, high) and the hits (n,)."""
    hit = hits(image, classifier, label)
    low, high = interval(hit, label)
    return accuracy(image, classifier, label) | {"low": low, "high": high, "hit": hit}


def interval(
    hit: np.ndarray, label: np.ndarray, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap confidence interval of the balanced accuracy, in %. Images are resampled within
    their classes.

    Args:
        hit: of `hits` (n,).
        label: the true classes (n,).
        level: of confidence.
        seed: of the resampling.
    """
    return percentiles(balanced_draws(hit, label, seed), level)


def paired_difference(
    before: np.ndarray, after: np.ndarray, label: np.ndarray, level: float = 0.95
) -> dict:
    """Gain in balanced accuracy on the same images, with its paired bootstrap interval: gain, low,
    high in points.

    Args:
        before, after: `hits` of two models (n,).
        label: the true classes (n,).
        level: of confidence.
    """
    change = after.astype(float) - before.astype(float)
    low, high = interval(change, label, level)
    return {"gain": balanced(change, label), "low": low, "high": high}
