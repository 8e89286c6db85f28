"""Duplicates: exact bytes, then perceptual hashes that propose pairs, then a closer look at every
proposed pair.

A hash alone cannot separate copies from look-alikes: crops and captions move 16 of 64 bits, lakes
agree by chance. So `signatures` makes thumbnails and hashes of crop windows, `hamming` finds all
pairs of near hashes, `registration` moves one picture onto the other and correlates their
structure, and this module joins the three. On plain ground the subject alone is compared. Flat
pictures, whose hash is noise, are proposed by correlation instead. Clusters are the connected
components of the accepted pairs.

* paper, PUB11: duplicates removed after the download, the largest copy kept
* not in the paper: crops, captions and the eight orientations; test images inside a training set
* [NOT IMPLEMENTED] copies that keep less than about 85 % of the picture
* impossible: copies of plain pictures, such as open sea, whose structure re-encoding has erased

Cluster ids are the smallest position in the cluster, so `ids[i] == i` marks its first member.
Chapter: dedup.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from rs5m.dedup.hamming import components, hash_pairs, merge
from rs5m.dedup.registration import (
    THRESHOLDS,
    Thresholds,
    bold,
    coarse,
    isolated,
    local,
    look,
    median,
    paint,
    warp,
)
from rs5m.dedup.thumbnails import (
    CROPS,
    HALVES,
    INVERSE,
    SIDE,
    image_hash,
    orient,
    signature,
    signatures,
    window_hashes,
)

__all__ = [
    "exact",
    "keep_largest",
    "near_duplicates",
    "image_hash",
    "signature",
    "signatures",
    "orient",
    "scored_pairs",
    "groups_of",
    "groups",
    "leaks",
    "threshold_curve",
    "SIDE",
]

OTHER_COLOUR = 0.8  # factor on the score of pictures on light ground, or grey, in other colours
MAX_DISTANCE, MIN_SCORE = (
    12,
    0.75,
)  # read off the chapter's curves, on other images than the reported ones
CUT = 225  # mean level of a channel some of whose pixels are probably cut off at 255
# grey levels (median deviation): below, the hash is mostly noise and candidates come from
# correlation
FLAT = 3.0
FLOOR, COARSE_FLOOR = (
    0.2,
    0.4,
)  # correlations of fine, coarse structure from which two flat pictures are candidates


# ---------------------------------------------------------------- clusters


def exact(blobs) -> np.ndarray:
    """Cluster ids (n,) of equal `blobs` (bytes; or digests as bytes or str), equal meaning the same
    SHA-256.

    Chapter: dedup.
    """
    keys = [
        hashlib.sha256(b).digest() if isinstance(b, bytes | bytearray | memoryview) else b
        for b in blobs
    ]
    first: dict = {}
    return np.array([first.setdefault(k, i) for i, k in enumerate(keys)], np.int64)


def keep_largest(groups, pixels, row, size=None) -> np.ndarray:
    """Bool (n,): in each group the copy with most `pixels`, then most bytes (`size`), then the
    smallest `row`.

    Paper: PUB11, duplicates. Chapter: dedup.
    """
    groups, pixels, row = (np.asarray(x) for x in (groups, pixels, row))
    size = np.zeros(len(row)) if size is None else np.asarray(size)
    order = np.lexsort((row, -size.astype(np.float64), -pixels.astype(np.float64), groups))
    keep = np.zeros(len(row), bool)
    keep[order[np.unique(groups[order], return_index=True)[1]]] = True
    return keep


def near_duplicates(hashes, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Cluster ids (n,): components of the graph that joins hashes (uint64 (n,)) within
    `max_distance` bits.

    Equal to comparing all pairs. Equal hashes are merged first, so a million equal ones cost one.
    ValueError for another shape or type. Chapter: dedup.
    """
    hashes = np.asarray(hashes)
    if hashes.ndim != 1 or hashes.dtype != np.uint64:
        raise ValueError(
            f"hashes are {hashes.dtype} {hashes.shape}: give uint64 of shape (n,), as image_hash "
            "returns."
        )
    unique, first, where = np.unique(hashes, return_index=True, return_inverse=True)
    ids = merge(len(unique), hash_pairs(unique, unique, max_distance) if max_distance > 0 else [])
    smallest = np.full(len(unique), len(hashes))
    np.minimum.at(smallest, ids, first)
    return smallest[ids][where]


# ---------------------------------------------------------------- candidates


def _centre(x: np.ndarray, scale: float) -> np.ndarray:
    """The central part of thumbnails (n, h, h), `scale` of the side, at full size."""
    return warp(x, np.tile(np.float32([scale, (1 - scale) / 2] * 2), (len(x), 1)))[0]


def _flat(x: np.ndarray) -> np.ndarray:
    """Positions of low-contrast pictures; the median ignores a text on them."""
    return np.flatnonzero((median(np.abs(x - median(x)))[:, 0, 0] < FLAT) & ~isolated(x))


def _structure(x: np.ndarray) -> np.ndarray:
    """Unit vectors (n, SIDE**2) of fine structure as the closer look sees it, but of a painted text
    nothing.
    """
    x = np.where(bold(x), 0, local(paint(x), np.ones_like(x))[0]).reshape(len(x), -1)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)


def _blocks(x: np.ndarray) -> np.ndarray:
    """Unit vectors (n, SIDE**2) of coarse structure without texts: what JPEG leaves of a flat
    picture.
    """
    return coarse(paint(x))


def _flat_pairs(a: np.ndarray, b: np.ndarray):
    """Pairs of low-contrast thumbnails whose fine structure correlates; compares all, as few
    pictures are flat.
    """
    fa = _flat(a) if len(a) else []
    fb = fa if a is b else _flat(b) if len(b) else []
    if not len(fa) or not len(fb):
        return
    whole, blocks = (how(a[fa]) for how in (_structure, _blocks))
    views = [(blocks, blocks if a is b else _blocks(b[fb]), COARSE_FLOOR)]
    views += [(whole, whole if a is b else _structure(b[fb]), FLOOR)]
    views += [(whole, _structure(_centre(b[fb], scale)), FLOOR) for scale in (0.95, 0.9)]
    for left, right, floor in views:
        for s in range(0, len(left), 2000):
            i, j = np.nonzero(left[s : s + 2000] @ right.T > floor)
            yield fa[i + s], fb[j]


def _candidates(a: dict, b: dict, max_distance: int, how: int):
    """Edges (i, j) worth a closer look between `a` in orientation `how` and `b`."""
    thumb = b["thumb"].astype(np.float32)
    turned = thumb if a is b and how == 0 else orient(a["thumb"].astype(np.float32), how)
    hashes = a["hash"] if how == 0 else window_hashes(turned)
    columns = [(0, k) for k in range(len(CROPS))] + [
        (k, k) for k in range(len(CROPS), len(CROPS + HALVES))
    ]
    columns += [] if a is b else [(k, 0) for k in range(1, len(CROPS))]
    for k, m in columns:
        left = np.ascontiguousarray(hashes[:, k])
        right = left if a is b and how == 0 and k == m else np.ascontiguousarray(b["hash"][:, m])
        yield from hash_pairs(left, right, max_distance)
    yield from _flat_pairs(turned, thumb)


def _same_colour(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether mean or median colours (m, 2, 3) agree up to one brightness factor, within 8 % or 2
    levels.

    Channels that brightening may have cut off at 255 do not count.
    """
    swap = (a.sum((1, 2)) > b.sum((1, 2)))[:, None, None]
    a, b, whole = np.where(swap, b, a), np.where(swap, a, b), np.maximum(a, b) < CUT
    ratio = (whole * (b + 1) / (a + 1)).sum(2, keepdims=True) / np.maximum(
        whole.sum(2, keepdims=True), 1
    )
    return (~whole | (np.abs(b - ratio * a) < np.maximum(0.08 * ratio * a, 2))).all(2).any(1)


def _grey(colour: np.ndarray) -> np.ndarray:
    """Whether pictures of these mean and median colours (m, 2, 3) hold no colour."""
    return np.ptp(colour, axis=2).max(1) < 1


# ---------------------------------------------------------------- pairs, groups, leaks


def _unique_pairs(chunks, how: int, same: bool, width: int) -> np.ndarray:
    """Distinct (i, j) of a stream of edges; within one set without i == j and, where order is free,
    with i < j.
    """
    found = [np.empty(0, np.int64)]
    for i, j in chunks:
        if same:
            if INVERSE[how] == how:  # the same pair either way round
                i, j = np.minimum(i, j), np.maximum(i, j)
            i, j = i[i != j], j[i != j]
        found.append(i.astype(np.int64) * width + j)
        if len(found) > 200:
            found = [np.unique(np.concatenate(found))]
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(width, 1)), 1)


def _distance(a: dict, b: dict, i, j, how: int) -> np.ndarray:
    """Smallest hash distance over the compared windows, per pair."""
    x = a["hash"][i] if how == 0 else window_hashes(orient(a["thumb"][i], how))
    y, n = b["hash"][j], len(CROPS)
    return np.minimum.reduce(
        [
            np.bitwise_count(x[:, :1] ^ y[:, :n]).min(1, initial=64),
            np.bitwise_count(x[:, :n] ^ y[:, :1]).min(1, initial=64),
            np.bitwise_count(x[:, n:] ^ y[:, n:]).min(1, initial=64),
        ]
    )


def _look(a: dict, b: dict, pair: np.ndarray, how: int, limits: Thresholds) -> pd.DataFrame:
    """The rows of `scored_pairs` for some candidates (m, 2)."""
    i, j = pair.T
    near = _same_colour(a["colour"][i], b["colour"][j])
    first, second = orient(a["thumb"][i], how).astype(np.float32), b["thumb"][j].astype(np.float32)
    free = near | isolated(first) & isolated(second) | _grey(a["colour"][i]) | _grey(b["colour"][j])
    i, j, near, first, second = (x[free] for x in (i, j, near, first, second))
    score = look(first, second, limits)
    score = np.where(near, score, OTHER_COLOUR * score)
    return pd.DataFrame(
        {"i": i, "j": j, "distance": _distance(a, b, i, j, how), "orientation": how, "score": score}
    )


def scored_pairs(
    a: dict,
    b: dict | None = None,
    max_distance: int = MAX_DISTANCE,
    orientations: bool = False,
    limits: Thresholds = THRESHOLDS,
):
    """DataFrame i, j, distance (bits), orientation, score of all candidate pairs, before any
    threshold on the score.

    Score, 0 to 1: correlation of fine structure, registered. A pair met in several orientations
    keeps the best.

    Args:
        a: `signatures` of a set.
        b: of another set; without it pairs within `a`.
        max_distance: bits between the hashes of candidates.
        orientations: also look for quarter turns and mirror images.
        limits: of the closer look, see `rs5m.dedup.registration.Thresholds`.
    """
    same, b = b is None, a if b is None else b
    tables = []
    for how in range(8 if orientations else 1):
        if same and INVERSE[how] < how:  # (i, j) a quarter turn left is (j, i) a quarter turn right
            continue
        pair = _unique_pairs(_candidates(a, b, max_distance, how), how, same, len(b["thumb"]))
        if len(pair):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                tables += pool.map(
                    lambda some, how=how: _look(a, b, some, how, limits),
                    np.split(pair, range(512, len(pair), 512)),
                )
    columns = {
        "i": np.int64,
        "j": np.int64,
        "distance": np.int64,
        "orientation": np.int64,
        "score": np.float64,
    }
    table = (
        pd.concat(tables)
        if tables
        else pd.DataFrame({k: np.empty(0, t) for k, t in columns.items()})
    )
    if same:
        table[["i", "j"]] = np.sort(table[["i", "j"]].to_numpy(), axis=1)
    table = table.sort_values(
        ["i", "j", "score", "orientation"], ascending=[True, True, False, True]
    )
    return table.drop_duplicates(["i", "j"], ignore_index=True).astype(columns)


def groups_of(pairs: pd.DataFrame, n: int, min_score: float = MIN_SCORE) -> np.ndarray:
    """Cluster ids (n,) of `scored_pairs` within one set, joined where the score reaches
    `min_score`. Chapter: dedup.
    """
    pairs = pairs[pairs.score >= min_score]
    return components(n, pairs.i.to_numpy(), pairs.j.to_numpy())


def groups(
    signatures: dict,
    max_distance: int = MAX_DISTANCE,
    min_score: float = MIN_SCORE,
    orientations=False,
):
    """Cluster ids (n,) of near-copies: candidates by hash, accepted by the closer look, joined into
    components.

    Paper: PUB11, duplicates. Chapter: dedup.
    """
    pairs = scored_pairs(signatures, max_distance=max_distance, orientations=orientations)
    return groups_of(pairs, len(signatures["thumb"]), min_score)


def leaks(
    train,
    test,
    orientations: bool = True,
    max_distance: int = MAX_DISTANCE,
    min_score: float = MIN_SCORE,
    limits: Thresholds = THRESHOLDS,
):
    """DataFrame test, train, distance, orientation, score: test images that the training set holds
    a copy of.

    Sorted by test image, best first.

    Args:
        train: `signatures`, or images to make them from.
        test: the same of the test set.
        orientations: also look for quarter turns and mirror images.
        max_distance: bits between the hashes of candidates.
        min_score: of a copy.
        limits: of the closer look, see `rs5m.dedup.registration.Thresholds`.
    """
    test, train = (x if isinstance(x, dict) else signatures(x) for x in (test, train))
    pairs = scored_pairs(test, train, max_distance, orientations, limits)
    pairs = pairs[pairs.score >= min_score].sort_values(
        ["i", "score", "j"], ascending=[True, False, True]
    )
    pairs = pairs.rename(columns={"i": "test", "j": "train"})[
        ["test", "train", "distance", "orientation", "score"]
    ]
    return pairs.reset_index(drop=True)


def threshold_curve(value, copy, planted: int, thresholds, larger: bool = False) -> pd.DataFrame:
    """DataFrame threshold, pairs, recall, precision of accepting pairs by `value` (a distance; a
    score with `larger`).

    `copy`: bool per pair, the truth; `planted`: how many copies exist, found as a pair or not.
    Precision of nothing is 1. Chapter: dedup.
    """
    value, copy = np.asarray(value), np.asarray(copy, bool)
    if len(value) != len(copy):
        raise ValueError(f"{len(value)} values but {len(copy)} truths: give one truth per pair.")
    rows = []
    for t in thresholds:
        taken = value >= t if larger else value <= t
        hits, n = int((taken & copy).sum()), int(taken.sum())
        rows.append((t, n, hits / planted if planted else 1.0, hits / n if n else 1.0))
    return pd.DataFrame(rows, columns=["threshold", "pairs", "recall", "precision"])
