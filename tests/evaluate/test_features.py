"""Vectors kept on disk: nothing twice, anew where anything differs; killed runs."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small import encoded
from small_tower import contents, images, small
from torch import nn

from rs5m import clip
from rs5m.data import datasets
from rs5m.data.datasets import Images
from rs5m.evaluate import features

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """runs/ goes to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- kept on disk


def test_nothing_is_encoded_twice(capsys):
    model, found = small(), contents()
    found[3] = b"no image"
    first = features.Store(model).images(images(found), "aid")
    assert model.net.calls["images"] == 22
    said = "".join(capsys.readouterr())
    assert "images-aid: computed" in said and "aid: skipped 1 unreadable images: 3.jpg" in said
    again = features.Store(model)
    second = again.images(images(found), "aid")
    assert model.net.calls["images"] == 22 and not again.seconds
    said = "".join(capsys.readouterr())
    assert "images-aid: loaded" in said and "aid: skipped 1 unreadable images: 3.jpg" in said
    assert (
        np.array_equal(first.vectors, second.vectors)
        and first.kept.tolist() == second.kept.tolist()
    )
    assert first.skipped == second.skipped == {"3.jpg": "not_an_image"}


def changed_weights(model):
    with torch.no_grad():
        model.net.layer.bias[0] += 1e-6
    return model


OTHERS = {
    "weights": changed_weights,
    "mean": lambda m: dataclasses.replace(m, mean=(0.4, 0.5, 0.61)),
    "std": lambda m: dataclasses.replace(m, std=(0.2, 0.3, 0.26)),
    "size": lambda m: dataclasses.replace(m, image_size=64),
    "architecture": lambda m: dataclasses.replace(m, name="small-quickgelu"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_model_or_preprocessing_is_encoded_anew(what):
    model, found = small(), images(contents(5))
    features.Store(model).images(found, "aid")
    other = OTHERS[what](model)
    features.Store(other).images(found, "aid")
    assert other.net.calls["images"] == 10


def test_another_byte_or_name_is_encoded_anew():
    model, found = small(), contents(5)
    store = features.Store(model)
    store.images(images(found), "aid")
    brighter = np.minimum(datasets.decode(found[2])[0], 254) + 1
    for other in (
        images([*found[:2], encoded(brighter, "PNG"), *found[3:]]),
        Images(["a.jpg", *images(found).names[1:]], found.__getitem__),
        Images(images(found).names[::-1], found.__getitem__),
    ):
        before = model.net.calls["images"]
        store.images(other, "aid")
        assert model.net.calls["images"] == before + 5
    joined = (
        Images(["0.jpg", "1.jpg"], [b"ab", b"c"].__getitem__),
        Images(["0.jpg", "1.jpg"], [b"a", b"bc"].__getitem__),
    )
    assert features.data_digest(joined[0]) != features.data_digest(joined[1])


def test_another_library_is_another_identity(monkeypatch):
    model = small()
    plain = features.identity(model)
    assert plain == features.identity(small()) and plain["device"] == clip.device().type
    assert plain["image_precision"] == "float32"
    monkeypatch.setattr(features, "version", lambda name: "0")
    assert features.identity(model)["versions"] != plain["versions"]


def test_the_digest_of_weights_knows_names_kinds_and_shapes():
    def digest(**tensors):
        net = nn.Module()
        for name, tensor in tensors.items():
            net.register_buffer(name, tensor)
        return features.weights_digest(net)

    plain = torch.arange(6.0)
    nets = [
        digest(a=plain),
        digest(b=plain),
        digest(a=plain.view(2, 3)),
        digest(a=plain.view(torch.int32)),
        digest(a=plain, b=plain),
        digest(a=torch.tensor(1.0)),
        digest(a=plain.bfloat16()),
    ]
    assert len(set(nets)) == len(nets)
    square = torch.rand(2, 3, 4, 4)  # the order in memory is no weight
    assert digest(a=square) == digest(a=square.to(memory_format=torch.channels_last)), (
        "the order in memory is no weight"
    )


def test_texts_are_encoded_once_each_and_come_back_in_order(capsys):
    model, texts = small(), ["a river", "b", "a river", "forest", "b", "c", "harbour"]
    vectors = features.Store(model).texts(texts, "rsicd")
    assert vectors == pytest.approx(clip.encode_texts(model, texts)) and np.array_equal(
        vectors[0], vectors[2]
    )
    asked = model.net.calls["texts"]
    assert asked == 5 + 7, "five different ones, and seven by the slow twin"
    features.Store(model).texts(texts, "rsicd")
    assert model.net.calls["texts"] == asked and "texts-rsicd: loaded" in capsys.readouterr().err
    features.Store(model).texts([*texts, "d"], "rsicd")
    assert model.net.calls["texts"] == asked + 6


def test_many_texts_are_the_whole_in_one_call(monkeypatch):
    model = small()
    monkeypatch.setattr(features, "TEXTS", 4)
    texts = ["x" * (i % 7 + 1) + str(i) for i in range(19)]
    assert features.Store(model).texts(texts, "t") == pytest.approx(clip.encode_texts(model, texts))


# ---------------------------------------------------------------- killed

SLOW = """
import sys, time
sys.path[:0] = [{helpers!r}, {root!r}]
from small_tower import contents, images, small
from rs5m.clip import model
from rs5m.evaluate import features
real, pause = model.encode_pixels, float(sys.argv[1])
def slow(model, pixels, exact):
    print("batch", flush=True)
    time.sleep(pause if model.net.calls["images"] else 0)
    return real(model, pixels, exact)
model.encode_pixels = slow
model.block = lambda: 8
features.Store(small()).images(images(contents()), "aid")
"""


def worker(folder: Path, pause: float) -> subprocess.Popen:
    code = SLOW.format(helpers=str(ROOT / "tests/helpers"), root=str(ROOT))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(pause)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_half_made(tmp_path):
    """Killed in its second batch; the next run ends with the bytes of an undisturbed run."""
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    process = worker(tmp_path / "killed", 60)
    assert [process.stdout.readline() for _ in range(2)] == ["batch\n"] * 2
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not list((tmp_path / "killed").glob("runs/evaluate/*/vectors.npy"))
    kept = {}
    for name in ("killed", "whole"):
        process = worker(tmp_path / name, 0)
        said = process.communicate()[0]
        assert process.returncode == 0 and said == "batch\n" * 2, "encoded anew"
        (found,) = (tmp_path / name).glob("runs/evaluate/images-aid-*/vectors.npy")
        kept[name] = {path.name: path.read_bytes() for path in found.parent.iterdir()}
    assert kept["killed"] == kept["whole"] and "kept.npy" in kept["whole"]
