"""Pixels of a training batch: decoded small, then cropped, mirrored and turned by one sampling."""

import contextlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from rs5m.data import images

DRAWS = 7  # numbers in [0, 1) for each image: angle, mirror, area, ratio, x, y, caption
CROP, RATIO = 0.9, (3 / 4, 4 / 3)  # of the crop: smallest share of the image, width over height
TURNS = ("any", "right", "none")  # angles: of 0 to 360 degrees, 0, 90, 180 and 270, or 0 alone
BLUR_FREE = 1.5  # pixels to one that bilinear sampling may skip; above, areas are averaged first
DECODING = images.DECODING
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class View(NamedTuple):
    """What may be drawn: the smallest share of the image in a crop, one of TURNS, and whether half
    of the images are mirrored.
    """

    crop: float = CROP
    turns: str = TURNS[0]
    mirror: bool = True


PUBLISHED = View()  # as in the official evaluation code's training transform


def matrix(
    draws: Sequence[float], aspect: float = 1.0, view: View = PUBLISHED
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where the output's points lie in the image: 2 x 3, both from -1 to 1 between their edges, x
    before y.

    draws: numbers in [0, 1), in the order of DRAWS; aspect: the image's width over its height. The
    crop's area is uniform from the view's to 1, and its ratio log-uniform within RATIO, as far as
    both fit; an image so long that nothing fits gives the largest crop of the nearest ratio. The
    content turns counter-clockwise by 360 degrees times the first draw; below 1/2, the second
    mirrors it before.
    """
    angle, mirror, area, ratio, x, y = (float(draw) for draw in draws[:6])
    if view.turns != "any":
        angle = math.floor(4 * angle) / 4 if view.turns == "right" else 0.0
    largest = min(1.0, RATIO[1] / aspect, aspect / RATIO[0])
    smallest = min(view.crop, largest)
    area = smallest + area * (largest - smallest)
    low, high = math.log(max(RATIO[0], area * aspect)), math.log(min(RATIO[1], aspect / area))
    ratio = math.exp(low + ratio * (high - low))
    width = min(1.0, math.sqrt(area * ratio / aspect))
    height = min(1.0, math.sqrt(area * aspect / ratio))
    cos, sin = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
    along = -width if view.mirror and mirror < 0.5 else width
    across = (along * cos, -along * sin, (2 * x - 1) * (1 - width))
    return across, (height * sin, height * cos, (2 * y - 1) * (1 - height))


def warp(pixels: torch.Tensor, draws: torch.Tensor, view: View = PUBLISHED) -> torch.Tensor:
    """Crop, mirror and turn squares (n, 3, s, s), uint8 or floats in 0..1, where they are: floats
    in 0..1.

    draws: (n, DRAWS), with or without the last. Bilinear, reflected beyond the edges.
    """
    pixels = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()
    rows = [matrix(row, view=view) for row in draws.tolist()]
    theta = torch.tensor(rows, dtype=torch.float32).view(-1, 2, 3)
    grid = functional.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def cut(
    content: bytes, size: int, draws: Sequence[float] | None = None, allowed: View = PUBLISHED
) -> np.ndarray:
    """The square BGR (size, size, 3) that the draws cut from an encoded image; without draws, its
    centred square. ValueError with the reason for bytes that are not a whole image.

    Decoded at a half, a quarter or an eighth where the JPEG is that much too large, then sampled
    once.

    Args:
        content: of the image's file.
        size: pixels.
        draws, allowed: as in `matrix`, where `allowed` is the view.
    """
    header = images.jpeg_size(content, DECODING)
    image = None if header else _carefully(content)
    width, height = header or image.shape[1::-1]
    short = min(width, height)
    centre = ((short / width, 0.0, 0.0), (0.0, short / height, 0.0))
    view = centre if draws is None else matrix(draws, width / height, allowed)
    if image is not None:
        return _sample(image, view, size, (width, height))
    excess = _excess(view, (width, height), size)
    image = decode(content, excess)
    by = _reduction(excess) if image.shape[1] < width else 1
    return _sample(image, view, size, (width / by, height / by))


def _excess(view: tuple, extent: tuple[float, float], size: int) -> float:
    """Pixels of the image to one of the output, along the tighter side."""
    return min(math.hypot(*row[:2]) * side for row, side in zip(view, extent, strict=True)) / size


def _reduction(excess: float) -> int:
    return next((by for by in (8, 4, 2) if by <= excess), 1)


def _sample(image: np.ndarray, view: tuple, size: int, extent: tuple[float, float]) -> np.ndarray:
    """extent: width and height in the image's pixels; the last ones of a reduced image may reach
    beyond the picture.
    """
    excess = _excess(view, extent, size)
    if excess > BLUR_FREE:
        whole = image.shape[1::-1]
        target = tuple(max(1, round(side / excess)) for side in whole)
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
        extent = tuple(e * new / old for e, new, old in zip(extent, target, whole, strict=True))
    first = 1 / size - 1  # where the first output pixel's centre lies
    rows = [
        (a * side / size, b * side / size, ((a * first + b * first + c + 1) * side - 1) / 2)
        for (a, b, c), side in zip(view, extent, strict=True)
    ]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        image, np.array(rows), (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT
    )


def decode(content: bytes, excess: float = 1.0) -> np.ndarray:
    """BGR pixels (h, w, 3) of an encoded image, for a JPEG by the largest of 1/2, 1/4, 1/8 that is
    at most `excess`.

    Orientation tags are ignored. Whatever is not a plain, whole JPEG goes through
    `rs5m.data.images`, and its reason is the ValueError.
    """
    if images.jpeg_size(content, DECODING):
        flag = REDUCED[_reduction(excess)] | cv2.IMREAD_IGNORE_ORIENTATION
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
            if image is not None:
                return image
    return _carefully(content)


def _carefully(content: bytes) -> np.ndarray:
    image, reason = images.read(content, DECODING)
    if reason:
        raise ValueError(reason)
    return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)
