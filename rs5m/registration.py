"""The closer look of `dedup`: register one thumbnail onto another, then correlate their fine structure.

A copy is a brightened, resized or cropped picture, so gain, offset, scale and shift are fitted (Gauss-Newton, robust
against an overlaid text), with "no motion" as prior since a flat picture cannot tell. What counts is the fine structure
at equal local contrast: runways and lakes share bold edges with their like, copies share everything. All functions take
batches: pictures (m, n, n) float32, poses (m, 4: scale y, shift y, scale x, shift x). Chapter: dedup.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter

NOISE = 0.5  # grey levels of local contrast that re-encoding drowns
SURE = 0.95  # a score that needs no better registration
IDENTITY = np.float32([1, 0, 1, 0])  # the pose of no motion: scale y, shift y, scale x, shift x


def median(x: np.ndarray) -> np.ndarray:
    """Upper median of each picture (m, 1, 1); a sort is faster here than numpy's partition. Chapter: dedup."""
    return np.sort(x.reshape(len(x), x.shape[1] * x.shape[2]), 1)[:, x.shape[1] * x.shape[2] // 2, None, None]


def _weights(scale: np.ndarray, shift: np.ndarray, n: int):
    """Linear interpolation of n pixels at scale * x + shift (in sides): (m, n, n), and which are inside (m, n)."""
    u = (np.arange(n) + 0.5) * scale[:, None] + shift[:, None] * n - 0.5
    inside = (u > -0.51) & (u < n - 0.49)
    u = np.clip(u, 0, n - 1)[..., None]
    return np.maximum(0, 1 - np.abs(u - np.arange(n, dtype=np.float32))).astype(np.float32), inside


def warp(p: np.ndarray, pose: np.ndarray):
    """Pictures (m, n, n) seen through `pose` (m, 4), and the mask of known pixels. Chapter: dedup."""
    rows, inside_y = _weights(pose[:, 0], pose[:, 1], p.shape[1])
    columns, inside_x = _weights(pose[:, 2], pose[:, 3], p.shape[1])
    return rows @ p @ columns.transpose(0, 2, 1), (inside_y[:, :, None] & inside_x[:, None]).astype(np.float32)


def _regress(v, q, w):
    """Weighted fit q = gain v + offset: correlation (m,), gain (m,), residual (m, n, n)."""
    total = w.sum((1, 2)) + 1e-9
    dv, dq = (x - ((w * x).sum((1, 2)) / total)[:, None, None] for x in (v, q))
    vv, qq, vq = ((w * x * y).sum((1, 2)) for x, y in ((dv, dv), (dq, dq), (dv, dq)))
    gain = vq / (vv + 1e-9)
    return vq / np.sqrt(vv * qq + 1e-9), gain, dq - gain[:, None, None] * dv


def _robust(v, q, inside, rounds: int):
    """Weights (m, n, n) that fade out pixels which do not follow the fit, such as an overlaid text."""
    w, row, middle = inside, np.arange(len(v)), (inside.sum((1, 2)) / 2).astype(int)
    for _ in range(rounds):
        r = _regress(v, q, w)[2]
        spread = 1.4826 * np.sort(np.where(inside > 0, np.abs(r), np.inf).reshape(len(r), -1), 1)[row, middle] + 0.25
        w = (inside / (1 + (r / (3 * spread[:, None, None])) ** 2) ** 2).astype(np.float32)
    return w


def _step(p, q, pose):
    """One Gauss-Newton step of gain, offset and pose, with the identity as prior so that flat pictures stay put."""
    n, (v, inside) = p.shape[1], warp(p, pose)
    w = _robust(v, q, inside, 2)
    _, gain, r = _regress(v, q, w)
    gain = np.maximum(gain, 0.1)
    gy, gx = (g * (n / s)[:, None, None] for g, s in zip(np.gradient(v, axis=(1, 2)), pose.T[::2], strict=True))
    x = (np.arange(n, dtype=np.float32) + 0.5) / n - 0.5
    basis = np.stack([v, np.ones_like(v), gy * x[:, None], gy, gx * x, gx], 1).reshape(len(p), 6, -1).astype(np.float32)
    normal = (basis * w.reshape(len(p), 1, -1)) @ basis.transpose(0, 2, 1)
    right = ((basis * w.reshape(len(p), 1, -1)) @ q.reshape(len(p), -1, 1))[:, :, 0]
    prior = ((w * r * r).sum((1, 2)) / (w.sum((1, 2)) + 1e-9) + 0.1) / (0.05 * gain) ** 2
    diagonal = np.float32([0, 0, 1, 1, 1, 1]) * prior[:, None] + 1e-4 * np.einsum("mii->mi", normal) + 1e-3
    centred = pose + np.stack([0 * prior, (pose[:, 0] - 1) / 2, 0 * prior, (pose[:, 2] - 1) / 2], 1)
    right[:, 2:] -= (prior * gain)[:, None] * (centred - IDENTITY)
    c = np.linalg.solve(normal + np.eye(6, dtype=np.float32) * diagonal[:, None], right[..., None])[..., 0]
    scale = np.where(np.abs(c[:, :1]) < 0.05, 0.05, c[:, :1])
    centred = np.clip(centred + np.clip(c[:, 2:] / scale, -0.06, 0.06), [0.85, -0.12] * 2, [1.18, 0.12] * 2)
    back = np.stack([0 * prior, (centred[:, 0] - 1) / 2, 0 * prior, (centred[:, 2] - 1) / 2], 1)
    return (centred - back).astype(np.float32)


def _plausible(pose: np.ndarray, slack: float = 0.03) -> np.ndarray:
    """Whether a pose is that of a copy: same shape, and one picture lies inside the other (a slid window does not)."""
    ok = np.abs(np.log(pose[:, 0] / pose[:, 2])) < 0.06
    for scale, shift in ((pose[:, 0], pose[:, 1]), (pose[:, 2], pose[:, 3])):
        end = scale + shift
        ok &= ((shift > -slack) & (end < 1 + slack)) | ((shift < slack) & (end > 1 - slack))
    return ok


def _local(x: np.ndarray, inside: np.ndarray):
    """Fine structure at equal local contrast (m, n, n), so that no bold edge outvotes the rest; its size (m,)."""
    share = uniform_filter(inside, (0, 5, 5), mode="constant") + 1e-6
    x = gaussian_filter(x, (0, 0.5, 0.5))
    x = x - uniform_filter(inside * x, (0, 5, 5), mode="constant") / share
    local = np.sqrt(uniform_filter(inside * x * x, (0, 5, 5), mode="constant") / share + NOISE**2)
    return x / local, median(np.abs(x))[:, 0, 0]


def _bold(x: np.ndarray) -> np.ndarray:
    """Pixels far from the picture's common grey and their neighbours: the same text on two lakes makes no copies."""
    far = np.abs(x - median(x))
    return maximum_filter(far > 6 * median(far) + 15, (0, 3, 3))


def _score(p, q, pose) -> np.ndarray:
    """Correlation of fine structure at `pose`, relative to what re-encoding leaves of it: 0 to 1, 0 if implausible."""
    v, inside = warp(p, pose)
    w = _robust(v, q, inside, 3)
    ignored = ((w < 0.25) & (inside > 0)).sum((1, 2)) / inside.sum((1, 2))
    (fv, cv), (fq, cq) = _local(v, inside), _local(q, inside)
    contrast = np.minimum(cv, cq) ** 2
    score = np.minimum(*(_regress(fv, fq, m)[0] for m in (inside, inside * ~(_bold(v) | _bold(q)))))
    score = score / (0.3 + 0.7 * contrast / (contrast + 1))
    return np.where(_plausible(pose) & (ignored < 0.25), np.clip(score, 0, 1), 0)


def look(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Score (m,) in [0, 1] of thumbnail pairs (m, 32, 32), registered; no motion is tried too, for flat pictures.

    Chapter: dedup.
    """
    if not len(p):
        return np.zeros(0)
    score = _score(p, q, np.tile(IDENTITY, (len(p), 1)))
    rest = np.flatnonzero(score < SURE)
    if not len(rest):
        return score
    p, q = p[rest], q[rest]
    half = [x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).mean((2, 4)) for x in (p, q)]
    pose = np.tile(IDENTITY, (len(p), 1))
    for _ in range(3):
        pose = _step(*half, pose)
    score[rest] = np.maximum(score[rest], _score(p, q, pose))
    hope = np.flatnonzero((score[rest] > 0.3) & (score[rest] < SURE))  # copies have 0.6 by now
    if not len(hope):
        return score
    p, q, pose, rest = p[hope], q[hope], pose[hope], rest[hope]
    for _ in range(3):
        pose = _step(p, q, pose)
    score[rest] = np.maximum(score[rest], _score(p, q, pose))
    return score
