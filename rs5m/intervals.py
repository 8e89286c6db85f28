"""Intervals that stand beside a number, all of them 95 % and seeded: the same draws give the same
interval.

A share of independent trials has Wilson's interval, everything else a percentile bootstrap. What is
drawn is what could have been another sample: images within their classes, images with their
captions, seeds of tuning.
"""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000


def percentiles(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle of the draws that holds a share `level` of them: low, high."""
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's interval of the share of hits in independent trials, in %; it stays honest near 0
    and 100.
    """
    from scipy.stats import binomtest  # half a second: a table without intervals need not wait

    found = binomtest(int(hits), int(trials)).proportion_ci(method="wilson")
    return 100 * float(found.low), 100 * float(found.high)


def rate(hits, trials: int | None = None, counted: str = "of") -> dict[str, float]:
    """A share in % with Wilson's interval: rate, low, high, and the number of trials under the name
    `counted` ("" leaves it out).

    hits: how many of the trials, or, without `trials`, whether each of them hit, bool (n,).
    """
    if trials is None:
        hit = np.asarray(hits, bool)
        share, hits, trials = 100 * hit.mean(), hit.sum(), len(hit)
    else:
        share = 100 * hits / trials
    low, high = wilson(hits, trials)
    found = {counted: int(trials)} if counted else {}
    return found | {"rate": float(share), "low": low, "high": high}


def bootstrap(
    statistic: Callable, *columns: Sequence[float], seed: int = 0
) -> tuple[float, float, float]:
    """A statistic of rows with its interval over the draw of rows: value, low, high.

    columns: arrays (n,); rows with a NaN are left out. statistic: of arrays (..., n) over the last
    axis; a draw that it is NaN for does not count. ValueError where no row is left.
    """
    rows = np.stack([np.asarray(column, float) for column in columns])
    rows = rows[:, ~np.isnan(rows).any(0)]
    if not rows.size:
        raise ValueError("no rows to resample")
    draws = np.random.default_rng(seed).integers(0, rows.shape[1], (RESAMPLES, rows.shape[1]))
    low, high = np.nanquantile(statistic(*rows[:, draws]), (0.025, 0.975))
    return float(statistic(*rows)), float(low), float(high)


def named(statistic: Callable, *columns: Sequence[float]) -> dict[str, float]:
    """`bootstrap` by name: value, low, high."""
    return dict(zip(("value", "low", "high"), bootstrap(statistic, *columns), strict=True))


def in_words(found: dict[str, float], key: str = "value", digits: int = 1, sign: str = "") -> str:
    """A value with its interval, as in "1.2 [0.9, 1.6]".

    Args:
        found: the value under `key`, and low and high.
        key: the value's name.
        digits: after the point.
        sign: "+" for changes.
    """
    value, low, high = (f"{found[name]:{sign}.{digits}f}" for name in (key, "low", "high"))
    return f"{value} [{low}, {high}]"


def mean(values: Sequence[float]) -> dict[str, float]:
    """The mean of values (n,) with its bootstrap interval: mean, low, high."""
    found = bootstrap(lambda rows: rows.mean(-1), values)
    return dict(zip(("mean", "low", "high"), found, strict=True))


def balanced(hit: np.ndarray, label: np.ndarray) -> float:
    """The mean over classes of the share of hits, in %: a class counts the same however many images
    it has.
    """
    label = np.asarray(label)
    return 100 * float(np.mean([hit[label == c].mean() for c in np.unique(label)]))


def balanced_draws(hit: np.ndarray, label: np.ndarray, seed: int = 0) -> np.ndarray:
    """`balanced` of RESAMPLES bootstrap samples, drawn within each class: (RESAMPLES,).

    Within a class of n images with a distinct values, a sample is a multinomial draw of how often
    each value occurs: the same distribution as drawing images one by one, at the cost of the values
    instead of the images.
    """
    generator, label = np.random.default_rng(seed), np.asarray(label)
    means = []
    for c in np.unique(label):
        values, counts = np.unique(hit[label == c].astype(float), return_counts=True)
        draws = generator.multinomial(counts.sum(), counts / counts.sum(), size=RESAMPLES)
        means.append(draws @ values / counts.sum())
    return 100 * np.mean(means, axis=0)


def stratified_share(hit: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Interval of the share of all hits (n,), in %; images are drawn within their classes, hence
    binomial counts.
    """
    generator, total = np.random.default_rng(0), np.zeros(RESAMPLES)
    for c in np.unique(label):
        members = hit[label == c]
        total += generator.binomial(len(members), members.mean(), RESAMPLES)
    return percentiles(100 * total / len(hit))


def clustered_share(hit: np.ndarray, owner: np.ndarray) -> tuple[float, float]:
    """Interval of a share of hits (n,), in %, over images: an image brings all the rows it owns.

    owner: int (n,), the image of each row, from 0; an image without a row is never drawn alone.
    """
    generator, count = np.random.default_rng(0), owner.max() + 1
    hits, rows = np.bincount(owner, hit, count), np.bincount(owner, minlength=count)
    shares = np.empty(RESAMPLES)
    for r in range(RESAMPLES):
        drawn = generator.integers(0, count, count)
        shares[r] = hits[drawn].sum() / rows[drawn].sum()
    return percentiles(100 * shares)


def gain_over_seeds(before, after, label: np.ndarray, resamples: int = RESAMPLES) -> dict:
    """Gain in balanced accuracy, its interval over seeds and images, and the gain of each seed:
    gain, low, high and `seeds`, in points. Each resample draws seeds on both sides, then images
    within their classes.

    Args:
        before, after: hits bool (n,), or a list of them, one for each seed.
        label: the true classes (n,).
        resamples: how many.
    """
    before, after = (np.atleast_2d(np.asarray(side, float)) for side in (before, after))
    label, generator = np.asarray(label), np.random.default_rng(0)
    both = np.concatenate([before, after])  # (seeds of both sides, n)
    found = np.zeros((resamples, len(both)))  # balanced accuracy of each seed in each resample
    classes = np.unique(label)
    # images that went alike in all models are exchangeable: draw how many of each kind
    for c in classes:
        kinds, counts = np.unique(both[:, label == c], axis=1, return_counts=True)
        drawn = generator.multinomial(counts.sum(), counts / counts.sum(), resamples)
        found += drawn @ kinds.T / counts.sum() / len(classes)
    means = []
    for side in np.split(found, [len(before)], axis=1):
        count = side.shape[1]
        drawn = generator.multinomial(count, np.full(count, 1 / count), resamples)
        means.append((side * drawn).sum(1) / count)
    # what is equal is so but for rounding: zero is to be zero
    low, high = percentiles(100 * (means[1] - means[0]).round(9))
    gains = [balanced(hit - before.mean(0), label) for hit in after]
    return {"gain": float(np.mean(gains)), "low": low, "high": high, "seeds": gains}
