"""Windows through a model: cut as the official code cuts, encoded once, drawn."""

import cv2
import numpy as np
import pytest

from rs5m import clip, selo
from rs5m.book import plots
from rs5m.evaluate import localize
from rs5m.zeroshot import normalise


@pytest.fixture
def image() -> np.ndarray:
    rough = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    return cv2.resize(rough, (900, 600), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def asked(monkeypatch) -> list:
    """Stands in for the encoders: mean colours, and how many images and texts each call brought."""
    calls = []

    def images(model, images, **_):
        calls.append(("images", len(images)))
        return np.array([[*image.mean((0, 1)), image.std()] for image in images], np.float32)

    def texts(model, texts, **_):
        calls.append(("texts", len(texts)))
        return np.array(
            [np.random.default_rng(list(text.encode())).normal(size=4) for text in texts],
            np.float32,
        )

    monkeypatch.setattr(clip, "encode_images", images)
    monkeypatch.setattr(clip, "encode_texts", texts)
    return calls


def test_windows_are_cut_and_resized_one_like_the_other(image):
    windows = selo.windows(*image.shape[:2])
    found = localize.cut(image, windows)
    assert found.shape == (len(windows), 256, 256, 3) and found.dtype == np.uint8
    for one, (r0, r1, c0, c1) in zip(found, windows, strict=True):
        assert (
            one == cv2.resize(image[r0:r1, c0:c1], (256, 256), interpolation=cv2.INTER_CUBIC)
        ).all()


def test_cosines_are_those_of_one_window_and_one_text_at_a_time(image, asked):
    windows, cosines = localize.scores(None, image, ["a lake", "a road", "a lake"])
    assert cosines.shape == (3, len(windows)) and (cosines[0] == cosines[2]).all()
    for i in (0, 5, len(windows) - 1):
        vector = normalise(clip.encode_images(None, localize.cut(image, windows[i : i + 1])))
        for text, row in (("a lake", 0), ("a road", 1)):
            assert cosines[row, i] == pytest.approx(
                float((vector @ normalise(clip.encode_texts(None, [text])).T).item())
            )


def test_every_window_is_encoded_once_for_all_texts(image, asked):
    windows, _ = localize.scores(None, image, [f"query {i}" for i in range(7)])
    assert sum(count for kind, count in asked if kind == "images") == len(windows)
    assert [count for kind, count in asked if kind == "texts"] == [7]


def test_batches_do_not_change_vectors(image, asked):
    windows = selo.windows(*image.shape[:2])
    one, many = (
        localize.window_vectors(None, image, windows, batch=batch, quiet=True) for batch in (1, 64)
    )
    assert (one == many).all()


def test_an_image_of_another_kind_is_named(image):
    with pytest.raises(ValueError, match="image 0 is float64"):
        localize.window_vectors(None, image / 255, selo.windows(600, 900))


def test_the_picture_shows_map_polygons_and_centres(image):
    heat = np.zeros((600, 900), np.uint8)
    heat[200:400, 300:600] = 255
    axis = plots.heat_map(image, heat, [[[300, 200], [600, 200], [600, 400]]], "a lake")
    assert axis.get_title() == "a lake" and len(axis.images) == 2 and len(axis.patches) == 1
    assert len(axis.lines) == len(selo.attention_centres(heat)) == 1
    assert axis.get_xlim() == (0, 900) and axis.get_ylim() == (600, 0)
