"""What tuning on RSICD's captions does on three sets that it has never seen (`rs5m.book.rsicd`,
`bench/deeper.py`), as tables and words. Chapter: tune.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rs5m import results
from rs5m.book import causes, contact, plots, rsicd
from rs5m.book.rsicd import ARMS, LEFT_OUT, TESTS
from rs5m.book.scales import Scale
from rs5m.book.scorecard import NAMES
from rs5m.intervals import in_words

GENERAL, BEFORE = "the general model", "the head before"  # arms of bench/deeper.py


def experiment(scale: Scale) -> dict | None:
    """`rs5m.book.rsicd.measure`, or what was stored, see `rs5m.results.measured`."""
    return results.measured("rsicd", "local", rsicd.there(scale), lambda: rsicd.measure(scale))


def table(values: dict) -> pd.DataFrame:
    """Balanced zero-shot accuracy in % by test set and arm, with the gains and their intervals."""

    rows = {}
    for name, found in values["tests"].items():
        arms = {arm: in_words(one, "gain") for arm, one in found["arms"].items()}
        rows[NAMES[name]] = {"chance": f"{found['chance']:.1f}"} | arms
        rows[NAMES[name]] |= {
            k: in_words(found[k], "gain", sign="+") for k in ("over general", "over colour")
        }
    return pd.DataFrame(rows).T


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the section's first paragraph; NaN where none is stored."""
    if values is None:
        return {"images": np.nan} | {f"{name}_{arm}": np.nan for name in TESTS for arm in ARMS}
    numbers = {"images": values["images"]}
    for name, found in values["tests"].items():
        numbers |= {f"{name}_{arm}": found["arms"][arm]["gain"] for arm in ARMS}
    return numbers


def new_classes(values: dict | None) -> str:
    """What tuning does for the classes that are new to the captions, in words."""
    said = []
    for name, found in values["tests"].items() if values else ():
        if new := found.get("unheard"):
            level = {arm: in_words(one, "gain") for arm, one in new["arms"].items()}
            said.append(
                f"{contact.levels(new)} of {NAMES[name]}, together from {level['general']} to "
                f"{level['tuned']} % on their {new['images']:,} images, colour reaches "
                f"{level['colour']} %"
            )
    return "; ".join(said) or "no stored run has any"


def deeper() -> pd.DataFrame:
    """Every arm of bench/deeper.py: epochs behind the head's own, mean recall on the validation
    split, and by test set the distance to the head before, in points.
    """
    values = causes.stored("deeper")
    recall, told = _recall(values), {}
    epochs = {row["arm"]: row["epochs"] for row in values["arms"]}
    for name, arms in values.get("tests", {}).items():
        for arm, found in arms.items():
            row = told.setdefault(arm, {"epochs more": epochs[arm]})
            row["validation recall, %"] = round(recall[arm], 1)
            first = arm == BEFORE
            row[_named(name)] = (
                f"{in_words(found['level'], 'gain')} %"
                if first
                else in_words(found["over the head"], "gain", sign="+")
            )
    return pd.DataFrame(told).T.fillna("not tested")


def _recall(values: dict) -> dict[str, float]:
    """Mean recall on the validation split by arm, seed 0, at the rate that it chose."""
    best = {}
    for row in values["arms"]:
        if row["seed"] == 0:
            best[row["arm"]] = max(row["mean recall"], best.get(row["arm"], 0))
    return best


def _named(name: str) -> str:
    """A set of bench/deeper.py as tables call it."""
    of, _, new = name.partition(", ")
    return f"{new} of {NAMES[of]}" if new else NAMES[of]


def deeper_in_words() -> dict[str, str]:
    """What the prose says of bench/deeper.py: `validation` (recall by arm), and `found`: where each
    arm is ahead of the head before, or behind it, with its whole interval.
    """
    values = causes.stored("deeper")
    if "tests" not in values:
        return dict.fromkeys(("validation", "found"), "not measured")
    recall, found = _recall(values), []
    for arm in recall:
        if arm in (GENERAL, BEFORE):
            continue
        over = {n: arms[arm]["over the head"] for n, arms in values["tests"].items() if arm in arms}
        sides = {
            "ahead on": [n for n, one in over.items() if one["low"] > 0],
            "behind on": [n for n, one in over.items() if one["high"] < 0],
            "level on": [n for n, one in over.items() if one["low"] <= 0 <= one["high"]],
        }
        said = (f"{side} {_listed(names)}" for side, names in sides.items() if names)
        found.append(f"{arm} is {'; '.join(said)}")
    seeds = "one seed" if values["seeds"] == 1 else f"{values['seeds']} seeds"
    return {
        "validation": ", ".join(f"{arm} {value:.1f} %" for arm, value in recall.items()),
        "found": f"{'. '.join(found).replace('. the', '. The')} ({seeds})",
    }


def _listed(names: list[str]) -> str:
    *rest, last = map(_named, names)
    return f"{', '.join(rest)} and {last}" if rest else last


def figure(values: dict):
    """The arms of every test set with their intervals."""
    points = [
        (NAMES[name], arm, one["gain"], one["low"], one["high"])
        for name, found in values["tests"].items()
        for arm, one in found["arms"].items()
    ]
    return plots.intervals(points, "balanced zero-shot accuracy, %")


def by_class(values: dict) -> pd.DataFrame:
    """Share that is right, in %, of each class that is new to the captions, by arm."""
    rows = {
        (NAMES[name], of): level
        for name, found in values["tests"].items()
        for of, level in found.get("unheard", {}).get("by class", {}).items()
    }
    return pd.DataFrame(rows).T.reindex(columns=list(ARMS)).round(1)


def left_out() -> pd.DataFrame:
    """The training images left out, see `rs5m.book.rsicd.left_out`; empty where none is stored."""
    path = results.stored(LEFT_OUT, "local")
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()
