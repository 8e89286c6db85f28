"""Test images and texts as vectors, streamed through a model once and kept on disk. Chapter:
zeroshot.

What the command keeps lies in runs/evaluate/, under a name made of the model's weights, the data's
names and bytes, and all that stands between the two: image size, normalisation, precision, device,
the libraries' versions and this code. The book keeps its own in runs/<scale>/, where the name of a
tuned model stands for its weights.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from rs5m import clip, results
from rs5m.clip import Model, activation
from rs5m.data import datasets
from rs5m.data import images as pictures
from rs5m.data.datasets import Images
from rs5m.device import processors

LIBRARIES = ("torch", "open_clip_torch", "timm", "transformers", "pillow", "opencv-python-headless")
TEXTS = 2048  # texts between two steps of the bar; a multiple of the batch of clip.encode_texts
SHARE = 16  # images that a core of a CPU encodes at once
THREADS = 16  # decoding threads at most: beyond, Python's lock is what they wait for


class Encoded(NamedTuple):
    """Un-normalised vectors (m, dim) float32 of the readable images, which ones those are, and the
    reason of each other one by its name.
    """

    vectors: np.ndarray
    kept: np.ndarray  # (m,) int, ascending
    skipped: dict[str, str]


# ---------------------------------------------------------------- the model and the data


def weights_digest(net: nn.Module) -> str:
    """SHA-256 over the names, kinds, shapes and numbers of a network's weights, as hex."""
    total = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def identity(model: Model) -> dict:
    """All of a model, its preprocessing and this machine that a vector depends on."""
    return {
        "weights": weights_digest(model.net),
        "architecture": model.name,
        # the same weights under another activation are another model
        "quick_gelu": activation.uses(model.net),
        "image_size": model.image_size,
        "mean": [float(value) for value in model.mean],
        "std": [float(value) for value in model.std],
        "image_precision": "float32",
        "device": clip.device().type,
        "versions": {name: version(name) for name in LIBRARIES},
    }


def data_digest(images: Images) -> str:
    """SHA-256 over the names and bytes of a set's images, as hex."""
    total = hashlib.sha256()
    for i, name in enumerate(tqdm(images.names, desc="reading", unit="image", leave=False)):
        content = images.read(i)
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def texts_digest(texts: Sequence[str]) -> str:
    """SHA-256 over texts in their order, as hex."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


# ---------------------------------------------------------------- pixels


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


def _load(images: Images, table: np.ndarray, indices: range, into: np.ndarray) -> list[str | None]:
    """Fills `into` (b, size, size, 3) with what the network reads of these images; the reason of
    each unreadable one, which leaves its place as it is.
    """
    reasons = []
    for i, slot in zip(indices, into, strict=True):
        image, reason = pictures.read(images.read(i), pictures.DECODING)
        reasons.append(reason)
        if image is not None:
            cv2.LUT(clip.square(image, slot.shape[0]), table, slot)
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
            begun.append((buffer, [pool.submit(_load, images, table, *one) for one in shares]))
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
        reasons = _load(images, table, indices, buffer)
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
    """Like `by_core`, on a GPU: the next two batches are decoded while it works."""
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


# ---------------------------------------------------------------- kept on disk


class Store:
    """One model's vectors in runs/<room>/: loaded where this model met these data before, else
    encoded.

    seconds: what encoding took, on this run, by what was encoded; nothing was encoded where it
    stays empty. digests: SHA-256 of what was asked for, images by names and bytes, texts in order.

    Args:
        model: a model, or what makes it when something must be encoded.
        key: what stands for the model; default: its `identity`.
        room: the folder's name in runs/.
        how: keywords for `encode`: batch, workers, precision.
    """

    def __init__(
        self,
        model: Model | Callable[[], Model],
        key: object = None,
        room: str = "evaluate",
        how: dict | None = None,
    ):
        self.make_model = model if callable(model) else lambda: model
        self.how, self.identity = how or {}, {} if key else identity(model)
        if "precision" in self.how:
            self.identity["image_precision"] = self.how["precision"]
        self.key, self.room = key or sorted(self.identity.items()), room
        self.seconds, self.digests = {}, {}

    def kept(self, stage: str, data: object, make: Callable[[Path], None]) -> Path:
        """The folder with the vectors of `data`, which `make` fills if need be."""

        @wraps(make)  # the folder's name depends on the code of the module that makes it
        def timed(folder: Path) -> None:
            began = time.perf_counter()
            make(folder)
            self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - began

        return results.artefact(stage, self.room, (self.key, data), timed)

    def images(self, images: Images, name: str) -> Encoded:
        """`encode` of a set's images; the skipped ones are counted and named."""

        def make(folder: Path) -> None:
            found = encode(self.make_model(), images, name, **self.how)
            np.save(folder / "vectors.npy", found.vectors)
            np.save(folder / "kept.npy", found.kept)
            (folder / "skipped.json").write_text(json.dumps(found.skipped, ensure_ascii=False))

        self.digests[f"images-{name}"] = digest = data_digest(images)
        folder = self.kept(f"images-{name}", digest, make)
        skipped = json.loads((folder / "skipped.json").read_text())
        datasets.tell_skipped(name, skipped)
        return Encoded(np.load(folder / "vectors.npy"), np.load(folder / "kept.npy"), skipped)

    def texts(self, texts: Sequence[str], name: str) -> np.ndarray:
        """Un-normalised vectors (n, dim) of texts, each different one encoded once: equal texts tie
        exactly.
        """
        self.digests[f"texts-{name}"] = texts_digest(texts)
        # of one length each, as encode_texts wants them
        order = sorted(set(texts), key=lambda text: (len(text), text))

        def make(folder: Path) -> None:
            model = self.make_model()
            steps = tqdm(range(0, len(order), TEXTS), desc=f"{name}, {len(order)} texts")
            parts = [clip.encode_texts(model, order[i : i + TEXTS]) for i in steps]
            np.save(folder / "vectors.npy", np.concatenate(parts))

        vectors = np.load(self.kept(f"texts-{name}", order, make) / "vectors.npy")
        place = {text: i for i, text in enumerate(order)}
        return vectors[[place[text] for text in texts]]
