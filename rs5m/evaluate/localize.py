"""Semantic localization through a model: windows cut from a decoded image, their vectors, pictures.
Chapter: selo.

The official code writes every window as a JPEG file and reads it back, for each query anew. Here
the windows of an image are cut and encoded once for all its queries, in memory; the JPEG step is
left out.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from tqdm.auto import tqdm

from rs5m import clip, selo
from rs5m.clip import Model
from rs5m.zeroshot import normalise

SIZE = 256  # pixels of a window before the model's own preprocessing


def cut(image: np.ndarray, windows: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Windows (n, 4: r0, r1, c0, c1) of a uint8 image (h, w, 3), resized (cubic) to uint8 (n, size,
    size, 3).
    """
    found = np.empty((len(windows), size, size, 3), np.uint8)
    for i, (r0, r1, c0, c1) in enumerate(windows):
        found[i] = cv2.resize(image[r0:r1, c0:c1], (size, size), interpolation=cv2.INTER_CUBIC)
    return found


def window_vectors(
    model: Model, image: np.ndarray, windows: np.ndarray, batch: int = 64, quiet=False
) -> np.ndarray:
    """Un-normalised vectors (n, dim) of an image's windows, cut and encoded batch by batch.
    Chapter: selo.
    """
    clip.check_images([image])
    parts = range(0, len(windows), batch)
    return np.concatenate(
        [
            clip.encode_images(
                model, cut(image, windows[start : start + batch]), quiet=True, exact=True
            )
            for start in tqdm(parts, desc="windows", unit="batch", disable=quiet)
        ]
    )


def scores(
    model: Model, image: np.ndarray, texts: Sequence[str], steps: Sequence[int] = selo.STEPS
) -> tuple:
    """Windows int (n, 4) of an image and the cosines (texts, n) of each text with each window.
    Chapter: selo.
    """
    windows = selo.windows(*image.shape[:2], steps)
    vectors = normalise(window_vectors(model, image, windows))
    return windows, normalise(clip.encode_texts(model, list(texts))) @ vectors.T
