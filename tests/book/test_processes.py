"""A chapter's tuning in several processes: the model of one, and one sentence where they stop."""

import json
from dataclasses import replace

import pytest
import small_clip
from safetensors.torch import load_file
from small import encoded
from small_tuning import some_pairs

from rs5m.book import domain, processes, scales
from rs5m.clip import export
from rs5m.data import records
from rs5m.tune import Settings

pytestmark = pytest.mark.usefixtures("one_thread", "architectures")


@pytest.fixture
def scale(tmp_path, monkeypatch):
    """colab with a small network of a folder, and two shards of eight pairs."""
    pixels, captions = some_pairs(16)
    for n, half in enumerate(("pub11", "rs3")):
        rows = [
            records.Record(encoded(pixels[i]), f"{half}{i}", captions[i][0])
            for i in range(8 * n, 8 * n + 8)
        ]
        path = tmp_path / "data" / "rs5m" / f"{half}-train-0000.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(path, rows, "rs5m")
    export.openclip(small_clip.random(False), tmp_path / "general")
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    domain._shards.cache_clear()
    small = {"batch_size": 8, "image_size": 32, "steps": 2, "epochs": 1}
    model = f"local-dir:{tmp_path / 'general'}"
    yield replace(scales.get("colab"), model=model, pretrained=None, **small)
    domain._shards.cache_clear()


@pytest.mark.slow
def test_two_processes_tune_the_model_of_one(scale, tmp_path, monkeypatch, capfd):
    made = {}
    for number in ("1", "2"):
        monkeypatch.setenv(processes.VARIABLE, number)
        monkeypatch.setenv("RS5M_RUNS", str(tmp_path / number))
        made[number] = domain.folder(scale)
    assert "tuning in 2 processes" in capfd.readouterr().out
    one, two = (load_file(made[number] / "model.safetensors") for number in "12")
    losses = [json.loads((made[number] / "losses.json").read_text()) for number in "12"]
    assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    assert not (made["2"] / processes.TASK).exists()
    assert not (made["2"] / domain.CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("said", "why"),
    [("rs5m: no such weights", "no such weights"), ("Segmentation fault", "Segmentation fault")],
)
def test_processes_that_stop_say_why_and_leave_nothing(tmp_path, monkeypatch, said, why):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {said!r} >&2\necho; exit 2\n")
    python.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(python))
    with pytest.raises(ValueError, match=f"^tuning in 2 processes stopped: {why}$"):
        processes.start(2, scales.get("colab"), ("rs5m",), Settings(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


@pytest.mark.parametrize("word", ["0", "two", "-1", "1.5"])
def test_a_number_of_processes_is_a_number(monkeypatch, word):
    monkeypatch.setenv(processes.VARIABLE, word)
    with pytest.raises(ValueError, match=f"^RS5M_PROCESSES is .{word}.: give a whole number"):
        processes.count()


def test_without_a_word_a_process_for_each_gpu_and_one_without(monkeypatch):
    monkeypatch.delenv(processes.VARIABLE, raising=False)
    for gpus, number in ((0, 1), (1, 1), (8, 8)):
        monkeypatch.setattr(processes.torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert processes.count() == number
