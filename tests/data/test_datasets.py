"""Readers, on small trees and zips in the true layout, and on the real data where it is there."""

import io
import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import encoded

from rs5m.book import scales, sets
from rs5m.data import datasets, images

REAL = Path(os.environ.get("RS5M_DATA") or Path(__file__).parents[3] / "shared/data")
FOREST = ("Forest", "River", "SeaLake")


def jpeg(seed: int, side: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encoded(pixels, "JPEG", quality=92)


def tree(inside: str, classes: tuple[str, ...], count: int, name: str) -> dict[str, bytes]:
    return {
        f"{inside}/{c}/{name.format(c=c, i=i)}": jpeg(100 * k + i)
        for k, c in enumerate(classes)
        for i in range(count)
    }


def eurosat_files() -> dict[str, bytes]:
    return tree("2750", FOREST, 4, "{c}_{i}.jpg")


def ucm_files() -> dict[str, bytes]:
    return tree("UCMerced_LandUse/Images", ("agricultural", "tenniscourt"), 100, "{c}{i:02d}.jpg")


def unpack(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def pack(files: dict[str, bytes], path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def same(a: datasets.Labelled, b: datasets.Labelled) -> bool:
    pixels = all((x == y).all() for x, y in zip(a.images, b.images, strict=True))
    return pixels and (a.labels == b.labels).all() and a[3:] == b[3:]


@pytest.mark.parametrize("base", ["eurosat-rgb", "rs5m_test_data/eurosat-rgb", "."])
@pytest.mark.parametrize("archive", ["eurosat_rgb.zip", "EuroSAT.zip"])
def test_eurosat_folder_and_zip_give_the_same(tmp_path, base, archive):
    files = eurosat_files()
    for name in ("folder", "zip"):
        (tmp_path / name).mkdir()
    unpack(files, tmp_path / "folder" / base)
    pack(files, tmp_path / "zip" / archive, zipfile.ZIP_DEFLATED)
    data = datasets.eurosat(tmp_path / "folder")
    assert same(data, datasets.eurosat(tmp_path / "zip"))
    assert data.classes == list(FOREST) and data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.names[5] == "River_1.jpg" and not data.skipped and len(data.images) == 12
    expected = np.asarray(Image.open(io.BytesIO(files["2750/River/River_1.jpg"])))
    assert (data.images[5] == expected).all() and expected.shape == (16, 16, 3)


def test_ucm_folder_and_zip_give_the_same(tmp_path):
    for name in ("folder", "zip"):
        (tmp_path / name).mkdir()
    unpack(ucm_files(), tmp_path / "folder")
    pack(ucm_files(), tmp_path / "zip" / "ucm_q92.zip")
    data = datasets.ucm(tmp_path / "folder")
    assert same(data, datasets.ucm(tmp_path / "zip")) and len(data.images) == 200


def test_the_order_of_the_zip_does_not_matter(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    pack(eurosat_files(), tmp_path / "a/eurosat_rgb.zip")
    pack(dict(reversed(eurosat_files().items())), tmp_path / "b/eurosat_rgb.zip")
    assert same(datasets.eurosat(tmp_path / "a"), datasets.eurosat(tmp_path / "b"))


@pytest.mark.parametrize("damage", ["no image", "half an image", "empty"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_corrupt_image_is_skipped_counted_and_named(tmp_path, capsys, damage, kind):
    files = eurosat_files()
    whole = files["2750/River/River_2.jpg"]
    bad = {
        "no image": b"<html>gone</html>",
        "half an image": whole[: len(whole) // 2],
        "empty": b"",
    }
    files["2750/River/River_2.jpg"] = bad[damage]
    if kind == "zip":
        pack(files, tmp_path / "eurosat_rgb.zip")
    else:
        unpack(files, tmp_path)
    data = datasets.eurosat(tmp_path)
    assert (
        data.skipped == ["River/River_2.jpg"]
        and len(data.images) == len(data.labels) == len(data.names) == 11
    )
    assert "River_2.jpg" not in data.names and np.bincount(data.labels).tolist() == [4, 3, 4]
    assert "eurosat: skipped 1 unreadable images: River/River_2.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", ["middle", "start", "header"])
def test_a_damaged_member_is_skipped_and_the_rest_is_read(tmp_path, capsys, compression, place):
    path = pack(eurosat_files(), tmp_path / "eurosat_rgb.zip", compression)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("2750/Forest/Forest_1.jpg")
    content = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    at = {
        "middle": start + info.compress_size // 2,
        "start": start + 1,
        "header": info.header_offset,
    }[place]
    content[at : at + 8] = bytes(byte ^ 0xFF for byte in content[at : at + 8])
    path.write_bytes(content)
    data = datasets.eurosat(tmp_path)
    assert data.skipped == ["Forest/Forest_1.jpg"] and len(data.images) == 11
    assert "skipped 1 unreadable images: Forest/Forest_1.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [0.5, 0.99, 0])
def test_a_truncated_zip_is_one_sentence(tmp_path, kept):
    path = pack(eurosat_files(), tmp_path / "eurosat_rgb.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=f"^{path} is not a whole zip file: fetch it again$"):
        datasets.eurosat(tmp_path)


def test_missing_data_names_what_was_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="neither a folder eurosat-rgb/2750 nor eurosat_rgb.zip nor EuroSAT.zip",
    ):
        datasets.eurosat(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f"{tmp_path / 'gone'} has neither .*UCMerced_LandUse.zip"
    ):
        datasets.ucm(tmp_path / "gone")


def test_no_readable_image_is_an_error(tmp_path):
    pack({"2750/Forest/Forest_1.jpg": b"x"}, tmp_path / "eurosat_rgb.zip")
    with pytest.raises(ValueError, match="eurosat: no readable image among 1"):
        datasets.eurosat(tmp_path)
    pack({"other/Forest/Forest_1.jpg": jpeg(0)}, tmp_path / "eurosat_rgb.zip")
    with pytest.raises(
        ValueError,
        match="EuroSAT.zip has no images under 2750/|eurosat_rgb.zip has no images under 2750/",
    ):
        datasets.eurosat(tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_rgb(mode):
    buffer = io.BytesIO()
    Image.new(mode, (5, 4)).save(buffer, "TIFF")
    assert datasets.decode(buffer.getvalue())[0].shape == (4, 5, 3)


def test_an_image_too_large_to_trust_is_refused(monkeypatch):
    monkeypatch.setattr(images, "DECODING", images.Limits(max_pixels=100))
    assert datasets.decode(jpeg(0, side=30)) == (None, "bomb")


@pytest.fixture
def ucm_folder(tmp_path) -> Path:
    """Two classes of 100 images with captions that name their image; every tenth is a test image,
    every fifth val.
    """
    pack(ucm_files(), tmp_path / "ucm_q92.zip")
    entries = []
    for number in range(1, 201):
        label, i = divmod(number - 1, 100)
        split = "test" if i % 10 == 0 else "val" if i % 5 == 0 else "train"
        said = f"class {label} image {i}"
        sentences = [{"raw": f"{said} sentence {s} ."} for s in range(4)] + [
            {"raw": f" {said} again . "}
        ]
        entries.append({"filename": f"{number}.tif", "split": split, "sentences": sentences})
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/ucm_captions.json").write_text(json.dumps({"images": entries}))
    return tmp_path


@pytest.fixture
def ucm_scale(ucm_folder, monkeypatch) -> scales.Scale:
    monkeypatch.setenv("RS5M_DATA", str(ucm_folder))
    return scales.get("local")


def test_ucm_captions_belong_to_their_images(ucm_folder):
    data = datasets.ucm(ucm_folder)
    captions, split = datasets.ucm_captions(ucm_folder, data)
    for name, label, texts in zip(data.names, data.labels, captions, strict=True):
        said = f"class {label} image {int(Path(name).stem[-2:])}"
        assert len(texts) == 5 and all(text.startswith(said + " ") for text in texts)
        assert texts[-1] == f"{said} again ."
    assert Counter(split) == {"train": 160, "val": 20, "test": 20}


def test_ucm_captions_still_belong_when_an_image_was_skipped(ucm_folder):
    files = ucm_files() | {"UCMerced_LandUse/Images/agricultural/agricultural07.jpg": b"broken"}
    pack(files, ucm_folder / "ucm_q92.zip")
    data = datasets.ucm(ucm_folder)
    captions, _ = datasets.ucm_captions(ucm_folder, data)
    assert (
        len(captions) == 199
        and data.names[7] == "agricultural08.jpg"
        and "class 0 image 8 " in captions[7][0]
    )


def test_ucm_splits_share_no_image(ucm_scale, ucm_folder):
    pairs, test = sets.pairs("ucm", ucm_scale), sets.test_set("ucm", ucm_scale)
    assert (
        len(pairs.images) == len(pairs.captions) == 160
        and len(test.images) == len(test.labels) == 20
    )
    assert {image.tobytes() for image in pairs.images}.isdisjoint(
        image.tobytes() for image in test.images
    )
    assert test.names[:2] == ["agricultural00.jpg", "agricultural10.jpg"] and np.bincount(
        test.labels
    ).tolist() == [10, 10]
    decoded = datasets.decode(ucm_files()["UCMerced_LandUse/Images/tenniscourt/tenniscourt10.jpg"])[
        0
    ]
    assert (test.images[11] == decoded).all()


def test_missing_captions_are_named(tmp_path):
    pack(ucm_files(), tmp_path / "ucm_q92.zip")
    with pytest.raises(FileNotFoundError, match="has no captions/ucm_captions.json"):
        datasets.ucm_captions(tmp_path, datasets.ucm(tmp_path))


def test_subset_keeps_rows_together(tmp_path):
    unpack(eurosat_files(), tmp_path)
    data = datasets.eurosat(tmp_path)
    part = datasets.subset(data, np.arange(12) % 5 == 0)
    assert part.names == [
        "Forest_0.jpg",
        "River_1.jpg",
        "SeaLake_2.jpg",
    ] and part.labels.tolist() == [0, 1, 2]
    assert (part.images[1] == data.images[5]).all() and part.classes == data.classes


def test_sets_that_would_fill_the_memory_are_decoded_when_asked_for(tmp_path, monkeypatch, capsys):
    """RESISC45 and AID, at colab and paper, where the folder holds them."""
    files = tree("AID", ("Airport", "BareLand"), 3, "{c}_{i}.jpg")
    unpack(files | {"AID/Airport/Airport_1.jpg": b"half"}, tmp_path / "rs5m_test_data")
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    colab = scales.get("colab")
    assert sets.tests(colab) == ("eurosat", "aid") and sets.tests(scales.get("mini")) == ("pocket",)
    data = sets.test_set("aid", colab)
    assert "skipped 1 unreadable images" in capsys.readouterr().out and len(data.skipped) == 1
    whole = datasets.decoded(datasets.classes("aid", tmp_path))
    assert isinstance(data.images, datasets.Decoded) and same(data, whole) and len(data.images) == 5
    part = datasets.subset(data, data.labels == 1)
    assert part.names == [f"BareLand_{i}.jpg" for i in range(3)] and len(part.images) == 3
    unpack(dict.fromkeys(files, b"half"), tmp_path / "rs5m_test_data")
    with pytest.raises(ValueError, match="aid: no readable image among 6"):
        sets.test_set("aid", colab)


def test_unknown_names_are_named():
    mini = scales.get("mini")
    with pytest.raises(
        ValueError,
        match="unknown test set 'imagenet': choose pocket, eurosat, resisc45, aid or ucm",
    ):
        sets.test_set("imagenet", mini)
    with pytest.raises(ValueError, match="unknown pairs 'laion': choose pocket or ucm"):
        sets.pairs("laion", mini)


def test_local_without_its_folder_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "gone"))
    for read in (sets.test_set, sets.pairs):
        with pytest.raises(FileNotFoundError, match="scale 'local' reads .*gone.*RS5M_DATA"):
            read("ucm", scales.get("local"))


@pytest.mark.slow
def test_pocket_pairs_and_test_set():
    mini = scales.get("mini")
    pairs, test = sets.pairs("pocket", mini), sets.test_set("pocket", mini)
    assert len(pairs.images) == len(pairs.captions) > 1000 and {
        len(texts) for texts in pairs.captions
    } == {5}
    assert len(test.images) == len(test.labels) == len(
        test.names
    ) > 500 and test.labels.max() < len(test.classes)
    assert len(set(test.names)) == len(test.names), "a name is a place"


@pytest.mark.skipif(not (REAL / "eurosat_rgb.zip").is_file(), reason="EuroSAT is not there")
def test_the_real_eurosat_is_complete():
    counts, sizes = Counter(), set()
    found = datasets.classes("eurosat", REAL)
    for i, name in enumerate(found.images.names):
        label, _, file = name.partition("/")
        counts[label] += 1
        assert file.startswith(f"{label}_")
        if i % 1500 == 0:
            sizes.add(datasets.decode(found.images.read(i))[0].shape)
    assert counts == Counter(
        AnnualCrop=3000,
        Forest=3000,
        HerbaceousVegetation=3000,
        Highway=2500,
        Industrial=2500,
        Pasture=2000,
        PermanentCrop=2500,
        Residential=3000,
        River=2500,
        SeaLake=3000,
    )
    assert sizes == {(64, 64, 3)}


@pytest.mark.skipif(not (REAL / "ucm_q92.zip").is_file(), reason="UC Merced is not there")
def test_the_real_ucm_captions_tell_of_their_classes():
    data = datasets.classes("ucm", REAL)
    labels, classes = data.labels, data.classes
    assert len(labels) == 2100 and len(classes) == 21
    captions, split = datasets.ucm_captions(REAL, data)
    assert Counter(split) == {"train": 1680, "val": 210, "test": 210}
    words = {
        "airplane": "airplane",
        "baseballdiamond": "baseball",
        "beach": "beach",
        "forest": "forest|trees",
        "golfcourse": "golf",
        "harbor": "boat|harbor",
        "river": "river",
        "runway": "runway",
        "tenniscourt": "tennis",
        "storagetanks": "storage|tank",
    }
    for label, wanted in words.items():
        texts = [
            " ".join(captions[i]).lower() for i in np.flatnonzero(labels == classes.index(label))
        ]
        share = np.mean([any(word in text for word in wanted.split("|")) for text in texts])
        assert share > 0.9, f"{share:.0%} of the captions of {label} speak of it"
