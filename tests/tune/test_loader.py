"""Batches from shards: every pair once, the same pixels whoever decodes them, damage named, one
geometry for all.
"""

import io
import math
import pickle
import tarfile

import cv2
import numpy as np
import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rs5m import clip
from rs5m.data import images, records
from rs5m.data.records import Record
from rs5m.tune import augment, loader
from rs5m.tune.augment import DRAWS, warp
from rs5m.tune.loader import Memory, Shards, stream

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = 32
STILL = (0.0, 0.9, 1.0, 0.5, 0.5, 0.5, 0.0)  # the whole of a square image, as it is


def picture(height: int, width: int, seed: int = 0, grain: int = 8) -> np.ndarray:
    """Smooth colours: what resampling must not change."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // grain + 2, width // grain + 2, 3), np.uint8
    )
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray | Image.Image, kind: str = "JPEG", **options) -> bytes:
    return small.encoded(pixels, kind, **({"quality": 92} if kind == "JPEG" else {}) | options)


def numbers(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, DRAWS), np.float32)


def drawn(**changes) -> np.ndarray:
    names = ("angle", "mirror", "area", "ratio", "x", "y", "caption")
    return np.array(
        [changes.get(name, value) for name, value in zip(names, STILL, strict=True)], np.float32
    )


def difference(one, two) -> float:
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(two, np.float64)).mean())


def pairs(count: int, first: int = 0) -> list[Record]:
    sizes = [(40, 40), (50, 40), (40, 70), (33, 32), (90, 128)]
    return [
        Record(encoded(picture(*sizes[i % 5], i, grain=16)), f"{i}.jpg", f"caption {i}")
        for i in range(first, first + count)
    ]


@pytest.fixture
def folder(tmp_path):
    records.write(tmp_path / "a.tar", pairs(11))
    records.write(tmp_path / "b.tar", pairs(8, 11), layout="webdataset")
    return tmp_path


# ---------------------------------------------------------------- geometry


def box(draws, aspect: float, view=augment.PUBLISHED) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of the crop as shares of the image, from its four corners."""
    (a, b, c), (d, e, f) = augment.matrix(draws, aspect, view)
    width, height = math.hypot(a, b), math.hypot(d, e)
    return (c - width + 1) / 2, (c + width + 1) / 2, (f - height + 1) / 2, (f + height + 1) / 2


@pytest.mark.parametrize("aspect", [1.0, 1.1, 0.8, 4 / 3, 3 / 4, 1.45, 0.69, 2.0, 0.1, 40.0])
def test_crops_have_the_published_area_and_ratio_and_lie_inside(aspect):
    areas, ratios, lefts, tops = [], [], [], []
    for draws in [*numbers(400), np.zeros(DRAWS), np.full(DRAWS, 1.0)]:
        left, right, top, bottom = box(draws, aspect)
        assert min(left, top) > -1e-9 and max(right, bottom) < 1 + 1e-9
        areas.append((right - left) * (bottom - top))
        ratios.append((right - left) * aspect / (bottom - top))
        lefts.append(left / max(1e-9, 1 - (right - left)))
        tops.append(top / max(1e-9, 1 - (bottom - top)))
    most = min(1, 4 / 3 / aspect, aspect * 4 / 3)
    assert min(ratios) >= 3 / 4 - 1e-9 and max(ratios) <= 4 / 3 + 1e-9
    assert min(0.9, most) - 1e-9 <= min(areas) and max(areas) <= most + 1e-9
    assert np.ptp(areas) > 0.95 * (most - 0.9) and (most < 0.9) == (np.ptp(areas) < 1e-9)
    if aspect == 1:
        assert np.mean(areas) == pytest.approx(0.95, abs=0.01) and np.mean(
            np.log(ratios)
        ) == pytest.approx(0, abs=0.01)
        assert np.mean(lefts[:400]) == pytest.approx(0.5, abs=0.05) == np.mean(tops[:400])


def by_steps(image: np.ndarray, draws, size: int) -> np.ndarray:
    """Crop and resize, then mirror, then rotate counter-clockwise, each through PIL."""
    left, right, top, bottom = box(draws, image.shape[1] / image.shape[0])
    height, width = image.shape[:2]
    edges = (left * width, top * height, right * width, bottom * height)
    whole = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=edges)
    whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws[1] < 0.5 else whole
    return np.array(whole.rotate(360 * float(draws[0]), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("shape", [(64, 64), (64, 80), (110, 64)])
def test_one_sampling_equals_crop_mirror_and_rotation_in_turn(shape):
    image, size = picture(*shape, grain=16), 64
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.hypot(rows, columns) < size / 2 - 1  # what a rotation keeps inside the crop
    for draws in [drawn(angle=0.25), drawn(mirror=0), drawn(angle=0.1, mirror=0.2), *numbers(12)]:
        got = sample(image, draws, size)
        expected = by_steps(image, draws, size)
        assert difference(got[inside], expected[inside]) < 2.0, draws
        turned = np.rot90(expected, 2)
        assert difference(got[inside], turned[inside]) > 10


def test_a_quarter_turn_is_counter_clockwise_and_after_the_mirror():
    image = picture(SIZE, SIZE)
    for draws, expected in [
        (drawn(), image),
        (drawn(angle=0.25), np.rot90(image)),
        (drawn(mirror=0.1), image[:, ::-1]),
        (drawn(angle=0.25, mirror=0.1), np.rot90(image[:, ::-1])),
    ]:
        assert difference(sample(image, draws, SIZE), expected) < 0.01
        again = warp(torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(draws)[None])
        assert again.dtype == torch.float32
        assert difference(255 * again[0].permute(1, 2, 0), expected) < 0.01


def test_one_half_is_not_mirrored_and_one_and_a_half_pixels_are_not_averaged(monkeypatch):
    assert augment.matrix(drawn(mirror=0.5)) == augment.matrix(drawn())
    calls, real = [], cv2.resize
    monkeypatch.setattr(
        cv2, "resize", lambda *given, **more: calls.append(0) or real(*given, **more)
    )
    sample(picture(SIZE * 3 // 2, SIZE * 3 // 2), None, SIZE)
    assert not calls
    sample(picture(SIZE * 3 // 2 + 1, SIZE * 3 // 2 + 1), None, SIZE)
    assert calls


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_device_and_the_worker_turn_alike(kind):
    squares, draws = [picture(SIZE, SIZE, i) for i in range(20)], numbers(20)
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    got = warp(pixels if kind == torch.uint8 else pixels / 255, torch.from_numpy(draws))
    assert got.shape == pixels.shape and got.min() >= 0 and got.max() <= 1
    for i, square in enumerate(squares):
        expected = sample(square, draws[i], SIZE)
        error = np.abs(255 * got[i].permute(1, 2, 0).numpy() - expected)
        assert error.mean() < 0.5 and error.max() < 2, "corners, reflected, included"


def test_no_pixel_is_invented():
    """A constant picture stays constant: no black corner, no seam."""
    flat = np.full((50, 70, 3), (200, 100, 50), np.uint8)
    for draws in numbers(10):
        assert (sample(flat, draws, SIZE) == (200, 100, 50)).all()
    assert warp(torch.ones(10, 3, 9, 9), torch.from_numpy(numbers(10))).sub(1).abs().max() < 1e-6


# ---------------------------------------------------------------- decoding


@pytest.mark.parametrize("side", [65, 100, 128, 131, 257, 300, 512, 601])
def test_a_reduced_decoding_shows_the_same_picture(side):
    image = picture(side, side + 3, grain=side // 6)
    content = encoded(image, subsampling=0, quality=98)
    for draws in [None, *numbers(4)]:
        rows = sample(image, draws, SIZE)[..., ::-1]
        assert difference(augment.cut(content, SIZE, draws), rows) < 2.0
    reduced = augment.decode(content, side / SIZE)
    assert min(reduced.shape[:2]) < 2 * SIZE or side >= 16 * SIZE, (
        "no more is decoded than is needed"
    )


def sample(image: np.ndarray, draws, size: int) -> np.ndarray:
    """What the draws cut from decoded pixels; without draws, the centred square."""
    height, width = image.shape[:2]
    return augment._sample(image, view(draws, width / height), size, (width, height))


def view(draws, aspect: float) -> tuple:
    return (
        augment.matrix(draws, aspect)
        if draws is not None
        else ((min(1, 1 / aspect), 0, 0), (0, min(1, aspect), 0))
    )


def test_a_jpeg_that_is_not_reduced_shows_the_same_picture(monkeypatch):
    content = encoded(picture(256, 256, grain=32))
    reduced = augment.cut(content, SIZE)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert difference(augment.cut(content, SIZE), reduced) < 2.0


@pytest.mark.parametrize(
    ("excess", "by"), [(0.5, 1), (1.99, 1), (2, 2), (3.9, 2), (4, 4), (7.99, 4), (8, 8), (99, 8)]
)
def test_how_far_a_jpeg_is_reduced(excess, by):
    assert augment.decode(encoded(picture(80, 160)), excess).shape == (80 // by, 160 // by, 3)
    assert augment.decode(encoded(picture(80, 160), "PNG"), excess).shape == (80, 160, 3)


def odd_pictures() -> dict[str, bytes]:
    colour = Image.fromarray(picture(60, 90))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    alpha = colour.copy()
    alpha.putalpha(Image.fromarray(picture(60, 90, 1)[..., 0]))
    deep = Image.fromarray(picture(60, 90)[..., 0].astype(np.uint16) * 257)
    return {
        "grey": encoded(colour.convert("L")),
        "CMYK": encoded(colour.convert("CMYK")),
        "turned": encoded(colour, exif=exif),
        "progressive": encoded(colour, progressive=True),
        "subsampled": encoded(colour, subsampling=2),
        "restarts": encoded(colour, restart_marker_blocks=3),
        "PNG": encoded(colour, "PNG"),
        "RGB inside": encoded(colour, keep_rgb=True),
        "alpha": encoded(alpha, "PNG"),
        "16 bits": encoded(deep, "PNG"),
        "palette": encoded(colour.quantize(16), "PNG"),
        "WebP": encoded(colour, "WEBP", lossless=True),
        "TIFF": encoded(colour, "TIFF"),
        "GIF": encoded(colour.quantize(16), "GIF"),
        "BMP": encoded(colour, "BMP"),
        "trailing bytes": encoded(colour) + b"more",
        "1 x 1": encoded(picture(1, 1)),
        "1 x 200": encoded(picture(1, 200)),
    }


@pytest.mark.parametrize("name", odd_pictures())
def test_every_kind_of_picture_decodes_as_pillow_does(name):
    content = odd_pictures()[name]
    expected = np.asarray(images.decode(content, augment.DECODING))
    got = augment.decode(content)
    assert got.shape == expected.shape and difference(got[..., ::-1], expected) < 1.0
    assert augment.cut(content, SIZE, numbers(1)[0]).shape == (SIZE, SIZE, 3)


def test_only_plain_jpegs_take_the_short_way():
    plain = {name for name, content in odd_pictures().items() if images.jpeg_size(content)}
    assert plain == {
        "grey",
        "turned",
        "progressive",
        "subsampled",
        "restarts",
        "RGB inside",
        "1 x 1",
        "1 x 200",
    }


JPEGS = [
    encoded(picture(*size), **options)
    for size in ((24, 24), (61, 90))
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 2})
]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=300, deadline=None)
@given(
    content=st.sampled_from(JPEGS),
    harm=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    gone=st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 40])),
)
def test_the_short_way_judges_as_the_long_one_does(content, harm, gone):
    """What it takes is an image to `images.read`, too, with the same pixels."""
    broken = bytearray(content)
    for share, byte in harm:
        broken[2 + int(share * (len(broken) - 5))] = byte
    first = int(gone[0] * (len(broken) - 1))
    del broken[first : first + gone[1]]
    image, reason = images.read(bytes(broken), augment.DECODING)
    if reason:
        with pytest.raises(ValueError, match=f"^{reason}$"):
            augment.decode(bytes(broken))
    else:
        assert difference(augment.decode(bytes(broken))[..., ::-1], image) < 1.0


def test_a_jpeg_cut_anywhere_is_damaged():
    whole = encoded(picture(40, 40))
    for cut in [*range(1, len(whole) - 1, 23), len(whole) - 2]:
        with pytest.raises(ValueError, match="^(truncated|not_an_image)$"):
            augment.decode(whole[:cut])


def grown(content: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


def test_a_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for content in (
        grown(encoded(picture(40, 40)), 65000, 65000),
        encoded(picture(40, 40)) + b"\xff\xda" * 101,
    ):
        with pytest.raises(ValueError, match="^bomb$"):
            augment.decode(content[: -2 if content[-2:] == b"\xff\xd9" else None] + b"\xff\xd9")


def test_broken_headers_are_no_plain_jpegs():
    whole, generator = encoded(picture(24, 24)), np.random.default_rng(0)
    for _ in range(500):
        broken = np.frombuffer(whole, np.uint8).copy()
        broken[generator.integers(2, 700, 5)] = generator.integers(0, 256, 5)
        size = images.jpeg_size(broken.tobytes())
        assert size is None or 0 < size[0] * size[1] <= augment.DECODING.max_pixels


# ---------------------------------------------------------------- batches


def test_without_draws_the_pixels_are_the_evaluations(folder):
    for on_device in (False, True):
        batch = Shards(folder, SIZE, on_device)[np.arange(19), None]
        for i, record in enumerate([*pairs(19)]):
            expected = clip.crop([np.array(images.decode(record.image, augment.DECODING))], SIZE)[0]
            assert (
                difference(batch.pixels[i], expected) < 1.0 and batch.captions[i] == record.caption
            )
        assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (19, 3, SIZE, SIZE)
        assert batch.draws is None and batch.damaged == [] and (batch.index == np.arange(19)).all()


def test_with_draws_the_pixels_are_turned_here_or_later(folder):
    index, draws = np.array([5, 0, 17]), numbers(3)
    here, later = (
        Shards(folder, SIZE)[index, draws],
        Shards(folder, SIZE, on_device=True)[index, draws],
    )
    assert here.draws is None and torch.equal(later.draws, torch.from_numpy(draws))
    everything = pairs(19)
    for row, i in enumerate(index):
        assert (
            here.pixels[row].numpy()[::-1]
            == augment.cut(everything[i].image, SIZE, draws[row]).transpose(2, 0, 1)
        ).all()
        square = clip.crop([np.array(images.decode(everything[i].image))], SIZE)[0]
        assert difference(later.pixels[row], square) < 3.0
    turned = 255 * warp(later.pixels, later.draws)[:2]  # 40 x 40: both ways see the same ground
    assert difference(turned, here.pixels[:2]) < 4.0


@pytest.mark.parametrize("aspect", [1.0, 1.4, 0.5])
def test_a_view_allows_less_or_more(aspect):
    drawn = numbers(200, 3)
    whole = augment.View(crop=1.0, turns="none", mirror=False)
    for row in drawn:
        (a, b, c), (d, e, f) = augment.matrix(row, aspect, whole)
        assert (b, d) == (0, 0) and a > 0 and e > 0, "neither turned nor mirrored"
        if aspect == 1:
            assert (a, e) == (1, 1) and (c, f) == (0, 0), "all of the image"
        straight = augment.View(turns="none")
        assert box(row, aspect, straight) == pytest.approx(box(row, aspect)), "the same crop"
    angles = {
        tuple(np.round(np.divide(axis[:2], np.hypot(*axis[:2])), 9) + 0.0)
        for row in drawn
        for axis in augment.matrix(row, aspect, augment.View(turns="right", mirror=False))[:1]
    }
    assert angles == {(1, 0), (0, 1), (-1, 0), (0, -1)}
    boxes = [box(row, aspect, augment.View(crop=0.2)) for row in drawn]
    areas = [(right - left) * (bottom - top) for left, right, top, bottom in boxes]
    assert min(areas) < 0.3 and max(areas) > 0.6


def test_without_a_view_the_images_are_the_evaluations_and_the_captions_are_drawn(folder):
    draws = numbers(19)
    held = Memory([picture(SIZE, 2 * SIZE)], [("a", "b")], SIZE)
    for source in (Shards(folder, SIZE), Shards(folder, SIZE, on_device=True)):
        plain, off = source[np.arange(19), None], source[np.arange(19), draws, None]
        assert torch.equal(off.pixels, plain.pixels) and off.draws is None
        turned = source[np.arange(19), draws]
        same = source[np.arange(19), draws, augment.View()]
        assert torch.equal(turned.pixels, same.pixels) and turned.captions == same.captions
    off = held[[0], [drawn(caption=0.9)], None]
    assert off.draws is None and off.captions == ["b"] and torch.equal(off.pixels, held.pixels)


def plan(count: int, batch: int, rank: int, ranks: int, seed: int) -> list[tuple]:
    """Batches of one rank: everything once, shuffled, the ranks in turn; draws by the pair's place
    in the plan.
    """
    order, draws = np.random.default_rng(seed).permutation(count), numbers(count, seed)
    own = np.arange(count)[rank::ranks]
    return [(order[part], draws[part]) for part in np.split(own, range(batch, len(own), batch))]


def test_every_pair_comes_once_whoever_loads_it(folder):
    source = Shards(folder, SIZE)
    seen = {}
    for workers in (0, 1, 2):
        for ranks in (1, 3):
            found = {}
            for rank in range(ranks):
                items = plan(len(source), 4, rank, ranks, 7)
                batches = list(stream(source, iter(items), workers))
                assert [b.index.tolist() for b in batches] == [
                    index.tolist() for index, _ in items
                ], "in order"
                for batch in batches:
                    assert isinstance(batch, loader.Batch) and isinstance(batch.index, np.ndarray)
                    for i, caption, pixels in zip(
                        batch.index, batch.captions, batch.pixels, strict=True
                    ):
                        assert int(i) not in found and caption == f"caption {i}"
                        found[int(i)] = pixels.numpy().tobytes()
            assert sorted(found) == list(range(19))
            seen[workers, ranks] = found
    assert all(found == seen[0, 1] for found in seen.values()), "same draws, same pixels"
    other = {
        int(i): p
        for b in stream(source, plan(19, 4, 0, 1, 8))
        for i, p in zip(b.index, b.pixels, strict=True)
    }
    assert any(other[i].numpy().tobytes() != seen[0, 1][i] for i in other)


def test_items_are_read_lazily_and_no_chance_is_taken(folder):
    def endless():
        while True:
            yield np.arange(2), None

    before = torch.get_rng_state()
    batches = stream(Shards(folder, SIZE), endless())
    assert next(batches).captions == next(batches).captions == ["caption 0", "caption 1"]
    assert torch.equal(torch.get_rng_state(), before)


def test_damaged_pairs_are_left_out_and_named(tmp_path):
    good = pairs(6)
    broken = [
        good[1]._replace(image=good[1].image[:-90]),
        good[3]._replace(image=b"no image"),
        good[4],
    ]
    bomb = Record(grown(good[0].image, 65000, 65000), "bomb.jpg", "huge")
    records.write(
        tmp_path / "x.tar", [good[0], broken[0], good[2], broken[1], good[4], bomb, good[5]]
    )
    source = Shards(tmp_path / "x.tar", SIZE, on_device=True)
    assert len(source) == 7 and source.damaged == []
    draws = numbers(7)
    for items in (
        (np.arange(7), draws),
        (torch.arange(7), torch.from_numpy(draws)),
        (list(range(7)), draws.tolist()),
    ):
        for workers in (0, 1):
            (batch,) = stream(source, [items], workers)
            assert batch.damaged == [
                "x.tar 1.jpg (pair 1): truncated",
                "x.tar 3.jpg (pair 3): not_an_image",
                "x.tar bomb.jpg (pair 5): bomb",
            ]
            assert batch.index.tolist() == [0, 2, 4, 6] and len(batch.captions) == 4
            assert batch.captions == [good[i].caption for i in (0, 2, 4, 5)]
            assert torch.equal(batch.draws, torch.from_numpy(draws)[[0, 2, 4, 6]])
    alone = Shards(tmp_path / "x.tar", SIZE, on_device=True)[[0, 2, 4, 6], draws[[0, 2, 4, 6]]]
    assert torch.equal(alone.pixels, batch.pixels)
    empty = source[[1, 3], draws[:2]]
    assert (
        empty.pixels.shape == (0, 3, SIZE, SIZE)
        and empty.captions == []
        and empty.draws.shape == (0, DRAWS)
    )


def test_a_truncated_shard_gives_its_whole_pairs(folder):
    data = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(data[: len(data) * 2 // 3])
    source = Shards(folder, SIZE)
    whole = len(source) - 8
    assert 3 < whole < 11 and source.damaged and source.damaged[0].startswith("a.tar ")
    batch = source[np.arange(len(source)), numbers(len(source))]
    assert (
        batch.captions == [f"caption {i}" for i in [*range(whole), *range(11, 19)]]
        and not batch.damaged
    )


def test_a_shard_that_shrinks_or_changes_after_the_index(folder):
    source = Shards(folder / "a.tar", SIZE)
    data = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(data[: len(data) // 2])
    batch = source[np.arange(11), None]
    assert 0 < len(batch.index) < 11 and all(
        "shorter since it was indexed" in one for one in batch.damaged
    )
    assert len(batch.index) + len(batch.damaged) == 11


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_gone_is_one_sentence_from_a_worker_too(tmp_path, workers):
    for name in ("a.tar", "b.tar"):
        records.write(tmp_path / name, [Record(encoded(picture(40, 40)), "0.jpg", "a")])
    source = Shards(tmp_path, SIZE)
    (tmp_path / "b.tar").unlink()
    batches = stream(source, [(np.array([i]), None, None) for i in (0, 1)], workers)
    assert next(batches).captions == ["a"]
    with pytest.raises(OSError) as raised:
        next(batches)
    assert str(raised.value) == (
        f"{tmp_path / 'b.tar'} cannot be read (No such file or directory): put it back, then run "
        "the same command again"
    )


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(ValueError, match="^no shard was given"):
        Shards([], SIZE)
    records.write(tmp_path / "a.tar", [])
    with pytest.raises(ValueError, match=r"a.tar holds no whole pair \(it is empty\)"):
        Shards(tmp_path / "a.tar", SIZE)
    (tmp_path / "b.tar").write_bytes(b"<html>" * 300)
    with pytest.raises(
        ValueError, match=r"and the other shards hold no whole pair \(b.tar is not a tar file"
    ):
        Shards(tmp_path, SIZE)
    for name in "cdef":
        (tmp_path / f"{name}.tar").write_bytes(b"<html>" * 300)
    with pytest.raises(ValueError, match="no whole pair") as caught:
        Shards(tmp_path, SIZE)  # of five faults, three
    assert [f"{name}.tar is" in str(caught.value) for name in "bcdef"] == [True] * 3 + [False] * 2


def test_what_the_shards_leave_out_is_counted(folder):
    with tarfile.open(folder / "a.tar", "a") as archive:
        for name in ("x.txt", "notes.cls", "y.cls"):
            archive.addfile(tarfile.TarInfo(name))
    (folder / "c.tar.gz").write_bytes(b"\x1f\x8b")
    source = Shards(folder, SIZE)
    assert len(source) == 19 and source.left_out == {
        "lacks an image": 1,
        "is of another kind (.cls)": 2,
        "is not a tar file but gzip: unpack it first": 1,
    }
    assert source.others["is of another kind (.cls)"].listed() == ["a.tar notes.cls", "a.tar y.cls"]


def test_draws_of_another_shape_are_named(folder):
    with pytest.raises(ValueError, match=r"draws have shape \(2, 3\): give \(2, 7\)"):
        Shards(folder, SIZE)[[0, 1], np.zeros((2, 3))]


def test_a_source_travels_to_another_process(folder, monkeypatch):
    monkeypatch.setattr(loader, "OPEN_FILES", 1)
    source = Shards(folder, SIZE)
    item = np.array([0, 15, 1, 16]), numbers(4)
    first = source[item]
    again = pickle.loads(pickle.dumps(source))
    assert len(source._open) == 1 and not again._open
    assert (
        torch.equal(again[item].pixels, first.pixels)
        and again.fingerprint() == source.fingerprint()
    )


@pytest.mark.parametrize("kind", ["shards", "memory"])
def test_a_batch_brings_the_view_that_it_is_turned_by(folder, kind):
    held = [picture(40, 40, i) for i in range(4)]
    source = (
        Shards(folder, SIZE, on_device=True)
        if kind == "shards"
        else Memory(held, [("a",)] * 4, SIZE)
    )
    narrow = augment.View(crop=0.5)
    assert source[[2, 0], numbers(2), narrow].view == narrow
    assert source[[2, 0], numbers(2)].view == augment.PUBLISHED
    unturned = source[[2, 0], numbers(2), None]
    assert unturned.view == augment.PUBLISHED and unturned.draws is None


def test_a_part_has_its_own_pairs_and_its_own_fingerprint(folder):
    whole = Shards(folder, SIZE)
    part = whole.part(np.array([12, 3]))
    assert part.names == ["12.jpg", "3.jpg"] and part[[0, 1], None].captions == [
        "caption 12",
        "caption 3",
    ]
    assert torch.equal(part[[0, 1], None].pixels, whole[[12, 3], None].pixels)
    assert part.fingerprint() == whole.part(np.array([12, 3])).fingerprint()
    marks = [one.fingerprint() for one in (whole, part, whole.part(np.array([3, 12])))]
    assert len(set(marks)) == 3 and len(whole) == 19


def test_the_fingerprint_follows_the_data_not_the_folder(folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved")
    for name in ("a.tar", "b.tar"):
        (moved / name).write_bytes((folder / name).read_bytes())
    one = Shards(folder, SIZE).fingerprint()
    assert Shards(moved, SIZE, on_device=True).fingerprint() == one
    assert Shards([folder / "b.tar", folder / "a.tar"], SIZE).fingerprint() != one
    assert Shards(folder, SIZE).names == [f"{i}.jpg" for i in range(19)]


def test_the_last_draw_chooses_the_caption(tmp_path):
    texts = ("one", "two", "three")
    data = {
        "0.png": encoded(picture(40, 40), "PNG"),
        "0.json": b'{"captions": ["one", "two", "three"]}',
    }
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in data.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for source in (Shards(tmp_path / "x.tar", SIZE), Memory([picture(40, 40)], [texts], SIZE)):
        assert source.captions(0) == texts
        for value, expected in [
            (0, "one"),
            (0.32, "one"),
            (0.34, "two"),
            (0.67, "three"),
            (np.float64(1) - 1e-12, "three"),
        ]:
            assert source[[0], [drawn(caption=value)]].captions == [expected]
        assert source[[0], None].captions == ["one"]


def test_memory_gives_squares_and_passes_the_draws_on():
    held = [picture(40, 60), picture(SIZE, SIZE, 1), picture(90, 50, 2)]
    source = Memory(held, [("a",), ("b",), ("c",)], SIZE)
    draws = numbers(2)
    batch = source[[2, 0], draws]
    assert torch.equal(batch.pixels, clip.crop([held[2], held[0]], SIZE)) and batch.captions == [
        "c",
        "a",
    ]
    assert torch.equal(batch.draws, torch.from_numpy(draws)) and batch.index.tolist() == [2, 0]
    assert source[[1], None].draws is None and len(source) == 3
    same = Memory(np.stack([held[1]] * 2), [("a",)] * 2, SIZE)
    assert (
        torch.equal(same[[0], None].pixels, same[[1], None].pixels)
        and same.fingerprint() != source.fingerprint()
    )
    assert source.fingerprint() == pickle.loads(pickle.dumps(source)).fingerprint()
    changed = Memory([held[0], held[1], held[2] ^ 1], [("a",), ("b",), ("c",)], SIZE)
    assert changed.fingerprint() != source.fingerprint()
    (again,) = stream(source, [([2, 0], draws)], 1)
    assert torch.equal(again.pixels, batch.pixels) and torch.equal(again.draws, batch.draws)


@pytest.mark.parametrize("captions", [[], ["ab", "cd"], [("a",), ()], [("a",)]])
def test_memory_needs_a_tuple_of_captions_for_each_image(captions):
    with pytest.raises(ValueError, match="give each image a tuple of captions"):
        Memory([picture(40, 40)] * 2, captions, SIZE)
