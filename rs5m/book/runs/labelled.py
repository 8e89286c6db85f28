"""RS3 at the pocket's size: labelled images, captioned, ranked and chosen. Chapter: rs3.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split
of UC Merced.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from rs5m import pocket, results, rs3
from rs5m.book import head, sets
from rs5m.book.runs.captioning import (
    ANNOTATED,
    captioner,
    captioner_name,
    continents,
    rankers,
    rankers_folder,
)
from rs5m.book.scales import Scale, data_folder
from rs5m.captions import metadata, sentences
from rs5m.captions.sentences import Record
from rs5m.data import datasets, images

PER_CLASS = 40  # images of a class of EuroSAT in RS3


def labelled_records(scale: Scale, folder: Path | None = None) -> dict[str, Record]:
    """What is known of RS3's labelled images, by name; where a folder is given, they are written
    there as PNG.

    `mini`: the training chips of Asia and Oceania, with class and place. Else PER_CLASS images of
    each class of EuroSAT, of which only the class is known, and the patches of BigEarthNet that the
    data folder holds, with their metadata.
    """
    if "eurosat" in scale.tests:
        return _eurosat(scale, folder) | _bigearthnet(scale, folder)
    chips = pocket.chips("train")
    found = {}
    for i in np.flatnonzero(continents(chips) != ANNOTATED):
        record = sets.pocket_record(chips, i, f"chip{i:05d}")
        _picture(chips.images[i], folder, record.name)
        found[record.name] = record
    return found


def some_of_each(labels: np.ndarray, most: int = PER_CLASS) -> np.ndarray:
    """Positions of at most that many images of each class, drawn with a fixed seed, in order."""
    generator = np.random.default_rng(0)
    drawn = [generator.permutation(np.flatnonzero(labels == c))[:most] for c in np.unique(labels)]
    return np.sort(np.concatenate(drawn))


def _picture(pixels: np.ndarray, folder: Path | None, name: str) -> None:
    if folder:
        Image.fromarray(pixels).save(folder / f"{name}.png")


def _eurosat(scale: Scale, folder: Path | None) -> dict[str, Record]:
    data, found, skipped = datasets.classes("eurosat", data_folder(scale)), {}, {}
    half = int(np.bincount(data.labels).min()) // 2  # the rest is what the chapter tests on
    for i in some_of_each(data.labels, min(PER_CLASS, half)):
        name = Path(data.images.names[i]).stem
        pixels, reason = datasets.decode(data.images.read(int(i)))
        if pixels is None:
            skipped[name] = reason
            continue
        _picture(pixels, folder, name)
        # "AnnualCrop"
        label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", data.classes[data.labels[i]]).lower()
        found[name] = sentences.make(name, "bigearthnet", labels=(label,))  # from Sentinel-2, too
    datasets.tell_skipped(data.name, skipped)
    return found


def _bigearthnet(scale: Scale, folder: Path | None) -> dict[str, Record]:
    """The patches in bigearthnet_tiny.zip, in colour by `images.sentinel2`."""
    path, found = data_folder(scale) / "bigearthnet_tiny.zip", {}
    if not path.is_file():
        print(f"{path.name} is not there: RS3 goes without BigEarthNet")
        return found
    with zipfile.ZipFile(path) as archive:
        for name, document in metadata.documents(path):
            if folder:
                image, reason = images.sentinel2(
                    {band: archive.read(f"{name}/{name}_{band}.tif") for band in images.SENTINEL2}
                )
                if reason:
                    raise ValueError(f"{path} has a patch {name} that cannot be shown: {reason}")
                image.save(folder / f"{name}.png")
            found[name] = metadata.read_bigearthnet(document, name)
    return found


def labelled_set(scale: Scale) -> Path:
    """RS3 at the pocket's size, chosen over quarter turns: the folder, with images/ and out/."""
    identity = f"{captioner_name(scale)} {rankers_folder(scale).name}"

    def make(folder: Path) -> None:
        (folder / "images").mkdir()
        known = labelled_records(scale, folder / "images")
        rs3.run(
            folder / "images",
            folder / "out",
            lambda: captioner(scale),
            lambda: rankers(scale),
            known,
            identity,
            rs3.Settings(angles=tuple(head.TURNS)),
        )

    return results.artefact("rs3", scale.name, (scale, identity), make)
