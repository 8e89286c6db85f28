"""The folder of a run: who may write to it, and what a killed run leaves."""

import json
import subprocess
import sys

import pyarrow as pa
import pytest

from rs5m.data import runfolder

HOLD = """
import sys, time
from pathlib import Path
from rs5m.data import runfolder
with runfolder.claim(Path(sys.argv[1]), {"a": 1}, sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/out for the part "part"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out"), "part"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.slow
def test_two_processes_of_one_part_do_not_share_a_folder(tmp_path, holder):
    out = tmp_path / "out"
    with (
        pytest.raises(OSError, match="out is in use by another run: let it finish"),
        runfolder.claim(out, {"a": 1}, "part"),
    ):
        pass
    with runfolder.claim(out, {"a": 1}, "other part"):
        pass
    holder.kill()
    holder.wait()
    with runfolder.claim(out, {"a": 1}, "part"):  # the system frees the lock of a killed process
        pass


@pytest.mark.parametrize(
    ("facts", "named"),
    [({"a": 2, "b": (1,)}, "a differ"), ({"a": 1}, "b differ"), ({"c": 1}, "a, b, c differ")],
)
def test_the_folder_of_another_run_says_what_differs(tmp_path, facts, named):
    with runfolder.claim(tmp_path / "out", {"a": 1, "b": (1,)}):
        pass
    with runfolder.claim(tmp_path / "out", {"b": [1], "a": 1}):
        pass
    with (
        pytest.raises(ValueError, match=rf"holds another run \({named} by its run.json\)"),
        runfolder.claim(tmp_path / "out", facts),
    ):
        pass


def test_notes_are_stated_and_make_no_other_run(tmp_path):
    for notes in (None, {"rule": "one"}, {"rule": "another"}):
        with runfolder.claim(tmp_path / "old", {"a": 1}, notes=notes):
            assert json.loads((tmp_path / "old/run.json").read_text()) == {"a": 1}
    for notes in ({"rule": "one"}, {"rule": "another"}, None):
        with runfolder.claim(tmp_path / "new", {"a": 1}, notes=notes):
            known = json.loads((tmp_path / "new/run.json").read_text())
            assert known == {"a": 1, "notes": {"rule": "one"}}
    with (
        pytest.raises(ValueError, match=r"another run \(a differ"),
        runfolder.claim(tmp_path / "new", {"a": 2}, notes={"rule": "one"}),
    ):
        pass


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with (
        pytest.raises(ValueError, match="is not empty and holds no run.json"),
        runfolder.claim(tmp_path, {}),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_work_makes_what_is_missing_in_waves(tmp_path):
    made = []

    def make(number):
        made.append(number)
        return pa.table({"n": [number]})

    runfolder.work(tmp_path, "stage", dict.fromkeys(range(5), 1), make)
    runfolder.shard_path(tmp_path, "stage", 3).unlink()
    runfolder.work(tmp_path, "stage", dict.fromkeys(range(5), 1), make)
    assert made == [0, 1, 2, 3, 4, 3]
    assert (tmp_path / "log.txt").read_text().split("\n")[-2] == "stage 00003"
    assert runfolder.missing(tmp_path, "stage", range(6)) == [5]


def test_sweep_removes_what_a_killed_run_left(tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/.00001.parquet.123.tmp").write_text("half")
    (tmp_path / "stage/00000.parquet").write_text("whole")
    runfolder.sweep(tmp_path)
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["00000.parquet"]


def test_what_was_left_out_is_beside_the_note(tmp_path):
    assert runfolder.left_out(tmp_path) == {}
    runfolder.save_left_out(tmp_path, {"hidden": ["._a.parquet"]})
    assert runfolder.left_out(tmp_path) == {"hidden": ["._a.parquet"]}
