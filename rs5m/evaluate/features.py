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


def batches(
    images: Images, model: Model, batch: int, ahead: int
) -> Iterator[tuple[torch.Tensor, list[str | None]]]:
    """(normalised pixels (b, 3, size, size) of the readable images, the reason of each image, None
    of a readable one), batch by batch in order.

    The pixels are valid until the next step. All processors decode; `ahead` batches are begun
    before they are asked for. On a GPU that fills the encoder's time; on a CPU the encoder itself
    takes every core, so that working in turns is faster than sharing them, and `ahead` is 0.

    Args:
        images: names and bytes.
        model: the size and the normalisation are its own.
        batch: images in a batch.
        ahead: batches.
    """
    table, workers = lookup(model), min(THREADS, processors())
    shape = (ahead + 1, batch, model.image_size, model.image_size, 3)
    buffers = np.empty(shape, np.float32)

    def load(indices: range, into: np.ndarray) -> list[str | None]:
        reasons = []
        for i, slot in zip(indices, into, strict=True):
            image, reason = pictures.read(images.read(i), pictures.DECODING)
            reasons.append(reason)
            if image is not None:
                cv2.LUT(clip.square(image, model.image_size), table, slot)
        return reasons

    with ThreadPoolExecutor(workers) as pool:
        begun = deque()
        for number, start in enumerate(range(0, len(images.names), batch)):
            indices = range(start, min(start + batch, len(images.names)))
            buffer = buffers[number % (ahead + 1)][: len(indices)]
            shares = [(indices[w::workers], buffer[w::workers]) for w in range(workers)]
            begun.append((buffer, [pool.submit(load, *share) for share in shares]))
            if len(begun) > ahead:
                yield _finished(*begun.popleft())
        while begun:
            yield _finished(*begun.popleft())


def _finished(buffer: np.ndarray, parts: list) -> tuple[torch.Tensor, list[str | None]]:
    reasons: list[str | None] = [None] * len(buffer)
    for w, part in enumerate(parts):
        reasons[w :: len(parts)] = part.result()
    good = np.array([reason is None for reason in reasons])
    pixels = buffer if good.all() else buffer[good]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), reasons


@torch.inference_mode()
def encode(
    model: Model, images: Images, name: str = "images", batch: int = 0, quiet: bool = False
) -> Encoded:
    """Vectors of a set's images, decoded, cropped and encoded by batch.

    The numbers of `rs5m.clip.encode_images` on the decoded images, in float32; a few batches are in
    memory at a time. ValueError where no image is readable.

    Args:
        model: in float32 on every device.
        images: names and bytes.
        name: of the set, for the bar.
        batch: images at once; 0: `rs5m.clip.block`.
        quiet: show no bar.
    """
    batch, vectors, reasons = batch or clip.block(), [], []
    ahead = 0 if clip.device().type == "cpu" else 2
    model.net.eval()
    with tqdm(total=len(images.names), desc=name, unit="image", disable=quiet) as bar:
        for pixels, given in batches(images, model, batch, ahead):
            if len(pixels):
                pixels = pixels.to(clip.device())
                vectors.append(clip.encode_pixels(model, pixels, exact=True).cpu())
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
    """

    def __init__(
        self, model: Model | Callable[[], Model], key: object = None, room: str = "evaluate"
    ):
        self.make_model = model if callable(model) else lambda: model
        self.identity = {} if key else identity(model)
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
            found = encode(self.make_model(), images, name)
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
