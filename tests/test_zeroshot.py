"""Zero-shot accuracy: golden values of the official code, and slow twins on a small matrix."""

import json
from pathlib import Path

import numpy as np
import pytest

from rs5m import intervals, zeroshot

GOLDEN = Path(__file__).parent / "golden/zeroshot"


@pytest.fixture
def small():
    """11 images of 4 classes, 3 prompts a class, 7 dimensions; prompts of unlike lengths."""
    generator = np.random.default_rng(0)
    text = generator.normal(size=(4, 3, 7)) * generator.uniform(0.1, 10, (4, 3, 1))
    return generator.normal(size=(11, 7)), text, np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3])


both = pytest.mark.parametrize("protocol", ["rs5m", "clip"])


def officials(protocol: str, k: int) -> int:
    """How many images the official code counted as hits: its share is of whole images, in float32
    where k is 5.
    """
    share = json.loads((GOLDEN / "zeroshot.json").read_text())[f"{protocol}_top{k}"]
    images = len(np.load(GOLDEN / "zeroshot.npz")["label"])
    count = round(share / 100 * images)
    assert share == pytest.approx(100 * count / images, abs=2e-6), (
        "the share is not of whole images"
    )
    return count


@both
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_golden_values_to_the_last_image(protocol, kind):
    arrays = np.load(GOLDEN / "zeroshot.npz")
    image, text = arrays["image"].astype(kind), arrays["text"].astype(kind)
    weights, label = zeroshot.classifier(text, protocol), arrays["label"]
    for k in (1, 5):
        assert zeroshot.hits(image, weights, label, k).sum() == officials(protocol, k)
        got = zeroshot.accuracy(image, weights, label)[f"top{k}"]
        assert got == pytest.approx(100 * officials(protocol, k) / len(label), abs=1e-9)


@both
def test_no_golden_image_hangs_on_rounding(protocol):
    """The scores at stake lie apart by far more than any order of a float32 sum can move them: no
    BLAS flips a hit.
    """
    arrays = np.load(GOLDEN / "zeroshot.npz")
    image, label = arrays["image"], arrays["label"]
    exact = zeroshot.logits(
        image.astype(float), zeroshot.classifier(arrays["text"].astype(float), protocol)
    )
    rounding = 0.0
    for seed in range(10):  # the same sums in other orders
        order = np.random.default_rng(seed).permutation(image.shape[1])
        mixed = zeroshot.logits(
            image[:, order], zeroshot.classifier(arrays["text"][..., order], protocol)
        )
        assert mixed.dtype == np.float32
        rounding = max(rounding, abs(mixed - exact).max())
    best, truth = np.sort(exact, axis=1)[:, ::-1], exact[np.arange(len(label)), label]
    for k in (1, 5):  # a hit hangs on the k-th best of the others
        others = np.where(best[:, k - 1] > truth, best[:, k - 1], best[:, k])
        assert abs(truth - others).min() > 20 * rounding > 0


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
    shares = [
        sum(r == 0 for r, y in zip(rank, label, strict=True) if y == c) / sum(label == c)
        for c in range(4)
    ]
    assert 0 < got["top1"] < 100, "the twin must see hits and misses"
    assert got["top1"] == pytest.approx(100 * sum(r < 1 for r in rank) / 11)
    assert got["top3"] == pytest.approx(100 * sum(r < 3 for r in rank) / 11)
    assert got["balanced"] == pytest.approx(100 * sum(shares) / 4)


def test_of_equal_scores_the_first_class_is_the_better_one():
    """200 classes with five vectors: their order decides, not how a sort happens to fall."""
    generator = np.random.default_rng(0)
    weights = np.eye(5)[
        generator.integers(0, 5, 200)
    ]  # products with 0 and 1 are exact: equal vectors tie exactly
    image, label = generator.normal(size=(60, 5)), generator.integers(0, 200, 60)
    scores = zeroshot.logits(image, weights)
    rank = [
        sum(s > row[c] for s in row) + sum(row[:c] == row[c])
        for row, c in zip(scores, label, strict=True)
    ]
    for k in (1, 2, 40, 100, 199):
        assert zeroshot.hits(image, weights, label, k).tolist() == [r < k for r in rank]
    nothing = np.zeros((200, 5))  # all scores are equal: the k first classes are the best
    assert (zeroshot.hits(nothing, weights, np.arange(200), 20) == (np.arange(200) < 20)).all()


def test_a_tie_counts_once():
    """However many classes tie, exactly k classes are among the k best."""
    weights = np.eye(4)[[0, 0, 0, 1, 2]]
    image = np.array([[1.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    for k in range(1, 6):
        assert (
            sum(zeroshot.hits(image, weights, np.full(3, c), k) for c in range(5)).tolist()
            == [k] * 3
        )


def test_vectors_without_numbers_are_no_hits_but_an_error(small):
    image, text, label = small
    image[2] = np.nan
    with pytest.raises(ValueError, match="1 of 11 images have scores that are not numbers"):
        zeroshot.accuracy(image, zeroshot.classifier(text), label)


def test_lengths_of_images_do_not_matter(small):
    image, text, label = small
    weights = zeroshot.classifier(text)
    lengths = np.linspace(0.01, 100, 11)[:, None]
    assert (
        zeroshot.hits(image * lengths, weights, label) == zeroshot.hits(image, weights, label)
    ).all()
    assert zeroshot.logits(image, weights).max() <= 100


def test_a_zero_vector_is_no_number_lost():
    assert (zeroshot.normalise(np.zeros((2, 3))) == 0).all()


def one_by_one(hit: np.ndarray, label: np.ndarray, resamples: int = 2000) -> np.ndarray:
    """Bootstrap of the balanced accuracy: images drawn one by one within each class."""
    generator = np.random.default_rng(1)
    groups = [hit[label == c] for c in np.unique(label)]
    draw = [
        [g[generator.integers(0, len(g), len(g))].mean() for g in groups] for _ in range(resamples)
    ]
    return 100 * np.mean(draw, axis=1)


@pytest.mark.parametrize("values", [(0, 1), (-1, 0, 1)])
def test_interval_equals_drawing_one_by_one(values):
    generator = np.random.default_rng(2)
    label = np.repeat([0, 1, 2], [20, 60, 15])
    hit = generator.choice(values, len(label)).astype(float)
    slow = one_by_one(hit, label)
    fast = intervals.balanced_draws(hit, label)
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.6) and fast.std() == pytest.approx(
        slow.std(), rel=0.08
    )
    assert zeroshot.interval(hit, label) == pytest.approx(
        np.quantile(slow, (0.025, 0.975)), abs=2.5
    )


def test_interval_covers_the_truth():
    """In 300 repeated experiments the 95 % interval holds the true balanced accuracy about 95 times
    in 100.
    """
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
    assert (low, high) == zeroshot.interval(hit, label) and low < zeroshot.balanced(
        hit, label
    ) < high
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
    gain, loss = (
        zeroshot.paired_difference(before, after, label),
        zeroshot.paired_difference(after, before, label),
    )
    assert 0 < gain["low"] < gain["gain"] < gain["high"]
    assert gain["gain"] == pytest.approx(
        zeroshot.balanced(after, label) - zeroshot.balanced(before, label)
    )
    assert loss["gain"] == pytest.approx(-gain["gain"]) and loss["low"] == pytest.approx(
        -gain["high"], abs=1
    )


def test_pairing_narrows_the_interval():
    """Two models that fail on the same images differ by less than their two intervals would say."""
    generator = np.random.default_rng(6)
    label = np.repeat([0, 1], 100)
    before = generator.random(200) < 0.5
    after = before | (generator.random(200) < 0.05)
    paired = zeroshot.paired_difference(before, after, label)
    low, high = zeroshot.interval(before, label)
    assert paired["high"] - paired["low"] < 0.7 * (high - low)


def test_confusion_counts_what_each_class_is_called():
    image, classes = np.eye(3)[[0, 1, 1, 2, 0, 0]], np.eye(3)
    label = np.array([0, 0, 1, 1, 1, 1])
    found = zeroshot.confusion(image, classes, label)
    assert found.tolist() == [[50, 50, 0], [50, 25, 25], [0, 0, 0]]
    hit = zeroshot.hits(image, classes, label)
    assert np.diag(found)[:2].mean() == pytest.approx(zeroshot.balanced(hit, label))


def test_measure_is_accuracy_with_its_interval_and_hits():
    image, classes = np.eye(3)[[0, 1, 1, 2, 0, 0]], np.eye(3)
    label = np.array([0, 0, 1, 1, 1, 1])
    found = zeroshot.measure(image, classes, label)
    assert found.pop("hit").tolist() == [True, False, True, False, False, False]
    assert (found.pop("low"), found.pop("high")) == zeroshot.interval(
        zeroshot.hits(image, classes, label), label
    )
    assert found == zeroshot.accuracy(image, classes, label)


def test_logits_are_a_hundred_cosines():
    image, classes = np.array([[3.0, 4], [0, -2]]), np.eye(2)
    assert zeroshot.logits(image, classes) == pytest.approx(np.array([[60, 80], [0, -100]]))
