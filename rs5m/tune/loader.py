"""Batches from shards: every pair read at random by its place in the tar, decoded small, turned in
one step.

Chapter: tune. What is known of the official augmentation (its evaluation code's training
transform): RandomResizedCrop to 224 pixels with scale 0.9 to 1.0 and bicubic, RandomHorizontalFlip,
RandomRotation over 0 to 360 degrees. Ours: crop, mirror and rotation are one bilinear sampling of
the decoded image; the corners that a rotation opens show what lies beyond the crop, reflected at
the image's edge, where the official ones are black; area and ratio of the crop are drawn from what
fits into the image, where torchvision draws up to ten times and then takes the middle.
"""

import copy
import hashlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils import data
from tqdm.auto import tqdm

from rs5m import clip
from rs5m.data import datasets, indexed, records
from rs5m.data.shards import local
from rs5m.tune.augment import DRAWS, PUBLISHED, View, cut, decode
from rs5m.web.download import LIMITS
from rs5m.web.limits import Limits

OPEN_FILES = 64


class Batch(NamedTuple):
    """Pairs ready for the device, fewer than were asked for where some are damaged.

    pixels: uint8 (n, 3, size, size). captions: one for each image, chosen by its last draw; the
    first where no draws were given. index: (n,) int64, which pairs of the source. draws: float32
    (n, DRAWS) where the pixels have still to be turned: `warp(pixels, draws, view)`. damaged:
    "shard name (pair i): reason" of the pairs left out.
    """

    pixels: torch.Tensor
    captions: list[str]
    index: np.ndarray
    draws: torch.Tensor | None
    damaged: list[str]
    view: View = PUBLISHED


class Shards(data.Dataset):
    """The pairs of shards, a batch for each item (index, draws or None, view), in any process.

    Damaged pairs are left out and named: those that the index finds in `damaged`, and counted by
    reason in `left_out`; those whose image fails in their batch. Members that belong to no pair are
    named in `others`. Without draws the pixels are `clip.crop`'s; with draws they are turned
    already, as far as the view allows (left out: all of it; None: not at all, so that the draws
    choose captions alone). ValueError for no shard, or shards without a pair.

    Args:
        shards: .tar files, folders or patterns of them, URLs or hf:// addresses (see
            `rs5m.data.shards.local`).
        size: of the squares, in pixels.
        on_device: with draws, give the centred square, which `warp` turns.
        limits: of a download.
    """

    def __init__(self, shards, size: int, on_device: bool = False, limits: Limits = LIMITS):
        self.size, self.on_device = size, on_device
        self.paths = local(shards, limits)
        found = [indexed.index(path) for path in tqdm(self.paths, desc="shards", unit="shard")]
        self.names = [name for one in found for name in one.names]
        self.damaged = [fault for one in found for fault in one.damaged]
        self.left_out = dict(sum((Counter(one.left_out) for one in found), Counter()))
        self.others = records.together(one.others for one in found)
        self._places = np.concatenate([one.places for one in found])
        self._shard = np.repeat(np.arange(len(found)), [len(one.names) for one in found])
        self._digest = hashlib.sha256(b"".join(one.digest for one in found)).hexdigest()
        self._open = {}  # files by shard, opened when first read from
        if not self.names:
            others = " holds" if len(found) == 1 else " and the other shards hold"
            strange = datasets.in_words({why: one.names for why, one in self.others.items()})
            why = "; ".join(self.damaged[:3]) or strange or "it is empty"
            raise ValueError(f"{self.paths[0]}{others} no whole pair ({why})")

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": {}}  # another process opens its own files

    def part(self, index: np.ndarray) -> "Shards":
        """The pairs at these positions alone."""
        made = copy.copy(self)
        made.names = [self.names[i] for i in index]
        made._places, made._shard, made._open = self._places[index], self._shard[index], {}
        said = self._digest.encode() + np.asarray(index, np.int64).tobytes()
        made._digest = hashlib.sha256(said).hexdigest()
        return made

    def fingerprint(self) -> str:
        """SHA-256 over the names, places and captions of all pairs, in order; no image is read."""
        return self._digest

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of a pair."""
        start, length, kind = self._places[i, 2:]
        texts = records.captions(records.TEXTS[kind], self._read(i, start, length))
        if not texts:
            raise ValueError("the shard has changed since it was indexed")
        return texts

    def content(self, i: int) -> bytes:
        """The bytes of a pair's image."""
        return self._read(i, *self._places[i, :2])

    def __getitem__(self, item) -> Batch:
        index, draws, view = _checked(item)
        pixels = np.empty((len(index), 3, self.size, self.size), np.uint8)
        kept, texts, damaged = [], [], []
        for row, i in enumerate(index):
            try:
                self._picture(i, None if draws is None else draws[row], view, pixels[len(kept)])
                texts.append(_chosen(self.captions(i), draws, row))
                kept.append(row)
            except (ValueError, cv2.error) as error:  # older OpenCVs turn no side above 32,767
                reason = str(error).splitlines()[0]
                shard = self.paths[self._shard[i]].name  # a name may be that of many pairs
                damaged.append(f"{shard} {self.names[i]} (pair {i}): {reason}")
        later = draws[kept] if self.on_device and draws is not None and view else None
        whole = torch.from_numpy(pixels[: len(kept)])
        return Batch(whole, texts, index[kept], later, damaged, view or PUBLISHED)

    def _picture(
        self, i: int, draws: torch.Tensor | None, view: View | None, into: np.ndarray
    ) -> None:
        content = self.content(i)
        if draws is None or view is None:
            rgb = cv2.cvtColor(decode(content), cv2.COLOR_BGR2RGB)
            into[:] = clip.crop([rgb], self.size)[0].numpy()
        else:
            drawn = None if self.on_device else draws.tolist()
            cv2.split(cut(content, self.size, drawn, view), list(into[::-1]))

    def _read(self, i: int, start: int, length: int) -> bytes:
        shard = int(self._shard[i])
        try:
            if shard not in self._open:
                if len(self._open) == OPEN_FILES:
                    self._open.pop(next(iter(self._open))).close()
                self._open[shard] = self.paths[shard].open("rb", buffering=0)
            content = os.pread(self._open[shard].fileno(), int(length), int(start))
        except OSError as error:
            raise OSError(
                f"{self.paths[shard]} cannot be read ({error.strerror}): put it back, then run the "
                "same command again"
            ) from error
        if len(content) < length:
            raise ValueError("the shard has become shorter since it was indexed")
        return content


class Memory(data.Dataset):
    """Pairs of images in memory, uint8 (h, w, 3): made into squares once, to be turned by `warp`.

    captions: one tuple for each image. Items and batches like those of `Shards`.
    """

    def __init__(
        self, images: Sequence[np.ndarray], captions: Sequence[tuple[str, ...]], size: int
    ):
        clip.check_images(images)
        words = any(isinstance(texts, str) or not len(texts) for texts in captions)
        if not len(images) or len(images) != len(captions) or words:
            raise ValueError(
                f"{len(images)} images and {len(captions)} captions: give each image a tuple of"
                " captions"
            )
        self.pixels, self._captions = clip.crop(images, size).contiguous(), list(captions)
        self.damaged, self.left_out, self.others = [], {}, {}
        self.names = [str(i) for i in range(len(images))]

    def __len__(self) -> int:
        return len(self.names)

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of a pair."""
        return self._captions[i]

    def fingerprint(self) -> str:
        """SHA-256 over the squares and all captions, in order."""
        total = hashlib.sha256(
            repr((tuple(self.pixels.shape), [tuple(texts) for texts in self._captions])).encode()
        )
        total.update(self.pixels.numpy().data)
        return total.hexdigest()

    def __getitem__(self, item) -> Batch:
        index, draws, view = _checked(item)
        texts = [_chosen(self._captions[i], draws, row) for row, i in enumerate(index)]
        return Batch(
            self.pixels[index], texts, index, draws if view else None, [], view or PUBLISHED
        )


def _checked(item) -> tuple[np.ndarray, torch.Tensor | None, View | None]:
    index, draws, view = (*item, PUBLISHED)[:3]
    index = np.asarray(index, np.int64)
    if draws is None:
        return index, None, view
    if not isinstance(draws, torch.Tensor):
        draws = torch.from_numpy(np.asarray(draws, np.float32))
    draws = draws.float()
    if draws.shape != (len(index), DRAWS):
        raise ValueError(
            f"draws have shape {tuple(draws.shape)}: give ({len(index)}, {DRAWS}), a row for each"
            " image"
        )
    return index, draws, view


def _chosen(captions: tuple[str, ...], draws: torch.Tensor | None, row: int) -> str:
    drawn = 0.0 if draws is None else float(draws[row, -1])
    last = len(captions) - 1  # a draw may have been rounded to 1
    return captions[min(int(drawn * len(captions)), last)]


def stream(source: data.Dataset, items: Iterable[tuple], workers: int = 0) -> Iterator[Batch]:
    """The batches of the items in their order, the same whatever the number of worker processes.

    items: (index, draws or None, view) each, read lazily. Takes no number from torch's generator.
    An error in a worker comes with its own words, without the worker's traceback.
    """
    loader = data.DataLoader(
        source,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_alone,
        generator=torch.Generator(),
    )
    try:
        yield from _begun(loader)
    except Exception as error:
        _, _, told = str(error).partition("Original Traceback")
        if not told:
            raise
        raise type(error)(told.strip().splitlines()[-1].partition(": ")[2]) from error


def _begun(loader: data.DataLoader) -> Iterator[Batch]:
    """The loader's batches, whose workers do not hear Ctrl-C: it ends this process, which ends
    them. In the middle of a fork it would be lost, so that it is heard right after.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears it
        return iter(loader)
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        return iter(loader)
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _alone(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = lambda *_: None  # of its thread that a parent which was stopped has left
    cv2.setNumThreads(0)  # a worker is one core; OpenCV's threads do not survive a fork
