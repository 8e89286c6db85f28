"""Duplicates: exact bytes, perceptual hashes with an exact banded search, and a closer look at every candidate pair.

A hash alone cannot separate copies from look-alikes (crops and captions move 16 of 64 bits, lakes agree by chance), so
hashes only propose. A candidate is then registered: one picture is shifted and scaled onto the other, and their fine
structure is correlated. Clusters are the connected components of the accepted pairs.

* paper, PUB11: duplicates removed after the download, the largest copy kept
* not in the paper: crops, captions and the eight orientations; test images inside a training set
* [NOT IMPLEMENTED] copies that keep less than about 85 % of the picture, and grey copies of colour pictures

Cluster ids are the smallest position in the cluster, so `ids[i] == i` marks its first member. Chapter: dedup.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import uniform_filter

from rs5m.hamming import components, hash_pairs, merge
from rs5m.registration import look, median, warp

SIDE = 32  # side of the grey thumbnail, as in the usual DCT hash
MAX_DISTANCE, MIN_SCORE = 12, 0.75  # read off the chapter's curves, on other images than the reported ones
FLAT = 2.0  # grey levels (median deviation): below, the hash is mostly noise and candidates come from correlation
FLOOR = 0.2  # correlation above which two flat pictures get the closer look
LUMA = np.float32([0.299, 0.587, 0.114])
_C, _S = 0.05, 0.5
# Windows (y0, y1, x0, x1) that are hashed: whole, two centre and four corner crops; then four halves, since a caption
# rarely touches all of them. The set maps onto itself under the eight orientations.
CROPS = [(0, 1, 0, 1), (0.025, 0.975, 0.025, 0.975), (_C, 1 - _C, _C, 1 - _C)] + [
    (y, y + 1 - _C, x, x + 1 - _C) for y in (0, _C) for x in (0, _C)
]
HALVES = [(0, _S, 0, 1), (_S, 1, 0, 1), (0, 1, 0, _S), (0, 1, _S, 1)]
INVERSE = np.array([0, 3, 2, 1, 4, 5, 6, 7])  # of the orientations in `orient`


# ---------------------------------------------------------------- clusters


def exact(blobs) -> np.ndarray:
    """Cluster ids (n,) of equal `blobs` (bytes; or digests as bytes or str), equal meaning the same SHA-256.

    Chapter: dedup.
    """
    keys = [hashlib.sha256(b).digest() if isinstance(b, bytes | bytearray | memoryview) else b for b in blobs]
    first: dict = {}
    return np.array([first.setdefault(k, i) for i, k in enumerate(keys)], np.int64)


def keep_largest(groups, pixels, row, size=None) -> np.ndarray:
    """Bool (n,): in each group the copy with most `pixels`, then most bytes (`size`), then the smallest `row`.

    Paper: PUB11, duplicates. Chapter: dedup.
    """
    groups, pixels, row = (np.asarray(x) for x in (groups, pixels, row))
    size = np.zeros(len(row)) if size is None else np.asarray(size)
    order = np.lexsort((row, -size.astype(np.float64), -pixels.astype(np.float64), groups))
    keep = np.zeros(len(row), bool)
    keep[order[np.unique(groups[order], return_index=True)[1]]] = True
    return keep


# ---------------------------------------------------------------- hashes and their exact search


def _open(image):
    """PIL image of a uint8 array or a file; a JPEG file is decoded at a reduced size: all a thumbnail needs."""
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if isinstance(image, str | Path):
        with Image.open(image) as file:
            file.draft("RGB", (4 * SIDE, 4 * SIDE))
            file.load()
            return file
    return image


def thumbnail(image) -> tuple[np.ndarray, np.ndarray]:
    """Grey thumbnail float16 (32, 32), mean and median colour (2, 3) of a PIL image, uint8 array or file name."""
    image = _open(image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    image = image.reduce(min(image.size) // 128) if min(image.size) >= 256 else image
    smooth = Image.Resampling.BOX if min(image.size) >= 2 * SIDE else Image.Resampling.BILINEAR
    small = np.asarray(image.resize((2 * SIDE, 2 * SIDE), smooth), np.float32)
    grey = small @ LUMA  # not rounded: seas differ by half a level
    grey = (grey[::2, ::2] + grey[1::2, ::2] + grey[::2, 1::2] + grey[1::2, 1::2]) / 4
    pixels = small.reshape(-1, 3)
    mean, median = np.full(len(pixels), 1 / len(pixels), np.float32) @ pixels, np.sort(pixels[::4].T)[:, SIDE**2 // 2]
    colour = np.stack([mean, median])  # a text moves the mean, a crop the median
    return grey.astype(np.float16), colour


def _thumbnails(images) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails (n, 32, 32) and colours (n, 2, 3), on all cores; an iterator is read a few images ahead only."""
    images, found, cores = iter(images), [], os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        while batch := list(islice(images, 64 * cores)):
            parts = [batch[k : k + 64] for k in range(0, len(batch), 64)]  # few large tasks: threads cost time too
            found += chain.from_iterable(pool.map(lambda part: [thumbnail(i) for i in part], parts))
    thumb = np.array([t for t, _ in found], np.float16).reshape(-1, SIDE, SIDE)
    return thumb, np.array([c for _, c in found], np.float32).reshape(-1, 2, 3)


def _cosines(lo: float, hi: float, count: int) -> np.ndarray:
    """(count, SIDE): cosines over the window [lo, hi] of the side, integrated over each pixel."""
    edge = np.clip(np.arange(SIDE + 1) / SIDE, lo, hi) - lo
    f = np.arange(1, count)[:, None] * np.pi / (hi - lo)
    return np.diff(np.vstack([edge[None], np.sin(f * edge) / f]), axis=1).astype(np.float32)


def _hashes(thumb: np.ndarray, windows, side: int = 8) -> np.ndarray:
    """uint64 (n, windows, side**2 / 64): signs of the low DCT frequencies of each window; the mean's bit is 0."""
    thumb, out = thumb.astype(np.float32), []
    for y0, y1, x0, x1 in windows:
        c = _cosines(y0, y1, side) @ thumb @ _cosines(x0, x1, side).T
        bits = c.reshape(len(c), side * side) > 1e-4  # not 0: a constant picture hashes to 0, whatever the rounding
        bits[:, 0] = False
        out.append(np.packbits(bits, axis=1).view(">u8").astype(np.uint64))
    return np.stack(out, 1)


def image_hash(images, bits: int = 64) -> np.ndarray:
    """Perceptual hash uint64 (n,) for 64 bits, (n, 4) for 256: signs of the lowest DCT frequencies, mean left out.

    `images`: PIL images, uint8 arrays or file names. ValueError for other `bits`. Chapter: dedup.
    """
    if bits not in (64, 256):
        raise ValueError(f"bits is {bits}: choose 64 or 256.")
    hashes = _hashes(_thumbnails(images)[0], CROPS[:1], int(bits**0.5))[:, 0]
    return hashes[:, 0] if bits == 64 else hashes


def near_duplicates(hashes, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Cluster ids (n,): components of the graph that joins hashes (uint64 (n,)) within `max_distance` bits.

    Equal to comparing all pairs. Equal hashes are merged first, so a million equal ones cost one. ValueError for
    another shape or type. Chapter: dedup.
    """
    hashes = np.asarray(hashes)
    if hashes.ndim != 1 or hashes.dtype != np.uint64:
        raise ValueError(f"hashes are {hashes.dtype} {hashes.shape}: give uint64 of shape (n,), as image_hash returns.")
    unique, first, where = np.unique(hashes, return_index=True, return_inverse=True)
    ids = merge(len(unique), hash_pairs(unique, unique, max_distance) if max_distance > 0 else [])
    smallest = np.full(len(unique), len(hashes))
    np.minimum.at(smallest, ids, first)
    return smallest[ids][where]


# ---------------------------------------------------------------- signatures and candidates


def signatures(images) -> dict:
    """Compact signatures of images: thumb float16 (n, 32, 32), colour float32 (n, 2, 3), hash uint64 (n, 11).

    `images`: iterable of PIL images, uint8 arrays or file names; about 2.2 kB an image is kept. Chapter: dedup.
    """
    thumb, colour = _thumbnails(images)
    return {"thumb": thumb, "colour": colour, "hash": _hashes(thumb, CROPS + HALVES)[..., 0]}


def signature(image) -> dict:
    """`signatures` of one image, without the first axis. Chapter: dedup."""
    return {k: v[0] for k, v in signatures([image]).items()}


def orient(thumb: np.ndarray, how: int) -> np.ndarray:
    """One of the eight orientations of (n, h, w): `how` % 4 quarter turns, mirrored first if `how` >= 4."""
    return np.rot90(thumb[:, :, ::-1] if how >= 4 else thumb, how % 4, axes=(1, 2))


def _centre(x: np.ndarray, scale: float) -> np.ndarray:
    """The central part of thumbnails (n, h, h), `scale` of the side, at full size."""
    return warp(x, np.tile(np.float32([scale, (1 - scale) / 2] * 2), (len(x), 1)))[0]


def _flat(x: np.ndarray) -> np.ndarray:
    """Positions of low-contrast pictures; the median ignores a text on them."""
    return np.flatnonzero(median(np.abs(x - median(x)))[:, 0, 0] < FLAT)


def _structure(x: np.ndarray) -> np.ndarray:
    """Unit vectors (n, SIDE**2) of clipped, smoothed fine structure."""
    x = x - uniform_filter(x, (0, 9, 9))
    cap = 4 * median(np.abs(x))  # an overlaid text must not outweigh the picture
    x = uniform_filter(np.clip(x, -cap, cap), (0, 3, 3)).reshape(len(x), -1)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)


def _flat_pairs(a: np.ndarray, b: np.ndarray):
    """Pairs of low-contrast thumbnails whose fine structure correlates; compares all, as few pictures are flat."""
    fa, fb = _flat(a) if len(a) else [], _flat(b) if len(b) else []
    if not len(fa) or not len(fb):
        return
    whole = _structure(a[fa])
    for scale in (1.0, 0.95, 0.9):
        other = _structure(_centre(b[fb], scale))
        for s in range(0, len(whole), 2000):
            i, j = np.nonzero(whole[s : s + 2000] @ other.T > FLOOR)
            yield fa[i + s], fb[j]


def _candidates(a: dict, b: dict, max_distance: int, how: int):
    """Edges (i, j) worth a closer look between `a` in orientation `how` and `b`."""
    turned = orient(a["thumb"].astype(np.float32), how)
    hashes = a["hash"] if how == 0 else _hashes(turned, CROPS + HALVES)[..., 0]
    columns = [(0, k) for k in range(len(CROPS))] + [(k, k) for k in range(len(CROPS), len(CROPS + HALVES))]
    columns += [] if a is b else [(k, 0) for k in range(1, len(CROPS))]
    for k, m in columns:
        left = np.ascontiguousarray(hashes[:, k])
        right = left if a is b and how == 0 and k == m else np.ascontiguousarray(b["hash"][:, m])
        yield from hash_pairs(left, right, max_distance)
    yield from _flat_pairs(turned, b["thumb"].astype(np.float32))


def _same_colour(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether mean or median colours (m, 2, 3) agree up to one brightness factor, within 8 % or 2 levels."""
    ratio = ((b + 1) / (a + 1)).mean(2, keepdims=True)
    return (np.abs(b - ratio * a) < np.maximum(0.08 * ratio * a, 2)).all(2).any(1)


# ---------------------------------------------------------------- pairs, groups, leaks


def _unique_pairs(chunks, how: int, same: bool, width: int) -> np.ndarray:
    """Distinct (i, j) of a stream of edges; within one set without i == j and, where order is free, with i < j."""
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
    x = a["hash"][i] if how == 0 else _hashes(orient(a["thumb"][i], how), CROPS + HALVES)[..., 0]
    y, n = b["hash"][j], len(CROPS)
    return np.minimum.reduce(
        [
            np.bitwise_count(x[:, :1] ^ y[:, :n]).min(1, initial=64),
            np.bitwise_count(x[:, :n] ^ y[:, :1]).min(1, initial=64),
            np.bitwise_count(x[:, n:] ^ y[:, n:]).min(1, initial=64),
        ]
    )


def scored_pairs(a: dict, b: dict | None = None, max_distance: int = MAX_DISTANCE, orientations: bool = False):
    """DataFrame i, j, distance (bits), orientation, score of all candidate pairs, before any threshold on the score.

    `a`, `b`: `signatures`; without `b` pairs within `a`. Score, 0 to 1: correlation of fine structure, registered.
    A pair met in several orientations keeps the best. Chapter: dedup.
    """
    same, b = b is None, a if b is None else b
    tables = []
    for how in range(8 if orientations else 1):
        if same and INVERSE[how] < how:  # (i, j) a quarter turn left is (j, i) a quarter turn right
            continue
        pair = _unique_pairs(_candidates(a, b, max_distance, how), how, same, len(b["thumb"]))
        for s in range(0, len(pair), 2048):
            i, j = pair[s : s + 2048].T
            near = _same_colour(a["colour"][i], b["colour"][j])
            i, j = i[near], j[near]
            score = look(orient(a["thumb"][i], how).astype(np.float32), b["thumb"][j].astype(np.float32))
            row = {"i": i, "j": j, "distance": _distance(a, b, i, j, how), "orientation": how, "score": score}
            tables.append(pd.DataFrame(row))
    columns = {"i": np.int64, "j": np.int64, "distance": np.int64, "orientation": np.int64, "score": np.float64}
    table = pd.concat(tables) if tables else pd.DataFrame({k: np.empty(0, t) for k, t in columns.items()})
    if same:
        table[["i", "j"]] = np.sort(table[["i", "j"]].to_numpy(), axis=1)
    table = table.sort_values(["i", "j", "score", "orientation"], ascending=[True, True, False, True])
    return table.drop_duplicates(["i", "j"], ignore_index=True).astype(columns)


def groups_of(pairs: pd.DataFrame, n: int, min_score: float = MIN_SCORE) -> np.ndarray:
    """Cluster ids (n,) of `scored_pairs` within one set, joined where the score reaches `min_score`. Chapter: dedup."""
    pairs = pairs[pairs.score >= min_score]
    return components(n, pairs.i.to_numpy(), pairs.j.to_numpy())


def groups(signatures: dict, max_distance: int = MAX_DISTANCE, min_score: float = MIN_SCORE, orientations=False):
    """Cluster ids (n,) of near-copies: candidates by hash, accepted by the closer look, joined into components.

    Paper: PUB11, duplicates. Chapter: dedup.
    """
    pairs = scored_pairs(signatures, max_distance=max_distance, orientations=orientations)
    return groups_of(pairs, len(signatures["thumb"]), min_score)


def leaks(train, test, orientations: bool = True, max_distance: int = MAX_DISTANCE, min_score: float = MIN_SCORE):
    """DataFrame test, train, distance, orientation, score: test images that the training set holds a copy of.

    `train`, `test`: `signatures`, or images to make them from. Sorted by test image, best first. Chapter: dedup.
    """
    test, train = (x if isinstance(x, dict) else signatures(x) for x in (test, train))
    pairs = scored_pairs(test, train, max_distance, orientations)
    pairs = pairs[pairs.score >= min_score].sort_values(["i", "score", "j"], ascending=[True, False, True])
    pairs = pairs.rename(columns={"i": "test", "j": "train"})[["test", "train", "distance", "orientation", "score"]]
    return pairs.reset_index(drop=True)


def threshold_curve(value, copy, planted: int, thresholds, larger: bool = False) -> pd.DataFrame:
    """DataFrame threshold, pairs, recall, precision of accepting pairs by `value` (a distance; a score with `larger`).

    `copy`: bool per pair, the truth; `planted`: how many copies exist, found as a pair or not. Precision of nothing
    is 1. Chapter: dedup.
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
