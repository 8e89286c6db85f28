"""Semantic localization through a model: windows cut from a decoded image, their vectors, pictures. Chapter: selo.

The official code writes every window as a JPEG file and reads it back, for each query anew. Here the windows of an
image are cut and encoded once for all its queries, in memory; the JPEG step is left out.
"""

from collections.abc import Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from tqdm.auto import tqdm

from rs5m import clip, plots, selo
from rs5m.clip import Model
from rs5m.zeroshot import normalise

SIZE = 256  # pixels of a window before the model's own preprocessing


def cut(image: np.ndarray, windows: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Windows (n, 4: r0, r1, c0, c1) of a uint8 image (h, w, 3), resized (cubic) to uint8 (n, size, size, 3)."""
    found = np.empty((len(windows), size, size, 3), np.uint8)
    for i, (r0, r1, c0, c1) in enumerate(windows):
        found[i] = cv2.resize(image[r0:r1, c0:c1], (size, size), interpolation=cv2.INTER_CUBIC)
    return found


def window_vectors(model: Model, image: np.ndarray, windows: np.ndarray, batch: int = 64, quiet=False) -> np.ndarray:
    """Un-normalised vectors (n, dim) of an image's windows, cut and encoded batch by batch. Chapter: selo."""
    clip.check_images([image])
    parts = range(0, len(windows), batch)
    return np.concatenate([clip.encode_images(model, cut(image, windows[start : start + batch]), quiet=True, exact=True)
                           for start in tqdm(parts, desc="windows", unit="batch", disable=quiet)])  # fmt: skip


def scores(model: Model, image: np.ndarray, texts: Sequence[str], steps: Sequence[int] = selo.STEPS) -> tuple:
    """Windows int (n, 4) of an image and the cosines (texts, n) of each text with each window. Chapter: selo."""
    windows = selo.windows(*image.shape[:2], steps)
    vectors = normalise(window_vectors(model, image, windows))
    return windows, normalise(clip.encode_texts(model, list(texts))) @ vectors.T


def heat_map(image: np.ndarray, probability_map=None, regions: Sequence = (), title: str = "", axis=None):
    """Draw an image, or a heat map over its grey, with the polygons' outlines and the attention centres; the axis.

    image uint8 (h, w, 3), probability_map uint8 (h, w) or None, regions: polygons of (x, y). Chapter: selo.
    """
    height, width = image.shape[:2]
    axis = axis or plt.subplots(figsize=(7.5, 7.5 * height / width))[1]
    every, box = max(1, width // 900), (0, width, height, 0)  # more pixels than a screen shows take seconds to draw
    small = image[::every, ::every]
    if probability_map is None:
        axis.imshow(small, extent=box)
    else:
        axis.imshow(small.mean(2), extent=box, cmap="gray", vmin=0, vmax=255)  # grey: the colours are the map's own
        axis.imshow(probability_map[::every, ::every], extent=box, cmap="inferno", alpha=0.65, vmin=0, vmax=255)
        for x, y in selo.attention_centres(probability_map):
            axis.plot(x, y, "*", color="cyan", markeredgecolor="black", markersize=13)
    for region in regions:
        axis.add_patch(plt.Polygon(np.asarray(region), fill=False, edgecolor="white", linewidth=1.6))
    axis.set_title(plots.wrap(title, 44), fontsize=9)
    axis.set(xticks=[], yticks=[], xlim=box[:2], ylim=box[2:])
    return axis
