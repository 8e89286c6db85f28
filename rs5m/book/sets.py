"""The test sets and pairs of a scale, by name."""

import numpy as np

from rs5m import pocket
from rs5m.book.scales import Scale, data_folder
from rs5m.captions.places import NEAR, named, near
from rs5m.captions.sentences import Record, make
from rs5m.data import datasets
from rs5m.data.datasets import Classes, Images, Labelled, Pairs, subset, ucm, ucm_captions

OFFICIAL = ("resisc45", "aid")  # scored where the folder of colab or paper holds them


def tests(scale: Scale) -> tuple[str, ...]:
    """The labelled test sets of a scale: its own, and those of OFFICIAL that its folder holds."""
    if scale.lock_text:
        return scale.tests
    folder, held = data_folder(scale), []
    for name in OFFICIAL:
        inside, bases, _ = datasets.LAYOUTS[name]
        held += [name] if any((folder / base / inside).is_dir() for base in bases) else []
    return (*scale.tests, *held)


def classes(name: str, scale: Scale) -> Classes:
    """A labelled set as files, whole, but for EuroSAT, of which a scale tests every n-th image."""
    found, step = datasets.classes(name, data_folder(scale)), scale.every
    if name != "eurosat" or step == 1:
        return found
    images = Images(found.images.names[::step], lambda i: found.images.read(step * i))
    return found._replace(images=images, labels=found.labels[::step])


def test_set(name: str, scale: Scale) -> Labelled:
    """The test set of that name: pocket (Europe and Africa), eurosat (see `classes`), ucm
    (UCM-captions' test split), or one of OFFICIAL, whose images are decoded when they are asked
    for.
    """
    if name == "pocket":
        chips = pocket.chips("test")
        places = [
            f"{lat:.1f} {lon:.1f}" for lat, lon in zip(chips.latitude, chips.longitude, strict=True)
        ]
        return Labelled("pocket", list(chips.images), chips.labels, chips.classes, places, [])
    if name == "eurosat":
        return datasets.decoded(classes(name, scale))
    if name == "ucm":
        data = ucm(data_folder(scale))
        return subset(data, ucm_captions(data_folder(scale), data)[1] == "test")
    if name in OFFICIAL:
        return datasets.on_demand(datasets.classes(name, data_folder(scale)))
    known = ", ".join(("pocket", "eurosat", *OFFICIAL))
    raise ValueError(f"unknown test set {name!r}: choose {known} or ucm")


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


def has_ucm(scale: Scale) -> bool:
    """Whether the scale reads UC Merced with its captions: local does, colab and paper where the
    folder holds them.
    """
    if scale.name in ("mini", "local"):
        return scale.name == "local"
    folder, (inside, _, zips) = data_folder(scale), datasets.LAYOUTS["ucm"]
    held = any((folder / path).exists() for path in (inside, *zips))
    return held and (folder / "captions" / "ucm_captions.json").is_file()


def captioned(scale: Scale, per_class: int = 60, name: str = "rsitmd") -> Pairs:
    """The captioned test set of mini (pocket world, at most `per_class` chips a class), of local
    (UC Merced), and that of the name (rsitmd, rsicd) of the others. Chapter: retrieval.
    """
    if not scale.lock_text:
        found = datasets.captions(name, data_folder(scale))
        read = [datasets.decode(found.images.read(i)) for i in range(len(found.captions))]
        kept = [i for i, (image, _) in enumerate(read) if image is not None]
        skipped = [found.images.names[i] for i in range(len(read)) if read[i][0] is None]
        return Pairs(name, [read[i][0] for i in kept], [found.captions[i] for i in kept], skipped)
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
    town = near(chips.places[index], latitude, longitude, NEAR["pocket"])
    return make(
        name or f"{latitude:.1f} {longitude:.1f}",
        "pocket",
        labels=(chips.classes[chips.labels[index]],),
        latitude=latitude,
        longitude=longitude,
        climate=pocket.climate(latitude),
        **named(town),
    )
