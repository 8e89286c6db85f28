"""Images with any number of labels: mean average precision on arrays. Chapter: leaderboard.

The average precision of a class is the mean, over its images, of the precision at the score of each
one; images of equal score count together, as in scikit-learn. The macro mean is over the classes
that have an image; the micro value ranks all pairs of image and class in one list.
"""

import numpy as np

from rs5m.intervals import percentiles

ENTRIES = 2**23  # weights of images in one block of bootstrap samples, and in all of them
DRAWS = 100, 500  # of the bootstrap, at least and at most


def average_precision(score: np.ndarray, true: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of scores (n,) with true bool (n,), for each row of weights of the images (draws, n):
    (draws,), NaN where no true image has a weight.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of equal scores
    drawn = weight[:, order]
    right = (drawn * true[order]).cumsum(1)[:, ends]
    precision = right / np.maximum(drawn.cumsum(1)[:, ends], 1)
    total = right[:, -1]
    found = (np.diff(right, axis=1, prepend=0) * precision).sum(1)
    return np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0)


def measure(scores: np.ndarray, labels: np.ndarray, draws: int = 0, seed: int = 0) -> dict:
    """map_macro and map_micro in %, each with its interval, and by_class: the average precision of
    each class, NaN of one without an image.

    Intervals are bootstraps over images. ValueError where no image has a label, or every one has
    all of them.

    Args:
        scores: (n, classes).
        labels: bool (n, classes).
        draws: of the bootstrap; 0: as many as take seconds, within DRAWS.
        seed: of the draws.
    """
    if not labels.any() or labels.all():
        raise ValueError("every image has all labels or none has one: no ranking can be judged")
    n, classes = scores.shape
    draws = draws or int(np.clip(ENTRIES // (n * classes), *DRAWS))
    one = np.ones((1, n))
    by_class = np.array(
        [average_precision(scores[:, c], labels[:, c], one)[0] for c in range(classes)]
    )
    flat = scores.ravel(), labels.ravel()
    micro = average_precision(*flat, np.ones((1, n * classes)))[0]
    generator, drawn = np.random.default_rng(seed), {"macro": [], "micro": []}
    block = max(1, ENTRIES // (n * classes))
    for start in range(0, draws, block):
        count = min(block, draws - start)
        weight = generator.multinomial(n, np.full(n, 1 / n), count).astype(np.float32)
        each = [average_precision(scores[:, c], labels[:, c], weight) for c in range(classes)]
        drawn["macro"].append(np.nanmean(each, 0))
        drawn["micro"].append(average_precision(*flat, np.repeat(weight, classes, 1)))
    found = {"by_class": 100 * by_class}
    for name, value in (("macro", np.nanmean(by_class)), ("micro", micro)):
        low, high = percentiles(100 * np.concatenate(drawn[name]))
        found |= {f"map_{name}": 100 * float(value), f"{name}_interval": (low, high)}
    return found
