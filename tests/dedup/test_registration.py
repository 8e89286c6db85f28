"""The closer look: a score belongs to a pair, whichever of its pictures comes first."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
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


# ---------------------------------------------------------------- against plain twins

SEEN = (np.arange(32) + 0.5) / 32  # pixels of a thumbnail, in sides


def scene(seed: int, pose=(1, 0, 1, 0), deviation: float = 35) -> np.ndarray:
    """A sum of waves (1, 32, 32) float32, seen through a pose without interpolation."""
    r = np.random.default_rng(seed)
    pitch, phase = r.uniform(-7, 7, (40, 2)), r.uniform(0, 2 * np.pi, 40)
    size = r.normal(size=40) / (1 + np.hypot(*pitch.T))
    y, x = SEEN * pose[0] + pose[1], SEEN * pose[2] + pose[3]
    turns = 2 * np.pi * (pitch[:, :1, None] * y[:, None] + pitch[:, 1:, None] * x)
    waves = (size[:, None, None] * np.sin(turns + phase[:, None, None])).sum(0)
    return np.float32(110 + deviation * waves / 0.75)[None]


def text(p: np.ndarray, level: float = 250) -> np.ndarray:
    """A bright line of letters on a picture."""
    q = p.copy()
    q[:, 26:30, 3:24:2] = level
    return q


def on_white(seed: int, pose=(1, 0, 1, 0)) -> np.ndarray:
    """A structured disc on plain white."""
    y, x = SEEN * pose[0] + pose[1], SEEN * pose[2] + pose[3]
    disc = np.hypot(y[:, None] - 0.5, x - 0.45) < 0.28
    return np.where(disc, scene(seed, pose) - 40, 250).astype(np.float32)


def grain(seed: int, deviation: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, (1, 32, 32)).astype(np.float32)


def erased(p: np.ndarray) -> np.ndarray:
    """Coarse structure alone, as strong JPEG leaves it."""
    return gaussian_filter(p, (0, 2.5, 2.5))


CROP, NARROW, OUT = (0.9, 0.06, 0.9, 0.03), (0.92, 0.05, 0.97, 0.01), (1.1, -0.05, 1.1, -0.06)
SLID, WIDE = (1, 0.11, 1, -0.08), (0.9, 0.05, 1, 0)
FLAT = [scene(k, deviation=0.7) + grain(k, 0.15) for k in range(20, 24)]
PAIRS = {  # one thumbnail, the other
    "the same": (scene(1), scene(1)),
    "darker, with grain": (scene(2), 0.7 * scene(2) + grain(0, 3)),
    "crop": (scene(3), scene(3, CROP)),
    "crop with a text": (scene(4), text(scene(4, NARROW))),
    "crop with grain": (scene(5), scene(5, OUT) + grain(1, 6)),
    "text": (scene(6), text(scene(6), 30)),
    "two texts": (text(scene(7)), text(scene(7), 0)),
    "text on a faint one": (scene(8, deviation=3), text(scene(8, deviation=3))),
    "slid": (scene(9), scene(9, SLID)),
    "stretched": (scene(10), scene(10, WIDE)),
    "strangers": (scene(11), scene(12)),
    "strangers under a text": (text(scene(13)), text(scene(14))),
    "faint, with grain": (scene(15, deviation=2), scene(15, CROP, 2) + grain(2, 1.6)),
    "fainter, with grain": (scene(16, deviation=0.8), scene(16, deviation=0.8) + grain(3, 1.4)),
    "too faint": (scene(17, deviation=0.1), scene(17, deviation=0.1)),
    "on white": (on_white(18), on_white(18, NARROW)),
    "strangers on white": (on_white(19), on_white(18)),
    "erased": (FLAT[0], erased(FLAT[0])),
    "erased, with grain": (FLAT[1] + grain(8, 0.3), erased(FLAT[1])),
    "erased stranger": (FLAT[2], erased(FLAT[3])),
}
SCORES = {  # `scores`, `_score` at AT (hope, sure), `_either_way` without motion (hope, sure)
    "the same": (1.0000, 0.9246, 0.9246, 1.0000, 1.0000),
    "darker, with grain": (0.9965, 0.9163, 0.9163, 0.9965, 0.9965),
    "crop": (1.0000, 0.6172, 0.6172, 0.5275, 0.5275),
    "crop with a text": (0.9373, 0.7345, 0.7345, 0.7125, 0.7125),
    "crop with grain": (0.9802, 0.5062, 0.5062, 0.4821, 0.4821),
    "text": (0.9333, 0.8881, 0.8881, 0.9317, 0.9317),
    "two texts": (0.7635, 0.7339, 0.7339, 0.7634, 0.7634),
    "text on a faint one": (1.0000, 1.0000, 1.0000, 1.0000, 1.0000),
    "slid": (0.1161, 0.1294, 0.1294, 0.1161, 0.1161),
    "stretched": (0.7989, 0.7937, 0.7937, 0.7989, 0.7989),
    "strangers": (0.0000, 0.0000, 0.0000, 0.0000, 0.0000),
    "strangers under a text": (0.1691, 0.1669, 0.1669, 0.1691, 0.1691),
    "faint, with grain": (1.0000, 0.8598, 0.8598, 0.5997, 0.0000),
    "fainter, with grain": (1.0000, 1.0000, 1.0000, 1.0000, 1.0000),
    "too faint": (0.0000, 1.0000, 1.0000, 1.0000, 1.0000),
    "on white": (0.9180, 0.7080, 0.7080, 0.6773, 0.6773),
    "strangers on white": (0.7061, 0.6562, 0.6562, 0.7061, 0.7061),
    "erased": (1.0000, 1.0000, 1.0000, 1.0000, 1.0000),
    "erased, with grain": (0.5000, 1.0000, 1.0000, 1.0000, 0.0000),
    "erased stranger": (0.0000, 0.0000, 0.0000, 0.0000, 0.0000),
}
STEPS = {  # `_step` from AT, mean and deviation of `_robust` there
    "darker, with grain": (0.9994, 0.0006, 0.9985, 0.0021, 0.8240, 0.2156),
    "crop with a text": (0.9200, 0.0502, 0.9668, 0.0129, 0.7788, 0.2846),
    "crop with grain": (1.0400, -0.0198, 1.0700, -0.0481, 0.8172, 0.2270),
    "two texts": (1.0021, -0.0013, 0.9981, 0.0040, 0.7771, 0.2961),
    "slid": (0.9504, 0.0686, 0.9519, -0.0088, 0.8151, 0.2236),
    "strangers": (0.9928, 0.0636, 1.0293, -0.0403, 0.8353, 0.2049),
    "fainter, with grain": (1.0245, -0.0167, 0.9907, 0.0183, 0.8502, 0.2051),
    "on white": (0.9696, 0.0215, 0.9950, -0.0073, 0.8861, 0.2762),
}
AT = np.float32([[0.98, 0.01, 1.01, -0.02]])


@pytest.mark.parametrize("name", PAIRS)
def test_no_score_moves_unnoticed(name):
    """All thresholds were chosen by these scores; rounding moves them by less than 1e-4."""
    p, q = PAIRS[name]
    fine, _ = registration.scores(p, q)
    near = registration._score(p, q, AT, registration.THRESHOLDS)
    still = registration._either_way(p, q, registration.IDENTITY[None], registration.THRESHOLDS)
    assert np.concatenate([fine, *near, *still]) == pytest.approx(SCORES[name], abs=3e-4)


@pytest.mark.parametrize("name", STEPS)
def test_no_step_moves_unnoticed(name):
    p, q = PAIRS[name]
    weights = registration._robust(*registration.warp(p, AT)[:1], q, registration.warp(p, AT)[1], 2)
    found = [*registration._step(p, q, AT)[0], weights.mean(), weights.std()]
    assert found == pytest.approx(STEPS[name], abs=3e-4)


def test_a_batch_has_the_scores_of_its_pairs():
    p, q = (np.concatenate([pair[side] for pair in PAIRS.values()]) for side in (0, 1))
    for together, alone in zip(
        registration.scores(p, q),
        zip(*(registration.scores(*pair) for pair in PAIRS.values()), strict=True),
        strict=True,
    ):
        assert together == pytest.approx(np.concatenate(alone), abs=3e-4)
    best = registration.look(p, q)
    assert best == pytest.approx(np.maximum(*registration.scores(p, q)), abs=1e-6)


def test_a_picture_seen_through_a_pose_point_by_point():
    r = np.random.default_rng(0)
    p = r.uniform(0, 255, (3, 6, 6)).astype(np.float32)
    poses = np.float32([[1, 0, 1, 0], [0.8, 0.1, 0.9, 0.02], [1.3, -0.1, 1.0, 0.2]])
    seen, inside = registration.warp(p, poses)
    for k, (sy, ty, sx, tx) in enumerate(poses):
        for row, column in np.ndindex(6, 6):
            y, x = (row + 0.5) * sy + ty * 6 - 0.5, (column + 0.5) * sx + tx * 6 - 0.5
            assert inside[k, row, column] == (-0.51 < y < 5.51 and -0.51 < x < 5.51)
            y, x = min(max(y, 0), 5), min(max(x, 0), 5)
            y0, x0 = min(int(y), 4), min(int(x), 4)
            fy, fx = y - y0, x - x0
            above = p[k, y0, x0] * (1 - fx) + p[k, y0, x0 + 1] * fx
            below = p[k, y0 + 1, x0] * (1 - fx) + p[k, y0 + 1, x0 + 1] * fx
            assert seen[k, row, column] == pytest.approx(above * (1 - fy) + below * fy, abs=1e-3)


def test_the_weighted_fit_is_numpys():
    r = np.random.default_rng(0)
    v, q = r.normal(100, 30, (2, 4, 5, 5))
    w = r.random((4, 5, 5))
    correlation, gain, residual = registration._regress(v, q, w)
    for k in range(4):
        slope, offset = np.polyfit(v[k].ravel(), q[k].ravel(), 1, w=np.sqrt(w[k].ravel()))
        assert gain[k] == pytest.approx(slope)
        assert residual[k] == pytest.approx(q[k] - slope * v[k] - offset)
        both = np.cov(v[k].ravel(), q[k].ravel(), aweights=w[k].ravel(), ddof=0)
        assert correlation[k] == pytest.approx(both[0, 1] / np.sqrt(both[0, 0] * both[1, 1]))
        assert registration._spread(v, w)[k] == pytest.approx(both[0, 0])


@pytest.mark.parametrize(
    ("pose", "tight", "loose"),
    [
        ((1, 0, 1, 0), True, True),
        ((0.9, 0.05, 0.9, 0.0), True, True),  # inside the other
        ((1.1, -0.05, 1.1, -0.1), True, True),  # the other inside it
        ((1, 0.02, 1, -0.02), True, True),  # slid, but by little
        ((1, 0.05, 1, 0), False, True),
        ((1, 0, 1, -0.07), False, True),
        ((1, 0.09, 1, 0), False, False),
        ((1, 0, 1, -0.09), False, False),
        ((0.9, 0, 0.95, 0), True, True),  # a shape 1.056 times as wide
        ((0.9, 0, 0.96, 0), False, True),  # 1.067 times
        ((0.96, 0, 0.9, 0), False, True),
        ((0.9, 0, 1.05, 0), False, True),
        ((0.85, 0.1, 1.0, 0), False, False),  # 1.18 times
        ((0.98, 0.04, 0.98, 0), True, True),  # ends at 1.02
        ((0.98, 0.06, 0.98, 0), False, True),
        ((1.04, 0.01, 1.04, -0.02), True, True),  # covers 0.01 to 1.05
        ((1.04, 0.04, 1.04, -0.02), False, True),
    ],
)
def test_which_poses_are_those_of_a_copy(pose, tight, loose):
    found = registration._plausible(np.float32([pose] * 2), np.array([False, True]))
    assert found.tolist() == [tight, loose]


ERASED = [  # how much of a stranger, grey levels lighter, score
    (0, 0, 0.9357),
    (0, 0.9, 0.9357),
    (0, 1.1, 0.0000),
    (0.5, 0, 0.8207),
    (1, 0, 0.6459),
    (1.1, 0, 0.6133),
    (1.2, 0, 0.0000),
]


@pytest.mark.parametrize(("share", "lighter", "score"), ERASED)
def test_no_score_of_coarse_structure_moves_unnoticed(share, lighter, score):
    whole, limits = FLAT[0], registration.Thresholds(coarse_left=0.95)
    left = erased(whole + np.float32(share) * (FLAT[3] - 110)) + np.float32(lighter)
    for pair in ((whole, left), (left, whole)):
        assert registration._erased_score(*pair, limits) == pytest.approx([score], abs=3e-4)
    assert registration._erased_score(left, left, limits) == 0  # two erased ones agree by chance
    assert registration._erased_score(whole * 8 - 770, left * 8 - 770, limits) == 0  # not flat
    assert registration.scores(whole, left, limits)[1] == pytest.approx([score], abs=3e-4)


def test_no_pair_has_no_score():
    none = np.zeros((0, 32, 32), np.float32)
    assert [x.shape for x in registration.scores(none, none)] == [(0,), (0,)]


def test_a_pose_stays_within_what_is_searched():
    """Of the centre, 0.12 of the side; of the size, 0.85 to 1.18."""

    def hill(y: float, wide: float) -> np.ndarray:
        there = (SEEN[:, None] - y) ** 2 + (SEEN - 0.5) ** 2
        return np.float32(100 + 90 * np.exp(-there / wide**2 / 2))[None]

    for q, found in (((0.75, 0.2), -0.12), ((0.25, 0.2), 0.12)):
        pose = registration.IDENTITY[None]
        for _ in range(12):
            pose = registration._step(hill(0.5, 0.2), hill(*q), pose)
        assert pose[0, 1] + (pose[0, 0] - 1) / 2 == pytest.approx(found, abs=1e-4)
    for wide, found in ((0.35, 0.85), (0.1, 1.18)):
        pose = registration.IDENTITY[None]
        for _ in range(12):
            pose = registration._step(hill(0.5, 0.2), hill(0.5, wide), pose)
        assert pose[0, ::2] == pytest.approx([found, found], abs=1e-4)


def test_coarse_structure_needs_two_flat_pictures():
    rough = FLAT[0] + np.float32(30) * (FLAT[0] - FLAT[0].mean())
    for pair in ((erased(FLAT[0]), rough), (rough, erased(FLAT[0]))):
        assert registration._erased_score(*pair) == 0


def test_what_is_sure_is_not_looked_at_twice(monkeypatch):
    looked, real = [], registration._one_way
    monkeypatch.setattr(
        registration, "_one_way", lambda p, q, limits: looked.append(len(p)) or real(p, q, limits)
    )
    some = ("the same", "two texts", "strangers")  # sure by fine structure, in doubt, in doubt
    registration.scores(*(np.concatenate([PAIRS[name][k] for name in some]) for k in (0, 1)))
    assert looked == [3, 2]


def test_a_pose_may_be_loose_where_both_pictures_lie_on_light_ground():
    p, pose = on_white(18), (1, 0.05, 1, 0)
    for light in (1, 0.6):
        q = np.float32(light) * on_white(18, pose)
        for one, other, shift in ((p, q, 0.05), (q, p, -0.05)):
            way = np.float32([[1, shift, 1, 0]])
            found = registration._score(one, other, way, registration.THRESHOLDS)[0]
            assert (found > 0.8).tolist() == [light == 1]


def test_a_quarter_of_a_copy_may_be_covered():
    p = scene(1)
    for rows, found in ((8, 0.6968), (9, 0)):
        q = p.copy()
        q[:, :rows] = np.random.default_rng(0).choice([0, 255], (rows, 32))
        score = registration._score(p, q, registration.IDENTITY[None], registration.THRESHOLDS)[0]
        assert score == pytest.approx([found], abs=3e-4)
