"""Encoded images to vectors: decoded, cropped, normalised and through the image tower, batch by
batch. Chapter: zeroshot.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from rs5m import clip
from rs5m.clip import Model
from rs5m.data import images as pictures
from rs5m.data.datasets import Images
from rs5m.device import processors

SHARE = 16  # images that a core of a CPU encodes at once
THREADS = 16  # decoding threads at most: beyond, Python's lock is what they wait for


class Encoded(NamedTuple):
    """Un-normalised vectors (m, dim) float32 of the readable images, which ones those are, and the
    reason of each other one by its name.
    """

    vectors: np.ndarray
    kept: np.ndarray  # (m,) int, ascending
    skipped: dict[str, str]


def lookup(model: Model) -> np.ndarray:
    """What the network reads in place of each of the 256 values, by channel: (256, 1, 3) float32.

    Made by the functions that normalise whole images, so looking up gives their very numbers, ten
    times faster.
    """
    values = torch.arange(256).view(1, 1, 256, 1).expand(1, 3, 256, 1)
    table = clip.normalise_pixels(values.float().div_(255), model)
    return np.ascontiguousarray(table[0, :, :, 0].T.numpy()[:, None])


def square(content: bytes, size: int) -> np.ndarray | None:
    """What a network of `size` pixels sees of an encoded image: uint8 (size, size, 3); None where
    the image cannot be read.
    """
    image, _ = pictures.read(content, pictures.DECODING)
    return None if image is None else clip.square(image, size)


def _load(
    images: Images, table: np.ndarray, indices: range, into: np.ndarray, squash: bool = False
) -> list[str | None]:
    """Fills `into` (b, size, size, 3) with what the network reads of these images; the reason of
    each unreadable one, which leaves its place as it is. squash: of the model.
    """
    reasons = []
    for i, slot in zip(indices, into, strict=True):
        content, gone = images.content(i)
        image, reason = pictures.read(content, pictures.DECODING)
        reasons.append(gone or reason)
        if image is not None:
            cv2.LUT(clip.square(image, slot.shape[0], squash), table, slot)
    return reasons


def _readable(buffer: np.ndarray, reasons: list[str | None]) -> torch.Tensor:
    """Pixels (b, 3, size, size), channels_last, of the images without a reason."""
    good = np.array([reason is None for reason in reasons])
    pixels = buffer if good.all() else buffer[good]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def batches(
    images: Images, model: Model, batch: int, ahead: int, workers: int = 0
) -> Iterator[tuple[torch.Tensor, list[str | None]]]:
    """(normalised pixels (b, 3, size, size) of the readable images, the reason of each image, None
    of a readable one), batch by batch in order.

    The pixels are valid until the next step. All processors decode; `ahead` batches are begun
    before they are asked for, which fills the time of an encoder that is a GPU.

    Args:
        images: names and bytes.
        model: the size and the normalisation are its own.
        batch: images in a batch.
        ahead: batches.
        workers: threads that decode; 0: one for each processor, at most THREADS.
    """
    table, workers = lookup(model), workers or min(THREADS, processors())
    shape = (ahead + 1, batch, model.image_size, model.image_size, 3)
    buffers = np.empty(shape, np.float32)

    def finished(buffer: np.ndarray, parts: list) -> tuple[torch.Tensor, list[str | None]]:
        reasons: list[str | None] = [None] * len(buffer)
        for w, part in enumerate(parts):
            reasons[w::workers] = part.result()
        return _readable(buffer, reasons), reasons

    with ThreadPoolExecutor(workers) as pool:
        begun = deque()
        for number, indices in enumerate(_shares(len(images.names), batch)):
            buffer = buffers[number % (ahead + 1)][: len(indices)]
            shares = [(indices[w::workers], buffer[w::workers]) for w in range(workers)]
            begun.append(
                (buffer, [pool.submit(_load, images, table, *one, model.squash) for one in shares])
            )
            if len(begun) > ahead:
                yield finished(*begun.popleft())
        while begun:
            yield finished(*begun.popleft())


def _shares(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def by_core(
    images: Images, model: Model, batch: int, workers: int = 0, precision: str = "float32"
) -> Iterator[tuple[torch.Tensor, list[str | None]]]:
    """(vectors (b, dim) of the readable images, the reason of each image) of each batch, in order,
    on a CPU: every core decodes a batch and encodes it by itself.

    So no core waits for another, or spins while it waits, as all of them do in one encoder. Args:
    those of `batches`.
    """
    table, cores, side = lookup(model), torch.get_num_threads(), model.image_size
    shares = _shares(len(images.names), batch)
    workers = max(1, min(workers or cores, cores, THREADS, len(shares)))

    def one(indices: range) -> tuple[torch.Tensor, list[str | None]]:
        buffer = np.empty((len(indices), side, side, 3), np.float32)
        reasons = _load(images, table, indices, buffer, model.squash)
        return _vectors(model, _readable(buffer, reasons), precision), reasons

    own = (cores // workers,)  # threads of each worker
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=own) as pool:
            yield from pool.map(one, shares)
    finally:
        torch.set_num_threads(cores)  # the last word holds for threads that begin later


def on_device(
    images: Images, model: Model, batch: int, workers: int = 0, precision: str = "float32"
) -> Iterator[tuple[torch.Tensor, list[str | None]]]:
    """Like `by_core`, on a GPU: the next two batches are decoded while it works. Args: those of
    `by_core`.
    """
    for pixels, reasons in batches(images, model, batch, 2, workers):
        yield _vectors(model, pixels.to(clip.device()), precision).cpu(), reasons


@torch.inference_mode()  # which holds in one thread only
def _vectors(model: Model, pixels: torch.Tensor, precision: str) -> torch.Tensor:
    kind = {"dtype": getattr(torch, precision), "enabled": precision != "float32"}
    with torch.autocast(pixels.device.type, **kind):
        return clip.encode_pixels(model, pixels, exact=True) if len(pixels) else pixels.new_empty(0)


def encode(
    model: Model,
    images: Images,
    name: str = "images",
    batch: int = 0,
    quiet: bool = False,
    workers: int = 0,
    precision: str = "float32",
) -> Encoded:
    """Vectors of a set's images, decoded, cropped and encoded by batch.

    The numbers of `rs5m.clip.encode_images` on the decoded images; a few batches are in
    memory at a time. ValueError where no image is readable.

    Args:
        model: in float32 on every device.
        images: names and bytes.
        name: of the set, for the bar.
        batch: images at once; 0: `SHARE` on each core of a CPU, `rs5m.clip.block` on a GPU.
        quiet: show no bar.
        workers: like that of `batches`; on a CPU at most its threads, which encode as well.
        precision: float32, as in the official evaluation, or another kind for torch.autocast.
    """
    cpu, vectors, reasons = clip.device().type == "cpu", [], []
    batch, passes = (batch or SHARE, by_core) if cpu else (batch or clip.block(), on_device)
    model.net.eval()
    with tqdm(total=len(images.names), desc=name, unit="image", disable=quiet) as bar:
        for found, given in passes(images, model, batch, workers, precision):
            if len(found):
                vectors.append(found)
            reasons += given
            bar.update(len(given))
    skipped = {name: reason for name, reason in zip(images.names, reasons, strict=True) if reason}
    if not vectors:
        why = ", ".join(sorted(set(skipped.values())))
        raise ValueError(f"{name}: none of {len(images.names)} images is readable ({why})")
    kept = np.array([i for i, reason in enumerate(reasons) if reason is None])
    return Encoded(torch.cat(vectors).numpy(), kept, skipped)
