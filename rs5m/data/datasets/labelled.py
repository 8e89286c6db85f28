"""Labelled sets: a folder of images for each class, or a zip of it."""

import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import NamedTuple

import numpy as np

from rs5m import files
from rs5m.data.datasets import patches
from rs5m.data.sample import PICTURES

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
ENDINGS = tuple(f".{kind}" for kind in PICTURES)
LeftOut = dict[str, list[str]]  # names by the reason why they are left out
UNREAD, NO_FILE = "cannot be read", "is not a file, or a broken link"


class Images(NamedTuple):
    """Image files: their names, and the bytes of the i-th. Reading is safe from several threads."""

    names: list[str]
    read: Callable[[int], bytes]

    def content(self, i: int) -> tuple[bytes, str | None]:
        """The bytes of the i-th and None; none and the reason where its file is gone or closed. A
        disk that fails is an OSError.
        """
        try:
            return self.read(i), None
        except (FileNotFoundError, PermissionError) as error:
            return b"", f"{UNREAD} ({error.strerror})"


class Classes(NamedTuple):
    """A labelled set: labels int (n,) into `classes`, names of the form Class/file; left_out: other
    files beside its images.
    """

    name: str
    images: Images
    labels: np.ndarray
    classes: list[str]
    left_out: LeftOut


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
    return _labelled(name, kept, lambda i: patches.content(paths[kept[i]]), left_out)


def _of_zip(name: str, path: Path, inside: str) -> Classes:
    archive, lock = _opened(path), Lock()
    held: dict[str, str] = {}
    twice, outside = [], []
    for member in archive.namelist():
        file = member.replace("\\", "/")  # as some programs write on Windows
        if file[-1] == "/":
            continue
        if not file.startswith(f"{inside}/"):
            outside.append(file)
            continue
        file = file.removeprefix(f"{inside}/")
        twice += [file] if file in held else []
        held[file] = member
    kept, left_out = sort_out(sorted(held, key=lambda file: file.split("/")), ENDINGS, below=1)
    closed = [file for file in kept if archive.getinfo(held[file]).flag_bits & 1]
    if closed and len(closed) == len(kept):
        raise ValueError(f"{path} is encrypted: unpack it with its password into {inside}/")
    left_out |= {"encrypted": closed} if closed else {}
    kept = [file for file in kept if file not in set(closed)]
    left_out |= {"an earlier member of the same name": twice} if twice else {}
    left_out |= {f"outside {inside}/": outside} if outside else {}
    if not kept:
        why = in_words(left_out) or "it is empty"
        raise ValueError(f"{path} has no images under {inside}/ ({why}): fetch it again")

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
    """The bytes of a member; where it is damaged or of an unknown compression, those of an image
    that was cut off.
    """
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError):
        return b"\xff\xd8\xff"


def _labelled(name: str, kept: list[str], read: Callable, left_out: LeftOut) -> Classes:
    of = [file.split("/")[0] for file in kept]
    found = sorted(set(of))
    labels = np.array([found.index(label) for label in of])
    return Classes(name, Images(kept, read), labels, found, left_out)


# ---------------------------------------------------------------- which files


def listed(folder: Path, endings: Sequence[str], below: int = 0) -> tuple[dict[str, Path], LeftOut]:
    """The image files under a folder by their names, in order, and the other files by reason;
    arguments like those of `sort_out`.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in files.walk(folder)}
    kept, left_out = sort_out(paths, endings, below)
    reasons = patches.others(kept)
    for name, reason in reasons.items():
        left_out.setdefault(reason, []).append(name)
    kept = [name for name in kept if name not in reasons]
    if gone := [name for name in kept if not paths[name].is_file()]:
        left_out[NO_FILE] = gone
    absent = set(gone)
    return {name: paths[name] for name in kept if name not in absent}, left_out


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
