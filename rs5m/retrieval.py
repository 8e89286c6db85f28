"""Cross-modal retrieval on arrays: recall at K in both directions, with intervals. Chapter:
retrieval.

R@K is the share of queries with at least one right answer among the K best, as the field reports
it. No score is sorted and no matrix of all scores is held: a rank is a count of better scores,
taken block by block.

Ties: equal scores count as if in random order, by the expected value over all orders, so that a
model that gives every pair the same score is at chance. The official code takes torch.topk's order,
which is arbitrary there; `official_hits` has it. Scores are products in float64, rounded to steps
of 1e-9. That is coarse beside the error of such a sum, which differs from place to place in a
block: equal vectors have equal scores wherever they stand. It is fine beside the official float32
scores.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rs5m.intervals import RESAMPLES, percentiles
from rs5m.vectors import normalise

KS = (1, 5, 10)
ENTRIES = 2**24  # scores in one block: about 250 MB with its copies
# from a cosine of 0 to 1, for int32; steps of float32 are too fine near 0 and would miss ties
STEPS = 2**30


class Hits(NamedTuple):
    """For each K (columns) the chance in 0..1 that a query is answered: image (images, k), text
    (texts, k).

    Without ties every entry is 0 or 1. An image without captions is not a query: its row is NaN.
    """

    image: np.ndarray
    text: np.ndarray


def recall(
    image: np.ndarray, text: np.ndarray, image_of_text: np.ndarray, ks: Sequence[int] = KS
) -> dict[str, float]:
    """R@K of both directions and their mean, in %: image_to_text_R@K, text_to_image_R@K,
    mean_recall. ValueError for shapes that do not fit and for NaN or infinity.

    Args:
        image, text: vectors (images, dim) and (texts, dim), which need no normalisation.
        image_of_text: (texts,), the image that each text belongs to; any number for an image.
        ks: the K.
    """
    return summary(hits(image, text, image_of_text, ks), ks)


def hits(image, text, image_of_text, ks: Sequence[int] = KS, entries: int = ENTRIES) -> Hits:
    """Which queries find their answer among the K best.

    Args:
        image, text, image_of_text, ks: those of `recall`, and so are the errors.
        entries: scores held at once.
    """
    image, text, of = _checked(image, text, image_of_text)
    unit = normalise(image.astype(np.float64))
    size = max(1, entries // max(image.shape))
    blocks = [slice(start, start + size) for start in range(0, len(text), size)]
    own = np.concatenate([_rounded((_unit(text[b]) * unit[of[b]]).sum(1)) for b in blocks])
    best = np.full(len(image), -2 * STEPS, np.int32)  # the score of an image's best caption
    np.maximum.at(best, of, own)
    above, level, better, equal = (
        np.zeros(n, np.int64) for n in (len(image), len(image), len(text), len(text))
    )
    for block in blocks:
        score = _rounded(_unit(text[block]) @ unit.T)
        above += (score > best).sum(0)
        level += (score == best).sum(0)
        better[block] = (score > own[block, None]).sum(1)
        equal[block] = (score == own[block, None]).sum(1)
    mine = np.bincount(
        of[own == best[of]], minlength=len(image)
    )  # own captions among those at the best score
    found = (
        [_found(above, level - mine, mine, k) for k in ks],
        [_found(better, equal - 1, 1, k) for k in ks],
    )
    asked = np.where(np.bincount(of, minlength=len(image)) > 0, 1, np.nan)
    return Hits(np.stack(found[0], 1) * asked[:, None], np.stack(found[1], 1))


def official_hits(image, text, image_of_text, ks: Sequence[int] = KS) -> Hits:
    """`hits` as the official code counts them: equal scores in the order of torch.topk, from one
    matrix of all scores in float32. Args: those of `recall`, and so are the errors.
    """
    import torch

    image, text, of = _checked(image, text, image_of_text)
    vectors = (torch.from_numpy(np.asarray(v, np.float32)) for v in (image, text))
    image, text = (torch.nn.functional.normalize(v, dim=-1) for v in vectors)
    scores, of = text @ image.T, torch.from_numpy(of)
    found = []
    for rows, owner, own in (
        (scores.T, of, torch.arange(len(image))),
        (scores, torch.arange(len(image)), of),
    ):
        best = [owner[rows.topk(min(k, rows.shape[1])).indices] for k in ks]
        found.append(torch.stack([(b == own[:, None]).any(1) for b in best], 1).double().numpy())
    found[0][np.bincount(of, minlength=len(image)) == 0] = np.nan
    return Hits(*found)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return normalise(vectors.astype(np.float64))


def _rounded(scores: np.ndarray) -> np.ndarray:
    """The scores in whole STEPS; the array given is overwritten."""
    scores *= STEPS
    return np.rint(scores, out=scores).astype(np.int32)


def _found(above: np.ndarray, others, mine, k: int) -> np.ndarray:
    """The chance that one of `mine` equal right answers is among the k best: `above` stand higher,
    `others` equal.

    Below the higher ones k - above places are left; in a random order none of mine takes one with a
    chance of (others over places) / (others + mine over places), a hypergeometric draw.
    """
    missed = np.ones(len(above))
    others = np.maximum(others, 0)
    for place in range(k):
        left = place < k - above
        missed *= np.where(
            left, np.maximum(others - place, 0) / np.maximum(others + mine - place, 1), 1
        )
    return 1 - missed


def summary(hits: Hits, ks: Sequence[int] = KS) -> dict[str, float]:
    """The recalls of some hits, in %, with the keys of `recall`; shares are float32, as in the
    official code.
    """
    sides = (("image_to_text", np.nanmean(hits.image, 0)), ("text_to_image", hits.text.mean(0)))
    found = {
        f"{side}_R@{k}": 100 * float(np.float32(mean))
        for side, means in sides
        for k, mean in zip(ks, means, strict=True)
    }
    return found | {"mean_recall": float(np.mean(list(found.values())))}


def interval(hits: Hits, image_of_text: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean recall, in %: images are drawn with replacement, each brings
    its captions.
    """
    return percentiles(_resampled([hits], image_of_text, seed)[:, 0])


def paired_difference(before: Hits, after: Hits | list[Hits], image_of_text, seed: int = 0) -> dict:
    """Gain in mean recall on the same pairs, in points: gain, low, high, and `seeds`, the gain of
    each of `after`.

    Args:
        before: hits of the model that was not tuned.
        after: hits of one tuned model, or of one for each seed of tuning; then seeds are drawn as
            well as images.
        image_of_text: see `recall`.
        seed: of the resampling.
    """
    after = [after] if isinstance(after, Hits) else list(after)
    found = _resampled([before, *after], image_of_text, seed)
    generator = np.random.default_rng([seed, 1])
    drawn = generator.integers(1, len(found[0]), (len(found), len(after)))
    change = np.take_along_axis(found, drawn, 1).mean(1) - found[:, 0]
    low, high = percentiles(change)
    start = summary(before, range(before.text.shape[1]))["mean_recall"]
    gains = [summary(hit, range(hit.text.shape[1]))["mean_recall"] - start for hit in after]
    return {"gain": float(np.mean(gains)), "low": low, "high": high, "seeds": gains}


def _resampled(models: list[Hits], image_of_text: np.ndarray, seed: int) -> np.ndarray:
    """Mean recall in % of RESAMPLES bootstrap samples of the images, the same for all models:
    (RESAMPLES, models).
    """
    of, generator = np.asarray(image_of_text), np.random.default_rng(seed)
    n = len(models[0].image)
    owned = np.bincount(of, minlength=n)
    asked = np.flatnonzero(owned)
    images = np.concatenate([hit.image[asked] for hit in models], 1)
    texts = np.zeros((n, models[0].text.shape[1] * len(models)))
    np.add.at(texts, of, np.concatenate([hit.text for hit in models], 1))
    found = []
    for part in np.array_split(np.arange(RESAMPLES), max(1, RESAMPLES * len(asked) // ENTRIES)):
        weights = generator.multinomial(
            len(asked), np.full(len(asked), 1 / len(asked)), size=len(part)
        ).astype(float)
        sides = (
            weights @ images / len(asked),
            weights @ texts[asked] / (weights @ owned[asked])[:, None],
        )
        found.append(sum(side.reshape(len(part), len(models), -1).mean(2) for side in sides) / 2)
    return 100 * np.concatenate(found)


def _checked(image, text, image_of_text) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, text, of = np.asarray(image), np.asarray(text), np.asarray(image_of_text)
    if (
        image.ndim != 2
        or text.ndim != 2
        or image.shape[1] != text.shape[1]
        or not len(image)
        or not len(text)
    ):
        raise ValueError(
            f"images {image.shape} and texts {text.shape} must be (n, dim) and (m, dim) of one dim"
        )
    if (
        of.shape != (len(text),)
        or not np.issubdtype(of.dtype, np.integer)
        or of.min() < 0
        or of.max() >= len(image)
    ):
        raise ValueError(
            f"image_of_text {of.shape} must give each of {len(text)} texts an image from 0 to "
            f"{len(image) - 1}"
        )
    if not (np.isfinite(image).all() and np.isfinite(text).all()):
        raise ValueError(
            "a vector holds NaN or infinity: the model gave no numbers for an image or a text"
        )
    return image, text, of
