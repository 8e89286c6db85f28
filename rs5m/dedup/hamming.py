"""All pairs of 64-bit hashes within a Hamming distance, exactly, and connected components."""

from __future__ import annotations

from itertools import chain, combinations
from math import comb

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Connected components of edges (i, j) on n nodes as the smallest member of each."""
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    return np.unique(label, return_index=True)[1][label]


def merge(n: int, chunks, limit: int = 4_000_000) -> np.ndarray:
    """Components of an edge stream in bounded memory: a full buffer shrinks to at most n edges."""
    ids, held, size = np.arange(n), [], 0
    for pair in chain(chunks, [None]):
        if pair is not None:
            held.append(pair)
            size += len(pair[0])
        if held and (pair is None or size > limit):
            i, j = (np.concatenate(x) for x in zip(*held, strict=True))
            ids = components(n, np.concatenate([i, np.arange(n)]), np.concatenate([j, ids]))
            held, size = [], 0
    return ids


def plan(n: int, m: int, distance: int) -> int:
    """Number of bands (0: compare all) with the least work for n x m hashes; the constants are
    nanoseconds.
    """

    def cost(b):
        width = 64 // b
        probes = b * sum(comb(width, k) for k in range(distance // b + 1))
        return probes * (n * 6 + n * m / 2**width * 25 + 2e4) + b * 8 * 2**width

    best = min(range(3, 17), key=cost)
    return best if cost(best) < n * m * 1.8 else 0


def _all_pairs(a, b, distance):
    step = max(1, 250_000 // max(1, len(b)))  # a piece stays in the cache
    for s in range(0, len(a), step):
        hit = np.flatnonzero(np.bitwise_count(a[s : s + step, None] ^ b[None]) <= distance)
        yield hit // len(b) + s, hit % len(b)


def _expand(i, start, count, limit: int = 2_000_000):
    """Candidates (i repeated, start .. start + count) in pieces of about `limit`."""
    total = np.cumsum(count)
    cuts = (
        np.searchsorted(total, np.arange(limit, total[-1] + limit, limit)) + 1 if len(total) else []
    )
    for s, e in zip(np.r_[0, cuts[:-1]].astype(int), np.minimum(cuts, len(i)), strict=False):
        c = count[s:e]
        offset = np.repeat(start[s:e] - (np.cumsum(c) - c), c)
        yield np.repeat(i[s:e], c), offset + np.arange(len(offset))


def band_pairs(a, b, shift, width, radius, distance):
    """Pairs (i, j) of near hashes whose keys in one band are near, in pieces.

    Args:
        a, b: hashes uint64 (n,) and (m,); with `a is b` each pair comes in one order at least.
        shift, width: the band's lowest bit and its number of bits.
        radius: bits that two keys may differ by.
        distance: bits that two hashes may differ by.
    """
    mask = np.uint64((1 << width) - 1)
    ka, kb = (((x >> np.uint64(shift)) & mask).astype(np.int32) for x in (a, b))
    oa, ob = (
        np.argsort(ka, kind="stable"),
        np.argsort(kb, kind="stable"),
    )  # sorted: neighbours share cache lines
    ka, sa, sb = ka[oa], a[oa], b[ob]
    start = np.r_[0, np.cumsum(np.bincount(kb, minlength=1 << width))].astype(np.int32)
    count = np.diff(start)
    half = a is b
    subset = (
        [np.flatnonzero((ka >> t) & 1 == 0).astype(np.int32) for t in range(width)]
        if half
        else None
    )
    for flips in chain.from_iterable(combinations(range(width), r) for r in range(radius + 1)):
        rows = subset[flips[-1]] if half and flips else None  # one of the two orders is enough
        key = (ka if rows is None else ka[rows]) ^ sum(1 << t for t in flips)
        hit = np.flatnonzero(count[key])
        key, rows = key[hit], hit if rows is None else rows[hit]
        for i, j in _expand(rows, start[key], count[key]):
            near = np.bitwise_count(sa[i] ^ sb[j]) <= distance
            yield oa[i[near]], ob[j[near]]


def hash_pairs(a: np.ndarray, b: np.ndarray, max_distance: int):
    """Yield arrays (i, j) that hold every pair with at most `max_distance` differing bits; pairs
    may come twice.

    `a` (n,), `b` (m,) uint64. Exact: of k bands one differs by at most max_distance // k bits
    (pigeonhole), and all keys that near are probed. With `a is b` each pair comes in one order at
    least.
    """
    bands = plan(len(a), len(b), max_distance)
    if not bands:
        yield from _all_pairs(a, b, max_distance)
        return
    edges = np.linspace(0, 64, bands + 1).astype(int)
    for lo, hi in zip(edges[:-1], edges[1:], strict=True):
        yield from band_pairs(a, b, int(lo), int(hi - lo), max_distance // bands, max_distance)
