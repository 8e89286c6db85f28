"""The closer look of `dedup`: register one thumbnail onto another, then correlate their fine
structure.

A copy is a brightened, resized or cropped picture, so gain, offset, scale and shift are fitted
(Gauss-Newton, robust against an overlaid text), with "no motion" as prior since a flat picture
cannot tell. What counts is the fine structure at equal local contrast: runways and lakes share bold
edges with their like, copies share everything. A weak correlation counts only if it stands out from
those at wrong shifts; where JPEG has erased the fine structure of one of two flat pictures, coarse
structure stands in. All functions take batches: pictures (m, n, n) float32, poses (m, 4: scale y,
shift y, scale x, shift x).

cv2.findTransformECC was tried in place of the fit: it takes half the time and finds plain copies as
well, but it correlates the whole picture, so that strangers under one caption look alike and a copy
with a caption does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rs5m.dedup.structure import bold, chance, coarse, isolated, local, on_light, paint

EDGE = 0.2  # share of the contrast that a residual may have: edges of a cut-out never fit quite
HOPE = 0.3  # a score that a better registration may still raise
SURE = 0.95  # a score that needs no better registration
IDENTITY = np.float32([1, 0, 1, 0])  # the pose of no motion: scale y, shift y, scale x, shift x


@dataclass(frozen=True)
class Thresholds:
    """What the score asks of a pair; grey levels are of 0 to 255.

    Args:
        left: correlation that re-encoding leaves of a picture without contrast.
        chance: standard deviations of the correlations at wrong shifts that a weak one exceeds.
        coarse_chance: the same for coarse structure.
        faint: grey levels; a picture that deviates less from its mean holds rounding errors.
        quiet: grey levels of deviation below which coarse structure counts.
        level: grey levels that the means of two such pictures differ at most.
        erased: grey levels of fine structure; a picture with less has lost it.
        coarse_left: correlation of coarse structure that JPEG leaves.
    """

    left: float = 0.2
    chance: float = 5
    coarse_chance: float = 3.5
    faint: float = 0.25
    quiet: float = 4.0
    level: float = 1.0
    erased: float = 0.1
    coarse_left: float = 0.53


THRESHOLDS = Thresholds()


def _weights(scale: np.ndarray, shift: np.ndarray, n: int):
    """Linear interpolation of n pixels at scale * x + shift (in sides): (m, n, n), and which are
    inside (m, n).
    """
    u = (np.arange(n) + 0.5) * scale[:, None] + shift[:, None] * n - 0.5
    inside = (u > -0.51) & (u < n - 0.49)
    u = np.clip(u, 0, n - 1)[..., None]
    return np.maximum(0, 1 - np.abs(u - np.arange(n, dtype=np.float32))).astype(np.float32), inside


def warp(p: np.ndarray, pose: np.ndarray):
    """Pictures (m, n, n) seen through `pose` (m, 4), and the mask of known pixels."""
    rows, inside_y = _weights(pose[:, 0], pose[:, 1], p.shape[1])
    columns, inside_x = _weights(pose[:, 2], pose[:, 3], p.shape[1])
    return rows @ p @ columns.transpose(0, 2, 1), (inside_y[:, :, None] & inside_x[:, None]).astype(
        np.float32
    )


def _regress(v, q, w):
    """Weighted fit q = gain v + offset: correlation (m,), gain (m,), residual (m, n, n)."""
    total = w.sum((1, 2)) + 1e-9
    dv, dq = (x - ((w * x).sum((1, 2)) / total)[:, None, None] for x in (v, q))
    vv, qq, vq = ((w * x * y).sum((1, 2)) for x, y in ((dv, dv), (dq, dq), (dv, dq)))
    gain = vq / (vv + 1e-9)
    return vq / np.sqrt(vv * qq + 1e-9), gain, dq - gain[:, None, None] * dv


def _spread(x, w):
    """Variance (m,) of pictures under weights (m, n, n)."""
    total = w.sum((1, 2)) + 1e-9
    return (w * (x - ((w * x).sum((1, 2)) / total)[:, None, None]) ** 2).sum((1, 2)) / total


def _robust(v, q, inside, rounds: int):
    """Weights (m, n, n) that fade out pixels which do not follow the fit, such as a text."""
    w, row, middle = inside, np.arange(len(v)), (inside.sum((1, 2)) / 2).astype(int)
    floor = 0.25 + EDGE * np.sqrt(_spread(q, inside))
    for _ in range(rounds):
        r = _regress(v, q, w)[2]
        ordered = np.sort(np.where(inside > 0, np.abs(r), np.inf).reshape(len(r), -1), 1)
        spread = np.maximum(1.4826 * ordered[row, middle] + 0.25, floor)[:, None, None]
        w = (inside / (1 + (r / (3 * spread)) ** 2) ** 2).astype(np.float32)
    return w


def _step(p, q, pose):
    """One Gauss-Newton step of gain, offset and pose, with the identity as prior so that flat
    pictures stay put.
    """
    n, (v, inside) = p.shape[1], warp(p, pose)
    w = _robust(v, q, inside, 2)
    _, gain, r = _regress(v, q, w)
    gain = np.maximum(gain, 0.1)
    gy, gx = (
        g * (n / s)[:, None, None]
        for g, s in zip(np.gradient(v, axis=(1, 2)), pose.T[::2], strict=True)
    )
    x = (np.arange(n, dtype=np.float32) + 0.5) / n - 0.5
    basis = (
        np.stack([v, np.ones_like(v), gy * x[:, None], gy, gx * x, gx], 1)
        .reshape(len(p), 6, -1)
        .astype(np.float32)
    )
    normal = (basis * w.reshape(len(p), 1, -1)) @ basis.transpose(0, 2, 1)
    right = ((basis * w.reshape(len(p), 1, -1)) @ q.reshape(len(p), -1, 1))[:, :, 0]
    prior = ((w * r * r).sum((1, 2)) / (w.sum((1, 2)) + 1e-9) + 0.1) / (0.05 * gain) ** 2
    diagonal = (
        np.float32([0, 0, 1, 1, 1, 1]) * prior[:, None] + 1e-4 * np.einsum("mii->mi", normal) + 1e-3
    )
    centred = pose + np.stack([0 * prior, (pose[:, 0] - 1) / 2, 0 * prior, (pose[:, 2] - 1) / 2], 1)
    right[:, 2:] -= (prior * gain)[:, None] * (centred - IDENTITY)
    c = np.linalg.solve(normal + np.eye(6, dtype=np.float32) * diagonal[:, None], right[..., None])[
        ..., 0
    ]
    scale = np.where(np.abs(c[:, :1]) < 0.05, 0.05, c[:, :1])
    centred = np.clip(
        centred + np.clip(c[:, 2:] / scale, -0.06, 0.06), [0.85, -0.12] * 2, [1.18, 0.12] * 2
    )
    back = np.stack([0 * prior, (centred[:, 0] - 1) / 2, 0 * prior, (centred[:, 2] - 1) / 2], 1)
    return (centred - back).astype(np.float32)


def _plausible(pose: np.ndarray, loose: np.ndarray) -> np.ndarray:
    """Whether a pose is that of a copy: same shape, and one picture lies inside the other (a slid
    window does not).

    `loose` (m,): cut out of a ground, where the box is known to a pixel or two only.
    """
    slack = np.where(loose, 0.08, 0.03)
    ok = np.abs(np.log(pose[:, 0] / pose[:, 2])) < np.where(loose, 0.16, 0.06)
    for scale, shift in ((pose[:, 0], pose[:, 1]), (pose[:, 2], pose[:, 3])):
        end = scale + shift
        ok &= ((shift > -slack) & (end < 1 + slack)) | ((shift < slack) & (end > 1 - slack))
    return ok


def _score(p, q, pose, limits: Thresholds):
    """Correlation of fine structure at `pose`, relative to what re-encoding leaves of it: 0 to 1, 0
    if implausible.

    Twice: as it is, to tell what a better pose is worth a try for, and 0 where it is no better than
    chance.
    """
    alone, loose = isolated(p) | isolated(q), (on_light(p) & on_light(q))[:, 0, 0]
    v, inside = warp(p, pose)
    w = _robust(v, q, inside, 3)
    ignored = ((w < 0.25) & (inside > 0)).sum((1, 2)) / inside.sum((1, 2))
    (fv, cv), (fq, cq) = local(v, inside), local(q, inside)
    contrast = np.minimum(cv, cq) ** 2
    plain = inside * ~(bold(v) | bold(q))
    found = np.minimum(*(_regress(fv, fq, m)[0] for m in (inside, plain)))
    # re-encoding leaves little of a picture without contrast, but all of an outline on plain ground
    kept = limits.left + (1 - limits.left) * contrast / (contrast + 1)
    score = found / np.where(alone, 1, kept)
    score = np.where(_plausible(pose, loose) & (ignored < 0.25), np.clip(score, 0, 1), 0)
    weak = np.flatnonzero((score > HOPE) & (found < 0.5))
    sure = score.copy()
    by_chance = limits.chance * chance(fv[weak], fq[weak], plain[weak])
    sure[weak[found[weak] < by_chance]] = 0
    return score, sure


def _either_way(p, q, pose, limits: Thresholds):
    """`_score`; a score of which a copy may come is the mean with that of the pose turned round, as
    a look-alike reaches a high one by chance in one of the two.
    """
    hope, sure = _score(p, q, pose, limits)
    some = np.flatnonzero(sure > HOPE)
    if len(some):
        scale, shift = pose[some, ::2], pose[some, 1::2]
        back = np.stack([1 / scale, -shift / scale], 2).reshape(len(some), 4)
        sure[some] = (sure[some] + _score(q[some], p[some], back, limits)[1]) / 2
    return hope, sure


def _erased_score(p, q, limits: Thresholds = THRESHOLDS) -> np.ndarray:
    """Score (m,) by coarse structure, without motion, where one picture has lost its fine
    structure; 0 elsewhere.
    """
    score = np.zeros(len(p))
    flat = np.maximum(p.std((1, 2)), q.std((1, 2))) < limits.quiet
    flat = np.flatnonzero(flat & (np.abs(p.mean((1, 2)) - q.mean((1, 2))) < limits.level))
    a, b, whole = p[flat], q[flat], np.ones_like(p[flat])
    lost = [local(x, whole)[1] < limits.erased for x in (a, b)]
    erased = lost[0] != lost[1]  # two erased ones agree by chance
    a, b, whole = (x[erased] for x in (a, b, whole))
    a, b = (coarse(x).reshape(x.shape) for x in (a, b))
    found = (a * b).sum((1, 2))
    real = found > limits.coarse_chance * chance(a, b, whole, 6)
    score[flat[erased]] = np.where(real, np.clip(found / limits.coarse_left, 0, 1), 0)
    return score


def _ordered(p: np.ndarray, q: np.ndarray):
    """The pairs, each with its lighter picture first: whichever way round they came, a score is the
    same. The sums are exact for the halves of `signatures`, so turned pictures keep their order.
    """
    sums = (
        (x.sum((1, 2), dtype=np.float64), (x * x).sum((1, 2), dtype=np.float64)) for x in (p, q)
    )
    (p1, p2), (q1, q2) = sums
    swap = ((p1 < q1) | ((p1 == q1) & (p2 < q2)))[:, None, None]
    return np.where(swap, q, p), np.where(swap, p, q)


def scores(p: np.ndarray, q: np.ndarray, limits: Thresholds = THRESHOLDS):
    """Scores (m,), (m,) in [0, 1] of thumbnail pairs (m, 32, 32) by fine structure, registered, and
    by coarse structure; no motion is tried too, for flat pictures.

    The better of two ways: the second picture is moved onto the first only where the first, moved
    onto the second, leaves a doubt. A picture finds its crop less surely than the crop the picture.
    0 where a picture holds no structure, or agrees with the other no better than by chance.
    """
    p, q = _ordered(p, q)
    fine, erased = _one_way(p, q, limits)
    doubt = np.flatnonzero(np.maximum(fine, erased) < SURE)
    fine[doubt] = np.maximum(fine[doubt], _one_way(q[doubt], p[doubt], limits)[0])
    return fine, erased


def _one_way(p: np.ndarray, q: np.ndarray, limits: Thresholds):
    """`scores` of p moved onto q."""
    if not len(p):
        return np.zeros(0), np.zeros(0)
    pose = np.tile(IDENTITY, (len(p), 1))
    plain = paint(p), paint(q)
    some = np.minimum(*(x.std((1, 2)) for x in plain)) >= limits.faint
    hope, fine = _score(p, q, pose, limits)
    alone = isolated(p) | isolated(q)  # what is left of them without bold things is bare ground
    erased = ~alone * _erased_score(*plain, limits)
    half = [x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).mean((2, 4)) for x in (p, q)]
    for (a, b), least in ((half, 0), ((p, q), HOPE)):  # copies have 0.6 after the first round
        rest = np.flatnonzero(some & (hope >= least) & (np.maximum(fine, erased) < SURE))
        if not len(rest):
            break
        for _ in range(3):
            pose[rest] = _step(a[rest], b[rest], pose[rest])
        again = _either_way(p[rest], q[rest], pose[rest], limits)
        hope[rest] = np.maximum(hope[rest], again[0])
        fine[rest] = np.maximum(fine[rest], again[1])
    return np.where(some, fine, 0), np.where(some, erased, 0)


def look(p: np.ndarray, q: np.ndarray, limits: Thresholds = THRESHOLDS) -> np.ndarray:
    """The larger (m,) of the two `scores`."""
    return np.maximum(*scores(p, q, limits))
