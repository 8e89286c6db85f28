"""report.html of a run of RS3: samples of the pairs, and of the images without one, for a person.
Chapter: rs3.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from rs5m.data import images as pictures
from rs5m.data import sheet
from rs5m.rs3.finished import choices, pairs, summary
from rs5m.rs3.input import content

PAGE = "report.html"
EACH = 10  # examples of a candidate that was dropped


def write(out: Path, images: Path) -> None:
    """Write the page into the folder of a finished run, whose images are in the folder `images`."""
    made, dropped = pairs(out), pq.read_table(out / "dropped.parquet").to_pandas()
    shown = made.iloc[sheet.sample(made.name.tolist())]
    cards = [
        sheet.Card(_picture(images / row.file), row.caption, row.name_, f"score {row.score:.3f}")
        for row in shown.rename(columns={"name": "name_"}).itertuples()
    ]
    groups = [sheet.Group("Pairs", len(made), cards)]
    for (stage, reason), rows in dropped.groupby(["stage", "reason"], sort=True):
        some = rows.iloc[sheet.sample(rows.name.tolist(), EACH)]
        cards = [sheet.Card(None, row.text or "", row.name_) for row in _named(some)]
        title = f"{'Captions' if stage == 'candidate' else 'Images'} dropped: {reason}"
        groups.append(sheet.Group(title, len(rows), cards))
    whole = len(choices(out))
    lead = (
        f"{len(made):,} of {whole:,} images became pairs. Below are the counts, then up to "
        f"{sheet.EACH} pairs and up to {EACH} captions that were dropped for each reason, drawn "
        f"by chance. All of them are in pairs.parquet and dropped.parquet. Images: {pictures.RULE}."
    )
    tables = [("What became of the images", summary(out))]
    sheet.write(out / PAGE, "RS3: pairs, and captions that were dropped", lead, tables, groups)


def _named(rows):
    return rows.rename(columns={"name": "name_"}).itertuples()  # itertuples has its own `name`


def _picture(path: Path) -> str | None:
    image = pictures.read(content(path), pictures.DECODING)[0]
    return sheet.thumbnail(image) if image else None
