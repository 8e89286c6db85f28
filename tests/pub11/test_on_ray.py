"""Chapter pub11 on a local Ray: workers write all shards, and what happens to workers."""

import json
import os
import shutil
import signal
from functools import partial

import local_ray
import on_workers
import pytest
from fake_pub11 import LIMITS, WHOLE, Cheap, child, contents
from small_disk import small_disk

from bench import kills
from rs5m import pub11
from rs5m.data import cluster, runfolder
from rs5m.pub11 import duplicates, outcome

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
TAR = 8


@pytest.fixture(scope="module")
def address():
    """A Ray of two workers whose clocks are wrong."""
    with local_ray.running(2, "clock_is_wrong") as address:
        yield address


@pytest.fixture
def again(finished, tmp_path, monkeypatch):
    """A run whose last stages are still to be made, with small tars."""
    monkeypatch.setattr(runfolder, "TAR", TAR)
    out = shutil.copytree(finished, tmp_path / "again")
    for name in WHOLE:
        (out / name).unlink()
    return out


@pytest.fixture
def alone(site, again, tmp_path):
    """What those stages give on one machine."""
    out = shutil.copytree(again, tmp_path / "alone")
    go(site, out)
    assert len(list(out.glob("*.tar"))) > 3
    return ends(out)


@pytest.fixture
def on_ray(address, alone, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)


def go(site, out):
    pub11.run(f"{site[1]}/*.parquet", out, Cheap(), LIMITS, 8)


def ends(out):
    """What a run's folder holds in the end, less work, log and what is said of a place."""
    kinds = (".parquet", ".tar", ".json")
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in kinds}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_bytes_as_on_one_machine(workers, site, finished, tmp_path):
    """These three tests have a Ray of their own, before the others share one."""
    out = tmp_path / "out"
    with local_ray.running(workers) as address:
        assert child(f"{site[1]}/*.parquet", out, RAY_ADDRESS=address).wait(600) == 0
    assert contents(out) == contents(finished)
    loads = (out / "loads.txt").read_text().split()
    assert len(list((out / "look").iterdir())) == 8
    assert len(loads) == len(set(loads)) <= workers + 1, "the model is loaded once per worker"


def test_killed_now_and_then_it_ends_with_the_same_bytes(site, finished, tmp_path):
    """Three kills; bench/kills.py makes twenty."""
    out, pairs = tmp_path / "out", f"{site[1]}/*.parquet"
    with local_ray.running(2) as address:
        start = partial(child, pairs, out, RAY_ADDRESS=address)
        dead = kills.disturb(start, out, kills.made(finished), 3, seed=2)
    assert {"driver", "worker"} <= {one["killed"] for one in dead}, dead
    assert contents(out) == contents(finished)


def test_workers_without_the_package_are_one_sentence(site, again, alone, monkeypatch):
    with local_ray.running(1, "has_no_rs5m") as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(OSError, match="install this version of rs5m on every machine") as told:
            go(site, again)
    assert "\n" not in str(told.value)
    monkeypatch.delenv("RAY_ADDRESS")
    go(site, again)
    assert ends(again) == alone


def test_workers_compare_pictures_and_write_the_tars(site, again, alone, on_ray, monkeypatch):
    shutil.rmtree(again / "near")
    monkeypatch.setattr(duplicates, "_pairs", None)  # here, and not on the workers
    monkeypatch.setattr(outcome, "content", None)
    go(site, again)
    assert ends(again) == alone
    stats = json.loads((again / "pub11-train-0000_stats.json").read_text())
    assert stats["count"] == TAR


@pytest.mark.parametrize(("beyond", "held"), [(200_000, "dict"), (10, "PosixPath")])
def test_workers_take_the_closer_look(
    beyond, held, site, again, alone, on_ray, tmp_path, monkeypatch
):
    shutil.rmtree(again / "near")
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setattr(duplicates, "_write_near", partial(on_workers.looks, str(marks), beyond))
    go(site, again)
    assert ends(again) == alone and not (again / ".near").exists()
    names = [path.name.split("-") for path in marks.iterdir()]
    (finder,) = [name[0] for name in names if name[1] == "candidates"]
    lookers = [name[0] for name in names if name[1] == held]
    assert len(lookers) == len(names) - 1 > 1, "a few candidates each, once"
    assert finder not in lookers


def test_tars_that_are_there_are_not_made_again(site, again, alone, on_ray):
    go(site, again)
    for name in ("dropped.parquet", "pub11-train-0001.tar"):
        (again / name).unlink()
    before = (again / "pub11-train-0000.tar").stat().st_mtime_ns
    go(site, again)
    assert ends(again) == alone
    assert (again / "pub11-train-0000.tar").stat().st_mtime_ns == before


def test_tars_of_another_choice_are_made_anew(site, again, alone, monkeypatch):
    monkeypatch.setattr(Cheap, "reasons", lambda self, score, probability, out: [None] * len(score))
    go(site, again)
    assert ends(again) != alone
    monkeypatch.undo()
    monkeypatch.setattr(runfolder, "TAR", TAR)
    (again / "dropped.parquet").unlink()
    go(site, again)
    assert ends(again) == alone


def test_a_worker_killed_in_the_middle_of_a_tar_changes_nothing(
    site, again, alone, on_ray, tmp_path, monkeypatch
):
    write, marks = outcome._write_tar, tmp_path / "marks"
    marks.mkdir()

    def dying(layout, *given):
        on_workers.dies(partial(write, layout), str(marks), 2, *given)

    monkeypatch.setattr(outcome, "_write_tar", dying)
    go(site, again)
    assert ends(again) == alone and len(list(marks.iterdir())) == 2
    assert not list(again.rglob(".*.tmp"))


def test_a_worker_that_always_dies_is_one_sentence(
    site, again, alone, on_ray, tmp_path, monkeypatch
):
    def dying(layout, *given):
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(outcome, "_write_tar", dying)
        with pytest.raises(OSError, match="no worker of .* could make join 0000. ") as told:
            go(site, again)
    assert "\n" not in str(told.value) and "finished shards stay" in str(told.value)
    go(site, again)
    assert ends(again) == alone


def test_a_worker_of_another_version_is_one_sentence(site, again, alone, on_ray, monkeypatch):
    version = cluster.__version__
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "__version__", "0.0")
        words = f"a worker has rs5m {version}, and this process 0.0: install the same one"
        with pytest.raises(ValueError, match=f"^{words}$"):
            go(site, again)
    assert not list(again.glob("*.tar"))
    go(site, again)
    assert ends(again) == alone


def test_a_full_disk_on_a_worker_is_one_sentence(site, finished, again, alone, on_ray, tmp_path):
    size = sum(path.stat().st_size for path in again.rglob("*") if path.is_file())
    tar = len(alone["pub11-train-0000.tar"])
    with small_disk(tmp_path, f"{(size + 3 * tar) // 1024}k") as (disk, resize):
        out = shutil.copytree(again, disk / "out")
        with pytest.raises(OSError, match="could not be written .* free some space") as told:
            go(site, out)
        assert "\n" not in str(told.value)
        resize("200m")
        go(site, out)
        assert ends(out) == alone


def test_a_disk_that_is_not_shared_is_one_sentence(site, again, alone, on_ray, monkeypatch):
    def elsewhere(layout, out, number, rows):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(outcome, "_write_tar", elsewhere)
        with pytest.raises(OSError, match="wrote pub11-train-000..tar to a disk of its own"):
            go(site, again)


def test_no_ray_at_the_address_is_said_before_any_work(site, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "a word")
    with pytest.raises(OSError, match="RAY_ADDRESS is a word, not HOST:PORT"):
        go(site, tmp_path / "out")
    assert not (tmp_path / "out").exists()
