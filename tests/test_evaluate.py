"""Test sets through a model: prompts, vectors that are made once, and the numbers from them."""

from dataclasses import replace

import numpy as np
import pytest

from rs5m import clip, evaluate, paper, scales, zeroshot
from rs5m.datasets import Labelled


@pytest.fixture
def data(tmp_path, monkeypatch) -> Labelled:
    monkeypatch.chdir(tmp_path)
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(6)]
    names = [f"{i}.jpg" for i in range(6)]
    return Labelled("ucm", images, np.array([0, 0, 1, 1, 1, 2]), ["beach", "parkinglot", "river"], names, [])


class Towers:
    """Stands in for the encoders: fixed random vectors, and a count of how often each was asked."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(clip, "encode_images", self.images)
        monkeypatch.setattr(clip, "encode_texts", self.texts)

    def images(self, model, images, **_):
        self.calls.append("images")
        return np.random.default_rng(model).normal(size=(len(images), 8)).astype(np.float32)

    def texts(self, model, texts, **_):
        self.calls.append("texts")
        rows = [np.random.default_rng([model, *text.encode()]).normal(size=8) for text in texts]
        return np.array(rows, np.float32)


@pytest.fixture
def towers(monkeypatch) -> Towers:
    return Towers(monkeypatch)


def test_every_class_gets_the_papers_prompts(data):
    groups = evaluate.prompts(data)
    assert [len(group) for group in groups] == [105] * 3 == [len(paper.prompts())] * 3
    for name, group in zip(("beach", "parking lot", "river"), groups, strict=True):
        assert all(name in prompt and "{" not in prompt for prompt in group) and len(set(group)) > 100


def test_class_text_keeps_prompts_with_their_class(data, towers):
    text = evaluate.class_text(3, data)
    assert text.shape == (3, 105, 8)
    for c, group in enumerate(evaluate.prompts(data)):
        for p in (0, 50, 104):
            assert (text[c, p] == clip.encode_texts(3, [group[p]])[0]).all()


def test_vectors_are_made_once(data, towers):
    mini = scales.get("mini")
    first = evaluate.vectors(mini, data, "general", lambda: 3)
    assert towers.calls == ["images", "texts"] and first["image"].shape == (6, 8) and first["text"].shape == (3, 105, 8)

    def unasked():
        raise AssertionError("the model was loaded for vectors that are there")

    second = evaluate.vectors(mini, data, "general", unasked)
    assert len(towers.calls) == 2 and all((first[key] == second[key]).all() for key in first)


def test_another_model_or_other_data_gets_its_own_vectors(data, towers):
    mini = scales.get("mini")
    first = evaluate.vectors(mini, data, "general", lambda: 3)
    tuned = evaluate.vectors(mini, data, "tuned", lambda: 4)
    assert (first["image"] != tuned["image"]).any()
    fewer = data._replace(images=data.images[:4], labels=data.labels[:4], names=data.names[:4])
    assert evaluate.vectors(mini, fewer, "general", lambda: 3)["image"].shape == (4, 8)
    evaluate.vectors(replace(mini, image_size=64), data, "general", lambda: 3)
    assert towers.calls.count("images") == 4


@pytest.mark.parametrize("protocol", ["rs5m", "clip"])
def test_measure_equals_its_parts(data, towers, protocol):
    vectors = {"image": clip.encode_images(3, data.images), "text": evaluate.class_text(3, data)}
    got = evaluate.measure(vectors, data, protocol)
    weights = zeroshot.classifier(vectors["text"], protocol)
    cosine = zeroshot.normalise(vectors["image"]) @ weights.T
    hit = cosine.argmax(1) == data.labels
    assert (got["hit"] == hit).all() and got["top1"] == pytest.approx(100 * hit.mean()) and got["top5"] == 100
    assert got["balanced"] == pytest.approx(100 * np.mean([hit[data.labels == c].mean() for c in range(3)]))
    assert got["low"] <= got["balanced"] <= got["high"]


def test_some_takes_at_most_so_many_of_each_class():
    label = np.repeat([0, 1, 2], [2, 30, 9])
    images = [np.full((1, 1, 3), i, np.uint8) for i in range(41)]
    data = Labelled("x", images, label, list("abc"), list(map(str, range(41))), [])
    few = evaluate.some(data, 8)
    assert np.bincount(few.labels).tolist() == [2, 8, 8]
    numbers = [int(name) for name in few.names]
    assert numbers == [int(image[0, 0, 0]) for image in few.images] == sorted(numbers)
    assert few.names == evaluate.some(data, 8).names != evaluate.some(data, 8, seed=1).names


def test_the_gain_over_seeds_counts_seeds_and_images():
    generator = np.random.default_rng(0)
    label = np.repeat([0, 1], [40, 120])
    before = generator.random(160) < 0.3
    same = [before | (generator.random(160) < 0.3)] * 3
    found = evaluate.gain_over_seeds(before, same, label)
    change = [hit.astype(float) - before for hit in same]
    expected = [100 * np.mean([c[label == 0].mean(), c[label == 1].mean()]) for c in change]
    assert found["gain"] == pytest.approx(expected[0]) and found["seeds"] == pytest.approx(expected)
    assert found["low"] < found["gain"] < found["high"]
    apart = [before, before | (generator.random(160) < 0.3), np.ones(160, bool)]
    wider = evaluate.gain_over_seeds(before, apart, label)
    assert wider["high"] - wider["low"] > 2 * (found["high"] - found["low"]), "seeds that differ widen the interval"
    nothing = evaluate.gain_over_seeds([before] * 2, [before] * 3, label)
    assert nothing["gain"] == nothing["low"] == nothing["high"] == 0
