"""What two criteria are worth together, on made scores."""

import numpy as np

from rs5m import filters
from rs5m.book import criteria


def scores(seed=0, n=200):
    generator = np.random.default_rng(seed)
    label = np.arange(n) % 2 == 0
    return generator.normal(size=(3, n)), label


def test_a_criterion_that_knows_something_is_added_and_noise_is_not():
    (noise, detector, knows), label = scores()
    detector, knows = detector + label, knows + 2 * label
    others = np.zeros(5), np.zeros(5)
    both, _ = criteria.joined(knows, detector, label, others)
    assert criteria.added(detector, both, label)["low"] > 0
    alone, rest = criteria.joined(noise, detector, label, others)
    gain = criteria.added(detector, alone, label)
    assert gain["low"] < 0.01 and abs(gain["value"]) < 0.05 and rest.shape == (5,)
    assert gain["value"] == filters.auc(alone, label) - filters.auc(detector, label)


def test_the_sentence_says_what_the_interval_says():
    for low, high, said in ((0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-1, 1, "no better")):
        values = {"added": {"wide": {"value": (low + high) / 2, "low": low, "high": high}}}
        assert f" {said}: " in criteria.words(values)
    assert "not stored" in criteria.words(None)
