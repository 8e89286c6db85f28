"""Files of vectors: what is in them is what the model gives; an index answers like its folder."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_clip
from PIL import Image

from rs5m import cli, clip
from rs5m.clip import hub
from rs5m.evaluate import embed, official, search, stored
from rs5m.vectors import normalise

pytestmark = pytest.mark.usefixtures("one_thread")
QUERY = "a river in a forest"


@pytest.fixture(scope="module")
def model(architectures):
    return small_clip.random(False)


@pytest.fixture
def photos(tmp_path, monkeypatch, model) -> Path:
    """Two classes of three pictures and a broken one, beside which runs/ is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "model_of", lambda name, checkpoint: model)
    generator = np.random.default_rng(0)
    for name in ("river", "forest"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            noise = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "photos/forest/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return Path("photos")


def command(*given) -> int:
    return cli.main([given[0], "--model", "small", *map(str, given[1:])])


@pytest.mark.parametrize("ending", embed.ENDINGS)
@pytest.mark.parametrize("block", [4, 2048])
def test_an_index_has_every_readable_image_and_answers_as_the_folder(
    model, photos, monkeypatch, ending, block
):
    monkeypatch.setattr(embed, "BLOCK", block)
    out = Path(f"index{ending}")
    assert command("embed", "--data", photos, "--out", out) == 0
    index = embed.read(out)
    assert index.names == [f"{c}/{i}.png" for c in ("forest", "river") for i in range(3)]
    for vector, name in zip(index.vectors, index.names, strict=True):
        image = np.array(Image.open(photos / name))
        alone = normalise(clip.encode_images(model, [image], quiet=True))[0]
        assert vector == pytest.approx(alone, abs=1e-5)
    slow, quick = search.folder(model, photos, QUERY, 4), embed.find(model, out, QUERY, 4)
    assert quick.files == slow.files and quick.cosines == pytest.approx(slow.cosines, abs=1e-6)


def test_an_interrupted_run_goes_on_with_the_next_block(photos, monkeypatch):
    monkeypatch.setattr(embed, "BLOCK", 2)
    real, asked = embed.features.encode, []

    def encode(model, images, name, **how):
        asked.append(images.names)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(model, images, name, **how)

    monkeypatch.setattr(embed.features, "encode", encode)
    assert command("embed", "--data", photos, "--out", "a.npz") == 130
    assert not Path("a.npz").exists()
    assert command("embed", "--data", photos, "--out", "a.npz") == 0
    assert asked[0] not in asked[1:] and len(embed.read("a.npz").names) == 6


def test_interrupted_texts_go_on_with_the_next_block_to_the_same_bytes(photos, monkeypatch):
    texts = [f"a {'very ' * (i % 7)}wide river" for i in range(7)] + [f"lake {i}" for i in range(9)]
    Path("t.txt").write_text("\n".join(texts[::-1] + texts[:3]), encoding="utf-8")
    assert command("embed", "--data", "t.txt", "--out", "whole.npz") == 0
    monkeypatch.setattr(embed, "BLOCK", 4)
    assert command("embed", "--data", "t.txt", "--out", "parts.npz") == 0
    real, asked = clip.encode_texts, []

    def encode(model, texts, *more):
        asked.append(list(texts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(model, texts, *more)

    monkeypatch.setattr(clip, "encode_texts", encode)
    shutil.rmtree("runs")
    assert command("embed", "--data", "t.txt", "--out", "a.npz") == 130
    assert not Path("a.npz").exists()
    assert command("embed", "--data", "t.txt", "--out", "a.npz") == 0
    assert [asked.count(block) for block in asked] == [1, 1, 2, 2, 1]
    assert Path("a.npz").read_bytes() == Path("parts.npz").read_bytes()
    ours, theirs = (np.load(name)["text"] for name in ("a.npz", "whole.npz"))
    assert ours == pytest.approx(theirs, abs=1e-6) and len(ours) == 19


def test_class_folders_are_scored_as_the_evaluation_scores_them(photos, model, monkeypatch):
    assert command("embed", "--data", photos, "--classes", "--out", "v.npz") == 0
    vectors = stored.read("v.npz")
    assert np.bincount(vectors.label).tolist() == [3, 3]
    monkeypatch.setattr(official.clip, "load", lambda *_, **__: model)
    report = official.run("pocket", None, photos, "zeroshot", "r.json")
    (apart,) = report["not_comparable"].values()
    top1 = stored.score(vectors)["105 prompts"]["top1"]
    assert apart["values"]["top1"] == pytest.approx(top1, abs=0.01)


def test_texts_are_a_line_each(photos, model):
    Path("t.txt").write_text("a river\n\n a\x85lake \n", encoding="utf-8")
    assert command("embed", "--data", "t.txt", "--out", "t.parquet") == 0
    table = pd.read_parquet("t.parquet")
    assert table["texts"].tolist() == ["a river", "a\x85lake"]
    alone = normalise(clip.encode_texts(model, ["a\x85lake"]))[0]
    assert table["text"][1] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a river\r\n\r\na lake".encode("utf-16"), ""),
        (b"a lake\xfc\n\xff", "t.txt is neither UTF-8 nor UTF-16"),
        (b"PK\x03\x04\xff\xff", "t.txt is a zip: save it as UTF-8"),
    ],
)
def test_texts_of_another_encoding_are_read_or_named(photos, capsys, content, said):
    Path("t.txt").write_bytes(content)
    code = command("embed", "--data", "t.txt", "--out", "t.parquet")
    assert code == (2 if said else 0) and said in capsys.readouterr().err
    if not said:
        assert pd.read_parquet("t.parquet")["texts"].tolist() == ["a river", "a lake"]


def test_a_name_that_is_not_utf8_is_embedded_and_shown(photos, capsys):
    name = os.fsdecode(b"gr\xfcn.png")
    try:
        (photos / "river/0.png").rename(photos / "river" / name)
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    assert command("embed", "--data", photos, "--out", "i.npz") == 0
    assert f"river/{name}" in embed.read("i.npz").names
    assert command("search", "--data", "i.npz", "--query", QUERY, "--out", "s.html") == 0
    assert "gr\\udcfcn.png" in capsys.readouterr().out
    assert command("embed", "--data", photos, "--out", "i.parquet") == 2
    assert "write an npz, or rename the image" in capsys.readouterr().err


def test_the_search_prints_and_writes_a_page(photos, capsys):
    given = ("search", "--data", photos, "--query", "<b>water", "--count", 3, "--out", "s.html")
    assert command(*given) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".png")]
    assert len(lines) == 3 and float(lines[0].split()[0]) >= float(lines[2].split()[0])
    page = Path("s.html").read_text()
    assert page.count('<img src="data:image/jpeg') == 3 and "<b>water" not in page
    assert lines[0].split()[1] in page and "3 of 6" in page
    assert "color-scheme: light dark" in page
    assert command("search", "--data", photos, "--query", " ") == 2
    assert "--query is empty: give a sentence" in capsys.readouterr().err


BAD = {
    "ending": (("--data", "photos", "--out", "a.csv"), "name a file that ends in .npz or .parq"),
    "texts": (("--data", "e.txt", "--out", "a.npz"), "e.txt has no text: write one on each"),
    "classes of texts": (("--data", "e.txt", "--classes", "--out", "a.npz"), "needs a folder of"),
    "no classes": (("--data", "photos/river", "--classes", "--out", "a.npz"), "no class folders"),
    "table": (("--data", "t.CSV", "--out", "a.npz"), "t.CSV is a table: name a folder of images"),
    "no folder": (("--data", "absent", "--out", "a.npz"), "absent is not a folder: name one"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_embedded_is_one_sentence(photos, capsys, what):
    given, says = BAD[what]
    Path("e.txt").write_text("\n \n")
    Path("t.CSV").write_text("path,caption\na.jpg,a river\n")
    assert command("embed", *given) == 2
    assert says in capsys.readouterr().err and not list(Path().glob("a.*"))


def test_an_index_of_another_model_is_refused(photos, model, capsys):
    assert command("embed", "--data", photos, "--out", "i.npz") == 0
    arrays = stored.arrays(Path("i.npz"))
    about = json.loads(str(arrays["about"])) | {"weights": "0" * 64}
    np.savez("i.npz", **arrays | {"about": json.dumps(about)})
    given = ("search", "--data", "i.npz", "--query", "x")
    assert command(*given) == 2
    assert "made by another model (its weights differ)" in capsys.readouterr().err
    np.savez("i.npz", image=arrays["image"])
    assert command(*given) == 2
    assert "i.npz is not an index of images: write one with" in capsys.readouterr().err


DAMAGED = {  # what is changed in an index, and what is said of it
    "width": (lambda a: a["image"][:, :5], "image", "vectors of 5 numbers, and the model's have"),
    "axes": (lambda a: a["image"][0], "image", "of shape (32,): give floats with 2 axes"),
    "none": (lambda a: a["image"][:0], "image", "image is empty (shape (0, 32))"),
    "nan": (lambda a: a["image"] * np.nan, "image", "6 of 6 rows of image are zeros or not"),
    "names": (lambda a: a["names"][1:], "names", "has 5 names and 6 vectors: run rs5m embed again"),
    "no json": (lambda a: "{", "about", "is not an index of images"),
    "another json": (lambda a: "[]", "about", "is not an index of images"),
    "a folder": (lambda a: '{"folder": 3}', "about", "is not an index of images"),
    "version": (lambda a: '{"version": 2}', "about", "has vectors of version 2"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_index_is_one_sentence(photos, capsys, what):
    assert command("embed", "--data", photos, "--out", "i.npz") == 0
    change, name, says = DAMAGED[what]
    arrays = stored.arrays(Path("i.npz"))
    np.savez("i.npz", **arrays | {name: change(arrays)})
    assert command("search", "--data", "i.npz", "--query", "x") == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("how", ["cut", "ragged", "texts"])
def test_a_damaged_table_of_vectors_is_one_sentence(photos, capsys, how):
    assert command("embed", "--data", photos, "--out", "i.parquet") == 0
    table, path = pd.read_parquet("i.parquet"), Path("i.parquet")
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-90])
    else:
        rows = [v[: len(v) - i] for i, v in enumerate(table["image"])]
        table["image"] = rows if how == "ragged" else "x"
        table.to_parquet(path)
    assert command("search", "--data", path, "--query", "x") == 2
    says = "not a whole parquet file" if how == "cut" else "give floats with 2 axes"
    assert f"{path}" in (said := capsys.readouterr().err) and says in said
