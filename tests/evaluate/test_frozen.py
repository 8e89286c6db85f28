"""Frozen vectors: each method against a slow one or a case with a known answer; no label leaks."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rs5m import cli
from rs5m.evaluate import frozen, stored

REAL = Path(os.environ.get("RS5M_DATA") or Path(__file__).parents[3] / "shared/data") / "whurs19"
CLASSES, EACH, DIM = 4, 30, 12


def made(spread=0.6, seed=0, offset=0.3):
    """Images about the centres of their classes; texts that lie beside the centres."""
    generator = np.random.default_rng(seed)
    centre = generator.normal(size=(CLASSES, DIM))
    label = np.repeat(np.arange(CLASSES), EACH)
    image = centre[label] + spread * generator.normal(size=(len(label), DIM))
    text = centre + offset * generator.normal(size=centre.shape)
    order = generator.permutation(len(label))
    unit = np.linalg.norm(image, axis=1, keepdims=True)
    return (image / unit)[order], label[order], text / np.linalg.norm(text, axis=1, keepdims=True)


def test_the_test_images_are_half_of_each_class_and_never_learned_from():
    label = np.array([0] * 5 + [1] * 8 + [3] * 2)
    learn, test = frozen.split(label)
    assert sorted([*learn, *test]) == list(range(15))
    assert np.bincount(label[learn]).tolist() == [2, 4, 0, 1]
    assert (frozen.split(label)[0] == learn).all() and len(frozen.split(label, 1)[0]) == 7


@pytest.mark.parametrize("label", [[0] * 6, [0, 0, 1], []])
def test_a_set_without_two_classes_of_two_images_is_refused(label):
    with pytest.raises(ValueError, match="give two classes or more, and two images of each"):
        frozen.split(np.array(label, int))


def test_neighbours_vote_as_one_by_one():
    image, label, _ = made()
    train, test = image[:80], image[80:]
    for vector, said in zip(test, frozen.neighbours(train, label[:80], test), strict=True):
        cosines = sorted(((float(v @ vector), int(c)) for v, c in zip(train, label, strict=False)))
        votes = [0.0] * CLASSES
        for cosine, c in cosines[-20:]:
            votes[c] += np.exp(cosine / 0.07)
        assert said == np.argmax(votes)
    assert (frozen.neighbours(image[:3], label[:3], image[:3]) == label[:3]).all()


def test_the_probe_chooses_its_strength_without_the_test(monkeypatch):
    image, label, _ = made()
    seen = []
    real = frozen.fitted
    monkeypatch.setattr(frozen, "fitted", lambda x, y, c: seen.append((len(x), c)) or real(x, y, c))
    said, strength = frozen.probe(image[:80], label[:80], image[80:])
    assert (said == label[80:]).mean() > 0.9 and strength in frozen.STRENGTHS
    held = sum(int(n) // 5 for n in np.bincount(label[:80]))
    assert seen == [(80 - held, one) for one in frozen.STRENGTHS] + [(80, strength)]


def test_texts_and_images_meet_half_way():
    image, label, text = made()
    got = frozen.with_texts(image[label == 1], label[label == 1], text)
    assert got[[0, 2, 3]] == pytest.approx(text[[0, 2, 3]])
    mean = image[label == 1].mean(0)
    assert got[1] @ text[1] == pytest.approx(got[1] @ mean / np.linalg.norm(mean))


def test_images_seen_together_are_told_apart_better():
    """Texts beside their classes: the clusters of the images say where the classes are."""
    image, label, text = made(spread=0.5, offset=2.0)
    before = ((image @ text.T).argmax(1) == label).mean()
    z = frozen.transductive(image, text)
    assert z.sum(1) == pytest.approx(1) and before < 0.95
    assert (z.argmax(1) == label).mean() > before + 0.03


def test_transduction_uses_no_label_and_no_order():
    image, label, text = made()
    z, order = frozen.transductive(image, text), np.random.default_rng(1).permutation(len(image))
    assert frozen.transductive(image[order], text) == pytest.approx(z[order], abs=1e-6)
    turned = frozen.transductive(image, text[::-1])
    assert turned[:, ::-1] == pytest.approx(z, abs=1e-6)
    alone = frozen.transductive(image[:2], text)
    assert np.isfinite(alone).all()


def test_an_interval_over_seeds_holds_their_mean_and_widens_with_their_spread():
    label = np.repeat([0, 1], 50)
    generator = np.random.default_rng(0)
    alike = np.tile(generator.random(100) < 0.8, (5, 1))
    apart = np.array([generator.random(100) < share for share in (0.5, 0.7, 0.8, 0.9, 1)])
    one, other = (frozen.over_seeds(hits, label) for hits in (alike, apart))
    assert one["low"] < 100 * alike.mean() < one["high"]
    assert other["low"] < 100 * apart.mean() < other["high"]
    assert other["high"] - other["low"] > one["high"] - one["low"] > 5
    assert frozen.over_seeds(np.ones(100), label) == {"top1": 100, "low": 100, "high": 100}


def test_the_command_writes_every_task(tmp_path, capsys):
    image, label, text = made()
    np.savez(tmp_path / "m.npz", image=image, label=label, single=text)
    out = tmp_path / "r.json"
    line = ["evaluate", "--features", str(tmp_path / "m.npz"), "--out", str(out), "--tasks"]
    assert cli.main([*line, "zeroshot,knn,probe,fewshot,transductive"]) == 0
    rows = json.loads(out.read_text())["m"]["protocols"]
    assert {"one prompt", "k-NN", "linear probe", "transductive", "8-shot linear"} <= set(rows)
    assert "16-shot linear" not in rows, "a class has but 15 images to learn from"
    assert all(row["low"] <= row["top1"] <= row["high"] for row in rows.values())
    assert rows["8-shot linear"]["top1"] > rows["1-shot linear"]["top1"]
    assert "transductive" in capsys.readouterr().out
    assert cli.main([*line, "zeroshot,prob"]) == 2
    assert "unknown task 'prob' beside --features: choose from zero" in capsys.readouterr().err
    np.savez(tmp_path / "m.npz", image=image, label=label * 0, single=text)
    assert cli.main([*line, "knn"]) == 2
    assert "m, knn: 1 classes, the smallest with 120 images: give" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs vectors of WHU-RS19")
def test_published_weights_gain_by_transduction():
    """Measured: CLIP 81.3 -> 87.2, GeoRSCLIP 88.8 -> 97.9 %."""
    for name, before, after in (("CLIP", 81.3, 87.2), ("GeoRSCLIP", 88.8, 97.9)):
        rows = stored.measured(
            stored.read(REAL / f"{name}_ViT-B-32.npz"), ["zeroshot", "transductive"]
        )
        assert rows["105 prompts"]["top1"] == pytest.approx(before, abs=0.05)
        assert rows["transductive"]["top1"] == pytest.approx(after, abs=0.5)


def test_neighbours_in_blocks_vote_alike(monkeypatch):
    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(40, 6)), generator.normal(size=(25, 6))
    label = np.arange(40) % 3
    whole = frozen.neighbours(train, label, test)
    monkeypatch.setattr(frozen, "BLOCK", 7)
    assert np.array_equal(frozen.neighbours(train, label, test), whole)
