"""The judged crawl in the chapter keywords: counts in a made folder, and what a page without data
shows.
"""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs5m.book import scales, wordlists

DATA = Path(os.environ.get("RS5M_DATA") or "../shared/data")


@pytest.fixture
def folder(tmp_path):
    web = tmp_path / "web"
    web.mkdir()
    hits = ["aerial view"] * 8 + ["satellite dish", "aerial town"]
    labels = list("VVVGOOON") + ["N", "E"]
    photos = {"photo_text": ["cat", "dog"], "test_photo_text": ["airplane window", "a cup"]}
    np.savez(web / "cc3m_judged.npz", hit_text=hits, hit_label=labels, **photos)
    invented = "view\ttext\n1\tvue aérienne\n1\tplain\n0\tsatellite dish\n0\tnothing\n"
    (web / "invented_captions.tsv").write_text(invented)
    (web / "cc3m_val.tsv").write_text("aerial view\thttp://a\ncat\thttp://b\n")
    pd.DataFrame({"TEXT": ["Luftbild", None, "dog", "x"]}).to_parquet(web / "laion_10k.parquet")
    return tmp_path


def test_what_is_measured_is_what_counting_gives(folder):
    found = wordlists.measure(folder)
    assert found["judged"]["wide"]["rate"] == 70 and found["judged"]["strict"]["rate"] == 40
    assert found["terms"]["aerial view"]["rate"] == 87.5
    assert found["terms"]["aerial"]["texts"] == 9 and "satellite" not in found["terms"]
    assert found["traps"] == {"hits": 1, "right": 0} and found["photographs"]["rate"] == 25
    rates = {name: {k: v["rate"] for k, v in of.items()} for name, of in found["lists"].items()}
    assert rates["first"] == {"views": 0, "ordinary": 50, "CC3M": 50, "LAION": 0}
    assert rates["both"] == {"views": 50, "ordinary": 50, "CC3M": 50, "LAION": 25}
    assert rates["no traps"] == {"views": 50, "ordinary": 0, "CC3M": 50, "LAION": 25}
    assert found["read"] == {}  # other texts than those that were read
    assert wordlists.table(found).shape == (4, 3) and len(wordlists.terms(found)) == 2
    assert wordlists.headline(found)["wide"] == 70


def test_a_page_without_a_record_has_numbers_that_say_so():
    numbers = wordlists.headline(None)
    assert numbers["terms"] > 100 and all(
        math.isnan(value) for key, value in numbers.items() if key != "terms"
    )


def test_a_missing_corpus_is_named(folder):
    (folder / "web" / "laion_10k.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"laion_10k.*RS5M_DATA"):
        wordlists.measure(folder)


@pytest.mark.skipif(not (DATA / wordlists.JUDGED).is_file(), reason="needs the judged crawl")
def test_the_stored_result_is_what_the_data_give():
    stored = wordlists.published(scales.get("mini"))
    found = wordlists.measure(DATA)
    assert stored == found and 65 < found["judged"]["wide"]["rate"] < 75
