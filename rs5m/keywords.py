"""Stage 1 of PUB11: which alt-texts speak of a picture taken from above. Chapter: keywords.

The terms stand in ``keywords.toml``: our own list, since the paper's was not published with its
code; a second list, off by default, that finds what the first misses; and phrases that are traps.
The filter is for recall; a satellite dish passes here and is the later stages' work.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rs5m import intervals

# Rust, RE2 and Python disagree on \w, \s, \b and (?i) beyond ASCII, so the pattern spells its
# classes out and the engines have nothing left to interpret. A Latin, Greek or Cyrillic letter
# (full-width forms and combining marks included) or a digit continues a word; anything else ends
# one: punctuation, emoji, "_" (file names serve as alt-text), and scripts that put no space beside
# an English word, such as Chinese.
_WORD = "0-9A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\u02af\u0300-\u037d\u037f-\u0386\u0388-\u052f\u1d00-\u1fff"
_WORD += "\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
# White space, hyphens, dashes and what is drawn as nothing; kept short, because the class is
# repeated for every space in the list and Daft compiles the pattern once per batch of rows.
_GAP = "[\t-\r _\\-\xa0\xad\u2000-\u2015\u202f\u2212\u3000]*"
_QUOTE = "['`\xb4\u02bc\u2018\u2019\u2032\uff07]?"
_LEFT, _RIGHT = f"(?:^|[^{_WORD}])", f"(?:$|[^{_WORD}])"
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_TEXT += (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_SPELLING = re.compile(r"a+\*?(?:[' ][a#]+\*?)*")  # of a term, with "a" for every letter and digit
# Captions that have little in common: what finds them all is no keyword.
_ORDINARY = ("a cat on the sofa", "blue dress, size 38", "wedding in Rome", "IMG 0412", "my dog")
REPORT = pa.schema(
    [("kind", pa.string()), ("term", pa.string()), ("pairs", pa.int64()), ("judged", pa.int64())]
    + [(name, pa.float64()) for name in ("precision", "low", "high")]
)


@cache
def _toml() -> dict:
    return tomllib.loads(
        resources.files("rs5m").joinpath("keywords.toml").read_text(encoding="utf-8")
    )


def groups(more: bool = False) -> dict[str, dict]:
    """The groups of the list, or of the second list, in the file's order:
    {group: {"reason": str, "terms": [str, ...]}}.
    """
    return {
        name: {"reason": g["reason"], "terms": list(g["terms"])}
        for name, g in _toml()["more" if more else "groups"].items()
    }


def terms(more: bool = False) -> list[str]:
    """All terms of all groups, in the file's order and spelling."""
    return [term for group in groups(more).values() for term in group["terms"]]


def trap_terms() -> list[str]:
    """The phrases in which a keyword means something else."""
    return list(_toml()["traps"]["terms"])


def _letter(char: str) -> str:
    """Either case of one letter; (?i) would also bring in the long s, the Kelvin sign and dotless
    i. An accent may be a character of its own, and over a Latin letter it may be missing.
    """
    upper = char.upper()
    either = f"[{upper}{char}]" if len(upper) == 1 and upper != char else char
    first, *marks = unicodedata.normalize("NFD", char)
    if not marks:
        return either
    accent = "".join(marks) + "?" * (first.isascii() and len(marks) == 1)
    return f"(?:{either}|{_letter(first)}{accent})"


def _plural(word: str) -> list[str]:
    """The tokens that end a term whose last word is `word`: the singular and the plural ending."""
    e, s = _letter("e"), _letter("s")
    if not word[-1].isascii():
        return [_letter(word[-1])]
    if word[-1] == "y" and word[-2:-1] not in tuple("aeiou"):
        return [f"(?:{_letter('y')}|{_letter('i')}{e}{s})"]
    last = _letter(word[-1])
    return [last, f"(?:{e}{s})?" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{s}?"]


def _tokens(term: str) -> list[str]:
    """One term as a list of small regular expressions, to be written one behind the other."""
    shape = "".join("a" if unicodedata.category(c)[0] in "LMN" else c for c in term)
    if not _SPELLING.fullmatch(shape) or term != unicodedata.normalize("NFC", term.lower()):
        raise ValueError(
            f"keywords.toml: {term!r} is not words in small letters; spell it with letters, "
            "digits, ', # for a number and * for the rest of a word."
        )
    special = {" ": _GAP, "'": _QUOTE, "#": "[0-9][0-9]?[A-Za-z]?", "*": f"[{_WORD}]*"}
    tokens = [special.get(char) or _letter(char) for char in term]
    return tokens[:-1] + _plural(term.split(" ")[-1]) if term[-1].isalpha() else tokens


def _factor(node: dict) -> str:
    """The regular expression of a trie of tokens; shared beginnings are written once, which every
    engine likes.
    """
    branches = [token + _factor(child) for token, child in node.items() if token]
    body = branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})" if branches else ""
    return f"(?:{body})?" if "" in node and body else body


def _compose(some_terms: list[str]) -> str:
    root: dict = {}
    for term in some_terms:
        node = root
        for token in [*_tokens(term), ""]:
            node = node.setdefault(token, {})
    return f"{_LEFT}{_factor(root)}{_RIGHT}"


def _regex(some_terms: Iterable[str]) -> str:
    """One regular expression of terms and of patterns, which stand between slashes."""
    raw = [f"(?i:{term[1:-1]})" for term in some_terms if term.startswith("/")]
    words = [term for term in some_terms if not term.startswith("/")]
    spaced = [term for term in words if re.match(f"[{_WORD}]", term)]
    bare = ["".join(_tokens(term)) for term in words if term not in spaced]  # no space beside them
    return "|".join([_compose(spaced), *bare, *raw] if spaced else [*bare, *raw])


@cache
def pattern() -> str:
    """The regular expression of all terms: whole words, any case, space, hyphen, plural and
    apostrophe variants.

    No flags, look-around or escapes such as \\w, so Rust's regex (Daft), RE2 (Arrow, pandas) and
    Python's `re` accept it and agree on every Unicode text. Full-width letters count as letters but
    are not folded: normalise such text (NFKC) first.
    """
    return _compose(terms())


def _string(value) -> str | None:
    """`value` as text that encodes to UTF-8: bad bytes and lone surrogates become U+FFFD; other
    types become null.
    """
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    return (
        value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        if isinstance(value, str)
        else None
    )


def as_strings(texts) -> pa.Array | pa.ChunkedArray:
    """`texts` as Arrow strings that are valid UTF-8; whole columns take no Python loop unless a
    byte in them is bad.
    """
    array = texts.__arrow_array__() if hasattr(texts, "__arrow_array__") else texts
    if not isinstance(array, pa.Array | pa.ChunkedArray):
        return pa.array([_string(t) for t in texts], pa.large_string())
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not any(test(kind) for test in _TEXT):
        return pa.nulls(len(array), pa.large_string())
    try:
        return array.cast(pa.large_binary()).cast(
            pa.large_string()
        )  # the second cast is the one that checks UTF-8
    except pa.ArrowInvalid:
        return pa.array(
            [_string(t) for t in array.cast(pa.large_binary()).to_pylist()], pa.large_string()
        )


def _hits(strings: pa.Array | pa.ChunkedArray, regex: str) -> np.ndarray:
    if not len(strings):
        return np.zeros(0, bool)
    hit = pc.match_substring_regex(strings, regex)
    return pc.fill_null(hit, False).to_numpy(zero_copy_only=False)


def matches(texts) -> np.ndarray:
    """Which of `texts` hold a keyword.

    texts: n strings as list, numpy, pandas or Arrow array; bytes are read as UTF-8 with bad bytes
    replaced; None, NaN and other types are False. Returns bool (n,).
    """
    if isinstance(texts, str | bytes):
        raise TypeError("matches() takes a list of texts, not one text; put it into a list.")
    return _hits(as_strings(texts), pattern())


@cache
def _compiled(group: str) -> dict[str, re.Pattern]:
    listed = trap_terms() if group == "traps" else terms()
    return {term: re.compile(_compose([term])) for term in listed}


def _found(text, group: str) -> list[str]:
    text = _string(text)
    return (
        []
        if text is None
        else [term for term, compiled in _compiled(group).items() if compiled.search(text)]
    )


def explain(text) -> list[str]:
    """The terms found in one text, in the toml's spelling and order; [] for no text."""
    return _found(text, "terms")


def traps(text) -> list[str]:
    """The phrases in one text that use a keyword in another sense ("satellite dish").

    Same rules as `explain`.
    """
    return _found(text, "traps")


@dataclass(frozen=True)
class Keywords:
    """A list of keywords, and whether texts go whose every keyword stands in a trap."""

    terms: tuple[str, ...]
    drop_traps: bool = False

    @cached_property
    def pattern(self) -> str:
        """The regular expression of all terms, in RE2's syntax."""
        return _regex(self.terms)

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
        hit = _hits(strings, self.pattern)
        reasons = np.where(hit, None, "no_keyword")
        if self.drop_traps:
            reasons[hit] = np.where(self._trapped(strings.filter(pa.array(hit))), "trap", None)
        return reasons

    def _trapped(self, strings: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Whether no keyword is left once the traps are taken out."""
        inner = _compose(trap_terms()).removeprefix(_LEFT).removesuffix(_RIGHT)
        around = f"({_LEFT}){inner}({_RIGHT})"
        for _ in range(2):  # neighbours share the character between them
            strings = pc.replace_substring_regex(strings, around, r"\1|\2")
        return ~_hits(strings, self.pattern)

    def report(self, texts, labels: Iterable | None = None) -> pa.Table:
        """Term by term and trap by trap, the most frequent first: how many of `texts` hold it and,
        where there are labels (true or false, None for not judged), the share of true ones in
        percent with its 95 % interval. Columns of REPORT; what no text holds is left out.
        """
        strings, rows = as_strings(texts), []
        strings = strings.filter(pa.array(_hits(strings, self.pattern)))
        held = [None] * len(texts) if labels is None else list(labels)
        held = np.array(held, object)[_hits(as_strings(texts), self.pattern)]
        for kind, listed in (("term", self.terms), ("trap", trap_terms())):
            for term in listed:
                hit = _hits(strings, _regex([term]))
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
    comment. FileNotFoundError, or ValueError that names the line.
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
    if _hits(pa.array(_ORDINARY), _regex(found)).all():
        raise ValueError(f"{path} matches everything: {_ORDINARY[0]!r} and all other captions")
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
        every = _hits(pa.array(["", *_ORDINARY]), _regex([term]))
    except pa.ArrowInvalid as error:
        reason = str(error).rpartition("Invalid regular expression: ")[2]
        raise ValueError(f"{place}: {line} is a broken pattern: {reason}") from error
    except ValueError as error:
        raise ValueError(
            f"{place}: {line!r} is neither words nor a pattern: spell words with letters, digits, "
            "', # for a number and * for the rest of a word, and put a pattern between slashes; a "
            "comment has a line of its own"
        ) from error
    if every[0]:
        raise ValueError(f"{place}: {line} matches the empty string, and so every text")
    if every.all() or every[1:].all():
        raise ValueError(f"{place}: {line} matches everything: {_ORDINARY[0]!r}, for one")
    return term


def expression(column: str | daft.Expression) -> daft.Expression:
    """The filter as a Daft expression: true where the string column holds a keyword, false for
    null.

    A column of another type is cast to text first; binary values that are not UTF-8 become null
    there, hence false (`matches` replaces the bad bytes instead). Runs on Daft's native and Ray
    runners.
    """
    column = daft.col(column) if isinstance(column, str) else column
    return column.cast(daft.DataType.string()).regexp(pattern()).fill_null(False)
