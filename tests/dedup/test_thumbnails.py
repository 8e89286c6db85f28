"""Thumbnails, hashes and the subject of a picture, from files and arrays."""

import os

import numpy as np
import pytest
from PIL import Image
from textures import jpeg, texture

from rs5m import dedup
from rs5m.dedup import thumbnails


def test_hash_input_is_checked():
    with pytest.raises(ValueError, match="uint64"):
        dedup.near_duplicates(np.zeros(3), 4)
    with pytest.raises(ValueError, match="bits is 100"):
        dedup.image_hash([texture(0)], bits=100)
    assert dedup.near_duplicates(np.zeros(0, np.uint64), 4).shape == (0,)


def test_image_hash_equals_a_plain_dct():
    from scipy.fft import dctn

    image = np.asarray(texture(3, 64).convert("L"))
    want = dctn(thumbnails.greys([image])[0])[:8, :8] > 0
    want[0, 0] = False
    got = dedup.image_hash([image])[0]
    assert got.dtype == np.uint64
    bits = np.unpackbits(np.array([got], ">u8").view(np.uint8))
    assert (
        bits == want.ravel()
    ).mean() > 0.98  # not all: cosines are integrated over pixels, not sampled
    assert dedup.image_hash([image], bits=256).shape == (1, 4)
    assert dedup.image_hash([np.full((40, 40), 7, np.uint8)])[0] == 0
    assert dedup.image_hash([]).shape == (0,)


def test_image_hash_separates():
    images = [texture(k) for k in range(20)]
    distance = np.bitwise_count(
        dedup.image_hash(images) ^ dedup.image_hash([jpeg(i, 30) for i in images])
    )
    other = np.bitwise_count(dedup.image_hash(images)[:, None] ^ dedup.image_hash(images)[None])
    assert distance.max() <= 6 and other[~np.eye(20, dtype=bool)].min() >= 14


def test_sources_of_an_image_agree(tmp_path):
    image = texture(1, 256)
    image.save(tmp_path / "a.jpg", quality=95)
    got = dedup.signatures([image, np.asarray(image), tmp_path / "a.jpg", image.convert("RGBA")])
    assert set(got) == {"thumb", "colour", "hash"} and got["hash"].shape == (4, 11)
    assert (got["hash"][0] == got["hash"][1]).all() and (got["hash"][0] == got["hash"][3]).all()
    assert np.bitwise_count(got["hash"][0] ^ got["hash"][2]).max() <= 2
    one = dedup.signature(image)
    assert all((one[k] == got[k][0]).all() for k in one)


@pytest.mark.parametrize("size", [48, 64, 150, 256, 700])
def test_files_and_arrays_hash_alike(tmp_path, size):
    """A file is decoded at a reduced size and in brightness only; its hash must not tell."""
    images = [texture(k, 128).resize((size, size), Image.Resampling.BICUBIC) for k in range(40)]
    for k, image in enumerate(images):
        image.save(tmp_path / f"{k}.jpg", quality=92)
    names = [tmp_path / f"{k}.jpg" for k in range(40)]
    file = dedup.image_hash(names)
    assert (file == dedup.image_hash([str(n) for n in names])).all()
    distance = np.bitwise_count(file ^ dedup.image_hash([np.asarray(Image.open(n)) for n in names]))
    assert distance.max() <= 4 and distance.mean() <= 1
    assert np.bitwise_count(file ^ dedup.signatures(names)["hash"][:, 0]).max() <= 4


def test_files_of_other_kinds(tmp_path):
    image = texture(2, 100)
    image.save(tmp_path / "a.png")
    image.convert("L").save(tmp_path / "b.jpg", quality=95)
    image.convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    image.convert("P").save(tmp_path / "d.gif")
    for name in ("a.png", "b.jpg", "c.jpg", "d.gif"):
        assert (
            np.bitwise_count(dedup.image_hash([image]) ^ dedup.image_hash([tmp_path / name])) <= 4
        ), name
        assert dedup.signatures([tmp_path / name])["thumb"].shape == (1, 32, 32)


def test_batches_keep_the_order_and_read_a_few_images_ahead():
    ahead = 4 * thumbnails.BATCH * (os.cpu_count() or 1)
    values = np.random.default_rng(0).integers(0, 256, 3 * ahead + 5)
    found = dedup.signatures(np.full((8, 8), v, np.uint8) for v in values)
    assert (found["colour"][:, 0, 0].round() == values).all()
    assert len(dedup.signatures([])["hash"]) == 0
    waiting = iter(values)
    next(thumbnails._batches(waiting, list))
    assert len(list(waiting)) == 2 * ahead + 5


def test_windows_keep_under_orientations():
    """The set of windows maps onto itself, so an oriented picture has the same set of crops."""
    for windows in (dedup.CROPS, dedup.HALVES):
        known = {tuple(np.round(w, 6)) for w in windows}
        assert {tuple(np.round((x0, x1, y0, y1), 6)) for y0, y1, x0, x1 in windows} == known
        assert {tuple(np.round((1 - y1, 1 - y0, x0, x1), 6)) for y0, y1, x0, x1 in windows} == known


def test_orient_inverse():
    x = np.arange(16.0).reshape(1, 4, 4)
    assert len({dedup.orient(x, k).tobytes() for k in range(8)}) == 8
    for k in range(8):
        assert (dedup.orient(dedup.orient(x, k), dedup.INVERSE[k]) == x).all()


def test_subject_of_a_picture():
    grey = np.full((128, 128), 255.0)
    assert thumbnails.subject(grey) == ((0, 128, 0, 128), -np.inf)
    grey[40:80, 30:70] = 90
    grey[122:126, 8:60] = 120  # a footer
    assert thumbnails.subject(grey) == ((40, 80, 30, 70), 255)
    for rows, box in (
        (15, (40, 80, 30, 70)),
        (16, (40, 128, 8, 70)),
    ):  # a footer is at most so high
        high = grey.copy()
        high[128 - rows :, 8:60] = 90
        assert thumbnails.subject(high)[0] == box
    sea = np.full((128, 128), 90.0)
    sea[40:80, 30:70] = 200
    assert thumbnails.subject(sea) == ((0, 128, 0, 128), -np.inf)
    low = np.full((100, 100), 255.0)
    low[30:60, 30:60] = low[87:91, 10:90] = 90  # the last line of a footer is here at the highest
    assert thumbnails.subject(low)[0] == (30, 60, 30, 60)
    for size in (15, 16):
        tiny = np.full((128, 128), 255.0)
        tiny[30 : 30 + size, 30:70] = 90
        assert (thumbnails.subject(tiny)[0] == (30, 46, 30, 70)) == (size == 16)
    for level in (169, 170):  # the darkest ground that is no sea
        light = np.full((128, 128), float(level))
        light[40:80, 30:70] = 20
        assert (thumbnails.subject(light)[1] == level) == (level == 170)


def test_the_ring_is_the_outermost_pixels():
    ring = thumbnails._ring(np.arange(9).reshape(3, 3))
    assert ring.tolist() == [0, 1, 2, 6, 7, 8, 0, 3, 6, 2, 5, 8]


def test_the_subject_lies_in_a_page_in_a_frame():
    grey = np.zeros((128, 128))
    grey[10:118, 10:118] = 255
    grey[40:80, 30:70] = 90
    assert thumbnails.subject(grey) == ((40, 80, 30, 70), 255)
    grey[40:118, 30:70] = 90  # down to the page's lower edge
    assert thumbnails.subject(grey) == ((40, 118, 30, 70), 255)


@pytest.mark.parametrize("page", [(0, 128, 0, 128), (5, 123, 5, 123)])
def test_the_subject_hides_no_page(page):
    """It is so bold that the page's own contrast with the frame is no more than a watermark's."""
    grey = np.full((128, 128), 255.0)
    y0, y1, x0, x1 = page
    grey[y0:y1, x0:x1] = 215
    grey[40:80, 30:70] = 20
    assert thumbnails.subject(grey) == ((40, 80, 30, 70), 215)


def test_colours_are_the_mean_and_the_median():
    steps = np.tile(np.arange(64) ** 2 // 16, (64, 1)).astype(np.uint8)
    _, colour = thumbnails.thumbnails([np.stack([steps, steps, 255 - steps], 2)])
    mean, median = steps.mean(), float(np.median(steps))
    assert colour[0, 0] == pytest.approx([mean, mean, 255 - mean], abs=0.01)
    assert colour[0, 1] == pytest.approx([median, median, 255 - median], abs=16)


def test_letters_of_a_watermark_are_not_the_subject():
    """They are too pale throughout, though some are bolder than the subject's palest parts."""
    grey = np.full((128, 128), 255.0)
    grey[40:80, 30:70] = 90
    grey[60:90, 66:80] = 170  # a pale part of the subject, which touches it
    boxed = thumbnails.subject(grey)
    assert boxed == ((40, 90, 30, 80), 255)
    grey[10:18, 10:20] = grey[95:105, 90:98] = 170
    assert thumbnails.subject(grey) == boxed


def test_a_large_part_is_the_subject_though_it_is_pale():
    grey = np.full((128, 128), 255.0)
    grey[40:80, 30:70] = 90
    grey[50:57, 90:101] = 170  # less than .005 of the picture
    assert thumbnails.subject(grey)[0] == (40, 80, 30, 70)
    grey[50:58, 90:101] = 170
    assert thumbnails.subject(grey)[0] == (40, 80, 30, 101)
