"""The published captions and ratings, on small made-up files; the real ones are checked in the
chapter.
"""

import numpy as np
import pytest

from rs5m.rs3 import published

ROWS = [
    'fmow_port_1_2_rgb.jpg,"a port, at the center and top-left blocks"',
    "ben_7.jpg,NA",
    "millionaid_P1.jpg,on top of a hill",
]
RATED = "image_path,description,relevance_detail,hallucination,fluency\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rs5m").mkdir()
    text = "\n".join(["name,caption", *ROWS])
    (tmp_path / "rs5m" / "rs3_captions_10k.csv").write_text(text)
    (tmp_path / "rs5m" / "ratings_1001_1500.csv").write_text(RATED + "static/ben_7.jpg,NA,1,2,3\n")
    (tmp_path / "rs5m" / "ratings_1_500.csv").write_text(RATED + "static/fmow_a.jpg,a port,5,4,\n")
    return tmp_path


def test_captions_know_their_subset(folder):
    found = published.captions(folder)
    assert found.subset.tolist() == ["fMoW", "BigEarthNet", "MillionAID"]
    assert found.caption[1] == "NA"  # a caption, not a missing one
    assert found.caption.str.contains(published.POSITION).tolist() == [True, False, True]


def test_ratings_come_in_the_order_of_their_files(folder):
    found = published.ratings(folder)
    assert found.file.tolist() == ["ratings_1_500", "ratings_1001_1500"]
    assert np.isnan(found.fluency[0]) and found.hallucination.tolist() == [4, 2]


@pytest.mark.parametrize(
    "row", ["ben_7.jpg,x,0,2,3", "ben_7.jpg,x,1,6,3", "sydney_7.jpg,x,1,2,3", "ben_7.jpg,x,a,2,3"]
)
def test_odd_ratings_name_their_file(folder, row):
    (folder / "rs5m" / "ratings_1_500.csv").write_text(f"{RATED}static/{row}\n")
    with pytest.raises(ValueError, match="ratings_1_500.csv"):
        published.ratings(folder)


def test_missing_files_and_columns_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="rs3_captions_10k.csv"):
        published.captions(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="ratings"):
        published.ratings(tmp_path / "nowhere")
    (folder / "rs5m" / "rs3_captions_10k.csv").write_text("name\nben_1.jpg\n")
    with pytest.raises(ValueError, match="lacks caption"):
        published.captions(folder)


def test_clip_reads_what_its_tokenizer_keeps():
    texts = ["a Port.", "wharf " * 90]
    found = published.clip_reads(texts)
    from rs5m.clip import open_clip

    kept = open_clip.get_tokenizer("ViT-B-32")(texts)
    assert found.tokens[0] == (kept[0] != 0).sum() == 5 and found.tokens[1] == 92
    assert found["read"][0].split() == ["a", "port", "."] and len(found["read"][1].split()) == 75


def test_renderings_of_a_view_are_counted():
    drawn = np.random.default_rng(0).permutation([f"fmow_{i}_{f}.jpg" for i in range(500)
                                                  for f in ("rgb", "msrgb")])[:200]  # fmt: skip
    found = published.renderings([*drawn, "ben_7.jpg", "millionaid_rgb"], 500)
    assert found["rgb"] + found["msrgb"] == 200 and found["both"] > 0
    assert abs(found["both"] - found["expected"]) < 3 * found["expected"] ** 0.5
