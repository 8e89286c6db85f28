"""The list that a run uses, perhaps the user's own: what it lets pass and what each term is worth.
Chapter: keywords.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rs5m import intervals
from rs5m.keywords.expressions import LEFT, RIGHT, compose, regex
from rs5m.keywords.listed import ordinary, terms, trap_terms
from rs5m.keywords.texts import as_strings, hits

REFUSED, TOLD = 0.5, 0.1  # shares of ordinary captions: a list that matches so many selects little
REPORT = pa.schema(
    [("kind", pa.string()), ("term", pa.string()), ("pairs", pa.int64()), ("judged", pa.int64())]
    + [(name, pa.float64()) for name in ("precision", "low", "high")]
)


@dataclass(frozen=True)
class Keywords:
    """A list of keywords, and whether texts go whose every keyword stands in a trap."""

    terms: tuple[str, ...]
    drop_traps: bool = False

    @cached_property
    def pattern(self) -> str:
        """The regular expression of all terms, in RE2's syntax."""
        return regex(self.terms)

    def digest(self) -> str:
        """What tells lists apart that let different texts pass."""
        traps = trap_terms() if self.drop_traps else []
        return hashlib.sha256("\n".join([self.pattern, *traps]).encode()).hexdigest()

    def matches(self, texts) -> np.ndarray:
        """Which of `texts` pass, as `keywords.matches`."""
        return np.equal(self.reasons(texts), None)

    def reasons(self, texts) -> np.ndarray:
        """Why each of `texts` stops here, (n,): no_keyword, trap, or None where it passes."""
        strings = as_strings(texts)
        hit = hits(strings, self.pattern)
        reasons = np.where(hit, None, "no_keyword")
        if self.drop_traps:
            reasons[hit] = np.where(self._trapped(strings.filter(pa.array(hit))), "trap", None)
        return reasons

    def _trapped(self, strings: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Whether no keyword is left once the traps are taken out."""
        inner = compose(trap_terms()).removeprefix(LEFT).removesuffix(RIGHT)
        around = f"({LEFT}){inner}({RIGHT})"
        for _ in range(2):  # neighbours share the character between them
            strings = pc.replace_substring_regex(strings, around, r"\1|\2")
        return ~hits(strings, self.pattern)

    def report(self, texts, labels: Iterable | None = None) -> pa.Table:
        """Term by term and trap by trap, the most frequent first: how many of `texts` hold it and,
        where there are labels (true or false, None for not judged), the share of true ones in
        percent with its 95 % interval. Columns of REPORT; what no text holds is left out.
        """
        strings, rows = as_strings(texts), []
        strings = strings.filter(pa.array(hits(strings, self.pattern)))
        held = [None] * len(texts) if labels is None else list(labels)
        held = np.array(held, object)[hits(as_strings(texts), self.pattern)]
        for kind, listed in (("term", self.terms), ("trap", trap_terms())):
            for term in listed:
                hit = hits(strings, regex([term]))
                if hit.any():
                    rows.append({"kind": kind, "term": term, **_judged(held[hit])})
        rows.sort(key=lambda row: (row["kind"], -row["pairs"]))
        return pa.Table.from_pylist(rows, REPORT)


def _judged(labels: np.ndarray) -> dict:
    known = [bool(label) for label in labels if label is not None]
    row = {"pairs": len(labels), "judged": len(known)}
    if known:
        row["low"], row["high"] = intervals.wilson(sum(known), len(known))
        row["precision"] = 100 * sum(known) / len(known)
    return row


def choose(path: str | Path = "", more: bool = False, drop_traps: bool = False) -> Keywords:
    """The list, or the own list of a file, with the second list where `more` is asked for.

    A file has a term a line, spelled as in ``keywords.toml`` or freely (any case, hyphens), or a
    pattern between slashes, in RE2's syntax and in any case; a line that begins with # is a
    comment. What matches many ordinary captions is told. FileNotFoundError, or ValueError that
    names the line.
    """
    listed = _read(Path(path)) if path else terms()
    listed = dict.fromkeys([*listed, *(terms(more=True) if more else [])])
    return Keywords(tuple(listed), drop_traps)


def _read(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the spelling of --keywords")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: save it as UTF-8") from error
    found = [
        _line(line.strip(), f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not found:
        raise ValueError(f"{path} has no term: write one a line")
    _refuse_ordinary(found, str(path))  # what they match together
    return found


def _line(line: str, place: str) -> str:
    """A term or a pattern of a file, checked."""
    term = line
    if not (line.startswith("/") and line.endswith("/") and len(line) > 1):
        term = " ".join(re.sub(r"[-\u2010-\u2015_]", " ", line.lower()).split())
        term = re.sub("[`\xb4\u02bc\u2018\u2019\u2032\uff07]", "'", term)
        term = unicodedata.normalize("NFC", term)
    try:
        if "#" in term[:-1] and term == term.strip("/"):
            raise ValueError("a number in the middle, or a comment")
        empty = hits(pa.array([""]), regex([term]))[0]
    except pa.ArrowInvalid as error:
        reason = str(error).rpartition("Invalid regular expression: ")[2]
        raise ValueError(f"{place}: {line} is a broken pattern: {reason}") from error
    except ValueError as error:
        raise ValueError(
            f"{place}: {line!r} is neither words nor a pattern: spell words with letters, digits, "
            "', # for a number and * for the rest of a word, and put a pattern between slashes; a "
            "comment has a line of its own"
        ) from error
    if empty:
        raise ValueError(f"{place}: {line} matches the empty string, and so every text")
    share, said = _refuse_ordinary([term], f"{place}: {line}")
    if share >= TOLD:
        print(f"warning: {said}", flush=True)
    return term


def _refuse_ordinary(some: list[str], what: str) -> tuple[float, str]:
    """The share of ordinary captions that terms match, and a sentence that says so; ValueError
    where they match most.
    """
    captions = ordinary()
    hit = hits(pa.array(captions), regex(some))
    said = f"{what} matches {hit.sum()} of {len(hit)} ordinary captions"
    if hit.any():
        said += f", such as {captions[hit.argmax()]!r}"
    if hit.mean() >= REFUSED:
        raise ValueError(f"{said}: name what only views from above have in their captions")
    return hit.mean(), said
