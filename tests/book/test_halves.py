"""bench/halves.py: what an arm changes, it changes alone. Chapter: tune."""

import numpy as np
import pytest

from bench import halves


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
