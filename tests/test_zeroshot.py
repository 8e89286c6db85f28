"""Zero-shot accuracy: golden values of the official code, and slow twins on a small matrix."""

import json
from pathlib import Path

import numpy as np
import pytest

from rs5m import zeroshot

GOLDEN = Path(__file__).parents[2] / "shared/golden/zeroshot"


@pytest.fixture
def small():
    """11 images of 4 classes, 3 prompts a class, 7 dimensions; prompts of very different lengths."""
    generator = np.random.default_rng(0)
    text = generator.normal(size=(4, 3, 7)) * generator.uniform(0.1, 10, (4, 3, 1))
    return generator.normal(size=(11, 7)), text, np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3])


@pytest.mark.parametrize("protocol", ["rs5m", "clip"])
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="golden values are not beside this checkout")
def test_golden_values(protocol):
    expected = json.loads((GOLDEN / "zeroshot.json").read_text())
    arrays = np.load(GOLDEN / "zeroshot.npz")
    weights = zeroshot.classifier(arrays["text"], protocol)
    got = zeroshot.accuracy(arrays["image"], weights, arrays["label"])
    assert got["top1"] == pytest.approx(expected[f"{protocol}_top1"], abs=1e-4)
    assert got["top5"] == pytest.approx(expected[f"{protocol}_top5"], abs=1e-4)


@pytest.mark.parametrize("protocol", ["rs5m", "clip"])
def test_classifier_equals_a_loop(small, protocol):
    _, text, _ = small
    for c, row in enumerate(zeroshot.classifier(text, protocol)):
        total = np.zeros(7)
        for prompt in text[c]:
            total += prompt / (np.sqrt(sum(prompt**2)) if protocol == "clip" else 1)
        assert row == pytest.approx(total / np.sqrt(sum(total**2)))


def test_the_protocols_differ_by_the_lengths_of_prompts_alone(small):
    _, text, _ = small
    rs5m, clip = (zeroshot.classifier(text, protocol) for protocol in ("rs5m", "clip"))
    assert abs(rs5m - clip).max() > 0.1
    same = zeroshot.normalise(text) * 3
    rs5m, clip = (zeroshot.classifier(same, protocol) for protocol in ("rs5m", "clip"))
    assert rs5m == pytest.approx(clip)


def test_an_unknown_protocol_is_named(small):
    with pytest.raises(ValueError, match="unknown protocol 'CLIP': choose rs5m or clip"):
        zeroshot.classifier(small[1], "CLIP")


def test_accuracy_equals_a_loop(small):
    image, text, label = small
    weights = zeroshot.classifier(text)
    rank = []
    for vector, truth in zip(image, label, strict=True):
        cosine = [sum(vector * w) / np.sqrt(sum(vector**2)) for w in weights]
        rank.append(sum(other > cosine[truth] for other in cosine))
    for k in (1, 2, 3, 4, 5):
        assert zeroshot.hits(image, weights, label, k).tolist() == [r < k for r in rank]
    got = zeroshot.accuracy(image, weights, label, top=(1, 3))
    shares = [sum(r == 0 for r, y in zip(rank, label, strict=True) if y == c) / sum(label == c) for c in range(4)]
    assert 0 < got["top1"] < 100, "the twin must see hits and misses"
    assert got["top1"] == pytest.approx(100 * sum(r < 1 for r in rank) / 11)
    assert got["top3"] == pytest.approx(100 * sum(r < 3 for r in rank) / 11)
    assert got["balanced"] == pytest.approx(100 * sum(shares) / 4)


def test_lengths_of_images_do_not_matter(small):
    image, text, label = small
    weights = zeroshot.classifier(text)
    lengths = np.linspace(0.01, 100, 11)[:, None]
    assert (zeroshot.hits(image * lengths, weights, label) == zeroshot.hits(image, weights, label)).all()
    assert zeroshot.logits(image, weights).max() <= 100


def test_a_zero_vector_is_no_number_lost():
    assert (zeroshot.normalise(np.zeros((2, 3))) == 0).all()


def one_by_one(hit: np.ndarray, label: np.ndarray, resamples: int = 2000) -> np.ndarray:
    """Bootstrap of the balanced accuracy as it is told: images drawn one by one within each class."""
    generator = np.random.default_rng(1)
    groups = [hit[label == c] for c in np.unique(label)]
    draw = [[g[generator.integers(0, len(g), len(g))].mean() for g in groups] for _ in range(resamples)]
    return 100 * np.mean(draw, axis=1)


@pytest.mark.parametrize("values", [(0, 1), (-1, 0, 1)])
def test_interval_equals_drawing_one_by_one(values):
    generator = np.random.default_rng(2)
    label = np.repeat([0, 1, 2], [20, 60, 15])
    hit = generator.choice(values, len(label)).astype(float)
    slow = one_by_one(hit, label)
    fast = zeroshot._resampled(hit, label, seed=0)
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.6) and fast.std() == pytest.approx(slow.std(), rel=0.08)
    assert zeroshot.interval(hit, label) == pytest.approx(np.quantile(slow, (0.025, 0.975)), abs=2.5)


def test_interval_covers_the_truth():
    """In 300 repeated experiments the 95 % interval holds the true balanced accuracy about 95 times in 100."""
    generator = np.random.default_rng(3)
    label = np.repeat([0, 1, 2], [60, 30, 90])
    chance = np.array([0.4, 0.7, 0.5])
    held = 0
    for seed in range(300):
        low, high = zeroshot.interval(generator.random(180) < chance[label], label, seed=seed)
        held += low <= 100 * chance.mean() <= high
    assert 0.90 <= held / 300 <= 0.985


def test_interval_is_seeded_and_narrower_at_a_lower_level(small):
    label = np.repeat([0, 1], 40)
    hit = np.random.default_rng(4).random(80) < 0.5
    low, high = zeroshot.interval(hit, label)
    assert (low, high) == zeroshot.interval(hit, label) and low < zeroshot.balanced(hit, label) < high
    inner = zeroshot.interval(hit, label, level=0.5)
    assert low < inner[0] < inner[1] < high
    assert zeroshot.interval(np.ones(80, bool), label) == (100, 100)


def test_paired_difference_has_the_sign_of_the_change():
    generator = np.random.default_rng(5)
    label = np.repeat([0, 1, 2], 50)
    before = generator.random(150) < 0.4
    after = before | (generator.random(150) < 0.5)
    same = zeroshot.paired_difference(before, before, label)
    assert same == {"gain": 0, "low": 0, "high": 0}
    gain, loss = zeroshot.paired_difference(before, after, label), zeroshot.paired_difference(after, before, label)
    assert 0 < gain["low"] < gain["gain"] < gain["high"]
    assert gain["gain"] == pytest.approx(zeroshot.balanced(after, label) - zeroshot.balanced(before, label))
    assert loss["gain"] == pytest.approx(-gain["gain"]) and loss["low"] == pytest.approx(-gain["high"], abs=1)


def test_pairing_narrows_the_interval():
    """Two models that fail on the same images differ by less than their two intervals would say."""
    generator = np.random.default_rng(6)
    label = np.repeat([0, 1], 100)
    before = generator.random(200) < 0.5
    after = before | (generator.random(200) < 0.05)
    paired = zeroshot.paired_difference(before, after, label)
    low, high = zeroshot.interval(before, label)
    assert paired["high"] - paired["low"] < 0.7 * (high - low)
