"""RET-2 on small folders in the true layout, with duplicates planted between the sets."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage import data as photographs

from rs5m.data import datasets, records
from rs5m.tune import ret2


def picture(seed: int, side: int = 128) -> Image.Image:
    """A window of a photograph, never the same one twice: seed // 2 names the place, its parity the
    photograph.
    """
    source = (photographs.astronaut(), photographs.immunohistochemistry())[seed % 2]
    y, x = 96 * (seed // 2 // 4), 96 * (seed // 2 % 4)
    return Image.fromarray(source[y : y + side, x : x + side])


def rsicd(folder: Path, train: dict[str, Image.Image], test: dict[str, Image.Image]) -> None:
    """RSICD: csv files in gb18030 with a row for each caption, jpg images in one folder."""
    images = folder / "rsicd" / "RSICD_images"
    images.mkdir(parents=True)
    for part, pictures in (("train", train), ("test", test)):
        rows = [(name, f"caption {i} of {name}\u3002") for name in pictures for i in range(5)]
        pd.DataFrame(rows, columns=["filename", "title"]).to_csv(
            folder / f"rsicd/rsicd_{part}.csv", index=False, encoding="gb18030"
        )
        for name, image in pictures.items():
            image.save(images / name, quality=92)


def rsitmd(folder: Path, train: dict[str, Image.Image], test: dict[str, Image.Image]) -> None:
    """RSITMD: tif images; the training list as text, a name for each image and five captions for
    each name.
    """
    images, lists = folder / "rsitmd" / "images", folder / "captions"
    images.mkdir(parents=True)
    lists.mkdir()
    for part, pictures in (("train", train), ("test", test)):
        each = 1 if part == "train" else 5  # the test list repeats the name for each caption
        texts = [
            f"view {min(i, 3)} of {name}" for name in pictures for i in range(5)
        ]  # one caption comes twice
        (lists / f"rsitmd_{part}_filename.txt").write_text(
            "".join(f"{name}\n" * each for name in pictures)
        )
        (lists / f"rsitmd_{part}_caps.txt").write_text("".join(f"{text}\n" for text in texts))
        for name, image in pictures.items():
            image.save(images / name)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Leaks: a training image of RSICD is a test image of RSITMD turned; one of RSITMD a test image
    of RSICD, smaller; one of RSICD is a test image of its own set."""
    own = picture(6)
    rsicd(
        tmp_path,
        {
            "farm_1.jpg": picture(0),
            "farm_2.jpg": picture(2).rotate(90),
            "farm_3.jpg": own,
            "farm_4.jpg": picture(1),
        },
        {"farm_8.jpg": picture(4), "farm_9.jpg": own.resize((200, 200))},
    )
    rsitmd(
        tmp_path,
        {
            "boat_1.tif": picture(4).resize((100, 100)),
            "boat_2.tif": picture(3),
            "farm_1.jpg": picture(5),
        },
        {"boat_8.tif": picture(2), "boat_9.tif": picture(7)},
    )
    return tmp_path


LEAKS = {
    ("rsicd", "farm_2.jpg", "rsitmd", "boat_8.tif"),
    ("rsitmd", "boat_1.tif", "rsicd", "farm_8.jpg"),
    ("rsicd", "farm_3.jpg", "rsicd", "farm_9.jpg"),
}


def test_ret2_holds_every_caption_of_every_image_that_is_no_leak(folder, tmp_path):
    paths = ret2.shards(folder, "ret2", tmp_path / "shards")
    found = sorted((r.name, r.caption, r.image) for r in records.read(paths))
    expected = []
    for name in ("farm_1.jpg", "farm_4.jpg"):
        content = (folder / "rsicd" / "RSICD_images" / name).read_bytes()
        expected += [(name, f"caption {i} of {name}\u3002", content) for i in range(5)]
    for name in ("boat_2.tif", "farm_1.jpg"):  # a name of the other set's too
        content = (folder / "rsitmd" / "images" / name).read_bytes()
        expected += [(name, f"view {i} of {name}", content) for i in range(4)]
    assert found == sorted(expected)
    removed = pd.read_csv(tmp_path / "shards" / "removed.csv")
    assert {tuple(row)[:4] for row in removed.itertuples(index=False)} == LEAKS and (
        removed.score >= 0.75
    ).all()
    counts = json.loads((tmp_path / "shards" / "data.json").read_text())
    assert counts.pop("folder") == str(folder) and counts.pop("unreadable") == {}
    assert counts == {
        "data": "ret2",
        "images": 7,
        "without a caption": 0,
        "removed as duplicates": 3,
        # by the published rule: the scaled copies, not the one that is turned
        "duplicates by the published rule": 2,
        "of them removed": 2,
        "pairs": 18,
    }


def test_one_set_alone_is_taken_whole(folder, tmp_path):
    paths = ret2.shards(folder, "rsicd", tmp_path / "shards")
    assert sorted({r.name for r in records.read(paths)}) == [f"farm_{i}.jpg" for i in (1, 2, 3, 4)]
    assert not (tmp_path / "shards" / "removed.csv").exists()
    with pytest.raises(
        ValueError, match="shards holds the shards of rsicd, not of rsitmd: name another folder"
    ):
        ret2.shards(folder, "rsitmd", tmp_path / "shards")
    with pytest.raises(
        ValueError,
        match=f"holds the shards of {folder}, not of {folder}/other: name another folder",
    ):
        ret2.shards(folder / "other", "rsicd", tmp_path / "shards")


def test_the_shards_are_shuffled_the_same_bytes_each_time_and_written_once(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(ret2, "TAR", 7)
    first, again = (ret2.shards(folder, "rsicd", tmp_path / name) for name in ("a", "b"))
    assert [p.name for p in first] == [f"rsicd-train-{i:04d}.tar" for i in range(3)]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    order = [(r.name, r.caption) for r in records.read(first)]
    assert len(order) == 20 and order != sorted(order)
    monkeypatch.setattr(ret2, "_fill", lambda *_: pytest.fail("it was written twice"))
    assert ret2.shards(folder, "rsicd", tmp_path / "a") == first


def test_what_fails_leaves_no_folder(folder, tmp_path):
    os.remove(folder / "rsicd" / "RSICD_images" / "farm_4.jpg")
    said = (
        "farm_4.jpg is not there, one of 1 missing images of rsicd's train list: put them there, or"
    )
    with pytest.raises(FileNotFoundError, match=said):
        ret2.shards(folder, "ret2", tmp_path / "out" / "shards")
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_is_no_image_is_left_out_and_named(folder, tmp_path):
    (folder / "rsicd" / "RSICD_images" / "farm_1.jpg").write_bytes(b"<html>gone</html>")
    paths = ret2.shards(folder, "ret2", tmp_path / "shards")
    counts = json.loads((tmp_path / "shards" / "data.json").read_text())
    assert counts["unreadable"] == {"farm_1.jpg": "not_an_image"} and counts["pairs"] == 13
    assert (
        sum(1 for r in records.read(paths) if r.name == "farm_1.jpg") == 4
    )  # RSITMD's image of that name


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (
            lambda f: (f / "rsicd/RSICD_images").rename(f / "rsicd/pictures"),
            "has no rsicd/RSICD_images/: put RSICD's",
        ),
        (
            lambda f: os.remove(f / "rsicd/rsicd_train.csv"),
            "has no rsicd_train.csv, and .* put RSICD's train list there",
        ),
        (
            lambda f: (f / "rsicd/rsicd_train.csv").write_bytes(b"filename,title\n\xff\xff,x\n"),
            "rsicd_train.csv is neither UTF-8 nor gb18030",
        ),
        (
            lambda f: (f / "rsicd/rsicd_train.csv").write_text("file,title\na,b\n"),
            "lacks the columns filename",
        ),
        (
            lambda f: (f / "rsicd/rsicd_train.csv").write_text(""),
            "rsicd_train.csv lacks the columns filename, title: it has none",
        ),
        (
            lambda f: (f / "rsicd/rsicd_train.csv").write_text("filename,title\n../../x.jpg,b\n"),
            "is not a file name",
        ),
        (
            lambda f: (f / "captions/rsitmd_train_caps.txt").write_text("one\n"),
            "has 1 captions for 3 names in",
        ),
    ],
)
def test_a_folder_in_another_layout_is_told_in_a_sentence(folder, tmp_path, harm, says):
    harm(folder)
    with pytest.raises((ValueError, OSError), match=says):
        ret2.shards(folder, "ret2", tmp_path / "shards")


def test_both_layouts_of_a_list_give_the_same_captions(folder):
    lists = ret2.split(folder, "rsitmd", "train")
    rows = [
        (path.name, text)
        for path, texts in zip(lists.paths, lists.captions, strict=True)
        for text in texts
    ]
    pd.DataFrame(rows, columns=["filename", "title"]).to_csv(
        folder / "rsitmd/rsitmd_train.csv", index=False
    )
    for name in ("filename", "caps"):
        os.remove(folder / f"captions/rsitmd_train_{name}.txt")
    assert ret2.split(folder, "rsitmd", "train") == lists
    assert lists.captions[0] == tuple(f"view {i} of boat_1.tif" for i in range(4))


REAL = (
    Path(os.environ.get("RS5M_DATA") or Path(__file__).parents[3] / "shared" / "data") / "captions"
)


@pytest.mark.skipif(
    not (REAL / "rsicd_train_caps.txt").is_file(), reason="the real lists are not at hand"
)
@pytest.mark.parametrize(
    ("name", "train", "test", "bare"), [("rsicd", 9828, 1093, 0), ("rsitmd", 4291, 452, 4)]
)
def test_the_real_lists_are_read(name, train, test, bare, tmp_path):
    """The true captions, with empty files for the images, which are not at hand.

    Four images of RSITMD's training list have no caption: their lines are empty.
    """
    images = tmp_path / name / datasets.CAPTIONED[name][0]
    images.mkdir(parents=True)
    (tmp_path / "captions").symlink_to(REAL)
    seen = []
    for part, count in (("train", train), ("test", test)):
        for file in set((REAL / f"{name}_{part}_filename.txt").read_text().split()):
            (images / file).touch()
        found = ret2.split(tmp_path, name, part)
        assert len(found.paths) == count and max(map(len, found.captions)) == 5
        assert sum(not texts for texts in found.captions) == (bare if part == "train" else 0)
        assert np.mean([len(texts) for texts in found.captions]) > 2
        seen.append({path.name for path in found.paths})
    assert not seen[0] & seen[1]
