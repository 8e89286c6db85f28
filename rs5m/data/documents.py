"""Captions in one json: COCO's, and the form that Karpathy gave them, in which RSICD, UCM-captions
and Sydney-captions are published. Chapter: tune.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rs5m import files

SHARED = "shares its id with another image"
NO_COCO = (
    "is not COCO's captions (images with id and file_name, annotations with image_id and caption)"
)
NO_SPLITS = "has no images with filename, split and sentences: fetch it again"
PARTS = {"train": ("train", "restval"), "val": ("val", "valid", "validation"), "test": ("test",)}


class Listed(NamedTuple):
    """Rows of an image's file and a caption (any value), None for an image without one; what else
    the json names, each with the reason why it is left out.
    """

    rows: list[tuple[str, object]]
    left_out: list[tuple[str, str]]


def read(path: Path) -> dict | None:
    """The object in a json that lists images, None for what may be jsonl."""
    content = files.content(path)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    known = isinstance(document, dict) and {"images", "annotations"} & document.keys()
    return document if known else None


def listed(path: Path, document: dict, part: str = "train") -> Listed:
    """The captions of a document of `read`; ValueError where it is of another form.

    part: of PARTS, the one that is taken where the images have a split, which is printed.
    """
    images = document.get("images")
    if isinstance(images, list) and any(
        isinstance(one, dict) and "sentences" in one for one in images
    ):
        return _of_splits(path, images, part)
    return _of_coco(path, document)


# ---------------------------------------------------------------- Karpathy's


def _of_splits(path: Path, images: list, part: str) -> Listed:
    rows, left_out, seen = [], [], {}
    for number, one in enumerate(images):
        file, split, texts = _entry(one)
        seen[split] = seen.get(split, 0) + 1
        if not file:
            left_out.append((f"image {number}", "has no filename"))
        elif split and split not in PARTS[part]:
            left_out.append((file, f"is of another part ({split})"))
        else:
            rows += [(file, text) for text in texts or [None]]
    parts = ", ".join(f"{count} {split or 'without one'}" for split, count in sorted(seen.items()))
    if set(seen) - {""}:
        print(f"{path.name}: the {part} part of its images is read, of {parts}")
    return Listed(rows, left_out)


def _entry(one: object) -> tuple[str, str, list]:
    """File, split and captions of an image, "" for what it lacks."""
    one = one if isinstance(one, dict) else {}
    file, folder, split = (one.get(key) for key in ("filename", "filepath", "split"))
    sentences = one.get("sentences")
    sentences = sentences if isinstance(sentences, list) else []
    texts = [some.get("raw") if isinstance(some, dict) else some for some in sentences]
    if not isinstance(file, str) or not file.strip():
        return "", split if isinstance(split, str) else "", texts
    file = str(PurePosixPath(folder, file)) if isinstance(folder, str) else file
    return file, split if isinstance(split, str) else "", texts


def of_part(path: Path, part: str) -> Iterator[tuple[str, str]]:
    """File and caption of every sentence of a published set's part, from Karpathy's form;
    ValueError where it is not whole.
    """
    try:
        for one in json.loads(files.content(path))["images"]:
            if one["split"] in PARTS[part]:
                for sentence in one["sentences"]:
                    yield one["filename"], sentence["raw"].strip()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} {NO_SPLITS}") from error


# ---------------------------------------------------------------- COCO's


def _of_coco(path: Path, document: dict) -> Listed:
    """What names no image, or shares its id with another, has its reason."""
    names: dict[object, str] = {}
    strange, shared = [], set()
    try:
        for number, one in enumerate(document["images"]):
            if not isinstance(name := one.get("file_name"), str) or "id" not in one:
                strange.append((f"image {number}", "has no id, or no file_name"))
            elif names.setdefault(one["id"], name) != name:
                strange.append((name, SHARED))
                shared.add(one["id"])
        strange += [(names.pop(one), SHARED) for one in shared]
        rows: list[tuple[str, object]] = [(name, None) for name in names.values()]
        written = [one.get("caption") for one in document["annotations"]]
        for number, one in enumerate(document["annotations"]):
            if one.get("image_id") in names:
                rows.append((names[one["image_id"]], written[number]))
            else:
                strange.append((f"annotation {number}", "names no image"))
    except (AttributeError, KeyError, TypeError) as error:
        wrong = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} {NO_COCO}: {wrong}") from error
    if written and not any(written):
        raise ValueError(f"{path} {NO_COCO}: 'caption' is missing")
    if not names:
        raise ValueError(f"{path} names no images")
    return Listed(rows, strange)
