"""The domain model of a scale: made once, from the shards it names; what a killed run leaves
behind.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from small import encoded
from small_tuning import VARIABLES, some_pairs, tiny

from rs5m import clip, tune
from rs5m.book import domain, models, scales, sets
from rs5m.clip import checkpoints
from rs5m.data import datasets, records
from rs5m.tune import loader, log

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"batch_size": 32, "image_size": 32, "steps": 2}


def stand_ins(patch, folder) -> list[str]:
    """The general model and the shards of a scale, small; the list tells each time the shards were
    asked for.
    """
    read = []

    def shards(name):
        def make(scale):
            read.append(name)
            path = folder / f"{name}-train-0000.tar"
            if not path.is_file():
                pixels, captions = some_pairs(64 if name == "pub11" else 40)
                rows = (
                    records.Record(encoded(p), f"{i}.png", c[0])
                    for i, (p, c) in enumerate(zip(pixels, captions, strict=True))
                )
                records.write(path, rows)
            return [path]

        return make

    patch.setattr(models, "general", lambda scale, *rest: tiny())
    patch.setattr(domain, "SHARDS", {name: shards(name) for name in ("pub11", "rs3")})
    return read


@pytest.fixture(autouse=True)
def nothing_known():
    domain._shards.cache_clear()
    domain._table.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"method": "full"}, {"lock_text": False}])
def test_the_domain_model_is_made_once(tmp_path, monkeypatch, capsys, changes):
    monkeypatch.chdir(tmp_path)
    stand_ins(monkeypatch, tmp_path)
    scale = replace(scales.get("mini"), **SMALL)
    first, losses = domain.domain_model(scale, **changes)
    assert len(losses) == 3 and "computed" in capsys.readouterr().err, (
        "an epoch is three batches, the nearest to 2"
    )
    second, again = domain.domain_model(scale, **changes)
    assert again == losses and "loaded" in capsys.readouterr().err
    pixels, captions = some_pairs(8)
    source = domain.source(scale, scale.runs[0])
    assert isinstance(source, loader.Shards) and len(source) == 104
    expected, _ = tune.fit(tiny(), source, domain.settings(scale, 104, **changes))
    vectors = [
        clip.encode_images(model, pixels, quiet=True) for model in (tiny(), first, second, expected)
    ]
    assert (vectors[1] == vectors[2]).all() and vectors[1] == pytest.approx(vectors[3], abs=1e-5)
    assert abs(vectors[0] - vectors[1]).max() > 1e-4
    words = [
        clip.encode_texts(model, [texts[0] for texts in captions])
        for model in (first, second, expected)
    ]
    assert (words[0] == words[1]).all() and words[0] == pytest.approx(words[2], abs=1e-5)
    domain.domain_model(scale, seed=1, **changes)
    domain.domain_model(scale, ("rs3",), **changes)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tuned-")]
    assert ["computed" in line for line in said] == [True, True], (
        "other settings, other pairs: another model"
    )
    (tmp_path / "rs3-train-0000.tar").unlink()
    records.write(
        tmp_path / "rs3-train-0000.tar", [records.Record(encoded(pixels[0]), "0.png", "other")] * 40
    )
    domain.domain_model(scale, **changes)
    assert "computed" in capsys.readouterr().err, "other data under the same name: another model"


def test_runs_of_other_sizes_take_equally_many_steps():
    scale = replace(scales.get("mini"), steps=40, batch_size=100)
    for pairs, epochs in ((1000, 4), (400, 10), (130, 40), (5000, 1)):
        assert domain.settings(scale, pairs).epochs == epochs
    assert domain.settings(scale, 1000, epochs=2, seed=7).epochs == 2
    assert domain.settings(scales.get("colab")).epochs == scales.get("colab").epochs
    assert (
        domain.settings(scales.get("colab")).lock_text is False
        and domain.settings(scale).lock_text is True
    )


def test_what_cannot_be_mixed_or_merged_is_named(tmp_path, monkeypatch):
    stand_ins(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match="pub11.pocket: only shards are put together"):
        domain.source(scales.get("mini"), ("pub11", "pocket"))
    with pytest.raises(ValueError, match="prefix stays beside the weights"):
        domain.domain_model(replace(scales.get("mini"), **SMALL), method="prefix")
    monkeypatch.undo()
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no RS5M shard"):
        domain.source(scales.get("colab"), ("rs5m",))


def test_pairs_in_memory_are_a_source_too(monkeypatch):
    monkeypatch.setattr(sets, "pairs", lambda name, scale: datasets.Pairs(name, *some_pairs(), []))
    source = domain.source(replace(scales.get("mini"), image_size=32), ("pocket",))
    assert isinstance(source, loader.Memory) and len(source) == 64


KILLED = """
import os, signal, sys
from pathlib import Path
import pytest
sys.path.insert(0, "{HERE}")
import test_domain
from dataclasses import replace
from rs5m.book import domain, scales
test_domain.stand_ins(pytest.MonkeyPatch(), Path.cwd())
def write(tensors, path, header):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
domain.write = write
domain.domain_model(replace(scales.get("mini"), **test_domain.SMALL))
"""


def run_until_killed(code: str, folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", code.replace("{HERE}", str(Path(__file__).parent))],
        cwd=folder,
        env=VARIABLES | {"PWD": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr


@pytest.mark.slow
def test_a_killed_tuning_leaves_nothing_that_is_taken_for_a_model(tmp_path, monkeypatch):
    run_until_killed(KILLED, tmp_path)
    assert list(tmp_path.glob("runs/mini/*/*model.safetensors*")), (
        "it died with half a model written"
    )
    monkeypatch.chdir(tmp_path)
    stand_ins(monkeypatch, tmp_path)
    _, losses = domain.domain_model(replace(scales.get("mini"), **SMALL))
    assert len(losses) == 3 and os.getcwd() == str(tmp_path)


def of_hours(folder: Path) -> tuple[scales.Scale, pytest.MonkeyPatch]:
    """A scale of CLIP's towers and four short steps, a checkpoint after each; runs in `folder`."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RS5M_RUNS", str(folder))
    patch.setattr(domain, "SAVED", 1)
    patch.setattr(models, "general", lambda scale: tiny())
    pixels, captions = some_pairs(16)
    patch.setattr(domain, "source", lambda scale, run: loader.Memory(pixels, captions, 32))
    return replace(scales.get("colab"), batch_size=4, image_size=32, steps=4, epochs=1), patch


def stopped_in(save: int, stop) -> list[int]:
    """Call `stop` half-way through the save-th checkpoint; the list has the step of each."""
    saves, write = [], log.write

    def writing(tensors, path, header):
        saves.append(int(header["step"]))
        if len(saves) == save:
            path.write_bytes(b"half")
            stop()
        write(tensors, path, header)

    log.write = writing
    return saves


KILLED_LATE = """
import os, signal, sys
sys.path.insert(0, "{HERE}")
import test_domain
from pathlib import Path
scale, _ = test_domain.of_hours(Path("drive").absolute())
test_domain.stopped_in(3, lambda: os.kill(os.getpid(), signal.SIGKILL))
test_domain.domain.folder(scale)
"""


@pytest.mark.slow
def test_a_tuning_of_hours_goes_on_after_its_last_checkpoint(tmp_path, monkeypatch):
    """Killed in its third checkpoint: steps 1 and 2 are not taken again, and the model is the one
    of a run that nothing stopped.
    """
    run_until_killed(KILLED_LATE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(log, "write", log.write)  # and so it is put back
    scale, patch = of_hours(tmp_path / "drive")
    saves = stopped_in(0, None)
    made = domain.folder(scale)
    assert saves == [3, 4] and not (made / log.CHECKPOINT).exists()
    patch.setenv("RS5M_RUNS", str(tmp_path / "unbroken"))
    whole = domain.folder(scale)
    patch.undo()
    assert whole != made and saves == [3, 4, 1, 2, 3, 4]
    for name in ("model.safetensors", "losses.json"):
        assert (made / name).read_bytes() == (whole / name).read_bytes()


def test_a_full_disk_is_said_of_the_model_that_it_does_not_hold(tmp_path, monkeypatch):
    def full(*_) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    stand_ins(monkeypatch, tmp_path)
    scale = replace(scales.get("mini"), **SMALL)
    chosen = tune.Settings("head", lock_text=False, batch_size=32, epochs=1)
    with pytest.raises(OSError, match=r"model.safetensors could not be written .*: free some sp"):
        domain.tuned(scale, ("pub11",), chosen, tmp_path)
    assert not [*tmp_path.glob("*model*"), *tmp_path.glob("losses.json")]


def test_captions_have_one_vector_whatever_run_asks_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_ins(monkeypatch, tmp_path)
    scale = replace(scales.get("mini"), **SMALL)
    alone, both = (
        domain.captions(scale, domain.source(scale, run)) for run in (("rs3",), ("pub11", "rs3"))
    )
    source = domain.source(scale, ("rs3",))
    assert {text for i in range(len(source)) for text in source.captions(i)} <= alone.keys()
    assert all(alone[text].equal(both[text]) for text in alone) and len(alone) <= len(both)
    monkeypatch.setattr(
        sets,
        "pairs",
        lambda *_: datasets.Pairs("x", *some_pairs(4)[:1], [("words of its own",)] * 4, []),
    )
    other = domain.captions(scale, domain.source(scale, ("pocket",)))
    assert list(other) == ["words of its own"]
    vector = clip.encode_texts(tiny(), ["words of its own"])[0]
    assert np.allclose(other["words of its own"], vector / np.linalg.norm(vector), atol=1e-6)


def test_published_shards_are_halves_by_name_links_too_and_cut_to_the_steps(
    tmp_path, monkeypatch, capsys
):
    pixels, captions = some_pairs(12)
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    for name in ("pub11-train-0000", "pub11-val-0000", "rs3-train-0003"):
        rows = [
            records.Record(encoded(p), f"{name}{i}", c[0])
            for i, (p, c) in enumerate(zip(pixels, captions, strict=True))
        ]
        records.write(kept / f"{name}.tar", rows, "rs5m")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rs5m").symlink_to(kept)
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "data"))
    scale = scales.get("colab")
    assert list(domain.halves(scale)) == ["PUB11", "RS3", "both"]
    whole = domain.source(scale, ("rs5m",))
    assert len(whole) == 24 and len(domain.source(scale, ("rs3",))) == 12
    assert domain.settings(scale, len(whole)).batch_size == 24
    assert "a batch of 24, not of 256" in capsys.readouterr().out
    short = replace(scale, steps=2, batch_size=3)
    some = domain.source(short, ("rs5m",))
    assert [whole.names.index(name) for name in some.names] == [0, 4, 9, 13, 18, 23]
    assert "6 of 24 pairs: 2 steps of 3" in capsys.readouterr().out
    assert some.captions(5) == whole.captions(23) and some.content(2) == whole.content(9)
    assert some.fingerprint() != whole.fingerprint()
    assert domain.settings(short, len(some)).epochs == 1
    (kept / "rs3-train-0003.tar").unlink()
    domain._shards.cache_clear()
    assert list(domain.halves(scale)) == ["PUB11", "both"]
