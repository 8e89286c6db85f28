"""What is known by name is listed, as a table and as JSON."""

import json

import pytest

from rs5m import cli
from rs5m.clip import known
from rs5m.evaluate import cards


def test_models_are_listed_with_their_activation(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(known.models())
    assert lines[0].split()[:3] == ["name", "architecture", "activation"]
    assert cli.main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["RemoteCLIP-ViT-B-32"]["activation"] == "unknown"
    assert rows["DGTRS-CLIP-ViT-L-14"]["text_length"] == 248


def test_sets_and_suites_are_listed(capsys):
    assert cli.main(["sets"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in said for name in cards.known())
    assert all(f"\nsuite {name}: " in said for name in cards.suites())
    assert cli.main(["sets", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in told["sets"]} == set(cards.known())
    assert set(told["suites"]["rs5m"]["sets"]) <= set(cards.known())


def test_a_suite_tells_where_its_sets_are_and_what_is_unchecked(capsys):
    assert cli.main(["sets", "ten"]) == 0
    said = capsys.readouterr().out
    assert "mlrsnet 46 (unchecked), optimal31 31, " in said
    assert all(f"\n{key} " in said for key in ("where", "layout", "protocol"))
    assert cli.main(["sets", "skyscript", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told == {"name": "skyscript"} | cards.suites()["skyscript"]
    for suite in cards.suites().values():  # a number of classes stands in one place
        assert not set(suite.get("classes", ())) & set(cards.known())
        assert set(suite.get("classes", ())) <= set(suite["sets"])
        assert set(suite.get("unchecked", ())) <= set(suite.get("classes", ()))


def test_a_card_is_told_whole(capsys):
    assert cli.main(["sets", "aid"]) == 0
    said = capsys.readouterr().out
    assert "Airport, BareLand, " in said and "Not Million-AID" in said


@pytest.mark.parametrize(
    "name, meant", [("eurosta", "did you mean eurosat? "), ("SKY", "skyscript"), ("qqqq", "")]
)
def test_an_unknown_set_names_the_nearest(capsys, name, meant):
    assert cli.main(["sets", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rs5m: unknown set {name!r}: ") and meant in said
    assert said.endswith("`rs5m sets` lists them\n") and ("did you mean" in said) == bool(meant)
