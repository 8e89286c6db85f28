"""A rehearsal: small networks by the real names, marked pages, results of its own."""

import json
from pathlib import Path
from types import SimpleNamespace

import published
import pytest
import rehearse

from rs5m.captions import BLIP2
from rs5m.clip import hub, open_clip

ROOT = Path(__file__).parents[1]


def test_the_networks_of_a_rehearsal_are_the_real_ones_less_depth_and_width():
    for name in hub.TAGS:
        config = open_clip.get_model_config(name)
        less = json.loads(json.dumps(rehearse.small(config)))
        for tower in ("vision_cfg", "text_cfg"):
            same = {"image_size", "patch_size", "context_length", "vocab_size"}
            same &= config[tower].keys()
            assert {key: less[tower][key] for key in same} == {k: config[tower][k] for k in same}
            assert less[tower]["width"] < config[tower]["width"]
        assert less["embed_dim"] == config["embed_dim"]
        assert less.get("quick_gelu") == config.get("quick_gelu")


def test_a_rehearsal_is_marked_on_every_page_and_keeps_results_to_itself(tmp_path):
    rehearse.book(tmp_path / "book")
    rehearse.book(tmp_path / "book")  # a second one finds the first
    assert rehearse.SAID in (tmp_path / "book" / "_config.yml").read_text(encoding="utf-8")
    mark = (tmp_path / "book" / "book" / "_static" / "rehearsal.css").read_text()
    assert '"rehearsal"' in mark
    kept = tmp_path / "book" / "results"
    assert sorted(path.name for path in kept.iterdir()) == ["bench", "local", "mini"]
    assert (kept / "mini").resolve() == ROOT / "results" / "mini"


def test_what_other_code_or_data_made_is_made_anew(tmp_path, monkeypatch):
    made = []

    def make(out, *real):
        made.append(real)
        out.mkdir(parents=True)

    monkeypatch.setattr(published, "make", make)
    monkeypatch.setattr(rehearse, "networks", make)
    for real, count in ((None, 2), (None, 2), (tmp_path, 4), (tmp_path, 4)):
        rehearse.built(tmp_path / "rehearsal", real)
        assert len(made) == count
    (tmp_path / "rehearsal" / "data.by").write_text("of another tree")
    rehearse.built(tmp_path / "rehearsal", tmp_path)
    assert len(made) == 5


@pytest.mark.parametrize("options, passed", [(["--render"], "--render"), ([], "--keep-going")])
def test_a_rehearsal_runs_chapters_or_renders_those_that_ran(monkeypatch, options, passed):
    commands = []
    for name in ("built", "book", "environment"):
        monkeypatch.setattr(rehearse, name, lambda *_: {})
    monkeypatch.setattr(
        rehearse.subprocess,
        "run",
        lambda line, **_: commands.append(line) or SimpleNamespace(returncode=0),
    )
    monkeypatch.setattr(rehearse.signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["rehearse.py", "--scale", "paper", *options])
    with pytest.raises(SystemExit) as ended:
        rehearse.main()
    assert not ended.value.code
    fetched, ran = commands
    assert {"--render", "--keep-going"} & set(ran) == {passed}
    assert BLIP2 in fetched, "31 GB that no chapter fetches by itself"
