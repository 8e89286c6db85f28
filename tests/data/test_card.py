"""The card of a written data set, read back."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs5m import files
from rs5m.data import card


@pytest.fixture
def out(tmp_path):
    pq.write_table(
        pa.table({"row": [1, 2], "text": ["a|b", "c"], "score": [0.5, None]}),
        tmp_path / "kept.parquet",
    )
    for number in range(2):
        (tmp_path / f"pub11-train-000{number}.tar").write_bytes(b"")
    return tmp_path


def _card(**changes):
    table = pd.DataFrame({"source": ["x|y", "total"], "pairs": [1200, 1200]})
    given = {"name": "Pairs", "about": "Some pairs.", "licence": "", "gaps": ("None looked at.",)}
    return card.Card(**(given | {"tables": (("Counts", table),), "main": "kept.parquet"} | changes))


def test_people_read_counts_licence_gaps_and_columns(out):
    card.write(out, _card())
    text = (out / card.CARD).read_text()
    assert text.startswith(
        "---\nconfigs:\n- config_name: default\n  data_files: pub11-train-*.tar\n"
    )
    assert (
        "| x&#124;y | 1,200 |" in text and card.NO_LICENCE in text and "- None looked at." in text
    )
    assert "2 tars of pairs; `kept.parquet` has the columns `row` (int64), `text` (string)" in text


def test_programs_read_types_and_the_digest(out):
    card.write(out, _card(licence="https://creativecommons.org/licenses/by/4.0/"))
    told = json.loads((out / card.CROISSANT).read_text())
    assert told["conformsTo"].endswith("croissant/1.0") and "by/4.0" in told["license"]
    assert told["distribution"][0]["sha256"] == files.sha256(out / "kept.parquet")
    kinds = {field["name"]: field["dataType"] for field in told["recordSet"][0]["field"]}
    assert kinds == {"row": "sc:Integer", "text": "sc:Text", "score": "sc:Float"}


def test_twice_the_same_bytes_and_a_set_without_pairs_has_a_card(out):
    card.write(out, _card())
    first = [(out / name).read_bytes() for name in (card.CARD, card.CROISSANT)]
    card.write(out, _card())
    assert first == [(out / name).read_bytes() for name in (card.CARD, card.CROISSANT)]
    for tar in out.glob("*.tar"):
        tar.unlink()
    card.write(out, _card())
    assert (out / card.CARD).read_text().startswith("# Pairs")
    assert len(json.loads((out / card.CROISSANT).read_text())["distribution"]) == 1
