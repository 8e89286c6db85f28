"""Models beside one another: the places, the pairs that turn, and the stored run of WHU-RS19."""

import numpy as np
import pytest

from rs5m import results
from rs5m.book import board, weights


def row(value):
    return {"top1": value, "low": value - 2, "high": value + 2}


def made(**by_model):
    return {
        name: {"zeroshot": {"a": row(zero), "b": row(zero - 3)}, "frozen": {board.PROBE: row(one)}}
        for name, (zero, one) in by_model.items()
    }


def test_places_and_pairs_that_turn():
    values = made(x=(50, 90), y=(60, 80), z=(53, 95))
    places = board.ranks(values)
    assert places["zero-shot, a"].to_dict() == {"x": 3, "y": 1, "z": 2}
    assert places[board.PROBE].to_dict() == {"x": 2, "y": 3, "z": 1}
    found = board.order(values)
    assert found["pairs"] == 3 and found["turned"] == 2 and found["moved"] == 2
    assert found["unclear"] == 1 and found["spread"] == pytest.approx(3)
    assert board.gaps(values, "x", "y")[board.PROBE] == -10


def test_a_column_that_one_model_lacks_ranks_nobody():
    values = made(x=(50, 90), y=(60, 80))
    del values["y"]["frozen"][board.PROBE]
    assert list(board.ranks(values)) == ["zero-shot, a", "zero-shot, b"]
    assert board.table(values).loc["y", board.PROBE] == ""


def test_measured_is_the_tasks_of_frozen_vectors():
    generator = np.random.default_rng(0)
    label = np.arange(80) % 2
    image = generator.normal(size=(80, 6))
    image[:, 0] += 3 * label - 1.5
    texts = {"first": np.eye(2, 6), "second": np.array([[-1.0] + [0] * 5, [1.0] + [0] * 5])}
    found = board.measured(image, label, texts)
    hit = ((image[:, 0] > 0) == label).mean()
    assert found["zeroshot"]["second"]["top1"] == pytest.approx(100 * hit)
    assert found["frozen"][board.PROBE]["top1"] > 75 and board.FEW in found["frozen"]
    assert "gain" in found["frozen"][board.ALL]


def test_the_stored_run_says_what_the_chapter_says():
    values = results.load("frozen", "local")["values"]
    assert set(map(board._family, values["models"])) == set(board.FAMILIES)
    assert set(values["by_prompt"]) < set(values["models"])
    assert all(len(each) == 105 for each in values["by_prompt"].values())
    said, places = board.headline(values), board.ranks(values["models"])
    assert said["models"] == 9 and said["few"] < said["zero"] and said["pairs"] == 36
    assert places[f"zero-shot, {weights.MANY}"].idxmin().startswith("RemoteCLIP")
    assert not places[board.PROBE].idxmin().startswith("RemoteCLIP")
    assert set(said) == set(board.headline(None))
    assert len(board.curves(values["models"]).axes) == 4


def test_models_without_an_architecture_share_a_panel():
    generator = np.random.default_rng(0)
    label, image = np.arange(40) % 2, generator.normal(size=(40, 4))
    one = board.measured(image, label, {"a": np.eye(2, 4)})
    figure = board.curves({"general": one, "tuned on pub11+rs3": one})
    assert len(figure.axes) == 1
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2


def test_ours_stand_beside_what_the_vectors_authors_got():
    def of(zero, together):
        return {
            "zeroshot": {board.weights.MANY: {"top1": zero}},
            "frozen": {board.ALL: {"top1": together}},
        }

    values = {"CLIP ViT-B-32": of(81.2935, 87.35), "no such model": of(1.0, 2.0)}
    both = board.beside_theirs(values)
    assert list(both.index) == ["CLIP ViT-B-32"]
    assert both.loc["CLIP ViT-B-32"].tolist() == [81.2935, 81.29, 87.35, 90.35]
    told = board.apart(both)
    assert told["models"] == told["same"] == 1 and told["zero"] == 0
    assert told["low"] == told["high"] == pytest.approx(-3.0)
    assert np.isnan(list(board.apart(board.beside_theirs({})).values())).all()
