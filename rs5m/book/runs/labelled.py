"""RS3 at the pocket's size: labelled images, captioned, ranked and chosen. Chapter: rs3.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split
of UC Merced.
"""

from __future__ import annotations

import io
import re
import sys
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image
from rs5m import captions, clip, dedup, filters, keywords, pocket, pub11, results, rotation, rs3, tune, web
from rs5m.book import head, judge, models, sets
from rs5m.book.scales import Scale, data_folder
from rs5m.captions import metadata, prefix, sentences
from rs5m.captions.sentences import Record
from rs5m.data import datasets, images, records
from rs5m.data.datasets import Pairs
from rs5m.pocket import pictures, webpages
from rs5m.pub11 import stages
from rs5m.rs3 import input, stages
from rs5m.book.runs.captioning import ANNOTATED, _where, captioner, captioner_folder, rankers, rankers_folder

PER_CLASS = 40  # images of a class in RS3


def labelled(scale: Scale, folder: Path | None = None) -> dict[str, Record]:
    """What is known of RS3's labelled images, by name; where a folder is given, they are written
    there as PNG.

    `mini`: training chips of Asia and Oceania, at most PER_CLASS of a class, with class and place.
    `local`: PER_CLASS images of each class of EuroSAT, of which only the class is known, and the
    patches of BigEarthNet that the data folder holds, with their metadata.
    """
    if scale.name == "local":
        return _eurosat(scale, folder) | _bigearthnet(scale, folder)
    chips = pocket.chips("train")
    index = np.flatnonzero(_where(chips) != ANNOTATED)
    found = {}
    for i in index[_some(chips.labels[index])]:
        record = sets.pocket_record(chips, i, f"chip{i:05d}")
        _picture(chips.images[i], folder, record.name)
        found[record.name] = record
    return found


def _some(labels: np.ndarray) -> np.ndarray:
    """Positions of at most PER_CLASS images of each class, drawn with a fixed seed, in order."""
    generator = np.random.default_rng(0)
    drawn = [generator.permutation(np.flatnonzero(labels == c))[:PER_CLASS] for c in np.unique(labels)]
    return np.sort(np.concatenate(drawn))


def _picture(pixels: np.ndarray, folder: Path | None, name: str) -> None:
    if folder:
        Image.fromarray(pixels).save(folder / f"{name}.png")


def _eurosat(scale: Scale, folder: Path | None) -> dict[str, Record]:
    data, found = datasets.eurosat(data_folder(scale)), {}
    for i in _some(data.labels):
        name = Path(data.names[i]).stem
        _picture(data.images[i], folder, name)
        # "AnnualCrop"
        label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", data.classes[data.labels[i]]).lower()
        found[name] = sentences.make(name, "bigearthnet", labels=(label,))  # from Sentinel-2, too
    return found


def _bigearthnet(scale: Scale, folder: Path | None) -> dict[str, Record]:
    """RGB of the patches in bigearthnet_tiny.zip: bands 4, 3, 2 (reflectance in 10,000ths),
    brightened four times.
    """
    path, found = data_folder(scale) / "bigearthnet_tiny.zip", {}
    if not path.is_file():
        print(f"{path.name} is not there: RS3 goes without BigEarthNet")
        return found
    with zipfile.ZipFile(path) as archive:
        for name, document in metadata.documents(path):
            bands = [Image.open(io.BytesIO(archive.read(f"{name}/{name}_B{band}.tif"))) for band in ("04", "03", "02")]
            pixels = np.stack([np.asarray(band, np.float32) for band in bands], -1) * (4 * 255 / 10_000)
            _picture(pixels.clip(0, 255).astype(np.uint8), folder, name)
            found[name] = metadata.read_bigearthnet(document, name)
    return found


def labelled_set(scale: Scale) -> Path:
    """RS3 at the pocket's size, chosen over quarter turns: the run's folder, with images/ and out/.
    Chapter: rs3.
    """
    identity = f"{captioner_folder(scale).name} {rankers_folder(scale).name}"

    def make(folder: Path) -> None:
        (folder / "images").mkdir()
        known = labelled(scale, folder / "images")
        made, out = folder / "images", folder / "out"
        rs3.run(made, out, lambda: captioner(scale), lambda: rankers(scale), known, identity, angles=head.TURNS)

    return results.artefact("rs3", scale.name, (scale, identity), make)
