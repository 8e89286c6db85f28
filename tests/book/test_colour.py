"""Baselines: six numbers, what captions name, and a probe that cannot see what it is tested on."""

import numpy as np
import pytest

from rs5m.book import colour, contact, scales
from rs5m.data.datasets import Labelled
from rs5m.tune import loader

SHADES = ((30, 60, 160), (40, 140, 40), (190, 160, 90))
CLASSES = ["open water", "cropland", "barren desert"]


def pictures(count, seed=0):
    generator = np.random.default_rng(seed)
    label = np.arange(count) % 3
    noise = generator.integers(-20, 20, (count, 9, 9, 3))
    return np.clip(np.array(SHADES)[label][:, None, None] + noise, 0, 255).astype(np.uint8), label


def test_six_numbers_are_mean_and_deviation_of_each_channel():
    image = pictures(1)[0][0]
    six = colour.numbers([image])[0]
    for channel in range(3):
        assert six[channel] == pytest.approx(image[..., channel].mean(), rel=1e-6)
        assert six[3 + channel] == pytest.approx(image[..., channel].std(), rel=1e-6)
    assert colour.numbers([]).shape == (0, 6)


def test_a_caption_counts_where_it_names_one_class():
    captions = [("Open Water near x",), ("farmland",), ("cropland by open water",), ("a town",)]
    spellings = [("open water", "water"), ("cropland", "farmland"), ("barren desert",)]
    assert colour.named(captions, spellings).tolist() == [0, 1, -1, -1]
    savannas = [("savanna",), ("woody savanna",)]
    texts = [("woody savanna",), ("savanna",), ("savanna and woody savanna",)]
    assert colour.named(texts, savannas).tolist() == [1, 0, -1]
    places = [("port",), ("park",), ("beach",)]
    texts = [("a sports ground",), ("a parked car",), ("Ports.",), ("two beaches, one park",)]
    assert colour.mentions(texts, places) == [set(), set(), {0}, {1, 2}]


def test_colour_is_learned_from_captions_and_not_from_the_test():
    images, label = pictures(60)
    tested, truth = pictures(30, seed=1)
    captions = [(f"satellite view of {CLASSES[k]}",) for k in label]
    seen, test = colour.numbers(images), colour.numbers(tested)
    spellings = [(name,) for name in CLASSES]
    assert (colour.from_captions(seen, captions, spellings, test) == truth).all()
    wrong = [(CLASSES[(k + 1) % 3],) for k in label]  # learns what captions say, true or not
    assert (colour.from_captions(seen, wrong, spellings, test) == (truth + 1) % 3).all()
    silent = [("a picture",)] * len(label)
    assert (colour.from_captions(seen, silent, spellings, test) == -1).all()


def test_of_two_ways_to_count_pairs_the_better_is_the_baseline():
    """Two classes that overlap, one of them rare in the pairs and not in the test."""
    generator = np.random.default_rng(0)
    label = np.repeat([0, 1], [950, 50])
    tested, truth = np.repeat([0, 1], 300), np.repeat([0, 1], 300)
    seen, test = (generator.normal(y[:, None] / 2, 1, (len(y), 6)) for y in (label, tested))
    captions, spellings = [(CLASSES[k],) for k in label], [(name,) for name in CLASSES[:2]]
    level = {
        weight: (colour.from_captions(seen, captions, spellings, test, weight) == truth).mean()
        for weight in (None, "balanced")
    }
    assert level["balanced"] > level[None] + 0.05
    for counted, best in ((truth, level["balanced"]), (1 - truth, 1 - level[None])):
        said = colour.strongest(seen, captions, spellings, test, counted)
        assert (said == counted).mean() == best


def test_a_probe_is_at_chance_where_features_say_nothing():
    generator = np.random.default_rng(0)
    label = np.arange(900) % 3
    right = colour.probe(generator.normal(size=(900, 5)), label).mean()
    assert abs(right - 1 / 3) < 0.06
    assert colour.probe(np.eye(3)[label] + 0.1 * generator.normal(size=(900, 3)), label).all()


def test_the_baselines_of_a_test_set_have_levels_with_intervals():
    images, label = pictures(60)
    tested, truth = pictures(30, seed=1)
    captions = [(f"satellite view of {CLASSES[k]}",) for k in label]
    names = [str(i) for i in range(30)]
    data = Labelled("pocket", list(tested), truth, CLASSES, names, [])
    general = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    found = colour.hits(data, loader.Memory(list(images), captions, 9), general)
    rows = colour.levels(found, truth)
    assert list(rows) == [colour.CHANCE, colour.CAPTIONS, colour.LABELS, colour.PROBE]
    assert rows[colour.CAPTIONS]["balanced"] == 100 == rows[colour.LABELS]["balanced"]
    assert rows[colour.CHANCE]["balanced"] == pytest.approx(100 / 3)
    assert all(row["low"] <= row["balanced"] <= row["high"] for row in rows.values())
    assert rows[colour.PROBE]["balanced"] < 70


def test_who_wins_is_said_by_the_interval():
    assert "ahead of them by 6.0" in colour.against({"gain": 6.0, "low": 2.0, "high": 9.0})
    assert "beat the tuned model by 6.0" in colour.against({"gain": -6.0, "low": -9.0, "high": -2})
    assert "cannot be told apart" in colour.against({"gain": 1.0, "low": -2.0, "high": 4.0})


def test_the_classes_that_carry_a_gain_are_named():
    said = colour.carried(np.array([80.0, -36, 10, 2]), ["a", "b", "c", "d"], count=2)
    assert said == "a (+80), c (+10) carry 22.5 of its 14.0 points; b (-36) loses"


def test_contact_is_counted_on_the_captions():
    images, label = pictures(3)
    data = Labelled("pocket", list(images), label, CLASSES, ["a", "b", "c"], [])
    texts = [("open water at sea",), ("a town",), ("Cropland",)]
    found = contact.count(texts, data)
    assert found == {"level": contact.NAMES, "pairs": 3, "named": 2}
    assert contact.count(texts[1:2], data)["level"] == contact.NONE
    assert contact.said(found, "pocket", "pub11") == "class names in captions (2 of 3 pairs)"
    assert contact.said(None, "ucm", "ucm") == contact.SPLIT
    assert contact.said(None, "ucm", "rs3") == contact.UNKNOWN


def test_a_class_is_new_where_no_caption_holds_a_word_that_begins_like_one_of_its_name():
    classes = ["agricultural", "golfcourse", "Chaparral", "park", "bare land"]
    data = Labelled("ucm", [], np.array([], int), classes, [], [])

    def new(*texts):
        return [classes[c] for c in contact.unheard([(text,) for text in texts], data)]

    assert new("a plane", "many houses") == classes
    assert new("some agriculture", "of course", "barely") == ["Chaparral", "park"]
    assert new("two golf clubs", "a parked car near land") == ["agricultural", "Chaparral"]


def test_a_run_on_a_sets_training_split_is_contact():
    images, label = pictures(3)
    data = Labelled("ucm", list(images), label, CLASSES, ["a", "b", "c"], [])
    pairs = loader.Memory(list(images), [("a town",)] * 3, 9)
    local, mini = scales.get("local"), scales.get("mini")
    assert contact.measure(local, ("ucm",), data, pairs)["level"] == contact.SPLIT
    assert contact.measure(mini, ("pub11",), data, pairs)["level"] == contact.NONE
