"""rs5m.dedup: exactness against brute force, near-copies of textures, orientations, leaks."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter
from textures import jpeg, texture

from rs5m import dedup
from rs5m.dedup import clusters, copies, hamming, registration, structure

pytestmark = pytest.mark.slow  # it registers many pictures


def caption(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).text((4, image.height - 14), "(c) 2020", fill="white")
    return image


def crop(image: Image.Image, x: float, y: float, share: float = 0.95) -> Image.Image:
    w, h = image.size
    return image.crop((round(x * w), round(y * h), round((x + share) * w), round((y + share) * h)))


COPIES = {
    "jpeg": lambda i: jpeg(i, 30),
    "resize": lambda i: i.resize((i.width // 2, i.height // 2), Image.Resampling.BICUBIC),
    "crop": lambda i: crop(i, 0.04, 0.01),
    "border": lambda i: crop(i, 0.05, 0.05, 0.9),
    "bright": lambda i: ImageEnhance.Brightness(i).enhance(0.7),
    "text": caption,
}


def test_exact_groups_equal_bytes_only():
    assert dedup.exact([b"a", b"b", b"a", b"", b""]).tolist() == [0, 1, 0, 3, 3]
    assert dedup.exact(["x1", "x2", "x1"]).tolist() == [0, 1, 0]
    assert dedup.exact([]).tolist() == []


@pytest.mark.parametrize("kind", COPIES)
def test_groups_finds_each_kind_and_nothing_else(kind):
    images = [texture(k) for k in range(60)]
    ids = dedup.groups(dedup.signatures(images + [COPIES[kind](i) for i in images[:30]]))
    assert ids[:60].tolist() == list(range(60)) and ids[60:].tolist() == list(range(30))


def test_flat_pictures_are_not_copies_of_each_other():
    r = np.random.default_rng(0)
    seas = [
        Image.fromarray(
            np.clip(60 + gaussian_filter(r.normal(size=(64, 64)), 2)[..., None] * 24, 0, 255)
            .astype(np.uint8)
            .repeat(3, 2)
        )
        for _ in range(80)
    ]
    ids = dedup.groups(dedup.signatures(seas + [jpeg(s, 90) for s in seas[:20]]))
    assert ids[:80].tolist() == list(range(80)) and (ids[80:] == np.arange(20)).mean() >= 0.95


def sea(seed: int, deviation: float, size: int = 64, smooth: float = 2.0) -> Image.Image:
    """A nearly flat picture: smooth noise of a small deviation, in grey levels."""
    waves = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), smooth)
    grey = 60 + deviation * waves / waves.std()
    return Image.fromarray(np.clip(grey.round(), 0, 255).astype(np.uint8)[..., None].repeat(3, 2))


def test_an_empty_look():
    none = np.zeros((0, 32, 32), np.float32)
    assert registration.look(none, none).shape == (0,)
    image = np.zeros((8, 8, 3), np.uint8)
    red, green = image + np.uint8([90, 0, 0]), image + np.uint8([0, 90, 0])  # no pair has a colour
    assert dedup.scored_pairs(dedup.signatures([red, green]), max_distance=64).empty


def test_a_text_on_a_flat_picture_is_found():
    seas = [sea(k, 0.6) for k in range(40)]
    pairs = dedup.scored_pairs(dedup.signatures(seas + [jpeg(caption(s), 92) for s in seas[:20]]))
    pairs = pairs[pairs.score >= dedup.MIN_SCORE]
    own = pairs.j - 40 == pairs.i
    assert own.sum() >= 19 and (~own).sum() <= 1  # two copies with the same text at the same place


def test_coarse_structure_finds_what_jpeg_has_erased():
    """Quality 30 leaves the means of blocks: enough to tell seas apart if those differ, and no copy
    of another sea.
    """
    seas = [sea(k, 1.2, smooth=3) for k in range(60)]
    copies = [jpeg(s, 30) for s in seas[:30]]
    before, after = (dedup.signatures(x)["thumb"].astype(np.float32) for x in (seas[:30], copies))
    assert (registration._erased_score(before, after) >= dedup.MIN_SCORE).mean() > 0.7
    assert (registration._erased_score(before, np.roll(after, 1, 0)) < dedup.MIN_SCORE).all()
    assert (
        registration._erased_score(before, before) == 0
    ).all()  # nothing is erased: that is left to fine structure
    pairs = dedup.leaks(seas, copies, orientations=False)
    own = pairs.test == pairs.train
    assert own.sum() >= 24 and (~own).sum() <= 1


def test_pictures_without_structure_are_never_copies():
    """Rounding errors agree by chance."""
    r = np.random.default_rng(0)
    plain = [Image.new("RGB", (64, 64), (230, 231, 232)) for _ in range(5)]
    noise = [
        Image.fromarray(np.uint8(230 + (r.random((64, 64, 1)) < 0.05).repeat(3, 2)))
        for _ in range(20)
    ]
    images = plain + noise + noise
    assert dedup.groups(dedup.signatures(images), orientations=True).tolist() == list(
        range(len(images))
    )
    assert len(dedup.leaks(images[::2], images[1::2])) == 0


def test_small_chips_seldom_agree_by_chance():
    """Few independent pixels make a high correlation likely: 90,000 comparisons of random chips,
    each of 15 pixels.
    """
    r = np.random.default_rng(0)
    chips = [np.uint8(228 + r.integers(0, 4, (15, 15, 1)).repeat(3, 2)) for _ in range(150)]
    pairs = dedup.scored_pairs(dedup.signatures(chips), orientations=True)
    assert (pairs.score >= dedup.MIN_SCORE).sum() <= 12


def test_chance_is_the_correlation_at_wrong_shifts():
    r = np.random.default_rng(0)
    rough = r.normal(size=(2, 30, 32, 32)).astype(np.float32)
    smooth = gaussian_filter(rough, (0, 0, 3, 3), mode="wrap")
    whole = np.ones((30, 32, 32), np.float32)
    assert np.median(structure.chance(*rough, whole)) == pytest.approx(1 / 32, rel=0.1)
    assert np.median(structure.chance(*smooth, whole)) > 0.15


def test_brightened_until_cut_off_is_the_same_colour():
    colour = np.float32([[[230, 172, 155]] * 2])
    assert copies._same_colour(colour, np.minimum(1.3 * colour, 250)).all()
    assert copies._same_colour(np.minimum(1.3 * colour, 250), colour).all()
    assert not copies._same_colour(colour, np.float32([[[230, 130, 155]] * 2])).any()


def test_a_slid_window_is_no_copy():
    """Two pictures of one place that share three quarters are different pictures."""
    scene = texture(5, 256)
    parts = [scene.crop((x, 0, x + 160, 160)) for x in (0, 40)]
    assert dedup.groups(dedup.signatures(parts)).tolist() == [0, 1]


def test_orientations():
    images = [texture(k) for k in range(12)]
    turned = [
        Image.fromarray(dedup.orient(np.asarray(i)[None, ..., 0], k % 8)[0])
        for k, i in enumerate(images)
    ]
    plain = [Image.fromarray(np.asarray(i)[..., 0]) for i in images]
    s = dedup.signatures(plain + turned)
    assert dedup.groups(s, orientations=True).tolist() == [*range(12), *range(12)]
    assert dedup.groups(s)[12:].tolist() == [k - 12 if k % 8 == 4 else k for k in range(12, 24)]


def test_leaks_names_the_pair_and_its_orientation():
    train, test = [texture(k) for k in range(30)], [texture(100 + k) for k in range(10)]
    test[3] = jpeg(train[7].transpose(Image.Transpose.ROTATE_90), 60)
    test[5] = crop(train[2], 0.02, 0.02)
    found = dedup.leaks(train, test)
    assert found[["test", "train"]].to_numpy().tolist() == [[3, 7], [5, 2]]
    assert (found.orientation != 0).tolist() == [True, False] and (
        found.score >= dedup.MIN_SCORE
    ).all()
    assert found.distance.between(0, 12).all()
    assert dedup.leaks(train, test, orientations=False).test.tolist() == [5]
    assert len(dedup.leaks(train, [])) == 0 and len(dedup.leaks([], test)) == 0


def test_keep_largest():
    groups, pixels = [0, 0, 2, 2, 2, 5], [100, 400, 9, 9, 9, 1]
    row, size = [10, 11, 15, 14, 13, 16], [0, 0, 7, 8, 8, 0]
    largest = [False, True, False, False, True, True]
    assert dedup.keep_largest(groups, pixels, row, size).tolist() == largest
    assert dedup.keep_largest(groups, pixels, row).tolist() == largest
    assert dedup.keep_largest([], [], []).tolist() == []


def test_threshold_curve():
    curve = dedup.threshold_curve([1, 3, 5, 9], [True, True, False, True], 4, [0, 3, 5])
    assert curve.pairs.tolist() == [0, 2, 3] and curve.recall.tolist() == [0, 0.5, 0.5]
    assert curve.precision.tolist() == [1, 1, pytest.approx(2 / 3)]
    assert dedup.threshold_curve(
        [0.9, 0.2], [True, False], 1, [0.5], larger=True
    ).precision.tolist() == [1]
    with pytest.raises(ValueError, match="one truth per pair"):
        dedup.threshold_curve([1], [], 1, [0])


def real_images(count: int):
    folder = Path(
        os.environ.get("RS5M_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
    )
    if not (folder / "eurosat_rgb.zip").exists():
        pytest.skip("no eurosat_rgb.zip: set RS5M_DATA to its folder")
    with zipfile.ZipFile(folder / "eurosat_rgb.zip") as z:
        names = sorted(n for n in z.namelist() if n.endswith(".jpg"))[:: 27000 // count]
        return [Image.open(io.BytesIO(z.read(n))).convert("RGB") for n in names]


@pytest.mark.slow
def test_real_images():
    images = [i for i in real_images(1500) if np.asarray(i.convert("L")).std() >= 3]
    kinds = list(COPIES)
    copies = [COPIES[kinds[k % 6]](i) for k, i in enumerate(images[:300])]
    pairs = dedup.scored_pairs(dedup.signatures(images + copies))
    pairs = pairs[pairs.score >= dedup.MIN_SCORE]
    true = (pairs.j - len(images) == pairs.i).sum()
    assert true / 300 >= 0.98 and true / len(pairs) >= 0.98


def drawn(seed: int, side: int = 240) -> Image.Image:
    """A few polygons and a disc on white, as clip-art has, over a footer that all share."""
    r = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        corners = r.uniform(0.25, 0.7, (4, 2)) * side
        draw.polygon([tuple(c) for c in corners], fill=tuple(map(int, r.integers(0, 200, 3))))
    x, y = r.uniform(0.25, 0.5, 2) * side
    draw.ellipse(
        (x, y, x + 0.2 * side, y + 0.25 * side), fill=tuple(map(int, r.integers(0, 200, 3)))
    )
    draw.text((6, side - 12), f"agency.example {seed:08d}", fill=(90, 90, 90))
    return image


PLAIN_COPIES = {
    "jpeg": COPIES["jpeg"],
    "resize": COPIES["resize"],
    "crop": COPIES["crop"],
    "grey": lambda i: i.convert("L").convert("RGB"),
    "frame": lambda i: ImageOps.expand(i, 12, "black"),
    "text": lambda i: caption(i),
}


def sold(image: Image.Image, number: int) -> Image.Image:
    """A picture under a stock agency's pale watermark, over its footer line."""
    image = image.convert("RGB")
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for y in range(20, height - 30, 50):
        for x in range(0, width, 90):
            draw.text((x, y), "STOCKPIC", fill=(215, 215, 215))
    draw.rectangle((0, height - 16, width, height), fill=(30, 30, 30))
    draw.text((6, height - 14), f"stockpic.example {100_000 + 7919 * number}", fill="white")
    return image


def test_strangers_on_white_are_no_copies():
    pictures = [sold(drawn(k), k) for k in range(60)]
    pictures += [disc(c) for c in ("navy", "maroon", "green")]
    pairs = dedup.scored_pairs(dedup.signatures(pictures))
    assert not (pairs.score >= dedup.MIN_SCORE).any()


def disc(colour: str) -> Image.Image:
    """One plain disc, of its own proportions."""
    image = Image.new("RGB", (240, 240), "white")
    wide = {"navy": 150, "maroon": 90, "green": 60}[colour]
    ImageDraw.Draw(image).ellipse((40, 80, 40 + wide, 160), fill=colour)
    return image


@pytest.mark.parametrize("kind", PLAIN_COPIES)
def test_copies_on_white_are_found(kind):
    originals = [drawn(k) for k in range(20)]
    pictures = originals + [PLAIN_COPIES[kind](i) for i in originals]
    ids = dedup.groups(dedup.signatures(pictures))
    assert ids[20:].tolist() == list(range(20))


def test_a_frame_adds_no_candidates():
    framed = [ImageOps.expand(texture(k), 40, "white") for k in range(40)]
    assert len(dedup.scored_pairs(dedup.signatures(framed))) <= 2
    ids = dedup.groups(dedup.signatures([texture(k) for k in range(40)] + framed))
    assert ids[40:].tolist() == list(range(40))  # the picture alone is compared


def linked(*edges) -> pd.DataFrame:
    """`scored_pairs` of the given (i, j, score)."""
    table = pd.DataFrame(edges, columns=["i", "j", "score"])
    return table.assign(
        distance=[4 + 10 * (k == 0) for k in range(len(edges))], orientation=0, road=0
    )


def test_sides_equals_taking_each_edge_out():
    r = np.random.default_rng(0)
    for _ in range(40):
        n = int(r.integers(2, 14))
        i, j = np.triu_indices(n, 1)
        some = r.random(len(i)) < 1.6 / n
        i, j = i[some], j[some]
        ids = hamming.components(n, i, j)
        for k, side in enumerate(clusters.sides(n, i, j)):
            rest = np.arange(len(i)) != k
            parts = hamming.components(n, i[rest], j[rest])[ids == ids[i[k]]]
            sizes = np.unique(parts, return_counts=True)[1]
            assert side == (0 if len(sizes) == 1 else sizes.min())
    assert len(clusters.sides(0, i[:0], j[:0])) == 0


def test_one_weak_link_does_not_join_two_groups():
    groups = [(0, 1, 0.95), (0, 2, 0.9), (1, 2, 0.8), (3, 4, 0.97)]
    weak, strong = (2, 3, 0.8), (2, 3, 0.95)
    assert dedup.groups_of(linked(*groups, weak), 6).tolist() == [0, 0, 0, 3, 3, 5]
    assert dedup.groups_of(linked(*groups, strong), 6).tolist() == [0, 0, 0, 0, 0, 5]
    second = (1, 4, 0.8)  # two pairs hold them together
    assert dedup.groups_of(linked(*groups, weak, second), 6).tolist() == [0, 0, 0, 0, 0, 5]
    assert dedup.groups_of(linked(weak), 6).tolist() == [0, 1, 2, 2, 4, 5]  # a pair is no group
    assert dedup.groups_of(linked(*groups, (2, 5, 0.8)), 6).tolist() == [0, 0, 0, 3, 3, 0]
    assert dedup.groups_of(linked(*groups, weak), 6, 0.9).tolist() == [0, 0, 0, 3, 3, 5]


def test_a_chain_of_weak_links_falls_apart():
    chain = linked(*((k, k + 1, 0.8) for k in range(9)))
    assert np.unique(dedup.groups_of(chain, 10), return_counts=True)[1].max() == 2


def test_explain_names_pairs_scores_and_cuts():
    pairs = linked((0, 1, 0.95), (2, 3, 0.97), (1, 2, 0.8), (4, 5, 0.9), (0, 4, 0.3))
    table = dedup.explain(pairs, 1, 6, names=list("abcdef"))
    assert table[["first", "second", "score"]].to_numpy().tolist() == [
        ["a", "b", 0.95],
        ["b", "c", 0.8],
    ]
    assert table.outcome.tolist() == ["joined", "cut: the only link, and weak"]
    assert table.proposed.tolist() == ["correlation", "hash"] and table.distance.tolist() == [14, 4]
    assert "b" in table.to_string() and dedup.explain(pairs, 5, 6)["first"].tolist() == [4]
    assert dedup.explain(pairs.iloc[:0], 0, 6).empty
    every = dedup.links(pairs, 6)
    assert every[["first", "second"]].to_numpy().tolist() == [[0, 1], [2, 3], [1, 2], [4, 5]]
    assert (every.outcome != "joined").tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="one of 6 pictures"):
        dedup.explain(pairs, 6, 6)


def test_the_road_of_a_score():
    pictures = [texture(0), jpeg(texture(0), 40), drawn(1), jpeg(drawn(1), 40)]
    seas = [sea(k, 1.2, smooth=3) for k in range(12)]
    pictures += seas + [jpeg(s, 30) for s in seas]
    pairs = dedup.scored_pairs(dedup.signatures(pictures))
    road = {
        (p.i, p.j): dedup.ROADS[p.road] for p in pairs[pairs.score >= dedup.MIN_SCORE].itertuples()
    }
    assert road[0, 1] == "fine structure" and road[2, 3] == "fine structure of the subject"
    assert "coarse structure" in {road.get((4 + k, 16 + k)) for k in range(12)}


# ---------------------------------------------------------------- against plain twins


def same_colour(a, b) -> bool:
    """`copies._same_colour` of one pair, channel by channel."""
    if sum(map(sum, a)) > sum(map(sum, b)):
        a, b = b, a
    agree = []
    for one, two in zip(a, b, strict=True):
        whole = [max(x, y) < copies.CUT for x, y in zip(one, two, strict=True)]
        ratios = [(y + 1) / (x + 1) for x, y, w in zip(one, two, whole, strict=True) if w]
        ratio = sum(ratios) / max(len(ratios), 1)
        near = [
            abs(y - ratio * x) < max(0.08 * ratio * x, 2) for x, y in zip(one, two, strict=True)
        ]
        agree.append(all(n or not w for n, w in zip(near, whole, strict=True)))
    return any(agree)


def test_colours_are_compared_channel_by_channel():
    r = np.random.default_rng(0)
    a = r.integers(0, 256, (4000, 2, 3)).astype(np.float32)
    b = a * r.uniform(0.6, 1.5, (4000, 1, 1)) * r.uniform(0.85, 1.15, (4000, 2, 3))
    a[:500], b[:500] = a[:500] / 20, a[:500] / 20 + r.integers(-3, 4, (500, 2, 3))  # dark ones
    b = np.clip(b, 0, 255).astype(np.float32)
    expected = [same_colour(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert 400 < sum(expected) < 3600 and 50 < sum(expected[:500]) < 450
    assert (copies._same_colour(a, b) == expected).mean() > 0.999  # float32 on the boundary


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ([100, 100, 100], [100, 100, 108], True),  # ratio 1.026: 8 % below it, and 5 % above
        ([100, 100, 100], [100, 100, 115], False),
        ([10, 10, 10], [10, 10, 12], True),  # within two levels
        ([10, 10, 10], [10, 10, 14], False),
        ([150, 150, 224], [150, 150, 100], False),
        ([150, 150, 225], [150, 150, 100], True),  # a channel that may be cut off
        ([225, 225, 225], [100, 20, 60], True),  # nothing is left to compare
    ],
)
def test_which_colours_are_the_same(one, two, same):
    a, b = (np.float32([[c, c]]) for c in (one, two))
    assert copies._same_colour(a, b).tolist() == copies._same_colour(b, a).tolist() == [same]
    other = np.float32([[two, [1, 90, 200]]])  # mean or median will do
    assert copies._same_colour(a, other).tolist() == [same]


def test_which_pictures_are_grey():
    colours = np.float32([[[5, 5, 5], [9, 9, 9.9]], [[5, 5, 5], [9, 9, 10]], [[4, 5, 5], [9] * 3]])
    assert copies._grey(colours).tolist() == [True, False, False]


def test_edges_as_numbers():
    i, j = np.array([0, 3, 2, 1]), np.array([1, 0, 2, 3])

    def numbers(how, same):
        return [x.tolist() for x in copies._numbers([(i, j)], how, same, 5)]

    assert numbers(0, True) == numbers(4, True) == [[1, 3, 8]]  # either way round
    assert numbers(1, True) == [[1, 15, 8]]  # a quarter turn has a direction
    assert numbers(0, False) == numbers(1, False) == [[1, 15, 12, 8]]
    parts = [np.array([k % 7, k % 5, 3]) for k in range(450)]
    assert copies._distinct(parts).tolist() == list(range(7))
    assert copies._distinct([]).tolist() == []


@pytest.mark.parametrize("how", [0, 1, 4, 6])
def test_the_distance_is_the_smallest_over_the_windows(how):
    a, b = (dedup.signatures([texture(k) for k in some]) for some in (range(4), range(2, 7)))
    turned = hashes_of(a, how)
    n = len(copies.CROPS)
    i, j = (x.ravel() for x in np.indices((4, 5)))
    for one, two, found in zip(i, j, copies._distance(a, b, i, j, how), strict=True):
        x, y = [int(h) for h in turned[one]], [int(h) for h in b["hash"][two]]
        bits = [(x[0] ^ y[k]).bit_count() for k in range(n)]
        bits += [(x[k] ^ y[0]).bit_count() for k in range(n)]
        bits += [(x[k] ^ y[k]).bit_count() for k in range(n, len(x))]
        assert found == min(bits)


def hashes_of(a: dict, how: int) -> np.ndarray:
    return a["hash"] if how == 0 else copies.window_hashes(copies.orient(a["thumb"][:], how))


@pytest.fixture(scope="module")
def mixed() -> list[Image.Image]:
    """Copies, turned ones, ones in other colours, drawings and flat pictures."""
    images = [texture(k) for k in range(3)]
    images += [jpeg(images[0].transpose(Image.Transpose.ROTATE_90), 80), crop(images[1], 0.02, 0)]
    images += [Image.fromarray(np.asarray(images[2])[..., [2, 0, 1]]), images[2].convert("L")]
    images += [drawn(1), Image.fromarray(np.asarray(drawn(1))[..., [1, 2, 0]]), drawn(2)]
    return [image.convert("RGB") for image in images] + [sea(0, 1.2, smooth=3)]


def looked(a: dict, b: dict, how: int) -> dict[tuple[int, int], tuple[float, int]]:
    """Score and road of every pair in one orientation, by the rules written down."""
    pairs = np.stack(np.indices((len(a["thumb"]), len(b["thumb"])))).reshape(2, -1)
    p = copies.orient(a["thumb"], how).astype(np.float32)[pairs[0]]
    q = b["thumb"].astype(np.float32)[pairs[1]]
    found, subject = {}, structure.isolated(p) & structure.isolated(q)
    scores = registration.scores(p, q)
    for one, two, drawing, fine, coarse in zip(*pairs.tolist(), subject, *scores, strict=True):
        colours = a["colour"][one], b["colour"][two]
        near = same_colour(*(c.tolist() for c in colours))
        if near or drawing or any(np.ptp(c, axis=1).max() < 1 for c in colours):
            score = max(fine, coarse) * (1 if near else 0.79)
            found[one, two] = score, 2 if coarse > fine else int(drawing)
    return found


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("alone", [True, False])
def test_every_pair_has_the_score_that_it_has_alone(mixed, turned, alone):
    a = dedup.signatures(mixed[:6] if turned else mixed)
    b = a if alone else dedup.signatures([*mixed[3:5], mixed[7], texture(0)])
    found = dedup.scored_pairs(a, None if alone else b, 64, turned)
    expected = {}
    for how in range(8 if turned else 1):
        for (one, two), score in looked(a, b, how).items():
            pair = (min(one, two), max(one, two)) if alone else (one, two)
            if (one != two or not alone) and score > expected.get(pair, (-1, 0)):
                expected[pair] = score
    assert list(zip(found.i, found.j, strict=True)) == sorted(expected)
    scores, roads = zip(*(score for _, score in sorted(expected.items())), strict=True)
    assert found.score.tolist() == pytest.approx(scores, abs=2e-3)
    sure = found.score > 0.5
    assert sure.sum() >= 2 and (found.road[sure] == np.array(roads)[sure]).all()
    assert found.dtypes.to_dict() == {k: np.dtype(v) for k, v in copies.COLUMNS.items()}


def test_the_lowest_score_that_is_handed_back(mixed, tmp_path):
    a = dedup.signatures(mixed)
    every = dedup.scored_pairs(a, max_distance=64)
    least = float(np.sort(every.score)[-4])  # it stays itself
    some = dedup.scored_pairs(a, max_distance=64, least=least)
    assert some.to_dict() == every[every.score >= least].reset_index(drop=True).to_dict()
    assert len(some) == 4
    ids = dedup.groups(a, min_score=least)
    assert ids.tolist() == dedup.groups(a, min_score=least, folder=tmp_path).tolist()


def test_leaks_are_sorted_by_test_image_best_first(mixed):
    same = [texture(0), texture(0), texture(1)]
    found = dedup.leaks([*same, crop(texture(1), 0.02, 0)], same[::-1])
    assert found[["test", "train"]].to_numpy().tolist() == [
        [0, 2], [0, 3], [1, 0], [1, 1], [2, 0], [2, 1]
    ]  # fmt: skip
    assert list(found) == ["test", "train", "distance", "orientation", "score"]
    assert found.index.tolist() == list(range(6)) and not found.orientation.any()
    exact = dedup.leaks(same, same, min_score=1.0)
    assert len(exact) == 5 and (exact.score == 1).all()


def test_no_candidate_makes_no_row():
    one = dedup.signatures([texture(0)])
    for table in (dedup.scored_pairs(one), dedup.scored_pairs(one, dedup.signatures([]))):
        assert table.empty and table.dtypes.to_dict() == {
            k: np.dtype(v) for k, v in copies.COLUMNS.items()
        }
    assert dedup.groups(one).tolist() == [0] and dedup.leaks([], []).empty


def test_of_equal_scores_the_first_orientation_is_named():
    half = np.random.default_rng(0).integers(0, 256, (8, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    same = np.concatenate([half, half[:, ::-1]], 1)  # its own mirror image
    found = dedup.scored_pairs(dedup.signatures([same, same]), orientations=True)
    assert found[["i", "j", "score", "orientation"]].to_numpy().tolist() == [[0, 1, 1, 0]]
