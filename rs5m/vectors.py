"""Vectors of images and texts, as every metric uses them."""

import numpy as np


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one along the last axis; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length == 0, 1, length)
