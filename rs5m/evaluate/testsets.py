"""The official test sets by name: labelled, captioned, large scenes, and in what one differs from
its card.

Readers of folders and zips are `rs5m.data.datasets`. Chapters: data, zeroshot, retrieval, selo.
"""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from rs5m import files, pocket, selo
from rs5m.data import datasets
from rs5m.data.datasets import Captions, Classes, Images
from rs5m.evaluate.cards import compare, digest

TASKS = {  # the official sets first
    "zeroshot": ("eurosat", "resisc45", "aid", "ucm", "pocket"),
    "retrieval": ("rsitmd", "rsicd", "ucm", "pocket"),
    "selo": ("air_slt",),
}
TOPS = {"eurosat-rgb", "RESISC45", "AID", "rsitmd", "rsicd", "AIR-SLT", "UCMerced_LandUse"}
SAMPLE = 1000  # of a labelled set's files, one in so many is compared byte by byte


class Query(NamedTuple):
    """A sentence and the places it speaks of: polygons (k, 2) of x, y in pixels."""

    caption: str
    regions: list[np.ndarray]


class Scene(NamedTuple):
    """A large image, decoded by `read` to uint8 (h, w, 3), and its queries."""

    name: str
    read: Callable[[], np.ndarray]
    queries: list[Query]


def classes(name: str, folder: str | Path) -> Classes:
    """A labelled set by name: eurosat, resisc45, aid, ucm or pocket, whole.

    FileNotFoundError where the folder has none; ValueError for another name and for a class without
    an image.
    """
    if name not in TASKS["zeroshot"]:
        raise ValueError(
            f"unknown labelled set {name!r}: choose one of {', '.join(TASKS['zeroshot'])}"
        )
    if name != "pocket":
        return datasets.classes(name, Path(folder))
    chips, images = _pocket()
    return Classes("pocket", images, chips.labels, chips.classes, {})


def own(folder: str | Path) -> Classes | None:
    """A folder of one's own, with a folder of images for each class, under the folder's name; None
    where it has no such folder, or one of the official layout.

    ValueError for a single class and for one without an image.
    """
    folder = Path(folder).resolve()
    inside = {path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."}
    if inside & TOPS or not datasets.listed(folder, datasets.ENDINGS, below=1)[0]:
        return None
    name = folder.name if folder.name not in datasets.LAYOUTS else f"own {folder.name}"
    found = datasets.of_folder(name, folder, "fill them or move them away")
    if len(found.classes) < 2:
        raise ValueError(
            f"{folder.name} has one folder of images, {found.classes[0]}: zero-shot classification "
            "needs a folder for each of two classes or more"
        )
    return found


def captions(name: str, folder: str | Path) -> Captions:
    """A captioned set by name: rsitmd, rsicd, ucm (test split) or pocket. Errors like those of
    `classes`.
    """
    if name not in TASKS["retrieval"]:
        raise ValueError(
            f"unknown captioned set {name!r}: choose one of {', '.join(TASKS['retrieval'])}"
        )
    if name != "pocket":
        return datasets.captions(name, Path(folder))
    chips, images = _pocket()
    return Captions("pocket", images, pocket.captions(chips), {})


def _pocket() -> tuple[pocket.Chips, Images]:
    chips = pocket.chips("test")
    places = zip(chips.latitude, chips.longitude, strict=True)
    return chips, datasets.held(chips.images, [f"{lat:.1f} {lon:.1f}" for lat, lon in places])


# ---------------------------------------------------------------- large scenes


def scenes(name: str, folder: str | Path) -> list[Scene]:
    """The scenes of AIR-SLT ("air_slt") with their queries, scenes and queries in the order of the
    json.

    ValueError for a json that is damaged or has polygons in (y, x) order, and for an image that is
    missing.
    """
    if name != "air_slt":
        raise ValueError(f"unknown scenes {name!r}: choose air_slt")
    inside = "AIR-SLT/annotations/anno.json"
    if (base := datasets.base_of(Path(folder), inside)) is None:
        raise FileNotFoundError(f"{folder} has no {inside}")
    path, queries = base / inside, {}
    for image, query in _queries(path):
        queries.setdefault(image, []).append(query)
    if not queries:
        raise ValueError(f"{path} is damaged (it has no queries): fetch it again")
    images = base / "AIR-SLT/imgs"
    if missing := [image for image in queries if not (images / image).is_file()]:
        raise ValueError(
            f"{images} lacks {len(missing)} of {len(queries)} images: {', '.join(missing[:10])}"
        )
    for image, asked in queries.items():
        _check_axes(images / image, asked)
    return [
        Scene(image, partial(decoded, images / image), asked) for image, asked in queries.items()
    ]


def _queries(path: Path) -> Iterator[tuple[str, Query]]:
    content = files.content(path)
    try:
        for entry in json.loads(content):  # of bytes: any Unicode, with its mark or without
            regions = [np.asarray(points, float) for points in entry["points"]]
            if not regions or not all(map(_is_polygon, regions)):
                raise ValueError("polygons must be lists of [x, y]")
            yield str(entry["jpg_name"]), Query(entry["caption"].strip(), regions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from error


def _is_polygon(points: np.ndarray) -> bool:
    return points.ndim == 2 and points.shape[1] == 2 and bool(np.isfinite(points).all())


def _check_axes(path: Path, queries: list[Query]) -> None:
    if (size := _size(files.content(path))) is None:
        raise ValueError(f"{path} is not a readable image: fetch it again")
    width, height = size
    for query in queries:
        if selo.swapped(query.regions, height, width):
            raise ValueError(
                f"{path.name}: the polygons of {query.caption!r} leave the image of {width} x "
                f"{height} pixels, and would fit as [y, x]: give [x, y]"
            )


def decoded(path: Path) -> np.ndarray:
    """The pixels (h, w, 3) uint8 of an image file; ValueError, with the reason, where it holds no
    whole image.
    """
    image, reason = datasets.decode(path.read_bytes())
    if image is None:
        raise ValueError(
            f"{path} holds no whole image ({reason}): open it in a viewer, or fetch it again"
        )
    return image


# ---------------------------------------------------------------- cards


def differences(found: Classes | Captions | list[Scene]) -> list[str]:
    """In what a set differs from its card, as sentences; [] where it is the published set."""
    content = content_of(found)
    if isinstance(found, list):
        queries = sum(len(scene.queries) for scene in found)
        names = [scene.name for scene in found]
        return compare("air_slt", names, queries=queries, content=content)
    names = found.images.names
    size = _size(found.images.content(0)[0]) if names else None
    if isinstance(found, Classes):
        return compare(found.name, names, size=size, classes=found.classes, content=content)
    name = "ucm_captions" if found.name == "ucm" else found.name
    count = sum(map(len, found.captions))
    return compare(name, names, size=size, captions=count, content=content)


def content_of(found: Classes | Captions | list[Scene]) -> dict[str, str]:
    """Digests of what a set holds, by the keys of `rs5m.evaluate.cards.CONTENT`."""
    if isinstance(found, list):
        asked = [
            (scene.name, query.caption, [region.tolist() for region in query.regions])
            for scene in found
            for query in scene.queries
        ]
        return {"queries_sha256": digest(sorted(asked))}
    if isinstance(found, Captions):
        texts = zip(map(_stem, found.images.names), found.captions, strict=True)
        stripped = sorted((stem, [text.strip() for text in group]) for stem, group in texts)
        return {"captions_sha256": digest(stripped)}
    order = sorted(range(len(found.images.names)), key=lambda i: _stem(found.images.names[i]))
    return {"sample_sha256": digest(found.images.content(i)[0] for i in order[::SAMPLE])}


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _size(content: bytes) -> tuple[int, int] | None:
    """Width and height by the header alone."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
