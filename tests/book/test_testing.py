"""Test sets through a model: prompts, vectors that are made once, and the numbers from them."""

from dataclasses import replace

import numpy as np
import pytest

from rs5m import clip, paper, pocket, zeroshot
from rs5m.book import scales, sets, testing
from rs5m.data.datasets import Labelled
from rs5m.evaluate import features, prompts


@pytest.fixture
def data(tmp_path, monkeypatch) -> Labelled:
    monkeypatch.chdir(tmp_path)
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(6)]
    names = [f"{i}.jpg" for i in range(6)]
    return Labelled(
        "ucm", images, np.array([0, 0, 1, 1, 1, 2]), ["beach", "parkinglot", "river"], names, []
    )


class Towers:
    """Stands in for the encoders: fixed random vectors, and a count of how often each was asked."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(features, "encode", self.images)
        monkeypatch.setattr(clip, "encode_texts", self.texts)
        monkeypatch.setattr(features, "cut", lambda model, texts: 0)  # they have no tokenizer

    def images(self, model, images, name):
        self.calls.append("images")
        count = len(images.names)
        vectors = np.random.default_rng(model).normal(size=(count, 8)).astype(np.float32)
        return features.Encoded(vectors, np.arange(count), {})

    def texts(self, model, texts, **_):
        self.calls.append("texts")
        rows = [np.random.default_rng([model, *text.encode()]).normal(size=8) for text in texts]
        return np.array(rows, np.float32)


@pytest.fixture
def towers(monkeypatch) -> Towers:
    return Towers(monkeypatch)


def test_every_class_gets_the_papers_prompts(data):
    groups = prompts.prompts(data)
    assert [len(group) for group in groups] == [105] * 3 == [len(paper.prompts())] * 3
    for name, group in zip(("beach", "parking lot", "river"), groups, strict=True):
        assert (
            all(name in prompt and "{" not in prompt for prompt in group) and len(set(group)) > 100
        )


def test_class_text_keeps_prompts_with_their_class(data, towers):
    text = prompts.class_text(3, data)
    assert text.shape == (3, 105, 8)
    for c, group in enumerate(prompts.prompts(data)):
        for p in (0, 50, 104):
            assert (text[c, p] == clip.encode_texts(3, [group[p]])[0]).all()


def test_vectors_are_made_once(data, towers):
    mini = scales.get("mini")
    first = testing.vectors(mini, data, "general", lambda: 3)
    assert (
        towers.calls == ["texts", "images"]
        and first["image"].shape == (6, 8)
        and first["text"].shape == (3, 105, 8)
    )

    def unasked():
        raise AssertionError("the model was loaded for vectors that are there")

    second = testing.vectors(mini, data, "general", unasked)
    assert len(towers.calls) == 2 and all((first[key] == second[key]).all() for key in first)


def test_another_model_or_other_data_gets_its_own_vectors(data, towers):
    mini = scales.get("mini")
    first = testing.vectors(mini, data, "general", lambda: 3)
    tuned = testing.vectors(mini, data, "tuned", lambda: 4)
    assert (first["image"] != tuned["image"]).any()
    fewer = data._replace(images=data.images[:4], labels=data.labels[:4], names=data.names[:4])
    assert testing.vectors(mini, fewer, "general", lambda: 3)["image"].shape == (4, 8)
    testing.vectors(replace(mini, image_size=64), data, "general", lambda: 3)
    assert towers.calls.count("images") == 4


def test_texts_of_a_locked_tower_are_read_once_for_all_models(data, towers):
    mini, colab = scales.get("mini"), scales.get("colab")
    first = testing.vectors(mini, data, "general", lambda: 3)
    assert (testing.vectors(mini, data, "tuned", lambda: 4)["text"] == first["text"]).all()
    assert towers.calls.count("texts") == 1
    own = [
        testing.vectors(colab, data, *model)["text"]
        for model in (("general", lambda: 3), ("tuned", lambda: 4))
    ]
    assert (own[0] != own[1]).any() and towers.calls.count("texts") == 3, (
        "a tower that is tuned reads them itself"
    )


def test_equal_texts_are_encoded_once_and_keep_their_places(towers):
    texts = ["river", "a long text", "river", "sea", "a long text"]
    found = testing.text_vectors(scales.get("mini"), "some", texts, "general", lambda: 3)
    assert (found == np.concatenate([clip.encode_texts(3, [text]) for text in texts])).all()


@pytest.mark.parametrize("protocol", ["rs5m", "clip"])
def test_measure_equals_its_parts(data, towers, protocol):
    vectors = {
        "image": np.random.default_rng(3).normal(size=(6, 8)),
        "text": prompts.class_text(3, data),
    }
    got = testing.measure(vectors, data, protocol)
    weights = zeroshot.classifier(vectors["text"], protocol)
    cosine = zeroshot.normalise(vectors["image"]) @ weights.T
    hit = cosine.argmax(1) == data.labels
    assert (
        (got["hit"] == hit).all()
        and got["top1"] == pytest.approx(100 * hit.mean())
        and got["top5"] == 100
    )
    assert got["balanced"] == pytest.approx(
        100 * np.mean([hit[data.labels == c].mean() for c in range(3)])
    )
    assert got["low"] <= got["balanced"] <= got["high"]


def test_some_takes_at_most_so_many_of_each_class():
    label = np.repeat([0, 1, 2], [2, 30, 9])
    images = [np.full((1, 1, 3), i, np.uint8) for i in range(41)]
    data = Labelled("x", images, label, list("abc"), list(map(str, range(41))), [])
    few = sets.some(data, 8)
    assert np.bincount(few.labels).tolist() == [2, 8, 8]
    numbers = [int(name) for name in few.names]
    assert numbers == [int(image[0, 0, 0]) for image in few.images] == sorted(numbers)
    assert few.names == sets.some(data, 8).names != sets.some(data, 8, seed=1).names


# ---------------------------------------------------------------- the words alone


def test_spellings_begin_with_the_names_of_the_prompts():
    eurosat = Labelled("eurosat", [], np.array([]), ["AnnualCrop", "Forest", "SeaLake"], [], [])
    assert testing.spellings(eurosat) == {
        "the protocol's names": ["annualcrop", "forest", "sealake"],
        "parted words": ["annual crop", "forest", "sea lake"],
    }
    ucm = Labelled("ucm", [], np.array([]), ["beach", "parkinglot"], [], [])
    assert testing.spellings(ucm) == {
        "the protocol's names": ["beach", "parking lot"],
        "folder names": ["beach", "parkinglot"],
    }
    pocket = Labelled(
        "pocket", [], np.array([]), ["open water", "savanna", "barren desert"], [], []
    )
    assert testing.spellings(pocket) == {
        "the protocol's names": ["open water", "savanna", "barren desert"],
        "IGBP's names": ["water bodies", "savannas", "barren"],
        "plainer names": ["water", "savanna", "desert"],
    }


def test_plainer_names_are_of_land_covers_and_stay_apart():
    names = pocket.class_names()
    assert set(testing.PLAINER) <= set(names)
    plain = [testing.PLAINER.get(name, name) for name in names]
    assert len(set(plain)) == len(set(testing.igbp(names))) == 17


def test_wordings_are_encoded_once_and_without_images(data, towers):
    mini = scales.get("mini")
    first = testing.wordings(mini, data, "general", lambda: 3)
    assert set(towers.calls) == {"texts"} and list(first) == list(testing.spellings(data))
    count = len(towers.calls)
    second = testing.wordings(
        mini, data, "general", lambda: pytest.fail("the model was loaded again")
    )
    assert len(towers.calls) == count and all((first[key] == second[key]).all() for key in first)
    patterns = [*paper.prompts(), "a photo of a {}.", "{}"]
    for spelling, names in testing.spellings(data).items():
        for c, name in enumerate(names):
            for p in (0, 104, 105, 106):
                assert (
                    first[spelling][c, p] == clip.encode_texts(3, [patterns[p].format(name)])[0]
                ).all()
    assert (first["the protocol's names"][:, :105] == prompts.class_text(3, data)).all()
    other = testing.wordings(scales.get("colab"), data, "tuned", lambda: 4)
    assert (other["folder names"] != first["folder names"]).any()


def test_choices_equal_a_loop():
    generator = np.random.default_rng(0)
    image, text = (
        generator.normal(size=(40, 6)),
        generator.normal(size=(5, 107, 6)) * generator.uniform(0.1, 9, (5, 107, 1)),
    )
    label = generator.integers(0, 5, 40)
    found = testing.choices(image, text, label)

    def top1(weights):
        cosine = [[v @ w / np.sqrt(v @ v) / np.sqrt(w @ w) for w in weights] for v in image]
        return (
            100
            * sum(int(np.argmax(row)) == truth for row, truth in zip(cosine, label, strict=True))
            / 40
        )

    assert set(found) == {"rs5m", "clip", "alone", "a photo of a {}.", "{}"} and found[
        "alone"
    ].shape == (105,)
    assert [found["alone"][p] for p in range(105)] == pytest.approx(
        [top1(text[:, p]) for p in range(105)]
    )
    assert (found["a photo of a {}."], found["{}"]) == pytest.approx(
        (top1(text[:, 105]), top1(text[:, 106]))
    )
    unit = text / np.sqrt((text**2).sum(-1, keepdims=True))
    assert (
        found["rs5m"] == pytest.approx(top1(text[:, :105].mean(1))) != pytest.approx(found["clip"])
    )
    assert found["clip"] == pytest.approx(top1(unit[:, :105].mean(1)))


def test_mean_over_seeds_counts_seeds_in_its_interval(data):
    generator = np.random.default_rng(0)
    label = np.repeat([0, 1], [40, 60])
    measured = []
    for chance in (0.3, 0.5, 0.7):
        hit = generator.random(100) < chance
        low, high = zeroshot.interval(hit, label)
        balanced = zeroshot.balanced(hit, label)
        measured.append(
            {
                "top1": 100 * hit.mean(),
                "top5": 90.0,
                "balanced": balanced,
                "low": low,
                "high": high,
                "hit": hit,
            }
        )
    found = testing.mean_over_seeds(measured, label)
    assert (
        found["balanced"] == pytest.approx(np.mean([one["balanced"] for one in measured]))
        and found["top5"] == 90
    )
    assert found["low"] < found["balanced"] < found["high"]
    assert found["high"] - found["low"] > 1.5 * (measured[1]["high"] - measured[1]["low"]), (
        "the seeds differ much"
    )
    alone = testing.mean_over_seeds(measured[:1], label)
    assert {key: alone[key] for key in ("balanced", "low", "high")} == {
        key: measured[0][key] for key in ("balanced", "low", "high")
    }
