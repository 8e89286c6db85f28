"""Captions in Karpathy's form, as RSICD is published: by parts, the same wherever RSICD's csv is
read; each image is kept, or named with a reason.
"""

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rs5m.data import datasets, documents, pairs, records
from rs5m.tune import ret2

SPLITS = ("train", "val", "test")


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def entry(number: int, split: str, *texts) -> dict:
    sentences = [{"raw": text, "tokens": [], "imgid": number, "sentid": 0} for text in texts]
    return {"filename": f"{number}.jpg", "imgid": number, "split": split, "sentences": sentences}


def published(folder, *entries, pictures: int = 6):
    """rsicd/dataset_rsicd.json beside rsicd/RSICD_images, as RSICD comes."""
    (folder / "rsicd/RSICD_images").mkdir(parents=True)
    for i in range(pictures):
        (folder / f"rsicd/RSICD_images/{i}.jpg").write_bytes(jpeg(i))
    path = folder / "rsicd/dataset_rsicd.json"
    path.write_text(json.dumps({"images": entries, "dataset": "rsicd"}))
    return path


def packed(path, out, part: str = "train") -> tuple[dict[str, str], dict]:
    """Name and first caption of the packed pairs, and what was left out."""
    found = records.read(pairs.pack([path], out, part=part))
    left_out = json.loads((out / "left_out.json").read_text())
    return {record.name: record.caption for record in found}, left_out


def test_a_part_is_packed_and_the_others_are_named(tmp_path, capsys):
    odd = [{"filename": "5.jpg", "sentences": [{"raw": "no part"}]}, {"split": "train"}, 7]
    some = [entry(i, split, f"a {i} ", "many trees .") for i, split in enumerate(SPLITS)]
    more = [entry(3, "train"), entry(4, "restval", None, "NULL"), entry(9, "train", "gone")]
    path = published(tmp_path, *some, *more, *odd)
    assert packed(path, tmp_path / "train") == (
        {"0.jpg": "a 0", "5.jpg": "no part"},
        {
            "has no caption": ["3.jpg", "4.jpg"],
            "is missing": ["9.jpg"],
            "is of another part (val)": ["1.jpg"],
            "is of another part (test)": ["2.jpg"],
            "has no filename": ["image 7", "image 8"],
        },
    )
    said = "dataset_rsicd.json: the train part of its images is read, of 2 without one, 1 restval"
    assert said in capsys.readouterr().out
    assert packed(path, tmp_path / "val", "val")[0] == {"1.jpg": "a 1", "5.jpg": "no part"}
    count = json.loads((tmp_path / "train/data.json").read_text())
    assert (count["found"], count["packed"]) == (9, 2)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*SPLITS, "restval", "", None]),
            st.lists(st.sampled_from(["a view", "", "nan", None, 3]), max_size=3),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(SPLITS),
)
def test_every_image_is_kept_or_has_a_reason(tmp_path_factory, given, part):
    folder = tmp_path_factory.mktemp("karpathy")
    entries = [entry(i, split, *texts) for i, (split, texts) in enumerate(given)]
    path = published(folder, *entries)
    mine = [
        (not split or split in documents.PARTS[part]) and "a view" in texts
        for split, texts in given
    ]
    if any(mine):
        kept, left_out = packed(path, folder / "out", part)
        assert sorted(kept) == [f"{i}.jpg" for i, one in enumerate(mine) if one]
        assert len(kept) + sum(map(len, left_out.values())) == len(given)
    else:
        with pytest.raises(ValueError, match="has no whole pair"):
            packed(path, folder / "out", part)
        assert not (folder / "out").exists()


def test_the_json_gives_what_the_csv_gives(tmp_path):
    entries = [entry(i, SPLITS[i % 3], f"a {i}", f"b, {i}") for i in range(6)]
    path = published(tmp_path, *entries)
    train, test = ret2.split(tmp_path, "rsicd", "train"), datasets.captions("rsicd", tmp_path)
    assert test.images.names == ["2.jpg", "5.jpg"] and test.captions[0] == ("a 2", "b, 2")
    assert [path.name for path in train.paths] == ["0.jpg", "3.jpg"]
    path.unlink()
    for part in ("train", "test"):
        texts = [
            (one["filename"], s["raw"])
            for one in entries
            for s in one["sentences"]
            if one["split"] == part
        ]
        table = pd.DataFrame(texts, columns=["filename", "title"])
        table.to_csv(tmp_path / f"rsicd/rsicd_{part}.csv", index=False)
    again = datasets.captions("rsicd", tmp_path)
    assert (again.images.names, again.captions) == (test.images.names, test.captions)
    assert ret2.split(tmp_path, "rsicd", "train") == train


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"images": [{"split": "test"}]}', "has no images with filename, split and sentences"),
        ('{"images": [{"filename": "a"', "has no images with filename, split and sentences"),
        ("[]", "has no images with filename, split and sentences"),
        (json.dumps({"images": [entry(0, "test", " ")]}), "image 0.jpg: a row needs a filename"),
    ],
)
def test_a_json_that_is_not_whole_is_named(tmp_path, content, said):
    published(tmp_path).write_text(content)
    with pytest.raises(ValueError, match=f"dataset_rsicd.json.* {said}"):
        datasets.captions("rsicd", tmp_path)


def test_without_either_list_both_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no rsicd/rsicd_test.csv, nor rsicd/dataset_rsicd.j"
    ):
        datasets.captions("rsicd", tmp_path)
