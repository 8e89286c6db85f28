"""What transduction needs: weak texts do where classes are clouds, the best do not elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from rs5m.book import scales, together
from rs5m.evaluate import frozen

ROOT = Path(__file__).parents[2]


def made(apart: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """240 images of 8 classes whose middles lie so far apart, and rough texts of them."""
    generator = np.random.default_rng(0)
    label, middles = np.arange(240) % 8, apart * np.eye(8, 256)
    image = middles[label] + 0.1 * generator.normal(size=(240, 256))
    return image, label, middles + 0.1 * apart * generator.normal(size=(8, 256))


def test_clouds_gain_with_weak_texts_and_classes_that_overlap_lose_with_the_best():
    clouds = together.measured(*made(1))
    assert clouds[together.AS_IS]["agree"] > 95 > clouds[together.IMAGES]["agree"]
    assert clouds[together.TEXTS]["zero"] < clouds[together.AS_IS]["zero"] - 10
    assert clouds[together.TEXTS]["gain"] > clouds[together.AS_IS]["gain"] + 10
    overlap = together.measured(*made(0.2))
    assert overlap[together.AS_IS]["agree"] < 50
    assert overlap[together.MEANS]["zero"] > 90 and overlap[together.MEANS]["gain"] < -5


def test_numbers_are_those_of_the_metrics():
    image, label, text = made(1.5)
    found = together.measured(image, label, text)[together.AS_IS]
    gain = frozen.score_transductive(image, label, text)["transductive"]["gain"]
    assert found["gain"] == pytest.approx(gain)


def test_lines_and_the_paragraph_s_numbers():
    row = {"zero": 40.0, "gain": -2.0, "agree": 99.0}
    every = dict.fromkeys((together.AS_IS, together.TEXTS, together.MEANS), row)
    other = {change: row | {"gain": 3.0} for change in every}
    table = together.table({"a": every, "b": other})
    assert list(table.index) == [together.AS_IS, together.TEXTS, together.MEANS]
    assert list(table.loc[together.TEXTS]) == ["40.0", "-2.0 to +3.0", "99.0"]
    assert together.ends({"a": every, "b": other})["gain_high"] == 3.0
    assert np.isnan(together.ends(None)["agree_low"])


def test_the_stored_run_says_what_the_chapter_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = together.ends(together.published(scales.get("mini")))
    assert found["zero_high"] < 80 and found["gain_low"] > 5 and found["agree_low"] > 90
