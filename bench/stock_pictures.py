"""Pictures as stock agencies sell them: shapes, cut-outs of photographs and texts on white and
grey, under one watermark and over one footer line; and copies of them.

Needs scikit-image, scikit-learn and matplotlib for photographs. Chapter: dedup.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

WORDS = (
    "sale summer coffee thank you happy birthday new year house tree ocean water green energy "
    "business card report vector label best price fresh fruit music party winter holiday travel "
    "city map family doctor school science animal bird fish car train garden kitchen love"
).split()
SIZES = ((300, 300), (320, 240), (240, 320), (300, 220))


# ---------------------------------------------------------------- subjects: RGBA on nothing


@cache
def photographs() -> tuple:
    """RGB pictures that scikit-image, scikit-learn and matplotlib bring along."""
    from matplotlib import cbook
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = "astronaut chelsea coffee rocket hubble_deep_field immunohistochemistry retina"
    found = [getattr(data, name)() for name in names.split()] + load_sample_images().images
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        found.append(np.asarray(Image.open(file).convert("RGB")))
    return tuple(Image.fromarray(x) for x in found)


@cache
def tiles(side: int = 100) -> list:
    """Squares of the photographs that do not overlap and are not flat."""
    found = []
    for photo in photographs():
        for y in range(0, photo.height - side + 1, side):
            for x in range(0, photo.width - side + 1, side):
                tile = photo.crop((x, y, x + side, y + side))
                if np.asarray(tile.convert("L")).std() > 15:
                    found.append(tile)
    return found


def _outline(r, corners: int, rough: float) -> list:
    """Corners of a random star-shaped polygon in the unit square."""
    angle = np.sort(r.uniform(0, 2 * np.pi, corners)) + r.uniform(0, 2 * np.pi)
    radius = 0.5 * (1 - rough * r.random(corners))
    return [(0.5 + d * np.cos(a), 0.5 + d * np.sin(a)) for a, d in zip(angle, radius, strict=True)]


def _colour(r) -> tuple:
    return tuple(int(c) for c in r.integers(0, 200, 3))


def shape(r, side: int) -> Image.Image:
    """Clip-art: three to seven parts of random form, place and colour."""
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    for _ in range(int(r.integers(3, 8))):
        size = r.uniform(0.25, 0.8) * side
        x, y = r.uniform(0, side - size, 2)
        if r.random() < 0.5:
            outline = _outline(r, int(r.integers(3, 10)), r.uniform(0.1, 0.8))
            draw.polygon([(x + size * u, y + size * v) for u, v in outline], fill=_colour(r))
        else:
            width = int(r.integers(3, 14)) if r.random() < 0.4 else 0
            box, colour = (x, y, x + size, y + size * r.uniform(0.3, 1)), _colour(r)
            draw.ellipse(box, fill=None if width else colour, outline=colour, width=width)
    return image


def cutout(r, side: int, tile: Image.Image) -> Image.Image:
    """A photograph cut out along a random outline."""
    mask = Image.new("L", (side, side))
    outline = _outline(r, int(r.integers(7, 16)), r.uniform(0.05, 0.4))
    ImageDraw.Draw(mask).polygon([(side * u, side * v) for u, v in outline], fill=255)
    image = tile.resize((side, side), Image.Resampling.BICUBIC).convert("RGBA")
    image.putalpha(mask.filter(ImageFilter.GaussianBlur(1)))
    return image


def words(r, side: int) -> Image.Image:
    """Two to five lines of large text."""
    image = Image.new("RGBA", (side, side))
    draw, lines, colour = ImageDraw.Draw(image), int(r.integers(2, 6)), _colour(r)
    for k in range(lines):
        text = " ".join(r.choice(WORDS, int(r.integers(1, 4))))
        font = ImageFont.load_default(size=int(side / lines * r.uniform(0.4, 0.8)))
        place = int(r.uniform(0, side / 6)), int(side * k / lines)
        draw.text(place, text, fill=colour, font=font)
    return image


# ---------------------------------------------------------------- pictures


def watermark(image: Image.Image, text: str, strength: int) -> Image.Image:
    """Pale text across the picture, in three slanted rows."""
    w, h = image.size
    layer, font = Image.new("L", (2 * w, 2 * h)), ImageFont.load_default(size=w // 10)
    for k in range(3):
        place = w // 3 + k * w // 5, h // 2 + k * h // 3
        ImageDraw.Draw(layer).text(place, text, fill=strength, font=font)
    layer = layer.rotate(25).crop((w // 2, h // 2, w // 2 + w, h // 2 + h))
    return Image.composite(Image.new("RGB", (w, h), (128, 128, 128)), image, layer)


def footer(image: Image.Image, number: int, dark: bool) -> Image.Image:
    """The agency's line below the picture; only the picture's number differs."""
    w, h = image.size
    bar = max(16, h // 14)
    page = Image.new("RGB", (w, h + bar), (0, 0, 0) if dark else (255, 255, 255))
    page.paste(image)
    text, colour = f"stockagency.example  {number:08d}", "white" if dark else (90, 90, 90)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=bar * 2 // 3)
    draw.text((6, h + 1), text, fill=colour, font=font)
    return page


def picture(r, subject: Image.Image, number: int) -> Image.Image:
    """A subject on white or grey; a third with the agency's footer, a third with its watermark."""
    w, h = SIZES[int(r.integers(len(SIZES)))]
    grey = 255 if r.random() < 0.6 else int(r.integers(215, 250))
    image = Image.new("RGB", (w, h), (grey, grey, grey))
    x, y = (int(r.uniform(0.3, 0.7) * (s - subject.width)) for s in (w, h))
    image.paste(subject, (x, y), subject)
    if r.random() < 0.33:
        image = watermark(image, "stockagency", 60)
    return footer(image, number, r.random() < 0.5) if r.random() < 0.33 else image


def strangers(seed: int, count: int) -> list:
    """Pictures that share at most background, watermark and footer: shapes, texts, cut-outs."""
    r, squares = np.random.default_rng(seed), tiles()
    order = np.random.default_rng(0).permutation(len(squares))
    found = []
    for k in range(count):
        side = int(r.integers(110, 210))
        photo = k // 3
        if k % 3 == 0 and photo < len(order):  # each square once
            subject = cutout(r, side, squares[order[photo]])
        else:
            subject = words(r, side) if k % 3 == 1 else shape(r, side)
        found.append(picture(r, subject, int(r.integers(10**8))))
    return found


def framed(seed: int, count: int, frame: float) -> list:
    """Photograph-like textures in a white frame, `frame` of the side wide; unframed if 0."""
    from scipy.ndimage import gaussian_filter

    r, found = np.random.default_rng(seed), []
    for _ in range(count):
        grey = sum(gaussian_filter(r.normal(size=(128, 128)), s) * s for s in (1, 3, 8, 20))
        grey = 110 + 35 * (grey - grey.mean()) / grey.std()
        tint = np.clip(grey[..., None] * r.uniform(0.7, 1.0, 3), 0, 255).astype(np.uint8)
        found.append(ImageOps.expand(Image.fromarray(tint), round(128 * frame), "white"))
    return found


# ---------------------------------------------------------------- copies


def _cropped(image, r):
    w, h = (round(0.95 * s) for s in image.size)
    x, y = (int(r.integers(0, s - t + 1)) for s, t in zip(image.size, (w, h), strict=True))
    return image.crop((x, y, x + w, y + h))


def _coloured(image, r):
    image = ImageEnhance.Color(image).enhance(float(r.choice([0.5, 1.6])))
    channel = np.asarray(image, np.float32) * [1.0, 0.93, 0.85]
    return Image.fromarray(channel.astype(np.uint8))


def _bordered(image, r):
    wide, colour = round(0.05 * min(image.size)), ("white", "black")[int(r.integers(2))]
    return ImageOps.expand(image, wide, colour)


KINDS = {  # name: (picture, JPEG quality)
    "quality 50": (lambda i, r: i, 50),
    "half size": (lambda i, r: i.resize((i.width // 2, i.height // 2)), 90),
    "watermark": (lambda i, r: watermark(i, "another agency", 80), 90),
    "colour": (_coloured, 90),
    "crop": (_cropped, 90),
    "border": (_bordered, 90),
    "grey": (lambda i, r: i.convert("L").convert("RGB"), 90),
    "mirrored": (lambda i, r: ImageOps.mirror(i), 90),
}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def copied(seed: int, images: list, count: int, kinds=tuple(KINDS)[:-1]):
    """`count` copies of distinct `images`, the source of each, its kind."""
    r = np.random.default_rng(seed)
    source = r.choice(len(images), count, replace=False)
    kind = np.array(kinds)[np.arange(count) % len(kinds)]
    made = [jpeg(KINDS[k][0](images[s], r), KINDS[k][1]) for s, k in zip(source, kind, strict=True)]
    return made, source, kind
