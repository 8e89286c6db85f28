"""Readers of the official test folder: fake folders in the true layout, the real sets where they
are, bad input.
"""

import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_tests
import numpy as np
import pytest

from rs5m import pocket
from rs5m.data import datasets
from rs5m.evaluate import cards, testsets

REAL = Path(__file__).parents[3] / "shared/data"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real sets are not beside this checkout"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("official") / "rs5m_test_data"
    fake_tests.make(folder)
    return folder


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("name", "count", "each"), [("eurosat", 10, 2), ("resisc45", 45, 2), ("aid", 30, 1)]
)
def test_labelled_sets(made, name, count, each):
    found = testsets.classes(name, made)
    assert len(found.classes) == count and np.bincount(found.labels).tolist() == [each] * count
    assert found.classes == sorted(found.classes) and found.classes == sorted(
        cards.card(name)["classes"]
    )
    for i in (0, len(found.labels) - 1):
        assert found.images.names[i].startswith(found.classes[found.labels[i]] + "/")
        assert datasets.decode(found.images.read(i))[0].shape[:2] == tuple(cards.card(name)["size"])


def test_the_folder_above_is_the_same(made):
    for name in ("eurosat", "aid"):
        assert (
            testsets.classes(name, made.parent).images.names
            == testsets.classes(name, made).images.names
        )
    assert (
        testsets.captions("rsitmd", made.parent).captions
        == testsets.captions("rsitmd", made).captions
    )
    assert len(testsets.scenes("air_slt", made.parent)) == 2


@pytest.mark.parametrize(
    ("name", "title"), [("rsitmd", "a café near water"), ("rsicd", "many buildings’ roofs 河")]
)
def test_captioned_sets_in_the_official_order(made, name, title):
    found = testsets.captions(name, made)
    assert found.images.names == ["0.jpg", "1.jpg", "2.jpg"] and not found.left_out
    assert found.captions[2] == tuple(f"{title} 2, sentence {n}" for n in range(5))
    assert found.images.read(1) == fake_tests.jpeg(1, tuple(cards.card(name).get("size", (64, 64))))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_captions_survive_either_encoding(copy, encoding):
    path = copy / "rsicd/rsicd_test.csv"
    text = path.read_text(encoding="gb18030")
    path.write_text(text, encoding=encoding)
    assert (
        testsets.captions("rsicd", copy).captions[0][0] == "many buildings’ roofs 河 0, sentence 0"
    )


@pytest.mark.parametrize("encoding", ["gb18030", "latin-1", "utf-16"])
def test_rsitmd_in_another_encoding_is_one_sentence(copy, encoding):
    (copy / "rsitmd/rsitmd_test.csv").write_text(
        "filename,title\n0.jpg,a naïve roof\n", encoding=encoding
    )
    with pytest.raises(ValueError, match="rsitmd_test.csv is not UTF-8: save it as that"):
        testsets.captions("rsitmd", copy)


def test_other_letters_than_english_are_told(copy, capsys):
    testsets.captions("rsitmd", copy)
    assert "Chinese" not in capsys.readouterr().out  # an accent is no sign of a wrong encoding
    (copy / "rsicd/rsicd_test.csv").write_text(
        "filename,title\n0.jpg,a naïve roof\n", encoding="latin-1"
    )
    testsets.captions("rsicd", copy)  # gb18030 takes the bytes of ïv for one character
    assert (
        "1 of 1 captions of rsicd/rsicd_test.csv have Chinese characters" in capsys.readouterr().out
    )


def test_scenes_keep_the_order_of_the_json(made):
    first, second = testsets.scenes("air_slt", made)
    assert [first.name, second.name] == ["0.jpg", "1.jpg"] and [
        q.caption for q in first.queries
    ] == ["a pond 0.", "a pond 1."]
    assert first.queries[0].regions[0].shape == (3, 2) and first.read().shape == (600, 900, 3)


def test_sets_that_are_not_there(tmp_path):
    for read, names in (
        (testsets.classes, ("eurosat", "resisc45", "aid", "ucm")),
        (testsets.captions, ("rsitmd", "rsicd", "ucm")),
        (testsets.scenes, ("air_slt",)),
    ):
        for name in names:
            with pytest.raises(FileNotFoundError, match="has no|has neither"):
                read(name, tmp_path)
        with pytest.raises(ValueError, match="unknown .* 'other': choose"):
            read("other", tmp_path)


def test_an_empty_class_folder_is_named(copy):
    (copy / "AID" / "Beach" / "Beach_001.jpg").unlink()
    with pytest.raises(ValueError, match="class folders without an image: Beach"):
        testsets.classes("aid", copy)
    shutil.rmtree(copy / "AID")
    (copy / "AID").mkdir()
    with pytest.raises(ValueError, match="no class folder with images"):
        testsets.classes("aid", copy)


def test_files_that_are_no_images_by_name_do_not_count(copy):
    """The official loader goes by the ending too; a count that a .DS_Store changes would be no
    published set.
    """
    before = testsets.classes("aid", copy)
    for stray in (".DS_Store", "Thumbs.db", "._Beach_001.jpg"):
        (copy / "AID/Beach" / stray).write_bytes(b"x")
    (copy / "AID/Beach/more").mkdir()
    (copy / "AID/.ipynb_checkpoints").mkdir()
    after = testsets.classes("aid", copy)
    assert after.images.names == before.images.names and after.classes == before.classes
    (copy / "AID/Beach/Beach_001.jpg").rename(copy / "AID/Beach/Beach_001.JPG")
    assert "Beach/Beach_001.JPG" in testsets.classes("aid", copy).images.names
    (copy / "AID/Beach/Beach_001.JPG").unlink()
    with pytest.raises(ValueError, match="class folders without an image: Beach"):
        testsets.classes("aid", copy)


def test_missing_images_are_left_out_and_named(copy, capsys):
    (copy / "rsitmd/images/1.jpg").unlink()
    found = testsets.captions("rsitmd", copy)
    assert (
        found.images.names == ["0.jpg", "2.jpg"]
        and found.left_out == {"missing": ["1.jpg"]}
        and len(found.captions) == 2
    )
    assert (
        "1 images of rsitmd/rsitmd_test.csv are missing and left out: 1.jpg"
        in capsys.readouterr().out
    )
    for name in ("0.jpg", "2.jpg"):
        (copy / "rsitmd/images" / name).unlink()
    with pytest.raises(ValueError, match="holds none of the 3 images"):
        testsets.captions("rsitmd", copy)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"image,caption\na.jpg,words\n",
            "lacks the columns filename, title: it has image, caption",
        ),
        (b"", "lacks the columns filename, title: it has none"),
        (b"filename,title\n", "has no rows"),
        (b"filename,title\n0.jpg\n", "line 2: a row needs a filename and a title"),
        ("filename,title\n0.jpg,words\n".encode("utf-16"), "neither UTF-8 nor gb18030"),
        (b"filename,title\n0.jpg,\xff\xff\n", "neither UTF-8 nor gb18030"),
        (b'filename,title\n0.jpg,"' + b"word " * 40000, "line 2: field larger than"),
    ],
)
def test_a_wrong_csv_is_one_sentence(copy, content, said):
    (copy / "rsicd/rsicd_test.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"rsicd_test.csv.*({said})"):
        testsets.captions("rsicd", copy)


NAMED = '"caption": "x", "jpg_name": "0.jpg"'


@pytest.mark.parametrize(
    "content",
    [
        "[{",
        '{"a": 1}',
        f"[{{{NAMED}}}]",
        f'[{{{NAMED}, "points": [1]}}]',
        f'[{{{NAMED}, "points": []}}]',
        f'[{{{NAMED}, "points": [[[NaN, 1], [2, 3], [4, 5]]]}}]',
        "[]",
    ],
)
def test_a_damaged_annotation_is_one_sentence(copy, content):
    (copy / "AIR-SLT/annotations/anno.json").write_text(content)
    with pytest.raises(ValueError, match="anno.json is damaged"):
        testsets.scenes("air_slt", copy)


def test_exchanged_axes_are_one_sentence(tmp_path):
    fake_tests.air_slt(tmp_path, swap=True)
    with pytest.raises(
        ValueError, match=r"polygons of 'a pond 0.' leave the image of 900 x 600 .* give \[x, y\]"
    ):
        testsets.scenes("air_slt", tmp_path)


def test_a_scene_without_its_image_or_with_a_broken_one(copy):
    (copy / "AIR-SLT/imgs/1.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1.jpg is not a readable image"):
        testsets.scenes("air_slt", copy)
    (copy / "AIR-SLT/imgs/1.jpg").unlink()
    with pytest.raises(ValueError, match="lacks 1 of 2 images: 1.jpg"):
        testsets.scenes("air_slt", copy)


def test_a_zip_is_read_as_its_folder_and_from_many_threads(made, tmp_path):
    with zipfile.ZipFile(tmp_path / "eurosat_rgb.zip", "w") as archive:
        for path in sorted((made / "eurosat-rgb").rglob("*.jpg")):
            archive.write(path, path.relative_to(made / "eurosat-rgb"))
    folder, zipped = (testsets.classes("eurosat", place) for place in (made, tmp_path))
    assert zipped.images.names == folder.images.names and (zipped.labels == folder.labels).all()
    with ThreadPoolExecutor(4) as pool:
        contents = list(pool.map(zipped.images.read, range(len(zipped.labels))))
    assert contents == [folder.images.read(i) for i in range(len(folder.labels))]
    (tmp_path / "eurosat_rgb.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="not a whole zip"):
        testsets.classes("eurosat", tmp_path)


def test_a_zip_of_another_layout_is_not_an_empty_set(tmp_path):
    with zipfile.ZipFile(tmp_path / "EuroSAT.zip", "w") as archive:
        archive.writestr("EuroSAT_RGB/Forest/Forest_1.jpg", fake_tests.jpeg(0))
    with pytest.raises(ValueError, match="EuroSAT.zip has no images under 2750/"):
        testsets.classes("eurosat", tmp_path)


@pytest.mark.slow
def test_the_pocket_world():
    found, chips = testsets.classes("pocket", "nowhere"), pocket.chips("test")
    assert (datasets.decode(found.images.read(5))[0] == chips.images[5]).all() and (
        found.labels == chips.labels
    ).all()
    assert testsets.captions("pocket", "nowhere").captions == pocket.captions(chips)
    known = cards.card("pocket")
    assert known["images"] == len(chips.labels) and known["classes"] == chips.classes


def test_fakes_differ_from_their_cards_and_say_how(made):
    for name in ("eurosat", "resisc45", "aid"):
        (said,) = testsets.differences(testsets.classes(name, made))
        assert "a subset or another split" in said
    for name in ("rsitmd", "rsicd"):
        assert len(testsets.differences(testsets.captions(name, made))) == 2
    assert len(testsets.differences(testsets.scenes("air_slt", made))) == 2


@needs_real
@pytest.mark.parametrize("what", ["a class less", "an image more", "damaged json"])
def test_uc_merced_that_does_not_fit_its_captions_is_one_sentence(tmp_path, what):
    fake_tests.write(
        tmp_path / "captions/ucm_captions.json", (REAL / "captions/ucm_captions.json").read_bytes()
    )
    for label in cards.card("ucm")["classes"]:
        for i in range(100):
            fake_tests.write(
                tmp_path / datasets.LAYOUTS["ucm"][0] / label / f"{label}{i:02d}.tif", b""
            )
    assert len(testsets.captions("ucm", tmp_path).captions) == 210
    if what == "a class less":
        shutil.rmtree(tmp_path / datasets.LAYOUTS["ucm"][0] / "beach")
    elif what == "an image more":
        fake_tests.write(tmp_path / datasets.LAYOUTS["ucm"][0] / "beach/beach100.tif", b"")
    else:
        (tmp_path / "captions/ucm_captions.json").write_text("{")
    with pytest.raises(
        ValueError, match="ucm_captions.json and the images of UC Merced do not fit"
    ):
        testsets.captions("ucm", tmp_path)


@needs_real
def test_the_real_sets_match_their_cards():
    eurosat, ucm, pairs = (
        testsets.classes("eurosat", REAL),
        testsets.classes("ucm", REAL),
        testsets.captions("ucm", REAL),
    )
    assert len(eurosat.labels) == 27000 and len(ucm.labels) == 2100 and len(pairs.captions) == 210
    for found in (eurosat, ucm, pairs):
        assert testsets.differences(found) == []
    fewer = eurosat._replace(images=eurosat.images._replace(names=eurosat.images.names[:20000]))
    assert "20,000 images" in testsets.differences(fewer)[0]
    names = eurosat.images.names
    blank = eurosat._replace(images=datasets.Images(names, lambda i: eurosat.images.read(i % 10)))
    assert "bytes of every 1,000th file" in testsets.differences(blank)[0]
    other = pairs._replace(captions=pairs.captions[::-1])
    assert "captions are not those" in testsets.differences(other)[0]


@pytest.mark.slow
@needs_real
def test_the_real_annotations_of_air_slt(tmp_path):
    told = json.loads((REAL / "air_slt/anno.json").read_text())
    fake_tests.write(
        tmp_path / "AIR-SLT/annotations/anno.json", (REAL / "air_slt/anno.json").read_bytes()
    )
    for name in {entry["jpg_name"] for entry in told}:
        fake_tests.write(tmp_path / "AIR-SLT/imgs" / name, fake_tests.jpeg(0, (3500, 3500)))
    found = testsets.scenes("air_slt", tmp_path)
    assert len(found) == 22 and sum(len(scene.queries) for scene in found) == 59
    assert testsets.differences(found) == []
    moved = found[0].queries[0]._replace(caption="a lake")
    other = [found[0]._replace(queries=[moved, *found[0].queries[1:]]), *found[1:]]
    assert "queries are not those of AIR-SLT" in testsets.differences(other)[0]
