"""The runs that several chapters share, at the scales mini and local: made once, kept in runs/. Chapters: pub11 to rs3.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split of UC Merced.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from rs5m import captions, clip, datasets, dedup, filters, head, images, keywords, pocket, pocketpictures, pocketweb
from rs5m import prefix, pub11, pub11work, records, results, tune, web
from rs5m.datasets import Pairs
from rs5m.scales import Scale

WEB_SEED = 2  # of the pocket web; set after the filters of PUB11 were fixed
LIMITS = web.Limits(allow_loopback=True, per_host=8, backoff=0.05)  # loopback is refused unless a scale asks for it
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


def web_pairs(scale: Scale) -> Pairs:
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
    pictures = [np.asarray(images.decode(r.image)) for r in rows]
    return Pairs("pub11", pictures, [(r.caption,) for r in rows], [])


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


def captioner(scale: Scale, model: clip.Model | None = None) -> prefix.PrefixCaptioner:
    """The scale's prefix captioner, trained on PUB11's pairs and the captioned set. Chapter: captions."""
    model = model or clip.load(scale)
    parts = [web_pairs(scale), annotated(scale)]
    pictures, texts = [sum((getattr(part, key) for part in parts), []) for key in ("images", "captions")]

    def make(folder: Path) -> None:
        vectors = clip.encode_images(model, pictures)
        prefix.fit(vectors, texts, model=model)[0].save(folder)

    inputs = (scale, datasets.fingerprint(pictures, texts), prefix, captions, clip, tune)
    return prefix.load(results.artefact("captioner", scale.name, inputs, make), model)


def rankers(scale: Scale) -> tuple[clip.Model, clip.Model]:
    """Models A and B of the ranking, their heads tuned on PUB11's pairs (`local`: on the captioned set).

    The paper's two have read the web; the pocket's general models have read no pair at all. Chapter: captions.
    """
    pairs = annotated(scale) if scale.name == "local" else web_pairs(scale)
    models = {"A": clip.load(scale), "B": clip.second(scale)}

    def make(folder: Path) -> None:
        for name, model in models.items():
            rows = head.features(model, pairs.images, angles=(0,))
            texts = tune.Captions(model, pairs.captions, locked=True)
            np.save(folder / f"{name}.npy", head.fit(model, rows, texts)[0])

    inputs = (scale, datasets.fingerprint(pairs.images, pairs.captions), head, clip, tune)
    folder = results.artefact("rankers", scale.name, inputs, make)
    a, b = (head.attach(model, np.load(folder / f"{name}.npy")) for name, model in models.items())
    return a, b
