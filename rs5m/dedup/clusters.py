"""From pairs to clusters: connected components, less what one weak link alone holds together; and
how a cluster came to be.

Cluster ids are the smallest position in the cluster, so `ids[i] == i` marks its first member.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order

from rs5m.dedup.hamming import components, hash_pairs, merge
from rs5m.dedup.ondisk import bucket_pairs

# read off the chapter's curves, on other images than the reported ones
MAX_DISTANCE, MIN_SCORE = 12, 0.75
WEAK = 0.9  # a score below which one pair does not hold two groups together
ROADS = ("fine structure", "fine structure of the subject", "coarse structure")


def exact(blobs) -> np.ndarray:
    """Cluster ids (n,) of equal `blobs` (bytes; or digests as bytes or str), equal meaning the same
    SHA-256.
    """
    keys = [
        hashlib.sha256(b).digest() if isinstance(b, bytes | bytearray | memoryview) else b
        for b in blobs
    ]
    first: dict = {}
    return np.array([first.setdefault(k, i) for i, k in enumerate(keys)], np.int64)


def keep_largest(groups, pixels, row, size=None) -> np.ndarray:
    """Bool (n,): in each group the copy with most pixels, then most bytes, then the smallest row.

    Paper: PUB11, duplicates.

    Args:
        groups: cluster ids (n,).
        pixels: of each picture (n,).
        row: where each was listed (n,).
        size: bytes of each file (n,); None: not compared.
    """
    groups, pixels, row = (np.asarray(x) for x in (groups, pixels, row))
    size = np.zeros(len(row)) if size is None else np.asarray(size)
    order = np.lexsort((row, -size.astype(np.float64), -pixels.astype(np.float64), groups))
    keep = np.zeros(len(row), bool)
    keep[order[np.unique(groups[order], return_index=True)[1]]] = True
    return keep


def near_duplicates(
    hashes, max_distance: int = MAX_DISTANCE, folder: str | Path | None = None
) -> np.ndarray:
    """Cluster ids (n,): components of the graph that joins hashes (uint64 (n,)) within
    `max_distance` bits.

    Equal to comparing all pairs. Equal hashes are merged first, so a million equal ones cost one.
    ValueError for another shape or type.

    folder: where buckets lie, so that tens of millions need about 60 bytes each.
    """
    hashes = np.asarray(hashes)
    if hashes.ndim != 1 or hashes.dtype != np.uint64:
        raise ValueError(
            f"hashes are {hashes.dtype} {hashes.shape}: give uint64 of shape (n,), as image_hash "
            "returns."
        )
    unique, first, where = np.unique(hashes, return_index=True, return_inverse=True)
    join = partial(bucket_pairs, folder=folder) if folder else hash_pairs
    ids = merge(len(unique), join(unique, unique, max_distance) if max_distance > 0 else [])
    smallest = np.full(len(unique), len(hashes))
    np.minimum.at(smallest, ids, first)
    return smallest[ids][where]


def sides(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """For each of the distinct edges (i, j) on n nodes: how many nodes the smaller of the two parts
    holds into which the component falls without it; 0 where other edges hold it together.
    """
    ids = components(n, i, j)
    first = np.unique(ids)
    ends = np.r_[i, np.full(len(first), n)], np.r_[j, first]  # one more node joins all components
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(n + 1, n + 1))
    order, parent = breadth_first_order(graph.tocsr(), n, directed=False)
    tree = (parent[j] == i) | (parent[i] == j)
    # An edge outside the tree closes a circle: its number stands at both ends, so that it cancels
    # in the sum (by xor) over every branch but those that it leads out of.
    number = np.random.default_rng(0).integers(1, 2**63, len(i))
    leads, size = np.zeros(n + 1, np.int64), np.ones(n + 1, np.int64)
    for end in (i[~tree], j[~tree]):
        np.bitwise_xor.at(leads, end, number[~tree])
    for node in order[:0:-1].tolist():  # from the leaves to the root
        leads[parent[node]] ^= leads[node]
        size[parent[node]] += size[node]
    child = np.where(parent[j] == i, j, i)
    smaller = np.minimum(size[child], size[ids[child]] - size[child])
    return np.where(tree & (leads[child] == 0), smaller, 0)


def _joined(pairs: pd.DataFrame, min_score: float) -> tuple[pd.DataFrame, np.ndarray]:
    """The accepted pairs, and which of them are cut, see `groups_of`."""
    pairs = pairs[pairs.score >= min_score]
    ids, place = np.unique(pairs[["i", "j"]], return_inverse=True)
    place = place.reshape(len(pairs), 2)
    weak = (pairs.score < WEAK).to_numpy()
    return pairs, weak & (sides(len(ids), *place.T) > 1) if weak.any() else weak


def groups_of(pairs: pd.DataFrame, n: int, min_score: float = MIN_SCORE) -> np.ndarray:
    """Cluster ids (n,) of `scored_pairs` within one set, joined where the score reaches
    `min_score`.

    Weak links are cut: where two groups of two pictures or more hang together by one pair alone,
    and its score is below WEAK, they stay apart. Copies in both groups would have met more often.
    """
    pairs, cut = _joined(pairs, min_score)
    pairs = pairs[~cut]
    return components(n, pairs.i.to_numpy(), pairs.j.to_numpy())


def links(
    pairs: pd.DataFrame, n: int, names: Sequence | None = None, min_score: float = MIN_SCORE
) -> pd.DataFrame:
    """What joined the clusters, to be printed: every accepted pair of `scored_pairs` within one set
    of n pictures, DataFrame first, second, score, road, distance, proposed, orientation, outcome.

    Args:
        pairs: `scored_pairs` of the set.
        n: pictures in the set.
        names: of the pictures; without them their positions stand in the table.
        min_score: from which a pair is accepted.
    """
    accepted, cut = _joined(pairs, min_score)
    named = np.arange(n) if names is None else np.asarray(names)
    return pd.DataFrame(
        {
            "first": named[accepted.i],
            "second": named[accepted.j],
            "score": accepted.score.to_numpy(),
            "road": np.array(ROADS, object)[accepted.road],
            "distance": accepted.distance.to_numpy(),
            "proposed": np.where(accepted.distance > MAX_DISTANCE, "correlation", "hash"),
            "orientation": accepted.orientation.to_numpy(),
            "outcome": np.where(cut, "cut: the only link, and weak", "joined"),
        }
    )


def explain(
    pairs: pd.DataFrame,
    member: int,
    n: int,
    names: Sequence | None = None,
    min_score: float = MIN_SCORE,
) -> pd.DataFrame:
    """How the cluster of one picture came to be: its `links`, the surest pair first.

    Pairs of other clusters are left out; a pair that was cut stands in the explanation of both.
    ValueError for a member that is not one of n pictures.

    Args:
        pairs: `scored_pairs` within one set.
        member: position of a picture.
        n: number of pictures.
        names: of the pictures; without them their positions stand in the table.
        min_score: as in `groups_of`.
    """
    if not 0 <= member < n:
        raise ValueError(f"member is {member}: give the position of one of {n} pictures.")
    accepted, ids = pairs[pairs.score >= min_score], groups_of(pairs, n, min_score)
    own = (ids[accepted.i] == ids[member]) | (ids[accepted.j] == ids[member])
    table = links(pairs, n, names, min_score)[own]
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def threshold_curve(value, copy, planted: int, thresholds, larger: bool = False) -> pd.DataFrame:
    """DataFrame threshold, pairs, recall, precision of accepting pairs by a value. Precision of
    nothing is 1. ValueError where values and truths are not equally many.

    Args:
        value: of each pair, a distance, or a score with `larger`.
        copy: bool per pair, the truth.
        planted: how many copies exist, found as a pair or not.
        thresholds: to try, in the value's unit.
        larger: accept values from the threshold up, not up to it.
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
