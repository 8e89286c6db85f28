"""Scenes with known places: polygons against the maps they come from, mosaics against their tiles'
labels.
"""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import small_clip
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rs5m import clip, pocket, selo
from rs5m.book import localization, runs, scales
from rs5m.data.datasets import Labelled
from rs5m.evaluate import features, localize
from rs5m.evaluate.testsets import Query, Scene
from rs5m.pocket import pictures

SHARED = Path(__file__).parents[3] / "shared/data"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return localization.blue_marble()


@pytest.fixture(scope="module")
def corners() -> list[tuple[int, int]]:
    """North and west of the scenes' blocks, found again from their names."""
    blocks = {
        localization.name(n, w): (n, w) for n in localization.NORTH for w in localization.WEST
    }
    return [blocks[scene.name] for scene in localization.blue_marble()]


def test_names_say_where():
    assert localization.name(8, -24) == "0 to 8 N, 12 to 24 W"
    assert (
        localization.name(0, 0) == "0 to 8 S, 0 to 12 E"
        and localization.name(-16, -12) == "16 to 24 S, 0 to 12 W"
    )
    names = {localization.name(n, w) for n in localization.NORTH for w in localization.WEST}
    assert len(names) == len(localization.NORTH) * len(localization.WEST)


@pytest.mark.slow
def test_the_scenes_are_several_spread_and_always_the_same(scenes, corners):
    assert 6 <= len(scenes) <= 12 and all(2 <= len(scene.queries) <= 4 for scene in scenes)
    assert (
        len({north for north, _ in corners}) == len(scenes)
        and len({west for _, west in corners}) >= 4
    )
    again = localization.blue_marble()
    assert [scene.name for scene in again] == [scene.name for scene in scenes]
    for one, other in zip(scenes, again, strict=True):
        assert [query.caption for query in one.queries] == [
            query.caption for query in other.queries
        ]
        pairs = zip(one.queries, other.queries, strict=True)
        assert all(
            np.array_equal(a, b)
            for p, q in pairs
            for a, b in zip(p.regions, q.regions, strict=True)
        )
    assert (again[0].read() == scenes[0].read()).all()


def test_the_busiest_block_of_each_row_is_taken(scenes, corners):
    for scene, (north, west) in zip(scenes, corners, strict=True):
        for other in (w for w in localization.WEST if localization.inside(north, w)):
            found = len(localization.queries(north, other))
            assert found < len(scene.queries) if other < west else found <= len(scene.queries)


def test_nothing_in_a_scene_was_seen_in_tuning(corners):
    chips = pocket.chips("train")
    lat, lon = chips.latitude, chips.longitude
    web = pd.concat(pictures.blue_marble_windows("web", np.random.default_rng(s)) for s in range(2))
    over = np.zeros(len(web), bool)
    for north, west in corners:
        assert not (
            (lat < north + 1) & (lat > north - 9) & (lon > west - 1) & (lon < west + 13)
        ).any()
        left, top = (west + 180) * pocket.CHIP, (90 - north) * pocket.CHIP
        beside = (web.x + web.side <= left) | (web.x >= left + 12 * pocket.CHIP)
        over |= (
            ~beside.to_numpy()
            & ~((web.y + web.side <= top) | (web.y >= top + 8 * pocket.CHIP)).to_numpy()
        )
    assert over.sum() > 50, "the pocket web has pictures there"
    assert not runs.elsewhere(web[over]).any(), "and none of them is tuned on"


def test_a_degree_of_a_scene_is_the_chip_of_that_place(scenes, corners):
    generator = np.random.default_rng(0)
    for scene, (north, west) in zip(scenes, corners, strict=True):
        image = scene.read()
        assert image.shape == (2048, 3072, 3) and image.dtype == np.uint8
        for row, column in zip(
            generator.integers(0, 8, 4), generator.integers(0, 12, 4), strict=True
        ):
            cell = image[row * 256 : (row + 1) * 256, column * 256 : (column + 1) * 256]
            small = cv2.resize(cell, (15, 15), interpolation=cv2.INTER_AREA).astype(float)
            chip = pocket.chip(north - row - 0.5, west + column + 0.5)
            assert np.abs(small - chip).mean() < 3 + chip.std() / 8, (
                "enlarging and shrinking blurs edges a little"
            )


def inside_any(regions: list[np.ndarray], x: float, y: float) -> bool:
    return any(
        cv2.pointPolygonTest(r.astype(np.float32)[:, None], (x, y), False) >= 0 for r in regions
    )


def test_polygons_hold_their_class_on_the_land_cover_map(scenes, corners):
    """Points on a grid, one by one, from the scene's pixels to degrees to the map: the class is
    there.
    """
    names, cover, kept = pocket.class_names(), pocket.land_cover(), pocket.chips("test").classes
    for scene, (north, west) in zip(scenes, corners, strict=True):
        for query in scene.queries:
            label = query.caption.removeprefix("a satellite image of the ").removesuffix(".")
            assert label in kept and 1 <= len(query.regions) <= localization.AREAS
            hit, within, truth, points = 0, 0, 0, 0
            for y in range(16, 2048, 32):
                for x in range(16, 3072, 32):
                    latitude, longitude = north - y / 256, west + x / 256
                    true = (
                        names[cover[int((90 - latitude) * 20), int((longitude + 180) * 20)]]
                        == label
                    )
                    held = inside_any(query.regions, x, y)
                    hit, within, truth, points = (
                        hit + (true and held),
                        within + held,
                        truth + true,
                        points + 1,
                    )
            assert min(hit / within, hit / truth) > 0.55, (scene.name, label)
            assert within / points < 0.31
            for region in query.regions:
                assert cv2.contourArea(region.astype(np.float32)) > 0.85 * 256**2
                assert region.min() >= 0 and region[:, 0].max() < 3072 and region[:, 1].max() < 2048


def cover(*boxes: tuple[int, int, int, int], rest: int = 0) -> np.ndarray:
    """A block of class `rest` with boxes (r0, r1, c0, c1) of class 9."""
    drawn = np.full((160, 240), rest, np.uint8)
    for r0, r1, c0, c1 in boxes:
        drawn[r0:r1, c0:c1] = 9
    return drawn


def test_areas_close_gaps_and_drop_arms_and_specks():
    drawn = cover((40, 100, 40, 120), (70, 72, 120, 200), (5, 20, 5, 20))
    drawn[60:65, 60:65] = 0
    (region,) = localization.areas(drawn, 9)
    got = region / 12.8
    assert cv2.contourArea(region.astype(np.float32)) == pytest.approx(60 * 80 * 12.8**2, rel=0.06)
    assert np.allclose([got.min(0), got.max(0)], [[40, 40], [120, 100]], atol=3), (
        "x before y, in pixels of the scene"
    )


SQUARES = [(10, 40, 10, 40), (10, 40, 60, 90), (10, 40, 110, 140), (10, 40, 160, 190)]


@pytest.mark.parametrize(
    ("drawn", "count"),
    [
        (cover(*SQUARES[:3]), 3),
        (cover(*SQUARES), 0),
        (cover((0, 60, 0, 200)), 0),
        (cover((0, 60, 0, 180)), 1),
        (cover((10, 30, 10, 25)), 0),
        (cover(), 0),
        (cover((0, 160, 0, 240)), 0),
    ],
    ids=["three", "four", "over 30 %", "under 30 %", "small", "none", "all"],
)
def test_how_many_areas_and_how_large(drawn, count):
    assert len(localization.areas(drawn, 9)) == count


def test_areas_must_hold_most_of_the_class():
    strewn = np.random.default_rng(0).random((160, 240)) < 0.1
    lone = cover((20, 60, 20, 60))
    assert len(localization.areas(lone, 9)) == 1
    assert localization.areas(np.where(strewn, 9, lone), 9) == [], "most of the class lies outside"
    assert localization.areas(np.where(np.indices((160, 240)).sum(0) % 2, lone, 0), 9) == [], (
        "half is other"
    )


@given(arrays(int, (4, 5), elements=st.integers(0, 4)))
def test_scattered_equals_looking_around(grid):
    for label in range(5):
        cells = [(r, c) for r in range(4) for c in range(5) if grid[r, c] == label]
        touch = any(max(abs(a - c), abs(b - d)) == 1 for a, b in cells for c, d in cells)
        expected = cells if len(cells) <= localization.AREAS and not touch else []
        assert [tuple(cell) for cell in localization.scattered(grid, label)] == expected


@pytest.fixture(scope="module")
def tiles() -> Labelled:
    """150 tiles of 15 classes, each of one grey that tells its number; some are not 256 pixels
    wide.
    """
    images = [np.full((256 - i % 5, 256, 3), i, np.uint8) for i in range(150)]
    return Labelled(
        "ucm",
        images,
        np.repeat(np.arange(15), 10),
        [f"class{c}" for c in range(15)],
        [""] * 150,
        [],
    )


def test_the_cells_of_a_query_are_all_tiles_of_its_class(tiles):
    found = localization.mosaics(tiles)
    assert len(found) == 2 and sum(len(scene.queries) for scene in found) > 5
    used = []
    for scene in found:
        image = scene.read()
        assert image.shape == (7 * 256, 10 * 256, 3)
        number = image[:, :, 0].astype(int)
        used += np.unique(number[128::256, 128::256]).tolist()
        for query in scene.queries:
            mask = (
                cv2.fillPoly(
                    np.zeros(number.shape, np.uint8), [r.astype(int) for r in query.regions], 1
                )
                > 0
            )
            label = tiles.labels[number]
            assert (mask == (label == tiles.classes.index(query.caption.split()[-1][:-1]))).all()
            assert mask.sum() == len(query.regions) * 256**2 and 1 <= len(query.regions) <= 3
    assert len(used) == len(set(used)) == 140, "no tile lies in two places"


def test_mosaics_are_seeded(tiles):
    first, again, other = (localization.layouts(150, seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the data are not beside this checkout")
def test_uc_merced_fills_three_mosaics(monkeypatch):
    monkeypatch.setenv("RS5M_DATA", str(SHARED))
    found = localization.scenes(scales.get("local"))
    assert len(found) == 3 and sum(len(scene.queries) for scene in found) >= 20
    texts = {query.caption for scene in found for query in scene.queries}
    assert "an aerial image of the sparse residential area." in texts, "class names are parted"


def test_other_scales_read_air_slt(monkeypatch, tmp_path):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        localization.scenes(scales.get("colab"))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


FIELD = [np.array([[0, 0], [300, 0], [300, 300]])]
LAKE = [np.array([[100, 100], [300, 90], [290, 420]])]
WOODS = [np.array([[5, 5], [90, 5], [90, 90]]), np.array([[300, 300], [500, 300], [500, 500]])]
SMALL = [
    Scene("one", partial(picture, 800, 900), [Query("a field", FIELD)]),
    Scene("two", partial(picture, 820, 830), [Query("a lake", LAKE), Query("woods", WOODS)]),
]


@pytest.fixture(scope="module")
def model(architectures):
    return small_clip.random(False)


@pytest.fixture
def seen(model, monkeypatch, tmp_path) -> list[localize.Scores]:
    monkeypatch.chdir(tmp_path)
    return localize.scene_scores(features.Store(model), SMALL, "small")


def test_scores_are_cosines_of_windows_and_sentences(model, seen):
    assert len(seen) == len(SMALL)
    for scene, at in zip(SMALL, seen, strict=True):
        image, texts = (
            scene.read(),
            clip.encode_texts(model, [query.caption for query in scene.queries]),
        )
        assert at.shape == image.shape[:2] and (at.windows == selo.windows(*at.shape)).all()
        assert at.cosines.shape == (len(scene.queries), len(at.windows))
        vectors = localize.window_vectors(model, image, at.windows)
        for i, text in enumerate(texts):
            slow = [v @ text / np.linalg.norm(v) / np.linalg.norm(text) for v in vectors]
            assert at.cosines[i] == pytest.approx(slow, abs=1e-5)
    assert np.abs(seen[1].cosines[0] - seen[1].cosines[1]).max() > 1e-3


def test_a_second_look_is_loaded_and_another_model_is_another_look(model, seen, monkeypatch):
    calls, cut = [], localize.window_vectors
    monkeypatch.setattr(
        localize, "window_vectors", lambda *given, **how: calls.append(1) or cut(*given, **how)
    )
    again = localize.scene_scores(features.Store(model), SMALL, "small")
    assert not calls and all(
        (a.cosines == b.cosines).all() for a, b in zip(seen, again, strict=True)
    )
    store = features.Store(small_clip.random(False, seed=1))
    other = localize.scene_scores(store, SMALL, "small")
    assert len(calls) == 2 and (other[0].cosines != seen[0].cosines).any()


def test_measure_is_one_query_after_the_other(seen):
    got = localize.measure(SMALL, seen)
    slow = []
    for i, j in ((0, 0), (1, 0), (1, 1)):
        drawn = selo.probability_map(seen[i].windows, seen[i].cosines[j], *seen[i].shape)
        slow.append(selo.metrics(drawn, SMALL[i].queries[j].regions))
    assert set(got) == {"rsu", "rda", "ras", "rmi"} and all(
        len(values) == 3 for values in got.values()
    )
    for key, values in got.items():
        assert values.tolist() == [one[key] for one in slow]


def test_informed_scores_are_shares_of_the_mask(seen):
    for scene, at in zip(SMALL, seen, strict=True):
        known = localization.informed(scene, at)
        for query, scores in zip(scene.queries, known.cosines, strict=True):
            mask = selo.mask(query.regions, *at.shape)
            slow = [mask[r0:r1, c0:c1].mean() for r0, r1, c0, c1 in at.windows]
            assert scores == pytest.approx(slow) and scores.max() > 0.1
