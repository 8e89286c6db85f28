"""Cards of the test sets (cards.toml): what a set should be, and in what a folder differs.
Chapter: data.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

import pandas as pd


@cache
def _all() -> dict[str, dict]:
    return tomllib.loads((files("rs5m.evaluate") / "cards.toml").read_text(encoding="utf-8"))


@cache
def suites() -> dict[str, dict]:
    """Sets that papers report together, by the suite's name: title, sets, protocol."""
    return tomllib.loads((files("rs5m.evaluate") / "suites.toml").read_text(encoding="utf-8"))


def known() -> tuple[str, ...]:
    """The names of all cards."""
    return tuple(_all())


def card(name: str) -> dict:
    """The card of a set: title, task, images, split, source, terms, and what else is known.
    ValueError if unknown.
    """
    if name not in _all():
        raise ValueError(f"no card {name!r}: choose one of {', '.join(_all())}")
    return _all()[name]


def cards() -> pd.DataFrame:
    """All cards as a table, one row for each set."""
    rows = []
    for known in _all().values():
        size = known.get("size")
        rows.append(
            {
                "set": known["title"],
                "task": known["task"],
                "images": known["images"],
                "classes": len(known["classes"]) if "classes" in known else "",
                "captions": known.get("captions", ""),
                "size": f"{size[0]} x {size[1]}" if size else "differ",
                "split": known["split"],
                "source": known["source"],
                "terms": known["terms"],
            }
        )
    return pd.DataFrame(rows)


def names_sha256(names) -> str:
    """SHA-256 over the sorted stems of file names: folders and kinds of file may differ, the images
    may not.
    """
    stems = sorted(PurePosixPath(name).stem for name in names)
    return hashlib.sha256("\n".join(stems).encode()).hexdigest()


# what a card may hold beside names, counts and the size of one image, in words
CONTENT = {
    "sample_sha256": "the bytes of every 1,000th file",
    "captions_sha256": "captions",
    "queries_sha256": "queries",
}


def digest(parts: Iterable[object]) -> str:
    """SHA-256 over the JSON of each part, or its bytes, a line each."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else json.dumps(part).encode())
        total.update(b"\n")
    return total.hexdigest()


def known_by(name: str) -> str:
    """What of a set is compared with its card, and that the pixels are not where its card has no
    digest of bytes.
    """
    known = card(name)
    compared = ["names of its files"] if "names_sha256" in known else []
    compared += ["their number"] + ["the size of the first"] * ("size" in known)
    compared += [words for key, words in CONTENT.items() if key in known]
    told = ", ".join(compared)
    return told if "sample_sha256" in known else f"{told}; not by the pixels"


def compare(
    name: str, names: list[str], classes=None, captions=None, size=None, queries=None, content=None
) -> list[str]:
    """Sentences on where a set that was read differs from its card; [] where nothing does.

    Args:
        name: of the card.
        names: of the images.
        classes: names of the classes; None, here and below: not compared.
        captions: how many.
        size: width and height of the first image in pixels.
        queries: how many.
        content: digests by the keys of CONTENT.
    """
    known, sentences = card(name), []
    if classes is not None and set(classes) != set(known["classes"]):
        more, fewer = (
            sorted(set(classes) - set(known["classes"])),
            sorted(set(known["classes"]) - set(classes)),
        )
        sentences.append(
            f"its {len(classes)} classes are not those of {known['title']}: "
            f"{_some('not among them', more)}{_some('missing', fewer)}".rstrip("; ")
        )
    for what, got in (("images", len(names)), ("captions", captions), ("queries", queries)):
        if got is not None and what in known and got != known[what]:
            sentences.append(
                f"it has {got:,} {what}, {known['title']} has {known[what]:,}: a subset or another "
                "split"
            )
    if size is not None and "size" in known and list(size) != known["size"]:
        sentences.append(
            f"its first image has {size[0]} x {size[1]} pixels, those of {known['title']} "
            f"{known['size'][0]} x {known['size'][1]}"
        )
    if "names_sha256" in known and not sentences and names_sha256(names) != known["names_sha256"]:
        sentences.append(
            f"its images have other names than those of {known['title']}: another split or another "
            "edition"
        )
    for key, got in (content or {}).items():
        if key in known and not sentences and got != known[key]:
            sentences.append(
                f"{CONTENT[key]} are not those of {known['title']}: another set under its names, "
                "or files that were changed"
            )
    return sentences


def _some(word: str, names: list[str]) -> str:
    return f"{word}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}; " if names else ""
