"""Intervals against drawing one by one, and against formulas."""

import numpy as np
import pytest

from rs5m import intervals


def test_wilson_is_its_formula():
    for hits, trials in ((0, 30), (7, 30), (30, 30), (1, 1)):
        share, z = hits / trials, 1.959963984540054
        middle = (share + z**2 / trials / 2) / (1 + z**2 / trials)
        half = z / (1 + z**2 / trials)
        half *= np.sqrt(share * (1 - share) / trials + (z / trials / 2) ** 2)
        expected = 100 * (middle - half), 100 * (middle + half)
        assert intervals.wilson(hits, trials) == pytest.approx(expected, abs=1e-9)


def test_a_rate_counts_hits_or_looks_at_them():
    hit = [True, False, True, True]
    low, high = intervals.wilson(3, 4)
    wanted = {"of": 4, "rate": 75, "low": low, "high": high}
    assert intervals.rate(hit) == intervals.rate(3, 4) == wanted
    assert list(intervals.rate(hit, counted="texts")) == ["texts", "rate", "low", "high"]
    assert intervals.rate(np.array(hit), counted="") == {"rate": 75, "low": low, "high": high}


def test_the_mean_is_the_bootstrap_of_a_mean():
    values = np.random.default_rng(0).normal(size=70)
    draws = np.random.default_rng(0).integers(70, size=(2000, 70))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    assert intervals.mean(values) == {"mean": values.mean(), "low": low, "high": high}


def test_interval_of_a_mean():
    sample = np.random.default_rng(1).normal(3, 1, 400)
    value, low, high = intervals.bootstrap(lambda x: x.mean(axis=-1), np.r_[sample, np.nan])
    assert value == pytest.approx(sample.mean())
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.1)
    with pytest.raises(ValueError, match="no rows"):
        intervals.bootstrap(lambda x: x.mean(axis=-1), [np.nan])


def test_the_gain_over_seeds_counts_seeds_and_images():
    generator = np.random.default_rng(0)
    label = np.repeat([0, 1], [40, 120])
    before = generator.random(160) < 0.3
    same = [before | (generator.random(160) < 0.3)] * 3
    found = intervals.gain_over_seeds(before, same, label)
    change = [hit.astype(float) - before for hit in same]
    expected = [100 * np.mean([c[label == 0].mean(), c[label == 1].mean()]) for c in change]
    assert found["gain"] == pytest.approx(expected[0]) and found["seeds"] == pytest.approx(expected)
    assert found["low"] < found["gain"] < found["high"]
    apart = [before, before | (generator.random(160) < 0.3), np.ones(160, bool)]
    wider = intervals.gain_over_seeds(before, apart, label)
    assert wider["high"] - wider["low"] > 2 * (found["high"] - found["low"]), (
        "seeds that differ widen the interval"
    )
    nothing = intervals.gain_over_seeds([before] * 2, [before] * 3, label)
    assert nothing["gain"] == nothing["low"] == nothing["high"] == 0


def by_drawing(before, after, label, resamples, generator) -> np.ndarray:
    """The bootstrap said plainly: draw seeds on both sides, then images one by one within their
    classes.
    """
    found = []
    for _ in range(resamples):
        sides = [
            np.mean([side[i] for i in generator.integers(0, len(side), len(side))], axis=0)
            for side in (before, after)
        ]
        drawn = [
            generator.choice(np.flatnonzero(label == c), (label == c).sum())
            for c in np.unique(label)
        ]
        found.append(100 * np.mean([(sides[1] - sides[0])[index].mean() for index in drawn]))
    return np.array(found)


@pytest.mark.parametrize("kind", ["hits", "numbers"])
def test_the_interval_over_seeds_is_that_of_drawing_one_by_one(kind):
    generator = np.random.default_rng(5)
    label = np.repeat([0, 1, 2], [30, 50, 80])
    before, after = generator.random((2, 160)), generator.random((3, 160)) + [[0.1], [0.2], [0.5]]
    if kind == "hits":
        before, after = before < 0.3, after > 0.6
    found = intervals.gain_over_seeds(before, after, label, resamples=20_000)
    plain = by_drawing(before.astype(float), after.astype(float), label, 4000, generator)
    assert (found["low"], found["high"]) == pytest.approx(
        np.quantile(plain, (0.025, 0.975)), abs=1.0
    )
    assert plain.std() > 2 and found["gain"] == pytest.approx(plain.mean(), abs=0.5)


def test_the_interval_of_top1_equals_drawing_one_by_one():
    generator, label = np.random.default_rng(0), np.repeat([0, 1, 2], [20, 60, 15])
    hit = generator.random(95) < np.array([0.2, 0.6, 0.9])[label]
    groups = [hit[label == c] for c in range(3)]
    drawn = [
        np.concatenate([g[generator.integers(0, len(g), len(g))] for g in groups]).mean()
        for _ in range(2000)
    ]
    low, high = intervals.stratified_share(hit, label)
    assert (low, high) == pytest.approx(100 * np.quantile(drawn, (0.025, 0.975)), abs=1.5)
    assert low < 100 * hit.mean() < high and (low, high) == intervals.stratified_share(hit, label)
    assert intervals.stratified_share(label >= 0, label) == (100, 100)


def test_the_interval_of_a_share_draws_images_with_their_rows():
    """Rows of one image that hit or miss together make the interval as wide as that of the images
    alone.
    """
    image = np.random.default_rng(0).random(60) < 0.4
    owner = np.repeat(np.arange(60), 5)
    alone = intervals.clustered_share(image, np.arange(60))
    assert intervals.clustered_share(image[owner], owner) == pytest.approx(alone)
    free = np.random.default_rng(1).permutation(image[owner])
    low, high = intervals.clustered_share(free, owner)
    assert high - low < 0.7 * (alone[1] - alone[0])


def test_percentiles_are_the_middle_of_the_draws():
    draws = np.random.default_rng(0).permutation(np.arange(201.0))
    assert intervals.percentiles(draws) == pytest.approx((5, 195))
    assert intervals.percentiles(draws, 0.5) == pytest.approx((50, 150))
