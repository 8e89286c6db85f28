"""Near-copies beyond memory: the pairs and groups of memory, whatever falls into one bucket."""

import errno
import io

import numpy as np
import pytest
from PIL import Image

from rs5m import dedup
from rs5m.dedup import candidates, copies, hamming, ondisk

pytestmark = pytest.mark.slow


def made(n: int, seed: int = 0) -> np.ndarray:
    """Hashes of which every fifth is near another one."""
    r = np.random.default_rng(seed)
    hashes = r.integers(0, 2**63, n).astype(np.uint64)
    for k in range(0, n, 5):
        flips = r.choice(64, int(r.integers(0, 9)), replace=False)
        hashes[k] = hashes[r.integers(n)] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
    return hashes


LOW = np.uint64(0xFFFF)
HASHES = {
    "random": made(1000),
    "all equal": np.full(200, 12345, np.uint64),
    "one bucket in every band but one": made(250) & LOW,
    "the other end": made(250) & (LOW << np.uint64(48)),
    "two far buckets": np.r_[made(200) & LOW, made(200, 1) & LOW | ~LOW],
    "one": made(1),
    "none": np.empty(0, np.uint64),
}


def pairs(found, ordered: bool) -> set:
    rows = np.concatenate([np.empty((0, 2), int), *(np.stack(p, 1) for p in found)])
    rows = rows if ordered else np.sort(rows, 1)
    return (
        set(map(tuple, rows[rows[:, 0] != rows[:, 1]].tolist()))
        if not ordered
        else set(map(tuple, rows.tolist()))
    )


def brute(a, b, distance, ordered):
    i, j = np.nonzero(np.bitwise_count(a[:, None] ^ b[None]) <= distance)
    return pairs([(i, j)], ordered)


@pytest.mark.parametrize("bands", [3, 7])
@pytest.mark.parametrize("name", HASHES)
def test_buckets_hold_all_pairs(name, bands, tmp_path, monkeypatch):
    monkeypatch.setattr(ondisk, "plan", lambda *sizes: bands)
    hashes = HASHES[name]
    found = pairs(dedup.bucket_pairs(hashes, hashes, 8, tmp_path, rows=60), False)
    assert found == brute(hashes, hashes, 8, False)
    assert not list(tmp_path.iterdir()), "nothing stays behind"


def test_two_sets_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(ondisk, "plan", lambda *sizes: 3)
    a, b = made(900), np.r_[made(900)[:300], made(500, 3)]
    found = pairs(dedup.bucket_pairs(a, b, 8, tmp_path, rows=128), True)
    assert found == brute(a, b, 8, True) and len(found) > 300


@pytest.mark.parametrize("distance", [0, 4, 12])
def test_clusters_are_those_of_memory(distance, tmp_path, monkeypatch):
    hashes = made(8000, 7)
    whole = dedup.near_duplicates(hashes, distance)
    monkeypatch.setattr(ondisk, "ROWS", 1000)
    assert (dedup.near_duplicates(hashes, distance, tmp_path) == whole).all()
    assert distance == 0 or len(np.unique(whole)) < 8000 - 400


def picture(seed: int, flat: bool) -> Image.Image:
    r = np.random.default_rng(seed)
    grey = r.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = Image.fromarray(grey).resize((96, 96), Image.Resampling.BICUBIC)
    return Image.blend(Image.new("RGB", image.size, (40, 70, 90)), image, 0.02) if flat else image


def again(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(io.BytesIO(data.getvalue()))


@pytest.fixture(scope="module")
def signed():
    pictures = [picture(k, k % 4 == 0) for k in range(80)]
    return dedup.signatures(
        pictures
        + [again(p, 60 + k) for k, p in enumerate(pictures[::4])]
        + [again(p, 40 + k % 50) for k, p in enumerate(pictures[1::4])]
    )


def test_groups_are_those_of_memory(signed, tmp_path, monkeypatch):
    whole = dedup.groups(signed)
    assert len(np.unique(whole)) < len(whole) - 20
    kept = dedup.room(tmp_path, len(whole))
    for name, values in signed.items():
        for s in range(0, len(whole), 50):
            kept[name][s : s + 50] = values[s : s + 50]
    monkeypatch.setattr(candidates, "MET", 15)
    monkeypatch.setattr(candidates, "LOOKED", 11)
    monkeypatch.setattr(ondisk, "SPAN", 13)
    monkeypatch.setattr(ondisk, "ROWS", 40)
    monkeypatch.setattr(ondisk, "plan", lambda *sizes: 5)
    found = dedup.groups(kept, folder=tmp_path)
    assert (found == whole).all()


def test_numbers_come_sorted_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ondisk, "SPAN", 3)
    r = np.random.default_rng(0)
    parts = [r.integers(0, 40 * 40, 500) for _ in range(7)] + [np.empty(0, np.int64)]
    found = np.concatenate(list(ondisk.distinct(parts, 40, tmp_path, rows=10**6)))
    assert (found == copies._distinct(parts)).all()
    pieces = list(ondisk.distinct(parts, 40, tmp_path, rows=11))
    assert max(map(len, pieces)) <= 11
    assert (np.unique(np.concatenate(pieces)) == found).all()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ondisk, "plan", lambda *sizes: 4)
    monkeypatch.setattr("pathlib.Path.open", full)
    with pytest.raises(OSError, match="could not be written .*free some space"):
        list(dedup.bucket_pairs(made(900), made(900), 8, tmp_path, rows=100))
    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    with pytest.raises(OSError, match="thumb.npy could not be written .*free some space"):
        dedup.room(tmp_path, 10)


def test_the_plan_of_memory_is_the_one_on_disk():
    assert ondisk.plan is hamming.plan
