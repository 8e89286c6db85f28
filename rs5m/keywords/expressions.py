"""Terms as regular expressions that Rust, RE2 and Python read alike. Chapter: keywords."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from rs5m.keywords.listed import terms

# Rust, RE2 and Python disagree on \w, \s, \b and (?i) beyond ASCII, so the pattern spells its
# classes out and the engines have nothing left to interpret. A Latin, Greek or Cyrillic letter
# (full-width forms and combining marks included) or a digit continues a word; anything else ends
# one: punctuation, emoji, "_" (file names serve as alt-text), and scripts that put no space beside
# an English word, such as Chinese.
WORD = "0-9A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\u02af\u0300-\u037d\u037f-\u0386\u0388-\u052f\u1d00-\u1fff"
WORD += "\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
# White space, hyphens, dashes and what is drawn as nothing; kept short, because the class is
# repeated for every space in the list and Daft compiles the pattern once per batch of rows.
_GAP = "[\t-\r _\\-\xa0\xad\u2000-\u2015\u202f\u2212\u3000]*"
_QUOTE = "['`\xb4\u02bc\u2018\u2019\u2032\uff07]?"
LEFT, RIGHT = f"(?:^|[^{WORD}])", f"(?:$|[^{WORD}])"
_SPELLING = re.compile(r"a+\*?(?:[' ][a#]+\*?)*")  # of a term, with "a" for every letter and digit


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


def tokens(term: str) -> list[str]:
    """One term as a list of small regular expressions, to be written one behind the other."""
    shape = "".join("a" if unicodedata.category(c)[0] in "LMN" else c for c in term)
    if not _SPELLING.fullmatch(shape) or term != unicodedata.normalize("NFC", term.lower()):
        raise ValueError(
            f"keywords.toml: {term!r} is not words in small letters; spell it with letters, "
            "digits, ', # for a number and * for the rest of a word."
        )
    special = {" ": _GAP, "'": _QUOTE, "#": "[0-9][0-9]?[A-Za-z]?", "*": f"[{WORD}]*"}
    tokens = [special.get(char) or _letter(char) for char in term]
    return tokens[:-1] + _plural(term.split(" ")[-1]) if term[-1].isalpha() else tokens


def _factor(node: dict) -> str:
    """The regular expression of a trie of tokens; shared beginnings are written once, which every
    engine likes.
    """
    branches = [token + _factor(child) for token, child in node.items() if token]
    body = branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})" if branches else ""
    return f"(?:{body})?" if "" in node and body else body


def compose(some_terms: list[str]) -> str:
    """One RE2 pattern for all terms, their common beginnings written once."""
    root: dict = {}
    for term in some_terms:
        node = root
        for token in [*tokens(term), ""]:
            node = node.setdefault(token, {})
    return f"{LEFT}{_factor(root)}{RIGHT}"


def regex(some_terms: Iterable[str]) -> str:
    """One regular expression of terms and of patterns, which stand between slashes."""
    raw = [f"(?i:{term[1:-1]})" for term in some_terms if term.startswith("/")]
    words = [term for term in some_terms if not term.startswith("/")]
    spaced = [term for term in words if re.match(f"[{WORD}]", term)]
    bare = ["".join(tokens(term)) for term in words if term not in spaced]  # no space beside them
    return "|".join([compose(spaced), *bare, *raw] if spaced else [*bare, *raw])


@cache
def pattern() -> str:
    """The regular expression of all terms: whole words, any case, space, hyphen, plural and
    apostrophe variants.

    No flags, look-around or escapes such as \\w, so Rust's regex (Daft), RE2 (Arrow, pandas) and
    Python's `re` accept it and agree on every Unicode text. Full-width letters count as letters but
    are not folded: normalise such text (NFKC) first.
    """
    return compose(terms())
