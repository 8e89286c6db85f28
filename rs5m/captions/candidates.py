"""Candidate captions for images, by BLIP-2 or another captioner, and what is kept of them.
Chapter: captions.

* paper, RS3: 20 candidates an image by BLIP-2; one CLIP keeps the best 10, a different CLIP the
  best 5 of those
* official inference code: nucleus sampling, top_p 0.95, top_k 50, max length 50; LoRA tuned on
  RSITMD
* not in the paper: the cleaning before the ranking, and the rate of captions that name something
  else (both ours)
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from rs5m.clip import MAX_TOKENS, check_images

CANDIDATES = 20  # paper
KEEP = (10, 5)  # paper: what model A and then model B leave
Images = Sequence[np.ndarray]


class Captioner(Protocol):
    """Anything that writes candidates: uint8 images (h, w, 3) in, for each image a list of n
    strings out.
    """

    def generate(self, images: Images, n: int = CANDIDATES) -> list[list[str]]:
        """n strings for each image; see `check` for what is not an image."""


def check(images: Images, n: int) -> None:
    """ValueError, in one sentence, for no images, n < 1 or anything but uint8 arrays (h, w, 3)."""
    if not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n is {n!r}: ask for at least one candidate an image")
    if images is None or not len(images):
        raise ValueError("there are no images to caption: give at least one uint8 array (h, w, 3)")
    check_images(images)


class Cleaned(NamedTuple):
    """The candidates of one image that are kept, in order, and (text, reason) of every other."""

    kept: list[str]
    dropped: list[tuple[str, str]]


def clean(candidates: Sequence[str], longest: int = MAX_TOKENS) -> Cleaned:
    """Keep an image's candidates, or drop them with a reason; kept ones have single spaces.

    - empty: no letter in it; another script: fewer than half of its letters are Latin
    - broken characters: bytes that are not text, as byte-level tokens give when they are cut
    - too long: more than `longest` words, so more tokens than CLIP reads whatever its tokenizer
    - duplicate: equal to an earlier one but for case, spaces, punctuation and the way its
      characters are written

    ValueError for a string instead of a list. Paper: RS3 captions (the rules are ours).
    """
    if isinstance(candidates, str):
        raise ValueError("candidates is one string: give a list of strings")
    kept, dropped, seen = [], [], set()
    for text in candidates:
        if why := _fault(text, longest) or ("duplicate" if words(text) in seen else ""):
            dropped.append((text, why))
        else:
            seen.add(words(text))
            kept.append(" ".join(text.split()))
    return Cleaned(kept, dropped)


def _fault(text: str, longest: int) -> str:
    letters = [c for c in text if c.isalpha()] if isinstance(text, str) else []
    if not letters:
        return "empty"
    if any(c == "\ufffd" or 0xD800 <= ord(c) < 0xE000 for c in text):
        return "broken characters"
    if 2 * sum("LATIN" in unicodedata.name(c, "") for c in letters) < len(letters):
        return "another script"
    return "too long" if len(text.split()) > longest else ""


def rank(
    similarity_a: np.ndarray, similarity_b: np.ndarray, keep: tuple[int, int] = KEEP
) -> np.ndarray:
    """The candidates two models leave of each image: ints (images, keep[1]), best by B first, -1
    where there are fewer.

    similarity_a, similarity_b: (images, candidates) by two different models, NaN in both where an
    image has no such candidate. A keeps the best keep[0], B the best keep[1] of those: no single
    model's taste. Ties go to the earlier candidate. ValueError for other shapes, an infinite value,
    NaN in one alone, or a keep that is not falling. Paper: RS3 captions.
    """
    a, b = np.asarray(similarity_a, np.float64), np.asarray(similarity_b, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"similarities have shapes {a.shape} and {b.shape}: give two of shape "
            "(images, candidates)"
        )
    if np.isinf(a).any() or np.isinf(b).any() or (np.isnan(a) != np.isnan(b)).any():
        raise ValueError(
            "similarities are infinite, or absent (NaN) in one model only: give finite numbers or "
            "two NaN"
        )
    if not 1 <= keep[1] <= keep[0]:
        raise ValueError(
            f"keep is {keep}: the second model keeps at least 1 and at most what the first one left"
        )
    first = np.argsort(-a, axis=1, kind="stable")[:, : keep[0]]  # NaN last
    first.sort(1)  # so that B's ties, too, go to the earlier candidate
    left = np.take_along_axis(b, first, 1)
    order = np.argsort(-left, axis=1, kind="stable")[:, : keep[1]]
    absent = np.isnan(np.take_along_axis(left, order, 1))
    chosen = np.where(absent, -1, np.take_along_axis(first, order, 1))
    return np.pad(chosen, ((0, 0), (0, keep[1] - chosen.shape[1])), constant_values=-1)


def words(text: str) -> tuple[str, ...]:
    """The words of a text without case, punctuation and variants of writing, for comparing."""
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


class Named(NamedTuple):
    """For each text whether it names one of its own names, and whether it names any other: two bool
    arrays (texts,).
    """

    own: np.ndarray
    other: np.ndarray


def named(texts: Sequence[str], known: Sequence[Sequence[str]], names: Iterable[str]) -> Named:
    """Which texts name what is known of their image, and which name something else, a
    hallucination.

    known: for each text the names that are true of it (its class and synonyms, or its city, state
    and country); names: all names there are. Whole words without case, the longest name at each
    place: "woody savannas" does not name "savannas", "Equatorial Guinea" not "Guinea". The rate is
    `named(...).other.mean()`. ValueError for other lengths, a string where a list of names belongs,
    or no name at all.
    """
    strings = isinstance(names, str) or any(isinstance(own, str) for own in known)
    if strings or len(texts) != len(known):
        raise ValueError(
            f"{len(texts)} texts and {len(known)} lists of known names: give one list for each text"
        )
    every = {words(name) for name in names} | {words(name) for own in known for name in own}
    every.discard(())
    if not every:
        raise ValueError("there is no name to look for: give all classes or places in `names`")
    longest = max(map(len, every))
    own, other = np.zeros((2, len(texts)), bool)
    for i, (text, names_of_it) in enumerate(zip(texts, known, strict=True)):
        said, right = set(_names(words(text), every, longest)), set(map(words, names_of_it))
        own[i], other[i] = bool(said & right), bool(said - right)
    return Named(own, other)


def _names(
    text: tuple[str, ...], names: set[tuple[str, ...]], longest: int
) -> Iterable[tuple[str, ...]]:
    place = 0
    while place < len(text):
        sizes = range(min(longest, len(text) - place), 0, -1)
        parts = (text[place : place + size] for size in sizes)
        name = next((part for part in parts if part in names), None)
        if name:
            yield name
        place += len(name) if name else 1
