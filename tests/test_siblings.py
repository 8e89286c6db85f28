"""Colab's notebooks: versions that fit, and nothing of this tree beside one that runs alone."""

import tomllib
from pathlib import Path

import siblings
from packaging.requirements import Requirement

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
