"""Weights kept on the way, and a validation that leaves the run as it is."""

import json
from dataclasses import replace

import pytest
import torch
from small_tuning import QUICK, memory, some_pairs, tiny

from rs5m import adapters, clip, tune
from rs5m.clip import checkpoints
from rs5m.tune import kept

pytestmark = pytest.mark.usefixtures("one_thread")
WEIGHTS = "open_clip_model.safetensors"
SMALL = replace(QUICK, batch_size=4)  # four steps of the pairs that are used here


class Judge:
    """Gives planned scores; takes random numbers and encodes in passing."""

    def __init__(self, *scores: float):
        self.scores, self.calls = scores, 0

    def __call__(self, model):
        torch.rand(3)
        clip.encode_images(model, some_pairs(2)[0], quiet=True)
        self.calls += 1
        return {"balanced": self.scores[self.calls - 1], "top1": 1.0}


def by(judge, every: int = 1, **about) -> kept.Validation:
    return kept.Validation(judge, "balanced", every, about)


@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_weights_of_every_n_steps_are_kept_and_the_run_stays_the_same(tmp_path, method):
    settings = replace(SMALL, method=method)
    plain, losses = tune.fit(tiny(), memory(8), settings)
    judge = Judge(1, 3, 3, 2)
    tuned, same = tune.fit(
        tiny(), memory(8), replace(settings, keep_every=2), tmp_path, validate=by(judge)
    )
    assert losses == same and judge.calls == 4
    for name, tensor in plain.net.state_dict().items():
        assert torch.equal(tensor, tuned.net.state_dict()[name]), name
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"step-2", "step-4"}
    assert kept.best(tmp_path)["step"] == 2, "the first of the best"
    file = adapters.FILE if method == "adapter" else WEIGHTS
    second = (tmp_path / "kept" / "step-2" / file).read_bytes()
    assert (tmp_path / "best" / file).read_bytes() == second
    last = checkpoints.read(tmp_path / "kept" / "step-4" / file)
    assert (tmp_path / "kept" / "step-4" / file).read_bytes() != second
    for name, tensor in last.items():
        assert torch.equal(tensor, tuned.net.state_dict()[name]), name
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["validation/balanced"] for line in lines] == [1, 3, 3, 2]
    assert all(line["images_per_second"] > 0 for line in lines)


def test_a_validation_is_due_every_n_steps_and_at_the_end(tmp_path):
    for every, steps in ((0, [1, 3]), (3, [2, 3]), (9, [3])):
        judge, folder = Judge(1, 2, 3, 4), tmp_path / str(every)
        tune.fit(tiny(), memory(8), SMALL, folder, validate=by(judge, every))
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "validation/top1" in line] == steps
    assert not (folder / "kept").exists()


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("where", ["score", "weights", "checkpoint"])
def test_killed_around_a_validation_it_goes_on_byte_for_byte(tmp_path, monkeypatch, where):
    scores, whole = (1, 4, 2, 3), tmp_path / "whole"
    settings = replace(SMALL, method="lora", lock_text=False, keep_every=3)
    tune.fit(tiny(), memory(8), settings, whole, validate=by(Judge(*scores)))

    def killed(*_, **__):
        raise Killed

    class Dying(Judge):
        def __call__(self, model):
            if self.calls == 1:
                place = {"weights": (kept, "whole"), "checkpoint": (tune.loop, "save_checkpoint")}
                if where == "score":
                    killed()
                monkeypatch.setattr(*place[where], killed)
            return super().__call__(model)

    folder = tmp_path / "killed"
    with monkeypatch.context() as monkeypatch, pytest.raises(Killed):
        tune.fit(tiny(), memory(8), settings, folder, validate=by(Dying(*scores)))
    tune.fit(tiny(), memory(8), settings, folder, validate=by(Judge(*scores[1:])))
    files = [path.relative_to(whole) for path in whole.glob("*/**/*.*")]
    assert len(files) >= 6
    for file in files:
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file
    last, same = (checkpoints.read(one / "checkpoint.safetensors") for one in (folder, whole))
    assert last.keys() == same.keys() and all(torch.equal(last[key], same[key]) for key in last)
    assert kept.best(folder) == {"step": 2, "by": "balanced", "scores": {"balanced": 4, "top1": 1}}


def test_another_validation_and_no_number_are_no_rivals(tmp_path):
    whole, nan = tmp_path / "whole", float("nan")
    settings = replace(SMALL, checkpoint_every=2)
    tune.fit(tiny(), memory(8), settings, whole, validate=by(Judge(nan, 5, nan, 4), data="a"))
    assert kept.best(whole)["step"] == 2
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["validation/balanced"] for line in lines] == [None, 5, None, 4]

    class Stop(Judge):
        def __call__(self, model):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(model)

    for data, step in (("a", 2), ("b", 3)):
        folder = tmp_path / data
        with pytest.raises(KeyboardInterrupt):
            tune.fit(tiny(), memory(8), settings, folder, validate=by(Stop(1, 5), data="a"))
        tune.fit(tiny(), memory(8), settings, folder, validate=by(Judge(4, 3), data=data))
        assert kept.best(folder)["step"] == step


def test_what_is_kept_may_change_when_a_run_goes_on(tmp_path):
    tune.fit(tiny(), memory(8), SMALL, tmp_path)
    assert not (tmp_path / "kept").exists(), "nobody asked for it"
    tune.fit(tiny(), memory(8), replace(SMALL, keep_every=1), tmp_path)
    assert not (tmp_path / "kept").exists(), "no step was left to take"
