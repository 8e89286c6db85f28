"""The runs that several chapters share, at the scales mini and local: made once, kept in runs/. Chapters: pub11 to rs3.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split of UC Merced.
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

from rs5m import (
    captions,
    clip,
    datasets,
    dedup,
    filters,
    head,
    images,
    keywords,
    metadata,
    metasentences,
    pocket,
    pocketpictures,
    pocketweb,
    prefix,
    pub11,
    pub11work,
    records,
    results,
    rotation,
    rs3,
    rs3input,
    rs3work,
    tune,
    web,
)
from rs5m.datasets import Pairs
from rs5m.metasentences import Record
from rs5m.scales import Scale, data_folder

WEB_SEED = 2  # of the pocket web; set after the filters of PUB11 were fixed
LIMITS = web.Limits(allow_loopback=True, per_host=8, backoff=0.05)  # loopback is refused unless a scale asks for it
PER_CLASS = 40  # images of a class in RS3
ANNOTATED = "Americas"  # its chips and their composed captions play the captioned set; RS3 has the other continents


def crawl(scale: Scale) -> Path:
    """The folder of the pocket web's run through PUB11: pairs/, out/ and seconds.txt. Chapter: pub11."""

    def make(folder: Path) -> None:
        site = pocketweb.build(seed=WEB_SEED)
        with pocketweb.serve(site) as base:
            began = time.perf_counter()
            pairs = pocketweb.write(site, base, folder / "pairs")
            pub11.run(pairs, folder / "out", pub11work.Model(scale.name), LIMITS)
            (folder / "seconds.txt").write_text(f"{time.perf_counter() - began:.1f}")

    parts = (pocketweb, pocketpictures, pub11, pub11work, filters, dedup, images, keywords, web, clip)
    return results.artefact("pub11", scale.name, (scale, WEB_SEED, repr(LIMITS), *parts), make)


@cache
def web_records(scale: Scale) -> list[records.Record]:
    """PUB11's half at the pocket's size: the kept pairs of `crawl`, read from its shards. Chapter: captions.

    Pictures that lie in Europe or Africa, or that share a degree with a test chip, are left out; their number is
    printed.
    """
    out = crawl(scale) / "out"
    site, kept = pocketweb.build(seed=WEB_SEED), pd.read_parquet(out / "kept.parquet")
    picture = site.pairs.set_index("row").picture[kept.row].to_numpy()
    away = elsewhere(site.pictures.iloc[picture])
    found = {int(Path(r.name).stem): r for r in records.read(sorted(out.glob("pub11-train-*.tar")))}
    rows = [found[row] for row in kept.row[away]]
    print(f"PUB11: {len(rows)} of {len(kept)} pairs; the others show Europe or Africa")
    return rows


@cache
def web_pairs(scale: Scale) -> Pairs:
    """The pairs of `web_records`, decoded. Chapter: captions."""
    rows = web_records(scale)
    return Pairs("pub11", [np.asarray(images.decode(r.image)) for r in rows], [(r.caption,) for r in rows], [])


def pub11_shards(scale: Scale) -> list[Path]:
    """The pairs of `web_records` as shards in the official layout: PUB11's, less the test continents. Chapter: tune."""

    def make(folder: Path) -> None:
        rows = web_records(scale)
        for start in range(0, len(rows), pub11.TAR):
            records.write(folder / f"pub11-train-{start // pub11.TAR:04d}.tar", rows[start : start + pub11.TAR])

    parts = (pocket, records, sys.modules[__name__])
    return sorted(results.artefact("pub11-shards", scale.name, (crawl(scale).name, *parts), make).glob("*.tar"))


def elsewhere(pictures: pd.DataFrame) -> np.ndarray:
    """Which windows (x, y, side in Blue Marble pixels) have no degree in common with the test continents: bool (n,).

    A window's continents are those of the towns nearest to its centre and corners.
    """
    import reverse_geocode  # builds its tree at first use

    test = pocket.chips("test")
    taken = np.zeros((180, 360), bool)
    taken[(90 - test.latitude).astype(int), (test.longitude + 180).astype(int)] = True
    found = np.ones(len(pictures), bool)
    for share in ((0, 0), (0, 1), (0.5, 0.5), (1, 0), (1, 1)):
        x = np.clip((pictures.x + share[0] * pictures.side) / pocket.CHIP - 180, -180, 179.99)
        y = np.clip(90 - (pictures.y + share[1] * pictures.side) / pocket.CHIP, -89.99, 90)
        at = list(zip(y, x, strict=True))
        where = [pocket.continent(p["country_code"], *c) for p, c in zip(reverse_geocode.search(at), at, strict=True)]
        found &= ~np.isin(where, pocket.TEST_CONTINENTS)
    for i, (x, y, side) in enumerate(pictures[["x", "y", "side"]].to_numpy()):
        rows, columns = (slice(v // pocket.CHIP, -(-(v + side) // pocket.CHIP)) for v in (y, x))
        found[i] &= not taken[rows, columns].any()
    return found


def _where(chips: pocket.Chips) -> np.ndarray:
    at = zip(chips.places, chips.latitude, chips.longitude, strict=True)
    return np.array([pocket.continent(place["country_code"], *rest) for place, *rest in at])


@cache
def annotated(scale: Scale) -> Pairs:
    """The captioned set, the part that RSITMD plays for the paper's BLIP-2. Chapter: captions.

    `mini`: the training chips of the Americas with composed captions. `local`: UC Merced's training split with what
    people wrote.
    """
    if scale.name == "local":
        return datasets.pairs("ucm", scale)
    chips = pocket.chips("train")
    index, texts = np.flatnonzero(_where(chips) == ANNOTATED), pocket.captions(chips)
    return Pairs("Americas", [chips.images[i] for i in index], [texts[i] for i in index], [])


MADE_BY = (clip, tune, head, rotation, sys.modules[__name__])  # features come through head and rotation


def _key(scale: Scale) -> tuple:
    """What the learned things of a scale depend on, without decoding more than need be."""
    pairs = annotated(scale)
    web_run = crawl(scale).name  # its name holds a hash of all that made it
    return scale, web_run, datasets.fingerprint(pairs.images, pairs.captions), *MADE_BY


@cache
def _features(scale: Scale, part: Callable[[Scale], Pairs], ranker: str) -> np.ndarray:
    """The upright trunk features of a part's images; the captioner and model A read the same."""
    return head.features(RANKERS[ranker](scale), part(scale).images, angles=(0,))


def captioner_folder(scale: Scale) -> Path:
    """Where the scale's prefix captioner is kept, trained on PUB11's pairs and the captioned set. Chapter: captions."""

    def make(folder: Path) -> None:
        model = clip.load(scale)
        vectors = np.concatenate([_features(scale, part, "A")[:, 0] for part in (web_pairs, annotated)])
        texts = web_pairs(scale).captions + annotated(scale).captions
        prefix.fit(vectors @ head.weight(model).T, texts, model=model)[0].save(folder)

    return results.artefact("captioner", scale.name, (*_key(scale), prefix, captions), make)


def captioner(scale: Scale, model: clip.Model | None = None) -> prefix.PrefixCaptioner:
    """The prefix captioner of `captioner_folder`; model: the scale's general model, if it is loaded already."""
    return prefix.load(captioner_folder(scale), model or clip.load(scale))


def rankers_folder(scale: Scale) -> Path:
    """Where the heads of models A and B are kept. Chapter: captions."""

    def make(folder: Path) -> None:
        part = annotated if scale.name == "local" else web_pairs
        for name, load in RANKERS.items():
            model = load(scale)
            texts = head.Captions(model, part(scale).captions)
            np.save(folder / f"{name}.npy", head.fit(model, _features(scale, part, name), texts)[0])

    return results.artefact("rankers", scale.name, _key(scale), make)


RANKERS = {"A": clip.load, "B": clip.second}


def rankers(scale: Scale) -> tuple[clip.Model, clip.Model]:
    """Models A and B of the ranking, their heads tuned on PUB11's pairs (`local`: on the captioned set).

    The paper's two have read the web; the pocket's general models have read no pair at all. Chapter: captions.
    """
    folder = rankers_folder(scale)
    a, b = (head.attach(load(scale), np.load(folder / f"{name}.npy")) for name, load in RANKERS.items())
    return a, b


def labelled(scale: Scale, folder: Path | None = None) -> dict[str, Record]:
    """What is known of RS3's labelled images, by name; where a folder is given, they are written there as PNG.

    `mini`: training chips of Asia and Oceania, at most PER_CLASS of a class, with class and place. `local`: PER_CLASS
    images of each class of EuroSAT, of which only the class is known, and the patches of BigEarthNet that the data
    folder holds, with their metadata.
    """
    if scale.name == "local":
        return _eurosat(scale, folder) | _bigearthnet(scale, folder)
    chips = pocket.chips("train")
    index = np.flatnonzero(_where(chips) != ANNOTATED)
    found = {}
    for i in index[_some(chips.labels[index])]:
        record = metadata.pocket_record(chips, i, f"chip{i:05d}")
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
        label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", data.classes[data.labels[i]]).lower()  # "AnnualCrop"
        found[name] = metasentences.make(name, "bigearthnet", labels=(label,))  # from Sentinel-2, too
    return found


def _bigearthnet(scale: Scale, folder: Path | None) -> dict[str, Record]:
    """RGB of the patches in bigearthnet_tiny.zip: bands 4, 3, 2 (reflectance in 10,000ths), brightened four times."""
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
    """RS3 at the pocket's size, chosen over quarter turns: the run's folder, with images/ and out/. Chapter: rs3."""
    identity = f"{captioner_folder(scale).name} {rankers_folder(scale).name}"

    def make(folder: Path) -> None:
        (folder / "images").mkdir()
        known = labelled(scale, folder / "images")
        made, out = folder / "images", folder / "out"
        rs3.run(made, out, lambda: captioner(scale), lambda: rankers(scale), known, identity, angles=head.TURNS)

    parts = (rs3, rs3input, rs3work, rotation, captions, metadata, metasentences, sys.modules[__name__])
    return results.artefact("rs3", scale.name, (scale, identity, *parts), make)
