"""What the pairs of a tuning run have to do with a test set, counted on the pairs. Chapter:
zeroshot.

Written with a test set's results; the scorecard reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rs5m.book import colour

if TYPE_CHECKING:  # the scorecard reads names here and needs no torch
    from rs5m.book.scales import Scale
    from rs5m.data.datasets import Labelled
    from rs5m.tune import loader

NONE, NAMES, SAME_SET, SPLIT, MADE, UNKNOWN = (
    "none",
    "class names in captions",
    "same set",
    "own training split",
    "made for it",
    "not computed",
)
LEAST = f"at least {NAMES}"  # images could not be searched
BEGINS = 5  # letters that agricultural and agriculture share


def count(captions: list, data: Labelled) -> dict:
    """How many images' captions name a class of a test set, and the level of contact if that is
    all.
    """
    named = sum(bool(found) for found in colour.mentions(captions, _spellings(data)))
    return {"level": NAMES if named else NONE, "pairs": len(captions), "named": named}


def unheard(captions: list, data: Labelled) -> list[int]:
    """The classes of a test set that are new to the captions: none holds a word of their names in
    any spelling, nor one that begins with the same BEGINS letters.
    """
    held = {word[:BEGINS] for texts in captions for word in _words(texts)}
    begins = [{word[:BEGINS] for word in _words(names)} for names in _spellings(data)]
    return [c for c, own in enumerate(begins) if not any(h.startswith(tuple(own)) for h in held)]


def levels(new: dict) -> str:
    """The classes that are new to the captions (`rs5m.book.rsicd`, "unheard"), each with the share
    that is right before and after.
    """
    right = new.get("by class", {})
    before_after = {
        name: f" ({one['general']:.0f} -> {one['tuned']:.0f} %)" for name, one in right.items()
    }
    return ", ".join(name + before_after.get(name, "") for name in new["classes"])


def _words(texts: Iterable[str]) -> list[str]:
    return re.findall(r"[^\W\d_]+", " ".join(texts).lower())


def _spellings(data: Labelled) -> list[tuple[str, ...]]:
    from rs5m.book import testing

    return list(zip(*testing.spellings(data).values(), strict=True))


def measure(
    scale: Scale, run: tuple[str, ...], data: Labelled, pairs: loader.Shards | loader.Memory
) -> dict:
    """The closest contact: level, pairs, and how many of them name a class of the test set.

    Args:
        scale: tells which images RS3 captioned.
        run: names of the pairs.
        data: the whole test set, images that RS3 captioned among them.
        pairs: of the run.
    """
    found = count([pairs.captions(i) for i in range(len(pairs))], data)
    if data.name in run and scale.name != "mini":  # a set's name stands for its training split
        found["level"] = SPLIT
    elif "rs3" in run and _captioned(scale) & {Path(name).stem for name in data.names}:
        found["level"] = SAME_SET
    return found


def _captioned(scale: Scale) -> set[str]:
    from rs5m.book import runs

    return {path.stem for path in (runs.labelled_set(scale) / "images").iterdir()}


def said(found: dict | None, test: str, run: str) -> str:
    """The contact in words; of a result that was stored without it, what the names tell."""
    if found is None:
        return SPLIT if run == test else UNKNOWN
    if found["level"] != NAMES:
        return found["level"]
    return f"{NAMES} ({found['named']:,} of {found['pairs']:,} pairs)"
