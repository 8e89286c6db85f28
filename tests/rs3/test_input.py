"""Chapter rs3, inputs from the wild: whatever is in a folder is kept, or left out with a reason."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rs5m import rs3
from rs5m.data import datasets, images, runfolder
from rs5m.evaluate import search
from rs5m.rs3 import input

FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATCH = "S2B_MSIL2A_20170927T094019_66_56"


@FEW
@given(
    st.dictionaries(
        st.sampled_from(
            [f"image{i}" for i in range(5)]
            + [f"patch{i}_{band}" for i in range(2) for band in ("B02", "B03", "B04", "B8A")]
            + ["._image", "alone_B04", "bird.v1"]
        ),
        st.tuples(
            st.sampled_from(["", "class/", "a[1]/", ".thumbs/", "linked/"]),
            st.sampled_from([".jpg", ".JPEG", ".tif", ".gif", ".jfif", ".jp2", ".svg", ""]),
        ),
        max_size=12,
    )
)
def test_every_file_is_an_image_or_has_a_reason(tmp_path_factory, tree):
    base = tmp_path_factory.mktemp("tree")
    folder, far = base / "images", base / "far"
    folder.mkdir()
    far.mkdir()
    (folder / "linked").symlink_to(far)
    files = {f"{where}{name}{ending}" for name, (where, ending) in tree.items()}
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"x")
    try:
        names, left_out = input.sorted_out(folder)
    except FileNotFoundError as error:
        assert "holds no image" in str(error)
        return
    others = [file for group in left_out.values() for file in group]
    assert sorted([*names.values(), *others]) == sorted(files)
    assert all(file.split("/")[-1].startswith(name) for name, file in names.items())


def bands(folder: Path, names: str, dtype="uint16") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names.split()):
        profile = {"driver": "GTiff", "width": 20, "height": 20, "count": 1, "dtype": dtype}
        with rasterio.open(folder / f"{folder.name}_{name}.tif", "w", **profile) as sink:
            sink.write(np.full((1, 20, 20), 500 * (number + 1), dtype))
    return folder


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_patch_of_bands_is_one_picture_with_its_metadata(tmp_path):
    folder = bands(tmp_path / PATCH, "B02 B03 B04 B08 B8A")
    (folder / f"{PATCH}_labels_metadata.json").write_text(json.dumps({"labels": ["Pastures"]}))
    names, left_out = input.sorted_out(tmp_path)
    assert names == {PATCH: f"{PATCH}/{PATCH}_B04.tif"} == input.listed(tmp_path)
    assert [len(group) for group in left_out.values()] == [1, 4]
    assert list(rs3.read_records(tmp_path).records) == [PATCH]
    image, reason = input.read(tmp_path / names[PATCH])
    expected = [round(value * 255 / images.REFLECTANCE) for value in (1500, 1000, 500)]
    assert reason is None and np.asarray(image)[0, 0].tolist() == pytest.approx(expected, abs=1)
    assert input.content(tmp_path / names[PATCH])[:4] == b"\x89PNG"
    seen, others = search.images(tmp_path)
    classes = datasets.of_folder("", tmp_path, "").images
    assert seen.names == classes.names == list(names.values()) and others == left_out
    assert seen.read(0) == classes.read(0) == input.content(tmp_path / names[PATCH])
    before = input.facts(tmp_path, names, {}, {})
    bands(tmp_path / "other", "B02 B03 B04")
    (tmp_path / "other/other_B04.tif").rename(folder / f"{PATCH}_B02.tif")
    assert input.facts(tmp_path, names, {}, {}) != before, "every band belongs to the run"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_patch_without_red_green_and_blue_is_no_picture(tmp_path):
    bands(tmp_path / "patch", "B08 B11")
    with pytest.raises(FileNotFoundError, match="holds no image .*without B04, B03 and B02"):
        input.listed(tmp_path)


def test_one_file_that_is_called_like_a_band_is_a_picture(tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "scene_B04.png")
    assert input.listed(tmp_path) == {"scene_B04": "scene_B04.png"}
    assert input.read(tmp_path / "scene_B04.png")[1] is None


V2 = {
    "patch_id": [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_{i}" for i in (57, 58)],
    "labels": [["Pastures"], ["Coniferous forest", "Pastures"]],
    "country": ["Austria", "Austria"],
}


@pytest.mark.parametrize("given_folder", [True, False])
def test_metadata_of_bigearthnet_v2(tmp_path, given_folder):
    path = tmp_path / "metadata.parquet"
    pd.DataFrame(V2 | {"split": ["train", "test"]}).to_parquet(path)
    found = rs3.read_records(tmp_path if given_folder else path)
    assert list(found.records) == V2["patch_id"] and not found.left_out
    assert found.records[V2["patch_id"][1]].labels == ("Coniferous forest", "Pastures")


def test_rows_that_differ_or_have_no_name_are_left_out(tmp_path):
    rows = pd.DataFrame(V2 | {"patch_id": ["a", "a"]})
    pd.concat([rows, rows.head(1).assign(patch_id=None)]).to_parquet(tmp_path / "m.parquet")
    found = rs3.read_records(tmp_path)
    assert not found.records and [reason for _, reason in found.left_out] == [
        "a row without patch_id",
        "documents of this name differ",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"patch_id,labels\n", "is text, such as csv or tsv, not parquet"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"PAR1" + bytes(20), "is not a whole parquet file"),
    ],
)
def test_a_table_of_another_kind_is_named(tmp_path, data, said):
    (tmp_path / "metadata.parquet").write_bytes(data)
    found = rs3.read_records(tmp_path / "metadata.parquet")
    assert not found.records and said in found.left_out[0][1]
    pd.DataFrame({"id": [1]}).to_parquet(tmp_path / "metadata.parquet")
    assert "has no column 'patch_id' (it has id)" in rs3.read_records(tmp_path).left_out[0][1]


def test_what_was_not_read_is_in_the_report_of_the_run(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "in/a.png")
    (tmp_path / "in/a.xyz").write_text("x")
    (tmp_path / "m.json").write_text("[1]")

    class Silent:
        def generate(self, images, n):
            return [[""] for _ in images]

    unread = rs3.read_records(tmp_path / "m.json")
    out = rs3.run(tmp_path / "in", tmp_path / "out", Silent, lambda: (None, None), unread)
    report = runfolder.left_out(out)
    assert report["not an image's ending: .xyz"] == ["a.xyz"]
    assert len(report["metadata"]) == 1 and "holds a list" in report["metadata"][0]
    assert "file left out: metadata" in rs3.summary(out).what.tolist()


def test_json_of_any_ending_case_with_a_mark_and_in_linked_folders(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "far")
    mark = b"\xef\xbb\xbf"
    (tmp_path / "far/a.JSON").write_bytes(mark + b'{"labels": ["Pastures"]}')
    (tmp_path / "in/b.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    found = rs3.read_records(tmp_path / "in")
    assert found.records["a"].labels == ("Pastures",)
    assert len(found.left_out) == 1 and "pointer of Git LFS" in found.left_out[0][1]
    assert rs3.read_records(tmp_path / "far/a.JSON").records == found.records


def test_files_that_share_a_stem_are_named_by_their_folders(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "c/3.jpg", "c/3.png", "c/3.jpg.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(path)
    assert input.listed(tmp_path) == {
        "a/1": "a/1.jpg",
        "b/1": "b/1.jpg",
        "2": "b/2.jpg",
        "c/3.jpg": "c/3.jpg",
        "3.jpg": "c/3.jpg.png",
        "c/3.png": "c/3.png",
    }


def test_no_file_is_lost_to_another_of_its_name(tmp_path):
    names = ["a/1.jpg", "a/1.png", "a/1.jpg.png", "x/a/1.jpg.png"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (40, 40)).save(path)
    assert sorted(input.listed(tmp_path).values()) == sorted(names)


def test_one_rendering_of_a_view_is_kept_and_a_lone_one_stays():
    names = ["port_0_rgb", "port_0_msrgb", "b/port_1_MSRGB", "b/port_1_rgb", "lone_msrgb", "rgb"]
    files = {name: f"{name}.jpg" for name in names}
    for kept, other in (("rgb", "msrgb"), ("msrgb", "rgb")):
        left, gone = input.one_rendering(files, kept)
        assert [name.lower() for name in left] == [
            name.lower() for name in names if name in names[4:] or name.lower().endswith(f"_{kept}")
        ]
        assert [file.lower().split("_")[-1] for file in gone] == [f"{other}.jpg"] * 2


def test_a_zip_of_metadata_loses_what_is_damaged_or_encrypted_and_no_more(tmp_path):
    path, content = tmp_path / "m.zip", json.dumps({"labels": ["Pastures"]})
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abc":
            archive.writestr(f"{name}.json", content)
    data = bytearray(path.read_bytes())
    data[data.index(b"Pastures")] ^= 1
    data[data.index(b"PK\1\2", data.index(b"PK\1\2") + 1) + 8] |= 1  # says: with a password
    path.write_bytes(data)
    found = rs3.read_records(path)
    assert list(found.records) == ["c"]
    (one, damaged), (other, encrypted) = found.left_out
    assert (one, other) == ("a", "b") and "a.json" in damaged and "fetch the zip again" in damaged
    assert "b.json" in encrypted and "unpack it with its password" in encrypted


def test_metadata_of_another_kind_are_called_so(tmp_path):
    (tmp_path / "m.csv").write_text("name,label\na,b\n")
    with pytest.raises(ValueError, match=r"m.csv is text, such as csv or tsv, not a zip"):
        rs3.read_records(tmp_path / "m.csv")
