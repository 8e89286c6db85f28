"""Pictures with structure at several scales, and their copies."""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def texture(seed: int, size: int = 128) -> Image.Image:
    """A coloured random texture with structure at several scales, as a landscape has."""
    r = np.random.default_rng(seed)
    grey = sum(gaussian_filter(r.normal(size=(size, size)), s) * s for s in (1, 3, 8, 20))
    grey = (grey - grey.mean()) / grey.std()
    tint = r.uniform(0.7, 1.0, 3)
    return Image.fromarray(np.clip((110 + 35 * grey)[..., None] * tint, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")
