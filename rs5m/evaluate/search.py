"""Search your own images: a folder and a sentence in, the best images and a heat map out. Chapter:
selo.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from rs5m import clip, selo
from rs5m.clip import Model
from rs5m.data import datasets, sheet
from rs5m.data.datasets import ENDINGS, Images, LeftOut
from rs5m.evaluate import features, localize, testsets
from rs5m.vectors import normalise


class Found(NamedTuple):
    """The best files, best first, their cosines (k,) with the query, how many were compared, the
    reason of each file that could not be decoded, and the files that are not images, by reason.
    """

    files: list[Path]
    cosines: np.ndarray
    count: int
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
    return Images(names, lambda i: datasets.content(paths[names[i]])), left_out


def folder(model: Model, folder: Path, query: str, k: int = 10) -> Found:
    """The k images of a folder that fit a sentence best.

    Files are decoded in a stream, unreadable ones are named and skipped; the vectors are kept in
    the user's cache folder, so that the next sentence costs no encoding. ValueError for no image
    file or none that is readable.

    Args:
        model: reads the images and the sentence.
        folder: all images below it.
        query: the sentence.
        k: how many images.
    """
    found, left_out = images(folder)
    name = Path(folder).resolve().name
    if left_out:
        print(f"{name}: left out {datasets.in_words(left_out)}")
    encoded = features.Store(model).images(found, name)
    paths = [Path(folder) / found.names[i] for i in encoded.kept]
    ranked = best(model, encoded.vectors, paths, query, k)
    return ranked._replace(skipped=encoded.skipped, left_out=left_out)


def best(model: Model, vectors: np.ndarray, paths: list[Path], query: str, k: int) -> Found:
    """The k of some files that fit a sentence best. ValueError for vectors of another length than
    the model's.

    Args:
        model: reads the sentence.
        vectors: of the files (n, dim).
        paths: of the files.
        query: the sentence.
        k: how many files.
    """
    text = normalise(clip.encode_texts(model, [query]))[0]
    if vectors.shape[1] != len(text):
        raise ValueError(f"vectors of {vectors.shape[1]} numbers, and the model's have {len(text)}")
    cosines = normalise(vectors) @ text
    order = np.argsort(-cosines, kind="stable")[:k]
    return Found([paths[i] for i in order], cosines[order], len(paths), {}, {})


def write_sheet(found: Found, query: str, out: Path) -> None:
    """The images with their cosines as one HTML page; a file that cannot be read has no picture."""
    cards = []
    for path, cosine in zip(found.files, found.cosines, strict=True):
        picture = None
        if path.is_file() and (image := datasets.decode(datasets.content(path))[0]) is not None:
            picture = sheet.thumbnail(Image.fromarray(image))
        cards.append(sheet.Card(picture, path.name, str(path), f"cosine {cosine:.3f}"))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    group = sheet.Group("best first", found.count, cards)
    sheet.write(Path(out), query, "Images by a sentence, with their cosines.", [], [group])


def heat_map(model: Model, path: Path, query: str) -> tuple[np.ndarray, np.ndarray]:
    """A large image (h, w, 3) from a file and the probability map (h, w) uint8 of a sentence in it.

    ValueError where the file holds no whole image.
    """
    image = testsets.decoded(Path(path))
    windows, cosines = localize.scores(model, image, [query])
    return image, selo.probability_map(windows, cosines[0], *image.shape[:2])
