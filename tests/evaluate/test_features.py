"""Streamed encoding: the vectors of `clip.encode_images`, whatever is skipped; nothing twice;
killed runs.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_clip
import torch
from PIL import Image
from small import encoded
from torch import nn

from rs5m import clip
from rs5m.clip import model
from rs5m.data import datasets
from rs5m.data.datasets import Images
from rs5m.evaluate import features
from rs5m.vectors import normalise

ROOT = Path(__file__).parents[2]
SIZES = ((64, 64), (40, 100), (96, 96), (100, 40), (33, 31))


class Net(nn.Module):
    """A small image tower, and a text tower that knows the length and the first letter."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 8, 16, stride=16)
        self.calls = {"images": 0, "texts": 0}

    def encode_image(self, pixels):
        self.calls["images"] += len(pixels)
        return self.layer(pixels).tanh().mean((2, 3))

    def encode_text(self, tokens):
        self.calls["texts"] += len(tokens)
        return torch.stack([tokens[:, 0], tokens[:, 1], tokens[:, 0] * 0 + 1], 1).float()


def tokens(texts):
    return torch.tensor([[len(text), ord(text[0])] for text in texts])


def small(seed: int = 0) -> clip.Model:
    return clip.Model(Net(seed).eval(), tokens, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 48, "small")


def contents(count: int = 23) -> list[bytes]:
    generator = np.random.default_rng(0)
    shapes = [SIZES[i % len(SIZES)] for i in range(count)]
    return [
        encoded(generator.integers(0, 256, (*s, 3), np.uint8), ("JPEG", "PNG")[i % 2])
        for i, s in enumerate(shapes)
    ]


def images(found: list[bytes]) -> Images:
    return Images([f"{i}.jpg" for i in range(len(found))], found.__getitem__)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """runs/ goes to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("workers", [1, 3])
def test_pixels_are_those_of_preprocess_to_the_bit(monkeypatch, ahead, workers):
    """Every batch, copied before the next step, as its buffer is used again."""
    monkeypatch.setattr(features, "processors", lambda: workers)
    model, found = small(), contents()
    got = [(p.clone(), r) for p, r in features.batches(images(found), model, 4, ahead)]
    whole = clip.preprocess([datasets.decode(c)[0] for c in found], model)
    assert [reason for _, reasons in got for reason in reasons] == [None] * 23
    assert torch.equal(torch.cat([p for p, _ in got]), whole)


def test_vectors_are_those_of_encode_images():
    model, found = small(), contents()
    got = features.encode(model, images(found), batch=8)
    plain = clip.encode_images(
        model, [datasets.decode(c)[0] for c in found], batch_size=8, quiet=True
    )
    assert (
        np.array_equal(got.vectors, plain)
        and got.kept.tolist() == list(range(23))
        and got.skipped == {}
    )


def test_pixels_in_memory_have_the_vectors_of_encode_images(tmp_path):
    """The chapters' chips (15 x 15 pixels) go the way of files, and no bit changes."""
    small_clip.register(tmp_path)
    model, generator = small_clip.random(False), np.random.default_rng(1)
    found = [
        generator.integers(0, 256, (*SIZES[i % 5], 3) if i % 2 else (15, 15, 3), np.uint8)
        for i in range(70)
    ]
    got = features.encode(model, datasets.held(found, [str(i) for i in range(70)]))
    assert np.array_equal(got.vectors, clip.encode_images(model, found, quiet=True))
    assert got.vectors.std() > 0


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_corrupt_images_are_left_out_and_named(batch):
    model, found = small(), contents()
    plain = clip.encode_images(model, [datasets.decode(c)[0] for c in found], quiet=True)
    bad = {
        0: b"",
        5: b"no image",
        6: found[6][: len(found[6]) // 2],
        7: b"\xff\xd8\xff",
        22: b"GIF89a",
    }
    for i, content in bad.items():
        found[i] = content
    got = features.encode(model, images(found), batch=batch)
    kept = [i for i in range(23) if i not in bad]
    assert got.kept.tolist() == kept and list(got.skipped) == [f"{i}.jpg" for i in bad]
    assert got.vectors == pytest.approx(plain[kept], abs=1e-6)
    with pytest.raises(ValueError, match="aid: none of 2 images is readable"):
        features.encode(model, images([b"", b"x"]), "aid")


@pytest.fixture(params=[1, 3])
def cores(request):
    """torch has so many threads in one test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def one_by_one(model, contents: list[bytes]) -> tuple[np.ndarray, list[int], dict[str, str]]:
    """Twin of `features.encode`: images in a row, each alone through the network."""
    vectors, kept, skipped = [], [], {}
    for i, content in enumerate(contents):
        image, reason = datasets.decode(content)
        if image is None:
            skipped[f"{i}.jpg"] = reason
        else:
            kept.append(i)
            vectors.append(clip.encode_images(model, [image], quiet=True, exact=True)[0])
    return np.stack(vectors), kept, skipped


def test_cores_that_encode_side_by_side_give_what_one_gives_in_turn(tmp_path, cores):
    """Slow batches finish last and stand first; a batch of damaged images only; each named once."""
    small_clip.register(tmp_path)
    model, found = small_clip.random(False), contents(41)
    for i in (0, 8, 9, 10, 11, 40):
        found[i] = found[i][: i + 1]
    read = []

    def slow(i: int) -> bytes:
        read.append(i)
        time.sleep(0.05 if i == 0 else 0)
        return found[i]

    got = features.encode(model, Images([f"{i}.jpg" for i in range(41)], slow), batch=4)
    vectors, kept, skipped = one_by_one(model, found)
    assert normalise(got.vectors) == pytest.approx(normalise(vectors), abs=1e-6)
    assert got.kept.tolist() == kept and got.skipped == skipped and len(skipped) == 6
    assert sorted(read) == list(range(41))
    assert torch.get_num_threads() == cores, "as many threads as before"


def test_a_gpu_gets_the_same_batches():
    """Decoded ahead of it; here the CPU stands for it."""
    model, found = small(), contents()
    found[5] = b"no image"
    vectors, reasons = _joined(features.by_core(images(found), model, 4))
    ahead = _joined(features.on_device(images(found), model, 4))
    assert np.array_equal(ahead[0], vectors) and ahead[1] == reasons and len(vectors) == 22


def _joined(passes) -> tuple[np.ndarray, list[str | None]]:
    vectors, reasons = zip(*passes, strict=True)
    return torch.cat(vectors).numpy(), [reason for part in reasons for reason in part]


@pytest.mark.parametrize("where", ["read", "encode"])
def test_after_an_error_torch_has_its_threads_back(cores, where):
    def fail(*_, **__):
        raise OSError("the disk is gone")

    found, model = images(contents()), small()
    if where == "encode":
        model.net.encode_image = fail
    source = Images(found.names, fail if where == "read" else found.read)
    with pytest.raises(OSError, match="the disk is gone"):
        features.encode(model, source, batch=2)
    assert torch.get_num_threads() == cores


def test_a_reading_error_is_not_swallowed():
    def read(i):
        raise OSError(f"{i}.jpg: the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        features.encode(small(), Images(["0.jpg"], read))


def test_a_large_set_takes_little_memory(monkeypatch):
    """Never more than ahead + 1 batches are begun before their turn has come."""
    found, read = contents(5) * 40, []
    source = Images([str(i) for i in range(200)], lambda i: read.append(i) or found[i])
    for ahead in (0, 2):
        read.clear()
        for number, _ in enumerate(features.batches(source, small(), 8, ahead)):
            assert len(read) <= 8 * (number + ahead + 1)


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


def test_vectors_are_float32_where_the_device_would_round(monkeypatch):
    plain = features.encode(small(), images(contents()))
    monkeypatch.setattr(model, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert (features.encode(small(), images(contents())).vectors == plain.vectors).all()


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
sys.path[:0] = [{tests!r}, {helpers!r}, {root!r}]
import test_features as t
from rs5m.clip import model
from rs5m.evaluate import features
real, pause = model.encode_pixels, float(sys.argv[1])
def slow(model, pixels, exact):
    print("batch", flush=True)
    time.sleep(pause if model.net.calls["images"] else 0)
    return real(model, pixels, exact)
model.encode_pixels = slow
model.block = lambda: 8
features.Store(t.small()).images(t.images(t.contents()), "aid")
"""


def worker(folder: Path, pause: float) -> subprocess.Popen:
    tests = ROOT / "tests"
    code = SLOW.format(
        tests=str(tests / "evaluate"), helpers=str(tests / "helpers"), root=str(ROOT)
    )
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


def test_a_square_is_what_the_batches_hold():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    content = encoded(picture)
    found = features.square(content, 32)
    assert np.array_equal(found, clip.square(Image.fromarray(picture), 32))
    assert features.square(content[:20], 32) is None
