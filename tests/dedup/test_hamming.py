"""All pairs of near hashes against brute force, and components in pieces."""

import numpy as np
import pytest

from rs5m import dedup
from rs5m.dedup import hamming


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
        hashes[k] = hashes[r.integers(n)] ^ np.bitwise_or.reduce(
            np.uint64(1) << bits, initial=np.uint64(0)
        )
    return hashes


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8, 10, 12, 16])
def test_near_duplicates_equals_brute_force(distance):
    hashes = clustered(400, distance, 2 * distance + 1)
    assert (dedup.near_duplicates(hashes, distance) == brute(hashes, distance)).all()


@pytest.mark.parametrize("bands", [3, 4, 5, 8, 16])
@pytest.mark.parametrize("distance", [1, 4, 7, 11])
def test_banded_search_misses_no_pair(monkeypatch, bands, distance):
    """Every number of bands finds what comparing all pairs finds, in one set and between two."""
    monkeypatch.setattr(hamming, "plan", lambda *a: bands)
    a, b = clustered(150, 1, distance + 2), clustered(120, 2, distance + 2)
    b[:40] = a[:40] ^ np.uint64(0b10110001 if distance >= 4 else 1)
    near = np.bitwise_count(a[:, None] ^ b[None]) <= distance
    found = {
        (int(x), int(y))
        for i, j in hamming.hash_pairs(a, b, distance)
        for x, y in zip(i, j, strict=True)
    }
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
    assert len(pieces[0][0]) == np.cumsum(count)[np.searchsorted(np.cumsum(count), 60)] < 100
    want = [(k, s + t) for k, s, c in zip(i, start, count, strict=True) for t in range(c)]
    assert (
        list(zip(*(np.concatenate(x).tolist() for x in zip(*pieces, strict=True)), strict=True))
        == want
    )


def test_merge_in_pieces_equals_at_once(monkeypatch):
    r = np.random.default_rng(0)
    i, j = r.integers(0, 300, (2, 200))
    pieces = [(i[k : k + 7], j[k : k + 7]) for k in range(0, 200, 7)]
    expected, real, calls = hamming.components(300, i, j), hamming.components, []
    monkeypatch.setattr(hamming, "components", lambda *given: calls.append(0) or real(*given))
    assert (hamming.merge(300, pieces, limit=20) == expected).all()
    assert len(calls) == 10, "once for every three pieces, and once at the end"


def test_equal_hashes_do_not_explode():
    hashes = np.zeros(200_000, np.uint64)
    hashes[:3] = [2**63, 2**62 + 2**50, 0xFFFF]
    ids = dedup.near_duplicates(hashes, 4)
    assert ids[:5].tolist() == [0, 0, 2, 0, 0] and set(ids.tolist()) == {0, 2}


@pytest.mark.parametrize(("shift", "width", "radius"), [(0, 8, 0), (8, 10, 1), (54, 10, 2)])
def test_a_band_gives_the_pairs_whose_keys_are_near(shift, width, radius):
    a, b = clustered(200, 3, 9), clustered(150, 4, 9)
    b[:90] = a[:90] ^ (np.uint64(0b1011) << np.arange(90, dtype=np.uint64) % np.uint64(60))
    apart = a[:, None] ^ b[None]
    keys = np.bitwise_count(apart >> np.uint64(shift) & np.uint64(2**width - 1))
    near = (np.bitwise_count(apart) <= 8) & (keys <= radius)
    found = list(hamming.band_pairs(a, b, shift, width, radius, 8))
    found = np.stack([np.concatenate(x) for x in zip(*found, strict=True)], 1)
    assert sorted(found.tolist()) == np.argwhere(near).tolist() and near.any()


def test_few_hashes_are_all_compared_and_many_fall_into_bands():
    sizes, distances = (100, 3_000, 100_000, 10_000_000), (0, 4, 10, 16)
    bands = [[hamming.plan(n, n, distance) for n in sizes] for distance in distances]
    assert bands == [[0, 5, 4, 3], [0, 5, 3, 3], [0, 0, 4, 3], [0, 0, 0, 3]]
    hashes = clustered(700, 0, 4)
    assert len(list(hamming.hash_pairs(hashes, hashes, 16))) == 2, "in pieces of 250,000 pairs"
