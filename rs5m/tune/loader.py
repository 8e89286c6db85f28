"""Batches from shards: every pair read at random by its place in the tar, decoded small, turned in one step.

Chapter: tune. What is known of the official augmentation (its evaluation code's training transform): RandomResizedCrop
to 224 pixels with scale 0.9 to 1.0 and bicubic, RandomHorizontalFlip, RandomRotation over 0 to 360 degrees. Ours: crop,
mirror and rotation are one bilinear sampling of the decoded image; the corners that a rotation opens show what lies
beyond the crop, reflected at the image's edge, where the official ones are black; area and ratio of the crop are drawn
from what fits into the image, where torchvision draws up to ten times and then takes the middle.
"""

import contextlib
import hashlib
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional
from torch.utils import data
from tqdm.auto import tqdm

from rs5m import clip, images, records
from rs5m.request import Limits
from rs5m.shards import LIMITS, local

DRAWS = 7  # numbers in [0, 1) for each image: angle, mirror, area, ratio, x, y, caption
AREA, RATIO = (0.9, 1.0), (3 / 4, 4 / 3)  # of the random crop: share of the image, width over height
BLUR_FREE = 1.5  # pixels to one that bilinear sampling may skip; above, areas are averaged first
DECODING = images.Limits(min_side=1, max_aspect=math.inf)  # size and shape were judged when the data set was built
REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
           8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip
OPEN_FILES = 64


class Batch(NamedTuple):
    """Pairs ready for the device; `index` is shorter than what was asked for where pairs were damaged."""

    pixels: torch.Tensor  # uint8 (n, 3, size, size)
    captions: list[str]  # one for each image, chosen by its last draw; the first where no draws were given
    index: np.ndarray  # (n,) int64: which pairs of the source
    draws: torch.Tensor | None  # float32 (n, DRAWS), set when the pixels have still to be turned: `warp(pixels, draws)`
    damaged: list[str]  # "shard pair: reason" of the pairs left out


# ---------------------------------------------------------------- from draws to pixels


def matrix(draws: Sequence[float], aspect: float = 1.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where the output's points lie in the image: 2 x 3, both from -1 to 1 between their edges, x before y.

    draws: numbers in [0, 1), in the order of DRAWS; aspect: the image's width over its height. The crop's area is
    uniform within AREA, and its ratio log-uniform within RATIO, as far as both fit; an image so long that nothing fits
    gives the largest crop of the nearest ratio. The content turns counter-clockwise by 360 degrees times the first
    draw; below 1/2, the second mirrors it before. Chapter: tune.
    """
    angle, mirror, area, ratio, x, y = (float(draw) for draw in draws[:6])
    most = min(AREA[1], RATIO[1] / aspect, aspect / RATIO[0])
    least = min(AREA[0], most)
    area = least + area * (most - least)
    low, high = math.log(max(RATIO[0], area * aspect)), math.log(min(RATIO[1], aspect / area))
    ratio = math.exp(low + ratio * (high - low))
    width, height = min(1.0, math.sqrt(area * ratio / aspect)), min(1.0, math.sqrt(area * aspect / ratio))
    cos, sin = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
    along = -width if mirror < 0.5 else width
    across = (along * cos, -along * sin, (2 * x - 1) * (1 - width))
    return across, (height * sin, height * cos, (2 * y - 1) * (1 - height))


def warp(pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Crop, mirror and turn squares (n, 3, s, s), uint8 or floats in 0..1, where they are: floats in 0..1.

    draws: (n, DRAWS) or less the last. Bilinear, reflected beyond the edges. Chapter: tune.
    """
    pixels = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()
    theta = torch.tensor([matrix(row) for row in draws.tolist()], dtype=torch.float32).view(-1, 2, 3)
    grid = functional.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def cut(content: bytes, size: int, draws: Sequence[float] | None = None) -> np.ndarray:
    """The square BGR (size, size, 3) that the draws cut from an encoded image; without draws, its centred square.

    Decoded at a half, a quarter or an eighth where the JPEG is that much too large, then sampled once. ValueError with
    the reason for bytes that are no whole image. Chapter: tune.
    """
    header = jpeg_size(content)
    image = None if header else _carefully(content)
    width, height = header or image.shape[1::-1]
    short = min(width, height)
    centre = ((short / width, 0.0, 0.0), (0.0, short / height, 0.0))
    view = centre if draws is None else matrix(draws, width / height)
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
    """extent: width and height in the image's pixels; the last ones of a reduced image may reach beyond the picture."""
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
    return cv2.warpAffine(image, np.array(rows), (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)


def decode(content: bytes, excess: float = 1.0) -> np.ndarray:
    """BGR pixels (h, w, 3) of an encoded image, for a JPEG by the largest of 1/2, 1/4, 1/8 that is at most `excess`.

    Orientation tags are left alone. Whatever is not a plain, whole JPEG goes through `rs5m.images`, and its reason is
    the ValueError. Chapter: tune.
    """
    if jpeg_size(content):
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


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a plain JPEG by its header; None for all else, broken, cut off and dangerous ones included.

    Plain: 8 bits, grey or three channels, Huffman-coded, within the limits of pixels and scans, with an end mark.
    """
    if content[:2] != b"\xff\xd8" or content[-2:] != b"\xff\xd9" or content.count(b"\xff\xda") > DECODING.max_scans:
        return None
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        mark, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if mark in (0xC0, 0xC1, 0xC2):
            depth, height, width, channels = struct.unpack_from(">BHHB", content, at + 4)
            plain = depth == 8 and channels in (1, 3) and 0 < width * height <= DECODING.max_pixels
            return (width, height) if plain else None
        if mark == 0xFF:  # fill
            at += 1
        elif 0xC0 <= mark <= 0xDA and mark not in (0xC4, 0xCC):  # other codings; no frame before the scan
            return None
        else:
            at += 2 + length
    return None


# ---------------------------------------------------------------- sources of batches


class Shards(data.Dataset):
    """The pairs of shards, a batch for each item (index, draws or None); an item may be asked for in any process.

    shards: .tar files, folders or globs of them, URLs or hf:// addresses (see `rs5m.shards.local`). Damaged pairs
    are left out and named: those that the index finds in `damaged`, those whose image fails in their batch. Without
    draws the pixels are `clip.crop`'s; with draws they are turned already, or with `on_device` the centred square,
    which `warp` turns. ValueError for no shard, or shards without a pair. Chapter: tune.
    """

    def __init__(self, shards, size: int, on_device: bool = False, limits: Limits = LIMITS):
        self.size, self.on_device = size, on_device
        self.paths = local(shards, limits)
        found = [records.index(path) for path in tqdm(self.paths, desc="shards", unit="shard")]
        self.names = [name for one in found for name in one.names]
        self.damaged = [fault for one in found for fault in one.damaged]
        self._places = np.concatenate([one.places for one in found])
        self._shard = np.repeat(np.arange(len(found)), [len(one.names) for one in found])
        self._digest = hashlib.sha256(b"".join(one.digest for one in found)).hexdigest()
        self._open = {}  # files by shard, opened when first read from
        if not self.names:
            where = f"{self.paths[0]} holds" if len(found) == 1 else f"{self.paths[0]} and the other shards hold"
            raise ValueError(f"{where} no whole pair ({'; '.join(self.damaged[:3]) or 'it is empty'})")

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": {}}  # another process opens its own files

    def fingerprint(self) -> str:
        """SHA-256 over the names, places and captions of all pairs, in order: what a run rests on. No image is read."""
        return self._digest

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of a pair."""
        at, length, kind = self._places[i, 2:]
        texts = records.captions(records.TEXTS[kind], self._read(i, at, length))
        if not texts:
            raise ValueError("the shard has changed since it was indexed")
        return texts

    def __getitem__(self, item) -> Batch:
        index, draws = _checked(item)
        pixels, kept, texts, damaged = np.empty((len(index), 3, self.size, self.size), np.uint8), [], [], []
        for row, i in enumerate(index):
            try:
                self._picture(i, None if draws is None else draws[row], pixels[len(kept)])
                texts.append(_chosen(self.captions(i), draws, row))
                kept.append(row)
            except (ValueError, cv2.error) as error:  # older OpenCVs turn nothing longer than 32,767 pixels
                damaged.append(f"{self.paths[self._shard[i]].name} {self.names[i]}: {str(error).splitlines()[0]}")
        later = draws[kept] if self.on_device and draws is not None else None
        return Batch(torch.from_numpy(pixels[: len(kept)]), texts, index[kept], later, damaged)

    def _picture(self, i: int, draws: torch.Tensor | None, into: np.ndarray) -> None:
        content = self._read(i, *self._places[i, :2])
        if draws is None:
            rgb = cv2.cvtColor(decode(content), cv2.COLOR_BGR2RGB)
            into[:] = clip.crop([rgb], self.size)[0].numpy()
        else:
            cv2.split(cut(content, self.size, None if self.on_device else draws.tolist()), list(into[::-1]))

    def _read(self, i: int, at: int, length: int) -> bytes:
        shard = int(self._shard[i])
        if shard not in self._open:
            if len(self._open) == OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[shard] = self.paths[shard].open("rb", buffering=0)
        content = os.pread(self._open[shard].fileno(), int(length), int(at))
        if len(content) < length:
            raise ValueError("the shard has become shorter since it was indexed")
        return content


class Memory(data.Dataset):
    """Pairs of images in memory, uint8 (h, w, 3): made into squares once, to be turned by `warp`. Chapter: tune.

    captions: one tuple for each image. Items and batches as of `Shards`.
    """

    def __init__(self, images: Sequence[np.ndarray], captions: Sequence[tuple[str, ...]], size: int):
        clip.check_images(images)
        words = any(isinstance(texts, str) or not len(texts) for texts in captions)
        if not len(images) or len(images) != len(captions) or words:
            raise ValueError(f"{len(images)} images and {len(captions)} captions: give each image a tuple of captions")
        self.pixels, self._captions, self.damaged = clip.crop(images, size).contiguous(), list(captions), []
        self.names = [str(i) for i in range(len(images))]

    def __len__(self) -> int:
        return len(self.names)

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of a pair."""
        return self._captions[i]

    def fingerprint(self) -> str:
        """SHA-256 over the squares and all captions, in order."""
        total = hashlib.sha256(repr((tuple(self.pixels.shape), [tuple(texts) for texts in self._captions])).encode())
        total.update(self.pixels.numpy().data)
        return total.hexdigest()

    def __getitem__(self, item) -> Batch:
        index, draws = _checked(item)
        texts = [_chosen(self._captions[i], draws, row) for row, i in enumerate(index)]
        return Batch(self.pixels[index], texts, index, draws, [])


def _checked(item) -> tuple[np.ndarray, torch.Tensor | None]:
    index, draws = np.asarray(item[0], np.int64), item[1]
    if draws is None:
        return index, None
    draws = draws.float() if isinstance(draws, torch.Tensor) else torch.from_numpy(np.asarray(draws, np.float32))
    if draws.shape != (len(index), DRAWS):
        raise ValueError(f"draws have shape {tuple(draws.shape)}: give ({len(index)}, {DRAWS}), a row for each image")
    return index, draws


def _chosen(captions: tuple[str, ...], draws: torch.Tensor | None, row: int) -> str:
    drawn = 0.0 if draws is None else float(draws[row, -1])
    return captions[min(int(drawn * len(captions)), len(captions) - 1)]  # a draw may have been rounded to 1


def stream(source: data.Dataset, items: Iterable[tuple], workers: int = 0) -> Iterator[Batch]:
    """The batches of the items in their order, the same whatever the number of worker processes. Chapter: tune.

    items: (index, draws or None) each, read lazily. Takes no number from torch's generator.
    """
    loader = data.DataLoader(source, batch_size=None, sampler=items, num_workers=workers, collate_fn=_as_it_is,
                             pin_memory=torch.cuda.is_available(), worker_init_fn=_alone,
                             generator=torch.Generator())  # fmt: skip
    yield from loader


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _alone(worker: int) -> None:
    cv2.setNumThreads(0)  # a worker is one core; OpenCV's threads do not survive a fork
