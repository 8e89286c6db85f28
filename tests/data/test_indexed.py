"""The kept index of a shard is the walked one, and never that of another state of the file."""

import os
import time

import numpy as np
import pytest

from rs5m.data import indexed, records

ROWS = [records.Record(bytes([i]) * 700, f"\u00fc{i}.jpg", f"caption {i}") for i in range(5)]


@pytest.fixture
def shard(tmp_path, monkeypatch):
    """A shard that counts as large and old, and what was walked."""
    monkeypatch.setattr(indexed, "LARGE", 1)
    monkeypatch.setenv("RS5M_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.tar"
    records.write(path, ROWS)
    data = bytearray(path.read_bytes())
    data[data.index(b"caption 3")] = ord("C")
    data[data.index(b"00000004.txt") + 3] = ord("x")  # a damaged header
    path.write_bytes(data)
    settled(path)
    walked, walk = [], records.index

    def index(shard):
        walked.append(shard)
        return walk(shard)

    monkeypatch.setattr(records, "index", index)
    return path, walked


def settled(path, back=60.0):
    then = time.time() - back
    os.utime(path, (then, then))


def same(one, other):
    assert (one.places == other.places).all() and one.places.dtype == other.places.dtype
    return one._replace(places=0) == other._replace(places=0)


def test_it_is_walked_once(shard):
    path, walked = shard
    first, again = indexed.index(path), indexed.index(path)
    assert same(first, again) and len(walked) == 1 and first.damaged and len(first.names) == 4
    assert type(again.others) is dict and again.left_out == first.left_out
    linked = path.with_name("b.tar")
    linked.symlink_to(path)
    assert indexed.index(linked).damaged[0].startswith("b.tar") and len(walked) == 2


def test_another_state_of_the_file_is_walked(shard, monkeypatch):
    path, walked = shard
    indexed.index(path)
    settled(path, 30.0)
    indexed.index(path)
    assert len(walked) == 2
    path.write_bytes(path.read_bytes()[:-512])
    settled(path, 30.0)
    indexed.index(path)
    assert len(walked) == 3
    monkeypatch.setattr(indexed.reach, "code", lambda module: "other code")
    indexed.index(path)
    assert len(walked) == 4


def test_what_was_just_written_is_not_kept(shard):
    path, walked = shard
    os.utime(path)
    for _ in range(2):
        indexed.index(path)
    assert len(walked) == 2 and not (path.parent / "cache").exists()


def test_a_small_shard_is_not_kept(shard, monkeypatch):
    path, walked = shard
    monkeypatch.setattr(indexed, "LARGE", path.stat().st_size + 1)
    indexed.index(path)
    assert len(walked) == 1 and not (path.parent / "cache").exists()


@pytest.mark.parametrize("broken", [b"", b"PK\x03\x04 half", "cut", "shorter"])
def test_a_broken_index_is_made_again(shard, broken):
    path, walked = shard
    first = indexed.index(path)
    (kept,) = (path.parent / "cache/index").iterdir()
    if broken == "cut":
        broken = kept.read_bytes()[:-100]
    if broken == "shorter":
        with np.load(kept) as held:
            arrays = {"said": held["said"], "places": held["places"][:-1]}
        np.savez(kept, **arrays)
    else:
        kept.write_bytes(broken)
    assert same(indexed.index(path), first) and len(walked) == 2
    indexed.index(path)
    assert len(walked) == 2


def test_a_cache_that_cannot_be_written_is_no_error(shard):
    path, walked = shard
    (path.parent / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        assert len(indexed.index(path).names) == 4
    assert len(walked) == 2
