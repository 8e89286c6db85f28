"""Test images, texts and scenes as vectors, streamed through a model once and kept on disk.
Chapter: zeroshot.

What is kept lies in runs/evaluate/, under a name made of the model's weights, the data's names and
bytes, and all that stands between the two: image size, normalisation, precision, device, the
libraries' versions and this code.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from rs5m import clip, results, selo
from rs5m.clip import Model, activation
from rs5m.data import datasets
from rs5m.evaluate import localize

LIBRARIES = ("torch", "open_clip_torch", "timm", "transformers", "pillow", "opencv-python-headless")
TEXTS = 2048  # texts between two steps of the bar; a multiple of the batch of clip.encode_texts
THREADS = 16  # decoding threads at most: beyond, Python's lock is what they wait for


class Encoded(NamedTuple):
    """Un-normalised vectors (m, dim) float32 of the readable images, which ones those are, and who
    was left out.
    """

    vectors: np.ndarray
    kept: np.ndarray  # (m,) int, ascending
    skipped: list[str]


# ---------------------------------------------------------------- who the model is, what the data
# are


def weights_digest(net: nn.Module) -> str:
    """SHA-256 over the names, kinds, shapes and numbers of a network's weights, as hex."""
    total = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def identity(model: Model) -> dict:
    """All of a model, its preprocessing and this machine that a vector depends on. Chapter:
    zeroshot.
    """
    return {
        "weights": weights_digest(model.net),
        "architecture": model.name,
        "quick_gelu": activation.uses(
            model.net
        ),  # the same weights under another activation are another model
        "image_size": model.image_size,
        "mean": [float(value) for value in model.mean],
        "std": [float(value) for value in model.std],
        "image_precision": "float32",
        "device": clip.device().type,
        "versions": {name: version(name) for name in LIBRARIES},
    }


def data_digest(images) -> str:
    """SHA-256 over the names and bytes of a set's images (`rs5m.evaluate.testsets.Images`), as hex."""
    total = hashlib.sha256()
    for i, name in enumerate(tqdm(images.names, desc="reading", unit="image", leave=False)):
        content = images.read(i)
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


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
    """Encoded bytes to the square (size, size, 3) uint8 that the network sees, or None where they
    hold no image.
    """
    image = datasets.decode(content)
    if image is None:
        return None
    return clip.crop([image], size)[0].permute(1, 2, 0).numpy()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def batches(
    images, model: Model, batch: int, ahead: int
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """(indices (b,), normalised pixels (b, 3, size, size)) of the readable images, in order.

    The pixels are valid until the next step. All processors decode; `ahead` batches are begun
    before they are asked for. On a GPU that fills the encoder's time; on a CPU the encoder itself
    takes every core, so that working in turns is faster than sharing them, and `ahead` is 0.
    """
    table, workers = lookup(model), min(THREADS, processors())
    buffers = np.empty((ahead + 1, batch, model.image_size, model.image_size, 3), np.float32)

    def load(indices: range, into: np.ndarray) -> list[bool]:
        good = []
        for i, slot in zip(indices, into, strict=True):
            pixels = square(images.read(i), model.image_size)
            good.append(pixels is not None)
            if pixels is not None:
                cv2.LUT(np.ascontiguousarray(pixels), table, slot)
        return good

    with ThreadPoolExecutor(workers) as pool:
        begun = deque()
        for start in [*range(0, len(images.names), batch), *[None] * ahead]:
            if start is not None:
                indices = range(start, min(start + batch, len(images.names)))
                buffer = buffers[start // batch % (ahead + 1)][: len(indices)]
                parts = [
                    pool.submit(load, indices[w::workers], buffer[w::workers])
                    for w in range(workers)
                ]
                begun.append((indices, buffer, parts))
            if len(begun) > ahead or (start is None and begun):
                yield _finished(*begun.popleft())


def _finished(indices: range, buffer: np.ndarray, parts: list) -> tuple[np.ndarray, torch.Tensor]:
    good = np.empty(len(indices), bool)
    for w, part in enumerate(parts):
        good[w :: len(parts)] = part.result()
    pixels = buffer if good.all() else buffer[good]
    return np.asarray(indices)[good], torch.from_numpy(pixels).permute(0, 3, 1, 2)


@torch.inference_mode()
def encode(model: Model, images, name: str = "images", batch: int = 0) -> Encoded:
    """Vectors of a set's images (`rs5m.evaluate.testsets.Images`), decoded, cropped and encoded by
    batch. Chapter: zeroshot.

    The numbers of `rs5m.clip.encode_images` on the decoded images, in float32; a few batches are in
    memory at a time. ValueError where no image is readable.
    """
    batch, vectors, kept = batch or clip.block(), [], []
    ahead = 0 if clip.device().type == "cpu" else 2
    model.net.eval()
    with tqdm(total=len(images.names), desc=name, unit="image") as bar:
        for indices, pixels in batches(images, model, batch, ahead):
            if len(indices):
                vectors.append(
                    clip.encode_pixels(model, pixels.to(clip.device()), exact=True).cpu()
                )
                kept.append(indices)
            bar.update(min(batch, len(images.names) - bar.n))
    if not kept:
        raise ValueError(f"{name}: none of {len(images.names)} images is readable")
    kept = np.concatenate(kept)
    skipped = [images.names[i] for i in np.setdiff1d(np.arange(len(images.names)), kept)]
    return Encoded(torch.cat(vectors).numpy(), kept, skipped)


class Seen(NamedTuple):
    """A scene through a model: windows int (n, 4), their un-normalised vectors (n, dim), the
    scene's size in pixels.
    """

    windows: np.ndarray
    vectors: np.ndarray
    height: int
    width: int


# ---------------------------------------------------------------- kept on disk


class Store:
    """One model's vectors in runs/evaluate/: loaded where this model met these data before, else
    encoded.

    seconds: what encoding took, on this run, by what was encoded; nothing was encoded where it
    stays empty.
    """

    def __init__(self, model: Model):
        self.model, self.identity, self.seconds = model, identity(model), {}

    def kept(self, stage: str, data: object, make: Callable[[Path], None]) -> Path:
        """The folder with the vectors of `data`, which `make` fills if need be."""

        def timed(folder: Path) -> None:
            began = time.perf_counter()
            make(folder)
            self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - began

        inputs = (sorted(self.identity.items()), data)
        return results.artefact(stage, "evaluate", inputs, timed)

    def images(self, images, name: str) -> Encoded:
        """`encode` of a set's images; the skipped ones are counted and named."""

        def make(folder: Path) -> None:
            found = encode(self.model, images, name)
            np.save(folder / "vectors.npy", found.vectors)
            np.save(folder / "kept.npy", found.kept)
            (folder / "skipped.json").write_text(json.dumps(found.skipped, ensure_ascii=False))

        folder = self.kept(f"images-{name}", data_digest(images), make)
        skipped = json.loads((folder / "skipped.json").read_text())
        if skipped:
            print(f"{name}: skipped {len(skipped)} unreadable images: {', '.join(skipped[:10])}")
        return Encoded(np.load(folder / "vectors.npy"), np.load(folder / "kept.npy"), skipped)

    def texts(self, texts: Sequence[str], name: str) -> np.ndarray:
        """Un-normalised vectors (n, dim) of texts, each different one encoded once: equal texts tie
        exactly.
        """
        order = sorted(
            set(texts), key=lambda text: (len(text), text)
        )  # of one length each, as encode_texts wants them

        def make(folder: Path) -> None:
            steps = tqdm(range(0, len(order), TEXTS), desc=f"{name}, {len(order)} texts")
            parts = [clip.encode_texts(self.model, order[i : i + TEXTS]) for i in steps]
            np.save(folder / "vectors.npy", np.concatenate(parts))

        vectors = np.load(self.kept(f"texts-{name}", order, make) / "vectors.npy")
        place = {text: i for i, text in enumerate(order)}
        return vectors[[place[text] for text in texts]]

    def scenes(self, scenes: list, name: str) -> list[Seen]:
        """Every window of every scene (`rs5m.evaluate.testsets.Scene`), encoded once for all
        queries.
        """
        bar = tqdm(scenes, desc=f"{name}, reading", unit="scene", leave=False)
        data = [(scene.name, datasets.fingerprint([scene.read()])) for scene in bar]

        def make(folder: Path) -> None:
            for i, scene in enumerate(tqdm(scenes, desc=name, unit="scene")):
                image = scene.read()
                windows = selo.windows(*image.shape[:2])
                np.save(
                    folder / f"{i}-vectors.npy",
                    localize.window_vectors(self.model, image, windows, quiet=True),
                )
                np.save(folder / f"{i}-windows.npy", windows)
                np.save(folder / f"{i}-size.npy", image.shape[:2])

        folder = self.kept(f"windows-{name}", data, make)
        files = [
            [folder / f"{i}-{part}.npy" for part in ("windows", "vectors", "size")]
            for i in range(len(scenes))
        ]
        return [Seen(np.load(w), np.load(v), *np.load(size).tolist()) for w, v, size in files]
