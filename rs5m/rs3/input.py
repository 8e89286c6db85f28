"""RS3's input: a folder of images, and what a run rests on. Chapter: rs3."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from rs5m import files
from rs5m.captions.sentences import Record
from rs5m.data import datasets, images
from rs5m.data.datasets import BAND, ENDINGS, sources

VIEW = re.compile(r"(.+)_((?:ms)?rgb)", re.IGNORECASE)  # fMoW's, each of them twice
LIMITS = images.Limits(min_side=8)  # a labelled chip shows something: the pocket world's: 15 pixels
MAX_BYTES = 2**28  # of one image file: as many as LIMITS' pixels take without compression
PIXELS = 2**27  # decoded at once, 400 MB: a shard of chips, a few of fMoW's largest images


class Decoded(NamedTuple):
    """An image's position in the list that was given, and its pixels (h, w, 3) uint8 or why it has
    none.
    """

    row: int
    pixels: np.ndarray | None
    reason: str | None


def listed(folder: Path) -> dict[str, str]:
    """{image's name: its path under the folder}, in order of the paths. An image's name is its
    file's without ending, with its folders where several files are called so (a/1.jpg and b/1.jpg);
    a patch whose bands are files of their own is named by its fourth band.

    FileNotFoundError for no folder or no image, ValueError for a name that is not text.
    """
    return sorted_out(folder)[0]


def sorted_out(folder: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """As `listed`, and the other files of the folder by the reason why they are not images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: check the spelling of --images")
    found, left_out = datasets.listed(folder, ENDINGS)
    for file in found:
        if re.search("[\ud800-\udfff]", file):  # what Python makes of bytes that are not UTF-8
            raise ValueError(f"{folder} has a file called {ascii(file)}: give it a name in UTF-8")
    patches = {
        file: BAND.fullmatch(path.stem)[1] for file, path in found.items() if len(sources(path)) > 1
    }
    names = _named(list(found), patches)
    if not names:
        others = f"; left out: {datasets.in_words(left_out)}" if left_out else ""
        raise FileNotFoundError(
            f"{folder} holds no image ({' '.join(ENDINGS)}{others}): name the folder that does"
        )
    return names, left_out


def one_rendering(names: dict[str, str], kept: str) -> tuple[dict[str, str], list[str]]:
    """The images without the other rendering of each fMoW view that is there in both (NAME_rgb and
    NAME_msrgb), and the files that go. A view in one rendering stays.

    kept: rgb or msrgb.
    """
    views: dict[str, dict[str, str]] = {}
    for name in names:
        if match := VIEW.fullmatch(name):
            views.setdefault(match[1], {})[match[2].lower()] = name
    others = {one[form] for one in views.values() if len(one) > 1 for form in one if form != kept}
    left = {name: file for name, file in names.items() if name not in others}
    return left, [names[name] for name in names if name in others]


def _named(files: list[str], patches: dict[str, str]) -> dict[str, str]:
    """{name: file}: the shortest of a file's names that no other file has."""
    forms = (
        lambda file: patches.get(file, PurePosixPath(file).stem),
        lambda file: str(PurePosixPath(file).with_suffix("")),
        lambda file: file,
    )
    counts = [Counter(map(form, files)) for form in forms]

    def name(file: str) -> str:
        tried = ((form(file), count) for form, count in zip(forms, counts, strict=True))
        return next(text for text, count in tried if count[text] == 1)

    named = {name(file): file for file in files}
    return named if len(named) == len(files) else {file: file for file in files}


def content(path: Path) -> bytes:
    """The bytes of an image, of a patch as PNG. ValueError, not OSError: what fails is the input,
    not the disk that is written to.
    """
    if len(sources(path)) == 1:
        return _bytes(path)
    image, reason = read(path)
    if reason:
        raise ValueError(f"{path} has changed since the run began ({reason}): name a new folder")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): put it back, then run it again"
        ) from error


def read(path: Path) -> tuple[Image.Image | None, str | None]:
    """(RGB image, None) or (None, reason), by `images.read`."""
    parts = sources(path)
    with contextlib.suppress(OSError):  # `_bytes` names it
        if max(part.stat().st_size for part in parts.values()) > MAX_BYTES:
            return None, "too_large"
    if len(parts) == 1:
        return images.read(_bytes(path), LIMITS)
    return images.sentinel2({band: _bytes(part) for band, part in parts.items()}, LIMITS)


def chunks(paths: Sequence[Path]) -> Iterator[list[Decoded]]:
    """The images in order, as many at once as have `PIXELS` pixels together; the same chunks for
    the same files.
    """
    chunk, held = [], 0
    for row, path in enumerate(paths):
        image, reason = read(path)
        pixels = None if reason else np.array(image)  # a copy: torch warns of read-only memory
        size = 0 if reason else pixels.size // 3
        if chunk and held + size > PIXELS:
            yield chunk
            chunk, held = [], 0
        chunk.append(Decoded(row, pixels, reason))
        held += size
    if chunk:
        yield chunk


def facts(
    folder: Path, files: Mapping[str, str], records: Mapping[str, Record], config: dict
) -> dict:
    """What a run rests on: its settings, the bytes and SHA-256 of every image, and a digest of all
    records.

    Args:
        folder: of the images.
        files: {name: path in the folder} of the images.
        records: what is known of the images, by name, of which some may not be there.
        config: the settings.
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
        file: _digest(*sources(folder / file).values())
        for file in tqdm(files.values(), desc="digest", unit="image")
    }
    return config | {"images": seen, "records": given}


def _digest(*paths: Path) -> list:
    """Bytes and SHA-256 of a file; of several those of one behind the other."""
    size, total = 0, hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as stream:
                while block := stream.read(2**20):
                    total.update(block)
                    size += len(block)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}): leave it out or make it readable"
            ) from error
    return [size, total.hexdigest()]


def folder_digest(folder: Path) -> str:
    """One SHA-256 over the names and bytes of the files in a folder; FileNotFoundError where there
    is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: check its spelling")
    lines = (f"{file.relative_to(folder)} {_digest(file)}\n" for file in files.walk(folder))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
