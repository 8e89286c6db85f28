"""Images of UC Merced and EuroSAT, and copies of some of them by six kinds of editing.
Chapter: dedup.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont


def crop(image, r):
    w, h = image.size
    x, y = (int(r.integers(0, s - round(0.95 * s) + 1)) for s in (w, h))
    return image.crop((x, y, x + round(0.95 * w), y + round(0.95 * h)))


def border(image, r):
    w, h = image.size
    return image.crop((round(0.05 * w), round(0.05 * h), w - round(0.05 * w), h - round(0.05 * h)))


def text(image, r):
    image, size = image.copy(), max(8, image.height // 14)
    place = int(r.integers(0, image.width // 3)), int(r.choice([1, image.height - size - 4]))
    ImageDraw.Draw(image).text(
        place, "(c) example 2020", fill="white", font=ImageFont.load_default(size=size)
    )
    return image


COPY = {  # name: picture, JPEG quality
    "jpeg_30": (lambda i, r: i, 30),
    "resize_half": (
        lambda i, r: i.resize((i.width // 2, i.height // 2), Image.Resampling.BICUBIC),
        92,
    ),
    "crop_5_percent": (crop, 92),
    "crop_5_percent_each_border": (border, 92),
    "brightness_30_percent": (
        lambda i, r: ImageEnhance.Brightness(i).enhance(float(r.choice([0.7, 1.3]))),
        92,
    ),
    "text_overlay": (text, 92),
}


def planted(data: Path, seed: int, ucm: int, eurosat: int, copies: int, part: int):
    """JPEG bytes of originals then copies, names, source of each copy, kind of each copy.

    `part`, 0 or 1: the half of both data sets to draw from. Thresholds were chosen on part 0, part
    1 is reported.
    """
    r, blobs, names = np.random.default_rng(seed), [], []
    for file, count in (("ucm_q92.zip", ucm), ("eurosat_rgb.zip", eurosat)):
        with zipfile.ZipFile(data / file) as z:
            members = sorted(n for n in z.namelist() if n.endswith(".jpg"))
            half = np.random.default_rng(0).permutation(len(members))[part::2]
            for k in sorted(r.choice(half, count, replace=False)):
                blobs.append(z.read(members[k]))
                names.append(Path(members[k]).stem)
    source = r.choice(len(blobs), copies, replace=False)
    kind = [list(COPY)[k % len(COPY)] for k in range(copies)]
    for s, k in zip(source, kind, strict=True):
        out = io.BytesIO()
        COPY[k][0](Image.open(io.BytesIO(blobs[s])).convert("RGB"), r).save(
            out, "JPEG", quality=COPY[k][1]
        )
        blobs.append(out.getvalue())
    return blobs, names, source, np.array(kind)
