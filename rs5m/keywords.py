"""Stage 1 of PUB11: which alt-texts speak of a picture taken from above. Chapter: keywords.

The terms stand in ``data/keywords.toml``: our own list, since the paper's was not published with
its code. The filter is for recall; a satellite dish passes here and is the later stages' work.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


@cache
def _toml() -> dict:
    return tomllib.loads(
        resources.files("rs5m").joinpath("keywords.toml").read_text(encoding="utf-8")
    )


def groups() -> dict[str, dict]:
    """The keyword groups of ``data/keywords.toml``.

    Returns {group: {"reason": str, "terms": [str, ...]}} in the file's order. Chapter: keywords.
    """
    return {
        name: {"reason": g["reason"], "terms": list(g["terms"])}
        for name, g in _toml()["groups"].items()
    }


def terms() -> list[str]:
    """All terms of all groups, in the file's order and spelling. Chapter: keywords."""
    return [term for group in _toml()["groups"].values() for term in group["terms"]]


def _letter(char: str) -> str:
    """Either case of one ASCII letter; (?i) would also bring in the long s, the Kelvin sign and
    dotless i.
    """
    return f"[{char.upper()}{char}]" if char.isalpha() else char


def _plural(word: str) -> list[str]:
    """The tokens that end a term whose last word is `word`: the singular and the plural ending."""
    e, s = _letter("e"), _letter("s")
    if word[-1] == "y" and word[-2:-1] not in tuple("aeiou"):
        return [f"(?:{_letter('y')}|{_letter('i')}{e}{s})"]
    last = _letter(word[-1])
    return [last, f"(?:{e}{s})?" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{s}?"]


def _tokens(term: str) -> list[str]:
    """One term as a list of small regular expressions, to be written one behind the other."""
    if not re.fullmatch(r"[a-z0-9]+(?:[' ][a-z0-9#]+)*", term):
        raise ValueError(
            f"keywords.toml: {term!r} is not lower-case ASCII words; spell it with a-z, 0-9, ' "
            "and #."
        )
    special = {" ": _GAP, "'": _QUOTE, "#": "[0-9][0-9]?[A-Za-z]?"}
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


@cache
def pattern() -> str:
    """The regular expression of all terms: whole words, any case, space, hyphen, plural and
    apostrophe variants.

    No flags, look-around or escapes such as \\w, so Rust's regex (Daft), RE2 (Arrow, pandas) and
    Python's `re` accept it and agree on every Unicode text. Full-width letters count as letters but
    are not folded: normalise such text (NFKC) first. Chapter: keywords.
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


def matches(texts) -> np.ndarray:
    """Which of `texts` hold a keyword.

    texts: n strings as list, numpy, pandas or Arrow array; bytes are read as UTF-8 with bad bytes
    replaced; None, NaN and other types are False. Returns bool (n,). Chapter: keywords.
    """
    if isinstance(texts, str | bytes):
        raise TypeError("matches() takes a list of texts, not one text; put it into a list.")
    hit = pc.match_substring_regex(as_strings(texts), pattern())
    return (
        pc.fill_null(hit, False).to_numpy(zero_copy_only=False) if len(hit) else np.zeros(0, bool)
    )


@cache
def _compiled(group: str) -> dict[str, re.Pattern]:
    listed = _toml()["traps"]["terms"] if group == "traps" else terms()
    return {term: re.compile(_compose([term])) for term in listed}


def _found(text, group: str) -> list[str]:
    text = _string(text)
    return (
        []
        if text is None
        else [term for term, compiled in _compiled(group).items() if compiled.search(text)]
    )


def explain(text) -> list[str]:
    """The terms found in one text, in the toml's spelling and order; [] for no text. Chapter:
    keywords.
    """
    return _found(text, "terms")


def traps(text) -> list[str]:
    """The phrases in one text that use a keyword in another sense ("satellite dish"); for reports,
    never for dropping.

    Same rules as `explain`. Chapter: keywords.
    """
    return _found(text, "traps")


def expression(column: str | daft.Expression) -> daft.Expression:
    """The filter as a Daft expression: true where the string column holds a keyword, false for
    null.

    A column of another type is cast to text first; binary values that are not UTF-8 become null
    there, hence false (`matches` replaces the bad bytes instead). Runs on Daft's native and Ray
    runners. Chapter: keywords.
    """
    column = daft.col(column) if isinstance(column, str) else column
    return column.cast(daft.DataType.string()).regexp(pattern()).fill_null(False)
