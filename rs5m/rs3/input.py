"""RS3's input: a folder of images, json documents of metadata, and the folder of a run. Chapter:
rs3.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from rs5m.captions import metadata
from rs5m.captions.sentences import Record
from rs5m.data import images
from rs5m.pub11.input import digest, whole

try:
    import fcntl
except ImportError:  # Windows: one process a folder there
    fcntl = None

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
LIMITS = images.Limits(
    min_side=8
)  # whoever labelled a small chip saw something: the pocket world's have 15 pixels
MAX_BYTES = 2**28  # of one image file: as many as LIMITS' pixels take without compression
PIXELS = 2**27  # decoded at once, 400 MB: a shard of chips, a few of fMoW's largest images


class Metadata(NamedTuple):
    """The records by image name, and (document, reason) of every document that gave none."""

    records: dict[str, Record]
    left_out: list[tuple[str, str]]


class Look(NamedTuple):
    """An image's position in the list that was given, and its pixels (h, w, 3) uint8 or why it has
    none.
    """

    row: int
    pixels: np.ndarray | None
    reason: str | None


# ---------------------------------------------------------------- images


def listed(folder: Path) -> dict[str, str]:
    """{image's name: its path under the folder}, in order of the paths. An image's name is its
    file's without ending.

    Hidden files and folders are no input. FileNotFoundError for no folder or no image, ValueError
    for two images of one name or a name that is no text. Chapter: rs3.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: check the spelling of --images")
    paths = (
        path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in ENDINGS
    )
    names: dict[str, str] = {}
    for file in sorted(
        path.as_posix() for path in paths if not any(part[0] == "." for part in path.parts)
    ):
        name = Path(file).stem
        if not (folder / file).is_file():
            continue
        if name in names:
            raise ValueError(
                f"{folder} has two images of one name, {names[name]} and {file}: rename or remove one"
            )
        if re.search("[\ud800-\udfff]", file):  # what Python makes of bytes that are no UTF-8
            raise ValueError(f"{folder} has a file called {ascii(file)}: give it a name in UTF-8")
        names[name] = file
    if not names:
        raise FileNotFoundError(
            f"{folder} holds no image ({' '.join(ENDINGS)}): name the folder that does"
        )
    return names


def content(path: Path) -> bytes:
    """The bytes of an image. ValueError, not OSError: what fails is the input, not the disk that is
    written to.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): put it back, then run it again"
        ) from error


def bites(paths: Sequence[Path]) -> Iterator[list[Look]]:
    """The images in order, as many at once as have `PIXELS` pixels together; the same bites for the
    same files.
    """
    bite, held = [], 0
    for row, path in enumerate(paths):
        look = Look(row, *_pixels(path))
        size = 0 if look.pixels is None else look.pixels.size // 3
        if bite and held + size > PIXELS:
            yield bite
            bite, held = [], 0
        bite.append(look)
        held += size
    if bite:
        yield bite


def _pixels(path: Path) -> tuple[np.ndarray | None, str | None]:
    with contextlib.suppress(OSError):  # `content` names it
        if path.stat().st_size > MAX_BYTES:
            return None, "too_large"
    image, reason = images.read(content(path), LIMITS)
    return (
        (None, reason) if reason else (np.array(image), None)
    )  # a copy: torch warns of memory it may not write to


# ---------------------------------------------------------------- metadata


def read_records(path: str | Path) -> Metadata:
    """The records of a folder or zip of json documents, fMoW's and BigEarthNet's told apart by
    their keys.

    A document that is neither or cannot be read is left out with a reason; so are all that share an
    image's name but not their content. FileNotFoundError or ValueError for no such path, a broken
    zip or no document at all. Paper: RS3. Chapter: rs3.
    """
    path, records, left_out, twice = Path(path), {}, [], set()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: check the spelling of --metadata")
    for name, source in tqdm(_documents(path), desc="metadata", unit="file"):
        shown = str(source) if isinstance(source, Path) else name
        try:
            record = _record(source, name)
        except (ValueError, OSError) as error:
            left_out.append((shown, str(error)))
            continue
        if records.setdefault(name, record) != record:
            twice.add(name)
    for name in sorted(twice):
        del records[name]
        left_out.append((name, "documents of this name differ"))
    if not records and not left_out:
        raise ValueError(
            f"{path} holds no json document: name the folder or zip of the metadata, or leave it out"
        )
    return Metadata(records, left_out)


def _documents(path: Path) -> Iterator[tuple[str, Path | bytes]]:
    """As `metadata.documents`, but files are only named, so that one that cannot be read does not
    end the list.
    """
    if not path.is_dir():
        yield from metadata.documents(path)
        return
    for file in sorted(path.rglob("*.json")):
        if not file.name.startswith(".") and not file.is_dir():
            yield metadata._image(file.name), file


def _record(source: Path | bytes, name: str) -> Record:
    document, name = metadata._load(source, name)
    if "bounding_boxes" in document:
        return metadata.read_fmow(document, name)
    if document.keys() & {"labels", "coordinates", "tile_source"}:
        return metadata.read_bigearthnet(document, name)
    raise ValueError(
        "neither fMoW's (bounding_boxes) nor BigEarthNet's (labels, coordinates, tile_source)"
    )


# ---------------------------------------------------------------- the folder of a run


def facts(
    folder: Path, files: Mapping[str, str], records: Mapping[str, Record], config: dict
) -> dict:
    """What a run rests on: its settings, bytes and SHA-256 of every image, and a digest of all
    records.
    """
    total = hashlib.sha256()
    for name in sorted(records):
        total.update(f"{name!r} {records[name]!r}\n".encode())
    given = {
        "count": len(records),
        "without_image": len(records.keys() - files.keys()),
        "sha256": total.hexdigest(),
    }
    seen = {
        file: _digest(folder / file) for file in tqdm(files.values(), desc="digest", unit="image")
    }
    return config | {"images": seen, "records": given}


def _digest(path: Path) -> list:
    try:
        with path.open("rb") as stream:
            return [path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()]
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): leave it out or make it readable"
        ) from error


def claim(out: Path, about: dict) -> None:
    """Take `out` for this run by run.json, or find that it is ours. ValueError for the folder of
    another run.
    """
    text, note = json.dumps(about, indent=1, sort_keys=True) + "\n", out / "run.json"
    out.mkdir(parents=True, exist_ok=True)
    others = [
        path for path in out.iterdir() if path.name not in ("run.json", "run.json.tmp", "run.lock")
    ]
    if (
        others and not note.is_file()
    ):  # in this order: the note of a run that has just begun comes first
        raise ValueError(f"{out} is not empty and holds no run.json: name a new folder")
    with alone(out):
        if not note.is_file():
            whole(note, lambda path: path.write_text(text))
    old = note.read_text()
    if old != text:
        raise ValueError(
            f"{out} holds another run ({_differences(old, about)} differ by its run.json): "
            "name a new folder"
        )


def _differences(old: str, about: dict) -> str:
    try:
        before = json.loads(old)
    except ValueError:
        before = {}
    about = json.loads(json.dumps(about))  # tuples become lists
    return ", ".join(key for key in sorted(about) if before.get(key) != about[key]) or "settings"


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """One process of a folder at a time; the system frees the lock of a process that is killed.

    OSError where the disk has no locks.
    """
    with (out / "run.lock").open("a") as stream:
        if fcntl:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError as error:
                raise OSError(
                    f"{out} lies on a disk without locks ({error.strerror}): name another folder"
                ) from error
        yield


def folder_digest(folder: Path) -> str:
    """One SHA-256 over the names and bytes of the files in a folder; FileNotFoundError where there
    is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: check its spelling")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest(
        "".join(f"{file.relative_to(folder)} {_digest(file)}\n" for file in files).encode()
    )
