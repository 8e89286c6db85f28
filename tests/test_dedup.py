"""rs5m.dedup: exactness against brute force, near-copies of textures, orientations, leaks."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from scipy.ndimage import gaussian_filter

from rs5m import dedup, hamming


def texture(seed: int, size: int = 128) -> Image.Image:
    """A coloured random texture with structure at several scales, as a landscape has."""
    r = np.random.default_rng(seed)
    grey = sum(gaussian_filter(r.normal(size=(size, size)), s) * s for s in (1, 3, 8, 20))
    grey = (grey - grey.mean()) / grey.std()
    tint = r.uniform(0.7, 1.0, 3)
    return Image.fromarray(np.clip((110 + 35 * grey)[..., None] * tint, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


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


def brute(hashes, distance):
    """The slow twin of near_duplicates: all pairs, then labels lowered until nothing changes."""
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    ids = np.arange(len(hashes))
    while True:
        lower = np.array([ids[row].min() for row in near])
        lower = np.minimum(lower, ids)
        if (lower == ids).all():
            return ids
        ids = lower


def clustered(n, seed, flips):
    """Random hashes, half of them a few flipped bits from another one, some equal."""
    r = np.random.default_rng(seed)
    hashes = r.integers(0, 2**64, n, dtype=np.uint64)
    for k in range(n // 2):
        bits = r.choice(64, r.integers(0, flips + 1), replace=False).astype(np.uint64)
        hashes[k] = hashes[r.integers(n)] ^ np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0))
    return hashes


def test_exact_groups_equal_bytes_only():
    assert dedup.exact([b"a", b"b", b"a", b"", b""]).tolist() == [0, 1, 0, 3, 3]
    assert dedup.exact(["x1", "x2", "x1"]).tolist() == [0, 1, 0]
    assert dedup.exact([]).tolist() == []


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8, 10, 12, 16])
def test_near_duplicates_equals_brute_force(distance):
    hashes = clustered(400, distance, 2 * distance + 1)
    assert (dedup.near_duplicates(hashes, distance) == brute(hashes, distance)).all()


@pytest.mark.parametrize("bands", [3, 4, 5, 8, 16])
@pytest.mark.parametrize("distance", [1, 4, 7, 11])
def test_banded_search_misses_no_pair(monkeypatch, bands, distance):
    """Every number of bands finds what comparing all pairs finds, within one set and between two."""
    monkeypatch.setattr(hamming, "_plan", lambda *a: bands)
    a, b = clustered(150, 1, distance + 2), clustered(120, 2, distance + 2)
    b[:40] = a[:40] ^ np.uint64(0b10110001 if distance >= 4 else 1)
    near = np.bitwise_count(a[:, None] ^ b[None]) <= distance
    found = {(int(x), int(y)) for i, j in hamming.hash_pairs(a, b, distance) for x, y in zip(i, j, strict=True)}
    assert found == set(zip(*(x.tolist() for x in np.nonzero(near)), strict=True))
    assert near.sum() >= 40
    near = np.triu(np.bitwise_count(a[:, None] ^ a[None]) <= distance, 1)
    found = {
        tuple(sorted((int(x), int(y))))
        for i, j in hamming.hash_pairs(a, a, distance)
        for x, y in zip(i, j, strict=True)
        if x != y
    }
    assert found == set(zip(*(x.tolist() for x in np.nonzero(near)), strict=True))


def test_expand_splits_without_loss():
    r = np.random.default_rng(0)
    i, start, count = np.arange(50), r.integers(0, 1000, 50), r.integers(1, 40, 50)
    pieces = list(hamming._expand(i, start, count, limit=60))
    assert len(pieces) > 5
    want = [(k, s + t) for k, s, c in zip(i, start, count, strict=True) for t in range(c)]
    assert list(zip(*(np.concatenate(x).tolist() for x in zip(*pieces, strict=True)), strict=True)) == want


def test_merge_in_pieces_equals_at_once():
    r = np.random.default_rng(0)
    i, j = r.integers(0, 300, (2, 200))
    pieces = [(i[k : k + 7], j[k : k + 7]) for k in range(0, 200, 7)]
    assert (hamming.merge(300, pieces, limit=20) == hamming.components(300, i, j)).all()


def test_equal_hashes_do_not_explode():
    hashes = np.zeros(200_000, np.uint64)
    hashes[:3] = [2**63, 2**62 + 2**50, 0xFFFF]
    ids = dedup.near_duplicates(hashes, 4)
    assert ids[:5].tolist() == [0, 0, 2, 0, 0] and set(ids.tolist()) == {0, 2}


def test_hash_input_is_checked():
    with pytest.raises(ValueError, match="uint64"):
        dedup.near_duplicates(np.zeros(3), 4)
    with pytest.raises(ValueError, match="bits is 100"):
        dedup.image_hash([texture(0)], bits=100)
    assert dedup.near_duplicates(np.zeros(0, np.uint64), 4).shape == (0,)


def test_image_hash_equals_a_plain_dct():
    from scipy.fft import dctn

    image = np.asarray(texture(3, 64).convert("L"))
    thumb = dedup.thumbnail(image)[0].astype(np.float32)
    want = dctn(thumb)[:8, :8] > 0
    want[0, 0] = False
    got = dedup.image_hash([image])[0]
    assert got.dtype == np.uint64
    bits = np.unpackbits(np.array([got], ">u8").view(np.uint8))
    assert (bits == want.ravel()).mean() > 0.98  # not all: cosines are integrated over pixels, not sampled
    assert dedup.image_hash([image], bits=256).shape == (1, 4)
    assert dedup.image_hash([np.full((40, 40), 7, np.uint8)])[0] == 0
    assert dedup.image_hash([]).shape == (0,)


def test_image_hash_separates():
    images = [texture(k) for k in range(20)]
    distance = np.bitwise_count(dedup.image_hash(images) ^ dedup.image_hash([jpeg(i, 30) for i in images]))
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


def test_windows_keep_under_orientations():
    """The set of windows maps onto itself, so that an oriented picture has the same set of crops."""
    for windows in (dedup.CROPS, dedup.HALVES):
        known = {tuple(np.round(w, 6)) for w in windows}
        assert {tuple(np.round((x0, x1, y0, y1), 6)) for y0, y1, x0, x1 in windows} == known
        assert {tuple(np.round((1 - y1, 1 - y0, x0, x1), 6)) for y0, y1, x0, x1 in windows} == known


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


def test_a_slid_window_is_no_copy():
    """Two pictures of one place that share three quarters are different pictures."""
    scene = texture(5, 256)
    parts = [scene.crop((x, 0, x + 160, 160)) for x in (0, 40)]
    assert dedup.groups(dedup.signatures(parts)).tolist() == [0, 1]


def test_orientations():
    images = [texture(k) for k in range(12)]
    turned = [Image.fromarray(dedup.orient(np.asarray(i)[None, ..., 0], k % 8)[0]) for k, i in enumerate(images)]
    plain = [Image.fromarray(np.asarray(i)[..., 0]) for i in images]
    s = dedup.signatures(plain + turned)
    assert dedup.groups(s, orientations=True).tolist() == [*range(12), *range(12)]
    assert dedup.groups(s)[12:].tolist() == [k - 12 if k % 8 == 4 else k for k in range(12, 24)]


def test_orient_inverse():
    x = np.arange(16.0).reshape(1, 4, 4)
    assert len({dedup.orient(x, k).tobytes() for k in range(8)}) == 8
    for k in range(8):
        assert (dedup.orient(dedup.orient(x, k), dedup.INVERSE[k]) == x).all()


def test_leaks_names_the_pair_and_its_orientation():
    train, test = [texture(k) for k in range(30)], [texture(100 + k) for k in range(10)]
    test[3] = jpeg(train[7].transpose(Image.Transpose.ROTATE_90), 60)
    test[5] = crop(train[2], 0.02, 0.02)
    found = dedup.leaks(train, test)
    assert found[["test", "train"]].to_numpy().tolist() == [[3, 7], [5, 2]]
    assert (found.orientation != 0).tolist() == [True, False] and (found.score >= dedup.MIN_SCORE).all()
    assert found.distance.between(0, 12).all()
    assert dedup.leaks(train, test, orientations=False).test.tolist() == [5]
    assert len(dedup.leaks(train, [])) == 0 and len(dedup.leaks([], test)) == 0


def test_keep_largest():
    groups, pixels = [0, 0, 2, 2, 2, 5], [100, 400, 9, 9, 9, 1]
    row, size = [10, 11, 15, 14, 13, 16], [0, 0, 7, 8, 8, 0]
    assert dedup.keep_largest(groups, pixels, row, size).tolist() == [False, True, False, False, True, True]
    assert dedup.keep_largest(groups, pixels, row).tolist() == [False, True, False, False, True, True]
    assert dedup.keep_largest([], [], []).tolist() == []


def test_threshold_curve():
    curve = dedup.threshold_curve([1, 3, 5, 9], [True, True, False, True], 4, [0, 3, 5])
    assert curve.pairs.tolist() == [0, 2, 3] and curve.recall.tolist() == [0, 0.5, 0.5]
    assert curve.precision.tolist() == [1, 1, pytest.approx(2 / 3)]
    assert dedup.threshold_curve([0.9, 0.2], [True, False], 1, [0.5], larger=True).precision.tolist() == [1]
    with pytest.raises(ValueError, match="one truth per pair"):
        dedup.threshold_curve([1], [], 1, [0])


def real_images(count: int):
    folder = Path(os.environ.get("RS5M_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "eurosat_rgb.zip").exists():
        pytest.skip("no eurosat_rgb.zip: set RS5M_DATA to its folder")
    with zipfile.ZipFile(folder / "eurosat_rgb.zip") as z:
        names = sorted(n for n in z.namelist() if n.endswith(".jpg"))[:: 27000 // count]
        return [Image.open(io.BytesIO(z.read(n))).convert("RGB") for n in names]


def test_real_images():
    images = [i for i in real_images(1500) if np.asarray(i.convert("L")).std() >= 3]
    kinds = list(COPIES)
    copies = [COPIES[kinds[k % 6]](i) for k, i in enumerate(images[:300])]
    pairs = dedup.scored_pairs(dedup.signatures(images + copies))
    pairs = pairs[pairs.score >= dedup.MIN_SCORE]
    true = (pairs.j - len(images) == pairs.i).sum()
    assert true / 300 >= 0.98 and true / len(pairs) >= 0.98
