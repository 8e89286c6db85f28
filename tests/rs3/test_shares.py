"""Chapter rs3 on a local Ray: workers write and choose, and what happens to workers."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import local_ray
import numpy as np
import pytest
from cheap_rs3 import Cheap, cheap_rankers
from PIL import Image

from rs5m import rs3
from rs5m.rs3 import shares

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
SETTINGS = rs3.Settings(shard_size=2, candidates=4, angles=(0, 90), captions=2)
MARK = "marks"  # a folder beside the images, named from there


def noted(load):
    """What `load` returns; a file named by the process says that it was loaded."""
    Path(MARK, f"{os.getpid()}-{len(os.listdir(MARK))}").touch()
    return load()


class Dying(Cheap):
    """The first process that meets its third shard is killed."""

    met = 0

    def generate(self, images, n):
        self.met += 1
        if self.met == 3 and not Path(MARK, "died").exists():
            Path(MARK, "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(images, n)


def broken():
    raise ImportError("no such model here")


def go(captioner=Cheap, **more):
    """A run from the folder of the test, by relative names."""
    load = partial(noted, captioner), partial(noted, cheap_rankers)
    return rs3.run("images", "out", *load, None, "cheap", SETTINGS, **more)


def ends(out):
    """What a run's folder holds in the end, the shards of its stages included."""
    kinds = (".parquet", ".tar", ".json")
    paths = sorted(path for path in out.rglob("*") if path.suffix in kinds)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def address():
    with local_ray.running(2) as address:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield address


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """In a folder with 21 images: what a run without Ray ends with."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", MARK):
        os.mkdir(name)
    for k in range(21):
        pixels = np.random.default_rng(k).integers(1, 256, (30 + k, 40, 3), np.uint8)
        Image.fromarray(pixels).save(f"images/{k:02}.png")
    made = ends(go())
    Path("out").rename("alone")
    for path in Path(MARK).iterdir():
        path.unlink()
    return made


@pytest.fixture
def on_ray(address, alone, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)


def processes():
    return {name.partition("-")[0] for name in os.listdir(MARK)}


def test_workers_make_the_shards_with_the_same_bytes(alone, on_ray):
    assert ends(go()) == alone
    assert processes() and str(os.getpid()) not in processes()
    log = Path("out/log.txt").read_text().splitlines()
    assert sorted(log) == [f"{s} {n:05}" for s in ("choose", "write") for n in range(11)]
    loads = len(os.listdir(MARK))
    assert loads == 2 * min(11, 2 * shares.EACH), "models are loaded once a share"
    for name in ("write/00003", "write/00010", "choose/00010", "dropped"):
        Path(f"out/{name}.parquet").unlink()
    assert ends(go()) == alone and len(os.listdir(MARK)) == loads + 3


def test_a_stage_that_has_to_be_here_is_here(alone, on_ray):
    assert ends(go(here=("write",))) == alone
    assert str(os.getpid()) in processes() and len(processes()) > 1


def test_a_worker_killed_in_the_middle_of_a_share_changes_nothing(alone, on_ray, monkeypatch):
    monkeypatch.setattr(shares, "EACH", 1)
    assert ends(go(Dying)) == alone
    assert Path(MARK, "died").exists() and not list(Path("out").rglob(".*.tmp"))


def test_a_model_that_no_worker_can_load_is_one_sentence(alone, on_ray):
    words = r"no worker of .* could make write 000\d\d .*no such model"
    with pytest.raises(OSError, match=words) as told:
        go(broken)
    assert "\n" not in str(told.value)
    assert ends(go()) == alone


def test_images_that_only_this_machine_has_are_one_sentence(alone, on_ray, monkeypatch):
    worked = shares.work

    def elsewhere(stage, load, do, sizes, out):
        worked(stage, load, partial(do.func, do.args[0], Path("/none"), *do.args[2:]), sizes, out)

    with monkeypatch.context() as patch:
        patch.setattr(shares, "work", elsewhere)
        with pytest.raises(ValueError, match=r"/none/\d\d.png cannot be read .*put it back"):
            go()
    assert ends(go()) == alone
