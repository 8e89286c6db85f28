"""Lines of jsonl as objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

BLOCK = 2**24  # bytes of text held at a time; no row is longer


def objects(path: Path) -> Iterator[dict | None]:
    """The object of each line that is not blank, None where there is none."""
    with path.open("rb") as stream:
        while line := stream.readline(BLOCK):
            if len(line) == BLOCK:
                raise ValueError(
                    f"{path} has a line of more than {BLOCK >> 20} MB: put one object on each line"
                )
            try:
                text = line.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
            if text:
                yield _object(text)


def _object(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no json, or nested to break the parser
        return None
    return value if isinstance(value, dict) else None
