"""The test sets of a scale, by name."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rs5m.book import scales, sets

CLASSES = ("AnnualCrop", "Forest")


@pytest.fixture
def eurosat(tmp_path, monkeypatch):
    """Seven images of each of two classes, each of its own grey."""
    for c, name in enumerate(CLASSES):
        folder = tmp_path / "eurosat-rgb/2750" / name
        folder.mkdir(parents=True)
        for i in range(7):
            grey = np.full((8, 8, 3), 10 * (7 * c + i), np.uint8)
            Image.fromarray(grey).save(folder / f"{name}_{i}.png")
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))


@pytest.mark.parametrize("every", [1, 5])
def test_a_scale_tests_every_nth_image_of_eurosat_with_its_own_label_and_pixels(eurosat, every):
    scale = replace(scales.get("local"), every=every)
    data = sets.test_set("eurosat", scale)
    wanted = range(0, 14, every)
    assert data.names == [f"{CLASSES[i // 7]}_{i % 7}.png" for i in wanted]
    assert data.labels.tolist() == [i // 7 for i in wanted]
    assert [int(image[0, 0, 0]) for image in data.images] == [10 * i for i in wanted]


def test_only_local_tests_a_part():
    assert {name: scale.every for name, scale in scales.SCALES.items() if scale.every > 1} == {
        "local": 5
    }
