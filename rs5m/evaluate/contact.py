"""Whether a released model saw a test set's images while it was trained, as far as its authors tell
(contact.toml). Chapter: leaderboard.

Compared by the names of sets: pixels are compared by `rs5m.dedup`, where both sets are at hand.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from rs5m.clip import known
from rs5m.evaluate import cards

NONE, UNKNOWN = "none known", "unknown"
CLOSEST = ("training split", "very images", "copies", "shared images", NONE, UNKNOWN)
UNCHECKED = "not checked"


@cache
def _told() -> dict[str, dict]:
    return tomllib.loads((files("rs5m.evaluate") / "contact.toml").read_text(encoding="utf-8"))


def release(name: str, checkpoint: str | Path | None = None) -> str:
    """The released model by its own name, or by the name of its file; "" for any other."""
    if not checkpoint:
        return name if name in known.models() else ""
    named = {Path(m.file).name: m.name for m in known.models().values() if m.format == "state dict"}
    return named.get(Path(checkpoint).name, "")


def trained_on(model: str) -> str:
    """The sets on which a released model was trained, in words; `UNKNOWN` where nobody tells."""
    about = _told()["models"].get(model)
    if not about:
        return UNKNOWN
    doubt = f" ({UNCHECKED})" if about.get("unchecked") else ""
    return f"{', '.join(about['on'])}{doubt}"


def of_sets(model: str, sets: Iterable[str]) -> dict[str, str]:
    """How a released model met each test set: a word of contact.toml, NONE where the sets that it
    was trained on hold no image of it, UNKNOWN where they or the test set are not known.

    sets: names of cards, of suites, or of folders that are called like one.
    """
    about, found = _told()["models"].get(model), {}
    for name in sets:
        called = _known_as(name)
        if not about or not called:
            found[name] = UNKNOWN
            continue
        held = [_told()["sets"][one] for one in about["on"]]
        missing = UNKNOWN if any("parts" in one for one in held) else NONE
        how = [one[called] for one in held if called in one] or [missing]
        found[name] = min(how, key=CLOSEST.index)
        if about.get("unchecked"):
            found[name] += f" ({UNCHECKED})"
    return found


def of_run(name: str, checkpoint: str | Path | None, sets: Iterable[str]) -> dict:
    """What stands in a report: the release that was evaluated, its training sets, each set's word.

    Args:
        name: of `rs5m.clip.load`.
        checkpoint: a file whose name may tell the release, or a tag of general weights.
        sets: as in `of_sets`.
    """
    model = release(name, checkpoint)
    return {"model": model, "trained_on": trained_on(model), "sets": of_sets(model, sets)}


def in_words(met: dict[str, str]) -> str:
    """The sets by how they were met, closest first."""
    by_word: dict[str, list[str]] = {}
    for name, how in met.items():
        by_word.setdefault(how, []).append(name)
    order = sorted(by_word, key=lambda how: CLOSEST.index(how.partition(" (")[0]))
    return "; ".join(f"{how}: {', '.join(by_word[how])}" for how in order)


def _known_as(name: str) -> str:
    """The key of the set that is called so, whatever its spelling; "" where none is."""
    every = {*cards.known(), *(one for held in _told()["sets"].values() for one in held)} - {
        "parts"
    }
    every |= {one for suite in cards.suites().values() for one in suite["sets"]}
    return {_squeezed(one): one for one in every}.get(_squeezed(name), "")


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
