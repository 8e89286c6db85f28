"""The closer look: a score belongs to a pair, whichever of its pictures comes first."""

import numpy as np
import pytest
from PIL import Image
from textures import texture

from rs5m import dedup
from rs5m.dedup import registration

KEPT = 0.9  # share of the side that a crop keeps, at most what is searched


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [texture(k).convert("L") for k in range(12)]


@pytest.fixture(scope="module")
def parts(pictures) -> list[Image.Image]:
    """Crops at random places, at the size of the whole."""
    r, made = np.random.default_rng(1), []
    for image in pictures:
        side = round(image.width * KEPT)
        x, y = r.integers(0, image.width - side + 1, 2)
        made.append(image.crop((x, y, x + side, y + side)).resize(image.size))
    return made


def thumbs(images) -> np.ndarray:
    return dedup.signatures(images)["thumb"].astype(np.float32)


@pytest.mark.parametrize("how", [0, 1, 6])
def test_a_score_is_the_same_either_way_round(pictures, parts, how):
    """Copies, strangers and pictures that are turned, both in the same way."""
    p = thumbs(pictures)
    for q in (thumbs(parts), np.roll(thumbs(parts), 1, 0), p + 3, np.zeros_like(p)):
        a, b = (np.ascontiguousarray(dedup.orient(x, how)) for x in (p, q))
        one, other = (registration.look(*pair) for pair in ((a, b), (b, a)))
        assert one == pytest.approx(other, abs=1e-4)


def test_turning_both_pictures_changes_no_score(pictures, parts):
    p, q = thumbs(pictures), thumbs(parts)
    scores = registration.look(p, q)
    for how in range(1, 8):
        turned = (np.ascontiguousarray(dedup.orient(x, how)) for x in (p, q))
        assert registration.look(*turned) == pytest.approx(scores, abs=0.02)


def test_a_crop_is_found_in_its_picture_and_the_picture_in_its_crop(pictures, parts):
    one = dedup.leaks(parts, pictures, orientations=False)  # train, test
    other = dedup.leaks(pictures, parts, orientations=False)
    pairs = one[["test", "train"]].to_numpy().tolist()
    assert pairs == other.sort_values("train")[["train", "test"]].to_numpy().tolist()
    assert all(a == b for a, b in pairs) and len(pairs) >= 10
    assert one.score.tolist() == pytest.approx(other.sort_values("train").score.tolist(), abs=1e-4)
