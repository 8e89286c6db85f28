"""`rs5m tune`: any model, recipes, a validation on the way, and what is refused before any work."""

import argparse
import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import small_clip
from small import encoded

from rs5m import cli, clip
from rs5m.clip import checkpoints
from rs5m.commands import tune
from rs5m.data import records
from rs5m.tune import Settings, recipes

pytestmark = pytest.mark.usefixtures("one_thread")
SET = ("epochs=2", "warm_up=1", "compiled=off", "precision=float32", "learning_rate=1e-3")
COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A shard of pairs, and own/ with a folder of images for each class."""
    folder = tmp_path_factory.mktemp("tune")
    small_clip.register(folder)
    pairs = []
    for i in range(9):
        name = list(COLOURS)[i % 3]
        content = encoded(np.full((40, 40, 3), COLOURS[name], np.uint8), "JPEG")
        pairs.append(records.Record(content, f"{i}.jpg", f"a view of {name} land {i}"))
        (folder / "own" / name).mkdir(parents=True, exist_ok=True)
        (folder / "own" / name / f"{i}.jpg").write_bytes(content)
    records.write(folder / "pairs.tar", pairs)
    rows = [(f"own/{name}/{i}.jpg", f"{name} {i}") for i, name in enumerate([*COLOURS] * 3)]
    pd.DataFrame(rows, columns=["image", "caption"]).to_csv(folder / "pairs.csv", index=False)
    (folder / "empty").mkdir()
    (folder / "one" / "red").mkdir(parents=True)
    (folder / "one" / "red" / "0.jpg").write_bytes(content)
    return folder


def words(folder, out, *more) -> list[str]:
    model = small_clip.NAMES[True]
    given = ["tune", "--model", model, "--data", folder / "pairs.tar", "--out", out]
    return list(map(str, [*given, "--batch-size", 4, "--set", *SET, *more]))


def test_any_model_is_validated_on_the_way_and_the_best_weights_stay(folder, tmp_path, capsys):
    out = tmp_path / "out"
    judged = ("--validate", folder / "own", "--validate-every", 2, "--set", "keep_every=3")
    assert cli.main(words(folder, out, *judged)) == 0
    said = capsys.readouterr().out
    assert f"warning: {small_clip.NAMES[True]} begins from random weights: give --check" in said
    assert "step 2: validation/top1" in said and "step 4: validation/top1" in said
    about = json.loads((out / "run.json").read_text())
    model = {"name": small_clip.NAMES[True], "pretrained": None}
    assert about["model"] == model and about["recipe"] == recipes.DEFAULT
    known = about["validation"]
    assert (known["data"], known["images"], known["classes"]) == ("own", 9, 3)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scores = {i: line["validation/balanced"] for i, line in enumerate(lines, 1) if i in (2, 4)}
    best = max(scores, key=scores.get)
    assert known["best"]["step"] == best and known["best"]["by"] == "balanced"
    assert known["best"]["scores"]["balanced"] == scores[best]
    assert "validation/balanced" not in lines[0]
    for kept in ("best", "kept/step-3"):
        assert clip.load(f"local-dir:{out / kept}").image_size == 32
    other = tmp_path / "other"
    assert cli.main(words(folder, other)) == 0
    weights = (other / "open_clip_model.safetensors").read_bytes()
    plain = json.loads((other / "run.json").read_text())
    assert plain["run"] == about["run"] and "validation" not in plain
    assert (out / "open_clip_model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tar"])
def test_a_set_of_captions_is_scored_by_recall(folder, tmp_path, name):
    out = tmp_path / "out"
    assert cli.main(words(folder, out, "--validate", folder / name, "--set", "epochs=1")) == 0
    known = json.loads((out / "run.json").read_text())["validation"]
    assert (known["data"], known["images"], known["captions"]) == (name, 9, 9)
    assert known["best"]["by"] == "mean_recall"
    assert known["best"]["scores"]["image_to_text_R@10"] == 100, "of nine"
    line = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"validation/text_to_image_R@1", "validation/mean_recall"} < line.keys()


def test_a_checkpoint_is_known_by_its_content(folder, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'model = "{small_clip.NAMES[True]}"\nbatch_size = 4\nepochs = 1\n')
    runs = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        begin = checkpoints.export(
            small_clip.random(True, seed), tmp_path / str(seed) / "begin.safetensors"
        )
        out = tmp_path / f"out{seed}"
        given = ["tune", "--recipe", recipe, "--checkpoint", begin, "--out", out]
        given += ["--data", folder / "pairs.tar", "--set", "compiled=off", "augment=off"]
        assert cli.main(list(map(str, given))) == 0
        runs.append(json.loads((out / "run.json").read_text()))
        digest = hashlib.sha256(begin.read_bytes()).hexdigest()
        assert runs[-1]["model"]["checkpoint"] == {"file": begin.name, "sha256": digest}
        assert runs[-1]["recipe"] == "mine" and runs[-1]["losses"]["steps"] == 2
        assert runs[-1]["settings"]["augment"]["value"] is False
    assert runs[0]["base"] == runs[1]["base"] and runs[0]["run"] != runs[1]["run"]
    again = clip.load(f"local-dir:{out}")
    assert again.image_size == 32


BAD = {
    "model": (["--model", "ViT-Z-99"], "unknown model 'ViT-Z-99': "),
    "tag": (["--pretrained", "imagenet"], "unknown weights 'imagenet' of rs5m-small-quickgelu"),
    "folder": (["--model", "local-dir:absent"], "local-dir:absent could not be loaded"),
    "activation": (
        ["--model", "ViT-B-32", "--pretrained", "openai"],
        "were trained with QuickGELU, and ViT-B-32 computes GELU",
    ),
    "recipe": (["--recipe", "absent.toml"], "absent.toml is not there: give a recipe's file, or"),
    "setting": (["--set", "crop=0"], "crop is 0.0: give the smallest share"),
    "no step": (["--set", "steps=0"], "steps is 0: give 1 or more"),
    "steps": (["--set", "steps=5"], "steps is 5: 2 epochs of 9 pairs have 4, give fewer or more"),
    "batch": (["--batch-size", "many"], "--set batch_size=many: give a whole number"),
    "workers": (["--workers", "-1"], "--workers -1: give a number from 0"),
    "device": (["--device", "abacus"], "--device abacus is not available here"),
    "no set": (["--validate", "absent"], "absent is not there: name a folder of classes, or a"),
    "no class": (["--validate", "EMPTY"], "empty has no class folders with images: name a folder"),
    "one class": (["--validate", "ONE"], "has one folder of images, red"),
    "column": (
        ["--model", "ViT-Z-99", "--data", "TABLE", "--caption-column", "words"],
        "pairs.csv has no column 'words': --caption-column is one of image, caption",
    ),
    "column of a set": (
        ["--model", "ViT-Z-99", "--validate", "TABLE", "--image-column", "file"],
        "pairs.csv has no column 'file': --image-column is one of image, caption",
    ),
    "every": (
        ["--validate", "OWN", "--validate-every", "-1"],
        "--validate-every -1: give a number of steps",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_one_sentence_before_the_first_step(folder, tmp_path, capsys, what):
    given, says = BAD[what]
    places = {name.upper(): str(folder / name) for name in ("empty", "one", "own")}
    places["TABLE"] = str(folder / "pairs.csv")
    out = tmp_path / "out"
    assert cli.main(words(folder, out, *(places.get(one, one) for one in given))) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rs5m: ") and says in error
    assert not (out / "log.jsonl").exists() and not (out / "shards").exists()


def test_another_setting_is_named_before_the_model_is_loaded(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(words(folder, out, "--set", "epochs=1")) == 0
    capsys.readouterr()
    changed = ("--model", "ViT-Z-99", "--set", "epochs=3", "learning_rate=2e-3")
    assert cli.main(words(folder, out, *changed)) == 2
    assert "(learning_rate 0.001 -> 0.002, epochs 1 -> 3)" in capsys.readouterr().err


def test_a_run_of_so_many_steps_says_so_and_goes_on(folder, tmp_path, capsys):
    out, cut = tmp_path / "out", ("--set", "steps=3", "checkpoint_every=1")
    assert cli.main(words(folder, out, *cut)) == 0
    said = capsys.readouterr()
    assert "3 of the 4 steps of 2 epochs" in said.out and "of 3 steps, " in said.out
    about = json.loads((out / "run.json").read_text())
    assert about["settings"]["steps"] == {
        "value": 3,
        "known": "ours",
        "source": "changed on the command line",
    }
    assert about["losses"]["steps"] == 3
    assert cli.main(words(folder, out, *cut)) == 0, "goes on"
    assert json.loads((out / "run.json").read_text())["run"] == about["run"]
    capsys.readouterr()
    for other, says in (([], "steps 3 -> all"), (["--set", "steps=2"], "steps 3 -> 2")):
        assert cli.main(words(folder, out, *other)) == 2
        error = capsys.readouterr().err.splitlines()
        assert f"({says})" in error[-1] and len([one for one in error if "rs5m: " in one]) == 1
    plain = tmp_path / "plain"
    assert cli.main(words(folder, plain)) == 0
    known = json.loads((plain / "run.json").read_text())
    assert "steps" not in known["settings"] and known["run"] != about["run"]
    capsys.readouterr()
    assert cli.main(words(folder, plain, *cut)) == 2
    assert "(steps all -> 3)" in capsys.readouterr().err


def test_the_list_of_recipes_ends_well(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["tune", "--recipe", "list"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == recipes.overview().splitlines()


def test_every_option_is_a_sentence_and_every_setting_is_named():
    commands = argparse.ArgumentParser().add_subparsers()
    tune.add(commands)
    options = {action.dest: action for action in commands.choices["tune"]._actions}
    del options["help"]
    for name, option in options.items():
        assert option.help[0].isupper() and option.help.endswith("."), name
        assert option.required or "default" in option.help or name == "set", name
    said = options["set"].help
    assert all(field.name in said for field in dataclasses.fields(Settings))
    assert options["recipe"].default == recipes.DEFAULT
