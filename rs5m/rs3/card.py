"""The card of a set of captioned images. Chapter: rs3."""

from __future__ import annotations

import json
from pathlib import Path

from rs5m.data import card, images
from rs5m.rs3.finished import pairs, summary

GAPS = (
    "Captions are machine-written and chosen by machines: errors of the captioner remain.",
    "Metadata sentences repeat what the images' records say, errors included.",
    "One data set may hold several renderings of one scene; copies among the images stay.",
)
LICENCE = (
    "None is given: the images keep the licence of the data set that they come from, and the "
    "captions that of the models that wrote them."
)


def write(out: Path) -> None:
    """Write README.md and croissant.json into the folder of a finished run."""
    note = json.loads((out / "run.json").read_text())
    about = (
        f"{len(pairs(out)):,} of {len(note['images']):,} images with a caption each, written by a "
        "captioner, ranked by two vision-language models, chosen by what stays the same when the "
        f"image turns, and joined with metadata (RS3, part of RS5M). Captioner and rankers: "
        f"{note['identity']}. Images: {images.RULE}."
    )
    tables = (("What became of the images", summary(out)),)
    card.write(out, card.Card("RS3 pairs", about, LICENCE, GAPS, tables, "pairs.parquet"))
