"""Real captions: no test set chooses a setting, copies are found, and colour is a real baseline."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from rs5m import dedup, pocket
from rs5m.book import colour, rsicd, scales
from rs5m.data import datasets

MINI = scales.get("mini")


def model(width=8, dim=6):
    """A head on a trunk of `width` features; nothing else of a network is needed."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(width, dim, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(dim, width, generator=generator) * 0.1)
    visual = SimpleNamespace(trunk=None, head=SimpleNamespace(proj=layer))
    net = SimpleNamespace(visual=visual, logit_scale=torch.tensor(2.0))
    return SimpleNamespace(net=net, logit_scale=2.0)


def world(count=1200, kinds=12, width=8, dim=6):
    """Pictures of some kinds as features and colours, each with the caption of its kind."""
    generator = np.random.default_rng(0)
    kind = np.arange(count) % kinds
    centre = generator.normal(size=(kinds, width))
    features = centre[kind] + generator.normal(size=(count, width)) * 0.3
    colours = 100 + 20 * features[:, :6] + generator.normal(size=(count, 6))
    text = np.linalg.qr(generator.normal(size=(kinds, kinds)))[0][:, :dim]
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    known = {f"kind {k}": torch.from_numpy(v.astype(np.float32)) for k, v in enumerate(text)}
    captions = [(f"kind {k}",) for k in kind]
    part = rsicd.Part(features[:, None].astype(np.float32), colours.astype(np.float32), {})
    return part, captions, known, kind, text


def test_the_settings_are_the_best_of_all_that_was_tried(monkeypatch):
    monkeypatch.setattr(rsicd, "RATES", (1e-5, 1e-2))
    monkeypatch.setattr(rsicd, "EPOCHS", (1, 6))
    part, captions, known, *_ = world()
    found = rsicd.chosen(model(), part.features, captions, known)
    best = max(found["table"], key=lambda row: row["mean recall"])
    assert len(found["table"]) == 4
    assert (found["learning_rate"], found["epochs"]) == (best["learning_rate"], best["epochs"])
    assert found["learning_rate"] == 1e-2 and found == rsicd.chosen(
        model(), part.features, captions, known
    )


def test_colour_learns_what_colour_tells():
    part, captions, known, kind, text = world()
    settings = rsicd.replace(rsicd.SETTINGS, batch_size=120)
    vectors = colour.fit_head(part.colours, captions, settings, model(), known)(part.colours)
    right = ((vectors @ text.T).argmax(1) == kind).mean()
    assert right > 0.5 > 1 / 12, "chance is one in twelve"


def test_mean_recall_counts_both_directions():
    known = {text: torch.eye(3)[i] for i, text in enumerate("abc")}
    captions = [("a",), ("b",), ("c",)]
    assert rsicd.mean_recall(np.eye(3), captions, known) == pytest.approx(100)
    shifted = np.roll(np.eye(3), 1, axis=0)
    assert rsicd.mean_recall(shifted, captions, known) < 100


def test_turned_copies_of_a_test_image_are_contact():
    chips = pocket.chips("train").images[::97][:24]
    chips = [np.kron(chip, np.ones((4, 4, 1), np.uint8)) for chip in chips]
    train = rsicd.Part(np.zeros((16, 1, 8)), np.zeros((16, 6)), dedup.signatures(chips[:16]))
    others = [*chips[16:], np.rot90(chips[5]).copy(), chips[11][:, ::-1].copy()]
    test = rsicd.Part(np.zeros((10, 1, 8)), np.zeros((10, 6)), dedup.signatures(others))
    found = rsicd.contact(train, {"made": test})["made"]
    copies = set(zip(found["train"], found["test"], strict=True))
    assert {(5, 8), (11, 9)} <= copies and len(copies) <= 4


def test_what_is_left_out_is_listed_with_its_best_match():
    columns = ["test", "train", "distance", "orientation", "score"]
    rows = [(0, 2, 1, 0, 0.71), (1, 2, 3, 5, 0.93), (0, 1, 0, 0, 0.8)]
    copies = {
        "a": pd.DataFrame(rows, columns=columns),
        "b": pd.DataFrame(rows[:1], columns=columns),
    }
    found = rsicd.left_out(copies, ["x", "y", "z"], {"a": ["p", "q"], "b": ["r"]})
    assert found.values.tolist() == [
        ["y", "a", "p", 0, 0.8],
        ["z", "a", "q", 5, 0.93],
        ["z", "b", "r", 0, 0.71],
    ]
    none = rsicd.left_out({"a": copies["a"][:0]}, [], {"a": []})
    assert none.empty and list(none) == list(found)


def test_classes_new_to_the_captions_are_tested_among_all(monkeypatch):
    part, captions, known, kind, text = world()
    classes = datasets.Classes("made", None, kind, [f"kind {k}" for k in range(12)], {})
    monkeypatch.setattr(rsicd.prompts, "class_text", lambda model, found: text[:, None])
    heads = [rsicd.head.weight(model())] * 2
    six = colour.fit_head(part.colours, captions, rsicd.SETTINGS, model(), known)
    whole = rsicd._tested(model(), classes, part, heads, six, [])
    assert "unheard" not in whole and whole["images"] == 1200
    fewer = rsicd._tested(model(), classes, part, heads, six, [3, 7])["unheard"]
    assert fewer["classes"] == ["kind 3", "kind 7"] and fewer["images"] == 200
    answers = (part.features[:, 0] @ heads[0].T @ text.T).argmax(1)
    right = [(answers == kind)[kind == c].mean() for c in (3, 7)]
    assert fewer["arms"]["general"]["gain"] == pytest.approx(100 * np.mean(right))
    seen = (six(part.colours) @ text.T).argmax(1) == kind
    told = [level["colour"] for level in fewer["by class"].values()]
    assert told == pytest.approx([100 * seen[kind == c].mean() for c in (3, 7)])
    assert told[0] != told[1]
    assert fewer["over general"]["gain"] == 0


def test_a_probe_with_labels_is_cross_validated():
    part, _, _, kind, _ = world()
    assert colour.probe(part.features[:, 0], kind).mean() > 0.8
    shuffled = np.random.default_rng(1).permutation(kind)
    assert colour.probe(part.features[:, 0], shuffled).mean() < 0.2, "it sees no label it is asked"


def test_the_zip_is_unpacked_into_the_official_layout(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setattr(rsicd, "data_folder", lambda scale: tmp_path)
    monkeypatch.setattr(rsicd.results, "root", lambda: tmp_path)
    with zipfile.ZipFile(tmp_path / rsicd.ZIP, "w") as archive:
        archive.writestr("rsicd/rsicd_train.csv", "filename,title\na.jpg,a road\n")
        archive.writestr("../outside.txt", "no")
    root = rsicd.folder(MINI)
    assert (root / "rsicd/rsicd_train.csv").is_file()
    assert not (root.parent / "outside.txt").exists()
    whole = (tmp_path / rsicd.ZIP).read_bytes()
    (tmp_path / rsicd.ZIP).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole zip file: fetch it again"):
        rsicd.folder(MINI)
