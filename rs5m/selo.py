"""Semantic localization on arrays: windows, heat maps and the four numbers that judge them.
Chapter: selo.

The protocol and its constants are the official evaluation code's (Yuan et al. 2022). Where that
code fails, the docstrings say what it does and what is done here. It writes windows and heat maps
as JPEG files and reads them back; here that is an option (`as_jpeg`).
"""

from collections.abc import Sequence

import cv2
import numpy as np

STEPS = (256, 512, 768)  # window sides in pixels
MEDIAN, BOX, NEIGHBOURHOOD = 251, 50, 1000  # pixels: the filters of the map and of its maxima
EXPAND = 1.5  # a region's radius over the mean distance of its vertices
EPSILON, ROUNDING = 1e-7, 1e-12


def windows(height: int, width: int, steps: Sequence[int] = STEPS) -> np.ndarray:
    """Square windows of an image: int (n, 4), each r0, r1, c0, c1, none twice. Paper: semantic
    localization.

    Two grids for each step, the second shifted by half a step; a window that would reach or cross
    the far edge ends at the edge. An image smaller than a step gives windows as large as it is;
    there the official code starts below zero, which counts from the far end and leaves pixels
    without any window.
    """
    if height < 1 or width < 1 or min(steps) < 2:
        raise ValueError(f"no windows of {steps} pixels in an image of {height} x {width}")
    found = []
    for step in steps:
        for offset in (0, step - step // 2):
            rows, columns = (
                [_span(at, step, size) for at in range(offset, size, step)]
                for size in (height, width)
            )
            found += [(*row, *column) for row in rows for column in columns]
    return np.array(list(dict.fromkeys(found)))


def _span(start: int, step: int, size: int) -> tuple[int, int]:
    return (start, start + step) if start + step < size else (max(0, size - step), size)


def _cells(
    windows: np.ndarray, scores: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, tuple]:
    """Mean scores on the grid that the windows' edges cut the image into, and the cells' sides
    (rows, columns).
    """
    windows, scores = np.asarray(windows), np.asarray(scores, float)
    if scores.shape != (len(windows),) or not np.isfinite(scores).all():
        raise ValueError(
            f"{len(windows)} windows need as many finite scores, "
            f"not {scores.shape} with NaN or infinity"
        )
    _check_windows(windows, height, width)
    edges = [np.union1d([0, size], windows[:, i : i + 2]) for i, size in ((0, height), (2, width))]
    (r0, r1), (c0, c1) = (
        np.searchsorted(e, windows[:, i : i + 2]).T for i, e in zip((0, 2), edges, strict=True)
    )
    total, count = np.zeros((2, len(edges[0]) - 1, len(edges[1]) - 1))
    for i, score in enumerate(scores):
        total[r0[i] : r1[i], c0[i] : c1[i]] += score
        count[r0[i] : r1[i], c0[i] : c1[i]] += 1
    # Where there is no window, the lowest score; the official code divides by zero there.
    mean = np.divide(total, count, out=np.full_like(total, scores.min()), where=count > 0)
    return mean, tuple(np.diff(edge) for edge in edges)


def _check_windows(windows: np.ndarray, height: int, width: int) -> None:
    if windows.ndim == 2 and windows.shape[1] == 4 and len(windows):
        first, last = windows[:, ::2], windows[:, 1::2]
        if ((first >= 0) & (first < last) & (last <= (height, width))).all():
            return
    raise ValueError(
        f"a map of {height} x {width} pixels needs windows r0, r1, c0, c1 inside it: "
        "see selo.windows"
    )


def _spread(cells: np.ndarray, sides: tuple) -> np.ndarray:
    return np.repeat(np.repeat(cells, sides[0], 0), sides[1], 1)


def mean_map(windows: np.ndarray, scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """For each pixel the mean score of the windows that hold it: float (height, width). Args: those
    of `probability_map`.

    Summed once for each cell between the windows' edges, not once a pixel: the same additions in
    the same order as a loop over pixels, so the same numbers to the last bit.
    """
    return _spread(*_cells(windows, scores, height, width))


def as_jpeg(pixels: np.ndarray) -> bytes:
    """uint8 grey (h, w) or RGB (h, w, 3) as the official code writes it: OpenCV's default quality,
    95.
    """
    pixels = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def probability_map(
    windows: np.ndarray, scores: np.ndarray, height: int, width: int, jpeg: bool = False
) -> np.ndarray:
    """The heat map of a query: mean scores stretched to 0..255, then a median filter: uint8
    (height, width).

    Equal scores everywhere give zeros; the official code divides zero by zero there, or stretches
    rounding errors to a map.

    Args:
        windows: int (n, 4), each r0, r1, c0, c1.
        scores: of the windows, (n,).
        height: of the map in pixels.
        width: of the map in pixels.
        jpeg: written as a JPEG and read back, as the official code does.
    """
    mean, sides = _cells(windows, scores, height, width)
    mean = mean - mean.min()
    top = mean.max()
    # Sums of equal scores differ in their last bits.
    flat = top <= ROUNDING * np.abs(scores).max(initial=0)
    stretched = np.zeros(mean.shape, np.uint8) if flat else np.uint8(255 * (mean / top))
    heat = cv2.medianBlur(_spread(stretched, sides), MEDIAN)
    if not jpeg:
        return heat
    return cv2.imdecode(np.frombuffer(as_jpeg(heat), np.uint8), cv2.IMREAD_GRAYSCALE)


def _highest(image: np.ndarray, size: int) -> np.ndarray:
    """The maximum over size x size pixels around each, like scipy.ndimage.maximum_filter; windows
    double in turn.

    cv2.dilate gives the same numbers and takes over ten times as long at a thousand pixels.
    """
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (size // 2, size - size // 2 - 1)
        # Zeros never win; reflection brings nothing new into a window.
        found = np.moveaxis(np.pad(image, pad), axis, 0)
        reach = 1
        while reach < size:
            step = min(reach, size - reach)
            found = np.maximum(found[:-step], found[step:])
            reach += step
        image = np.moveaxis(found, 0, axis)
    return image


def attention_centres(probability_map: np.ndarray) -> list[tuple[int, int]]:
    """Where a map looks: (x, y) of its smoothed local maxima with a probability of at least one
    half, highest first.

    probability_map: uint8 (h, w), or floats in 0..1.
    """
    p, smooth = _probabilities(probability_map), probability_map
    if smooth.dtype != np.uint8:
        smooth = np.uint8(smooth * 255.0)
    for _ in range(5):
        smooth = cv2.boxFilter(smooth, -1, (BOX, BOX))
    peak = ((_highest(smooth, NEIGHBOURHOOD) == smooth) & (smooth > 0)).astype(np.uint8)
    _, _, _, middles = cv2.connectedComponentsWithStats(peak, connectivity=8)
    centres = [(int(x), int(y)) for x, y in middles[1:]]  # 0 is the background
    return sorted((c for c in centres if p(c) >= 0.5), key=p, reverse=True)


def _probabilities(probability_map: np.ndarray):
    """The probability at a place (x, y)."""
    scale = 255.0 if probability_map.dtype == np.uint8 else 1.0
    return lambda at: probability_map[at[1], at[0]] / scale


def _polygons(regions: Sequence) -> list[np.ndarray]:
    """A query's polygons as float arrays (k, 2)."""
    try:
        found = [np.asarray(region, float) for region in regions]
    except (TypeError, ValueError):  # of unequal lengths, or no numbers
        found = []
    if not found or not all(
        one.ndim == 2 and len(one) and one.shape[1] == 2 and _whole(one) for one in found
    ):
        raise ValueError(
            "a query needs at least one polygon, each a list of [x, y] pixels "
            "without NaN or infinity"
        )
    return found


def _whole(points: np.ndarray) -> bool:
    """Whether OpenCV's integers hold them; NaN is not below anything."""
    return bool(np.abs(points).max() < 2**31)


def mask(regions: Sequence, height: int, width: int) -> np.ndarray:
    """Pixels of a query's polygons, their outlines included: uint8 (height, width) of 0 and 1.

    Vertices (x, y) are cut to whole pixels. What leaves the image is cut off. Where a polygon
    crosses itself, or two overlap, the pixels that lie inside twice are outside (even-odd rule), as
    in the official code.
    """
    found = np.zeros((height, width), np.uint8)
    cv2.fillPoly(found, [region.astype(np.int32) for region in _polygons(regions)], 1)
    return found


def outside(regions: Sequence, height: int, width: int) -> float:
    """The share of the polygons' vertices that lie outside an image of that size."""
    points = np.concatenate(_polygons(regions))
    return float(((points < 0) | (points > (width, height))).any(1).mean())


def swapped(regions: Sequence, height: int, width: int) -> bool:
    """Whether polygons look as if given in (y, x) order: they leave the image by far, and exchanged
    they do not.

    By far: a twentieth of its longer side; hand-drawn outlines may step over an edge.
    """
    found = _polygons(regions)
    over = max(float((points - (width, height)).max()) for points in found)
    return (
        over > max(height, width) / 20
        and outside([points[:, ::-1] for points in found], height, width) == 0
    )


def _circle(points: np.ndarray) -> tuple[np.ndarray, int]:
    """A region's centre (x, y), the mean of its vertices in whole pixels, and its radius, of at
    least one pixel.
    """
    centre = np.array([int(sum(axis) / len(axis)) for axis in points.T])
    radius = int(EXPAND * np.linalg.norm(points - centre, axis=1).mean())
    return centre, max(1, radius)  # official: 0, then 0 / 0


def metrics(probability_map: np.ndarray, regions: Sequence) -> dict[str, float]:
    """Rsu, Rda, Ras and Rmi of a heat map and its query's polygons: {"rsu", "rda", "ras", "rmi"}.

    probability_map: uint8 (h, w), or floats in 0..1; regions: polygons of (x, y) pixels. Higher is
    better, except Ras. Rsu: how much of the map lies inside; Ras: how far its attention centres are
    from the regions'; Rda: whether they gather at one place; Rmi: their weighted sum. Polygons
    wholly outside the image have Rsu 0 (official code: NaN). A map without attention centres has
    Ras 1; the official code then uses the first polygon alone: 1 as well. ValueError without
    polygons or for another kind of map. Paper: semantic localization.
    """
    _check_map(probability_map)
    centres = np.array(attention_centres(probability_map)).reshape(-1, 2)
    rsu = _rsu(probability_map, mask(regions, *probability_map.shape))
    circles = [_circle(region) for region in _polygons(regions)]
    found = [
        (centres[np.linalg.norm(centres - middle, axis=1) <= r], middle, r) for middle, r in circles
    ]
    offset = np.mean([_offset(*one) / one[2] for one in found])
    ras = float(np.expm1(3 * offset) / np.expm1(3))
    rda = float(np.mean([_gathered(near, radius) for near, _, radius in found]))
    return {"rsu": rsu, "rda": rda, "ras": ras, "rmi": 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda}


def _check_map(probability_map: np.ndarray) -> None:
    kind, shape = probability_map.dtype, probability_map.shape
    if len(shape) != 2 or not (
        kind == np.uint8 or (probability_map.min() >= 0 and probability_map.max() <= 1)
    ):
        raise ValueError(f"a probability map is uint8 (h, w) or floats in 0..1, not {kind} {shape}")


def _rsu(probability_map: np.ndarray, inside: np.ndarray) -> float:
    area = int(inside.sum(dtype=np.int64))
    if not area:
        return 0.0
    scale = 255.0 if probability_map.dtype == np.uint8 else 1.0
    within = (probability_map * inside).sum(dtype=np.float64) / scale
    beyond = probability_map.sum(dtype=np.float64) / scale - within
    # In the order of the official code, to the last bit.
    return float(1 - np.exp(-0.707 * within / (beyond + EPSILON) * (inside.size - area) / area))


def _offset(near: np.ndarray, middle: np.ndarray, radius: int) -> float:
    """Mean distance of a region's middle to the attention centres within its radius; the radius if
    there are none.
    """
    return float(np.linalg.norm(near - middle, axis=1).mean()) if len(near) else float(radius)


def _gathered(near: np.ndarray, radius: int) -> float:
    """Rda of one region: 0 without an attention centre, 1 with one, less with several, the less the
    further apart.
    """
    if len(near) < 2:
        return float(len(near))
    apart = np.linalg.norm(near - near.mean(0), axis=1).mean() / radius
    return 0.5 * (1 - apart) + np.exp(-0.5 * (len(near) + 2))
