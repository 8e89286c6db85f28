"""The pocket web through PUB11, and its pairs less the test continents. Chapters: pub11, captions,
tune.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split
of UC Merced.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from rs5m import pocket, pub11, results, web
from rs5m.book import judge
from rs5m.book.scales import Scale
from rs5m.data import images, records, runfolder
from rs5m.data.datasets import Pairs
from rs5m.pocket import webpages

WEB_SEED = 2  # of the pocket web; set after the filters of PUB11 were fixed
# loopback is refused unless a scale asks for it
LIMITS = web.Limits(allow_loopback=True, per_host=8, backoff=0.05)


def crawl(scale: Scale) -> Path:
    """The folder of the pocket web's run through PUB11: pairs/, out/ and seconds.txt. Chapter:
    pub11.
    """

    def make(folder: Path) -> None:
        site = webpages.build(seed=WEB_SEED)
        with webpages.serve(site) as base:
            began = time.perf_counter()
            pairs = webpages.write(site, base, folder / "pairs")
            pub11.run(pairs, folder / "out", judge.Model(scale.name), LIMITS)
            (folder / "seconds.txt").write_text(f"{time.perf_counter() - began:.1f}")

    return results.artefact("pub11", scale.name, (scale, WEB_SEED, repr(LIMITS)), make)


@cache
def web_records(scale: Scale) -> list[records.Record]:
    """PUB11's half at the pocket's size: the kept pairs of `crawl`, read from its shards.

    Pictures that lie in Europe or Africa, or that share a degree with a test chip, are left out;
    their number is printed.
    """
    out = crawl(scale) / "out"
    site, kept = webpages.build(seed=WEB_SEED), pd.read_parquet(out / "kept.parquet")
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
    return Pairs(
        "pub11",
        [np.asarray(images.decode(r.image)) for r in rows],
        [(r.caption,) for r in rows],
        [],
    )


def pub11_shards(scale: Scale) -> list[Path]:
    """The pairs of `web_records` as shards: PUB11's, less the test
    continents.
    """

    def make(folder: Path) -> None:
        rows = web_records(scale)
        runfolder.write_tars(folder, "pub11-train", len(rows), rows.__getitem__)

    return sorted(
        results.artefact("pub11-shards", scale.name, (crawl(scale).name,), make).glob("*.tar")
    )


def elsewhere(pictures: pd.DataFrame) -> np.ndarray:
    """Which windows (x, y, side in Blue Marble pixels) have no degree in common with the test
    continents: bool (n,).

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
        where = [
            pocket.continent(p["country_code"], *c)
            for p, c in zip(reverse_geocode.search(at), at, strict=True)
        ]
        found &= ~np.isin(where, pocket.TEST_CONTINENTS)
    for i, (x, y, side) in enumerate(pictures[["x", "y", "side"]].to_numpy()):
        rows, columns = (slice(v // pocket.CHIP, -(-(v + side) // pocket.CHIP)) for v in (y, x))
        found[i] &= not taken[rows, columns].any()
    return found
