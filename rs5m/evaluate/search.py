"""Search your own images: a folder and a sentence in, the best images and a heat map out. Chapter:
selo.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rs5m import clip, selo, zeroshot
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.evaluate import features, localize
from rs5m.evaluate.testsets import Images

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")


class Found(NamedTuple):
    """The best files, best first, their cosines (k,) with the query, and the files that could not
    be read.
    """

    files: list[Path]
    cosines: np.ndarray
    skipped: list[str]


def images(folder: Path) -> Images:
    """The image files under a folder, by their suffixes, in order of their names; read when asked
    for.

    FileNotFoundError where there is no such folder, ValueError where it holds no image file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name one that holds images")
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not paths:
        raise ValueError(
            f"{folder} holds no image: put {', '.join(SUFFIXES)} files into it or its subfolders"
        )
    return Images(
        [path.relative_to(folder).as_posix() for path in paths], lambda i: paths[i].read_bytes()
    )


def folder(model: Model, folder: Path, query: str, k: int = 10) -> Found:
    """The k images of a folder that fit a sentence best. Chapter: selo.

    Files are decoded in a stream, unreadable ones are named and skipped; the vectors are kept in
    runs/evaluate/, so that the next sentence costs no encoding. ValueError for no image file or
    none that is readable.
    """
    found = images(folder)
    encoded = features.Store(model).images(found, Path(folder).resolve().name)
    cosines = (
        zeroshot.normalise(encoded.vectors)
        @ zeroshot.normalise(clip.encode_texts(model, [query]))[0]
    )
    best = np.argsort(-cosines, kind="stable")[:k]
    return Found(
        [Path(folder) / found.names[encoded.kept[i]] for i in best], cosines[best], encoded.skipped
    )


def heat_map(model: Model, path: Path, query: str) -> tuple[np.ndarray, np.ndarray]:
    """A large image (h, w, 3) from a file and the probability map (h, w) uint8 of a sentence in it.
    Chapter: selo.

    ValueError where the file holds no whole image.
    """
    image = datasets.decode(Path(path).read_bytes())
    if image is None:
        raise ValueError(f"{path} holds no whole image: open it in a viewer, or fetch it again")
    windows, cosines = localize.scores(model, image, [query])
    return image, selo.probability_map(windows, cosines[0], *image.shape[:2])
