"""Pairs from what people have: whatever is found is packed, or named with a reason."""

import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rs5m import files
from rs5m.data import pairs, records


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def pictures(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(i))


def packed(*given: Path, **columns) -> tuple[list[tuple], dict]:
    """(name, captions) of the packed pairs, and what was left out; the counts must add up."""
    out = given[0].parent / "shards"
    assert pairs.packable(list(map(str, given))) == list(given)
    paths = pairs.pack(given, out, **columns)
    assert pairs.pack(given, out, **columns) == paths, "the second time it is there"
    found = []
    for path in paths:
        index = records.index(path)
        assert not index.damaged
        for name, (start, size, text, length, kind) in zip(index.names, index.places, strict=True):
            whole = path.read_bytes()
            texts = records.captions(records.TEXTS[kind], whole[text : text + length])
            assert Image.open(io.BytesIO(whole[start : start + size])).size == (16, 16)
            found.append((name, texts))
    counts = json.loads((out / "data.json").read_text())
    left_out = json.loads((out / "left_out.json").read_text())
    assert counts["packed"] == len(found)
    assert counts["found"] == len(found) + sum(map(len, left_out.values()))
    return found, left_out


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet"])
def test_a_table_of_paths(tmp_path, name, capsys):
    folder = tmp_path / "set"
    pictures(folder / "images", "0.jpg", "in/1.JPG", "2.jpg")
    (folder / "images/broken.jpg").write_bytes(jpeg(0)[:200])
    pictures(tmp_path, "outside.jpg")
    rows = [
        ("0.jpg", "a roof, red"),
        ("in/1.JPG", "two\nlines"),
        ("0.jpg", "again"),
        ("2.jpg", None),
        ("broken.jpg", "x"),
        ("../../outside.jpg", "x"),
        ("/etc/hostname", "x"),
        ("none.jpg", "x"),
        (None, "x"),
    ]
    table = pd.DataFrame(rows, columns=["File Path", "Caption"])
    if name.endswith("parquet"):
        table.to_parquet(folder / name)
    else:
        table.to_csv(folder / name, sep="\t" if name.endswith("tsv") else ",", index=False)
    found, left_out = packed(folder / name)
    assert found == [("0.jpg", ("a roof, red", "again")), ("in/1.JPG", ("two\nlines",))]
    assert left_out == {
        "has no caption": ["2.jpg"],
        "truncated": ["broken.jpg"],
        "is a path outside the folder": ["../../outside.jpg", "/etc/hostname"],
        "is missing": ["none.jpg"],
        "has no image": [f"{name} row 8"],
    }
    assert "File Path is taken as the image and Caption as the caption" in capsys.readouterr().out


def test_images_inside_a_parquet(tmp_path):
    values = [
        {"bytes": jpeg(0), "path": "x/0.png"},
        {"bytes": None, "path": "1.jpg"},
        None,
        {"bytes": jpeg(1), "path": None},
        {"bytes": b"no image", "path": "4.jpg"},
    ]
    captions = [["a", "b", None], ["c"], ["d"], ["e"], ["f"]]
    pq.write_table(pa.table({"image": values, "captions": captions}), tmp_path / "a.parquet")
    found, left_out = packed(tmp_path / "a.parquet")
    assert found == [("a-0-0.png", ("a", "b")), ("a-3.jpg", ("e",))]
    assert left_out == {
        "is missing": ["a-1-1.jpg"],
        "has no image": ["a-2.jpg"],
        "not_an_image": ["a-4-4.jpg"],
    }


def test_other_types_of_a_parquet(tmp_path):
    data = jpeg(1)
    texts = [["a", "b"], ["a", "b"]]
    captions = [
        pa.array([b"a\0", b"\0\0"], pa.binary(2)),
        *(pa.array(texts, kind) for kind in (pa.list_(pa.string(), 2), pa.list_view(pa.string()))),
        pa.array(texts, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    ]
    images = [
        pa.array([data, data], pa.binary(len(data))),
        *(
            pa.array([list(data), list(data)], kind)
            for kind in (pa.list_(pa.uint8()), pa.list_(pa.int64(), len(data)))
        ),
        pa.array([list(data), [300]]),
    ]
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        pq.write_table(pa.table({"image": image, "caption": caption}), folder / "a.parquet")
        found, left_out = packed(folder / "a.parquet")
        assert found[0] == ("a-0.jpg", ("a", "b") if number else ("a",))
        assert (
            left_out
            == [{"has no caption": ["a-1.jpg"]}, {}, {}, {"has no image": ["a-1.jpg"]}][number]
        )


def test_an_odd_caption_counts_the_same_in_every_layout(tmp_path):
    odd = [["a", None, 3, "b"], None, 3, {"x": 1}, [], [3], True, "ok", "x" * 100_000]
    names = [f"{i}.jpg" for i in range(len(odd))]
    notes = [json.dumps({"caption": one}) for one in odd]
    pictures(tmp_path / "beside", *names)
    for i, note in enumerate(notes):
        (tmp_path / f"beside/{i}.json").write_text(note)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "beside", "")
    pictures(tmp_path / "table", *names)
    rows = [{"image": name} | json.loads(note) for name, note in zip(names, notes, strict=True)]
    (tmp_path / "table/a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    wanted = [("0.jpg", ("a", "b")), ("7.jpg", ("ok",)), ("8.jpg", ("x" * 100_000,))]
    assert packed(tmp_path / "beside")[0] == packed(tmp_path / "table/a.jsonl")[0] == wanted
    assert records.index(tmp_path / "a.tar").names == [name for name, _ in wanted]


@pytest.mark.parametrize("change", ["caption", "image", "row", "image gone"])
def test_what_changed_since_it_was_packed_is_not_taken_for_the_same(tmp_path, change):
    folder = tmp_path / "set"
    pictures(folder, "1.jpg", "2.jpg")
    table = folder / "a.csv"
    table.write_text("image,caption\n1.jpg,a\n2.jpg,b\n")
    packed(table)
    if change == "image":
        (folder / "2.jpg").write_bytes(jpeg(1) + b"\0")
    elif change == "image gone":
        (folder / "2.jpg").unlink()
    else:
        table.write_text(table.read_text() + "2.jpg,c\n" * (change == "row"))
        table.write_text(table.read_text().replace("2.jpg,b", "2.jpg,d"))
    with pytest.raises(ValueError, match="a.csv has changed since .*shards was packed: name a new"):
        packed(table)


def test_the_formats_of_img2dataset(tmp_path):
    folder = tmp_path / "parquet"
    folder.mkdir()
    columns = {"url": ["u", "v"], "key": ["0", "1"], "caption": ["a", "b"], "jpg": [jpeg(0), None]}
    pq.write_table(pa.table(columns), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")
    found, left_out = packed(folder)
    assert found == [("00000-0.jpg", ("a",))]
    report = {"is a report of img2dataset": ["00000_stats.json"]}
    assert left_out == {"has no image": ["00000-1.jpg"]} | report
    one = tmp_path / "more/files"
    pictures(one / "00000", "0.jpg", "1.jpg", "2.jpg", ".3.jpg")
    (one / "00000/0.txt").write_text("a")
    (one / "00000/1.json").write_text('{"caption": "b", "url": "u"}')
    pq.write_table(pa.table({"url": ["u"]}), one / "00000.parquet")
    (one / "00000_stats.json").write_text("{}")
    found, left_out = packed(one)
    assert found == [("00000/0.jpg", ("a",)), ("00000/1.jpg", ("b",))]
    assert (
        left_out
        == {
            "belongs to no pair": ["00000.parquet"],
            "lacks a caption (txt or json)": ["00000/2.jpg"],
            "is hidden": ["00000/.3.jpg"],
        }
        | report
    )


def test_images_in_a_folder_beside_their_table_are_in_it(tmp_path):
    folder = tmp_path / "set"
    pictures(folder / "images", "0.jpg", "1.jpg")
    (folder / "metadata.csv").write_text("file_name,text\n0.jpg,a\n")
    assert packed(folder) == ([("0.jpg", ("a",))], {"is in no table": ["images/1.jpg"]})


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata(tmp_path, name):
    folder = tmp_path / "set"
    pictures(folder / "train", "0.jpg", "1.jpg", "2.jpg")
    rows = [("0.jpg", "a"), ("1.jpg", "b")]
    table = pd.DataFrame(rows, columns=["file_name", "text"])
    if name.endswith("csv"):
        table.to_csv(folder / "train" / name, index=False)
    else:
        table.to_json(folder / "train" / name, orient="records", lines=True)
        with (folder / "train" / name).open("a") as stream:
            stream.write('{"file_name": "2.jpg", "text": 7}\n{\n')
    found, left_out = packed(folder)
    assert found == [("0.jpg", ("a",)), ("1.jpg", ("b",))]
    expected = {"is in no table": ["train/2.jpg"]}
    if name.endswith("jsonl"):
        expected = {"has a caption that is not text": ["2.jpg"], "not_json": [f"{name} row 3"]}
    assert left_out == expected


def test_captions_of_coco(tmp_path):
    pictures(tmp_path / "set/train2017", "0.jpg", "1.jpg")
    (tmp_path / "set/annotations").mkdir()
    path = tmp_path / "set/annotations/captions.json"
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)],
        "annotations": [
            {"image_id": 0, "caption": "a"},
            {"image_id": 0, "caption": "b"},
            {"image_id": 2, "caption": "c"},
            {"image_id": 9, "caption": "d"},
        ],
    }
    path.write_text(json.dumps(document))
    found, left_out = packed(path)
    assert found == [("0.jpg", ("a", "b"))]
    assert left_out == {
        "has no caption": ["1.jpg"],
        "is missing": ["2.jpg"],
        "names no image": ["annotation 3"],
    }
    path.write_text(json.dumps(document | {"images": []}))
    with pytest.raises(ValueError, match="captions.json names no images"):
        pairs.pack([path], tmp_path / "other")
    path.write_text(json.dumps({"annotations": document["annotations"]}))
    with pytest.raises(ValueError, match="captions.json is not COCO's .*'images' is missing"):
        pairs.pack([path], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_each_entry_of_an_odd_coco_is_kept_or_has_its_reason(tmp_path):
    pictures(tmp_path, "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    document = {
        "images": [
            {"id": 0, "file_name": "0.jpg"},
            {"file_name": "1.jpg"},
            {"id": 2},
            {"id": 3, "file_name": "2.jpg"},
            {"id": 3, "file_name": "3.jpg"},
        ],
        "annotations": [
            {"image_id": 0, "caption": "a"},
            {"image_id": 0, "bbox": [1, 2, 3, 4]},
            {"caption": "b"},
            {"image_id": 3, "caption": "of which of the two?"},
        ],
    }
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(document))
    found, left_out = packed(path)
    assert found == [("0.jpg", ("a",))]
    assert left_out == {
        "has no id, or no file_name": ["image 1", "image 2"],
        "shares its id with another image": ["3.jpg", "2.jpg"],
        "names no image": ["annotation 2", "annotation 3"],
    }
    path.write_text(json.dumps(document | {"annotations": [{"image_id": 0, "bbox": [1]}]}))
    with pytest.raises(ValueError, match="not COCO's .*'caption' is missing"):
        pairs.pack([path], tmp_path / "other")


def test_a_parquet_may_name_its_images_in_a_struct(tmp_path):
    pictures(tmp_path / "set", "0.jpg", "1.jpg")
    whole = (tmp_path / "set/1.jpg").read_bytes()
    rows = [("0.jpg", None), ("x.jpg", None), ("../0.jpg", None), (None, None), ("1.jpg", whole)]
    given = [{"bytes": data, "path": path} for path, data in rows]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(given, kind), "caption": list("abcde")})
    pq.write_table(table, tmp_path / "set/a.parquet")
    found, left_out = packed(tmp_path / "set/a.parquet")
    assert found == [("a-0-0.jpg", ("a",)), ("a-4-1.jpg", ("e",))]
    assert left_out == {
        "is missing": ["a-1-x.jpg"],
        "is a path outside the folder": ["a-2-0.jpg"],
        "has no image": ["a-3.jpg"],
    }


def test_base64_in_place_of_a_path_is_named(tmp_path):
    pictures(tmp_path, "0.jpg")
    rows = ["0.jpg,a", "iVBORw0KGgo" + "A" * 3000 + ",b", "/9j/" + "A" * 3000 + ",c"]
    (tmp_path / "a.csv").write_text("\n".join(["image,caption", *rows, "n" * 300 + ",d"]))
    found, left_out = packed(tmp_path / "a.csv")
    assert found == [("0.jpg", ("a",))]
    assert {reason: len(names) for reason, names in left_out.items()} == {
        "is too long for a path (of base64, store the bytes)": 2,
        "is missing": 1,
    }


def test_a_pipe_and_a_dead_link_beside_images_are_left_out(tmp_path):
    pictures(tmp_path, "0.jpg", "2.jpg")
    for name in ("0.txt", "1.txt"):
        (tmp_path / name).write_text("a")
    os.mkfifo(tmp_path / "1.jpg")
    (tmp_path / "2.txt").symlink_to("nowhere")
    found, left_out = packed(tmp_path)
    assert found == [("0.jpg", ("a",))]
    assert left_out == {
        "is not a file, or a broken link": ["1.jpg", "2.txt"],
        "lacks an image": ["1.txt"],
        "lacks a caption (txt or json)": ["2.jpg"],
    }


@pytest.mark.parametrize("kind", ["beside", "a.csv", "a.jsonl", "bytes.parquet"])
def test_what_goes_between_listing_and_reading_is_counted_or_named(tmp_path, monkeypatch, kind):
    folder, names = tmp_path / "set", [f"{i}.jpg" for i in range(4)]
    pictures(folder, *names)
    path = folder if kind == "beside" else folder / kind
    rows = [{"image": name, "caption": "a"} for name in names]
    if kind == "beside":
        for name in names:
            (folder / name).with_suffix(".txt").write_text("a")
    elif kind == "bytes.parquet":
        pq.write_table(pa.table({"image": [jpeg(0)], "caption": ["a"]}), path)
    elif kind == "a.csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    opened = pairs.packer([path])
    if kind != "beside":
        path.unlink()
        with pytest.raises((ValueError, OSError)) as raised:
            opened(tmp_path / "out")
        assert raised.value.__class__ is FileNotFoundError or (
            str(raised.value) == f"{path} is no longer there: put it back, then run it again"
        )
        assert not (tmp_path / "out").exists()
        return
    real = Path.read_bytes

    def read_bytes(self):
        if self == folder / "0.jpg":  # the images of the listed pairs and the texts of others go
            for name in ("1.txt", "2.jpg"):
                (folder / name).unlink()
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    opened(tmp_path / "out")
    left_out = json.loads((tmp_path / "out/left_out.json").read_text())
    assert left_out == {"cannot be read (No such file or directory)": ["1.jpg", "2.jpg"]}
    assert json.loads((tmp_path / "out/data.json").read_text())["packed"] == 2


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_rsicds_csv(tmp_path, encoding):
    pictures(tmp_path / "rsicd/RSICD_images", "0.jpg")
    path = tmp_path / "rsicd/rsicd_train.csv"
    path.write_text("filename,title\n0.jpg,河 river\n0.jpg,roofs\n", encoding=encoding)
    assert packed(path) == ([("0.jpg", ("河 river", "roofs"))], {})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": ["x"], "b": ["y"]}, r"no column 'image' or of a like name \(it has a, b\).*--image"),
        ({"image": ["x"], "path": ["y"], "text": ["z"]}, r"2 columns called 'image' \(image, path"),
        (
            {"image": ["x"], "text": ["y"], "caption": ["z"]},
            r"2 .* \(text, caption\).*--caption-co",
        ),
        ({"image": ["x"], "text": [7]}, "has int64 in its column 'text': give texts"),
        ({"image": [{"path": "x"}], "text": ["y"]}, "has struct<path: string> in its column"),
        ({"image": ["x"], "text": ["y"]}, "has no whole pair: 1 .is missing"),
    ],
)
def test_columns_that_are_a_question(tmp_path, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=f"a.parquet.*{said}"):
        pairs.pack([tmp_path / "a.parquet"], tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_what_holds_no_pairs_says_what_it_holds(tmp_path):
    pictures(tmp_path / "set", "0.jpg", "1.jpg")
    with pytest.raises(ValueError, match="set holds neither shards, tables.*: it has 2 .jpg"):
        pairs.pack([tmp_path / "set"], tmp_path / "out")


def test_a_shard_has_so_many_pairs_and_the_last_one_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "TAR", 3)
    pictures(tmp_path / "set", *(f"{i}.jpg" for i in range(7)))
    for i in range(7):
        (tmp_path / f"set/{i}.txt").write_text(f"a field {i}")
    paths = pairs.pack([tmp_path / "set"], tmp_path / "out")
    assert [path.name for path in paths] == [f"train-0000{i}.tar" for i in range(3)]
    held = [[one.name for one in records.read([path])] for path in paths]
    assert list(map(len, held)) == [3, 3, 1]
    assert sorted(sum(held, [])) == [f"{i}.jpg" for i in range(7)]


def test_shards_are_not_packed(tmp_path):
    records.write(tmp_path / "a.tar", [records.Record(jpeg(0), "0.jpg", "x")])
    assert pairs.packable([str(tmp_path)]) == pairs.packable([str(tmp_path / "a.tar")]) == []
    assert pairs.packable(["https://x.example/a.tar"]) == pairs.packable(["none/*.tar"]) == []


def test_bytes_of_captions_and_halves_of_surrogate_pairs_are_texts(tmp_path):
    captions = pa.array([b"gr\xc3\xbcn", b"gr\xfcn", None], pa.binary())
    images = pa.array([jpeg(i) for i in range(3)], pa.binary_view())
    pq.write_table(pa.table({"jpg": images, "caption": captions}), tmp_path / "a.parquet")
    found, left_out = packed(tmp_path / "a.parquet")
    assert [texts for _, texts in found] == [("grün",), ("gr\ufffdn",)]
    assert {reason: len(names) for reason, names in left_out.items()} == {"has no caption": 1}
    pictures(tmp_path / "lines", "0.jpg")
    (tmp_path / "lines/a.jsonl").write_text('{"image": "0.jpg", "caption": "half \\ud83d"}\n')
    found, _ = packed(tmp_path / "lines" / "a.jsonl")
    assert found == [("0.jpg", ("half ?",))]


def test_a_table_as_windows_and_excel_write_it(tmp_path):
    """Other separators of paths, of fields and of lines."""
    pictures(tmp_path / "set/sub", "0.jpg", "1.jpg")
    table = tmp_path / "set" / "a.csv"
    for ends, mark in (("\n", ","), ("\r\n", ";"), ("\r", ",")):
        rows = [("image", "caption"), ("sub\\0.jpg", "one"), ("sub\\1.jpg", "two")]
        table.write_bytes(ends.join(mark.join(row) for row in rows).encode())
        found = [(pair.name, pair.captions, pair.fault) for pair in pairs.found(table)]
        assert found == [("sub/0.jpg", ["one"], None), ("sub/1.jpg", ["two"], None)], (ends, mark)


def test_a_second_image_and_a_pointer_beside_are_left_out(tmp_path):
    pictures(tmp_path / "set", "0.jpg", "0.png", "1.jpg")
    (tmp_path / "set/0.txt").write_bytes("zwei \u00fc".encode("utf-16"))
    (tmp_path / "set/1.txt").write_bytes(files.POINTER + b".github.com/spec/v1\n")
    found, left_out = packed(tmp_path / "set")
    assert found == [("0.jpg", ("zwei \u00fc",))]
    assert left_out == {
        "is a second image of a pair": ["0.png"],
        "has a pointer of Git LFS for a caption": ["1.jpg"],
    }


def test_a_name_that_is_not_utf8_is_packed_and_found_again(tmp_path):
    name = os.fsdecode(b"gr\xfcn.jpg")
    try:
        pictures(tmp_path / "set", name)
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    (tmp_path / "set" / os.fsdecode(b"gr\xfcn.txt")).write_text("green")
    assert packed(tmp_path / "set")[0] == [(name, ("green",))]


@pytest.mark.parametrize("forms", ["NFC NFD", "NFD NFC"])
def test_a_name_in_unicodes_other_form(tmp_path, forms):
    listed, there = (unicodedata.normalize(form, "caf\u00e9.jpg") for form in forms.split())
    pictures(tmp_path / "set", there)
    (tmp_path / "set/a.csv").write_text(f"path,caption\n{listed},a roof\nno\u00e9.jpg,x\n")
    found, left_out = packed(tmp_path / "set/a.csv")
    assert found == [(there, ("a roof",))]
    assert list(left_out) == ["is missing"] and len(left_out["is missing"]) == 1


def test_a_zero_in_a_csv_costs_no_other_row(tmp_path):
    pictures(tmp_path / "set", "a.jpg", "b.jpg")
    (tmp_path / "set/a.csv").write_bytes(b"path,caption\na.jpg,x\na\0b.jpg,y\nb.jpg,z\n\x1a")
    found, left_out = packed(tmp_path / "set/a.csv")
    assert found == [("a.jpg", ("x",)), ("b.jpg", ("z",))]
    assert left_out.keys() == {"is missing", "wrong_fields"}


def test_a_shard_whose_first_name_is_long_is_no_table(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("n" * 90 + ".jpg"))
    assert pairs.packable([str(tmp_path / "a.tar")]) == []


def test_an_encrypted_parquet_is_called_so(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PARE" + b"x" * 200 + b"PARE")
    with pytest.raises(ValueError, match="is encrypted parquet"):
        packed(tmp_path / "a.parquet")


# ---------------------------------------------------------------- whatever is put in

FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WHOLE = jpeg(0)
BYTES = st.sampled_from([WHOLE, WHOLE, WHOLE[:200], b"", b"<html>", files.POINTER, None])
WORDS = st.sampled_from(["a view", "b", " ", "NaN", None])
IMAGES = {
    "binary": (pa.binary(), lambda data: data),
    "large": (pa.large_binary(), lambda data: data),
    "numbers": (pa.list_(pa.uint8()), lambda data: data and list(data)),
    "struct": (
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        lambda data: {"bytes": data, "path": None},
    ),
}


@FEW
@given(st.lists(st.tuples(BYTES, WORDS), min_size=1, max_size=8), st.sampled_from(sorted(IMAGES)))
def test_every_row_of_a_parquet_is_packed_or_has_a_reason(tmp_path_factory, rows, kind):
    folder, (arrow, stored) = tmp_path_factory.mktemp("rows"), IMAGES[kind]
    images = pa.array([stored(data) for data, _ in rows], arrow)
    pq.write_table(pa.table({"image": images, "caption": [t for _, t in rows]}), folder / "a.pq")
    whole = [i for i, (data, text) in enumerate(rows) if data == WHOLE and text in ("a view", "b")]
    if not whole:
        with pytest.raises(ValueError, match="a.pq has no whole pair: "):
            pairs.pack([folder / "a.pq"], folder / "out")
        return
    found, left_out = packed(folder / "a.pq")
    assert [name for name, _ in found] == [f"a-{i}.jpg" for i in whole]
    assert len(found) + sum(map(len, left_out.values())) == len(rows)


TREE = st.tuples(
    st.sampled_from(["", "in/", "in/deep.er/", ".hidden/"]),
    st.sampled_from(["a", "b.c", "._d", "\u00fc"]),
    st.sampled_from([".jpg", ".JPG", ".png", ".txt", ".json", ".zip", ".tsv", ""]),
)


@FEW
@given(st.dictionaries(TREE, st.booleans(), min_size=1, max_size=12))
def test_every_file_of_a_folder_is_packed_or_has_a_reason(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("tree") / "set"
    names = {"".join(parts): good for parts, good in tree.items()}
    names |= {"first.jpg": True, "first.txt": True}  # which make it a folder of this kind
    for name, good in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = b'{"caption": "a"}' if name.endswith(".json") else b"a view"
        picture = name.lower().endswith((".jpg", ".png"))
        (folder / name).write_bytes((WHOLE if picture else text) if good else b"")
    found, left_out = packed(folder)
    told = [name for name, _ in found] + [name for some in left_out.values() for name in some]
    stems = {name.rpartition(".")[0] for name in told}
    assert all(name in told or name.rpartition(".")[0] in stems for name in names)
    assert len(told) == len(set(told)), "nothing is told twice"
