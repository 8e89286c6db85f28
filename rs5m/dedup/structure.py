"""What of a thumbnail is compared: its fine and its coarse structure, without bold things such as
texts. All functions take pictures (m, n, n) float32, in grey levels.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter

NOISE = 0.5  # grey levels of local contrast that re-encoding drowns
LIGHT, GROUND = 170, 0.1  # grey level, share of pixels: from here a picture has a light ground
ALONE = 4  # grey levels of deviation: less, and a light picture is snow or cloud, not ground
SUBJECT = 0.12  # share of bold pixels from which they are the subject, not a text on it


def median(x: np.ndarray) -> np.ndarray:
    """Upper median of each picture (m, 1, 1); a sort is faster here than numpy's partition."""
    return np.sort(x.reshape(len(x), x.shape[1] * x.shape[2]), 1)[
        :, x.shape[1] * x.shape[2] // 2, None, None
    ]


def local(x: np.ndarray, inside: np.ndarray):
    """Fine structure at equal local contrast (m, n, n), so that no bold edge outvotes the rest; its
    size (m,).
    """
    share = uniform_filter(inside, (0, 5, 5), mode="constant") + 1e-6
    x = gaussian_filter(x, (0, 0.5, 0.5))
    x = x - uniform_filter(inside * x, (0, 5, 5), mode="constant") / share
    local = np.sqrt(uniform_filter(inside * x * x, (0, 5, 5), mode="constant") / share + NOISE**2)
    return x / local, median(np.abs(x))[:, 0, 0]


def on_light(x: np.ndarray) -> np.ndarray:
    """Whether pictures (m, n, n) hold a plain light ground, (m, 1, 1)."""
    ordered = np.sort(x.reshape(len(x), -1), 1)
    ground = ordered[:, int(0.98 * ordered.shape[1]), None, None]
    plain = (np.abs(x - ground) <= 4).mean((1, 2), keepdims=True)
    return (ground >= LIGHT) & (plain > GROUND)


def isolated(x: np.ndarray) -> np.ndarray:
    """Whether pictures (m, n, n) show something on a plain light ground, (m,)."""
    return on_light(x)[:, 0, 0] & (x.std((1, 2)) > ALONE)


def bold(x: np.ndarray) -> np.ndarray:
    """Pixels far from the picture's common grey, and their neighbours: one text on two lakes makes
    no copies.
    """
    far = np.abs(x - median(x))
    far = maximum_filter(far > 6 * median(far) + 15, (0, 3, 3))
    return far & ~(on_light(x) & (far.mean((1, 2), keepdims=True) > SUBJECT))


def paint(x: np.ndarray) -> np.ndarray:
    """Pictures with bold things such as texts painted over in their common grey."""
    return np.where(bold(x), median(x), x)


def coarse(x: np.ndarray):
    """Coarse structure of pictures (m, n, n) as unit vectors (m, n * n).

    All that JPEG leaves of a flat picture are the means of its blocks.
    """
    z = gaussian_filter(x, (0, 1, 1))
    z = z - uniform_filter(z, (0, 17, 17))  # every sea has a gradient
    z = z - z.mean((1, 2), keepdims=True)
    cap = 6 * median(np.abs(z)) + 0.3
    z = np.clip(z, -cap, cap).reshape(len(z), x.shape[1] * x.shape[2])
    return z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-3)


def chance(a, b, inside, reach: int = 4) -> np.ndarray:
    """Root mean square correlation (m,) of two structures over all shifts too large to be a
    registration.

    Copies agree at one shift only. Smooth pictures, of few independent pixels, agree somewhere at
    any shift.

    Args:
        a, b: fine or coarse structures (m, n, n).
        inside: (m, n, n), 1 where both are compared and 0 elsewhere.
        reach: shifts from this many pixels on, in both directions, count as too large.
    """
    units = []
    for x in (a, b):
        x = inside * (x - ((inside * x).sum((1, 2)) / (inside.sum((1, 2)) + 1e-9))[:, None, None])
        units.append(np.fft.rfft2(x / (np.sqrt((x * x).sum((1, 2)))[:, None, None] + 1e-6)))
    other = np.fft.irfft2(units[0] * units[1].conj(), s=a.shape[1:])
    near = np.r_[:reach, 1 - reach : 0]
    other[:, near[:, None], near] = 0
    return np.sqrt((other * other).sum((1, 2)) / (a.shape[1] * a.shape[2] - len(near) ** 2))
