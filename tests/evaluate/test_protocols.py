"""Protocols by name: their texts, what counts as right, and all of them in one report."""

import json
from itertools import permutations
from pathlib import Path

import named_colours as nc
import numpy as np
import pytest
from PIL import Image

from rs5m import cli, clip, paper, zeroshot
from rs5m.evaluate import prompts, protocols, testsets


def test_one_or_all_by_name():
    assert protocols.beside("all") == ("clip", "skyscript", "remoteclip")
    assert protocols.beside("clip") == ("clip",) and protocols.beside("rs5m") == ()
    with pytest.raises(ValueError, match="unknown protocol 'skyclip': choose one of rs5m, clip,"):
        protocols.beside("skyclip")


def test_every_protocol_is_whole():
    for name, one in protocols.zeroshot().items():
        assert one.names in ("folder", "words") and one.averaging in ("rs5m", "clip"), name
        assert all(template.count("{}") == 1 for template in one.templates)
    known = protocols.zeroshot()
    assert list(known["rs5m"].templates) == paper.prompts()
    assert len(known["skyscript"].templates) == 2 and len(known["remoteclip"].templates) == 1
    assert not known["rs5m"].unchecked and known["clip"].unchecked
    assert protocols.retrieval()["skyscript"].k == (1, 5, 10, 100)


@pytest.mark.parametrize(
    "name, words",
    [
        ("AnnualCrop", "annual crop"),
        ("railway_station", "railway station"),
        ("sea/lake", "sea lake"),
        ("Forest", "forest"),
        ("golfcourse", "golf course"),
    ],
)
def test_names_are_parted_into_words(name, words):
    assert protocols.spaced(name) == words


def test_a_set_has_the_same_prompts_by_its_name_and_by_its_folder(tmp_path):
    for name in ("golfcourse", "forest"):
        (tmp_path / "Images" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "Images" / name / "0.png")
    found = testsets.own(tmp_path / "Images")
    assert prompts.prompts(found)[1][0].count("golf course") == 1


def test_a_user_s_own_name_stands_in_every_protocol():
    own = prompts.Words({"AnnualCrop": "wheat"}, ())
    for one in protocols.zeroshot().values():
        ((first, *_),) = protocols.texts(one, ["AnnualCrop"], own)
        assert "wheat" in first
    rs5m, clips = (protocols.zeroshot()[name] for name in ("rs5m", "clip"))
    assert "annualcrop" in protocols.texts(rs5m, ["AnnualCrop"], prompts.NONE)[0][0]
    assert "annual crop" in protocols.texts(clips, ["AnnualCrop"], prompts.NONE)[0][0]


def test_captions_of_each_protocol():
    groups = [("A red Roof.", "b"), ("b", "c")]
    texts, right = protocols.captions("remoteclip", groups)
    assert texts == ["A red roof.", "B", "B", "C"] and right.sum() == 4
    texts, right = protocols.captions("skyscript", groups)
    assert texts == [f"a satellite image. {t}" for t in ("A red Roof.", "b", "c")]
    assert right.tolist() == [[True, True, False], [False, True, True]]
    assert protocols.captions("rs5m", groups)[0] == ["A red Roof.", "b", "b", "c"]


def test_recalls_are_those_of_sorting():
    generator = np.random.default_rng(0)
    image, text = generator.normal(size=(20, 4)), generator.normal(size=(33, 4))
    right = generator.random((20, 33)) < 0.1
    right[3] = False  # an image without a caption asks nothing
    values, between = protocols.recall(image, text, right, (1, 5, 100))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (image, text)]
    scores = unit[0] @ unit[1].T
    for k in (1, 5, 100):
        rows = [
            any(right[i, j] for j in sorted(range(33), key=lambda j: -scores[i, j])[:k])
            for i in range(20)
            if right[i].any()
        ]
        assert values[f"image_to_text_R@{k}"] == pytest.approx(100 * np.mean(rows))
        columns = [
            any(right[i, j] for i in sorted(range(20), key=lambda i: -scores[i, j])[:k])
            for j in range(33)
            if right[:, j].any()
        ]
        assert values[f"text_to_image_R@{k}"] == pytest.approx(100 * np.mean(columns))
    usual = [value for name, value in values.items() if name.endswith(("@1", "@5"))]
    assert values["mean_recall"] == pytest.approx(np.mean(usual))
    assert all(between[k][0] - 1e-9 <= values[k] <= between[k][1] + 1e-9 for k in values)


def test_chance_is_the_mean_over_all_orders():
    right = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)  # one text is for two images
    told = protocols.chance(right, (1, 2, 10))
    for side, true in (("image_to_text", right), ("text_to_image", right.T)):
        true = true[true.any(1)]
        for k in (1, 2, 10):
            orders = permutations(range(true.shape[1]))
            mean = np.mean([true[:, list(order[:k])].any(1).mean() for order in orders])
            assert told[f"{side}_R@{k}"] == pytest.approx(100 * mean)
    recalls = [value for name, value in told.items() if name != "mean_recall"]
    assert told["mean_recall"] == pytest.approx(np.mean(recalls))


def test_recalls_with_one_image_a_caption_are_the_official_ones():
    golden = Path(__file__).parents[1] / "golden/retrieval"
    held = np.load(golden / "retrieval.npz")
    right = np.arange(len(held["image"]))[:, None] == held["image_of_text"]
    ks = protocols.retrieval()["rs5m"].k
    values, _ = protocols.recall(held["image"], held["text"], right, ks)
    expected = json.loads((golden / "retrieval.json").read_text())
    assert values == pytest.approx(expected, abs=1e-4)


def test_all_protocols_stand_side_by_side(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clip, "load", nc.model)
    rows = nc.files(tmp_path / "mine")
    names = {"red": "RedBlue", "green": "Green", "blue": "Blue"}
    lines = ["path,label", *(f"{file},{names[colour]}" for file, colour in rows)]
    (tmp_path / "mine/set.csv").write_text("\n".join(lines))
    line = ["evaluate", "--model", "m", "--data", "mine/set.csv", "--tasks", "zeroshot"]
    assert cli.main([*line, "--protocol", "all", "--out", "o.json", "--leaderboard", "b.html"]) == 0
    found = json.loads(Path("o.json").read_text())["protocols"]["zeroshot set"]
    assert list(found) == ["rs5m", *protocols.beside("all")]
    image = np.stack([nc.seen(np.array(nc.COLOURS[c]) + i) for c, i in nc.PICTURES])
    label = np.array([2, 2, 1, 1, 0, 0])
    for name, one in protocols.zeroshot().items():
        texts = protocols.texts(one, ["Blue", "Green", "RedBlue"], prompts.NONE)
        text = np.array([[nc.Words.read(t) for t in group] for group in texts])
        hit = zeroshot.hits(image, zeroshot.classifier(text, one.averaging), label)
        assert found[name]["values"]["top1"] == pytest.approx(100 * hit.mean(), abs=0.01), name
    assert found["rs5m"]["values"] != found["clip"]["values"], "redblue is no word"
    said = capsys.readouterr().out
    assert (
        "zeroshot set, top1 by protocol: rs5m " in said and "points apart by the protocol" in said
    )
    board = Path("b.md").read_text()
    assert board.count("zeroshot set, top1 by skyscript (chance 33.3)") == 1
    (tmp_path / "t.txt").write_text("a {}\n")
    given = ["--protocol", "clip", "--templates", "t.txt", "--out", "o.json"]
    assert cli.main([*line, *given]) == 2
    assert "--templates are a protocol of their own" in capsys.readouterr().err
