"""Where numbers and artefacts are kept: what is written is whole, and what made it is known."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rs5m import results
from rs5m.book import scales

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_root_is_the_nearest_book(here, monkeypatch):
    assert results.root() == here, "outside a book: the working directory"
    inside = here / "project" / "book" / "deep"
    inside.mkdir(parents=True)
    (here / "project" / "rs5m").mkdir()
    monkeypatch.chdir(inside)
    assert results.root() == inside
    (here / "project" / "_toc.yml").write_text("")
    assert results.root() == here / "project"


def test_what_is_saved_is_loaded(here):
    assert results.load("zeroshot", "mini") is None
    path = results.save("zeroshot", "mini", {"top1": 57.4, "classes": ["a"]}, seconds=1.26, seed=7)
    assert path == here / "results/mini/zeroshot.json"
    record = results.load("zeroshot", "mini")
    assert record["values"] == {"top1": 57.4, "classes": ["a"]}
    assert record["ran"]["seconds"] == 1.3 and record["ran"]["date"].endswith("+00:00")
    assert results.load("zeroshot", "local") is None, "another scale is another result"
    assert [p.name for p in path.parent.iterdir()] == ["zeroshot.json"], "no temporary file stays"


def test_without_a_checkout_the_packages_results_are_loaded_until_a_run_makes_its_own(
    tmp_path, monkeypatch
):
    results.save("clip", "mini", {"x": 1}, 0.1)
    shipped = tmp_path / "stored"
    shutil.copytree(results.root() / "results", shipped)
    monkeypatch.setattr(results, "SHIPPED", shipped)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert results.load("clip", "mini")["values"] == {"x": 1}
    assert results.load("clip", "local") is None
    results.save("clip", "mini", {"x": 1}, 0.1)  # the same values: its own file all the same
    own = tmp_path / "empty/results/mini/clip.json"
    assert own.read_bytes() == (shipped / "mini/clip.json").read_bytes()
    results.save("clip", "mini", {"x": 2}, 0.1)
    assert results.load("clip", "mini")["values"] == {"x": 2}


def test_a_command_typed_elsewhere_finds_what_its_own_checkout_has_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results.load("detector", "local") is None, "a chapter does not"
    with results.in_cache():
        assert results.load("detector", "local")["values"]["hits"]
        assert results.load("no such", "local") is None


def test_every_result_carries_its_provenance(here):
    path = results.save("tune", "mini", {}, seconds=0, seed=7)
    record = results.load("tune", "mini")
    origin = record["provenance"]
    assert set(origin) == {"scale", "machine", "python", "versions", "seed"}
    assert origin["scale"] == "mini" and origin["seed"] == 7
    assert {"torch", "open_clip_torch", "peft"} <= set(origin["versions"])
    assert set(record["ran"]) == {"seconds", "date", "commit", "device"}
    assert set(json.loads(path.read_text())) == {"values", "provenance"}
    (here / "runs/mini/ran/tune.json").unlink()
    assert results.load("tune", "mini")["ran"] == {}, "it ran elsewhere"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source tree without git")
def test_the_commit_is_that_of_the_package_wherever_the_user_stands(here):
    subprocess.run(["git", "init", "-q"], check=True)  # of the user
    commit = results.provenance("mini", 0)["commit"]
    assert commit and len(commit) == 40 and set(commit) <= set("0123456789abcdef")


def test_a_package_inside_anothers_repository_has_no_commit(here, monkeypatch):
    """Such as one that is installed into an environment within the user's project."""
    (here / "results.py").touch()
    monkeypatch.setattr(results.reach, "PACKAGE", here)
    assert results.commit() is None, "no repository"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    assert results.commit() is None
    monkeypatch.setenv("PATH", "")
    assert results.commit() is None, "no git"


def test_two_runs_that_found_the_same_leave_the_same_bytes(monkeypatch):
    found = {"b": 0.1 + 0.2, "a": {10: 1, 9: (2, float("nan"))}}
    path = results.save("a", "mini", found, seconds=1)
    before, at = path.read_bytes(), path.stat().st_mtime_ns
    monkeypatch.setattr(results, "PACKAGES", ())  # another release that finds the same
    results.save("a", "mini", found, seconds=2)
    assert path.read_bytes() == before and path.stat().st_mtime_ns > at
    assert results.load("a", "mini")["ran"]["seconds"] == 2
    results.save("a", "mini", found | {"b": 0.3}, seconds=2)
    assert results.load("a", "mini")["values"]["b"] == 0.3
    assert results.load("a", "mini")["provenance"]["versions"] == {}


def test_json_holds_no_nan_and_no_infinity():
    path = results.save("a", "mini", {"x": [float("nan"), {"y": float("nan")}]}, 0)
    assert results.load("a", "mini")["values"] == {"x": [None, {"y": None}]}
    with pytest.raises(ValueError, match="JSON"):
        results.save("a", "mini", {"x": float("inf")}, 0)
    assert "Infinity" not in path.read_text()


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("results/*/*.json")), ids=lambda p: p.parent.name + p.stem
)
def test_every_stored_result_is_strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    json.loads(path.read_text(), parse_constant=refuse)


def test_a_value_that_is_no_json_leaves_the_old_result():
    path = results.save("a", "mini", {"x": 1}, 0)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        results.save("a", "mini", {"x": object()}, 0)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_digest_sees_files_and_settings(here):
    data, mini = here / "data.bin", scales.get("mini")
    data.write_bytes(b"one")
    parts = (data, mini, ("pocket",))
    first = results.digest(*parts)
    assert first == results.digest(*parts)
    assert len(first) == 12 and set(first) <= set("0123456789abcdef")
    seen = {first, results.digest(data, replace(mini, epochs=99), ("pocket",))}
    seen.add(results.digest(data, mini, ("pocket", "ucm")))
    data.write_bytes(b"two")
    seen.add(results.digest(*parts))
    data.rename(here / "other.bin")
    seen.add(results.digest(here / "other.bin", mini, ("pocket",)))
    assert len(seen) == 5


def test_digest_is_the_same_in_another_process():
    parts = "scales.get('mini'), ('a', 1.5)"
    code = f"from rs5m import results; from rs5m.book import scales; print(results.digest({parts}))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == results.digest(scales.get("mini"), ("a", 1.5))


def test_an_artefact_is_made_once_and_then_loaded(here, capsys):
    made = []

    def make(folder: Path) -> None:
        assert folder.is_dir() and not folder.with_name(folder.name.split(".")[0]).exists()
        made.append(folder)
        (folder / "sub").mkdir()
        (folder / "sub/x.txt").write_text("whole")

    first = results.artefact("stage", "mini", (1,), make)
    said = capsys.readouterr().err
    assert (
        said == f"stage: computed, kept in {first.relative_to(here)}\n"
        and first.parent == here / "runs/mini"
    )
    assert results.artefact("stage", "mini", (1,), make) == first and len(made) == 1
    assert capsys.readouterr().err == f"stage: loaded {first.relative_to(here)}\n"
    assert (first / "sub/x.txt").read_text() == "whole" and not made[0].exists()
    for other in (("stage", "mini", (2,)), ("other", "mini", (1,)), ("stage", "local", (1,))):
        assert results.artefact(*other, make) != first
    assert len(made) == 4


def test_an_artefact_that_two_processes_make_is_the_first_ones(here):
    def make(folder: Path) -> None:
        (folder / "x").write_text("mine")
        theirs = folder.with_name(folder.name.split(".")[0])
        theirs.mkdir()
        (theirs / "x").write_text("theirs")

    found = results.artefact("stage", "mini", (1,), make)
    assert (found / "x").read_text() == "theirs" and len(list(found.parent.iterdir())) == 1


def test_a_command_keeps_what_it_makes_in_the_users_cache(here, monkeypatch):
    def make(folder: Path) -> None:
        (folder / "x").write_text("x")

    monkeypatch.setenv("RS5M_CACHE", str(here / "cache"))
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with results.in_cache():
        first = results.artefact("stage", "mini", (1,), make)
    assert first.parent == here / "cache/runs/mini" and not list(Path.cwd().iterdir())
    assert results.artefact("stage", "mini", (1,), make).parent == Path.cwd() / "runs/mini"
    (here / "elsewhere/rs5m").mkdir()
    (here / "elsewhere/_toc.yml").write_text("")
    with results.in_cache():
        assert results.artefact("stage", "mini", (2,), make).parent == Path.cwd() / "runs/mini"


def test_a_stage_that_raises_leaves_nothing(here):
    def broken(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("the disk is full")

    def whole(folder: Path) -> None:
        assert not list(folder.iterdir()), "the leftovers of the broken run"
        (folder / "half.txt").write_text("whole")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="disk is full"):
            results.artefact("stage", "mini", (1,), broken)
        assert not list(here.glob("runs/mini/*"))
    assert (results.artefact("stage", "mini", (1,), whole) / "half.txt").read_text() == "whole"


def test_a_drive_that_is_not_there_is_not_made_and_a_closed_place_is_named(here, monkeypatch):
    monkeypatch.setenv("RS5M_RUNS", str(here / "drive/MyDrive/rs5m"))
    said = r"RS5M_RUNS is .*MyDrive/rs5m and .*MyDrive is not there: make it, or mount its drive"
    with pytest.raises(FileNotFoundError, match=said):
        results.artefact("stage", "mini", (1,), lambda folder: None)
    assert not (here / "drive").exists()
    monkeypatch.setenv("RS5M_RUNS", "/proc/runs")
    with pytest.raises(OSError, match=r"^/proc/runs/mini/stage-.* could not be written \(No such"):
        results.artefact("stage", "mini", (1,), lambda folder: None)


def test_a_stage_that_resumes_finds_what_it_left_where_runs_are_put(here, monkeypatch, capsys):
    monkeypatch.setenv("RS5M_RUNS", str(here / "drive"))

    def make(folder: Path) -> None:
        begun = folder / "begun.txt"
        if not told:
            told.append("empty")
            raise KeyboardInterrupt
        if not begun.exists():
            begun.write_text("half")
            raise KeyboardInterrupt
        begun.write_text("whole")

    told = []
    with pytest.raises(KeyboardInterrupt):
        results.artefact("stage", "mini", (1,), make, resumes=True)
    assert not list(here.glob("drive/mini/*")), "it had nothing to go on from"
    with pytest.raises(KeyboardInterrupt):
        results.artefact("stage", "mini", (1,), make, resumes=True)
    folder = results.artefact("stage", "mini", (1,), make, resumes=True)
    assert folder.parent == here / "drive/mini" and "goes on in" in capsys.readouterr().err
    assert [path.read_text() for path in folder.iterdir()] == ["whole"]
    assert list(folder.parent.iterdir()) == [folder] and not (here / "runs").exists()


KILLED = """
import os, signal
from rs5m import results
def make(folder):
    (folder / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
results.artefact("stage", "mini", (1,), make)
"""


@pytest.mark.slow
def test_a_killed_stage_leaves_nothing_that_is_taken_for_whole(here):
    run = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert run.returncode == -signal.SIGKILL and list(here.glob("runs/mini/*")), (
        "it died inside make"
    )
    folder = results.artefact(
        "stage", "mini", (1,), lambda folder: (folder / "half.txt").write_text("whole")
    )
    assert (folder / "half.txt").read_text() == "whole"
    assert list(folder.parent.iterdir()) == [folder], "what the dead process had begun"


def test_glue_shows_nothing_and_keeps_the_value(monkeypatch):
    import IPython.display

    sent = []
    monkeypatch.setattr(
        IPython.display, "display", lambda *args, **options: sent.append((args, options))
    )
    results.glue("gain", 41.5)
    (((bundle,), options),) = sent
    assert bundle == {"application/papermill.record/text/plain": "41.5"}, (
        "no type that a notebook would show"
    )
    assert options["raw"] and options["metadata"]["scrapbook"]["name"] == "gain"
