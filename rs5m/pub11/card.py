"""The card of a set of web pairs. Chapter: pub11."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rs5m.data import card, images
from rs5m.pub11 import report

GAPS = (
    "Texts are alternative texts as the web has them: nobody checked that they describe the image.",
    "An opt-out in a server's answer is honoured (reason `opt_out`); no register of opt-outs was "
    "asked.",
    "Images were not looked at for people, faces or text that should not be there.",
    "Keywords are English unless a list was named: pairs in other languages are rare here.",
)


def write(out: Path) -> None:
    """Write README.md and croissant.json into the folder of a finished run."""
    note = json.loads((out / "run.json").read_text())
    attrition = pd.read_parquet(out / "attrition.parquet")
    total, judge = attrition.iloc[-1], note.get("notes", {}).get("judge", "")
    about = (
        f"{total.remaining:,} image-text pairs of the web that have to do with views of the earth "
        f"from above, out of {total.pairs_listed:,} listed ones: chosen by keywords, downloaded, "
        "without invalid images and copies, cleaned by a judge of images (the stages of PUB11, "
        f"part of RS5M). Images: {images.RULE}."
    )
    about += f" J{judge[1:]}." if judge else ""
    beyond = note.get("notes", {}).get("curation", "")
    about += f" {beyond}." if beyond else ""
    inputs = pd.DataFrame(note["inputs"], columns=["input", "sha256"])
    tables = (
        ("Pairs by collection", attrition),
        ("Pairs dropped, by stage and reason", report.reasons(out)),
        ("Inputs", inputs),
    )
    words = card.Card("PUB11 pairs", about, "", GAPS, tables, "kept.parquet")
    card.write(out, words)
