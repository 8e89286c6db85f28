"""Streamed encoding: the vectors of `clip.encode_images`, whatever is skipped, on any number of
cores.
"""

import time

import numpy as np
import pytest
import small_clip
import torch
from small_tower import SIZES, contents, images, small

from rs5m import clip
from rs5m.clip import model
from rs5m.data import datasets
from rs5m.data.datasets import Images
from rs5m.evaluate import encoding, features
from rs5m.vectors import normalise


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("workers", [1, 3])
def test_pixels_are_those_of_preprocess_to_the_bit(monkeypatch, ahead, workers):
    """Every batch, copied before the next step, as its buffer is used again."""
    monkeypatch.setattr(encoding, "processors", lambda: workers)
    model, found = small(), contents()
    got = [(p.clone(), r) for p, r in encoding.batches(images(found), model, 4, ahead)]
    whole = clip.preprocess([datasets.decode(c)[0] for c in found], model)
    assert [reason for _, reasons in got for reason in reasons] == [None] * 23
    assert torch.equal(torch.cat([p for p, _ in got]), whole)


def test_a_file_is_seen_as_the_network_sees_it():
    model, found = small(), contents()[:3]
    seen = [features.square(content, model.image_size) for content in found]
    whole = clip.crop([datasets.decode(content)[0] for content in found], model.image_size)
    assert np.array_equal(np.stack(seen), whole.permute(0, 2, 3, 1).numpy())
    assert features.square(b"no image", 32) is None


def test_vectors_are_those_of_encode_images():
    model, found = small(), contents()
    got = encoding.encode(model, images(found), batch=8)
    plain = clip.encode_images(
        model, [datasets.decode(c)[0] for c in found], batch_size=8, quiet=True
    )
    assert (
        got.vectors == pytest.approx(plain, abs=1e-5)
        and got.kept.tolist() == list(range(23))
        and got.skipped == {}
    )


def test_pixels_in_memory_have_the_vectors_of_encode_images(tmp_path):
    """The chapters' chips (15 x 15 pixels) go the way of files, but for the order of sums."""
    small_clip.register(tmp_path)
    model, generator = small_clip.random(False), np.random.default_rng(1)
    found = [
        generator.integers(0, 256, (*SIZES[i % 5], 3) if i % 2 else (15, 15, 3), np.uint8)
        for i in range(70)
    ]
    got = encoding.encode(model, datasets.held(found, [str(i) for i in range(70)]))
    assert got.vectors == pytest.approx(clip.encode_images(model, found, quiet=True), abs=1e-5)
    assert got.vectors.std() > 0.1


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
    got = encoding.encode(model, images(found), batch=batch)
    kept = [i for i in range(23) if i not in bad]
    assert got.kept.tolist() == kept and list(got.skipped) == [f"{i}.jpg" for i in bad]
    assert got.vectors == pytest.approx(plain[kept], abs=1e-6)
    with pytest.raises(ValueError, match="aid: none of 2 images is readable"):
        encoding.encode(model, images([b"", b"x"]), "aid")


@pytest.fixture(params=[1, 3])
def cores(request):
    """torch has so many threads in one test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def one_by_one(model, contents: list[bytes]) -> tuple[np.ndarray, list[int], dict[str, str]]:
    """Twin of `encoding.encode`: images in a row, each alone through the network."""
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

    got = encoding.encode(model, Images([f"{i}.jpg" for i in range(41)], slow), batch=4)
    vectors, kept, skipped = one_by_one(model, found)
    assert normalise(got.vectors) == pytest.approx(normalise(vectors), abs=1e-6)
    assert got.kept.tolist() == kept and got.skipped == skipped and len(skipped) == 6
    assert sorted(read) == list(range(41))
    assert torch.get_num_threads() == cores, "as many threads as before"


def test_a_gpu_gets_the_same_batches():
    """Decoded ahead of it; here the CPU stands for it."""
    model, found = small(), contents()
    found[5] = b"no image"
    vectors, reasons = _joined(encoding.by_core(images(found), model, 4))
    ahead = _joined(encoding.on_device(images(found), model, 4))
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
        encoding.encode(model, source, batch=2)
    assert torch.get_num_threads() == cores


def test_a_reading_error_is_not_swallowed():
    def read(i):
        raise OSError(f"{i}.jpg: the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        encoding.encode(small(), Images(["0.jpg"], read))


def test_a_large_set_takes_little_memory(monkeypatch):
    """Never more than ahead + 1 batches are begun before their turn has come."""
    found, read = contents(5) * 40, []
    source = Images([str(i) for i in range(200)], lambda i: read.append(i) or found[i])
    for ahead in (0, 2):
        read.clear()
        for number, _ in enumerate(encoding.batches(source, small(), 8, ahead)):
            assert len(read) <= 8 * (number + ahead + 1)


def test_vectors_are_float32_where_the_device_would_round(monkeypatch):
    plain = encoding.encode(small(), images(contents()))
    monkeypatch.setattr(model, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert (encoding.encode(small(), images(contents())).vectors == plain.vectors).all()
