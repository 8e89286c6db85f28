"""What frozen vectors of images are worth: neighbours, a linear probe, few labelled images a class,
and zero-shot classification that looks at all images at once. Chapter: zeroshot.

Half of the images of each class are the test, the same ones for every model and method; the other
half is what may be learned from. Accuracies are top-1 in % of the test images; intervals draw
images within their classes, and seeds where there are several.

* Radford et al. 2021, CLIP: a linear probe whose regularisation is chosen on a validation split
* El Khoury et al. 2025, RS-TransCLIP: classes as Gaussians of one diagonal covariance, neighbours
  that agree, and the texts' predictions, in turns; labels are not used
* ours: the code, and the split, since the labelled sets of remote sensing have none in common
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rs5m import intervals, zeroshot
from rs5m.vectors import normalise

BLOCK = 1024  # images at a time, so that 30,000 need no gigabytes
NEIGHBOURS, SHARPNESS = 20, 0.07  # that vote, each with the weight exp(cosine / SHARPNESS)
STRENGTHS = tuple(10.0**power for power in range(-1, 4))  # of sklearn's C in the sweep
FEW = 10.0  # C where there are too few images for a validation split
SHOTS, SEEDS = (1, 2, 4, 8, 16), 5
CONFIDENT, AGREE, TURNS, STEPS = 8, 3, 10, 5


def split(label: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to learn from and of the test, half of each class.

    ValueError for fewer than two classes, and for a class of one image.
    """
    generator, learn, test = np.random.default_rng(seed), [], []
    classes, counts = np.unique(label, return_counts=True)
    smallest = min(counts, default=0)
    if len(classes) < 2 or smallest < 2:
        raise ValueError(
            f"{len(classes)} classes, the smallest with {smallest} images: give two classes or "
            "more, and two images of each"
        )
    for c in classes:
        members = generator.permutation(np.flatnonzero(label == c))
        half = len(members) // 2
        learn.append(members[:half])
        test.append(members[half:])
    return np.sort(np.concatenate(learn)), np.sort(np.concatenate(test))


def over_seeds(hits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """top1 in % of hits bool (seeds, n), the mean over seeds, with its interval over seeds and
    images: top1, low, high.
    """
    generator, label = np.random.default_rng(0), np.asarray(label)
    hits, weights = np.atleast_2d(hits).astype(float), np.zeros((intervals.RESAMPLES, len(label)))
    for c in np.unique(label):
        members = np.flatnonzero(label == c)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = generator.multinomial(len(members), even, intervals.RESAMPLES)
    seeds = len(hits)
    drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), intervals.RESAMPLES) / seeds
    shares = ((weights @ hits.T) * drawn).sum(1) / len(label)
    low, high = intervals.percentiles(100 * shares)
    return {"top1": 100 * float(hits.mean()), "low": low, "high": high}


# ---------------------------------------------------------------- with labels


def neighbours(train: np.ndarray, label: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The class of each test vector (m, dim) by the vote of its nearest neighbours: (m,)."""
    test, train, said = normalise(test), normalise(train), []
    count = min(NEIGHBOURS, len(train))
    for start in range(0, len(test), BLOCK):
        cosines = test[start : start + BLOCK] @ train.T
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        weight = np.exp(np.take_along_axis(cosines, best, 1) / SHARPNESS)
        votes = np.zeros((len(cosines), label.max() + 1))
        np.add.at(votes, (np.arange(len(cosines))[:, None], label[best]), weight)
        said.append(votes.argmax(1))
    return np.concatenate(said)


def fitted(train: np.ndarray, label: np.ndarray, strength: float):
    """A logistic regression on normalised vectors; strength: sklearn's C, the larger the freer."""
    from sklearn.linear_model import LogisticRegression  # a second to import

    return LogisticRegression(C=strength, max_iter=1000, tol=1e-3).fit(normalise(train), label)


def probe(train: np.ndarray, label: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float]:
    """The classes of the test vectors (m,) by a linear probe on all training vectors, and its
    strength: the one of STRENGTHS that is best on a fifth of each class, fitted on the rest.
    """
    generator, held = np.random.default_rng(0), np.zeros(len(label), bool)
    for c in np.unique(label):
        members = generator.permutation(np.flatnonzero(label == c))
        held[members[: len(members) // 5]] = True
    if not held.any():
        return fitted(train, label, FEW).predict(normalise(test)), FEW
    scores = [
        fitted(train[~held], label[~held], one).score(normalise(train[held]), label[held])
        for one in STRENGTHS
    ]
    best = STRENGTHS[int(np.argmax(scores))]  # of equals the strongest regularisation
    return fitted(train, label, best).predict(normalise(test)), best


def with_texts(train: np.ndarray, label: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Class vectors (classes, dim): the direction half-way between the class's text and the mean of
    its images; the text alone where a class has none.
    """
    found = normalise(text).copy()
    for c in np.unique(label):
        found[c] += normalise(normalise(train[label == c]).mean(0))
    return normalise(found)


# ---------------------------------------------------------------- without labels


def transductive(image: np.ndarray, text: np.ndarray, scale: float = 100.0) -> np.ndarray:
    """Probabilities of the classes (n, classes) of images that are seen all together.

    In TURNS turns: each image's classes are what its text scores, the Gaussians of the classes and
    its AGREE nearest neighbours say; then the Gaussians are what the images say.

    Args:
        image: vectors (n, dim).
        text: class vectors (classes, dim).
        scale: of the cosines with texts before their softmax.
    """
    image, text = normalise(image), normalise(text)
    prior, dim = scale * image @ text.T, image.shape[1]
    # by the lead over the best other class: probabilities are all 1 where an image is sure
    best = np.argsort(-_lead(prior), axis=0, kind="stable")[:CONFIDENT]  # (CONFIDENT, classes)
    centre, variance = normalise(image[best].mean(0)), np.full(dim, 1 / dim)
    prior -= prior.max(1, keepdims=True)
    prior -= np.log(np.exp(prior).sum(1, keepdims=True))
    z, (places, weight) = np.exp(prior), nearest(image)
    for _ in range(TURNS):
        density = _density(image, centre, variance)
        for _ in range(STEPS):
            z = _softmax(prior + density + np.einsum("nk,nkc->nc", weight, z[places]))
        total = np.maximum(z.sum(0), 1e-9)
        centre = z.T @ image / total[:, None]
        # the mean over images of (x - centre)^2, written out
        spread = (image**2).mean(0) - (centre**2 * total[:, None]).sum(0) / len(image)
        variance = np.maximum(spread, 1e-6)
    return z


def _lead(scores: np.ndarray) -> np.ndarray:
    """By how much each class leads the best other one (n, classes)."""
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T[:, :, None]
    return scores - np.where(scores == first, second, first)


def nearest(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places and cosines (n, AGREE) of each image's nearest others, none below zero."""
    places, weight, count = [], [], min(AGREE, len(image) - 1)
    for start in range(0, len(image), BLOCK):
        cosines = image[start : start + BLOCK] @ image.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        places.append(best)
        weight.append(np.maximum(np.take_along_axis(cosines, best, 1), 0))
    return np.concatenate(places), np.concatenate(weight)


def _density(image: np.ndarray, centre: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The logarithm of each class's Gaussian at each image, but for what all classes share."""
    scaled, middle = image / np.sqrt(variance), centre / np.sqrt(variance)
    return scaled @ middle.T - (middle**2).sum(1) / 2


def _softmax(logits: np.ndarray) -> np.ndarray:
    z = np.exp(logits - logits.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


# ---------------------------------------------------------------- tasks


def score_knn(image: np.ndarray, label: np.ndarray, text: np.ndarray) -> dict[str, dict]:
    """top1, low and high of the vote of neighbours."""
    learn, test = split(label)
    said = neighbours(image[learn], label[learn], image[test])
    return {"k-NN": over_seeds(said == label[test], label[test])}


def score_probe(image: np.ndarray, label: np.ndarray, text: np.ndarray) -> dict[str, dict]:
    """top1, low and high of the linear probe, and the strength that was chosen."""
    learn, test = split(label)
    said, strength = probe(image[learn], label[learn], image[test])
    return {"linear probe": over_seeds(said == label[test], label[test]) | {"C": strength}}


def score_fewshot(image: np.ndarray, label: np.ndarray, text: np.ndarray) -> dict[str, dict]:
    """top1, low and high by the number of images of a class: a linear probe, and texts with the
    means of images. Numbers that a class does not have are left out.
    """
    learn, test = split(label)
    fewest = min(np.unique(label[learn], return_counts=True)[1])
    found = {}
    for shots in (count for count in SHOTS if count <= fewest):
        hits = {"linear": [], "with texts": []}
        for seed in range(SEEDS):
            generator = np.random.default_rng((seed, shots))
            some = [
                generator.choice(learn[label[learn] == c], shots, replace=False)
                for c in np.unique(label[learn])
            ]
            chosen = np.concatenate(some)
            linear = fitted(image[chosen], label[chosen], FEW).predict(normalise(image[test]))
            classifier = with_texts(image[chosen], label[chosen], text)
            hits["linear"].append(linear == label[test])
            hits["with texts"].append(zeroshot.hits(image[test], classifier, label[test]))
        for how, each in hits.items():
            found[f"{shots}-shot {how}"] = over_seeds(np.array(each), label[test])
    return found


def score_transductive(image: np.ndarray, label: np.ndarray, text: np.ndarray) -> dict[str, dict]:
    """top1, low and high of all images, and the gain over zero-shot with its paired interval."""
    hit = transductive(image, text).argmax(1) == label
    before = zeroshot.hits(image, normalise(text), label)
    change = hit.astype(float) - before
    gain = over_seeds(change, label)
    told = {"gain": gain["top1"], "gain_low": gain["low"], "gain_high": gain["high"]}
    return {"transductive": over_seeds(hit, label) | told}


TASKS: dict[str, Callable] = {
    "knn": score_knn,
    "probe": score_probe,
    "fewshot": score_fewshot,
    "transductive": score_transductive,
}
