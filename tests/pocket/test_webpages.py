"""The pocket web: seeded, honest about its truth, and served as bytes that do not change. Chapter
pub11.
"""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rs5m import keywords
from rs5m import web as download
from rs5m.data import images
from rs5m.pocket import pictures, webpages

LIMITS = download.Limits(allow_loopback=True, per_host=8, retries=0, timeout=20)


@pytest.fixture(scope="module")
def web():
    return webpages.build(listed=1500)


@pytest.mark.slow
def test_same_seed_same_web_other_seed_other_web(web):
    again, other = webpages.build(listed=1500), webpages.build(seed=1, listed=1500)
    pd.testing.assert_frame_equal(web.pairs, again.pairs)
    pd.testing.assert_frame_equal(web.pictures, again.pictures)
    assert (web.pairs.text != other.pairs.text).mean() > 0.5
    with pytest.raises(ValueError, match="list 500 or more"):
        webpages.build(listed=10)


def test_ordinary_texts_hold_no_keyword_and_most_others_do(web):
    hit = keywords.matches(web.pairs.text.tolist())
    ordinary = web.pairs.role == "ordinary"
    assert not hit[ordinary].any()
    assert hit[~ordinary].mean() > 0.9
    assert web.pairs.source.nunique() == 4 and (web.pairs.row == np.arange(1500)).all()


def test_windows_of_the_splits_do_not_overlap():
    taken = np.zeros((2700, 5400), np.uint8)
    for split in ("web", "train", "validation"):
        for x, y, side in pictures.blue_marble_windows(split, np.random.default_rng(0)).itertuples(
            index=False
        ):
            taken[y : y + side, x : x + side] += 1
    assert taken.max() == 1


def test_photographs_of_the_splits_differ():
    names = [set(v.split()) for v in pictures.PHOTOS.values()]
    assert sum(map(len, names)) == len(set.union(*names))


@pytest.mark.slow
def test_every_served_file_is_what_the_truth_says(web):
    fetched_as = ("http_404", "http_503", "opt_out", "empty", "incomplete_body", "refused_address")
    with webpages.serve(web) as base:
        pairs = webpages.addressed(web, base).assign(
            broken=web.pairs.broken, picture=web.pairs.picture
        )
        pairs = pairs[pairs.picture >= 0].drop_duplicates("picture")
        places = dict(download.fetch_many(pairs.url, LIMITS))
    found = [places[i] for i in range(len(pairs))]
    for broken, got, picture in zip(pairs.broken, found, pairs.picture, strict=True):
        if broken in fetched_as:
            assert got.status == broken
            continue
        assert got.status == "ok"
        assert images.check(got.content) == (broken or None)
        assert got.content == pictures.encoded(web.pictures.loc[picture], web.seed), (
            "same bytes in any process"
        )


def test_copies_are_copies_of_what_they_name(web):
    copies = web.pictures[web.pictures.change != ""]
    assert set(copies.change) == set(pictures.COPIES)
    for copy in copies.itertuples():
        data = pictures.encoded(copy, web.seed)
        parent = pictures.encoded(web.pictures.loc[copy.parent], web.seed)
        assert (data == parent) == (copy.change == "same_bytes")
        small = [
            np.asarray(Image.open(io.BytesIO(d)).convert("L").resize((8, 8)), float)
            for d in (data, parent)
        ]
        assert np.abs(small[0] - small[1]).mean() < 40


def test_labelled_examples_have_both_classes_in_both_halves():
    pictures, labels, validation = webpages.labelled(count=24)
    assert len(pictures) == len(labels) == len(validation)
    assert all(0.2 < labels[half].mean() < 0.8 for half in (validation, ~validation))
