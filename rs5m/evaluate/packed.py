"""Images and labels in shards, as people have them: `cls` or `json` beside an image. Chapter:
leaderboard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rs5m.data import found, records, sample, tables
from rs5m.data.datasets import LeftOut

NAMES = ("label", "labels", "class", "classes", "classname", "category", "categories", "cls")
NAMES += ("scene", "target", "labelname", "classlabel")
NO_LABEL = "has no label"


def labels_of(value: object) -> list[str]:
    """The labels in a value, as texts; a list that stands in a text is taken apart. What could not
    be a caption ("nan", say) is no label.
    """
    text = str(value).strip() if isinstance(value, str | int) else ""
    several = [text]
    if text.startswith("[") and text.endswith("]"):
        try:
            several = [str(one).strip() for one in json.loads(text.replace("'", '"'))]
        except (ValueError, TypeError):
            return []
    return [one for one in several if sample.is_caption(one)]


def samples(
    paths: list[Path], left_out: LeftOut, label: str = ""
) -> Iterator[tuple[str, Callable[[], bytes], list[str]]]:
    """The samples with an image and a label, in `cls` or in the `json` under one of NAMES; label:
    the one name in the `json` that counts.
    """
    for path in paths:
        with path.open("rb") as stream:
            inside = records.samples(stream.fileno(), {*records.KINDS, "cls"})
            for stem, members in inside.held.items():
                pictures = [kind for kind in records.PICTURES if kind in members]
                given = _label_of(stream.fileno(), members, label)
                fault = "" if given and pictures else NO_LABEL if pictures else found.NO_IMAGE
                if fault:
                    left_out.setdefault(fault, []).append(stem)
                    continue
                yield f"{stem}.{pictures[0]}", _placed(path, *members[pictures[0]]), given
                for kind in pictures[1:]:
                    left_out.setdefault(records.SECOND, []).append(f"{stem}.{kind}")
        for fault in (*inside.broken, *inside.faults):
            left_out.setdefault(fault.reason, []).append(f"{path.name} {fault.member}".strip())
        for reason, names in inside.others.items():
            left_out.setdefault(reason, []).extend(f"{path.name} {name}" for name in names)


def _label_of(
    file: int, members: dict[str, tuple[int, int]], label: str
) -> list[str] | tuple[str, ...]:
    """The labels of a sample; a tuple where they stand in a list."""

    def text(kind: str) -> str:
        start, length = members[kind]
        return sample.spelled(os.pread(file, min(length, records.LONGEST_TEXT), start)).strip()

    if "cls" in members and not label:
        return labels_of(text("cls"))
    try:
        told = json.loads(text("json")) if "json" in members else {}
    except (ValueError, RecursionError):
        return []
    told = told if isinstance(told, dict) else {}
    wanted = (tables.squeezed(label),) if label else NAMES
    values = [told[key] for key in told if tables.squeezed(key) in wanted]
    listed = any(isinstance(value, list) for value in values)
    several = (one for value in values for one in (value if isinstance(value, list) else [value]))
    given = [label for one in several for label in labels_of(one)]
    return tuple(given) if listed else given


def _placed(path: Path, start: int, length: int) -> Callable[[], bytes]:
    def member() -> bytes:
        with path.open("rb") as stream:
            return os.pread(stream.fileno(), length, start)

    return member
