"""What is known by name is listed, as a table and as JSON."""

import json

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
