"""Published weights on WHU-RS19: the table equals a plain re-computation, and errors are named."""

import os
from pathlib import Path

import numpy as np
import pytest

from rs5m.book import weights

DATA = Path(os.environ.get("RS5M_DATA") or "../shared/data") / weights.FOLDER


def unit(array):
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def make(folder, name, seed, form="text", label=None):
    """Vectors of 19 classes in a made world: the image of class c lies near the text of class c."""
    generator, classes = np.random.default_rng(seed), len(weights.CLASSES)
    label = np.arange(4 * classes) % classes if label is None else label
    centre = unit(np.random.default_rng(0).normal(size=(classes, 32)))
    image = unit(centre[label] + generator.normal(size=(len(label), 32)) * 0.25)
    text = unit(centre[:, None] + generator.normal(size=(classes, 105, 32)) * 0.3)
    texts = {"text": text} if form == "text" else {"mean": text.mean(1)}
    np.savez(folder / f"{name}.npz", image=image.astype("f2"), label=label, single=text[:, 0],
             **{key: value.astype("f2") for key, value in texts.items()})  # fmt: skip


def plain(path):
    """Whether each image is right: the class whose mean text is nearest, in a loop."""
    with np.load(path) as kept:
        image = kept["image"].astype(float)
        text = kept["text"].astype(float).mean(1) if "text" in kept else kept["mean"].astype(float)
        label = kept["label"]
    right = []
    for vector, truth in zip(image, label, strict=True):
        right.append(max(range(len(text)), key=lambda c: vector @ unit(text[c])) == truth)
    return np.array(right)


def test_models_and_gains_are_those_of_a_plain_loop(tmp_path):
    make(tmp_path, "CLIP_ViT-B-32", 1)
    make(tmp_path, "GeoRSCLIP_ViT-B-32", 2)
    make(tmp_path, "RemoteCLIP_RN50", 3, "mean")
    found = weights.measure(tmp_path)
    assert list(found["models"]) == ["CLIP ViT-B-32", "GeoRSCLIP ViT-B-32", "RemoteCLIP RN50"]
    right = {path.stem.replace("_", " ", 1): plain(path) for path in tmp_path.glob("*.npz")}
    for name, by in found["models"].items():
        assert by[weights.MANY]["top1"] == pytest.approx(100 * right[name].mean())
    gain = found["gains"]["GeoRSCLIP ViT-B-32"][weights.MANY]
    change = right["GeoRSCLIP ViT-B-32"].mean() - right["CLIP ViT-B-32"].mean()
    assert gain["gain"] == pytest.approx(100 * change) and gain["low"] <= gain["high"]
    assert "RemoteCLIP RN50" not in found["gains"]  # there is no CLIP RN50 beside it
    assert list(found["spread"]) == ["CLIP ViT-B-32", "GeoRSCLIP ViT-B-32"]
    assert found == weights.measure(tmp_path)
    assert weights.table(found).shape == (3, 3) and weights.figure(found).axes


def test_the_worst_class_is_named_with_what_it_is_called(tmp_path):
    make(tmp_path, "CLIP_RN50", 1)
    with np.load(tmp_path / "CLIP_RN50.npz") as kept:
        arrays = dict(kept)
    arrays["image"][arrays["label"] == 3] = arrays["text"][8, 0]  # commercial looks like industrial
    np.savez(tmp_path / "CLIP_RN50.npz", **arrays)
    first = weights.measure(tmp_path)["worst"]["CLIP RN50"][0]
    assert first == {"class": "commercial", "accuracy": 0, "called": "industrial", "share": 100}


def test_files_in_different_orders_are_refused(tmp_path):
    make(tmp_path, "CLIP_RN50", 1)
    make(tmp_path, "CLIP_ViT-B-32", 1, label=np.arange(76) // 4)
    with pytest.raises(ValueError, match="in different orders"):
        weights.measure(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no npz"):
        weights.measure(tmp_path / "none")


def test_without_a_record_the_headline_is_not_a_number():
    headline = weights.headline(None)
    assert np.isnan(headline["gain"]) and headline["chance"] == pytest.approx(100 / 19)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the vectors of WHU-RS19")
def test_the_real_vectors_give_the_same_to_the_last_image():
    found = weights.measure(DATA)
    assert found["images"] == 1005 and len(found["models"]) == 11
    for path in DATA.glob("*.npz"):
        name = path.stem.replace("_", " ", 1)
        count = found["models"][name][weights.MANY]["top1"] * 1005 / 100
        assert count == pytest.approx(plain(path).sum())
