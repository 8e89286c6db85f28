"""Near-copies: perceptual hashes that propose pairs, then a closer look at every proposed pair.

A hash alone cannot separate copies from look-alikes: crops and captions move 16 of 64 bits, lakes
agree by chance. So `signatures` makes thumbnails and hashes of crop windows, `hamming` finds all
pairs of near hashes, `registration` moves one picture onto the other and correlates their
structure, and this module joins the three. On plain ground the subject alone is compared. Flat
pictures, whose hash is noise, are proposed by correlation instead. `clusters` joins the accepted
pairs to groups.

* paper, PUB11: duplicates removed after the download, the largest copy kept
* not in the paper: crops, captions and the eight orientations; test images inside a training set
* [NOT IMPLEMENTED] copies that keep less than about 85 % of the picture
* impossible: copies of plain pictures, such as open sea, whose structure re-encoding has erased
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rs5m.dedup import ondisk
from rs5m.dedup.candidates import candidates
from rs5m.dedup.clusters import MAX_DISTANCE, MIN_SCORE, groups_of
from rs5m.dedup.hamming import hash_pairs
from rs5m.dedup.registration import THRESHOLDS, Thresholds, scores
from rs5m.dedup.structure import isolated
from rs5m.dedup.thumbnails import CROPS, INVERSE, orient, signatures, window_hashes

OTHER_COLOUR = 0.79  # factor on the score of pictures on light ground, or grey, in other colours
CUT = 225  # mean level of a channel some of whose pixels are probably cut off at 255
COLUMNS = dict.fromkeys(("i", "j", "distance", "orientation"), np.int64)
COLUMNS |= {"score": np.float64, "road": np.int8}  # of `scored_pairs`


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


def _numbers(chunks, how: int, same: bool, width: int):
    """Edges (i, j) of a stream as i * width + j; within one set without i == j and, where order is
    free, with i < j.
    """
    for i, j in chunks:
        if same:
            if INVERSE[how] == how:  # the same pair either way round
                i, j = np.minimum(i, j), np.maximum(i, j)
            i, j = i[i != j], j[i != j]
        yield i.astype(np.int64) * width + j


def _distinct(numbers) -> np.ndarray:
    """The distinct numbers of a stream, sorted."""
    found = [np.empty(0, np.int64)]
    for some in numbers:
        found.append(some)
        if len(found) > 200:
            found = [np.unique(np.concatenate(found))]
    return np.unique(np.concatenate(found))


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
    subject = isolated(first) & isolated(second)
    free = near | subject | _grey(a["colour"][i]) | _grey(b["colour"][j])
    i, j, near, subject, first, second = (x[free] for x in (i, j, near, subject, first, second))
    fine, coarse = scores(first, second, limits)
    return pd.DataFrame(
        {
            "i": i,
            "j": j,
            "distance": _distance(a, b, i, j, how),
            "orientation": how,
            "score": np.maximum(fine, coarse) * np.where(near, 1, OTHER_COLOUR),
            "road": np.where(coarse > fine, 2, np.where(subject, 1, 0)),
        }
    )


def scored_pairs(
    a: dict,
    b: dict | None = None,
    max_distance: int = MAX_DISTANCE,
    orientations: bool = False,
    limits: Thresholds = THRESHOLDS,
    folder: str | Path | None = None,
    least: float = 0.0,
    look: Callable[[np.ndarray], list[pd.DataFrame]] | None = None,
):
    """DataFrame i, j, distance (bits), orientation, score, road of all candidate pairs, before any
    threshold on the score.

    Score, 0 to 1: correlation of structure, registered; road, what was correlated, as a position in
    ROADS. A pair met in several orientations keeps the best.

    Args:
        a: `signatures` of a set.
        b: of another set; without it pairs within `a`.
        max_distance: bits between the hashes of candidates.
        orientations: also look for quarter turns and mirror images.
        limits: of the closer look, see `rs5m.dedup.registration.Thresholds`.
        folder: where candidates lie until they are looked at, for sets beyond memory.
        least: the lowest score of a pair that is handed back.
        look: `looked` of candidates (m, 2) of this set, elsewhere; None: here.
    """
    same, b = b is None, a if b is None else b
    width, tables = len(b["thumb"]), []
    for how in range(8 if orientations else 1):
        if same and INVERSE[how] < how:  # (i, j) a quarter turn left is (j, i) a quarter turn right
            continue
        join = partial(ondisk.bucket_pairs, folder=folder) if folder else hash_pairs
        numbers = _numbers(candidates(a, b, max_distance, how, join), how, same, width)
        for some in ondisk.distinct(numbers, width, folder) if folder else [_distinct(numbers)]:
            pair = np.stack(np.divmod(some, max(width, 1)), 1)
            tables += look(pair) if look else looked(a, b, pair, how, limits, least)
    table = (
        pd.concat(tables)
        if tables
        else pd.DataFrame({k: np.empty(0, t) for k, t in COLUMNS.items()})
    )
    if same:
        table[["i", "j"]] = np.sort(table[["i", "j"]].to_numpy(), axis=1)
    table = table.sort_values(
        ["i", "j", "score", "orientation"], ascending=[True, True, False, True]
    )
    return table.drop_duplicates(["i", "j"], ignore_index=True).astype(COLUMNS)


def looked(
    a: dict,
    b: dict,
    pair: np.ndarray,
    how: int = 0,
    limits: Thresholds = THRESHOLDS,
    least: float = 0.0,
) -> list[pd.DataFrame]:
    """The rows of `scored_pairs` for candidates (m, 2), in tables.

    Args:
        a, b, limits, least: those of `scored_pairs`.
        pair: positions in a and b.
        how: the orientation of `a`, see `orient`.
    """
    if not len(pair):
        return []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(
            lambda some: _look(a, b, some, how, limits), np.split(pair, range(512, len(pair), 512))
        )
        return [table[table.score >= least] if least else table for table in found]


def groups(
    signatures: dict,
    max_distance: int = MAX_DISTANCE,
    min_score: float = MIN_SCORE,
    orientations=False,
    folder: str | Path | None = None,
):
    """Cluster ids (n,) of near-copies: candidates by hash, accepted by the closer look, joined into
    components.

    Paper: PUB11, duplicates.

    Args:
        signatures: of a set of n pictures.
        max_distance: bits between the hashes of candidates.
        min_score: from which a pair is accepted.
        orientations: also look for quarter turns and mirror images.
        folder: where candidates lie, for signatures beyond memory (`ondisk.room`); the groups are
            the same. Held are then 16 bytes a picture and about 60 an accepted pair.
    """
    pairs = scored_pairs(
        signatures,
        max_distance=max_distance,
        orientations=orientations,
        folder=folder,
        least=min_score if folder else 0.0,
    )
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
