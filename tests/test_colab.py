"""What a rehearsal and Colab's notebooks stand on: versions that fit, small networks by the real
names, marked pages, and nothing of this tree beside a notebook that runs alone.
"""

import json
import tomllib
from pathlib import Path

import rehearse
import siblings
from packaging.requirements import Requirement

from rs5m.clip import hub, open_clip

ROOT = Path(__file__).parents[1]


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {one.name.replace("_", "-").lower(): one for one in found}


def test_the_bounds_leave_the_versions_of_colabs_image_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [Requirement(line) for line in project["dependencies"]]
    held = pins("constraints-colab.txt")
    assert {"torch", "numpy", "pandas", "transformers", "huggingface-hub"} <= held.keys()
    for bound in bounds:
        if pin := held.get(bound.name.replace("_", "-").lower()):
            (exact,) = pin.specifier
            assert exact.operator == "==" and exact.version in bound.specifier, bound


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
    assert sorted(path.name for path in kept.iterdir()) == ["local", "mini"]
    assert (kept / "mini").resolve() == ROOT / "results" / "mini"


def test_a_notebook_that_runs_alone_sees_no_data_and_no_tree(monkeypatch):
    for name in siblings.OURS:
        monkeypatch.setenv(name, "/somewhere")
    assert not set(siblings.OURS) & siblings.variables().keys()


def test_a_notebook_that_stops_is_told_by_its_last_line(tmp_path):
    python, said = tmp_path / "python", "ValueError: what it stopped with"
    python.write_text(f'#!/bin/sh\necho "a traceback" >&2\necho "{said}" >&2\nexit 1\n')
    python.chmod(0o755)
    assert siblings.run(python, "paper", tmp_path / "paper") == said
    python.write_text('#!/bin/sh\n[ -z "$(ls -A)" ] && [ -f "$6" ]\n')  # empty, with a notebook
    assert siblings.run(python, "paper", tmp_path / "again") == "ran"
