"""Candidates: pairs worth a closer look, by hashes of windows, and flat pictures, whose hash is
noise, by correlation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rs5m.dedup.hamming import hash_pairs
from rs5m.dedup.registration import warp
from rs5m.dedup.structure import bold, coarse, isolated, local, median, paint
from rs5m.dedup.thumbnails import CROPS, HALVES, orient, window_hashes

# grey levels (median deviation): below, the hash is mostly noise and candidates come from
# correlation
FLAT = 3.0
# correlations of fine, coarse structure from which two flat pictures are candidates
FLOOR, COARSE_FLOOR = 0.2, 0.4
LOOKED, MET = 4096, 20_000  # pictures that are looked at, flat ones that are compared at a time


def _centre(x: np.ndarray, scale: float) -> np.ndarray:
    """The central part of thumbnails (n, h, h), `scale` of the side, at full size."""
    return warp(x, np.tile(np.float32([scale, (1 - scale) / 2] * 2), (len(x), 1)))[0]


def _flat(x: np.ndarray) -> list[np.ndarray]:
    """Positions of low-contrast pictures, MET at a time; the median ignores a text on them."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(x), LOOKED):
        part = x[start : start + LOOKED].astype(np.float32)
        low = median(np.abs(part - median(part)))[:, 0, 0] < FLAT
        found.append(start + np.flatnonzero(low & ~isolated(part)))
    every = np.concatenate(found)
    return [every[s : s + MET] for s in range(0, len(every), MET)]


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
    left = _flat(a)
    right = left if a is b else _flat(b)
    for fa in left:
        for fb in right:
            for i, j in _alike(a[fa].astype(np.float32), b[fb].astype(np.float32), fa is fb):
                yield fa[i], fb[j]


def _alike(a: np.ndarray, b: np.ndarray, same: bool):
    """As `_flat_pairs`, of thumbnails that are flat."""
    whole, blocks = _structure(a), _blocks(a)
    views = [(blocks, blocks if same else _blocks(b), COARSE_FLOOR)]
    views += [(whole, whole if same else _structure(b), FLOOR)]
    views += [(whole, _structure(_centre(b, scale)), FLOOR) for scale in (0.95, 0.9)]
    for left, right, floor in views:
        for s in range(0, len(left), 2000):
            i, j = np.nonzero(left[s : s + 2000] @ right.T > floor)
            yield i + s, j


def candidates(a: dict, b: dict, max_distance: int, how: int, join: Callable = hash_pairs):
    """Edges (i, j) worth a closer look between `a` in one orientation and `b`, in pieces.

    Args:
        a, b: `signatures`; `a is b` for pairs within one set.
        max_distance: bits between two hashes.
        how: the orientation of `a`, see `orient`; 0 is upright.
        join: finds near hashes as `hash_pairs` does.
    """
    thumb = b["thumb"]
    turned = thumb if a is b and how == 0 else orient(a["thumb"], how)
    hashes = a["hash"] if how == 0 else window_hashes(turned.astype(np.float32))
    columns = [(0, k) for k in range(len(CROPS))] + [
        (k, k) for k in range(len(CROPS), len(CROPS + HALVES))
    ]
    columns += [] if a is b else [(k, 0) for k in range(1, len(CROPS))]
    for k, m in columns:
        left = np.ascontiguousarray(hashes[:, k])
        right = left if a is b and how == 0 and k == m else np.ascontiguousarray(b["hash"][:, m])
        yield from join(left, right, max_distance)
    yield from _flat_pairs(turned, thumb)
