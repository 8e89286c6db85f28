"""Stored vectors: scores equal a loop over images, and what is wrong with a file is said."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from rs5m import cli
from rs5m.evaluate import stored

REAL = Path(os.environ.get("RS5M_DATA") or Path(__file__).parents[3] / "shared/data") / "whurs19"
CLASSES, PROMPTS, DIM = 4, 3, 8


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    text = generator.normal(size=(CLASSES, PROMPTS, DIM))
    label = np.arange(40) % CLASSES
    image = text[label].mean(1) + generator.normal(size=(40, DIM))
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    return {"image": image, "label": label, "text": text, "single": text[:, 0]}


def saved(folder: Path, **arrays) -> Path:
    np.savez(folder / "model.npz", **arrays)
    return folder / "model.npz"


def by_hand(image, classes, label):
    """Share of images in % whose nearest class is their own, one image at a time."""
    right = 0
    for vector, truth in zip(image, label, strict=True):
        cosines = [vector @ c / np.linalg.norm(vector) / np.linalg.norm(c) for c in classes]
        right += int(np.argmax(cosines)) == truth
    return 100 * right / len(label)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_scores_equal_a_loop_over_images(tmp_path, arrays, kind):
    kept = {k: v if k == "label" else v.astype(kind) for k, v in arrays.items()}
    found = stored.score(stored.read(saved(tmp_path, **kept)))
    wide = {k: v.astype(float) for k, v in kept.items() if k != "label"}
    mean = by_hand(wide["image"], wide["text"].mean(1), arrays["label"])
    assert found["3 prompts"]["top1"] == pytest.approx(mean)
    assert found["3 prompts"]["low"] <= mean <= found["3 prompts"]["high"]
    one = by_hand(wide["image"], wide["single"], arrays["label"])
    assert found["one prompt"]["top1"] == pytest.approx(one)
    assert stored.spread(stored.read(saved(tmp_path, **kept)))[0] == pytest.approx(one)


def test_a_gain_is_paired_and_zero_against_itself(tmp_path, arrays):
    vectors = stored.read(saved(tmp_path, **arrays))
    hit = stored.score(vectors)["3 prompts"]["hit"]
    assert stored.gain(hit, hit, vectors.label) == {"gain": 0, "low": 0, "high": 0}
    worse = stored.gain(np.ones_like(hit), hit, vectors.label)
    assert worse["gain"] == pytest.approx(100 * hit.mean() - 100)
    assert worse["low"] <= worse["gain"] <= worse["high"] < 0


BAD = {
    "no label": (lambda a: a.pop("label"), "lacks label"),
    "no text": (lambda a: (a.pop("text"), a.pop("single")), "lacks text or mean or single"),
    "lengths": (lambda a: a.update(label=a["label"][:-1]), "give 40 whole numbers"),
    "widths": (lambda a: a.update(text=a["text"][..., 1:]), "take both from one model"),
    "classes": (
        lambda a: a.update(single=a["single"][1:]),
        "different numbers of classes .*: save them again",
    ),
    "overflow": (  # what float16 makes of vectors that are not normalised
        lambda a: a.update(image=np.full_like(a["image"], np.inf, "f2")),
        "40 of 40 rows of image are zeros or not finite",
    ),
    "range": (lambda a: a.update(label=a["label"] + 1), "count from 0"),
    "negative": (lambda a: a.update(label=a["label"] - 1), "count from 0"),
    "fractions": (lambda a: a.update(label=a["label"] + 0.5), "whole numbers"),
    "whole numbers": (lambda a: a.update(image=a["image"].astype(int)), "give floats"),
    "one axis": (lambda a: a.update(image=a["image"][0]), "with 2 axes"),
    "nothing": (lambda a: a.update(image=a["image"][:0], label=a["label"][:0]), "image is empty"),
    "nan": (lambda a: a["image"].__setitem__((3, 0), np.nan), "1 of 40 rows of image"),
    "zeros": (lambda a: a["text"].__setitem__((3, 0), 0), "1 of 12 rows of text are zeros"),
    "names": (lambda a: a.update(classes=["a", "b"]), "names 2 classes and has texts of 4"),
    "one class": (
        lambda a: a.update(text=a["text"][:1], single=a["single"][:1], label=a["label"] * 0),
        "has one class: classification needs two",
    ),
    "version": (
        lambda a: a.update(about='{"version": 0}'),
        "has vectors of version 0, and this rs5m makes those of 1: run rs5m embed again",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(tmp_path, arrays, name):
    spoil, sentence = BAD[name]
    spoil(arrays)
    with pytest.raises(ValueError, match=f"model.npz.*{sentence}"):
        stored.read(saved(tmp_path, **arrays))


def test_pickled_objects_are_refused_and_a_cut_file_is_named(tmp_path, arrays):
    path = saved(tmp_path, **arrays | {"extra": np.array([{"run": "me"}], dtype=object)})
    with pytest.raises(ValueError, match="pickled objects"):
        stored.read(path)
    path = saved(tmp_path, **arrays)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="not a whole npz file"):
        stored.read(path)
    path.write_text("<html>not found</html>")  # what a wrong address gives; no pickle
    with pytest.raises(ValueError, match="is a web page or XML, not an npz"):
        stored.read(path)
    np.save(tmp_path / "one.npy", arrays["image"])
    with pytest.raises(ValueError, match="one.npy is one array of numpy, not an npz"):
        stored.read(tmp_path / "one.npy")
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="pickled objects"):
        stored.read(path)
    with pytest.raises(FileNotFoundError, match="give an npz"):
        stored.read(tmp_path / "other.npz")


def test_other_lengths_and_classes_without_images_are_noted(tmp_path, arrays):
    arrays["image"] *= 3
    rest = arrays["label"] != 2
    vectors = stored.read(saved(tmp_path, **arrays | {
        "image": arrays["image"][rest], "label": arrays["label"][rest]}))  # fmt: skip
    assert "image is not normalised" in vectors.notes[0]
    assert vectors.notes[1].startswith("1 of 4 classes have no image")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs vectors of WHU-RS19")
def test_published_weights_on_whurs19():
    """Measured by hand before: ViT-B/32 81.3 -> 88.8, ViT-L/14 85.5 -> 88.5 %."""
    for size, before, after in (("ViT-B-32", 81.3, 88.8), ("ViT-L-14", 85.5, 88.5)):
        files = [stored.read(REAL / f"{name}_{size}.npz") for name in ("CLIP", "GeoRSCLIP")]
        top1 = [stored.score(one)["105 prompts"]["top1"] for one in files]
        assert top1 == pytest.approx([before, after], abs=0.05)


def test_the_command_scores_files_and_refuses_a_model_beside_them(tmp_path, arrays, capsys):
    path, out = saved(tmp_path, **arrays), tmp_path / "report.json"
    assert cli.main(["evaluate", "--features", str(path), "--out", str(out)]) == 0
    assert "3 prompts" in capsys.readouterr().out
    rows = json.loads(out.read_text())["model"]["protocols"]
    assert rows["one prompt"]["top1"] == pytest.approx(
        by_hand(arrays["image"], arrays["single"], arrays["label"])
    )
    for more, sentence in (
        (["--features", str(path), "--model", "pocket"], "needs no --model: leave it out"),
        ([], "give --model and --data"),
    ):
        assert cli.main(["evaluate", "--out", str(out), *more]) == 2
        assert sentence in capsys.readouterr().err
