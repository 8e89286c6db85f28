"""Recipes: every setting has a value, a mark and a reason, and the published ones are the published
numbers.
"""

import csv
import os
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from rs5m import clip
from rs5m.clip import released
from rs5m.tune import Settings, recipes, ret2

FACTS = (
    Path(os.environ.get("RS5M_FACTS") or Path(__file__).parents[3] / "shared" / "facts")
    / "training.csv"
)
ALL = [
    "georsclip-b32",
    "georsclip-ft-ret2",
    "georsclip-ft-rsicd",
    "georsclip-ft-rsitmd",
    "georsclip-h14",
]


def test_the_five_are_there():
    assert recipes.names() == ALL


@pytest.mark.parametrize("name", ALL)
def test_every_setting_has_a_value_of_its_type_a_mark_and_a_reason(name):
    recipe = recipes.get(name)
    assert list(recipe.settings) == [field for field in recipe.marks if field in recipe.settings]
    for field in fields(Settings):
        if field.name != "steps":  # of one's own alone: a recipe counts epochs
            assert type(recipe.settings[field.name]) is type(field.default), field.name
    Settings(**recipe.settings)
    for setting, (value, known, source) in recipe.marks.items():
        assert known in recipes.MARKS and isinstance(source, str) and len(source) > 2, setting
        assert value != "" or setting == "pretrained", setting
    assert {"model", "pretrained", "data", "normalisation"} <= recipe.marks.keys()
    assert recipe.data == "shards" or recipe.data in ret2.PARTS


@pytest.mark.parametrize("name", ALL)
def test_its_model_can_be_loaded_by_name(name):
    """Without a download: the name is released, or open_clip has the weights with the right
    activation.
    """
    from rs5m.clip import factory

    recipe = recipes.get(name)
    if recipe.pretrained:
        assert (
            factory.of_weights(recipe.model, recipe.pretrained)["image_mean"]
            == clip.open_clip.OPENAI_DATASET_MEAN
        )
    else:
        assert recipe.model in released.RELEASED


PUBLISHED = {  # the author's words in the official tracker, issue 12
    "learning_rate": 5e-6,
    "weight_decay": 0.5,
    "batch_size": 600,
    "epochs": 7,
    "warm_up": 100.0,
    "max_norm": 50.0,
}


def test_ret2_is_as_published():
    recipe = recipes.get("georsclip-ft-ret2")
    for setting, value in PUBLISHED.items():
        assert recipe.settings[setting] == value and recipe.marks[setting][1] == "published", (
            setting
        )
    ours = {
        "method",
        "lock_text",
        "chunk",
        "precision",
        "seed",
        "checkpoint_every",
        "compiled",
        "size",
        "lock_image",
        "keep_every",
    }
    assert {s for s in recipe.settings if recipe.marks[s][1] == "ours"} == ours
    for alone in (
        "georsclip-ft-rsicd",
        "georsclip-ft-rsitmd",
    ):  # the same numbers, but not published for these
        found = recipes.get(alone)
        assert found.settings == recipe.settings
        assert {found.marks[setting][1] for setting in PUBLISHED} == {"ours"}


@pytest.mark.skipif(not FACTS.is_file(), reason="the facts are not beside this checkout")
def test_the_numbers_are_those_of_the_facts():
    names = {
        "warm-up steps": "warm_up",
        "batch size": "batch_size",
        "max gradient norm": "max_norm",
    }
    rows = [
        row
        for row in csv.DictReader(FACTS.open(encoding="utf-8"))
        if row["run"] == "GeoRSCLIP-FT RET-2"
    ]
    found = {
        names.get(row["setting"], row["setting"].replace(" ", "_")): row["value"] for row in rows
    }
    assert len(found) == 7
    recipe = recipes.get("georsclip-ft-ret2")
    for setting, value in found.items():
        if setting == "data":
            assert (
                recipe.data == "ret2"
                and "duplicate" in value
                and "duplicate" in recipe.marks["data"][2]
            )
        else:
            assert recipe.settings[setting] == float(value), setting


def test_the_table_has_a_row_for_each_setting():
    table = recipes.table("georsclip-h14")
    assert list(table) == ["setting", "value", "known", "source"]
    assert list(table.setting) == list(recipes.get("georsclip-h14").marks)
    row = table.set_index("setting").loc["model"]
    assert (row.value, row.known) == ("ViT-H-14", "published")


def test_a_recipe_does_not_change():
    recipe = recipes.get("georsclip-b32")
    with pytest.raises(FrozenInstanceError):
        recipe.model = "x"
    with pytest.raises(TypeError):
        recipe.settings["batch_size"] = 1
    changed = recipes.change(recipe, ["batch_size=8"])
    assert (
        changed.settings["batch_size"] == 8
        and recipe.settings["batch_size"] == recipes.get("georsclip-b32").settings["batch_size"]
    )


def test_an_unknown_recipe_lists_all():
    with pytest.raises(
        ValueError, match=f"unknown recipe 'georsclip-b33': choose one of {', '.join(ALL)}, or name"
    ):
        recipes.get("georsclip-b33")
    with pytest.raises(ValueError, match="unknown recipe '../paper/x'"):
        recipes.get("../paper/x")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("batch_size=8", "batch_size", 8),
        ("warm_up=3", "warm_up", 3.0),
        ("learning_rate=1e-4", "learning_rate", 1e-4),
        ("method=lora", "method", "lora"),
        ("lock_text=True", "lock_text", True),
        ("compiled=false", "compiled", False),
        ("precision=fp16", "precision", "fp16"),
        ("steps=60", "steps", 60),
    ],
)
def test_a_setting_is_changed_and_marked_ours(text, field, value):
    changed = recipes.change(recipes.get("georsclip-ft-ret2"), [text])
    assert changed.settings[field] == value and type(changed.settings[field]) is type(value)
    assert changed.marks[field] == (value, "ours", "changed on the command line")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch_size", "--set batch_size: give field=value"),
        ("rank=4", "--set rank=4: give field=value, the field one of method, size, "),
        ("batch_size=1.5", "--set batch_size=1.5: give a whole number, such as 128"),
        ("lock_text=1", "give true or false"),
        ("epochs=many", "--set epochs=many: give a whole number"),
        ("learning_rate=fast", "give a number, such as 0.002"),
        ("model=ViT-H-14", "--set model=ViT-H-14: give field=value"),
        ("batch_size=[", "give a whole number"),
        ("steps=sixty", "--set steps=sixty: give a whole number, such as 100"),
        ("steps=1.5", "--set steps=1.5: give a whole number, such as 100"),
        ("steps=null", "--set steps=null: give a whole number, such as 100"),
    ],
)
def test_a_wrong_change_is_told_in_a_sentence(text, says):
    with pytest.raises(ValueError) as caught:
        recipes.change(recipes.get("georsclip-b32"), [text])
    assert says in str(caught.value)


def written(folder: Path, text: str) -> str:
    path = folder / "own.toml"
    path.write_text(text)
    return str(path)


def test_a_file_changes_the_default_recipe(tmp_path):
    text = """
model = "RN50-quickgelu"
epochs = 3
learning_rate = 1  # a whole number will do
[crop]
value = 0.5
known = "published"
source = "somebody's paper"
"""
    recipe, usual = recipes.get(written(tmp_path, "\ufeff" + text)), recipes.get(recipes.DEFAULT)
    assert (recipe.name, recipe.model, recipe.pretrained) == ("own", "RN50-quickgelu", None)
    assert recipe.settings["learning_rate"] == 1.0 and recipe.settings["epochs"] == 3
    assert recipe.marks["epochs"] == (3, "ours", "own.toml")
    assert recipe.marks["crop"] == (0.5, "published", "somebody's paper")
    changed = {"epochs", "learning_rate", "crop"}
    assert all(
        recipe.settings[key] == usual.settings[key] for key in usual.settings.keys() - changed
    )
    assert recipes.get(written(tmp_path, "steps = 60")).settings["steps"] == 60
    kept = recipes.get(written(tmp_path, "epochs = 3"))
    assert (kept.model, kept.pretrained) == (usual.model, usual.pretrained)


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_of_the_package_is_a_file_of_ones_own(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    path.write_text((recipes.RECIPES / path.name).read_text())
    assert recipes.get(str(path)) == recipes.get(name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batchsize = 8", "own.toml: unknown setting 'batchsize': the nearest is batch_size"),
        (
            "[learning-rate]\nvalue = 1",
            "unknown setting 'learning-rate': the nearest is learning_rate",
        ),
        ('batch_size = "many"', 'batch_size = "many": give a whole number, such as 128'),
        ("batch_size = 1.5", "batch_size = 1.5: give a whole number"),
        ("lock_text = 1", "lock_text = 1: give true or false, such as true"),
        ("model = 3", "model = 3: give a word"),
        ("epochs = 2024-01-01", 'epochs = "2024-01-01": give a whole number'),
        ("epochs = [1, 2]", "epochs = [1, 2]: give a whole number"),
        ('data = "coco"', "data is 'coco': give one of shards, rsicd, rsitmd, ret2"),
        ("[epochs]\nknown = 'ours'", "own.toml: [epochs] has known: give it value"),
        ("[epochs]\nvalue = 3\nwhy = 'x'", "[epochs] has value, why: give it value, known"),
        ("[epochs]\nvalue = 3\nknown = 'said'", "[epochs] is 'said' by 'own.toml': give one of"),
        ("epochs: 3", "own.toml is not toml (Expected '=' after a key"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(text, says, tmp_path):
    with pytest.raises(ValueError) as caught:
        recipes.get(written(tmp_path, text))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.toml is not there: give a recipe's file, or"):
        recipes.get(str(tmp_path / "no.toml"))
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="x.toml is not toml"):
        recipes.get(str(tmp_path / "x.toml"))


def test_another_model_brings_none_of_the_recipes_weights():
    recipe = recipes.get("georsclip-b32")
    assert recipes.begin_from(recipe) == recipe
    other = recipes.begin_from(recipe, "RN50-quickgelu")
    assert (other.model, other.pretrained) == ("RN50-quickgelu", None)
    assert other.marks["model"] == ("RN50-quickgelu", "ours", "changed on the command line")
    other = recipes.begin_from(recipe, pretrained="laion400m_e32")
    assert (other.model, other.pretrained) == (recipe.model, "laion400m_e32")
    assert other.settings == recipe.settings


def test_the_overview_has_a_line_for_each():
    lines = recipes.overview().splitlines()
    assert [line.split()[0] for line in lines] == ALL
    assert "ViT-B-32-quickgelu openai, full, epochs 5, batch 600, learning rate 1e-05" in lines[0]


def test_what_the_chapter_says_of_itra_can_be_set():
    wanted = ["turns=none", "mirror=off", "precision=fp16"]
    changed = recipes.change(recipes.get("georsclip-ft-ret2"), wanted)
    settings = Settings(**changed.settings)
    assert settings.view() == (0.9, "none", False) and settings.precision == "fp16"
    assert not {"betas", "epsilon"} & vars(settings).keys(), "the chapter's table says so"
