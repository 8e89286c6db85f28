"""What `dedup` keeps of an image: a grey thumbnail, its colour, and 64-bit hashes of windows
cropped out of it.

Images go to 64 x 64 pixels one at a time, in threads; all that follows is done for a batch. A JPEG
file is decoded at a reduced size, and for a hash its brightness alone. Chapter: dedup.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32  # side of the grey thumbnail, as in the usual DCT hash
LUMA = np.float32([0.299, 0.587, 0.114])
BATCH = 32  # images a task: threads cost time too
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


def _small(image, mode: str) -> np.ndarray:
    """uint8 (64, 64) for mode L, (64, 64, 3) for RGB, of a PIL image, uint8 array or file name."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    elif isinstance(image, str | Path):
        with Image.open(image) as file:
            file.draft(mode, (4 * SIDE, 4 * SIDE))
            file.load()
        image = file
    image = image if image.mode == mode else image.convert(mode)
    image = image.reduce(min(image.size) // 128) if min(image.size) >= 256 else image
    smooth = Image.Resampling.BOX if min(image.size) >= 2 * SIDE else Image.Resampling.BILINEAR
    return np.asarray(
        image if image.size == (2 * SIDE, 2 * SIDE) else image.resize((2 * SIDE, 2 * SIDE), smooth)
    )


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
    """Grey thumbnails float32 (n, 32, 32) of PIL images, uint8 arrays or file names. Chapter:
    dedup.
    """

    def work(part):
        return _halved(np.stack([_small(i, "L") for i in part]).astype(np.float32))

    return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *_batches(images, work)])


def thumbnails(images) -> tuple[np.ndarray, np.ndarray]:
    """Grey thumbnails float16 (n, 32, 32); mean and median colours float32 (n, 2, 3). Chapter:
    dedup.
    """

    def work(part):
        small = np.stack([_small(i, "RGB") for i in part])
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
    """Hashes uint64 (n, 11) of thumbnails (n, 32, 32): the windows CROPS, then HALVES. Chapter:
    dedup.
    """
    return _hashes(thumb, CROPS + HALVES)[..., 0]


def image_hash(images, bits: int = 64) -> np.ndarray:
    """Perceptual hash uint64 (n,) for 64 bits, (n, 4) for 256: signs of the lowest DCT frequencies,
    mean left out.

    `images`: PIL images, uint8 arrays or file names. ValueError for other `bits`. Chapter: dedup.
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
    Chapter: dedup.
    """
    thumb, colour = thumbnails(images)
    return {"thumb": thumb, "colour": colour, "hash": window_hashes(thumb)}


def signature(image) -> dict:
    """`signatures` of one image, without the first axis. Chapter: dedup."""
    return {k: v[0] for k, v in signatures([image]).items()}


def orient(thumb: np.ndarray, how: int) -> np.ndarray:
    """One of the eight orientations of (n, h, w): `how` % 4 quarter turns, mirrored first if `how`
    >= 4.
    """
    return np.rot90(thumb[:, :, ::-1] if how >= 4 else thumb, how % 4, axes=(1, 2))
