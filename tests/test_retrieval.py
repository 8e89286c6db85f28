"""Recall at K: golden values of the official code, slow twins, ties, intervals, memory."""

import itertools
import json
import math
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rs5m import retrieval
from rs5m.retrieval import Hits

GOLDEN = Path(__file__).parent / "golden/retrieval"


def normal(seed: int, images: int = 40, dim: int = 6):
    """Random vectors; images have one to four captions, in no order."""
    generator = np.random.default_rng(seed)
    of = generator.permutation(np.repeat(np.arange(images), generator.integers(1, 5, images)))
    return generator.normal(size=(images, dim)), generator.normal(size=(len(of), dim)), of


def coarse(seed: int, images: int = 9):
    """Vectors on the corners of a cube: most scores are shared by several pairs, and some vectors
    are equal.
    """
    generator = np.random.default_rng(seed)
    of = np.concatenate([np.arange(images), generator.integers(0, images, 6)])
    image, text = (generator.choice([-1.0, 1.0], (n, 3)) for n in (images, len(of)))
    return image, text, of


def plain(image, text, of, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The hits without ties, by sorting every row."""
    cosine = [[a @ b / np.sqrt((a @ a) * (b @ b)) for a in image] for b in text]
    by_text = [of[t] in np.argsort([-s for s in row])[:k] for t, row in enumerate(cosine)]
    by_image = [
        any(of[t] == i for t in np.argsort([-row[i] for row in cosine])[:k])
        for i in range(len(image))
    ]
    return np.array(by_image, float), np.array(by_text, float)


def over_orders(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    """How often one of the right answers is among the k best, over all orders of equal scores."""
    scores = np.round(scores, 9)
    line = np.sort(scores)[::-1][min(k, len(scores)) - 1]
    above, level = scores > line, np.flatnonzero(scores == line)
    if (above & right).any():
        return 1.0
    draws = list(itertools.combinations(level, min(k, len(scores)) - above.sum()))
    return float(np.mean([right[list(draw)].any() for draw in draws]))


def test_golden_values():
    data, expected = (
        np.load(GOLDEN / "retrieval.npz"),
        json.loads((GOLDEN / "retrieval.json").read_text()),
    )
    found = retrieval.recall(data["image"], data["text"], data["image_of_text"])
    assert found.keys() == expected.keys() and found == pytest.approx(expected, abs=1e-9)


def as_official(image, text, of, k: int) -> tuple[float, float]:
    """Recall in % by true positives of a one-hot matrix, as the official code counts it."""
    image, text = (functional.normalize(torch.tensor(v).float(), dim=-1) for v in (image, text))
    scores = text @ image.T
    right = torch.zeros_like(scores, dtype=bool)
    right[torch.arange(len(scores)), of] = True
    found = []
    for rows, own in ((scores.T, right.T), (scores, right)):
        best = functional.one_hot(torch.topk(rows, k, dim=1)[1], rows.shape[1])
        found.append((best * own[:, None]).sum((1, 2)) > 0)
    return tuple(hit.float().mean().item() * 100 for hit in found)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("make", [normal, coarse])
def test_the_official_order_of_ties_is_topks(make, seed):
    image, text, of = make(seed)
    found = retrieval.summary(retrieval.official_hits(image, text, of, (1, 5)), (1, 5))
    for k in (1, 5):
        expected = as_official(image, text, of, k)
        sides = found[f"image_to_text_R@{k}"], found[f"text_to_image_R@{k}"]
        assert sides == pytest.approx(expected, abs=1e-12)


def test_official_hits_are_the_fair_ones_without_ties_and_others_with_them():
    fair, official = (f(*normal(0)) for f in (retrieval.hits, retrieval.official_hits))
    assert (fair.image == official.image).all() and (fair.text == official.text).all()
    fair, official = (f(*coarse(0), (1,)) for f in (retrieval.hits, retrieval.official_hits))
    assert (fair.text != official.text).any() and np.isin(official.text, (0, 1)).all()


def test_official_hits_of_few_answers_and_of_an_image_without_captions():
    image, text = np.eye(3), np.eye(3)[:2]
    found = retrieval.official_hits(image, text, np.array([0, 1]), (1, 10))
    assert found.text.tolist() == [[1, 1], [1, 1]] and np.isnan(found.image[2]).all()
    assert found.image[:2].tolist() == [[1, 1], [1, 1]]


def test_the_golden_vectors_hold_no_tie_so_they_say_nothing_about_ties():
    data = np.load(GOLDEN / "retrieval.npz")
    found = retrieval.hits(data["image"], data["text"], data["image_of_text"])
    assert all(np.isin(side, (0, 1)).all() for side in found)
    assert all(len(np.unique(data[key], axis=0)) == len(data[key]) for key in ("image", "text"))


def cosine(a: np.ndarray, b: np.ndarray) -> Fraction:
    """The square of the cosine of two vectors of whole numbers with the cosine's sign: the same
    order, no rounding.
    """
    product, lengths = (int(x) for x in (a @ b, (a @ a) * (b @ b)))
    return Fraction(product * abs(product), lengths) if lengths else Fraction(0)


def in_any_order(scores: list[Fraction], right: list[bool], k: int) -> float:
    """The chance that a right answer is among the k best, if equal scores stand in random order."""
    best = max(score for score, is_right in zip(scores, right, strict=True) if is_right)
    level = [is_right for score, is_right in zip(scores, right, strict=True) if score == best]
    places = min(max(0, k - sum(score > best for score in scores)), len(level))
    return 1 - math.comb(len(level) - sum(level), places) / math.comb(len(level), places)


@st.composite
def whole_numbers(draw):
    """Short vectors of small whole numbers: many exact ties. One to five captions an image, in any
    order.
    """
    count, dim = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    of = [i for i in range(count) for _ in range(draw(st.integers(1, 5)))]
    of = draw(st.permutations(of))
    values = st.lists(st.integers(-3, 3), min_size=dim, max_size=dim)
    image, text = (
        np.array(draw(st.lists(values, min_size=n, max_size=n))) for n in (count, len(of))
    )
    return image, text, np.array(of)


@settings(max_examples=150, deadline=None)
@given(whole_numbers(), st.sampled_from([1, 7, 10**6]))
def test_hits_are_those_of_fractions(case, rows):
    image, text, of = case
    score = [[cosine(t, i) for i in image] for t in text]
    found = retrieval.hits(image, text, of, ks=(1, 2, 5), entries=rows * max(image.shape))
    for column, k in enumerate((1, 2, 5)):
        by_text = [
            in_any_order(row, list(np.arange(len(image)) == of[t]), k)
            for t, row in enumerate(score)
        ]
        by_image = [
            in_any_order([row[i] for row in score], list(of == i), k) for i in range(len(image))
        ]
        assert found.text[:, column] == pytest.approx(by_text) and found.image[
            :, column
        ] == pytest.approx(by_image)


def test_scores_that_differ_by_the_rounding_of_zero_are_equal():
    """All cosines are zero, but the sums of rounded products are not: -6e-17 in one place, 0 in
    another.
    """
    generator = np.random.default_rng(0)
    image, text = generator.integers(-3, 4, (400, 5)), np.ones((30, 5))
    image = image[image.sum(1) == 0]
    unit = image / np.maximum(np.linalg.norm(image, axis=1, keepdims=True), 1)
    assert len(np.unique(unit @ text[0])) > 1, "the case must hold rounding"
    found = retrieval.hits(image, text, np.arange(30), ks=(1,))
    assert len(image) > 30 and found.text[:, 0] == pytest.approx(1 / len(image))


@pytest.mark.parametrize("seed", range(4))
def test_without_ties_the_hits_are_those_of_sorting(seed):
    image, text, of = normal(seed)
    found = retrieval.hits(image, text, of)
    for column, k in enumerate(retrieval.KS):
        by_image, by_text = plain(image, text, of, k)
        assert (found.image[:, column] == by_image).all() and (
            found.text[:, column] == by_text
        ).all()


@pytest.mark.parametrize("seed", range(8))
def test_ties_count_as_the_mean_over_all_orders(seed):
    image, text, of = coarse(seed)
    score = text @ image.T
    found = retrieval.hits(image, text, of, ks=(1, 2, 4))
    for column, k in enumerate((1, 2, 4)):
        for t, row in enumerate(score):
            assert found.text[t, column] == pytest.approx(
                over_orders(row, np.arange(len(image)) == of[t], k)
            )
        for i in range(len(image)):
            assert found.image[i, column] == pytest.approx(over_orders(score[:, i], of == i, k))


def test_a_model_that_tells_nothing_apart_is_at_chance():
    of = np.repeat(np.arange(50), 5)
    found = retrieval.recall(np.ones((50, 8)), np.ones((250, 8)), of)
    for k in retrieval.KS:
        assert found[f"text_to_image_R@{k}"] == pytest.approx(100 * k / 50)
    assert found["image_to_text_R@1"] == pytest.approx(2)
    missed = np.prod([(245 - j) / (250 - j) for j in range(5)])
    assert found["image_to_text_R@5"] == pytest.approx(100 * (1 - missed))


def test_a_collapsed_model_is_at_chance_in_any_direction_and_block():
    """One vector for all, whose products are not round numbers."""
    vector = np.random.default_rng(3).normal(size=77).astype(np.float32)
    found = retrieval.hits(
        *(np.tile(v, (n, 1)) for v, n in ((vector, 101), (0.3 + vector, 203))),
        np.arange(203) % 101,
        entries=7 * 101,
    )
    assert found.text == pytest.approx(np.tile(np.array(retrieval.KS) / 101, (203, 1)))
    own = np.bincount(np.arange(203) % 101)
    chance = [[1 - math.comb(203 - o, k) / math.comb(203, k) for k in retrieval.KS] for o in own]
    assert found.image == pytest.approx(np.array(chance))


def test_a_caption_shared_by_images_is_shared_by_them():
    image, text = np.eye(4), np.eye(4)[[0, 1, 2, 3, 0]]
    found = retrieval.hits(image, text, np.array([0, 1, 2, 3, 1]), ks=(1,))
    assert found.text[:, 0].tolist() == [1, 1, 1, 1, 0], (
        "the fifth says what the first says, of another image"
    )
    assert found.image[:, 0].tolist() == [0.5, 1, 1, 1], (
        "two equal captions stand first, one of them is right"
    )


@pytest.mark.parametrize("make", [normal, coarse])
@pytest.mark.parametrize("entries", [1, 100, 2**20])
def test_blocks_change_nothing(make, entries):
    image, text, of = make(5)
    whole, parts = retrieval.hits(image, text, of), retrieval.hits(image, text, of, entries=entries)
    assert (whole.image == parts.image).all() and (whole.text == parts.text).all()


def test_equal_vectors_tie_wherever_in_a_block_they_stand():
    generator = np.random.default_rng(0)
    image = generator.normal(size=(97, 33)).astype(np.float32)
    image[[0, 31, 64, 96]] = image[0]
    text = np.repeat(image, 2, 0) + np.float32(0.1)
    found = retrieval.hits(image, text, np.repeat(np.arange(97), 2), entries=97 * 5)
    for i in (0, 31, 64, 96):
        assert found.text[2 * i, 0] == pytest.approx(0.25)


def test_an_image_without_captions_distracts_and_asks_nothing():
    image, text = np.eye(3), np.eye(3)[[0, 1]]
    found = retrieval.hits(image, text, np.array([0, 2]), ks=(1,))
    assert np.isnan(found.image[1]).all() and found.text[:, 0].tolist() == [1, 0]
    assert found.image[:, 0].tolist()[::2] == [1, 0.5], (
        "both captions are as far from the third image"
    )
    assert retrieval.summary(found, (1,))["image_to_text_R@1"] == 75
    low, high = retrieval.interval(found, np.array([0, 2]))
    assert 0 <= low <= high <= 100


def test_more_answers_than_candidates_are_all_right():
    image, text, of = normal(1, images=4)
    assert retrieval.recall(image, text, of, ks=(100,))["mean_recall"] == pytest.approx(100)


def test_lengths_do_not_matter_and_vectors_do():
    image, text, of = normal(2)
    generator = np.random.default_rng(0)
    longer = [v * generator.uniform(0.5, 9, (len(v), 1)) for v in (image, text)]
    assert retrieval.recall(*longer, of) == retrieval.recall(image, text, of)
    assert retrieval.recall(image, -text, of) != retrieval.recall(image, text, of)


def twin_samples(models: list[Hits], of: np.ndarray, count: int) -> np.ndarray:
    """Mean recalls of bootstrap samples, images written out one by one."""
    generator, n, found = np.random.default_rng(7), len(models[0].image), []
    for _ in range(count):
        drawn = generator.integers(0, n, n)
        rows = np.concatenate([np.flatnonzero(of == i) for i in drawn])
        found.append(
            [50 * (hit.image[drawn].mean(0) + hit.text[rows].mean(0)).mean() for hit in models]
        )
    return np.array(found)


def test_intervals_are_those_of_images_drawn_one_by_one():
    before, after = (retrieval.hits(*normal(seed)) for seed in (3, 3))
    of = normal(3)[2]
    image, text, _ = normal(3)
    after = retrieval.hits(image, text + 0.7 * image[of], of)
    samples = twin_samples([before, after], of, 2000)
    assert retrieval.interval(before, of) == pytest.approx(
        np.quantile(samples[:, 0], (0.025, 0.975)), abs=1.5
    )
    told, change = retrieval.paired_difference(before, after, of), samples[:, 1] - samples[:, 0]
    assert [told["low"], told["high"]] == pytest.approx(
        np.quantile(change, (0.025, 0.975)), abs=1.5
    )
    gain = retrieval.summary(after)["mean_recall"] - retrieval.summary(before)["mean_recall"]
    assert told["gain"] == pytest.approx(gain) and told["seeds"] == [told["gain"]] and gain > 10


def test_seeds_that_differ_widen_the_interval():
    image, text, of = normal(4)
    before = retrieval.hits(image, text, of)
    seeds = [retrieval.hits(image, text + strength * image[of], of) for strength in (0.1, 0.8, 3)]
    alike = retrieval.paired_difference(before, [seeds[1]] * 3, of)
    apart = retrieval.paired_difference(before, seeds, of)
    assert apart["high"] - apart["low"] > 1.5 * (alike["high"] - alike["low"])
    assert apart["gain"] == pytest.approx(np.mean(apart["seeds"])) and apart["seeds"] == sorted(
        apart["seeds"]
    )
    none = retrieval.paired_difference(before, [before] * 2, of)
    assert none["gain"] == none["low"] == none["high"] == 0


def test_memory_follows_the_block_and_not_the_pairs():
    generator = np.random.default_rng(0)
    images, texts, dim, entries = 3000, 15000, 16, 2**18
    image, text = (generator.normal(size=(n, dim)).astype(np.float32) for n in (images, texts))
    of = generator.integers(0, images, texts)
    tracemalloc.start()
    retrieval.hits(image, text, of, entries=entries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows, block = (images + texts) * 200 + images * dim * 24, entries * 24
    assert peak < rows + block < images * texts * 8 / 20
    large = (
        (100_000 + 500_000) * 200
        + 100_000 * 512 * 24
        + retrieval.ENTRIES * 24
        + (600_000 * 512 * 4)
    )
    assert large < 4e9, (
        "the same bound, with the vectors themselves, at 100,000 images and 500,000 captions"
    )


def test_few_images_with_many_captions_of_long_vectors_stay_in_the_block():
    text = np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float32)
    tracemalloc.start()
    retrieval.hits(text[:3], text, np.arange(20_000) % 3, entries=2**18)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 256 + 20_000 * 200 + 2**18 * 40 < text.nbytes, (
        "one bool a number is the check for NaN"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": np.ones((3, 5))}, "must be .n, dim. and .m, dim. of one dim"),
        ({"image": np.ones((0, 4))}, "of one dim"),
        ({"image_of_text": np.array([0, 1])}, "must give each of 3 texts an image from 0 to 1"),
        ({"image_of_text": np.array([0, 1, 2])}, "from 0 to 1"),
        ({"image_of_text": np.array([0.0, 1.0, 1.0])}, "from 0 to 1"),
        ({"image": np.array([[np.nan] * 4] * 2)}, "NaN or infinity"),
        ({"image": np.array([[1, 1, 1, np.nan], [1] * 4])}, "NaN or infinity"),
        ({"text": np.array([[1] * 4, [1, np.inf, 1, 1], [1] * 4])}, "NaN or infinity"),
    ],
)
def test_bad_input_is_one_sentence(change, said):
    given = {
        "image": np.ones((2, 4)),
        "text": np.ones((3, 4)),
        "image_of_text": np.array([0, 0, 1]),
    } | change
    with pytest.raises(ValueError, match=said):
        retrieval.recall(**given)
