"""Windows through a model: cut as the official code cuts, encoded once, drawn."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rs5m import clip, selo
from rs5m.book import plots
from rs5m.evaluate import localize
from rs5m.zeroshot import normalise


@pytest.fixture
def image() -> np.ndarray:
    rough = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    return cv2.resize(rough, (900, 600), interpolation=cv2.INTER_CUBIC)


class Means(nn.Module):
    """A tower of mean colours and their spread, which counts what it is given."""

    images = 0

    def encode_image(self, pixels):
        self.images += len(pixels)
        mean, spread = pixels.mean((2, 3)), pixels.std((1, 2, 3))
        return torch.cat([mean, spread[:, None]], 1)


@pytest.fixture
def model() -> clip.Model:
    return clip.Model(Means(), None, (0.0,) * 3, (1.0,) * 3, 224)


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """Stands in for the text tower, and holds how many texts each call brought."""
    calls = []

    def texts(model, texts, **_):
        calls.append(len(texts))
        return np.array(
            [np.random.default_rng(list(text.encode())).normal(size=4) for text in texts],
            np.float32,
        )

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


def test_cosines_are_those_of_one_window_and_one_text_at_a_time(image, model, asked):
    windows, cosines = localize.scores(model, image, ["a lake", "a road", "a lake"])
    assert cosines.shape == (3, len(windows)) and (cosines[0] == cosines[2]).all()
    for i in (0, 5, len(windows) - 1):
        window = localize.cut(image, windows[i : i + 1])
        vector = normalise(clip.encode_images(model, window, quiet=True))
        for text, row in (("a lake", 0), ("a road", 1)):
            assert cosines[row, i] == pytest.approx(
                float((vector @ normalise(clip.encode_texts(None, [text])).T).item()), abs=1e-6
            )


def test_every_window_is_encoded_once_for_all_texts(image, model, asked):
    windows, _ = localize.scores(model, image, [f"query {i}" for i in range(7)])
    assert model.net.images == len(windows) and asked == [7]


def test_windows_through_jpeg_are_those_of_files(image, model, tmp_path):
    """Twin: each window written by OpenCV from its own order of channels, and read by Pillow."""
    windows = selo.windows(*image.shape[:2])
    plain, jpeg = (
        localize.window_vectors(model, image, windows, through, quiet=True)
        for through in (False, True)
    )
    slow = []
    for i, window in enumerate(localize.cut(image, windows)):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), window[:, :, ::-1])
        slow.append(np.asarray(Image.open(tmp_path / f"{i}.jpg")))
    expected = clip.encode_images(model, slow, quiet=True)
    assert jpeg == pytest.approx(expected, abs=1e-6)
    assert np.abs(plain - expected).max() > 1e-4


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
