"""Protocols by name: how papers turn class names and captions into texts, and what they count
(protocols.toml). How far two papers differ by nothing else. Chapter: leaderboard.
"""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from rs5m import intervals, paper
from rs5m.evaluate.prompts import WORDS
from rs5m.vectors import normalise

USUAL = "rs5m"
ALL = "all"
PREFIX = "a satellite image. "  # of SkyScript's captions


class ZeroShot(NamedTuple):
    """Prompts of classes, how names stand in them ("folder" or "words"), how they are averaged
    ("rs5m" or "clip", see `rs5m.zeroshot.classifier`), and what of it is not checked.
    """

    title: str
    templates: tuple[str, ...]
    names: str
    averaging: str
    unchecked: str = ""


class Retrieval(NamedTuple):
    """What stands for a caption, how right answers are found, and the K of its recalls."""

    title: str
    k: tuple[int, ...]


class Asked(NamedTuple):
    """The protocols beside the usual one, and a table's columns of images and labels, "" for
    guessed ones.
    """

    protocols: tuple[str, ...] = ()
    image: str = ""
    label: str = ""


NONE = Asked()


@cache
def _all() -> dict[str, dict]:
    return tomllib.loads((files("rs5m.evaluate") / "protocols.toml").read_text(encoding="utf-8"))


def zeroshot() -> dict[str, ZeroShot]:
    """The protocols of classification by name."""
    found = {}
    for name, row in _all()["zeroshot"].items():
        templates = tuple(row["templates"]) or tuple(paper.prompts())
        found[name] = ZeroShot(**row | {"templates": templates})
    return found


def retrieval() -> dict[str, Retrieval]:
    """The protocols of retrieval by name."""
    return {
        name: Retrieval(row["title"], tuple(row["k"])) for name, row in _all()["retrieval"].items()
    }


def beside(name: str) -> tuple[str, ...]:
    """The protocols beside the usual one that a name asks for: none, itself or all others;
    ValueError for an unknown name.
    """
    known = tuple(_all()["zeroshot"])
    if name != ALL and name not in known:
        raise ValueError(f"unknown protocol {name!r}: choose one of {', '.join(known)}, or {ALL}")
    return tuple(one for one in known if one != USUAL and name in (one, ALL))


# ---------------------------------------------------------------- zero-shot


def spaced(folder: str) -> str:
    """A class name in lower case, parted into words: by `rs5m.evaluate.prompts.WORDS`, at capitals,
    underscores and strokes.
    """
    if folder in WORDS:
        return WORDS[folder]
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", folder)
    return " ".join(re.split(r"[\s_/-]+", parted.strip())).lower()


def texts(protocol: ZeroShot, names: Sequence[str], words) -> list[list[str]]:
    """The prompts of each class.

    Args:
        protocol: of `zeroshot`.
        names: of the classes, as the set has them.
        words: a `prompts.Words`; a name that a user gave stands in every protocol.
    """
    plain = [words.of_class(name) for name in names]
    if protocol.names == "words":
        plain = [words.names.get(name) or spaced(name) for name in names]
    return [[template.format(name) for template in protocol.templates] for name in plain]


# ---------------------------------------------------------------- retrieval


def captions(protocol: str, groups: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """The texts (m,) that a protocol makes of each image's captions, and which images each is right
    for: bool (images, m).
    """
    if protocol == "skyscript":
        place = {text: i for i, text in enumerate(dict.fromkeys(t for g in groups for t in g))}
        right = np.zeros((len(groups), len(place)), bool)
        for i, group in enumerate(groups):
            right[i, [place[text] for text in group]] = True
        return [PREFIX + text for text in place], right
    flat = [text for group in groups for text in group]
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    flat = [text.capitalize() for text in flat] if protocol == "remoteclip" else flat
    return flat, np.arange(len(groups))[:, None] == owner


def recall(
    image: np.ndarray, text: np.ndarray, right: np.ndarray, ks: Sequence[int]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """image_to_text_R@K, text_to_image_R@K and mean_recall in %, and their intervals, where several
    images may be right for a text.

    A query is answered if one of the K best is right; of equal scores the first counts as the
    better one. The mean is over the K of 1, 5 and 10, as in every protocol.

    Args:
        image, text: vectors (images, dim) and (texts, dim).
        right: bool (images, texts); what has no right answer is not a query.
        ks: the K.
    """
    scores = normalise(image.astype(np.float64)) @ normalise(text.astype(np.float64)).T
    values, between, draws = {}, {}, []
    sides = (("image_to_text", scores, right), ("text_to_image", scores.T, right.T))
    for side, rows, true in sides:
        rows, true = rows[true.any(1)], true[true.any(1)]
        best = np.argsort(-rows, axis=1, kind="stable")[:, : max(ks)]
        hit = np.take_along_axis(true, best, 1)
        hits = np.stack([hit[:, :k].any(1) for k in ks], 1).astype(float)
        weight = np.random.default_rng(0).multinomial(
            len(hits), np.full(len(hits), 1 / len(hits)), intervals.RESAMPLES
        )
        drawn = 100 * weight @ hits / len(hits)
        draws.append(drawn[:, [i for i, k in enumerate(ks) if k <= 10]])
        for i, k in enumerate(ks):
            values[f"{side}_R@{k}"] = 100 * float(hits[:, i].mean())
            between[f"{side}_R@{k}"] = intervals.percentiles(drawn[:, i])
    values["mean_recall"] = _mean_recall(values)
    between["mean_recall"] = intervals.percentiles(np.concatenate(draws, 1).mean(1))
    return values, between


def chance(right: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """What the values of `recall` are, on average, of scores drawn at random.

    right: bool (images, texts), as `recall` takes it.
    """
    values = {}
    for side, true in (("image_to_text", right), ("text_to_image", right.T)):
        count, n = true.sum(1)[true.any(1)], true.shape[1]
        for k in ks:  # no right answer among k of n that are drawn without putting back
            places = np.arange(min(k, n))
            missed = np.clip((n - count[:, None] - places) / (n - places), 0, None).prod(1)
            values[f"{side}_R@{k}"] = 100 * float(1 - missed.mean())
    return values | {"mean_recall": _mean_recall(values)}


def _mean_recall(values: dict[str, float]) -> float:
    return float(np.mean([v for name, v in values.items() if int(name.rpartition("@")[2]) <= 10]))
