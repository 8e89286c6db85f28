"""Rotation: every criterion beside a loop, every view beside scipy, what must not change when one
is turned.
"""

import math
from itertools import product

import numpy as np
import pytest
import small
import small_siglip
import torch
from scipy import ndimage
from torch import nn

from rs5m import clip, rotation
from rs5m.clip import Model
from rs5m.rotation import CRITERIA
from rs5m.zeroshot import normalise

SIZE = small.SIDE
SOME = (0, 17.5, 45, 90, 133, 180, 270, 301.25, -30, 725)


def tiny(seed: int = 0) -> Model:
    return small.model(small.vit(seed).to(clip.device()), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def random_images(count: int, *shape: int, seed: int = 0) -> list[np.ndarray]:
    """Blurred noise: pictures with something at every scale."""
    noise = np.random.default_rng(seed).normal(size=(count, *shape, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0))
    return list(np.clip(128 + 200 * smooth, 0, 255).astype(np.uint8))


# ---------------------------------------------------------------- the choice


def ragged(seed: int) -> np.ndarray:
    """(images, rotations, captions) with absent captions and, in eighths over 2**k rotations, many
    exact ties.
    """
    generator = np.random.default_rng(seed)
    values = (
        np.round(
            8
            * generator.normal(size=(40, generator.choice([1, 2, 4, 8]), generator.integers(1, 7)))
        )
        / 8
    )
    absent = generator.random((40, values.shape[2])) < 0.3
    absent[:, generator.integers(values.shape[2])] = False  # everyone keeps one
    return np.where(absent[:, None], np.nan, values)


def slow_score(
    columns: list[list[float] | None], criterion: str, weight: float, best: int
) -> list[float | None]:
    """The score of each caption of one image, by the words of the docstring."""
    means = [math.fsum(c) / len(c) if c else None for c in columns]
    result = []
    for k, (values, mean) in enumerate(zip(columns, means, strict=True)):
        if values is None:
            result.append(None)
            continue
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        better = sum(
            m is not None and (m > mean + 1e-9 or (abs(m - mean) < 1e-9 and j < k))
            for j, m in enumerate(means)
        )
        result.append(
            {
                "mean": mean,
                "worst_case": min(values),
                "mean_minus_deviation": mean - weight * math.sqrt(variance),
                "lowest_variance": -variance if better < best else -math.inf,
            }[criterion]
        )
    return result


def slow_choice(score: list[float | None]) -> int:
    """The first of the highest, up to rounding."""
    top = max(s for s in score if s is not None)
    return next(k for k, s in enumerate(score) if s is not None and s >= top - 1e-9)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("weight", "best"), [(1.0, 3), (0.3, 1), (4.0, 2)])
def test_scores_and_choice_equal_a_loop(criterion, weight, best):
    for seed in range(20):
        similarity = ragged(seed)
        got = rotation.scores(similarity, criterion, weight, best)
        chosen = rotation.select(similarity, criterion, weight, best)
        assert got.shape == similarity[:, 0].shape and chosen.dtype.kind == "i"
        for image, row, pick in zip(similarity, got, chosen, strict=True):
            columns = [None if np.isnan(column[0]) else column.tolist() for column in image.T]
            expected = slow_score(columns, criterion, weight, best)
            numbers = [math.nan if s is None else s for s in expected]
            assert row == pytest.approx(np.array(numbers), abs=1e-12, nan_ok=True)
            assert pick == slow_choice(expected)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_rotation_is_the_usual_choice(criterion):
    similarity = np.random.default_rng(0).normal(size=(30, 1, 5))
    assert (rotation.select(similarity, criterion, best=1) == similarity[:, 0].argmax(1)).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_unit_and_order_of_rotations_do_not_matter(criterion):
    generator = np.random.default_rng(1)
    similarity = generator.normal(size=(50, 6, 5))
    chosen = rotation.select(similarity, criterion)
    assert (rotation.select(100 * similarity, criterion) == chosen).all()
    assert (rotation.select(similarity[:, generator.permutation(6)], criterion) == chosen).all()


def test_the_weight_runs_from_the_baseline_to_the_steadiest():
    similarity = np.random.default_rng(2).normal(size=(50, 6, 5))
    chosen = [rotation.select(similarity, weight=w).tolist() for w in (0, 1, 1e6)]
    assert chosen[0] == rotation.select(similarity, "mean").tolist()
    assert (
        chosen[2]
        == similarity.std(1).argmin(1).tolist()
        == rotation.select(similarity, "lowest_variance", best=5).tolist()
    )
    assert chosen[0] != chosen[1] != chosen[2]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_ties_go_to_the_first_caption(criterion):
    assert rotation.select(np.full((2, 4, 3), 0.25), criterion).tolist() == [0, 0]
    behind = np.concatenate([np.full((1, 4, 1), np.nan), np.full((1, 4, 2), 0.25)], axis=2)
    assert rotation.select(behind, criterion).tolist() == [1]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.filterwarnings("error")
def test_an_absent_caption_changes_nothing_and_warns_of_nothing(criterion):
    similarity = (
        np.random.default_rng(3).normal(size=(20, 6, 5)) - 10
    )  # all below any default that could slip in
    wider = np.concatenate([similarity, np.full((20, 6, 2), np.nan)], axis=2)
    assert (rotation.select(wider, criterion) == rotation.select(similarity, criterion)).all()
    assert np.isnan(rotation.scores(wider, criterion)[:, 5:]).all()


def test_an_image_without_captions_is_named():
    similarity = np.zeros((4, 3, 2))
    similarity[2:] = np.nan
    with pytest.raises(
        ValueError, match=r"image 2 has no caption to choose from \(2 such images\)"
    ):
        rotation.select(similarity)
    assert np.isnan(rotation.scores(similarity)[2:]).all()
    with pytest.raises(ValueError, match="image 0 has no caption"):
        rotation.select(np.zeros((1, 3, 0)))
    assert (
        rotation.select(np.zeros((0, 3, 2))).tolist()
        == rotation.select(np.zeros((0, 3, 0))).tolist()
        == []
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_similarity_that_is_no_number_is_named(value):
    similarity = np.zeros((3, 4, 5))
    similarity[1, 2, 3] = value
    with pytest.raises(ValueError, match="image 1, rotation 2, caption 3 is -?(nan|inf)"):
        rotation.select(similarity)


def test_wrong_arguments_are_named():
    good = np.zeros((2, 3, 4))
    for shape in ((3, 4), (2, 3, 4, 1), (2, 0, 4)):
        with pytest.raises(ValueError, match="give .images, rotations >= 1, captions"):
            rotation.select(np.zeros(shape))
    with pytest.raises(
        ValueError, match="unknown criterion 'best': choose one of mean_minus_deviation, lowest_v"
    ):
        rotation.select(good, "best")
    for weight, best in ((-1, 3), (math.nan, 3), (1, 0)):
        with pytest.raises(ValueError, match="weight is .* and best is"):
            rotation.select(good, weight=weight, best=best)


def test_a_caption_tied_to_the_orientation_wins_without_the_criterion_only():
    """It fits best as the image lies, and still best on average; turned upside down it does not."""
    angle = np.radians(rotation.ANGLES)[:, None]
    tied, right, wrong = (
        0.30 + 0.06 * np.cos(angle),
        0.29 + 0.01 * np.cos(3 * angle),
        0.20 + 0.001 * np.sin(angle),
    )
    similarity = np.concatenate([wrong, tied, right], axis=1)[None]
    assert (
        rotation.select(similarity[:, :1]).tolist()
        == rotation.select(similarity, "mean").tolist()
        == [1]
    )
    assert (
        rotation.select(similarity).tolist()
        == rotation.select(similarity, "worst_case").tolist()
        == [2]
    )
    assert rotation.select(similarity, "lowest_variance", best=2).tolist() == [2]
    assert rotation.select(similarity, "lowest_variance", best=3).tolist() == [
        0
    ]  # steady, and wrong


# ---------------------------------------------------------------- the views


def test_quarter_turns_are_exact_and_see_the_whole_image():
    images = random_images(3, SIZE, SIZE)
    views = rotation.rotate(images, (0, 90, 180, 270, -90, 450), SIZE)
    assert views.shape == (3, 6, 3, SIZE, SIZE) and rotation.side(SIZE, (0, 90, -90)) == SIZE
    for image, turned in zip(images, views.cpu(), strict=True):
        for turns, view in zip((0, 1, 2, 3, 3, 1), turned, strict=True):
            expected = torch.rot90(torch.from_numpy(image).permute(2, 0, 1), turns, (1, 2))
            assert torch.equal(view, expected.float())


def test_beside_other_angles_quarter_turns_are_exact_on_the_same_square():
    side = rotation.side(SIZE)
    image = random_images(1, side, side)[0]
    views = rotation.rotate([image], rotation.ANGLES, SIZE)[0].cpu()
    margin = (side - SIZE) // 2
    middle = torch.from_numpy(image).permute(2, 0, 1)[:, margin:-margin, margin:-margin].float()
    for place in (0, 3, 6, 9):
        assert torch.equal(views[place], torch.rot90(middle, place // 3, (1, 2)))


@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
def test_other_angles_equal_scipy(size):
    side = rotation.side(size, SOME)
    image = random_images(1, side, side)[0]
    margin = (side - size) // 2
    inside = slice(margin, margin + size)
    for angle, view in zip(
        SOME, rotation.rotate([image], SOME, size)[0].cpu().numpy(), strict=True
    ):
        expected = ndimage.rotate(
            image.astype(float), angle, reshape=False, order=1, mode="nearest"
        )
        assert view == pytest.approx(expected[inside, inside].transpose(2, 0, 1), abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(200, 200), (15, 15), (90, 61), (SIZE, SIZE)])
def test_nothing_from_outside_enters(height, width):
    """White stays white at every whole degree, from images larger and smaller than the view."""
    white = np.full((height, width, 3), 255, np.uint8)
    angles = range(360)
    assert (rotation.rotate([white], angles, SIZE) - 255).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("size", "angle"), list(product([2, 31, 96, 224, 225], [0, 1, 30, 45, 89.5, 90, 135, 200]))
)
def test_the_square_stays_inside_and_is_the_largest(size, angle):
    side = rotation.side(size, (0, angle))
    corner, radians = (size - 1) / 2, math.radians(angle)
    reached = corner * (
        abs(math.cos(radians)) + abs(math.sin(radians))
    )  # of a corner's centre along an axis
    assert reached <= (side - 1) / 2 + 1e-5 and (side - size) % 2 == 0
    assert side == size or reached > (side - 3) / 2 - 1e-5, (
        "a smaller side of the same parity would do"
    )


def test_the_inscribed_square_is_a_square_roots_part():
    assert rotation.side(224, (45,)) / 224 == pytest.approx(math.sqrt(2), abs=0.01)
    assert rotation.side(224, rotation.ANGLES) / 224 == pytest.approx(
        (1 + math.sqrt(3)) / 2, abs=0.01
    )


def test_mirrored_views_follow_in_the_same_order():
    images = random_images(2, 50, 50)
    views = rotation.rotate(images, SOME, SIZE, mirrored=True)
    assert views.shape[1] == 2 * len(SOME)
    assert torch.equal(views[:, len(SOME) :], views[:, : len(SOME)].flip(4))


def test_downsizing_does_not_alias():
    """One-pixel stripes, far above what the view can hold, must end as grey."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    views = rotation.rotate([stripes], (0, 30, 90, 120), SIZE)
    assert (views - 127.5).abs().max() < 4


# ---------------------------------------------------------------- images and captions together

CAPTIONS = [
    ["a forest", "snow", "a river"],
    ["a city"],
    ["snow", "a beach", "a forest", "a port", "snow"],
    ["a forest"],
]


def test_one_unturned_view_is_the_plain_cosine():
    model, images = tiny(), random_images(4, 45, 60)
    got = rotation.similarities(model, images, CAPTIONS, (0,), quiet=True)
    assert got.shape == (4, 1, 5) and got.dtype == np.float32
    vectors = normalise(clip.encode_images(model, images, quiet=True))
    for image, vector, texts in zip(got, vectors, CAPTIONS, strict=True):
        cosine = normalise(clip.encode_texts(model, texts)) @ vector
        assert image[0, : len(texts)] == pytest.approx(cosine, abs=1e-5)
        assert np.isnan(image[0, len(texts) :]).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_views_are_encoded_as_images(mirrored):
    model, images = tiny(), random_images(4, 64, 64)
    got = rotation.similarities(model, images, CAPTIONS, SOME, mirrored, batch=3, quiet=True)
    assert got.shape == (4, len(SOME) * (1 + mirrored), 5)
    views = rotation.rotate(images, SOME, SIZE, mirrored).cpu()
    for image, turned, texts in zip(got, views, CAPTIONS, strict=True):
        pixels = clip.normalise_pixels(turned / 255, model).to(clip.device())
        with torch.inference_mode(), clip.autocast():
            vectors = normalise(model.net.encode_image(pixels).float().cpu().numpy())
        cosine = vectors @ normalise(clip.encode_texts(model, texts)).T
        assert image[:, : len(texts)] == pytest.approx(cosine, abs=2e-3)


@pytest.mark.parametrize(("angles", "step"), [((0, 90, 180, 270), 1), (rotation.ANGLES, 3)])
def test_turning_the_image_permutes_the_rotations(angles, step):
    """Without a resize to the last bit of the pixels; with one, up to its rounding to whole grey
    levels.
    """
    model, side = tiny(), rotation.side(SIZE, angles)
    for pixels, tolerance in ((side, 1e-5), (70, 5e-3)):
        images = random_images(4, pixels, pixels)
        turned = [np.rot90(image).copy() for image in images]
        before, after = (
            rotation.similarities(model, i, CAPTIONS, angles, quiet=True) for i in (images, turned)
        )
        assert after == pytest.approx(np.roll(before, -step, axis=1), abs=tolerance, nan_ok=True)
        assert np.nanmax(abs(after - before)) > 10 * tolerance, (
            "the model must see that the image was turned"
        )
        if pixels == side:
            assert (rotation.select(before) == rotation.select(after)).all()


def test_batches_change_nothing():
    model, images = tiny(), random_images(4, 40, 50)
    whole = rotation.similarities(model, images, CAPTIONS, quiet=True)
    for batch in (1, 3):
        parts = rotation.similarities(model, images, CAPTIONS, batch=batch, quiet=True)
        assert parts == pytest.approx(
            whole, abs=2e-3, nan_ok=True
        )  # bf16, where the processor has it


def test_equal_captions_tie_and_the_first_wins():
    got = rotation.similarities(tiny(), random_images(4, 40, 40), CAPTIONS, quiet=True)
    assert (got[2, :, 0] == got[2, :, 4]).all()
    assert rotation.select(got)[2] != 4


def test_each_caption_is_encoded_once_and_each_image_resized_once(monkeypatch):
    seen = {"texts": [], "images": 0}
    texts, crop = clip.encode_texts, clip.crop

    def encode_texts(model, some):
        seen["texts"] += some
        return texts(model, some)

    def count(images, size, squash=False):
        seen["images"] += len(images)
        return crop(images, size, squash)

    monkeypatch.setattr(clip, "encode_texts", encode_texts)
    monkeypatch.setattr(clip, "crop", count)
    rotation.similarities(
        tiny(), random_images(4, 40, 40), CAPTIONS, SOME, True, batch=3, quiet=True
    )
    assert (
        sorted(seen["texts"]) == sorted({text for texts in CAPTIONS for text in texts})
        and seen["images"] == 4
    )


def test_lists_that_are_empty():
    model, images = tiny(), random_images(2, 40, 40)
    got = rotation.similarities(model, images, [[], ["snow"]], (0, 90), quiet=True)
    assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()
    assert rotation.similarities(model, images, [[], []], (0, 90), quiet=True).shape == (2, 2, 0)
    assert rotation.similarities(model, [], [], (0, 90), quiet=True).shape == (0, 2, 0)


def test_wrong_images_captions_and_angles_are_named():
    model, images = tiny(), random_images(3, 40, 40)
    with pytest.raises(ValueError, match="3 images and 1 lists of captions"):
        rotation.similarities(model, images, [["snow"]])
    with pytest.raises(ValueError, match="give one list for each image"):
        rotation.similarities(model, images, ["snow", "a port", "a city"])
    for bad, words in (
        (images[0] / 255, "float64"),
        (images[0][..., 0], "shape .40, 40."),
        (None, "NoneType"),
    ):
        with pytest.raises(ValueError, match=f"image 2 is .*{words}"):
            rotation.similarities(model, [*images[:2], bad], [["snow"]] * 3, batch=2, quiet=True)
    with pytest.raises(ValueError, match="image 0 is .*NoneType"):
        rotation.rotate([None, *images])
    for angles in ((), (0, math.nan), (math.inf,)):
        with pytest.raises(ValueError, match="angles are .*: give at least one, in degrees"):
            rotation.rotate(images, angles, SIZE)


def test_views_have_clips_size_and_lie_where_they_are_asked_for():
    images = random_images(1, 40, 40)
    assert rotation.rotate(images, [0]).shape == (1, 1, 3, 224, 224)
    assert rotation.rotate(images, [0], SIZE, device=torch.device("meta")).device.type == "meta"


class Quarters(nn.Module):
    """A model that can be understood: a text names the quarters that are bright, an image shows
    them.
    """

    TEXTS = {
        "bright in the upper left": (1, 0, 0, 0),
        "a bright spot": (1, 1, 1, 1),
        "dark": (-1, -1, -1, -1),
    }

    def encode_image(self, pixels):
        return nn.functional.adaptive_avg_pool2d(pixels, 2).mean(1).flatten(1) + 1e-3

    def encode_text(self, tokens):
        return torch.tensor(list(self.TEXTS.values()), dtype=torch.float32)[tokens[:, 0].cpu()].to(
            tokens.device
        )


def test_from_pixels_to_the_choice():
    """Without turning, "upper left" wins on an image that is bright there; with it, what holds at
    any orientation.
    """
    texts = list(Quarters.TEXTS)
    model = Model(
        Quarters(),
        lambda some: torch.tensor([[texts.index(text)] for text in some]),
        (0.0,) * 3,
        (1.0,) * 3,
        8,
    )
    image = np.zeros((16, 16, 3), np.uint8)
    image[1:8, 1:8] = 255
    similarity = rotation.similarities(model, [image], [texts], (0, 90, 180, 270), quiet=True)
    assert similarity[0, :, 0] == pytest.approx([1, 0, 0, 0], abs=0.05)
    assert texts[rotation.select(similarity[:, :1])[0]] == "bright in the upper left"
    assert {texts[rotation.select(similarity, c, best=2)[0]] for c in CRITERIA} == {"a bright spot"}


def test_what_is_not_said_is_one_deviation_and_the_best_three():
    similarity = np.random.default_rng(7).normal(size=(60, 6, 5))
    usual = similarity.mean(1) - similarity.std(1)
    assert rotation.scores(similarity) == pytest.approx(usual)
    assert (rotation.select(similarity) == usual.argmax(1)).all()
    for function in (rotation.scores, rotation.select):
        found = function(similarity, "lowest_variance")
        assert (found == function(similarity, "lowest_variance", best=3)).all()
        assert (found != function(similarity, "lowest_variance", best=4)).any()
    assert rotation.ANGLES == (0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330)


def test_a_siglip_sees_whole_pressed_images_and_fits_as_in_its_evaluation(tmp_path):
    small_siglip.register(tmp_path)
    small_siglip.written(tmp_path / "siglip")
    model = clip.load(f"local-dir:{tmp_path / 'siglip'}")
    assert model.squash
    images = [*random_images(2, 40, 90), *random_images(1, 70, 30)]
    texts = ["w1 w2 w3", "w4 " * 30, "w5"]
    turned = rotation.similarities(model, images, [texts] * 3, (0, 90, 180), quiet=True)
    said = normalise(clip.encode_texts(model, texts))
    for place in range(3):
        views = [np.ascontiguousarray(np.rot90(image, place)) for image in images]
        alone = normalise(clip.encode_images(model, views, quiet=True)) @ said.T
        # Pillow presses one axis, then the other, so a grey level may differ once turned
        assert turned[:, place] == pytest.approx(alone, abs=1e-5 if place == 0 else 5e-3)
