"""Search your own images: a folder and a sentence in, the best images and a heat map out. Chapter:
selo.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rs5m import clip, selo
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.data.datasets import Images, LeftOut
from rs5m.evaluate import features, localize, testsets
from rs5m.vectors import normalise

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2")


class Found(NamedTuple):
    """The best files, best first, their cosines (k,) with the query, the reason of each file that
    could not be decoded, and the files that are not images, by reason.
    """

    files: list[Path]
    cosines: np.ndarray
    skipped: dict[str, str]
    left_out: LeftOut


def images(folder: Path) -> tuple[Images, LeftOut]:
    """The image files under a folder, by their endings, in order of their names, read on demand;
    and the other files by reason.

    FileNotFoundError for a missing folder, ValueError for one without image files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: name one that holds images")
    paths, left_out = datasets.listed(folder, ENDINGS)
    if not paths:
        raise ValueError(
            f"{folder} holds no image: put {', '.join(ENDINGS)} files into it or its subfolders"
        )
    names = list(paths)
    return Images(names, lambda i: paths[names[i]].read_bytes()), left_out


def folder(model: Model, folder: Path, query: str, k: int = 10) -> Found:
    """The k images of a folder that fit a sentence best.

    Files are decoded in a stream, unreadable ones are named and skipped; the vectors are kept in
    runs/evaluate/, so that the next sentence costs no encoding. ValueError for no image file or
    none that is readable.
    """
    found, left_out = images(folder)
    name = Path(folder).resolve().name
    if left_out:
        print(f"{name}: left out {datasets.in_words(left_out)}")
    encoded = features.Store(model).images(found, name)
    text = normalise(clip.encode_texts(model, [query]))[0]
    cosines = normalise(encoded.vectors) @ text
    best = np.argsort(-cosines, kind="stable")[:k]
    paths = [Path(folder) / found.names[encoded.kept[i]] for i in best]
    return Found(paths, cosines[best], encoded.skipped, left_out)


def heat_map(model: Model, path: Path, query: str) -> tuple[np.ndarray, np.ndarray]:
    """A large image (h, w, 3) from a file and the probability map (h, w) uint8 of a sentence in it.

    ValueError where the file holds no whole image.
    """
    image = testsets.decoded(Path(path))
    windows, cosines = localize.scores(model, image, [query])
    return image, selo.probability_map(windows, cosines[0], *image.shape[:2])
