"""What `dedup` keeps of an image: a grey thumbnail, its colour, and 64-bit hashes of windows
cropped out of it.

Images go to 64 x 64 pixels one at a time, in threads; all that follows is done for a batch. A JPEG
file is decoded at a reduced size, and for a hash its brightness alone.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import label

VERSION = 4  # of signatures: those of one run are of one version
SIDE = 32  # side of the grey thumbnail, as in the usual DCT hash
LUMA = np.float32([0.299, 0.587, 0.114])
BATCH = 32  # images a task: threads cost time too
FINE = 128  # side at which a subject is looked for
# Plain ground: share of the outer ring that it fills, and grey levels that its pixels may differ.
# Only a light or a black one: a dark plain may be the sea, and then it is the subject.
RING, PLAIN, BLACK, LIGHT = 0.6, 4, 4, 170
# A subject: grey levels of contrast with the ground; share of that below which a pixel is a
# watermark's, and share that each part reaches somewhere: a letter of a watermark does not, but
# is smaller than the share of the picture from which any part counts; share of the side that a
# subject is at least high and wide; share of ground along its box from which it has an outline of
# its own. A footer: largest height, and where it ends at the highest
BOLD, PALE, STRONG, LARGE, SMALLEST, OPEN = 30, 0.4, 0.85, 0.005, 0.125, 0.15
FOOTER, LOW = 0.12, 0.9
# Windows (y0, y1, x0, x1) that are hashed: whole, two centre and four corner crops; then four
# halves, since a caption rarely touches all of them. The set maps onto itself under the eight
# orientations.
_C, _S = 0.05, 0.5
CROPS = [(0, 1, 0, 1), (0.025, 0.975, 0.025, 0.975), (_C, 1 - _C, _C, 1 - _C)] + [
    (y, y + 1 - _C, x, x + 1 - _C) for y in (0, _C) for x in (0, _C)
]
HALVES = [(0, _S, 0, 1), (_S, 1, 0, 1), (0, 1, 0, _S), (0, 1, _S, 1)]
INVERSE = np.array([0, 3, 2, 1, 4, 5, 6, 7])  # of the orientations in `orient`


# ---------------------------------------------------------------- images to small arrays


def _opened(image, mode: str) -> Image.Image:
    """A PIL image in `mode`, decoded at a reduced size where it is a JPEG file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    elif isinstance(image, str | Path):
        with Image.open(image) as file:
            file.draft(mode, (4 * SIDE, 4 * SIDE))
            file.load()
        image = file
    return image if image.mode == mode else image.convert(mode)


def _small(image: Image.Image, side: int = 2 * SIDE) -> np.ndarray:
    """uint8 (side, side) for mode L, (side, side, 3) for RGB."""
    image = image.reduce(min(image.size) // 128) if min(image.size) >= 256 else image
    smooth = Image.Resampling.BOX if min(image.size) >= side else Image.Resampling.BILINEAR
    return np.asarray(image if image.size == (side, side) else image.resize((side, side), smooth))


# ---------------------------------------------------------------- the subject on a plain ground


def _span(mask: np.ndarray, footer: bool) -> tuple[int, int]:
    """First and last + 1 line of `mask` (n,), a low strip at the end left out if `footer`."""
    lines = np.flatnonzero(mask)
    if footer and lines[-1] >= LOW * len(mask):
        gap = np.flatnonzero(~mask[: lines[-1]])
        above = lines[lines < gap[-1]] if len(gap) else lines[:0]
        if len(above) and lines[-1] - gap[-1] <= FOOTER * len(mask):
            lines = above
    return int(lines[0]), int(lines[-1]) + 1


def _ring(grey: np.ndarray) -> np.ndarray:
    """The outermost pixels of a picture."""
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _ground(grey: np.ndarray) -> float | None:
    """Level of the plain ground around a picture; None where its outer ring is not plain."""
    ring = _ring(grey)
    ground = np.sort(ring)[len(ring) // 2]
    plain = np.mean(np.abs(ring - ground) <= PLAIN) >= RING
    return ground if plain and not BLACK < ground < LIGHT else None


def _inner(grey: np.ndarray, ground: float) -> tuple[int, int, int, int] | None:
    """Box (y0, y1, x0, x1) of what differs boldly from the ground; None if nothing does."""
    away = np.abs(grey - ground)
    middle = away[len(away) // 8 : -(len(away) // 8)]  # a footer may be bolder than the subject
    contrast = np.sort(middle, axis=None)[int(0.985 * middle.size)]
    if contrast < BOLD:
        return None
    parts, count = label(away > PALE * contrast, np.ones((3, 3)))
    strong = np.bincount(parts.ravel(), minlength=count + 1) >= LARGE * parts.size
    strong[parts[away >= STRONG * contrast]] = True
    strong[0] = False  # what is no part
    away = strong[parts]
    if not (rows := away.sum(1) > len(away) // 64).any():
        return None
    top, bottom = _span(rows, footer=True)
    if not (columns := away[top:bottom].sum(0) > len(away) // 64).any():
        return None
    return top, bottom, *_span(columns, footer=False)


def _page(grey: np.ndarray, ground: float, inner: tuple) -> tuple[int, int, int, int]:
    """Box of the page that `inner` lies on, where that is plain and of another level than the
    ground: what is bold on a page can hide its edge. Else `inner`.
    """
    wide = len(grey) // 64
    y0, y1, x0, x1 = inner
    level = _ground(grey[max(y0 - wide, 0) : y1 + wide, max(x0 - wide, 0) : x1 + wide])
    if level is None or abs(level - ground) <= 2 * PLAIN:
        return inner
    page = np.abs(grey - level) <= PLAIN
    rows, columns = page.mean(1) > 0.5, page.mean(0) > 0.5
    if not (rows.any() and columns.any()):
        return inner
    return *_span(rows, footer=False), *_span(columns, footer=False)


def subject(grey: np.ndarray) -> tuple[tuple[int, int, int, int], float]:
    """Box (y0, y1, x0, x1) of a picture's subject, and the level of the plain ground around it.

    Frames, ground and a footer are cut away: what is common to many pictures is no evidence that
    two of them are copies. `grey`: float (n, n). The whole picture, and -inf, where the ground is
    not plain or the subject is tiny or pale.
    """
    box, before = (0, len(grey), 0, len(grey)), -np.inf
    blurred = len(grey) // 64  # the inner edge of a frame
    for inset in (0, blurred, blurred):  # a frame, the page in it, a card
        y0, y1, x0, x1 = box[0] + inset, box[1] - inset, box[2] + inset, box[3] - inset
        ground = _ground(grey[y0:y1, x0:x1])
        if ground is None or abs(ground - before) <= 2 * PLAIN:
            break
        inner = _inner(grey[y0:y1, x0:x1], ground)
        if inner is None or min(inner[1] - inner[0], inner[3] - inner[2]) < SMALLEST * len(grey):
            break
        inner = _page(grey[y0:y1, x0:x1], ground, inner)
        found = y0 + inner[0], y0 + inner[1], x0 + inner[2], x0 + inner[3]
        ends = zip(box, found, (y0, y1, x0, x1), strict=True)
        box = tuple(whole if at == cut else at for whole, at, cut in ends)  # the inset cut it
        before = ground
    return box, before


def _subject(image: Image.Image) -> np.ndarray:
    """`_small` of the subject of an RGB image; on light ground in its own proportions."""
    small = _small(image)
    if _ground(small @ LUMA) is None:
        return small
    fine = _small(image, FINE)
    grey = fine @ LUMA
    (y0, y1, x0, x1), ground = subject(grey)
    w, h = (s / FINE for s in image.size)
    image = image.crop((round(w * x0), round(h * y0), round(w * x1), round(h * y1)))
    edge = _ring(grey[y0:y1, x0:x1])
    if ground >= LIGHT and np.mean(np.abs(edge - ground) <= 2 * PLAIN) > OPEN:
        colour = np.median(fine[np.abs(grey - ground) <= PLAIN], 0)
        image = ImageOps.pad(image, (max(image.size),) * 2, color=tuple(map(int, colour)))
    return _small(image)


def _batches(images, work):
    """Yield work(list of images) in order, on all cores; an iterator is read a few images ahead
    only.
    """
    images, cores = iter(images), os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        while some := list(islice(images, 4 * BATCH * cores)):
            yield from pool.map(work, [some[k : k + BATCH] for k in range(0, len(some), BATCH)])


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels (n, 64, 64) -> (n, 32, 32): not rounded, as seas differ by half a
    level.
    """
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def greys(images) -> np.ndarray:
    """Grey thumbnails float32 (n, 32, 32) of PIL images, uint8 arrays or file names."""

    def work(part):
        return _halved(np.stack([_small(_opened(i, "L")) for i in part]).astype(np.float32))

    return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *_batches(images, work)])


def thumbnails(images) -> tuple[np.ndarray, np.ndarray]:
    """Grey thumbnails float16 (n, 32, 32); mean and median colours float32 (n, 2, 3)."""

    def work(part):
        small = np.stack([_subject(_opened(i, "RGB")) for i in part])
        pixels = small.reshape(len(small), -1, 3)
        mean = np.full(4 * SIDE**2, 0.25 / SIDE**2, np.float32) @ pixels.astype(np.float32)
        # a text moves the mean, a crop the median; a stable sort of bytes is a radix sort, ten
        # times as fast
        median = np.sort(pixels[:, ::4].transpose(0, 2, 1), kind="stable")[..., SIDE**2 // 2]
        return _halved(small @ LUMA).astype(np.float16), np.stack([mean, median], 1)

    parts = [
        (np.empty((0, SIDE, SIDE), np.float16), np.empty((0, 2, 3), np.float32)),
        *_batches(images, work),
    ]
    thumb, colour = zip(*parts, strict=True)
    return np.concatenate(thumb), np.concatenate(colour)


# ---------------------------------------------------------------- hashes


def _cosines(lo: float, hi: float, count: int) -> np.ndarray:
    """(count, SIDE): cosines over the window [lo, hi] of the side, integrated over each pixel."""
    edge = np.clip(np.arange(SIDE + 1) / SIDE, lo, hi) - lo
    f = np.arange(1, count)[:, None] * np.pi / (hi - lo)
    return np.diff(np.vstack([edge[None], np.sin(f * edge) / f]), axis=1).astype(np.float32)


def _hashes(thumb: np.ndarray, windows, side: int = 8) -> np.ndarray:
    """uint64 (n, windows, side**2 / 64): signs of the low DCT frequencies of each window; the
    mean's bit is 0.
    """
    thumb, out = thumb.astype(np.float32), []
    for y0, y1, x0, x1 in windows:
        c = _cosines(y0, y1, side) @ thumb @ _cosines(x0, x1, side).T
        bits = (
            c.reshape(len(c), side * side) > 1e-4
        )  # not 0: a constant picture hashes to 0, whatever the rounding
        bits[:, 0] = False
        out.append(np.packbits(bits, axis=1).view(">u8").astype(np.uint64))
    return np.stack(out, 1)


def window_hashes(thumb: np.ndarray) -> np.ndarray:
    """Hashes uint64 (n, 11) of thumbnails (n, 32, 32): the windows CROPS, then HALVES."""
    return _hashes(thumb, CROPS + HALVES)[..., 0]


def image_hash(images, bits: int = 64) -> np.ndarray:
    """Perceptual hash uint64 (n,) for 64 bits, (n, 4) for 256: signs of the lowest DCT frequencies,
    mean left out.

    `images`: PIL images, uint8 arrays or file names. ValueError for other `bits`.
    """
    if bits not in (64, 256):
        raise ValueError(f"bits is {bits}: choose 64 or 256.")
    hashes = _hashes(greys(images), CROPS[:1], int(bits**0.5))[:, 0]
    return hashes[:, 0] if bits == 64 else hashes


# ---------------------------------------------------------------- signatures


def signatures(images) -> dict:
    """Compact signatures of images: thumb float16 (n, 32, 32), colour float32 (n, 2, 3), hash
    uint64 (n, 11).

    `images`: iterable of PIL images, uint8 arrays or file names; about 2.2 kB an image is kept.
    """
    thumb, colour = thumbnails(images)
    return {"thumb": thumb, "colour": colour, "hash": window_hashes(thumb)}


def signature(image) -> dict:
    """`signatures` of one image, without the first axis."""
    return {k: v[0] for k, v in signatures([image]).items()}


def orient(thumb: np.ndarray, how: int) -> np.ndarray:
    """One of the eight orientations of (n, h, w): `how` % 4 quarter turns, mirrored first if `how`
    >= 4.
    """
    return np.rot90(thumb[:, :, ::-1] if how >= 4 else thumb, how % 4, axes=(1, 2))
