"""The folder of a rehearsal (tools/published.py) is read as the published one is."""

from itertools import repeat

import numpy as np
import published
import pytest
import rehearse
import yaml

from rs5m.data import records
from rs5m.evaluate import cards, testsets

GREY = np.full((15, 15, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Without the pocket world, whose wheels are not at hand everywhere."""
    out, patch = tmp_path_factory.mktemp("published"), pytest.MonkeyPatch()
    patch.setattr(published, "views", lambda: repeat(GREY))
    patch.setattr(published.pocket, "chips", lambda part: part)
    patch.setattr(published.pocket, "captions", lambda chips: [("a lake", "water")] * 7)
    patch.setattr(published, "EACH", dict.fromkeys(published.EACH, 1))
    patch.setattr(published, "PAIRS", 3)
    published.make(out)
    yield out
    patch.undo()


@pytest.mark.parametrize("name", ["eurosat", "resisc45", "aid"])
def test_labelled_sets_have_the_classes_of_their_card(folder, name):
    found = testsets.classes(name, folder)
    assert found.classes == cards.card(name)["classes"]
    assert not found.left_out and len(found.images.names) == len(found.classes)


@pytest.mark.parametrize("name, letter", [("rsitmd", "é"), ("rsicd", "’")])
def test_captions_come_through_their_encoding(folder, name, letter, capsys):
    (texts,) = testsets.captions(name, folder).captions
    assert len(texts) == 5 and all(letter in text for text in texts)
    assert capsys.readouterr().out == ""
    raw = (folder / name / f"{name}_test.csv").read_bytes()
    assert (letter.encode() in raw) == (name == "rsitmd")


def test_scenes_and_shards(folder):
    scenes = testsets.scenes("air_slt", folder)
    assert len(scenes) == published.SCENES and len(scenes[0].queries) == 2
    train = sorted((folder / "rs5m").glob("*-train-[0-9]*.tar"))
    assert [path.name for path in train] == [
        "pub11-train-0000.tar",
        "pub11-train-0001.tar",
        "rs3-train-0000.tar",
        "rs3-train-0001.tar",
    ]
    pairs = list(records.read(train))
    assert len(pairs) == 12 and pairs[0].name == "pub11_0_0" and pairs[0].caption == "a lake"


def test_a_rehearsed_book_is_marked_and_writes_beside_the_results(tmp_path):
    rehearse.book(tmp_path)
    rehearse.book(tmp_path)  # a second rehearsal goes on in the same folder
    config = yaml.safe_load((tmp_path / "_config.yml").read_text(encoding="utf-8"))
    assert "No number on this page is a result" in config["html"]["announcement"]
    assert "rehearsal" in (tmp_path / "book" / "_static" / "rehearsal.css").read_text()
    held = {path.name: path.is_symlink() for path in (tmp_path / "results").iterdir()}
    assert held == {"mini": True, "local": True, "bench": True}, "colab's own folder lies here"


def test_small_networks_keep_the_sizes_that_must_fit():
    config = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8},
    }
    made = rehearse.small(config)
    assert made["embed_dim"] == 512 and made["text_cfg"]["context_length"] == 77
    assert made["vision_cfg"] == config["vision_cfg"] | {"layers": 2, "width": 64, "head_width": 32}
