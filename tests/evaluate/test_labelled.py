"""Labelled sets in the layouts that people have, each read to the same images and labels."""

import io
import json
import os
import re
import tarfile
import zipfile
from pathlib import Path

import named_colours as nc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from named_colours import PICTURES

from rs5m import cli, clip
from rs5m.captions import metadata
from rs5m.data import images, records
from rs5m.data.datasets import Classes
from rs5m.evaluate import features, labelled

REAL = Path(os.environ.get("RS5M_DATA") or Path(__file__).parents[3] / "shared/data")
NUMBERS = {"blue": 0, "green": 1, "red": 2}


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clip, "load", nc.model)

    def run(*given, out="o.json", code=0, models=("colours",)):
        line = ["evaluate", "--model", *models, "--tasks", "zeroshot", "--out", out]
        assert cli.main([*line, *map(str, given)]) == code
        return json.loads(Path(out).read_text()) if code == 0 and Path(out).is_file() else {}

    return run


def rows_of(data: Classes) -> list[tuple[bytes, str]]:
    """Bytes and label of each image."""
    labels = [data.classes[i] for i in data.labels]
    return sorted((data.images.read(i), label) for i, label in enumerate(labels))


WANTED = sorted((nc.picture(colour, shade), colour) for colour, shade in PICTURES)


def csv(folder: Path, mark: str = ",", head: str = "path{}label", name: str = "set.csv") -> Path:
    rows = nc.files(folder)
    lines = [head.format(mark), *(f"{file}{mark}{colour}" for file, colour in rows)]
    (folder / name).write_text("\n".join(lines))
    return folder / name


def parquet(folder: Path, meaning: bool = True) -> Path:
    """Hugging Face's: a struct of bytes and path, numbers, and their names in the header."""
    given = [
        {"bytes": nc.picture(colour, shade), "path": f"{shade}.png"} for colour, shade in PICTURES
    ]
    numbers = [NUMBERS[colour] for colour, _ in PICTURES]
    table = pa.table({"image": given, "label": numbers})
    if meaning:
        names = {"_type": "ClassLabel", "names": ["blue", "green", "red"]}
        told = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "set.parquet")
    return folder / "set.parquet"


def imagefolder(folder: Path) -> Path:
    for part in ("train", "test"):
        csv(folder / part, head="file_name{}label", name="metadata.csv")
    (folder / "train/0.png").write_bytes(nc.picture("blue", 9))
    return folder


def split_classes(folder: Path) -> Path:
    for part, shades in (("train", 20), ("val", 40), ("test", 0)):
        for colour, shade in PICTURES:
            path = folder / part / colour / f"{shade}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(nc.picture(colour, shade + shades))
    return folder


def shards(folder: Path, kind: str = "cls") -> Path:
    def told(colour):
        return colour.encode() if kind == "cls" else nc.labelled_json(colour)

    samples = [{"png": nc.picture(colour, shade), kind: told(colour)} for colour, shade in PICTURES]
    nc.tar(folder / "test-0000.tar", samples[:4])
    nc.tar(folder / "test-0001.tar", samples[4:])
    nc.tar(folder / "train-0000.tar", samples[:1])
    return folder


LAYOUTS = {
    "csv": csv,
    "tsv": lambda folder: csv(folder, "\t", name="set.tsv"),
    "other usual names": lambda folder: csv(folder, head="file name{}category"),
    "parquet of bytes": parquet,
    "a folder of parquet": lambda folder: parquet(folder / "data").parents[1],
    "imagefolder": imagefolder,
    "classes in splits": split_classes,
    "shards with cls": shards,
    "shards with json": lambda folder: shards(folder, "json"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_set(tmp_path, layout, capsys):
    path = LAYOUTS[layout](tmp_path / "mine")
    data = labelled.own(path)
    assert rows_of(data) == WANTED and data.classes == ["blue", "green", "red"]
    beside = {
        "imagefolder": {"is beside the part that is read": ["train"]},
        "classes in splits": {"is beside the part that is read": ["train", "val"]},
        "shards with cls": {"beside the shards that are read": ["train-0000.tar"]},
        "shards with json": {"beside the shards that are read": ["train-0000.tar"]},
    }
    assert data.left_out == beside.get(layout, {}) and data.name in ("mine", "set")
    said = capsys.readouterr().out
    if layout in ("imagefolder", "classes in splits", "shards with cls"):
        assert "mine: the test part is read, of test" in said
    if layout == "other usual names":
        assert "set.csv: file name is taken as the image and category as the label" in said


def test_what_is_left_out_is_named(tmp_path):
    path = csv(tmp_path / "mine")
    path.write_text(path.read_text() + "\nabsent.png,red\n0.png,blue\n1.png,\n../x.png,red\n")
    data = labelled.own(path)
    assert data.left_out == {
        "is missing": ["absent.png"],
        "is a path outside the folder": ["../x.png"],
        "has several labels": ["0.png"],
    }
    samples = [
        {"png": b"x"},
        {"cls": b"red"},
        {"png": b"1", "cls": b"a"},
        {"png": b"2", "cls": b"b"},
    ]
    nc.tar(tmp_path / "one.tar", samples)
    left_out = labelled.own(tmp_path / "one.tar").left_out
    assert left_out == {"has no label": ["0000"], "has no image": ["0001"]}


def test_what_is_left_out_of_a_shard_is_what_training_leaves_out(tmp_path):
    members = "a.jpg a.jpg a.png a.cls a.txt b.png b.cls b.txt .c.png c/d.npy".split()
    with tarfile.open(tmp_path / "one.tar", "w") as tar:
        for number, member in enumerate(members):
            info = tarfile.TarInfo(member)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"%d" % number))
        link = tarfile.TarInfo("e.png")
        link.type, link.linkname = tarfile.SYMTYPE, "nowhere.png"
        tar.addfile(link)
    data = labelled.own(tmp_path / "one.tar")
    assert (data.images.names, data.images.read(1)) == (["a.jpg", "b.png"], b"5")
    counts = {reason: len(names) for reason, names in data.left_out.items()}
    training = records.index(tmp_path / "one.tar").left_out
    assert training.pop("is of another kind (.cls)") == 2
    assert counts == training and counts["comes twice"] == 1


@pytest.mark.parametrize("absent", ["nan", "None", " NULL", "<NA>", "", "[]", '["nan"]'])
def test_what_is_no_caption_is_no_label(tmp_path, absent, evaluated, capsys):
    path = csv(tmp_path / "mine", ";")
    path.write_text(f"{path.read_text()}\n6.png;{absent}")
    (tmp_path / "mine/6.png").write_bytes(nc.picture("red", 6))
    samples = [
        {"png": nc.picture(colour, shade), kind: nc.labelled_json(told) if kind == "json" else told}
        for kind, colours in (("cls", [b"red", absent.encode()]), ("json", ["blue", absent, None]))
        for shade, (colour, told) in enumerate(zip(("red", "blue", "red"), colours, strict=False))
    ]
    nc.tar(tmp_path / "one.tar", samples)
    report = evaluated("--data", path, tmp_path / "one.tar")
    told = [(one["set"], one["reason"], one["files"]) for one in report["left_out"]]
    lacking = ["0001", "0003", "0004"]
    assert told == [("set", "has no label", ["6.png"]), ("one", "has no label", lacking)]
    assert "left out: zeroshot one: has no label, 3: 0001, 0003, 0004" in capsys.readouterr().out


def test_a_sample_with_two_labels_has_no_first_one(tmp_path):
    told = [{"label": "red"}, {"label": "blue", "class": "blue"}, {"label": "red", "class": "blue"}]
    nc.tar(
        tmp_path / "one.tar",
        [{"png": nc.picture("red", i), "json": json.dumps(t).encode()} for i, t in enumerate(told)],
    )
    data = labelled.own(tmp_path / "one.tar")
    assert data.left_out == {"has several labels": ["0002.png"]} and len(data.labels) == 2


def test_of_two_names_in_a_shard_s_json_one_is_named(tmp_path):
    told = [json.dumps({"label": n, "label_name": c}).encode() for n, c in enumerate(nc.COLOURS)]
    pictures = [nc.picture(colour, 0) for colour in nc.COLOURS]
    nc.tar(tmp_path / "a.tar", [{"png": p, "json": t} for p, t in zip(pictures, told, strict=True)])
    with pytest.raises(ValueError, match="several labels.*; name the one .* with --label-column"):
        labelled.read(tmp_path / "a.tar")
    data = labelled.read(tmp_path / "a.tar", label="Label-Name")
    assert data.classes == sorted(nc.COLOURS) and data.left_out == {}
    with pytest.raises(ValueError, match=r"no image with a label: \d \(has no label\)$"):
        labelled.read(tmp_path / "a.tar", label="kind")


def test_what_lies_beside_is_named(tmp_path):
    folder = imagefolder(tmp_path / "mine")
    (folder / "test/pictures").mkdir()
    for name in ("0.png", "1.png"):
        (folder / "test" / name).rename(folder / "test/pictures" / name)
    table = folder / "test/metadata.csv"
    table.write_text(table.read_text().replace("\n0.png", "\npictures/0.png"))
    for name in ("test/other.csv", "test/.x.png", "README.md", "test/7.png"):
        (folder / name).write_text("x")
    assert labelled.own(folder).left_out == {
        "is missing": ["1.png"],
        "is hidden": [".x.png"],
        "is in no table": ["7.png", "other.csv", "pictures/1.png"],
        "is beside the part that is read": ["README.md", "train"],
    }
    shards(tmp_path / "tars")
    (tmp_path / "tars/red").mkdir()
    for name in ("set.csv", "red/0.png", "test.tar.gz"):
        (tmp_path / "tars" / name).write_bytes(b"")
    left_out = labelled.own(tmp_path / "tars").left_out
    beside = ["red/0.png", "set.csv", "train-0000.tar"]
    assert left_out["beside the shards that are read"] == beside


def test_members_of_one_name_in_two_shards_are_two(tmp_path, evaluated):
    for number in range(2):
        samples = [{"png": nc.picture(c, number), "cls": c.encode()} for c in ("red", "blue")]
        nc.tar(tmp_path / f"two/{number}.tar", [*samples, {"png": b"no picture", "cls": b"red"}])
    report = evaluated("--data", tmp_path / "two", "--predictions", "p")
    (entry,) = report["left_out"]
    assert (entry["reason"], entry["count"]) == ("not_an_image", 2)
    table = pq.read_table("p/two.parquet").to_pydict()
    assert len(set(table["path"])) == 4


@pytest.mark.parametrize("moment", ["before its bytes are digested", "before it is encoded"])
def test_an_image_that_vanishes_is_left_out(tmp_path, monkeypatch, evaluated, moment, capsys):
    """And is there again in the next run, once it is back; vectors are said to be kept then."""
    path = csv(tmp_path / "mine")
    image = tmp_path / "mine/3.png"
    content, real = image.read_bytes(), features.data_digest

    def digested(images):
        digest = real(images)
        image.unlink(missing_ok=True)
        return digest

    def loaded(*given, **more):
        image.unlink()
        return nc.model(*given, **more)

    with monkeypatch.context() as patched:
        if moment == "before it is encoded":
            patched.setattr(features, "data_digest", digested)
        else:
            patched.setattr(clip, "load", loaded)
        report = evaluated("--data", path)
    (entry,) = report["left_out"]
    gone = "cannot be read (No such file or directory)"
    assert (entry["reason"], entry["files"]) == (gone, ["3.png"])
    assert report["extra"]["zeroshot set"]["images"] == 5
    assert not re.search(r"images-\S+: computed, kept in", "".join(capsys.readouterr()))
    image.write_bytes(content)
    report = evaluated("--data", path)
    said = "".join(capsys.readouterr())
    assert re.search(r"images-\S+: computed, kept in", said)
    assert not report["left_out"] and report["extra"]["zeroshot set"]["images"] == 6


def one_class(folder):
    path = csv(folder)
    path.write_text("path,label\n0.png,red\n1.png,red")
    return path


def empty_split(folder):
    split_classes(folder)
    for path in folder.glob("test/*/*"):
        path.unlink()
    return folder


def decimals(folder):
    path = csv(folder)
    lines = (f"{i}.png,{i % 2}.0" for i in range(6))
    path.write_text("\n".join(["path,label", *lines]))
    return path


def a_pdf(folder):
    folder.mkdir()
    (folder / "set.csv").write_text("%PDF-1.7\n%%EOF")
    return folder / "set.csv"


BAD = {
    "two that fit": (lambda f: csv(f, head="path{},label,class".format("")), "2 columns called"),
    "one class": (one_class, "set has the one label red: zero-shot"),
    "no label": (lambda f: csv(f, head="path{}what"), "has no column 'label' or of a like name"),
    "empty split": (empty_split, "mine has nothing in its split test: fill the folder"),
    "decimals": (decimals, "set has the numbers 0.0 to 1.0 for classes: give their"),
    "a pdf": (a_pdf, "set.csv is a PDF: give parquet, csv, tsv or jsonl"),
    "numbers": (lambda f: parquet(f, False), "set has the numbers 0 to 2 for classes: give their"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, what):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clip, "load", nc.model)
    make, says = BAD[what]
    given = ["--data", str(make(tmp_path / "mine")), "--tasks", "zeroshot", "--out", "o.json"]
    assert cli.main(["evaluate", "--model", "colours", *given]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_name_that_is_nearly_there_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "mine")
    for given, near in (("mime", "mine"), ("poket", "pocket")):
        assert cli.main(["evaluate", "--model", "x", "--data", given, "--out", "o.json"]) == 2
        assert f"did you mean {near}" in capsys.readouterr().err


def test_three_layouts_and_two_models_on_one_page(tmp_path, evaluated):
    several = [csv(tmp_path / "tables"), imagefolder(tmp_path / "hub"), shards(tmp_path / "tars")]
    (tmp_path / "tables/5.png").write_bytes(b"no picture")
    evaluated("--data", *several, out="board", models=("a", "b"))
    text = (tmp_path / "board/leaderboard.md").read_text()
    for name in ("set", "hub", "tars"):
        assert f"zeroshot {name}, top1" in text
    rows = [line for line in text.splitlines() if line.startswith(("| a |", "| b |"))]
    assert len(rows) == 2 and all(row.count("**100.0** (100.0 to 100.0)") == 3 for row in rows)
    report = json.loads((tmp_path / "board/a.json").read_text())
    (entry,) = [one for one in report["left_out"] if one["set"] == "set"]
    assert entry["files"] == ["5.png"] and entry["reason"] == "not_an_image"
    assert (tmp_path / "board/leaderboard.html").is_file()


def test_names_for_numbers_and_names_that_do_not_fit(tmp_path, evaluated, capsys):
    path = parquet(tmp_path / "mine", meaning=False)
    names = tmp_path / "names.txt"
    names.write_text("blue\ngreen\nred\n")
    report = evaluated("--data", path, "--classnames", names)
    assert report["not_comparable"]["zeroshot set"]["values"] == {"top1": 100}
    names.write_text("blue\ngreen\ngreen\n")
    evaluated("--data", path, "--classnames", names, code=2)
    assert "set: the classes 1 and 2 would both be called 'green' in pro" in capsys.readouterr().err
    names.write_text("blue\ngreen\n")
    evaluated("--data", path, "--classnames", names, code=2)
    assert "--classnames: no name for 2: give a line for each" in capsys.readouterr().err


def test_names_are_for_the_sets_that_they_fit(tmp_path, evaluated, capsys):
    sets = [parquet(tmp_path / "mine", meaning=False), imagefolder(tmp_path / "hub")]
    names = tmp_path / "names.txt"
    names.write_text("blue\ngreen\nred\n")
    report = evaluated("--data", *sets, "--classnames", names)
    values = {name: told["values"]["top1"] for name, told in report["not_comparable"].items()}
    assert values == {"zeroshot set": 100, "zeroshot hub": 100}
    names.write_text("blue,indigo\nmauve,mauve\n")
    evaluated("--data", *sets, "--classnames", names, code=2)
    assert "no folder of mauve" in capsys.readouterr().err
    names.write_text("blue,indigo\n")
    evaluated("--data", sets[1], "--classnames", names, code=2)
    assert "no name for green, red" in capsys.readouterr().err
    names.write_text("blue,indigo\ngreen,lime\nred,rust\n")
    evaluated("--data", *sets, "--classnames", names, code=2)
    assert "set has the numbers 0 to 2 for classes" in capsys.readouterr().err


def test_a_task_without_a_set_is_said(tmp_path, evaluated, capsys):
    path = csv(tmp_path / "mine")
    evaluated("--data", path, "--tasks", "zeroshot,retrieval")
    assert f"retrieval: no set of this task is in {path}" in capsys.readouterr().out


def test_two_sets_of_one_name_are_refused(tmp_path, evaluated, capsys):
    evaluated("--data", csv(tmp_path / "a"), csv(tmp_path / "b"), code=2)
    assert "two sets are called set: give each once" in capsys.readouterr().err


def test_lists_of_labels_are_judged_by_their_ranking(tmp_path, evaluated):
    """A picture of one colour ranks its own colour first: full marks; one that says otherwise
    costs.
    """
    rows = nc.files(tmp_path / "mine")
    lines = [json.dumps({"path": file, "labels": [colour]}) for file, colour in rows]
    path = tmp_path / "mine/set.jsonl"
    path.write_text("\n".join(lines))
    values = evaluated("--data", path)["not_comparable"]["zeroshot set"]["values"]
    assert values == pytest.approx({"map_macro": 100, "map_micro": 100})
    lines[0] = json.dumps({"path": "0.png", "labels": ["red", "blue"]})
    path.write_text("\n".join(lines))
    report = evaluated("--data", path)
    values = report["not_comparable"]["zeroshot set"]["values"]
    assert 80 < values["map_macro"] < 100 and report["extra"]["zeroshot set"]["labels"] == 7
    assert report["extra"]["zeroshot set"]["average_precision"]["green"] == pytest.approx(100)


@pytest.mark.skipif(not (REAL / "bigearthnet_tiny.zip").is_file(), reason="needs its patches")
def test_the_patches_of_bigearthnet_are_a_set_of_several_labels(tmp_path):
    """Their bands in colour, with their labels as a list."""
    path, rows = REAL / "bigearthnet_tiny.zip", []
    with zipfile.ZipFile(path) as archive:
        for name, document in metadata.documents(path):
            bands = {b: archive.read(f"{name}/{name}_{b}.tif") for b in images.SENTINEL2}
            images.sentinel2(bands)[0].save(tmp_path / f"{name}.png")
            labels = list(metadata.read_bigearthnet(document, name).labels)
            rows.append({"image": f"{name}.png", "labels": labels})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    data = labelled.own(tmp_path / "set.parquet")
    assert len(data.images.names) == 11 and not data.left_out
    assert data.labels.shape == (11, len(data.classes)) and data.labels.sum(1).max() > 1
    for i, row in enumerate(rows):
        assert {data.classes[c] for c in np.flatnonzero(data.labels[i])} == set(row["labels"])
