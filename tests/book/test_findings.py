"""The front page's findings: that words follow from intervals, and numbers from the results."""

import json
import re
from pathlib import Path

import pytest

from rs5m import results
from rs5m.book import findings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("gain", "colour", "said"),
    [
        ((1, 0.5, 2), None, "helps: +1.0 points (+0.5 to +2.0)"),
        ((-1, -2, -0.5), None, "harms: -1.0 points (-2.0 to -0.5)"),
        ((1, -0.5, 2), None, "undecided: +1.0 points (-0.5 to +2.0)"),
        ((1, 0.5, 2), (-3, -4, -2), "colour alone does better"),
        ((1, 0.5, 2), (3, 2, 4), "and beats colour"),
        ((1, 0.5, 2), (1, -1, 4), "no better than colour for sure"),
    ],
)
def test_a_verdict_follows_from_intervals(gain, colour, said):
    keys = ("gain", "low", "high")
    gain, colour = (values and dict(zip(keys, values, strict=True)) for values in (gain, colour))
    assert findings.verdict(gain, colour).endswith(said)


def test_every_number_is_that_of_a_result():
    table = findings.table("mini")
    assert len(table) == 5 and not table.isna().any(axis=None)
    values = results.load("zeroshot", "mini")["values"]["tests"]["pocket"]
    first = table.iloc[0]
    wanted = [values["models"][name]["balanced"] for name in ("general", "pub11+rs3")]
    assert re.findall(r"[\d.]+", first["before → after"]) == [f"{value:.1f}" for value in wanted]
    halves = results.load("rotation", "mini")["values"]["halves"]
    upright = halves["none: upright image"]["tied to a direction"]
    assert table.iloc[4]["before → after"].startswith(f"{upright:.1f} →")


def test_the_page_has_a_row_for_each_and_marks_what_has_a_but():
    said = findings.page("mini")
    assert said.count("<tr class=") == 5 and said.count("data-label") == 5 * len(findings.COLUMNS)
    beaten = [", but " in row for row in findings.table("mini")["verdict"]]
    assert said.count('class="but"') == sum(beaten)


def test_what_has_not_run_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "load", lambda name, scale: None)
    assert findings.table("mini").empty


def test_the_first_sentences_go_on_where_a_result_is_missing(monkeypatch):
    monkeypatch.setattr(findings, "rows", lambda: [{"ours": 1.0, "contact": "same set"}])
    whole, real = findings.sentences("mini"), results.load
    assert whole["clean"] == "none of 1 measured gains is"
    values = real("zeroshot", "mini")["values"]["tests"]["pocket"]
    reached = values["baselines"]["six colour numbers, same captions"]["balanced"]
    assert whole["colour"] == round(reached, 1) and whole["chance"] == 10 < whole["probe"]
    assert findings.UNKNOWN not in whole.values()
    older = {k: v for k, v in values.items() if k not in ("baselines", "over_colour")}
    first = {"values": {"tests": {"pocket": older}}}
    monkeypatch.setattr(results, "load", lambda *of: first if of[0] == "zeroshot" else real(*of))
    unknown = dict.fromkeys(("chance", "colour", "probe"), findings.UNKNOWN)
    assert findings.sentences("mini") == whole | unknown
    monkeypatch.setattr(results, "load", lambda *_: None)
    timed = {"time": whole["time"], "clean": whole["clean"]}
    assert findings.sentences("mini") == dict.fromkeys(whole, findings.UNKNOWN) | timed
    minutes = json.loads((ROOT / "results/mini/timing.json").read_text())["seconds"] / 60
    assert whole["time"].startswith(f"{minutes:.0f} minutes on ")
    monkeypatch.setattr(results, "stored", lambda file, scale: ROOT / "none" / file)
    counted = {"clean": whole["clean"]}
    assert findings.sentences("mini") == dict.fromkeys(whole, findings.UNKNOWN) | counted


def test_no_verdict_stands_whatever_the_numbers_are():
    pub11, rotation = (results.load(name, "mini")["values"] for name in ("pub11", "rotation"))
    worse = {"rate": 50.0, "low": 48.0, "high": 52.0}
    said = findings._cleaned(pub11 | {"final": pub11["final"] | {"precision": worse}})[-1]
    assert said.startswith("harms") and findings._cleaned(pub11)[-1].startswith("helps")
    gain = {"gain": 3.0, "low": 1.0, "high": 5.0}
    for own, word in ((gain, "; with"), (gain | {"low": -1.0}, ", but with")):
        assert (
            f"there{word} this scale's own ranker"
            in findings._rotated(rotation | {"own_ranker": own})[-1]
        )
    none = {"mean_minus_deviation": gain | {"low": -1.0}}
    said = findings._rotated(rotation | {"halves_gain_of_free": none})[-1]
    assert said.startswith("undecided")
