"""The other scales' numbers beside a page's own: what is stored is said, nothing else."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from rs5m import results
from rs5m.book import beside

ROOT = Path(__file__).parents[2]
STORED = {"versions": {"torch": "2.0+cpu"}}


def write(folder: Path, chapter: str, scale: str, values: dict) -> None:
    file = folder / "results" / scale / f"{chapter}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"values": values, "provenance": STORED}))


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "SHIPPED", tmp_path / "none")
    return tmp_path


@pytest.mark.parametrize("chapter", beside.LINES)
def test_every_stored_run_says_all_its_lines(chapter, monkeypatch):
    """At local, or at mini where a chapter has not run there."""
    monkeypatch.chdir(ROOT)
    paths = {scale: ROOT / "results" / scale / f"{chapter}.json" for scale in ("local", "mini")}
    scale, path = next((scale, path) for scale, path in paths.items() if path.is_file())
    values = json.loads(path.read_text())["values"]
    said = [line for each in beside.LINES[chapter] for line in each(values)]
    note = beside.note(chapter, scale)
    assert said and all(re.search(r"\d", line) for line in said)
    assert note.count("<li>") == len(said) and f"At scale {scale}" in note
    assert note in beside.others(chapter, "mini" if scale == "local" else "local")


def test_numbers_are_those_of_the_file(book):
    leaks = {"with_copy": 3, "test": 70, "set": "<A> set"}
    write(book, "dedup", "local", {"leaks": leaks})
    note = beside.others("dedup", "mini")
    assert "3 of 70 test images" in note and "&lt;A&gt; set" in note
    assert "(stored run, CPU)" in note


def test_a_run_of_this_machine_has_its_date_and_device(book):
    write(book, "dedup", "local", {"leaks": {"with_copy": 3, "test": 70, "set": "s"}})
    ran = results._ran("dedup", "local")
    ran.parent.mkdir(parents=True)
    ran.write_text(json.dumps({"date": "2026-11-27T01:02:03+00:00", "device": "cuda:0"}))
    assert "(2026-11-27, cuda:0)" in beside.note("dedup", "local")


def test_a_stored_run_has_the_day_of_its_commit_where_git_can_tell(book):
    def git(*arguments, day="2026-01-02"):
        made = {f"GIT_{who}_DATE": f"{day}T00:00:00Z" for who in ("AUTHOR", "COMMITTER")}
        named = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *named, *arguments], cwd=book, env=os.environ | made, check=True)

    write(book, "dedup", "mini", {})
    write(book, "dedup", "local", {"leaks": {"with_copy": 3, "test": 70, "set": "s"}})
    git("init", "-q")
    git("add", "results/mini")
    git("commit", "-qm", "first")
    assert "(stored run, CPU)" in beside.note("dedup", "local"), "not committed"
    assert beside.committed(book / "results" / "mini" / "dedup.json") == "", "as in a shallow clone"
    git("add", "results/local")
    git("commit", "-qm", "second", day="2026-02-03")
    assert "(2026-02-03, CPU)" in beside.note("dedup", "local")


def test_scales_stand_one_after_the_other_and_the_pages_own_does_not(book):
    for scale in ("colab", "local", "mini"):
        write(book, "dedup", scale, {"leaks": {"with_copy": 1, "test": 2, "set": scale}})
    assert re.findall(r"At scale (\w+)", beside.others("dedup", "mini")) == ["local", "colab"]
    assert re.findall(r"At scale (\w+)", beside.others("dedup", "local")) == ["mini", "colab"]


def test_nothing_stored_says_nothing(book):
    assert beside.others("dedup", "mini") == "" and repr(beside.others("dedup", "mini")) == ""
    write(book, "filters", "local", {"real_images_kept": {}})  # an older run
    assert beside.others("filters", "mini") == ""
    assert beside.others("no such chapter", "mini") == ""
