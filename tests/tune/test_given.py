"""`rs5m tune` on what people have: packed once, used and left out add up, by count and by name."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import small_clip
from small import encoded

from rs5m import cli
from rs5m.data import images
from rs5m.tune import recipes, run

SMALL = ("epochs=1", "batch_size=4", "warm_up=1", "method=full")


@pytest.fixture
def small_recipe(monkeypatch, tmp_path):
    small_clip.register(tmp_path)
    real = recipes.get
    monkeypatch.setattr(
        recipes,
        "get",
        lambda name: replace(real(name), model=small_clip.NAMES[True], pretrained=None),
    )


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


def test_a_folder_of_sidecars_is_packed(tmp_path):
    for i in range(2):
        data = encoded(np.zeros((20, 20, 3), np.uint8), "JPEG")
        (tmp_path / f"{i}.jpg").write_bytes(data)
        (tmp_path / f"{i}.txt").write_text("x")
    made = run.shards("shards", [str(tmp_path)], tmp_path.parent / f"{tmp_path.name}-out")
    assert [path.name for path in made] == ["train-00000.tar"]
