"""A leak map: how many images of one set are copies of images of another, turned and mirrored ones
too. Chapter: dedup.

The sets are those that models of remote sensing are trained and tested on. Signatures are kept in
runs/, the map in results/local.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rs5m import dedup, intervals, results
from rs5m.book import rsicd
from rs5m.book import sets as tested
from rs5m.book.scales import Scale, data_folder
from rs5m.data import datasets
from rs5m.device import processors
from rs5m.tune import ret2

NAMES = {"rsicd": "RSICD", "ucm": "UC Merced", "eurosat": "EuroSAT", "whurs19": "WHU-RS19"}
SAMPLE = 30  # pairs drawn to be judged by eye
# Pairs that show one picture, of SAMPLE, by one judge on a sheet of both pictures side by side; not
# counted as right: two stadiums that may be one
JUDGED = {"drawn": 30, "lowest": 29}


class Set(NamedTuple):
    """A set's images and their `rs5m.dedup.signatures`."""

    images: datasets.Images
    signatures: dict[str, np.ndarray]


def there(scale: Scale) -> bool:
    """Whether the scale's data folder holds RSICD and the test sets of `rs5m.book.rsicd`."""
    return rsicd.there(scale) and (data_folder(scale) / "whurs19").is_dir()


def sets(scale: Scale) -> tuple[dict[str, Set], int]:
    """Every set by its name, signed; how many of RSICD's images, the first ones, are its training
    half.
    """
    halves = [ret2.split(rsicd.folder(scale), "rsicd", half).paths for half in ("train", "test")]
    paths = [*halves[0], *halves[1]]
    found = {"rsicd": datasets.Images([p.name for p in paths], lambda i: paths[i].read_bytes())}
    for name in rsicd.TESTS:
        found[name] = tested.classes(name, scale).images
    signed = {name: Set(found[name], _signed(scale, name, found[name])) for name in NAMES}
    return signed, len(halves[0])


def picture(images: datasets.Images, i: int) -> np.ndarray:
    """One image (h, w, 3); ValueError where it is not readable."""
    image, reason = datasets.decode(images.read(int(i)))
    if image is None:
        raise ValueError(f"{images.names[i]} is not readable: {reason}")
    return image


def _signed(scale: Scale, name: str, images: datasets.Images) -> dict[str, np.ndarray]:
    def make(out: Path) -> None:
        pictures = (picture(images, i) for i in range(len(images.names)))
        np.savez(out / "signatures.npz", **dedup.signatures(pictures))

    kept = results.artefact(f"signed-{name}", scale.name, (images.names,), make)
    with np.load(kept / "signatures.npz") as held:
        return dict(held)


def copies(a: dict, b: dict) -> pd.DataFrame:
    """Pairs (i, j) of a picture in `a` and its copy in `b` (signatures): orientation, score.

    Both ways round, since flat pictures are looked for in crops of the second set alone; a pair's
    score is the same either way.
    """
    one = dedup.leaks(b, a).rename(columns={"test": "i", "train": "j"})
    other = dedup.leaks(a, b).rename(columns={"test": "j", "train": "i"})
    other["orientation"] = dedup.INVERSE[other.orientation.to_numpy(int)]
    both = pd.concat([one, other]).sort_values("score", ascending=False, kind="stable")
    both = both.drop_duplicates(["i", "j"]).sort_values(["i", "j"], ignore_index=True)
    return both[["i", "j", "orientation", "score"]]


def pairs(found: dict[str, Set]) -> pd.DataFrame:
    """All copies across the sets: `copies` with the names a, b of the sets."""

    def of(names: tuple[str, str]) -> pd.DataFrame:
        a, b = names
        return copies(found[a].signatures, found[b].signatures).assign(a=a, b=b)

    with ThreadPoolExecutor(processors()) as pool:  # numpy leaves Python's lock
        return pd.concat(pool.map(of, combinations(found, 2)), ignore_index=True)


def sample(table: pd.DataFrame) -> pd.DataFrame:
    """The SAMPLE pairs that were judged, drawn at random from all."""
    drawn = np.random.default_rng(0).permutation(len(table))[:SAMPLE]
    return table.iloc[drawn].reset_index(drop=True)


def measure(scale: Scale) -> dict:
    """Keys: images (set -> how many), copies (set -> other set -> images of the first that have a
    copy in the second), training (images of WHU-RS19 with a copy in RSICD's training half), pairs,
    turned (pairs in another orientation), examples (file names, orientation and score of a few).
    """
    found, half = sets(scale)
    table = pairs(found)
    count = {a: {b: 0 for b in found if b != a} for a in found}
    for (a, b), some in table.groupby(["a", "b"]):
        count[a][b], count[b][a] = some.i.nunique(), some.j.nunique()
    trained = table[(table.a == "rsicd") & (table.b == "whurs19") & (table.i < half)]
    return {
        "images": {name: len(one.images.names) for name, one in found.items()},
        "copies": count,
        "training": trained.j.nunique(),
        "pairs": len(table),
        "turned": int((table.orientation != 0).sum()),
        "examples": [
            [
                f"{NAMES[row.a]}: {found[row.a].images.names[row.i]}",
                f"{NAMES[row.b]}: {found[row.b].images.names[row.j]}",
                int(row.orientation),
                round(float(row.score), 3),
            ]
            for row in sample(table).head(6).itertuples()
        ],
    }


def published(scale: Scale) -> dict | None:
    """`measure`, or what was stored, see `rs5m.results.measured`."""
    return results.measured("leakmap", "local", there(scale), lambda: measure(scale))


def table(values: dict) -> pd.DataFrame:
    """For each set (row), how many of its images have a copy in each other (column)."""
    rows = {
        NAMES[a]: {"images": n} | {NAMES[b]: values["copies"][a].get(b) for b in values["images"]}
        for a, n in values["images"].items()
    }
    columns = ["images", *(NAMES[name] for name in values["images"])]
    return pd.DataFrame(rows).T[columns].astype("Int64").astype(object).fillna("")


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the section's first paragraph; NaN where none is stored."""
    judged = {f"judged_{name}": right for name, right in JUDGED.items()}
    judged |= {"sample": SAMPLE, "judged_low": intervals.wilson(JUDGED["drawn"], SAMPLE)[0]}
    if values is None:
        return dict.fromkeys(("whurs19", "whurs19_images", "training", "turned"), np.nan) | judged
    return {
        "whurs19": values["copies"]["whurs19"]["rsicd"],
        "whurs19_images": values["images"]["whurs19"],
        "training": values["training"],
        "turned": values["turned"],
    } | judged
