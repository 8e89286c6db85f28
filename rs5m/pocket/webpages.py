"""The pocket web: pretend sources of pairs whose truth is known, served over real HTTP from
loopback. Chapter: pub11.

Views from above are windows of the Blue Marble that do not overlap; maps, ground photos, lettering
and gradients are what must go; links are broken in the ways of the web. Windows and photographs of
`labelled` are never served.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rs5m.data.images import decode
from rs5m.pocket.pictures import (
    BROKEN,
    COPIES,
    DRAWN,
    PHOTOS,
    blue_marble_windows,
    encoded,
    photo_windows,
)
from rs5m.pocket.webtexts import alt_texts, sources, words

SHARE = {
    "view": 0.035,
    "quiet": 0.0012,
    "copy": 0.018,
    "again": 0.006,
    "broken": 0.008,
    "photo": 0.017,
    "drawn": 0.008,
    "lettering": 0.008,
}  # of the listed pairs; the rest is ordinary and never fetched


class PocketWeb(NamedTuple):
    """`pairs`: row, source, url (a path until served), text and the truth; `pictures`: what each
    path shows.

    Truth: picture, kind, is_remote_sensing (the picture), text_is_remote_sensing, duplicate_of (the
    first picture of a set of copies), broken ("" if the link works).
    """

    pairs: pd.DataFrame
    pictures: pd.DataFrame
    seed: int


def build(seed: int = 0, listed: int = 50_000) -> PocketWeb:
    """A pocket web of `listed` pairs, the same for the same seed; ValueError below 500 pairs."""
    if listed < 500:
        raise ValueError(
            f"a pocket web of {listed} pairs is too small to hold every kind: list 500 or more"
        )
    generator = np.random.default_rng(seed)
    counts = {role: max(1, round(share * listed)) for role, share in SHARE.items()}
    pictures = _pictures(counts, generator)
    pairs = _pairs(pictures, counts, listed, generator)
    pairs["text"] = alt_texts(pairs, pictures, generator)
    pairs["source"] = sources(pairs.role.to_numpy(), generator)
    order = np.lexsort((generator.permutation(len(pairs)), pairs.source))
    pairs = pairs.iloc[order].reset_index(drop=True)
    pairs.insert(0, "row", np.arange(len(pairs)))
    return PocketWeb(pairs, pictures, seed)


def _pictures(counts: dict, generator: np.random.Generator) -> pd.DataFrame:
    """One row per URL that answers or breaks: how it is drawn, of which picture it is a copy, how
    it breaks.
    """
    need = counts["view"] + counts["quiet"]
    windows = blue_marble_windows("web", generator)
    if need > len(windows):
        raise ValueError(
            f"{need} views are needed, and the Blue Marble has {len(windows)} windows: "
            "list fewer pairs"
        )
    roles = np.repeat(["view", "quiet"], [counts["view"], counts["quiet"]])
    drawn = DRAWN[generator.integers(len(DRAWN), size=counts["drawn"])]
    lettering = np.where(generator.random(counts["lettering"]) < 0.65, "banner", "gradient")
    table = pd.concat(
        [
            windows.head(need).assign(kind="satellite", role=roles),
            windows.sample(counts["broken"], random_state=generator).assign(
                kind="satellite", role="broken"
            ),
            photo_windows("web", counts["photo"], generator).assign(kind="photo", role="photo"),
            blue_marble_windows("web", generator)
            .head(counts["drawn"])
            .assign(kind=drawn, role="drawn"),
            pd.DataFrame({"kind": lettering, "role": "lettering"}),
        ],
        ignore_index=True,
    )
    table["broken"], table["change"], table["parent"] = "", "", np.arange(len(table))
    table.loc[table.role == "broken", "broken"] = np.resize(BROKEN, counts["broken"])
    good = np.flatnonzero(table.role.isin(["view", "photo", "drawn"]))
    weight = np.where(table.kind[good] == "satellite", 3.0, 1.0)
    parent = generator.choice(good, counts["copy"], p=weight / weight.sum())
    copies = table.iloc[parent].assign(
        role="copy", parent=parent, change=np.resize(COPIES, counts["copy"])
    )
    table = pd.concat([table, copies], ignore_index=True)
    table["draw"] = (
        table.parent
    )  # seeds size, tint and quality, so a copy starts from the pixels of its parent
    return table.fillna({"photo": "", "x": 0, "y": 0, "side": 0}).astype(
        {"x": int, "y": int, "side": int}
    )


def _pairs(
    pictures: pd.DataFrame, counts: dict, listed: int, generator: np.random.Generator
) -> pd.DataFrame:
    again = generator.choice(np.flatnonzero(pictures.broken == ""), counts["again"])
    index = np.concatenate([np.arange(len(pictures)), again])
    pairs = pictures.loc[index, ["kind", "role", "broken", "parent"]].reset_index(drop=True)
    pairs = pairs.rename(columns={"parent": "duplicate_of"}).assign(picture=index)
    pairs["url"] = [f"/{i}.jpg" for i in index]
    pairs.loc[len(pictures) :, "role"] = "again"
    pairs.loc[len(pictures) :: 2, "url"] += "#again"  # another spelling of the same URL
    pairs["is_remote_sensing"] = pairs.kind == "satellite"
    ordinary = pd.DataFrame({"url": [f"/ordinary/{i}.jpg" for i in range(listed - len(pairs))]})
    ordinary = ordinary.assign(
        kind="ordinary", role="ordinary", broken="", picture=-1, duplicate_of=-1
    )
    return pd.concat([pairs, ordinary.assign(is_remote_sensing=False)], ignore_index=True)


def addressed(web: PocketWeb, base: str) -> pd.DataFrame:
    """The listed pairs as a crawl would give them: row, source, url, text; `base` as `serve` gave
    it.
    """
    return web.pairs[["row", "source", "url", "text"]].assign(url=base + web.pairs.url)


def write(web: PocketWeb, base: str, folder: Path) -> list[Path]:
    """One parquet file per source (source, url, text) in `folder`; in the files' order, position is
    `row`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source, part in addressed(web, base).groupby("source", sort=True):
        paths.append(folder / f"{source}.parquet")
        part.drop(columns="row").to_parquet(paths[-1], index=False)
    return paths


@contextlib.contextmanager
def serve(web: PocketWeb, port: int = 0) -> Iterator[str]:
    """The web behind a threaded HTTP server of its own process on 127.0.0.1; gives its base URL."""
    command = [
        sys.executable,
        "-m",
        "rs5m.pocket.server",
        str(web.seed),
        str(len(web.pairs)),
        str(port),
    ]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise ConnectionError(
                "the pocket web's server did not start: its own message stands above"
            )
        yield line
    finally:
        process.kill()
        process.communicate()


def labelled(count: int = 600, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Examples for a detector: images (h, w, 3) uint8, labels bool (n,), validation bool (n,).

    Up to `count` views and as many others in each half; places and photographs differ between
    train, validation and the web.
    """
    images, labels, validation = [], [], []
    for split in ("train", "validation"):
        generator = np.random.default_rng([seed, len(split)])
        windows = blue_marble_windows(split, generator).head(count)
        drawn = DRAWN[generator.integers(len(DRAWN), size=count // 3)]
        others = [
            blue_marble_windows(split, generator).head(count // 3),
            photo_windows(split, count // 2, generator),
        ]
        table = pd.concat(
            [
                windows.assign(kind="satellite"),
                others[0].assign(kind=drawn[: len(others[0])]),
                others[1].assign(kind="photo"),
                pd.DataFrame({"kind": ["banner", "gradient"] * (count // 12)}),
            ],
            ignore_index=True,
        )
        table = table.fillna({"photo": "", "x": 0, "y": 0, "side": 0}).astype(
            {"x": int, "y": int, "side": int}
        )
        change = generator.choice(
            ["", "", "", *COPIES], len(table)
        )  # the web's files are compressed and changed, too
        table = table.assign(
            change=change, broken="", draw=10**6 * (1 + len(split)) + np.arange(len(table))
        )
        images += [np.asarray(decode(encoded(row, seed))) for row in table.itertuples()]
        labels += (table.kind == "satellite").tolist()
        validation += [split == "validation"] * len(table)
    return images, np.array(labels), np.array(validation)


__all__ = [
    "BROKEN",
    "COPIES",
    "PHOTOS",
    "PocketWeb",
    "addressed",
    "build",
    "labelled",
    "serve",
    "words",
    "write",
]
