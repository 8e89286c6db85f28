"""Metadata of labelled images as they lie: json documents in a folder or zip. Chapter: captions."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rs5m import files

MAX_BYTES = 2**22  # of one json document; real ones have a few kB


def listed(path: str | Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """(image name, what reads the bytes) of every json under a folder or in a zip, sorted; the name
    is the file's, without ending.

    Raises FileNotFoundError, or ValueError that names a broken zip; reading one raises ValueError
    for a document that is damaged, encrypted or above MAX_BYTES.
    """
    path = Path(path)
    if path.is_dir():
        for file in files.walk(path):
            if file.is_file() and _is_json(file.name):
                yield image(file.name), partial(read, file)
        return
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        with path.open("rb") as stream:
            files.refuse_other(path, stream.read(64), "a zip")
        raise ValueError(f"{path} is not a whole, readable zip file: fetch it again") from error
    with archive:
        for info in sorted(archive.infolist(), key=lambda i: i.filename):
            stem = info.filename.rpartition("/")[2]
            if _is_json(stem):
                yield image(stem), partial(_member, archive, info)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    where = f"{info.filename} in {archive.filename}"
    if info.flag_bits & 1:
        raise ValueError(f"{where} is encrypted: unpack it with its password")
    if info.file_size > MAX_BYTES:
        raise ValueError(f"{where} has {info.file_size} bytes: too many for one image's metadata")
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # or an odd method
        raise ValueError(f"{where} is damaged ({error}): fetch the zip again") from error


def _is_json(name: str) -> bool:
    return name.lower().endswith(".json") and not name.startswith(".")  # the Mac's shadow files


def image(file: str) -> str:
    """The image's name by its document's file."""
    return file[: -len(".json")].removesuffix("_labels_metadata")


def read(path: Path) -> bytes:
    """The bytes of a document; ValueError for one above MAX_BYTES."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes: too many for the metadata of one image")
    return files.content(path)
