"""What RS3's published captions hold and how people marked them, on made captions and marks."""

import numpy as np
import pandas as pd
import pytest

from rs5m import results
from rs5m.book import marks

TEXT = (
    "over {place} during {season}, a pier at the {cells} blocks of the frame. it has 2.60m. its "
    "utm zone 18{band} and 15 o'clock, {month} 9, 2016. amidst 0% cloud cover. this shows a pier"
)


def texts(*rows):
    keys = ("band", "month", "season", "cells")
    return pd.Series([TEXT.format(place="x", **dict(zip(keys, row, strict=True))) for row in rows])


def test_seasons_of_the_south_are_told_by_the_utm_band():
    made = texts(
        ("H", "June", "Summer", "center and top-left"),
        ("J", "January", "Winter", "center and top-left"),
        ("M", "October", "Fall", "center and top-left"),
        ("T", "March", "Spring", "center and top-left"),
    )
    assert marks.seasons(made) == {"south": 2, "wrong": 2, "tropics": 1}


def test_a_field_is_read_when_its_last_letter_is():
    caption = texts(("T", "June", "Summer", "center and top-left"))[0]
    read = caption[: caption.index(" and 15")].replace("18T", "1 8 t")
    assert marks.reached(caption, read, marks.FIELDS["UTM zone"])
    assert not marks.reached(caption, read[:-1], marks.FIELDS["UTM zone"])
    assert not marks.reached(caption, read, marks.FIELDS["cloud cover"])


def test_positions_name_the_pair_that_a_tie_gives():
    made = texts(*[("T", "June", "Summer", "center and top-left")] * 2)
    made = pd.concat([made, texts(("T", "June", "Summer", "top-right and center"))])
    other = pd.Series(["a hut on top of a hill", "a road", "a dam at the top-left"])
    listed = pd.DataFrame({"caption": [*made, *other], "subset": ["fMoW"] * 3 + ["MillionAID"] * 3})
    found = marks.positions(listed)
    assert found["tie"] == "center and top-left" and found["ties"] == 2
    assert (found["others"], found["cells"], found["top"]) == (2, 1, 1)


def test_contact_is_counted_on_whole_words():
    said = pd.Series(["a sports ground", "a pasture near a port", "Two rivers"])
    found = {name: one["named"] for name, one in marks.touched(said).items()}
    assert found == {"eurosat": 2, "whurs19": 2}


@pytest.fixture(scope="module")
def rated():
    """Two files of marks: fMoW's fall with length, MillionAID's are low in the first file alone."""
    rows = []
    for file in ("ratings_1_500", "ratings_501_1000"):
        for i in range(30):
            good = 5 - (i >= 20)
            low = 1 + (i % 2) if file == "ratings_1_500" else 4 + (i % 2)
            town = "center and top-left" if i % 2 else "Ci?dad"
            rows.append(("fMoW", f"{town} " + "word " * (i + 1), good, file, f"f{i}{file}"))
            rows.append(("MillionAID", "a road " * (1 + i % 3), low, file, f"m{i}{file}"))
            rows.append(("BigEarthNet", "water " * (1 + i % 5), 4 + i % 2, file, f"b{i}{file}"))
    made = pd.DataFrame(rows, columns=["subset", "description", "mark", "file", "image_path"])
    every = made.assign(**dict.fromkeys(marks.MEASURES, made["mark"])).drop(columns="mark")
    return pd.concat([every, every.iloc[[0]]], ignore_index=True)


def test_marks_by_file_and_subset(rated):
    found = marks.ratings(rated)
    first, second = found["files"]
    assert (first["rows"], first["images"], first["repeated"], first["lowest"]) == (91, 90, 1, 1)
    assert (second["file"], second["repeated"]) == ("ratings_501_1000", 0)
    assert found["low"] == [(30, 90), (0, 90)], "marks of 1 or 2; the copy is left out"
    assert [round(one[0], 2) for one in found["relevance"]] == [1.5, 4.5]
    assert found["between"]["fluency"]["MillionAID"]["ratings_1_500"] == 1.5
    means = {row[:2]: row[2] for row in found["means"]}
    assert means["hallucination", "fMoW"] == pytest.approx(14 / 3) and len(means) == 9


def test_length_and_corner(rated):
    found = marks.ratings(rated)
    trend = {name: row for name, *row in found["length"]}
    assert trend["fMoW"][2] < 0 and found["length"][0][0] == "all together"
    assert [count for count, *_ in found["corner"]] == [30, 30, 30]
    assert marks.bracket(*trend["fMoW"], "+").startswith("-0.")


def test_the_stored_run_has_what_the_chapter_shows():
    values = results.load("published", "local")["values"]
    assert set(values["captions"]["fields"]) == set(marks.FIELDS)
    assert all(len(one) == len(marks.BINS) - 1 for one in values["captions"]["tokens"].values())
    assert np.sum([*values["captions"]["tokens"].values()]) == 10_000
    assert "description" not in str(values), "no text of others is kept"
