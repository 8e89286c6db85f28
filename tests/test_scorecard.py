"""The scorecard's rows: nothing that was not run looks as if it had been; verdicts follow the intervals."""

from rs5m import paper, results, scorecard

GOOD, NONE = {"gain": 40.0, "low": 30.0, "high": 50.0, "p": 0.0}, {"gain": 0.1, "low": -0.9, "high": 1.0}
STORED = {
    ("rotation", "mini"): {"halves_gain_of_free": {"mean_minus_deviation": GOOD}, "own_ranker": NONE},
    ("rs3", "mini"): {"change": {scorecard.TURNED: NONE}, "images": 462},
}


def stored(monkeypatch, content):
    monkeypatch.setattr(results, "load", lambda name, scale: {"values": content[name, scale]}
                        if (name, scale) in content else None)  # fmt: skip
    rows = paper.compare(scorecard.rows())
    return rows[rows.claim == "ROT"]


def test_without_a_run_one_row_says_so(monkeypatch):
    rows = stored(monkeypatch, {})
    assert rows.verdict.tolist() == ["not attempted"] and rows["this run"].tolist() == ["—"]


def test_rotation_gains_get_the_verdict_of_their_interval(monkeypatch):
    rows = stored(monkeypatch, STORED)
    assert rows.verdict.tolist() == ["direction only", "not reproduced", "not reproduced"]
    assert rows["this run"].tolist()[0] == "+40.0 [+30.0, +50.0]"
    only = stored(monkeypatch, {("rs3", "mini"): STORED["rs3", "mini"]})
    assert only.verdict.tolist() == ["not reproduced"] and "462 images" in only.reason.iloc[0]


def test_the_halves_are_the_same_at_every_scale_and_count_once(monkeypatch):
    both = STORED | {("rotation", "local"): STORED["rotation", "mini"]}
    rows = stored(monkeypatch, both)
    assert rows.what.str.contains("sees directions").sum() == 1 and rows.what.str.contains("scale's ranker").sum() == 2
