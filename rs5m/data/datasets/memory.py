"""Decoded sets, whole in memory, or an image at a time."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from rs5m.data import images as pictures
from rs5m.data.datasets.labelled import Classes, Images, classes


class Labelled(NamedTuple):
    """A decoded labelled set: uint8 images (h, w, 3), labels (n,) into `classes`, file names, and
    the files that were skipped.
    """

    name: str
    images: Sequence[np.ndarray]
    labels: np.ndarray
    classes: list[str]
    names: list[str]
    skipped: list[str]


class Pairs(NamedTuple):
    """Decoded images with one or more captions each, and the files that were skipped."""

    name: str
    images: list[np.ndarray]
    captions: list[tuple[str, ...]]
    skipped: list[str]


def decode(content: bytes) -> tuple[np.ndarray | None, str | None]:
    """(RGB pixels (h, w, 3) uint8, None) of an encoded image, or (None, reason), by the rule of
    `rs5m.data.images`.
    """
    image, reason = pictures.read(content, pictures.DECODING)
    return None if image is None else np.asarray(image), reason


def decoded(found: Classes) -> Labelled:
    """All images of a labelled set in memory; prints how many were skipped and which.

    ValueError where no image is readable.
    """
    images, kept, skipped = [], [], {}
    for i, name in enumerate(tqdm(found.images.names, desc=found.name, unit="image")):
        pixels, reason = decode(found.images.read(i))
        if pixels is None:
            skipped[name] = reason
            continue
        images.append(pixels)
        kept.append(i)
    tell_skipped(found.name, skipped)
    if not images:
        raise ValueError(f"{found.name}: no readable image among {len(found.images.names)}")
    names = [PurePosixPath(found.images.names[i]).name for i in kept]
    return Labelled(found.name, images, found.labels[kept], found.classes, names, list(skipped))


class Decoded(Sequence):
    """Images of a set, some of them, decoded each time they are asked for."""

    def __init__(self, images: Images, which: np.ndarray):
        self.images, self.which = images, which

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, i: int) -> np.ndarray:
        return decode(self.images.read(int(self.which[i])))[0]


def on_demand(found: Classes) -> Labelled:
    """A labelled set whose pixels never lie in memory together: read once to learn which images
    can be, then each when it is asked for. Prints and raises as `decoded` does.
    """
    kept, skipped = [], {}
    for i, name in enumerate(tqdm(found.images.names, desc=found.name, unit="image")):
        _, reason = decode(found.images.read(i))
        if reason is None:
            kept.append(i)
        else:
            skipped[name] = reason
    tell_skipped(found.name, skipped)
    if not kept:
        raise ValueError(f"{found.name}: no readable image among {len(found.images.names)}")
    names = [PurePosixPath(found.images.names[i]).name for i in kept]
    images = Decoded(found.images, np.array(kept))
    return Labelled(found.name, images, found.labels[kept], found.classes, names, list(skipped))


def tell_skipped(name: str, skipped: dict[str, str]) -> None:
    """Print how many images a reader could not decode, and of the first ten which and why."""
    if skipped:
        first = [f"{file} ({reason})" for file, reason in list(skipped.items())[:10]]
        print(f"{name}: skipped {len(skipped)} unreadable images: {', '.join(first)}")


def held(images: Sequence[np.ndarray], names: Sequence[str]) -> Images:
    """Pixels in memory (h, w, 3) as image files, without loss."""

    def read(i: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(images[i]).save(stream, "BMP")
        return stream.getvalue()

    return Images(list(names), read)


def eurosat(folder: Path) -> Labelled:
    """EuroSAT RGB: 27,000 images of 10 classes, 64 x 64, all of them test images (official
    evaluation code).
    """
    return decoded(classes("eurosat", folder))


def ucm(folder: Path) -> Labelled:
    """UC Merced Land Use: 2,100 images of 21 classes, 256 x 256."""
    return decoded(classes("ucm", folder))


def subset(data: Labelled, keep: np.ndarray) -> Labelled:
    """The images of a test set where the boolean array `keep` (n,) is true."""
    index = np.flatnonzero(keep)
    images, names = [data.images[i] for i in index], [data.names[i] for i in index]
    return data._replace(images=images, labels=data.labels[index], names=names)


def fingerprint(images: list[np.ndarray], *texts) -> str:
    """SHA-256 over pixels and texts: other data under the same names is other data."""
    total = hashlib.sha256(repr(texts).encode())
    for image in images:
        total.update(repr(image.shape).encode() + np.ascontiguousarray(image).data)
    return total.hexdigest()
