"""Readers of image-text pairs and of labelled test sets, from a folder or straight from the zip.
Chapter: data.

Official layouts only: what a reader downloads is read as it is. A corrupt image is skipped, counted
and named.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from rs5m.paper import class_name

EUROSAT = (
    "2750",
    ("eurosat-rgb", "rs5m_test_data/eurosat-rgb", "."),
    ("eurosat_rgb.zip", "EuroSAT.zip"),
)
UCM = ("UCMerced_LandUse/Images", (".",), ("ucm_q92.zip", "UCMerced_LandUse.zip"))


class Labelled(NamedTuple):
    """A test set: uint8 images (h, w, 3), labels (n,) into `classes`, file names, and the files
    that were skipped.
    """

    name: str
    images: list[np.ndarray]
    labels: np.ndarray
    classes: list[str]
    names: list[str]
    skipped: list[str]


class Pairs(NamedTuple):
    """Images with one or more captions each, and the files that were skipped."""

    name: str
    images: list[np.ndarray]
    captions: list[tuple[str, ...]]
    skipped: list[str]


def decode(data: bytes) -> np.ndarray | None:
    """RGB pixels (h, w, 3) uint8 of an encoded image, or None where the bytes hold no whole image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def members(folder: Path, layout: tuple) -> Iterator[tuple[str, str, bytes]]:
    """(class, file name, bytes) of every image of a layout, classes and names in order, from its
    folder or its zip.

    Raises FileNotFoundError that names what was looked for.
    """
    inside, folders, zips = layout
    for base in folders:
        if (root := folder / base / inside).is_dir():
            for path in sorted(root.glob("*/*")):
                yield path.parent.name, path.name, path.read_bytes()
            return
    for archive in (folder / name for name in zips):
        if archive.is_file():
            yield from _zipped(archive, inside)
            return
    raise FileNotFoundError(
        f"{folder} has neither a folder {folders[0]}/{inside} nor {' nor '.join(zips)}"
    )


def _zipped(path: Path, inside: str) -> Iterator[tuple[str, str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                name
                for name in archive.namelist()
                if name.startswith(f"{inside}/") and name[-1] != "/"
            )
            for name in names:
                yield *name.split("/")[-2:], _read(archive, name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip file: fetch it again") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
    ):  # a damaged member: no bytes decode to no image
        return b""


def labelled(name: str, folder: Path, layout: tuple) -> Labelled:
    """All images of a layout, decoded; prints how many were skipped and which."""
    images, classes, names, skipped = [], [], [], []
    for label, file, data in tqdm(members(folder, layout), desc=name, unit="image"):
        image = decode(data)
        if image is None:
            skipped.append(f"{label}/{file}")
            continue
        images.append(image)
        classes.append(label)
        names.append(file)
    if skipped:
        print(f"{name}: skipped {len(skipped)} unreadable images: {', '.join(skipped[:10])}")
    if not images:
        raise ValueError(f"{name}: no readable image under {folder}")
    ordered = sorted(set(classes))
    return Labelled(
        name, images, np.array([ordered.index(c) for c in classes]), ordered, names, skipped
    )


def eurosat(folder: Path) -> Labelled:
    """EuroSAT RGB: 27,000 images of 10 classes, 64 x 64, all of them test images (official
    evaluation code).
    """
    return labelled("eurosat", folder, EUROSAT)


def ucm(folder: Path) -> Labelled:
    """UC Merced Land Use: 2,100 images of 21 classes, 256 x 256."""
    return labelled("ucm", folder, UCM)


def subset(data: Labelled, keep: np.ndarray) -> Labelled:
    """The images of a test set where the boolean array `keep` (n,) is true."""
    index = np.flatnonzero(keep)
    images, names = [data.images[i] for i in index], [data.names[i] for i in index]
    return data._replace(images=images, labels=data.labels[index], names=names)


def ucm_captions(folder: Path, data: Labelled) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Five captions for each image of `data` and its split ("train", "val", "test") from
    UCM-captions.

    The json calls image (N - 1) % 100 of class (N - 1) // 100, classes in alphabetical order,
    "N.tif".
    """
    path = next(
        (
            p
            for p in (folder / "captions/ucm_captions.json", folder / "ucm_captions.json")
            if p.is_file()
        ),
        None,
    )
    if path is None:
        raise FileNotFoundError(f"{folder} has no captions/ucm_captions.json (UCM-captions)")
    entries = {}
    for entry in json.loads(path.read_text())["images"]:
        number = int(Path(entry["filename"]).stem) - 1
        name = f"{data.classes[number // 100]}{number % 100:02d}"
        entries[name] = (tuple(s["raw"].strip() for s in entry["sentences"]), entry["split"])
    found = [entries[Path(name).stem] for name in data.names]
    return [captions for captions, _ in found], np.array([split for _, split in found])


def fingerprint(images: list[np.ndarray], *texts) -> str:
    """SHA-256 over pixels and texts: other data under the same names is other data."""
    total = hashlib.sha256(repr(texts).encode())
    for image in images:
        total.update(repr(image.shape).encode() + np.ascontiguousarray(image).data)
    return total.hexdigest()


def class_prompt(data_name: str, folder_name: str) -> str:
    """The class name as it stands in prompts: UC Merced's folder names run words together, so they
    are parted.
    """
    return (
        UCM_WORDS.get(folder_name, class_name(folder_name))
        if data_name == "ucm"
        else class_name(folder_name)
    )


UCM_WORDS = {
    "baseballdiamond": "baseball diamond", "denseresidential": "dense residential area", "golfcourse": "golf course",
    "mediumresidential": "medium residential area", "mobilehomepark": "mobile home park", "parkinglot": "parking lot",
    "sparseresidential": "sparse residential area", "storagetanks": "storage tanks", "tenniscourt": "tennis court",
}  # fmt: skip
