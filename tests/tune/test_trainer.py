"""Our training is open_clip's: its own main(), fed the same network and batches, takes the same
steps.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_tuning import memory, some_pairs, tiny
from torch import nn

from rs5m import adapters, clip, tune
from rs5m.tune import Settings, augment

trainer = pytest.importorskip("open_clip_train.main")
pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = Settings(
    method="full",
    lock_text=False,
    learning_rate=1e-3,
    weight_decay=0.2,
    batch_size=32,
    epochs=25,
    warm_up=5.0,
    max_norm=1.0,
)
OPTIONS = (
    "--dataset-type synthetic --model ViT-B-32 --device cpu --precision fp32 --workers 0 --lr 1e-3 "
    "--wd 0.2 --warmup 5 --grad-clip-norm 1.0 --batch-size 32 --log-every-n-steps 1"
).split()


class Batches:
    """The batches of a run of ours as open_clip's data loader: pixels and tokens by epoch."""

    def __init__(self, model, source, settings: Settings):
        self.model, self.source, self.settings = model, source, settings
        steps = tune.plan(len(source), settings)
        self.items = list(tune.items(steps, settings))
        self.num_samples = len(source)
        self.num_batches = len(source) // settings.batch_size
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        first = self.epoch * self.num_batches
        for item in self.items[first : first + self.num_batches]:
            batch = self.source[item]
            pixels = clip.normalise_pixels(augment.warp(batch.pixels, batch.draws), self.model)
            yield pixels, self.model.tokenizer(batch.captions)


class Writer:
    """TensorBoard's writer, as far as the trainer uses it."""

    def __init__(self):
        self.values = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.values.setdefault(name, []).append(value)


def theirs(monkeypatch, folder, net: nn.Module, data, epochs: int) -> tuple[Writer, list]:
    """open_clip's main() on a network and data: what it logged, and the optimizer that it built."""
    writer, built = Writer(), []
    one_epoch, schedule = trainer.train_one_epoch, trainer.cosine_lr

    def noted(optimizer, *options):
        built.append(optimizer)
        return schedule(optimizer, *options)

    def logged(*inputs, tb_writer):
        one_epoch(*inputs, tb_writer=writer)

    replaced = {
        "create_model_and_transforms": lambda *_, **__: (net, None, None),
        "get_tokenizer": lambda *_, **__: None,
        "get_data": lambda *_, **__: {"train": data},
        "setup_logging": lambda *_: None,
        "random_seed": lambda *_: None,
        "cosine_lr": noted,
        "train_one_epoch": logged,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(trainer, name, function)
    trainer.main([*OPTIONS, "--epochs", str(epochs), "--logs", str(folder)])
    return writer, built


@pytest.mark.slow
def test_fifty_steps_are_those_of_open_clips_trainer(monkeypatch, tmp_path):
    source, other, chunked = memory(), tiny(), replace(SETTINGS, chunk=9)
    other.net.output_dict = True
    data = Batches(other, source, SETTINGS)
    writer, _ = theirs(monkeypatch, tmp_path / "theirs", other.net, data, SETTINGS.epochs)
    expected = writer.values["train/loss"]
    assert len(expected) == 50 and min(expected) < max(expected) - 0.5, "it learns"
    vectors = clip.encode_images(other, some_pairs(16)[0], quiet=True)
    for settings in (SETTINGS, chunked):
        tuned, losses = tune.fit(tiny(), source, settings, tmp_path / str(settings.chunk))
        assert losses == pytest.approx(expected, abs=1e-5)
        ours = clip.encode_images(tuned, some_pairs(16)[0], quiet=True)
        assert np.abs(ours - vectors).max() < 1e-3 * np.abs(vectors).max()
    rates = [SETTINGS.learning_rate * tune.rate(step, 50, SETTINGS.warm_up) for step in range(50)]
    assert writer.values["train/lr"] == pytest.approx(rates, rel=1e-12)


def decaying(net: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    names = {id(p): name for name, p in net.named_parameters()}
    groups = (group["params"] for group in optimizer.param_groups if group["weight_decay"])
    return {names[id(p)] for group in groups for p in group}


def swin() -> nn.Module:
    """A small swin, whose attentions look up tables of relative positions."""
    import timm  # after rs5m.clip, which lets torchvision be imported

    options = {"img_size": 32, "embed_dim": 16, "depths": (2,), "num_heads": (2,)}
    return timm.create_model("swin_tiny_patch4_window7_224", window_size=4, **options)


@pytest.mark.parametrize("trunk", [None, swin])
def test_weights_decay_where_open_clips_do(monkeypatch, tmp_path, trunk):
    net = tiny().net
    if trunk:
        net.visual.trunk = trunk()
    data = SimpleNamespace(dataloader=SimpleNamespace(num_batches=1))
    _, (optimizer,) = theirs(monkeypatch, tmp_path, net, data, 0)
    expected = decaying(net, optimizer)
    wanted = adapters.prepare(net, "full", 4, ("image", "text"))
    built = tune.adamw(wanted, SETTINGS)
    assert decaying(net, built) == expected
    same = ("betas", "eps", "weight_decay")
    assert [built.defaults[key] for key in same[:2]] == [
        optimizer.defaults[key] for key in same[:2]
    ]
    tables = {name for name, _ in net.named_parameters() if "relative_position" in name}
    assert bool(tables) == bool(trunk) and not tables & expected
