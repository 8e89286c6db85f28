"""Semantic localization: golden values of the official code, the plain twin, and maps and regions
that break things.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import slow_selo
from scipy.ndimage import maximum_filter

from rs5m import selo

GOLDEN = Path(__file__).parent / "golden/selo"
KEYS = ("rsu", "rda", "ras", "rmi")
SQUARE = [[300, 200], [700, 200], [700, 600], [300, 600]]


def spot(height: int = 800, width: int = 1200, at=(500, 400), side: int = 400) -> np.ndarray:
    found = np.zeros((height, width), np.uint8)
    x, y = at
    found[max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = 255
    return cv2.GaussianBlur(found, (0, 0), 40)


def cases(count: int = 6):
    """Random window scores of images of several sizes, with polygons."""
    for seed in range(count):
        generator = np.random.default_rng(seed)
        height, width = (int(n) for n in generator.integers(300, 620, 2))
        steps = (64, 128, 256)
        found = selo.windows(height, width, steps)
        middle = generator.uniform(60, 240, (int(generator.integers(1, 4)), 1, 2))
        yield (
            height,
            width,
            steps,
            found,
            generator.normal(size=len(found)),
            middle + generator.normal(0, 50, (1, 5, 2)),
        )


def test_golden_metrics():
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert len(expected) == 12
    for case in expected:
        found = selo.metrics(
            cv2.imread(str(GOLDEN / case["map"]), cv2.IMREAD_GRAYSCALE), case["regions"]
        )
        assert found == pytest.approx({key: case[key] for key in KEYS}, abs=1e-9), case["map"]


def test_golden_windows_and_the_whole_path():
    for case in json.loads((GOLDEN / "pipeline.json").read_text()):
        size, scores = (case["height"], case["width"]), case["scores"]
        found = selo.windows(*size, case["steps"])
        names = ["_".join(map(str, window)) for window in found]
        assert len(names) == len(scores) and set(names) == set(scores)
        heat = selo.probability_map(found, [scores[name] for name in names], *size, jpeg=True)
        assert selo.metrics(heat, case["regions"]) == pytest.approx(
            {key: case[key] for key in KEYS}, abs=1e-9
        )


@pytest.mark.parametrize(
    "size", [(2000, 3000), (1024, 1400), (768, 769), (770, 512 * 3), (300, 4000), (100, 101)]
)
def test_windows_equal_the_twins(size):
    steps = tuple(
        step for step in (*selo.STEPS, 65) if step <= min(size)
    )  # an odd step has two unequal halves
    found = selo.windows(*size, steps)
    assert [tuple(window) for window in found.tolist()] == slow_selo.windows(*size, steps)
    covered = np.zeros(size, bool)
    for r0, r1, c0, c1 in found:
        assert 0 <= r0 < r1 <= size[0] and 0 <= c0 < c1 <= size[1] and r1 - r0 == c1 - c0
        covered[r0:r1, c0:c1] = True
    assert covered.all()


def test_a_scene_of_2000_by_3000_has_261_windows():
    assert len(selo.windows(2000, 3000)) == 261


@pytest.mark.parametrize("size", [(100, 120), (256, 256), (200, 900), (700, 300)])
def test_an_image_smaller_than_a_window_is_one_window(size):
    found = selo.windows(*size)
    assert (
        (found[:, ::2] >= 0).all()
        and (found[:, 1] <= size[0]).all()
        and (found[:, 3] <= size[1]).all()
    )
    assert len(np.unique(found, axis=0)) == len(found)
    heat = selo.probability_map(found, np.arange(len(found)), *size)
    assert heat.shape == size


def test_no_image_has_no_windows():
    with pytest.raises(ValueError, match="no windows of .* in an image of 0 x 5"):
        selo.windows(0, 5)


def test_the_mean_map_is_the_loops_to_the_last_bit():
    for height, width, _, found, scores, _ in cases():
        assert (
            selo.mean_map(found, scores, height, width)
            == slow_selo.mean_map(found, scores, height, width)
        ).all()


def test_map_and_metrics_equal_the_twins():
    for height, width, _, found, scores, regions in cases():
        heat = selo.probability_map(found, scores, height, width)
        assert (heat == slow_selo.probability_map(found, scores, height, width)).all()
        assert selo.metrics(heat, regions) == pytest.approx(
            slow_selo.metrics(heat, regions), abs=1e-9
        )


def test_a_map_through_jpeg_is_the_one_of_a_file(tmp_path):
    height, width, _, found, scores, _ = next(iter(cases()))
    plain, jpeg = (selo.probability_map(found, scores, height, width, j) for j in (False, True))
    cv2.imwrite(str(tmp_path / "map.jpg"), plain)
    assert (jpeg == cv2.imread(str(tmp_path / "map.jpg"), cv2.IMREAD_GRAYSCALE)).all()
    assert (jpeg != plain).any()


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_large_smooth_maps_equal_the_twins(seed):
    generator = np.random.default_rng(seed)
    rough = generator.random((12, 18)) ** 3
    heat = np.uint8(
        255 * cv2.resize(rough / rough.max(), (1800, 1200), interpolation=cv2.INTER_LINEAR)
    )
    regions = [generator.uniform((0, 0), (1800, 1200), (6, 2)) for _ in range(3)]
    assert len(selo.attention_centres(heat)) > 1
    assert set(selo.attention_centres(heat)) == set(slow_selo.centres(heat / 255.0))
    assert selo.metrics(heat, regions) == pytest.approx(slow_selo.metrics(heat, regions), abs=1e-9)


def two_spots(second: int = 255) -> np.ndarray:
    """Attention centres at (300, 300) and (1500, 300), further apart than the maximum filter
    reaches.

    The discs are drawn 2 pixels before: each box filter of an even size moves a map by half a
    pixel.
    """
    found = np.zeros((600, 1800), np.uint8)
    for x, value in ((300, 255), (1500, second)):
        cv2.circle(found, (x - 2, 298), 160, value, -1)
    return found


def test_attention_centres_are_sorted_and_need_one_half():
    assert selo.attention_centres(two_spots(128)) == [(300, 300), (1500, 300)]
    assert selo.attention_centres(two_spots(128)[:, ::-1]) == [(1503, 300), (303, 300)]
    assert selo.attention_centres(two_spots(127)) == [(300, 300)]


def test_rda_and_ras_of_two_attention_centres_by_hand():
    """Both centres are 600 pixels from the region's middle, which is the mean of the two: offset
    600 / 900.
    """
    region = [[300, 300], [1500, 300], [900, -300], [900, 900]]
    told = selo.metrics(two_spots(), [region])
    assert told["rda"] == pytest.approx(0.5 * (1 - 600 / 900) + np.exp(-2))
    assert told["ras"] == pytest.approx((np.exp(2) - 1) / (np.exp(3) - 1))
    assert told["rmi"] == pytest.approx(
        0.4 * told["rsu"] + 0.35 * (1 - told["ras"]) + 0.25 * told["rda"]
    )


def test_a_centre_on_the_circle_is_near():
    """The middle is (900, 300), the radius 1.5 x 400: both centres lie on the circle."""
    told = selo.metrics(two_spots(), [[[500, 300], [1300, 300]]])
    assert told["ras"] == pytest.approx(1) and told["rda"] == pytest.approx(np.exp(-2))
    less = selo.metrics(two_spots(), [[[501, 300], [1299, 300]]])
    assert less["ras"] == pytest.approx(1) and less["rda"] == 0


def test_pixels_of_zero_are_no_maximum():
    """Far from the only spot everything is zero: a ring whose middle is the spot, which must not
    count twice.
    """
    heat = np.zeros((1500, 1500), np.uint8)
    cv2.circle(heat, (747, 747), 120, 255, -1)
    assert selo.attention_centres(heat) == slow_selo.centres(heat / 255.0) == [(749, 749)]


def test_maxima_that_touch_at_a_corner_are_one():
    """The ridge of a slanted bar is a chain of pixels: nine pieces if corners did not join them."""
    heat = np.zeros((900, 900), np.uint8)
    cv2.line(heat, (150, 150), (700, 700), 255, 100)
    assert selo.attention_centres(heat) == slow_selo.centres(heat / 255.0)
    assert len(selo.attention_centres(heat)) == 1


@pytest.mark.parametrize("size", [1, 2, 7, 50, 101, 1000])
@pytest.mark.parametrize("shape", [(130, 90), (1, 200), (300, 64)])
def test_the_maximum_filter_equals_scipys(size, shape):
    generator = np.random.default_rng(size)
    for image in (
        generator.integers(0, 256, shape, np.uint8),
        generator.integers(0, 3, shape, np.uint8) * 100,
    ):
        assert (selo._highest(image, size) == maximum_filter(image, size)).all()


def test_equal_scores_give_a_map_of_zeros_and_no_nan():
    found = selo.windows(600, 600)
    heat = selo.probability_map(found, np.full(len(found), 0.3), 600, 600)
    assert heat.dtype == np.uint8 and not heat.any()
    told = selo.metrics(heat, [SQUARE])
    assert told == {"rsu": 0.0, "rda": 0.0, "ras": pytest.approx(1), "rmi": pytest.approx(0)}


def test_pixels_without_a_window_are_at_the_bottom():
    heat = selo.mean_map([(0, 4, 0, 4), (2, 6, 2, 6)], [1.0, 3.0], 8, 8)
    assert heat[0, 0] == 1 and heat[3, 3] == 2 and heat[5, 5] == 3 and heat[7, 7] == heat[0, 7] == 1


@pytest.mark.parametrize("scores", [[0.1, np.nan], [0.1], [np.inf, 0]])
def test_scores_that_are_no_numbers_are_refused(scores):
    with pytest.raises(ValueError, match="2 windows need as many finite scores"):
        selo.probability_map(np.array([[0, 4, 0, 4], [2, 6, 2, 6]]), scores, 8, 8)


@pytest.mark.parametrize("wrong", [[[0, 4, 0, 9]], [[-2, 6, 0, 4]], [[4, 4, 0, 4]], [[0, 4, 0]]])
def test_windows_of_another_image_are_refused(wrong):
    with pytest.raises(
        ValueError, match="a map of 8 x 8 pixels needs windows r0, r1, c0, c1 inside it"
    ):
        selo.mean_map(wrong, [1.0], 8, 8)
    with pytest.raises(ValueError, match="needs windows"):
        selo.mean_map(np.empty((0, 4), int), [], 8, 8)


def test_a_map_on_its_region_is_better_than_one_beside_it():
    on, beside = (selo.metrics(spot(at=at), [SQUARE]) for at in ((500, 400), (1000, 400)))
    assert (
        on["rsu"] > beside["rsu"] and on["ras"] < beside["ras"] and on["rmi"] > beside["rmi"] + 0.5
    )
    assert on["rda"] == 1 and beside["rda"] == 0


def test_floats_and_bytes_are_the_same_map():
    heat = spot()
    assert selo.metrics(heat, [SQUARE]) == pytest.approx(
        selo.metrics(heat / 255.0, [SQUARE]), abs=1e-12
    )


def test_a_region_that_leaves_the_image_is_cut_off():
    heat = spot()
    leaving = [[-400, 100], [500, 100], [500, 500], [-400, 500]]
    assert selo.mask([leaving], *heat.shape).sum() == 501 * 401
    assert selo.outside([leaving], *heat.shape) == 0.5
    assert selo.metrics(heat, [leaving])["rsu"] == pytest.approx(
        slow_selo.metrics(heat, [leaving])["rsu"]
    )


def test_a_region_wholly_outside_holds_nothing_of_the_map():
    away = (np.array(SQUARE) + 5000).tolist()
    told = selo.metrics(spot(), [away])
    assert (
        told["rsu"] == told["rda"] == 0
        and told["ras"] == pytest.approx(1)
        and told["rmi"] == pytest.approx(0)
    )


def test_a_region_that_covers_everything_leaves_nothing_to_tell_apart():
    heat = spot()
    everything = [[-5, -5], [1300, -5], [1300, 900], [-5, 900]]
    assert (
        selo.metrics(heat, [everything])["rsu"]
        == pytest.approx(slow_selo.metrics(heat, [everything])["rsu"])
        == 0
    )


def test_a_polygon_that_crosses_itself_has_a_hole_where_it_lies_twice():
    star = [
        [500 + 300 * np.sin(0.8 * np.pi * i), 400 - 300 * np.cos(0.8 * np.pi * i)] for i in range(5)
    ]
    filled = selo.mask([star], 800, 1200)
    assert filled[400, 500] == 0 and filled[200, 500] == 1, (
        "the middle of a pentagram lies inside twice"
    )
    twice = selo.mask([SQUARE, SQUARE], 800, 1200)
    assert twice[400, 500] == 0 and twice[200, 500] == 1, (
        "and so does the overlap of two polygons; outlines count"
    )


@pytest.mark.parametrize("region", [[[500, 400]], [[480, 400], [520, 400]], [[500, 400]] * 4])
def test_regions_without_an_area_give_numbers(region):
    told = selo.metrics(spot(), [region])
    assert all(np.isfinite(value) for value in told.values()) and 0 <= told["ras"] <= 1


@pytest.mark.parametrize(
    "regions",
    [
        [],
        [[]],
        [[1, 2, 3]],
        [[[1, 2, 3]]],
        [[[1, 2], [3]]],
        [[[1, np.nan], [2, 3]]],
        [[[1e12, 0], [1, 1]]],
    ],
)
def test_no_polygons_are_one_sentence(regions):
    for told in (
        selo.metrics,
        lambda _, given: selo.mask(given, 9, 9),
        lambda _, given: selo.swapped(given, 9, 9),
    ):
        with pytest.raises(ValueError, match="at least one polygon"):
            told(np.zeros((9, 9), np.uint8), regions)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255.0), np.full((4, 4), -1.0)]
)
def test_another_kind_of_map_is_refused(wrong):
    with pytest.raises(ValueError, match=r"a probability map is uint8 \(h, w\)"):
        selo.metrics(wrong, [SQUARE])


def test_an_outline_that_steps_over_the_edge_is_not_taken_for_exchanged_axes():
    assert not selo.swapped([[[100, 700], [300, 810], [100, 810]]], 800, 1200)


def test_exchanged_axes_are_noticed():
    wide = [[900, 200], [1100, 200], [1000, 500]]
    assert not selo.swapped([wide], 800, 1200)
    assert selo.swapped([np.array(wide)[:, ::-1]], 800, 1200)
    assert not selo.swapped([[[2000, 2000], [2100, 2100], [2100, 2000]]], 800, 1200), (
        "outside either way: something else"
    )
