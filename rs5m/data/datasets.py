"""The one reader of labelled and captioned sets, from a folder or straight from the zip: names
first, bytes on demand, so that 10 GB of pixels never lie in memory. Chapter: data.

Layouts as published (`rs5m_test_data/` or the folder above it). What a folder holds is kept, or
left out for a reason that is counted. What is in the bytes is judged by who decodes them.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from rs5m import files
from rs5m.data import images as pictures

LAYOUTS = {  # folder with a folder for each class, where it lies, zips that hold it
    "eurosat": (
        "2750",
        ("eurosat-rgb", "rs5m_test_data/eurosat-rgb", "."),
        ("eurosat_rgb.zip", "EuroSAT.zip"),
    ),
    "resisc45": ("RESISC45", (".", "rs5m_test_data"), ()),
    "aid": ("AID", (".", "rs5m_test_data"), ()),
    "ucm": ("UCMerced_LandUse/Images", (".",), ("ucm_q92.zip", "UCMerced_LandUse.zip")),
    "whurs19": ("WHU-RS19", (".", "whurs19"), ("whurs19/images_160.zip", "WHU-RS19.zip")),
}
CAPTIONED = {  # folder of images, encodings of the csv in the order in which they are tried
    "rsitmd": ("images", ("UTF-8",)),
    "rsicd": ("RSICD_images", ("UTF-8", "gb18030")),
}
COLUMNS = ("filename", "title")
LONGEST = 2**16  # characters of a caption; a quotation mark left open makes one of the whole rest
# the official loader's
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

LeftOut = dict[str, list[str]]  # names by the reason why they are left out


class Images(NamedTuple):
    """Image files: their names, and the bytes of the i-th. Reading is safe from several threads."""

    names: list[str]
    read: Callable[[int], bytes]


class Classes(NamedTuple):
    """A labelled set: labels int (n,) into `classes`, names of the form Class/file; left_out: other
    files beside its images.
    """

    name: str
    images: Images
    labels: np.ndarray
    classes: list[str]
    left_out: LeftOut


class Captions(NamedTuple):
    """A captioned set: images by name, captions in the csv's order; left_out: images that are
    named but not usable.
    """

    name: str
    images: Images
    captions: list[tuple[str, ...]]
    left_out: LeftOut


class Labelled(NamedTuple):
    """A decoded labelled set: uint8 images (h, w, 3), labels (n,) into `classes`, file names, and
    the files that were skipped.
    """

    name: str
    images: list[np.ndarray]
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


# ---------------------------------------------------------------- labelled images


def classes(name: str, folder: Path) -> Classes:
    """A labelled set of LAYOUTS, whole: the images below each class's folder, linked and nested
    folders too, as the official loader walks.

    FileNotFoundError names what was looked for; ValueError for a class without an image.
    """
    inside, bases, zips = LAYOUTS[name]
    for base in bases:
        if (root := folder / base / inside).is_dir():
            return of_folder(name, root, f"fetch {name} again")
    for archive in (folder / zipped for zipped in zips):
        if archive.is_file():
            return _of_zip(name, archive, inside)
    wanted = " nor ".join([f"a folder {PurePosixPath(bases[0]) / inside}", *zips])
    raise FileNotFoundError(f"{folder} has {'neither' if zips else 'not'} {wanted}")


def of_folder(name: str, root: Path, cure: str) -> Classes:
    """A labelled set of a folder with a folder of images for each class; ValueError, with the cure,
    for a class without an image.
    """
    paths, left_out = listed(root, ENDINGS, below=1)
    kept = list(paths)
    folders = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    if empty := sorted(folders - {file.split("/")[0] for file in kept}):
        others = f"; left out are {in_words(left_out)}" if left_out else ""
        raise ValueError(
            f"{root} has class folders without an image: {', '.join(empty)}{others}; {cure}"
        )
    if not kept:
        raise ValueError(f"{root} has no class folder with images: {cure}")
    return _labelled(name, kept, lambda i: paths[kept[i]].read_bytes(), left_out)


def _of_zip(name: str, path: Path, inside: str) -> Classes:
    archive, lock = _opened(path), Lock()
    held: dict[str, str] = {}
    twice = []
    for member in archive.namelist():
        file = member.replace("\\", "/")  # as some programs write on Windows
        if file.startswith(f"{inside}/") and file[-1] != "/":
            file = file.removeprefix(f"{inside}/")
            twice += [file] if file in held else []
            held[file] = member
    kept, left_out = sort_out(sorted(held, key=lambda file: file.split("/")), ENDINGS, below=1)
    left_out |= {"an earlier member of the same name": twice} if twice else {}
    if not kept:
        raise ValueError(f"{path} has no images under {inside}/: fetch it again")

    def read(i: int) -> bytes:
        with lock:
            return _member(archive, held[kept[i]])

    return _labelled(name, kept, read, left_out)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        files.content(path)  # a pointer of Git LFS has its own sentence
        raise ValueError(f"{path} is not a whole zip file: fetch it again") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, none where it is damaged, encrypted or of an unknown compression."""
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError):
        return b""


def _labelled(name: str, kept: list[str], read: Callable, left_out: LeftOut) -> Classes:
    of = [file.split("/")[0] for file in kept]
    found = sorted(set(of))
    labels = np.array([found.index(label) for label in of])
    return Classes(name, Images(kept, read), labels, found, left_out)


def listed(folder: Path, endings: Sequence[str], below: int = 0) -> tuple[dict[str, Path], LeftOut]:
    """The image files under a folder by their names, in order, and the other files by reason;
    arguments like those of `sort_out`.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in files.walk(folder)}
    kept, left_out = sort_out(paths, endings, below)
    if gone := [name for name in kept if not paths[name].is_file()]:
        left_out["a link to nothing"] = gone
    return {name: paths[name] for name in kept if name not in set(gone)}, left_out


def sort_out(
    names: Iterable[str], endings: Sequence[str], below: int = 0
) -> tuple[list[str], LeftOut]:
    """The names that are images by their ending, and the others by reason.

    names: with "/" between folders; below: folders that an image lies in, at least. Names that
    begin with a dot are what a system adds (.DS_Store, ._x.jpg, .ipynb_checkpoints).
    """
    kept, left_out = [], {}
    for name in names:
        path = PurePosixPath(name)
        if any(part[0] == "." for part in path.parts):
            reason = "hidden"
        elif path.suffix.lower() not in endings:
            reason = f"not an image's ending: {path.suffix.lower() or 'none'}"
        elif len(path.parts) <= below:
            reason = "outside the class folders"
        else:
            kept.append(name)
            continue
        left_out.setdefault(reason, []).append(name)
    return kept, left_out


def in_words(left_out: LeftOut) -> str:
    """How many names are left out for which reason."""
    return ", ".join(f"{len(names)} ({reason})" for reason, names in left_out.items())


# ---------------------------------------------------------------- captioned images


def captions(name: str, folder: Path) -> Captions:
    """The test part of a captioned set: rsitmd, rsicd, or ucm by UCM-captions. Errors like those of
    `classes`.

    The official order: images sorted by name, each with its captions as the csv has them.
    """
    if name == "ucm":
        return _ucm_test(folder)
    held, encodings = CAPTIONED[name]
    table = f"{name}/{name}_test.csv"
    if (base := base_of(folder, table)) is None:
        raise FileNotFoundError(f"{folder} has no {table}")
    rows: dict[str, list[str]] = {}
    for line, file, title in table_rows(base / table, encodings):
        if not title:
            raise ValueError(f"{base / table}, line {line}: a row needs a filename and a title")
        rows.setdefault(file, []).append(title)
    paths = {file: base / name / held / file for file in sorted(rows)}
    kept = [file for file, path in paths.items() if path.is_file()]
    if not kept:
        raise ValueError(
            f"{base / name / held} holds none of the {len(rows)} images that {table} names: put "
            "them there"
        )
    _tell_letters(table, rows)
    missing = [file for file in paths if file not in set(kept)]
    if missing:
        print(
            f"{name}: {len(missing)} images of {table} are missing and left out: "
            f"{', '.join(missing[:10])}"
        )
    images = Images(kept, lambda i: paths[kept[i]].read_bytes())
    left_out = {"missing": missing} if missing else {}
    return Captions(name, images, [tuple(rows[file]) for file in kept], left_out)


def base_of(folder: Path, inside: str) -> Path | None:
    """Where a path of the official folder lies, in the folder or in its rs5m_test_data."""
    bases = (folder, folder / "rs5m_test_data")
    return next((base for base in bases if (base / inside).exists()), None)


def table_rows(path: Path, encodings: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """(line, file name, caption) of every row of a csv with the columns filename and title, in any
    case; the caption may be empty.

    ValueError names the line that has more or fewer fields than the header (a caption with a comma
    outside quotation marks), a file name that is a path, or a caption that never ends.
    """
    reader = csv.reader(io.StringIO(text_of(path, encodings), newline=""))
    try:
        places = _places(next(reader, []), path)
        empty = True
        for row in filter(None, reader):
            empty = False
            yield reader.line_num, *_fields(row, *places, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; fetch it again") from error
    if empty:
        raise ValueError(f"{path} has no rows: fetch it again")


def _places(header: list[str], path: Path) -> tuple[int, int, int]:
    """Where the two columns stand, and how many columns there are."""
    known = [column.strip().lower() for column in header]
    if missing := sorted(set(COLUMNS) - set(known)):
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}: it has {', '.join(header) or 'none'}"
        )
    for column in COLUMNS:
        if known.count(column) > 1:
            raise ValueError(
                f"{path} has the column {column} more than once: {', '.join(header)}; keep one"
            )
    return known.index(COLUMNS[0]), known.index(COLUMNS[1]), len(header)


def _fields(row: list[str], file: int, title: int, columns: int, where: str) -> tuple[str, str]:
    if any(row[columns:]):
        raise ValueError(
            f"{where}: {len(row)} fields under {columns} columns: put a caption with a comma "
            "between quotation marks"
        )
    if len(row) <= max(file, title) or not row[file]:
        raise ValueError(f"{where}: a row needs a filename and a title")
    if row[file] != PurePosixPath(row[file]).name:  # a list from elsewhere names files, not places
        raise ValueError(f"{where}: {row[file]!r} is not a file name")
    if len(row[title]) > LONGEST:  # other packages lift the csv module's own limit
        raise ValueError(f"{where}: field larger than {LONGEST}; fetch it again")
    return row[file], row[title]


def text_of(path: Path, encodings: Sequence[str]) -> str:
    """A csv's text, by the first encoding that its bytes are valid in; ValueError where none is.

    RSITMD is published in UTF-8, RSICD in gb18030. UTF-8 goes first: gb18030 takes almost any bytes
    and would read UTF-8's as other letters. The reverse is rare: a text whose only foreign letters
    are few Chinese ones (C2 A3).
    """
    content = files.content(path)
    for encoding in encodings:
        try:
            return content.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
        except UnicodeDecodeError:
            continue
    if len(encodings) == 1:
        raise ValueError(f"{path} is not {encodings[0]}: save it as that")
    raise ValueError(f"{path} is neither {' nor '.join(encodings)}: save it as one of them")


def _tell_letters(table: str, rows: dict[str, list[str]]) -> None:
    """Warn where English captions have Chinese characters: other encodings look so when read as
    gb18030.
    """
    every = [title for titles in rows.values() for title in titles]
    if odd := [title for title in every if re.search("[\u3400-\u9fff]", title)]:
        print(
            f"{len(odd)} of {len(every)} captions of {table} have Chinese characters, the first "
            f"is {odd[0]!r}: check that the file is in the encoding it was published in"
        )


def _ucm_test(folder: Path) -> Captions:
    data = classes("ucm", folder)
    texts, split = ucm_captions(folder, data)
    index = np.flatnonzero(split == "test")
    names = [data.images.names[i] for i in index]
    images = Images(names, lambda i: data.images.read(int(index[i])))
    return Captions("ucm", images, [texts[i] for i in index], {})


def ucm_captions(
    folder: Path, data: Classes | Labelled
) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Five captions for each image of `data` and its split ("train", "val", "test") from
    UCM-captions.

    The json calls image (N - 1) % 100 of class (N - 1) // 100, classes in alphabetical order,
    "N.tif". FileNotFoundError without it, ValueError where it and the images do not fit.
    """
    places = (folder / "captions/ucm_captions.json", folder / "ucm_captions.json")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has no captions/ucm_captions.json (UCM-captions)")
    content, entries = files.content(path), {}
    names = data.names if isinstance(data, Labelled) else data.images.names
    try:
        for entry in json.loads(content)["images"]:
            number = int(Path(entry["filename"]).stem) - 1
            name = f"{data.classes[number // 100]}{number % 100:02d}"
            entries[name] = (tuple(s["raw"].strip() for s in entry["sentences"]), entry["split"])
        found = [entries[Path(name).stem] for name in names]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{folder}: ucm_captions.json and the images of UC Merced do not fit, or one is not "
            "whole: fetch both again"
        ) from error
    return [texts for texts, _ in found], np.array([split for _, split in found])


# ---------------------------------------------------------------- decoded sets


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
