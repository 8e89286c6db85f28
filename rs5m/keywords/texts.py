"""Which texts hold a keyword, and which one. Chapter: keywords."""

from __future__ import annotations

import re
from functools import cache

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rs5m.keywords.expressions import compose, pattern
from rs5m.keywords.listed import terms, trap_terms

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_TEXT += (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def as_string(value) -> str | None:
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
        return pa.array([as_string(t) for t in texts], pa.large_string())
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not any(test(kind) for test in _TEXT):
        return pa.nulls(len(array), pa.large_string())
    try:
        return array.cast(pa.large_binary()).cast(
            pa.large_string()
        )  # the second cast is the one that checks UTF-8
    except pa.ArrowInvalid:
        return pa.array(
            [as_string(t) for t in array.cast(pa.large_binary()).to_pylist()], pa.large_string()
        )


def hits(strings: pa.Array | pa.ChunkedArray, regex: str) -> np.ndarray:
    """Which of n strings an RE2 pattern finds: bool (n,), False for null."""
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
    return hits(as_strings(texts), pattern())


@cache
def _compiled(group: str) -> dict[str, re.Pattern]:
    listed = trap_terms() if group == "traps" else terms()
    return {term: re.compile(compose([term])) for term in listed}


def _found(text, group: str) -> list[str]:
    text = as_string(text)
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


def expression(column: str | daft.Expression) -> daft.Expression:
    """The filter as a Daft expression: true where the string column holds a keyword, false for
    null.

    A column of another type is cast to text first; binary values that are not UTF-8 become null
    there, hence false (`matches` replaces the bad bytes instead). Runs on Daft's native and Ray
    runners.
    """
    column = daft.col(column) if isinstance(column, str) else column
    return column.cast(daft.DataType.string()).regexp(pattern()).fill_null(False)
