"""The objects of jsonl, and of json that holds several."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

BLOCK = 2**24  # bytes of text held at a time; no row is longer
GAP, LISTED = re.compile(r"[\s,]*"), re.compile(r"[\s,\[\]]*")  # between objects, and of a list
DECODER = json.JSONDecoder()


def objects(path: Path) -> Iterator[dict | None]:
    """Every object of a file, None for each line or value that is none: one on a line, several on
    one, one on several lines, or all in a list.
    """
    rest, tried, gap = "", 0, None
    for line in chain(_lines(path), [""]):
        if gap is None and line.strip():
            gap = LISTED if re.match(r"\s*\[\s*(\{|$)", line) else GAP
        rest += line
        if line and len(rest) < 2 * tried:  # else a long object is parsed at each of its lines
            continue
        found, at = _parsed(rest, gap or GAP, not line)
        yield from found
        rest = rest[at:]
        tried = len(rest)


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        while line := stream.readline(BLOCK):
            if len(line) == BLOCK:
                raise ValueError(
                    f"{path} has a line of more than {BLOCK >> 20} MB: put one object on each line"
                )
            try:
                yield line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error


def _parsed(text: str, gap: re.Pattern, last: bool) -> tuple[list[dict | None], int]:
    """The objects in a text, and where one begins that goes on behind it."""
    found, at, size = [], 0, len(text.rstrip())
    while (at := gap.match(text, at).end()) < len(text):
        try:
            value, at = DECODER.raw_decode(text, at)
            found.append(value if isinstance(value, dict) else None)
        except (ValueError, RecursionError) as error:  # no json, or nested to break the parser
            goes_on = getattr(error, "pos", 0) >= size - 1 and len(text) - at < BLOCK
            if goes_on and not last:
                return found, at
            found.append(None)
            at = text.find("\n", at) + 1 or len(text)
    return found, at
