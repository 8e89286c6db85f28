"""Test images and texts as vectors, streamed through a model once and kept on disk. Chapter:
zeroshot.

What a command keeps lies in runs/evaluate/ of the user's cache folder, under a name made of the
model's weights, the data's names and bytes, and all that stands between the two: image size,
normalisation, precision, device, the libraries' versions and this code. The book keeps its own in
runs/<scale>/, where the name of a tuned model stands for its weights.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from rs5m import clip, results
from rs5m.clip import Model, activation
from rs5m.data import datasets
from rs5m.data.datasets import Images
from rs5m.evaluate.encoding import Encoded, encode, square  # noqa: F401  (asked for here)

LIBRARIES = ("torch", "open_clip_torch", "timm", "transformers", "pillow", "opencv-python-headless")
TEXTS = 2048  # texts between two steps of the bar; a multiple of the batch of clip.encode_texts


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
        "squash": model.squash,
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
        content, _ = images.content(i)
        total.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        total.update(content)
    return total.hexdigest()


def texts_digest(texts: Sequence[str]) -> str:
    """SHA-256 over texts in their order, as hex."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def cut(model: Model, texts: Sequence[str]) -> int:
    """How many texts have more tokens than the text tower reads; what is beyond is left out."""
    tokenizer = model.tokenizer
    length = getattr(tokenizer, "context_length", 0)
    long = [text for text in texts if length and len(text) > length - 2]  # a token is a letter, too
    if hasattr(tokenizer, "encode"):  # open_clip's own, less the two marks
        return sum(len(tokenizer.encode(text)) + 2 > length for text in long)
    inner = getattr(tokenizer, "tokenizer", None)  # of transformers
    return sum(len(inner(text)["input_ids"]) > length for text in long) if inner else 0


# ---------------------------------------------------------------- kept on disk


class _NotKept(Exception):
    """Carries what was encoded out of `Store.kept`."""


class Store:
    """One model's vectors in runs/<room>/: loaded where this model met these data before, else
    encoded.

    seconds: what encoding took, on this run, by what was encoded; nothing was encoded where it
    stays empty. digests: SHA-256 of what was asked for, images by names and bytes, texts in order.
    cut: how many texts were too long for the text tower, by what was encoded.

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
        self.seconds, self.digests, self.cut = {}, {}, {}

    def kept(self, stage: str, data: object, make: Callable[[Path], None]) -> Path:
        """The folder with the vectors of `data`, which `make` fills if need be."""

        @wraps(make)  # the folder's name depends on the code of the module that makes it
        def timed(folder: Path) -> None:
            began = time.perf_counter()
            try:
                make(folder)
            finally:
                self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - began

        return results.artefact(stage, self.room, (self.key, data), timed)

    def images(self, images: Images, name: str) -> Encoded:
        """`encode` of a set's images; the skipped ones are counted and named. Where some could not
        be read, nothing is kept: the next run may find them.
        """

        def make(folder: Path) -> None:
            found = encode(self.make_model(), images, name, **self.how)
            if any(reason.startswith(datasets.UNREAD) for reason in found.skipped.values()):
                raise _NotKept(found)  # and the folder is neither left nor said to be
            np.save(folder / "vectors.npy", found.vectors)
            np.save(folder / "kept.npy", found.kept)
            (folder / "skipped.json").write_text(json.dumps(found.skipped, ensure_ascii=False))

        self.digests[f"images-{name}"] = digest = data_digest(images)
        try:
            folder = self.kept(f"images-{name}", digest, make)
        except _NotKept as left:
            (found,) = left.args
        else:
            skipped = json.loads((folder / "skipped.json").read_text())
            found = Encoded(np.load(folder / "vectors.npy"), np.load(folder / "kept.npy"), skipped)
        datasets.tell_skipped(name, found.skipped)
        return found

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
            (folder / "cut.json").write_text(json.dumps(cut(model, order)))

        folder = self.kept(f"texts-{name}", order, make)
        vectors = np.load(folder / "vectors.npy")
        if count := json.loads((folder / "cut.json").read_text()):
            self.cut[name] = count
            print(f"{name}: {count} of {len(order)} texts are longer than the text tower reads")
        place = {text: i for i, text in enumerate(order)}
        return vectors[[place[text] for text in texts]]
