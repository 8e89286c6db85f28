"""What was measured on RSICD's captions, as pages say it."""

import numpy as np
import pandas as pd

from rs5m.book import rsicd, scales, unseen

LEVEL = {"gain": 4.0, "low": 3.0, "high": 5.0}
ARMS = dict.fromkeys(("general", "tuned", "colour"), LEVEL)
BY_CLASS = {"chaparral": {"general": 0.0, "tuned": 9.0}}
NEW = {"classes": ["chaparral"], "by class": BY_CLASS, "images": 100, "arms": ARMS}


def test_new_classes_are_told_with_their_levels():
    assert unseen.new_classes(None) == unseen.new_classes({"tests": {"ucm": {}}})
    said = unseen.new_classes({"tests": {"ucm": {"unheard": NEW}}})
    assert said.startswith("chaparral (0 -> 9 %) of UC Merced, together from 4.0 [3.0, 5.0] to 4.0")


def test_each_new_class_has_its_row():
    found = unseen.by_class({"tests": {"ucm": {"unheard": NEW}, "eurosat": {}}})
    assert found.loc[("UC Merced", "chaparral"), ["general", "tuned"]].tolist() == [0.0, 9.0]
    assert len(found) == 1 and unseen.by_class({"tests": {"eurosat": {}}}).empty


def test_what_was_left_out_is_read_where_it_is_stored(tmp_path, monkeypatch):
    path = tmp_path / "left.csv"
    monkeypatch.setattr(unseen.results, "stored", lambda file, scale: path)
    assert unseen.left_out().empty
    pd.DataFrame({"image": ["a.jpg"], "test_set": ["ucm"]}).to_csv(path, index=False)
    assert unseen.left_out()["image"].tolist() == ["a.jpg"]


def test_without_data_what_was_stored_is_shown_and_without_that_nothing(monkeypatch):
    assert not rsicd.there(scales.get("mini"))
    monkeypatch.setattr(unseen.results, "load", lambda name, scale: None)
    assert unseen.experiment(scales.get("mini")) is None
    assert np.isnan(unseen.headline(None)["whurs19_tuned"])


def over(low, high):
    return {"gain": (low + high) / 2, "low": low, "high": high}


def deep():
    """What bench/deeper.py stores, of two arms on two sets."""
    level = over(40.0, 42.0)
    arms = {unseen.GENERAL: over(-9, -7), unseen.BEFORE: over(0, 0), "more": over(1, 3)}
    rows = [(unseen.GENERAL, 2.0), (unseen.BEFORE, 24.0), ("more", 25.0), ("more", 27.0)]
    row = {"seed": 0, "epochs": 2}
    return {
        "seeds": 1,
        "arms": [
            *(
                row | {"arm": arm, "mean recall": value}
                for arm, value in [*rows, ("less", 20.0), ("own", 21.0)]
            ),
            row | {"arm": "more", "mean recall": 30.0, "seed": 1},
        ],
        "tests": {
            name: {arm: {"level": level, "over the head": one} for arm, one in (arms | few).items()}
            for name, few in (
                ("ucm", {"less": over(-3, -1), "own": over(-1, 1)}),
                ("ucm, new classes", {"less": over(-1, 2)}),
            )
        },
    }


def test_deeper_tuning_is_told_as_it_was_found(monkeypatch):
    monkeypatch.setattr(unseen.causes, "stored", lambda name: deep())
    told = unseen.deeper_in_words()
    assert told["found"] == (
        "more is ahead on UC Merced and new classes of UC Merced. "
        "less is behind on UC Merced; level on new classes of UC Merced. "
        "own is level on UC Merced (one seed)"
    )
    assert "more 27.0 %" in told["validation"]
    table = unseen.deeper()
    assert table.loc[unseen.BEFORE, "UC Merced"].startswith("41.0 [40.0, 42.0]")
    assert table.loc["less", "UC Merced"] == "-2.0 [-3.0, -1.0]"
    assert table.loc["more"].tolist()[:2] == [2, 27.0]
    assert table.loc["own", "new classes of UC Merced"] == "not tested"


def test_deeper_tuning_that_was_not_measured_is_not_told(monkeypatch):
    monkeypatch.setattr(unseen.causes, "stored", lambda name: {"arms": []})
    assert set(unseen.deeper_in_words().values()) == {"not measured"} and unseen.deeper().empty
