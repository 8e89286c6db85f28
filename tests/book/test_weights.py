"""Published weights on WHU-RS19: the table equals a plain re-computation, and errors are named."""

import os
from pathlib import Path

import numpy as np
import pytest

from rs5m import results
from rs5m.book import weights
from rs5m.evaluate import stored

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


def plain(path, form=""):
    """Whether each image is right: the class whose text is nearest, in a loop. form: of the texts,
    by default the mean over the prompts.
    """
    with np.load(path) as kept:
        image, label = kept["image"].astype(float), kept["label"]
        form = form or ("text" if "text" in kept else "mean")
        text = kept[form].astype(float)
        text = text.mean(1) if text.ndim == 3 else text
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
def test_the_real_vectors_give_the_same_to_the_last_image_and_the_last_bit(tmp_path):
    """By every protocol; gains too, and what is stored is what these files give."""
    found = weights.measure(DATA)
    assert found["images"] == 1005 and len(found["models"]) == 11
    right = {path.stem.replace("_", " ", 1): path for path in DATA.glob("*.npz")}
    right = {
        name: {weights.MANY: plain(path)} | ({weights.ONE: plain(path, "single")})
        for name, path in right.items()
    }
    for name, by in found["models"].items():
        for protocol, row in by.items():
            assert row["top1"] * 1005 / 100 == pytest.approx(right[name][protocol].sum())
    for name, by in found["gains"].items():
        clip = right[f"CLIP {name.partition(' ')[2]}"]
        for protocol, row in by.items():
            change = int(right[name][protocol].sum()) - int(clip[protocol].sum())
            assert row["gain"] * 1005 / 100 == pytest.approx(change)
    assert len(found["gains"]) == 7
    assert weights.measure(DATA) == found == results.load("weights", "local")["values"]
    files = [str(path) for path in sorted(DATA.glob("*CLIP_ViT-B-32.npz"))]
    for out in ("one.json", "two.json"):
        stored.run(files, tmp_path / out)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
