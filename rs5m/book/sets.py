"""The test sets and pairs of a scale, by name."""

import numpy as np

from rs5m import pocket
from rs5m.book.scales import Scale, data_folder
from rs5m.captions.metadata import NEAR, _named, _near
from rs5m.captions.sentences import Record, make
from rs5m.data import datasets
from rs5m.data.datasets import Labelled, Pairs, eurosat, subset, ucm, ucm_captions


def test_set(name: str, scale: Scale) -> Labelled:
    """The test set of that name: pocket (Europe and Africa), eurosat (all images) or ucm
    (UCM-captions' test split).
    """
    if name == "pocket":
        chips = pocket.chips("test")
        places = [
            f"{lat:.1f} {lon:.1f}" for lat, lon in zip(chips.latitude, chips.longitude, strict=True)
        ]
        return Labelled("pocket", list(chips.images), chips.labels, chips.classes, places, [])
    if name == "eurosat":
        return eurosat(data_folder(scale))
    if name == "ucm":
        data = ucm(data_folder(scale))
        return subset(data, ucm_captions(data_folder(scale), data)[1] == "test")
    raise ValueError(f"unknown test set {name!r}: choose pocket, eurosat or ucm")


def pairs(name: str, scale: Scale) -> Pairs:
    """Training pairs: pocket (Americas, Asia, Oceania) or ucm (UCM-captions' train split)."""
    if name == "pocket":
        chips = pocket.chips("train")
        return Pairs("pocket", list(chips.images), pocket.captions(chips), [])
    if name == "ucm":
        data = ucm(data_folder(scale))
        captions, split = ucm_captions(data_folder(scale), data)
        index = np.flatnonzero(split == "train")
        return Pairs(
            "ucm", [data.images[i] for i in index], [captions[i] for i in index], data.skipped
        )
    raise ValueError(f"unknown pairs {name!r}: choose pocket or ucm")


def captioned(scale: Scale, per_class: int = 60) -> Pairs:
    """The captioned test set of mini (pocket world, at most `per_class` chips a class) and of local
    (UC Merced).

    ValueError for the other scales, whose sets `rs5m evaluate` scores. Chapter: retrieval.
    """
    if scale.name not in ("mini", "local"):
        raise ValueError(
            f"scale {scale.name!r}: `rs5m evaluate --tasks retrieval` scores RSITMD and RSICD"
        )
    data = test_set("pocket" if scale.name == "mini" else "ucm", scale)
    if scale.name == "local":
        return Pairs(
            "ucm", data.images, datasets.ucm_captions(data_folder(scale), data)[0], data.skipped
        )
    keep, chips = some(data, per_class).names, pocket.chips("test")
    texts = dict(zip(data.names, pocket.captions(chips), strict=True))
    images = dict(zip(data.names, data.images, strict=True))
    return Pairs("pocket", [images[name] for name in keep], [texts[name] for name in keep], [])


def some(data: Labelled, per_class: int, seed: int = 0) -> Labelled:
    """At most `per_class` images of each class of a test set, drawn with a fixed seed, in order."""
    generator, keep = np.random.default_rng(seed), np.zeros(len(data.labels), bool)
    for c in np.unique(data.labels):
        keep[generator.permutation(np.flatnonzero(data.labels == c))[:per_class]] = True
    return datasets.subset(data, keep)


def pocket_record(chips: pocket.Chips, index: int, name: str | None = None) -> Record:
    """The record of one chip: class, nearest town, state, country, climate zone; no date, the
    mosaic has none.

    The name is the chip's centre as `rs5m.data.datasets` writes it, unless given. The town is left
    out where it is more than 100 km away, as on most of the open water.
    """
    latitude, longitude = float(chips.latitude[index]), float(chips.longitude[index])
    town = _near(chips.places[index], latitude, longitude, NEAR["pocket"])
    return make(
        name or f"{latitude:.1f} {longitude:.1f}",
        "pocket",
        labels=(chips.classes[chips.labels[index]],),
        latitude=latitude,
        longitude=longitude,
        climate=pocket.climate(latitude),
        **_named(town),
    )
