"""Readers of the official test folder: names first, bytes on demand, so that 10 GB of pixels never
lie in memory.

Layouts as published (`rs5m_test_data/` or the folder above it), EuroSAT's and UC Merced's zips too.
An image that is corrupt is found by who decodes it (`rs5m.evaluate.features`); here only files
count. Chapters: data, zeroshot, retrieval, selo.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import Image

from rs5m import pocket, selo
from rs5m.data import datasets
from rs5m.evaluate.cards import card, cards, compare

__all__ = ["TASKS", "captions", "card", "cards", "classes", "differences", "scenes"]

TASKS = {  # the official sets first
    "zeroshot": ("eurosat", "resisc45", "aid", "ucm", "pocket"),
    "retrieval": ("rsitmd", "rsicd", "ucm", "pocket"),
    "selo": ("air_slt",),
}
LAYOUTS = {
    "eurosat": datasets.EUROSAT,
    "resisc45": ("RESISC45", (".", "rs5m_test_data"), ()),
    "aid": ("AID", (".", "rs5m_test_data"), ()),
    "ucm": datasets.UCM,
}
CSV = {  # table, images, encodings in the order in which they are tried
    "rsitmd": ("rsitmd/rsitmd_test.csv", "rsitmd/images", ("UTF-8",)),
    "rsicd": ("rsicd/rsicd_test.csv", "rsicd/RSICD_images", ("UTF-8", "gb18030")),
}
LONGEST = (
    2**16
)  # characters of a caption; a quotation mark that nobody closed makes one of the whole rest
ENDINGS = {
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
}  # the official loader's


class Images(NamedTuple):
    """Image files: their names, and the bytes of the i-th. Reading is safe from several threads."""

    names: list[str]
    read: Callable[[int], bytes]


class Classes(NamedTuple):
    """A labelled test set: labels int (n,) into `classes`, names of the form Class/file."""

    name: str
    images: Images
    labels: np.ndarray
    classes: list[str]


class Captions(NamedTuple):
    """A captioned test set, images by name, captions in the csv's order; left_out: named there, not
    in the folder.
    """

    name: str
    images: Images
    captions: list[tuple[str, ...]]
    left_out: list[str]


class Query(NamedTuple):
    """A sentence and the places it speaks of: polygons (k, 2) of x, y in pixels."""

    caption: str
    regions: list[np.ndarray]


class Scene(NamedTuple):
    """A large image, decoded by `read` to uint8 (h, w, 3), and its queries."""

    name: str
    read: Callable[[], np.ndarray]
    queries: list[Query]


def _base(folder: Path, inside: str) -> Path | None:
    """Where a path of the official folder lies, in the folder or in its rs5m_test_data."""
    return next(
        (base for base in (folder, folder / "rs5m_test_data") if (base / inside).exists()), None
    )


# ---------------------------------------------------------------- labelled images


def classes(name: str, folder: str | Path) -> Classes:
    """A labelled set by name: eurosat, resisc45, aid, ucm or pocket, whole.

    FileNotFoundError where the folder has none; ValueError for another name and for a class without
    an image.
    """
    if name == "pocket":
        return _pocket_classes()
    if name not in LAYOUTS:
        raise ValueError(
            f"unknown labelled set {name!r}: choose one of {', '.join(TASKS['zeroshot'])}"
        )
    names, read = _members(name, Path(folder))
    found = sorted({path.split("/")[0] for path in names})
    labels = np.array([found.index(path.split("/")[0]) for path in names])
    return Classes(name, Images(names, read), labels, found)


def _members(name: str, folder: Path) -> tuple[list[str], Callable[[int], bytes]]:
    inside, bases, zips = LAYOUTS[name]
    for base in bases:
        if (root := folder / base / inside).is_dir():
            folders = [
                path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "."
            ]
            held = {
                folder.name: sorted(p for p in folder.iterdir() if _is_image(p.name))
                for folder in folders
            }
            if empty := [label for label, found in held.items() if not found]:
                raise ValueError(
                    f"{root} has class folders without an image: {', '.join(empty)}; fetch {name} again"
                )
            if not (paths := [path for found in held.values() for path in found]):
                raise ValueError(f"{root} has no class folder with images: fetch {name} again")
            return [f"{path.parent.name}/{path.name}" for path in paths], _files(paths)
    for archive in (folder / zipped for zipped in zips):
        if archive.is_file():
            return _zipped(archive, inside)
    where = " nor ".join([f"a folder {inside}", *zips])
    raise FileNotFoundError(
        f"{folder} has neither {where}" if zips else f"{folder} has no folder {inside}"
    )


def _is_image(file: str) -> bool:
    """By its ending, as the official loader does it; what a system adds (.DS_Store, Thumbs.db,
    ._x.jpg) is none.
    """
    return file[0] != "." and PurePosixPath(file).suffix.lower() in ENDINGS


def _files(paths: list[Path]) -> Callable[[int], bytes]:
    return lambda i: paths[i].read_bytes()


def _zipped(path: Path, inside: str) -> tuple[list[str], Callable[[int], bytes]]:
    try:
        archive, lock = zipfile.ZipFile(path), Lock()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip file: fetch it again") from error
    within = [name for name in archive.namelist() if name.startswith(f"{inside}/")]
    members = sorted(name for name in within if _is_image(name.rpartition("/")[2] or "."))
    if not members:
        raise ValueError(f"{path} has no images under {inside}/: fetch it again")

    def read(i: int) -> bytes:
        with lock:
            return datasets._read(archive, members[i])

    return ["/".join(name.split("/")[-2:]) for name in members], read


def _encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _pocket() -> tuple[pocket.Chips, Images]:
    chips = pocket.chips("test")
    names = [
        f"{lat:.1f} {lon:.1f}" for lat, lon in zip(chips.latitude, chips.longitude, strict=True)
    ]
    return chips, Images(names, lambda i: _encoded(chips.images[i]))


def _pocket_classes() -> Classes:
    chips, images = _pocket()
    return Classes("pocket", images, chips.labels, chips.classes)


# ---------------------------------------------------------------- captioned images


def captions(name: str, folder: str | Path) -> Captions:
    """A captioned set by name: rsitmd, rsicd, ucm (test split) or pocket. Errors as of `classes`.

    The official order: images sorted by name, each with its captions as the csv has them.
    """
    if name == "pocket":
        chips, images = _pocket()
        return Captions("pocket", images, pocket.captions(chips), [])
    if name == "ucm":
        return _ucm_captions(Path(folder))
    if name not in CSV:
        raise ValueError(
            f"unknown captioned set {name!r}: choose one of {', '.join(TASKS['retrieval'])}"
        )
    table, images, encodings = CSV[name]
    if (base := _base(Path(folder), table)) is None:
        raise FileNotFoundError(f"{folder} has no {table}")
    rows = _rows(base / table, encodings)
    there = {name: (base / images / name).is_file() for name in rows}
    if not any(there.values()):
        raise ValueError(
            f"{base / images} holds none of the {len(rows)} images that {table} names: put them there"
        )
    kept = sorted(name for name, found in there.items() if found)
    left_out = sorted(name for name, found in there.items() if not found)
    if left_out:
        print(
            f"{name}: {len(left_out)} images of {table} are missing and left out: {', '.join(left_out[:10])}"
        )
    _tell_letters(table, rows)
    paths = [base / images / name for name in kept]
    return Captions(
        name, Images(kept, _files(paths)), [tuple(rows[name]) for name in kept], left_out
    )


def text_of(path: Path, encodings: tuple[str, ...]) -> str:
    """A csv's text, by the first encoding that its bytes are valid in; ValueError where none is.

    RSITMD is published in UTF-8, RSICD in gb18030. UTF-8 goes first: gb18030 takes almost any bytes
    and would read UTF-8's as other letters. The reverse is rare: a text whose only foreign letters
    are few Chinese ones (C2 A3).
    """
    content = path.read_bytes()
    for encoding in encodings:
        try:
            return content.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
        except UnicodeDecodeError:
            continue
    if len(encodings) == 1:
        raise ValueError(f"{path} is not {encodings[0]}: save it as that")
    raise ValueError(f"{path} is neither {' nor '.join(encodings)}: save it as one of them")


def _tell_letters(table: str, rows: dict[str, list[str]]) -> None:
    """Say it where English captions have Chinese characters: so look other encodings when read as
    gb18030.
    """
    every = [title for titles in rows.values() for title in titles]
    if odd := [title for title in every if re.search("[\u3400-\u9fff]", title)]:
        print(
            f"{len(odd)} of {len(every)} captions of {table} have Chinese characters, the first is {odd[0]!r}: "
            "look whether the file is in the encoding it was published in"
        )


def _rows(path: Path, encodings: tuple[str, ...]) -> dict[str, list[str]]:
    """{image: captions} of a csv with the columns filename and title."""
    reader = csv.DictReader(io.StringIO(text_of(path, encodings), newline=""))
    try:
        return _captions_of(reader, path)
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.reader.line_num}: {error}; fetch it again"
        ) from error


def _captions_of(reader: csv.DictReader, path: Path) -> dict[str, list[str]]:
    columns = reader.fieldnames or []
    if missing := {"filename", "title"} - set(columns):
        raise ValueError(
            f"{path} lacks the columns {', '.join(sorted(missing))}: it has {', '.join(columns) or 'none'}"
        )
    found = {}
    for row in reader:
        if not (row["filename"] and row["title"]):
            raise ValueError(f"{path}, line {reader.line_num}: a row needs a filename and a title")
        if len(row["title"]) > LONGEST:  # other packages lift the csv module's own limit
            raise ValueError(
                f"{path}, line {reader.line_num}: field larger than {LONGEST}; fetch it again"
            )
        found.setdefault(row["filename"], []).append(row["title"])
    if not found:
        raise ValueError(f"{path} has no rows: fetch it again")
    return found


def _ucm_captions(folder: Path) -> Captions:
    data = classes("ucm", folder)
    names = [Path(name).name for name in data.images.names]
    try:
        texts, split = datasets.ucm_captions(
            folder, datasets.Labelled("ucm", [], data.labels, data.classes, names, [])
        )
    except (
        ValueError,
        LookupError,
        TypeError,
    ) as error:  # it finds an image by its class's place among all 21
        raise ValueError(
            f"{folder}: ucm_captions.json and the images of UC Merced do not fit, or one is not whole: "
            "fetch both again"
        ) from error
    index = np.flatnonzero(split == "test")
    images = Images(
        [data.images.names[i] for i in index], lambda i: data.images.read(int(index[i]))
    )
    return Captions("ucm", images, [texts[i] for i in index], [])


# ---------------------------------------------------------------- large scenes


def scenes(name: str, folder: str | Path) -> list[Scene]:
    """The scenes of AIR-SLT ("air_slt") with their queries, scenes and queries in the order of the
    json.

    ValueError for a json that is damaged or has polygons in (y, x) order, and for an image that is
    missing.
    """
    if name != "air_slt":
        raise ValueError(f"unknown scenes {name!r}: choose air_slt")
    if (base := _base(Path(folder), "AIR-SLT/annotations/anno.json")) is None:
        raise FileNotFoundError(f"{folder} has no AIR-SLT/annotations/anno.json")
    path, queries = base / "AIR-SLT/annotations/anno.json", {}
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
        Scene(image, partial(_decoded, images / image), asked) for image, asked in queries.items()
    ]


def _queries(path: Path):
    try:
        for entry in json.loads(path.read_text(encoding="utf-8")):
            regions = [np.asarray(points, float) for points in entry["points"]]
            whole = [
                region.ndim == 2 and region.shape[1] == 2 and np.isfinite(region).all()
                for region in regions
            ]
            if not (whole and all(whole)):
                raise ValueError("polygons must be lists of [x, y]")
            yield str(entry["jpg_name"]), Query(entry["caption"].strip(), regions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from error


def _check_axes(path: Path, queries: list[Query]) -> None:
    try:
        with Image.open(path) as image:  # the header only
            width, height = image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no readable image: fetch it again") from error
    for query in queries:
        if selo.swapped(query.regions, height, width):
            raise ValueError(
                f"{path.name}: the polygons of {query.caption!r} leave the image of {width} x {height} "
                "pixels, and would fit as [y, x]: give [x, y]"
            )


def _decoded(path: Path) -> np.ndarray:
    image = datasets.decode(path.read_bytes())
    if image is None:
        raise ValueError(f"{path} is no readable image: fetch it again")
    return image


# ---------------------------------------------------------------- cards


def differences(found: Classes | Captions | list[Scene]) -> list[str]:
    """In what a set differs from its card, as sentences; [] where it is the published set. Chapter:
    data.
    """
    if isinstance(found, list):
        return compare(
            "air_slt", [scene.name for scene in found], queries=sum(len(s.queries) for s in found)
        )
    told, size = {}, _size(found.images.read(0)) if found.images.names else None
    if isinstance(found, Classes):
        told["classes"] = found.classes
    else:
        told["captions"] = sum(map(len, found.captions))
    name = "ucm_captions" if isinstance(found, Captions) and found.name == "ucm" else found.name
    return compare(name, found.images.names, size=size, **told)


def _size(content: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None
