"""The stored experiments of the chapter tune as tables, and what an arm of bench/halves.py changes.
Chapter: tune.
"""

import math

import numpy as np
import pandas as pd
import pytest

from bench import halves
from rs5m.book import causes

GAIN = {"gain": 1.0, "low": 0.5, "high": 1.5, "seeds": [1.0]}


def test_every_number_of_the_prose_has_an_arm_in_the_stored_results():
    told = causes.quoted()
    assert causes.QUOTED.keys() < told.keys() and "points" in told["worst"]
    numbers = [told[name] for name in causes.QUOTED]
    assert all(0 <= number <= 100 for number in numbers), "an arm has another name"
    assert len(causes.halves()) == len(causes.stored("halves")["arms"])


def test_without_stored_results_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(causes, "stored", lambda name: {"arms": []})
    assert math.isnan(causes.quoted()["pub11"]) and len(causes.halves()) == 0
    assert causes.rungs()["ahead"] == "not measured" and len(causes.ladder()) == 0


@pytest.mark.parametrize("low", [0.5, -0.5])
def test_an_arm_is_ahead_only_with_its_whole_interval(low, monkeypatch):
    gain = GAIN | {"low": low}
    arms = [
        {"change": "colour", "balanced": 50.0, "over_colour": GAIN | {"low": 0.0}, "seconds": 0.0},
        {"change": "more", "balanced": 51.0, "over_colour": gain, "over_same": gain, "seconds": 1},
    ]
    monkeypatch.setattr(causes, "stored", lambda name: {"arms": arms})
    told, table = causes.rungs(), causes.ladder()
    assert told["ahead"] == ("more" if low > 0 else "none") and told["count"] == 2
    assert told["best"] == (
        f"more: 51.0 %, +1.0 [{low:+.1f}, +1.5] points against colour from the same captions"
    )
    assert told["few"] == "not measured"
    assert isinstance(table, pd.DataFrame) and table.iloc[0, 3] == "—"


def test_colour_from_other_pairs_is_not_ahead_of_colour():
    """Stored is its distance to colour from the page's pairs, which says nothing of an arm."""
    arms = causes.stored("ladder")["arms"]
    better = [
        a for a in arms if a["change"].startswith(causes.COLOUR) and causes.over(a)["low"] > 0
    ]
    told = causes.rungs()
    assert better and causes.COLOUR not in told["ahead"] + told["best"]
    assert told["count"] < len(arms)


def test_what_the_halves_are_worth_is_read_from_the_stored_run(monkeypatch):
    gain = {"gain": -2.0, "low": -3.0, "high": -1.0}
    stored = {"values": {"worth": {"PUB11": gain, "both": gain}}}
    monkeypatch.setattr(causes.results, "load", lambda name, scale: stored)
    assert causes.worth() == (
        "-2.0 [-3.0, -1.0] points with PUB11 alone, -2.0 [-3.0, -1.0] points with both"
    )
    monkeypatch.setattr(causes.results, "load", lambda name, scale: None)
    assert "no stored run" in causes.worth()


@pytest.mark.parametrize("order", ["mixed", "even", "in turn", "after"])
def test_every_order_has_as_many_steps_and_shares_them_as_it_says(order):
    arm = halves.Arm("x", [], 8, order)
    steps = halves.plan([300, 100], arm, np.random.default_rng(0))
    assert [len(step) for step in steps] == [halves.BATCH] * 8
    first = [int((step < 300).sum()) for step in steps]
    share = halves.BATCH // 2
    expected = {
        "even": [share] * 8,
        "in turn": [halves.BATCH, 0] * 4,
        "after": [halves.BATCH] * 4 + [0] * 4,
    }
    if order == "mixed":
        assert abs(np.mean(first) / halves.BATCH - 0.75) < 0.03, "as the parts are large"
    else:
        assert first == expected[order]
    assert np.concatenate(steps).max() == 399 and np.concatenate(steps).min() == 0


def test_names_are_exchanged_and_nothing_else():
    text = "NASA: deciduous broadleaf forest near X, cropland"
    assert halves.renamed(text, halves.BACK) == "nasa: forest near x, annual crop"
    assert halves.renamed("a woody savanna", halves.BACK) == "a herbaceous vegetation"
    assert halves.renamed("Oslo from space", halves.BACK) == "Oslo from space"
    crop = halves.renamed("a patch with annual crop", halves.NEAREST)
    assert crop == "a patch with cropland"


def test_alt_texts_name_the_class_in_all_or_in_none():
    place = {"city": "Oslo", "country": "Norway", "state": "Viken"}
    told, silent = (halves.web_texts(["river"] * 40, [place] * 40, n) for n in (True, False))
    assert all("river" in text for text in told) and not any("river" in text for text in silent)
    assert len(set(silent)) > 5
