"""`rs5m tune` on what people have: packed once, used and left out add up, by count and by name."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_clip
from small import encoded
from small_disk import small_disk

from rs5m import cli
from rs5m.data import images
from rs5m.tune import recipes, run

STRUCT = pa.struct([("path", pa.string()), ("bytes", pa.binary())])
SMALL = ("epochs=1", "batch_size=4", "warm_up=1", "method=full", "compiled=off")


@pytest.fixture
def small_recipe(monkeypatch, tmp_path):
    small_clip.register(tmp_path)
    real = recipes.get
    monkeypatch.setattr(
        recipes,
        "get",
        lambda name: replace(real(name), model=small_clip.NAMES[True], pretrained=None),
    )


@pytest.mark.slow
def test_a_csv_of_paths_is_trained_on(small_recipe, tmp_path, capsys):
    folder, out = tmp_path / "set", tmp_path / "out"
    folder.mkdir()
    rows = []
    for i in range(8):
        pixels = np.full((40, 40, 3), 25 * i, np.uint8)
        (folder / f"{i}.jpg").write_bytes(encoded(pixels, "JPEG"))
        rows.append((f"{i}.jpg", f"colour {i}"))
    (folder / "broken.jpg").write_bytes(b"no image")
    rows += [("broken.jpg", "x"), ("missing.jpg", "x")]
    table = folder / "pairs.csv"
    pd.DataFrame(rows, columns=["file", "words"]).to_csv(table, index=False)
    arguments = ["tune", "--recipe", "georsclip-b32", "--data", str(table), "--out", str(out)]
    assert cli.main([*arguments, "--set", *SMALL]) == 2
    assert "has no column 'text'" in capsys.readouterr().err and not (out / "shards").exists()
    assert cli.main([*arguments, "--caption-column", "words", "--set", *SMALL]) == 0
    said = capsys.readouterr().out
    assert "8 of 10 pairs are used" in said and "is missing" in said
    about = json.loads((out / "run.json").read_text())
    assert about["images"] == images.RULE and about["losses"]["steps"] == 2
    data = about["data"]
    assert (data["found"], data["pairs"]) == (10, 8)
    assert data["left_out"] == {"not_an_image": 1, "is missing": 1}
    named = json.loads((out / "left_out.json").read_text())
    assert named == {"not_an_image": ["broken.jpg"], "is missing": ["missing.jpg"]}


@pytest.mark.slow
def test_an_image_that_fails_in_its_batch_is_counted_once(small_recipe, tmp_path, capsys):
    shard, out = tmp_path / "a.tar", tmp_path / "out"
    with tarfile.open(shard, "w") as tar:
        for i in range(12):  # two that fail have one name
            image = encoded(np.full((40, 40, 3), 20 * i, np.uint8), "JPEG") if i > 1 else b"\0"
            note = b'{"img_name": "a.jpg"}' if i < 2 else b"{}"
            kinds = {"jpg": image, "txt": b"a colour", "json": note}
            for name, data in ((f"{i}.{kind}", data) for kind, data in kinds.items()):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    assert cli.main(["tune", "--data", str(shard), "--out", str(out), "--set", *SMALL]) == 0
    assert "10 of 12 pairs are used" in capsys.readouterr().out
    data = json.loads((out / "run.json").read_text())["data"]
    reason = "not_an_image"
    assert (data["found"], data["pairs"], data["left_out"]) == (12, 10, {reason: 2})
    named = json.loads((out / "left_out.json").read_text())[reason]
    assert named == ["a.tar a.jpg (pair 0)", "a.tar a.jpg (pair 1)"]


def test_a_folder_of_sidecars_is_packed(tmp_path):
    for i in range(2):
        data = encoded(np.zeros((20, 20, 3), np.uint8), "JPEG")
        (tmp_path / f"{i}.jpg").write_bytes(data)
        (tmp_path / f"{i}.txt").write_text("x")
    made = run.shards("shards", [str(tmp_path)], tmp_path.parent / f"{tmp_path.name}-out")
    assert [path.name for path in made] == ["train-00000.tar"]


def test_a_disk_that_is_full_for_the_ledger_is_named_and_left_clean(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(encoded(np.zeros((20, 20, 3), np.uint8), "JPEG"))
    rows = [("0.jpg", "x"), *((f"missing{i}.jpg", "x") for i in range(500))]
    pd.DataFrame(rows, columns=["image", "caption"]).to_csv(folder / "pairs.csv", index=False)
    given = "shards", [str(folder / "pairs.csv")]
    with small_disk(tmp_path, "20k") as (disk, resize):
        with pytest.raises(OSError, match="left_out.json could not be written .*: free some space"):
            run.shards(*given, disk)
        assert not list(disk.iterdir())
        resize("1m")
        assert [path.name for path in run.shards(*given, disk)] == ["train-00000.tar"]
        named = json.loads((disk / "shards" / "left_out.json").read_text())
        assert len(named["is missing"]) == 500


CAPTIONS = {
    "lists": (["a", "b"], {"pairs": 4}),
    "null": (None, {"has no caption": 1}),
    "empty": ("  ", {"has no caption": 1}),
    "a number": (3, {"has a caption that is not text": 1}),
    "numbers": ([1, 2], {"has a caption that is not text": 1}),
    "an object": ({"a": 1}, {"has a caption that is not text": 1}),
}


@pytest.mark.parametrize("kind", CAPTIONS)
def test_a_caption_that_is_no_text_is_left_out_by_its_reason(tmp_path, kind):
    value, said = CAPTIONS[kind]
    lines = []
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(encoded(np.full((20, 20, 3), i, np.uint8), "JPEG"))
        lines.append(json.dumps({"image": f"{i}.jpg", "caption": value if i == 3 else f"c {i}"}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    run.shards("shards", [str(tmp_path / "pairs.jsonl")], tmp_path / "out")
    about = json.loads((tmp_path / "out" / "shards" / "data.json").read_text())
    assert about["found"] == 4 and about["left_out"] == {
        k: v for k, v in said.items() if k != "pairs"
    }
    assert about["packed"] == said.get("pairs", 3)


def test_a_struct_without_bytes_is_one_sentence(tmp_path):
    image = [{"path": "0.jpg"}, {"path": "1.jpg"}]
    table = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"image": image, "caption": ["a", "b"]}), table)
    with pytest.raises(ValueError, match="struct<path: string> in .*give .* with a field bytes"):
        run.shards("shards", [str(table)], tmp_path / "out")
    for paths, why in ((("0.jpg", "1.jpg"), "is missing"), ((None, None), "has no image")):
        image = pa.array([{"path": one, "bytes": None} for one in paths], STRUCT)
        pq.write_table(pa.table({"image": image, "caption": ["a", "b"]}), table)
        with pytest.raises(ValueError, match=rf"has no whole pair: 2 \({why}\)"):
            run.shards("shards", [str(table)], tmp_path / "out")
