"""A validation gives the numbers of the metrics, with what is unreadable left out, and reads a
locked text tower once.
"""

import json

import numpy as np
import pytest
import torch
from small import encoded
from small_tuning import tiny

from rs5m import clip, retrieval, zeroshot
from rs5m.data import datasets, records
from rs5m.evaluate import prompts, validation

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)


def test_classes_are_scored_without_what_is_unreadable(tmp_path, capsys):
    for name, seeds in (("field", (1, 2, 3)), ("river", (4,))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            (tmp_path / name / f"{seed}.png").write_bytes(encoded(picture(seed)))
    (tmp_path / "field" / "2.png").write_bytes(b"no image")
    (tmp_path / ".DS_Store").touch()
    found, model = validation.of(str(tmp_path), tmp_path / "out", 7), tiny()
    assert (found.by, found.every) == ("balanced", 7)
    assert (found.about["images"], found.about["classes"]) == (4, 2)
    image = clip.encode_images(model, [picture(seed) for seed in (1, 3, 4)], quiet=True)
    data = datasets.of_folder("own", tmp_path, "")
    classifier = zeroshot.classifier(prompts.class_text(model, data))
    wanted = zeroshot.accuracy(image, classifier, np.array([0, 0, 1]), (1,))
    assert found.score(model) == found.score(model) == pytest.approx(wanted)
    said = capsys.readouterr().out
    assert said.count("skipped 1 unreadable images: field/2.png (not_an_image)") == 1
    assert "left out of the validation: 1 (hidden)" in said
    (tmp_path / "river" / "5.png").write_bytes(encoded(picture(5)))
    other = validation.of(str(tmp_path), tmp_path / "out")
    assert other.about["digest"] != found.about["digest"]


def test_captions_are_scored_without_those_of_what_is_unreadable(tmp_path):
    texts = ["a field", "a river", "a road", "a bridge", "a coast"]
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(3)]
    owner = (0, 0, 1, 2, 2)
    notes = [{"image_id": i, "caption": text} for i, text in zip(owner, texts, strict=True)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": notes}))
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture(i)))
    found, model = validation.of(str(tmp_path / "coco.json"), tmp_path / "out"), tiny()
    assert (found.about["images"], found.about["captions"]) == (3, 5)
    image = clip.encode_images(model, [picture(i) for i in range(3)], quiet=True)
    text = clip.encode_texts(model, texts)
    assert found.score(model) == pytest.approx(retrieval.recall(image, text, np.array(owner)))
    pairs = [records.Record(encoded(picture(i)), f"{i}.png", texts[i]) for i in range(3)]
    pairs[1] = pairs[1]._replace(image=pairs[1].image[:900])
    records.write(tmp_path / "pairs.tar", pairs)
    cut = validation.of(str(tmp_path / "pairs.tar"), tmp_path / "out").score(model)
    text = clip.encode_texts(model, [texts[0], texts[2]])
    assert cut == pytest.approx(retrieval.recall(image[[0, 2]], text, np.arange(2)))


def test_texts_are_read_anew_only_by_another_text_tower(tmp_path, monkeypatch):
    for name in ("field", "river"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(encoded(picture(0)))
    read, real = [], prompts.class_text
    monkeypatch.setattr(prompts, "class_text", lambda *given: read.append(1) or real(*given))
    found, model = validation.of(str(tmp_path), tmp_path / "out"), tiny()
    for _ in range(2):
        found.score(model)
    with torch.no_grad():
        model.net.visual.proj.add_(1)
    found.score(model)
    assert len(read) == 1
    with torch.no_grad():
        model.net.text_projection.add_(torch.randn_like(model.net.text_projection))
    found.score(model)
    assert len(read) == 2


def test_compiled_towers_are_not_compiled_once_more_for_a_validation(tmp_path):
    for name, seed in (("field", 1), ("river", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(encoded(picture(seed)))
    found, plain, model = validation.of(str(tmp_path), tmp_path / "out"), tiny(), tiny()
    seen = []

    def count(graph, _):
        seen.append(graph)
        return graph.forward

    model.net.visual.compile(backend=count)
    pixels = torch.zeros(2, 3, model.image_size, model.image_size)
    model.net.encode_image(pixels)
    first = len(seen)
    assert first and found.score(model) == found.score(plain) and len(seen) == first
    model.net.encode_image(pixels)
    assert len(seen) == first, "still compiled"
