"""RS3's published captions, how far CLIP reads them, and the marks that people gave them. Measured
at the one scale that has the files, stored for the pages of all. Chapter: rs3.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import scipy.stats

from rs5m import intervals, paper, results
from rs5m.book import contact, weights
from rs5m.book.scales import Scale, data_folder
from rs5m.captions.sentences import CELLS, MONTHS, season
from rs5m.clip import MAX_TOKENS
from rs5m.evaluate import cards
from rs5m.rs3 import published

CELL = r"(?:(?:top|center|bottom)-(?:left|center|right)|center)"
FIELDS = {  # of an fMoW caption, in its order
    "position": rf"{CELL} and {CELL}\b",
    "ground sample distance": r"\d\.\d\dm",
    "UTM zone": r"utm zone:? \d+[C-X]",
    "hour and date": r"\d+ o'clock, \w+ \d+, \d{4}",
    "cloud cover": r"\d+%",
    "scan direction": r"\b(?:forward|reverse)\b",
    "target azimuth": r"target azimuth\D*[\d.]+",
    "off-nadir angle": r"off-nadir\D*[\d.]+",
    "visual part": r"^.*\. \S+",
}
SOUTH, TROPICS = "CDEFGHJ", "LMNP"  # UTM bands wholly south of 24 S, and from 16 S to 16 N
BINS = np.arange(0, 170, 2)  # tokens
MEASURES = {name: name.replace("_", " and ") for name in published.MEASURES}


def stored(scale: Scale) -> dict | None:
    """`measure` of the scale's data folder, or what was stored, see `rs5m.results.measured`."""
    here = scale.name == "local"
    return results.measured("published", "local", here, lambda: measure(data_folder(scale)))


def measure(folder: Path) -> dict:
    """Values of both halves of the chapter: `captions` and `ratings`."""
    return {"captions": captions(folder), "ratings": ratings(published.ratings(folder))}


# ---------------------------------------------------------------- captions


def captions(folder: Path) -> dict:
    """What the published captions hold and CLIP reads, see the functions below.

    tokens: subset -> captions of 2, 4, ... tokens; fields: % of fMoW's captions that show CLIP so
    much; visual: captions that show a word of the visual part, of `fmow`; names: see
    `published.renderings`; contact: test set -> `rs5m.book.contact.count`.
    """
    listed = published.captions(folder)
    listed = listed.join(published.clip_reads(listed.caption))
    agree(listed)
    fmow = listed[listed.subset == "fMoW"]
    both = list(zip(fmow.caption, fmow.read, strict=True))
    reach = {name: [reached(*one, field) for one in both] for name, field in FIELDS.items()}
    views = int(paper.table("rs3_sources").set_index("dataset").images["fMoW"]) // 2
    tokens = listed.groupby("subset").tokens
    return {
        "tokens": {name: np.histogram(some, BINS)[0].tolist() for name, some in tokens},
        "fields": {name: round(100 * float(np.mean(hit)), 1) for name, hit in reach.items()},
        "visual": int(sum(reach["visual part"])),
        "fmow": len(fmow),
        "positions": positions(listed),
        "seasons": seasons(fmow.caption),
        "names": published.renderings(listed["name"], views) | {"views": views},
        "contact": touched(listed.caption),
    }


def touched(texts: pd.Series) -> dict[str, dict]:
    """What captions have to do with EuroSAT, on which the paper tests, and with WHU-RS19. Its other
    sets have classes that are words of every kind of caption, such as cloud and center.
    """
    classes = {"eurosat": cards.card("eurosat")["classes"], weights.FOLDER: weights.CLASSES}
    captions = [(text,) for text in texts]
    return {
        name: contact.count(captions, SimpleNamespace(name=name, classes=held))
        for name, held in classes.items()
    }


def agree(listed: pd.DataFrame) -> None:
    """Stop if the captions are not those of the paper's table of lengths."""
    facts = paper.table("rs3_caption_lengths")
    facts = facts.pivot(index="dataset", columns="quantity", values="value")[
        facts.quantity.unique()
    ]
    by = listed.assign(
        over=listed.tokens > MAX_TOKENS, position=listed.caption.str.contains(published.POSITION)
    ).groupby("subset")
    measured = by.agg(
        captions=("tokens", "size"),
        mean=("tokens", "mean"),
        median=("tokens", "median"),
        maximum=("tokens", "max"),
        over=("over", "mean"),
        position=("position", "mean"),
    ).loc[facts.index]
    allowed = 0.5001 / 10.0 ** np.array([0, 1, 0, 0, 3, 3])  # as the table rounds
    assert (abs(measured.to_numpy(float) - facts.to_numpy(float)) <= allowed).all()


def reached(caption: str, read: str, pattern: str) -> bool:
    """Whether CLIP reads the field's last letter; spaces differ and are not counted."""
    before = caption[: re.search(pattern, caption).end()]
    return len("".join(before.split())) <= len("".join(read.split()))


def positions(listed: pd.DataFrame) -> dict:
    """pairs: the five commonest pairs of cells in fMoW's captions, with counts; tie: the pair that
    a box inside the middle cell gets, `ties` times; of the `others`, captions of other subsets that
    the facts count, `cells` name a cell and `top` say "top of".
    """
    fmow = listed[listed.subset == "fMoW"].caption
    pair = fmow.str.extract(rf"((?<!-){CELL} and {CELL})\b")[0]
    # An object inside the middle cell overlaps no other cell: the other eight tie, and equal cells
    # stay in reading order.
    order = np.argsort(np.arange(9) != 4, kind="stable")
    tie = " and ".join(CELLS[cell].replace(" ", "-") for cell in order[:2])
    words = listed[listed.subset != "fMoW"].caption
    words = words[words.str.contains(published.POSITION)]
    cells = words.str.contains(r"(?:top|center|bottom)-(?:left|center|right)").sum()
    return {
        "pairs": pair.value_counts().head(5).to_dict(),
        "tie": tie,
        "ties": int((pair == tie).sum()),
        "others": len(words),
        "cells": int(cells),
        "top": int(words.str.contains("top of").sum()),
    }


def seasons(texts: pd.Series) -> dict[str, int]:
    """Of the captions from places `south` of 24 degrees south, `wrong` name the season that their
    month has in the north alone; `tropics` come from within 16 degrees of the equator.
    """
    names = "|".join(MONTHS)
    month = texts.str.extract(rf"({names}) \d+, \d{{4}}")[0].map(MONTHS.index) + 1
    band = texts.str.extract(r"utm zone:? \d+([C-X])")[0]  # of 8 degrees each, C starts at 80 S
    named = {}
    for latitude in (45, -45):
        words = [season(m, latitude).replace("autumn", "fall").title() for m in month]
        both = zip(words, texts, strict=True)
        named[latitude] = np.array([bool(re.search(rf"\b{word}\b", text)) for word, text in both])
    assert named[45].all()  # every caption names the northern season of its month
    south = band.isin(list(SOUTH))
    return {
        "south": int(south.sum()),
        "wrong": int((named[45] & ~named[-45])[south].sum()),
        "tropics": int(band.isin(list(TROPICS)).sum()),
    }


# ---------------------------------------------------------------- ratings


def ratings(every: pd.DataFrame) -> dict:
    """What the marks say; a row repeated word for word is a copy and is left out.

    files: see below; means: rows of (measure, subset, mean, low, high); between: measure -> subset
    -> file -> mean, with the share of 1 or 2; low: captions with a mark of 1 or 2, and all, of each
    file; relevance: of MillionAID in each file; length: rows of (captions, rank correlation of
    length and mark, low, high); corner: see below.
    """
    kept = every[~every.duplicated()]
    assert (kept[published.MEASURES].corr("spearman") > 0).all(axis=None)
    low = (kept[published.MEASURES] <= 2).any(axis=1)
    kept = kept.assign(mark=kept[published.MEASURES].mean(axis=1), low=low)
    million = kept[kept.subset == "MillionAID"].groupby("file", sort=False).relevance_detail
    return {
        "files": files(every),
        "means": means(kept),
        "between": between(kept),
        "low": [(int(one.sum()), len(one)) for _, one in kept.groupby("file", sort=False).low],
        "relevance": [intervals.bootstrap(mean, some) for _, some in million],
        "length": lengths(kept),
        "corner": corner(kept[kept.subset == "fMoW"]),
    }


def bracket(value: float, low: float, high: float, sign: str = "") -> str:
    """A value with its interval, as in "4.82 [4.78, 4.86]". Args: value, low and high, with two
    digits; sign, "+" for changes.
    """
    found = {"value": value, "low": low, "high": high}
    return intervals.in_words(found, digits=2, sign=sign)


def mean(marks: np.ndarray) -> np.ndarray:
    """The mean over the last axis, of one sample or of many at once."""
    return marks.mean(axis=-1)


def files(every: pd.DataFrame) -> list[dict]:
    """For each file: its rows and images, the rows that repeat another, the marks that are missing,
    and the lowest mark.
    """
    counted = every.assign(
        missing=every[published.MEASURES].isna().sum(axis=1),
        repeated=every.duplicated(),
        lowest=every[published.MEASURES].min(axis=1),
    )
    return (
        counted.groupby("file", sort=False)
        .agg(
            rows=("file", "size"),
            images=("image_path", "nunique"),
            repeated=("repeated", "sum"),
            missing=("missing", "sum"),
            lowest=("lowest", "min"),
        )
        .reset_index()
        .to_dict("records")
    )


def means(kept: pd.DataFrame) -> list[tuple]:
    """(measure, subset, mean, low, high) of every measure in every subset."""
    return [
        (MEASURES[one], subset, *intervals.bootstrap(mean, kept[kept.subset == subset][one]))
        for subset in published.SUBSETS.values()
        for one in published.MEASURES
    ]


def between(kept: pd.DataFrame) -> dict:
    """measure -> subset -> file -> mean mark, and the share of captions with a mark of 1 or 2."""
    table = kept.groupby(["subset", "file"], sort=False)[[*published.MEASURES, "low"]].mean()
    table = table.rename(columns=MEASURES | {"low": "share with 1 or 2"}).round(3)
    return {name: table[name].unstack("file").to_dict("index") for name in table}


def lengths(kept: pd.DataFrame) -> list[tuple]:
    """(captions, rank correlation, low, high) of a caption's length in words and its mean mark, of
    all captions and of each subset.
    """
    words = kept.description.str.split().str.len()
    some = [("all together", kept), *kept.groupby("subset")]
    found = [(n, *intervals.bootstrap(spearman, words[one.index], one.mark)) for n, one in some]
    assert np.isclose(found[0][1], scipy.stats.spearmanr(words, kept.mark).statistic)
    return found


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis, of one sample or of many at once."""
    x, y = (scipy.stats.rankdata(v, axis=-1) for v in (x, y))
    x, y = (v - v.mean(axis=-1, keepdims=True) for v in (x, y))
    return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


def corner(fmow: pd.DataFrame) -> list[tuple]:
    """(captions, mean, low, high) of the marks for hallucination: of captions that name the tied
    pair, of the others, and of those in which a question mark replaces a letter.
    """
    named = fmow.description.str.contains(r"(?<!-)center and top-left")
    # A letter is missing from a town's name.
    broken = fmow.description.str.contains(r"[A-Za-z]\?|\?[A-Za-z]")
    groups = (named, ~named, broken)
    return [(int(g.sum()), *intervals.bootstrap(mean, fmow.hallucination[g])) for g in groups]
