"""Tuning: the gradient, the order, what is trained, and runs that are killed, split or fed with
nonsense.
"""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import killed
import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from small_disk import small_disk
from small_tuning import QUICK, VARIABLES, memory, pocket_like, some_pairs, tiny
from torch import nn
from torch.nn import functional

from rs5m import adapters, clip, tune
from rs5m.clip import Model
from rs5m.tune import Settings, augment, loader, loop, schedule

pytestmark = pytest.mark.usefixtures("one_thread")


def snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# ---------------------------------------------------------------- the loss and its gradient


def test_contrastive_loss_equals_two_cross_entropies():
    generator = torch.Generator().manual_seed(0)
    image, text = (
        functional.normalize(torch.randn(11, 7, generator=generator), dim=1) for _ in range(2)
    )
    total = 0.0
    for i in range(11):
        row = [20 * float(image[i] @ text[j]) for j in range(11)]
        column = [20 * float(image[j] @ text[i]) for j in range(11)]
        total += np.log(np.exp(row).sum()) - row[i] + np.log(np.exp(column).sum()) - column[i]
    assert float(tune.contrastive_loss(image, text, torch.tensor(20.0))) == pytest.approx(
        total / 22, rel=1e-5
    )


def gradients(
    model: Model, settings: Settings, batch: loader.Batch, scaler=None
) -> tuple[float, dict]:
    """Loss and gradient of `backward`, by the name of the parameter."""
    net = adapters.prepare(model.net, settings.method, settings.size, settings.towers()).eval()
    torch.manual_seed(1)
    with torch.no_grad():  # adapters begin at zero, where half of their gradients vanish
        for p in net.parameters():
            if p.requires_grad and p.ndim > 0:
                p.add_(0.02 * torch.randn_like(p))
    loss = tune.backward(model, tune.TextEncoder(model, settings), batch, settings, scaler)
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    wanted = {name for name, p in net.named_parameters() if p.requires_grad}
    assert found.keys() <= wanted
    return loss, found


def a_batch(count: int = 13) -> loader.Batch:
    return memory(16)[np.arange(count), tune.draws(0, Settings(batch_size=count))]


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny, pytest.param(pocket_like, marks=pytest.mark.slow)])
@pytest.mark.parametrize("towers", [(False, True), (False, False), (True, False)])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_divided_batch_has_the_gradient_of_the_whole(make, towers, method):
    base = Settings(method=method, size=4, lock_image=towers[0], lock_text=towers[1])
    batch = a_batch()
    loss, whole = gradients(make(), base, batch)
    assert whole and any(g.abs().max() > 1e-4 for g in whole.values())
    for chunk in (1, 5, 12, 13, 100):
        cached, parts = gradients(make(), replace(base, chunk=chunk), batch)
        assert cached == pytest.approx(loss, abs=1e-6) and parts.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(
                parts[name], gradient, atol=2e-6, rtol=2e-4, msg=f"{name}, chunk {chunk}"
            )
    _, twice = gradients(
        make(), replace(base, chunk=5), batch, SimpleNamespace(scale=lambda loss: 2 * loss)
    )
    for name, gradient in whole.items():
        torch.testing.assert_close(twice[name], 2 * gradient, atol=4e-6, rtol=2e-4)


def test_the_gradient_is_that_of_the_loss_written_out():
    """Against autograd through the whole in one piece, and against finite differences in double
    precision.
    """
    settings, batch, model = Settings(method="full", lock_text=False), a_batch(6), tiny()
    _, found = gradients(model, settings, batch)

    def loss(net) -> torch.Tensor:
        pixels = clip.normalise_pixels(augment.warp(batch.pixels, batch.draws), model).to(
            next(net.parameters())
        )
        image, text = (
            functional.normalize(v, dim=-1)
            for v in (
                net.encode_image(pixels),
                net.encode_text(clip.tokenize(model, batch.captions)),
            )
        )
        logits, own = net.logit_scale.exp() * image @ text.T, torch.arange(len(image))
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    net = model.net
    for p in net.parameters():
        p.grad = None
    loss(net).backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(found[name], p.grad, atol=2e-6, rtol=1e-4)
    net.double()
    for name in (
        "visual.conv1.weight",
        "visual.proj",
        "transformer.resblocks.0.mlp.c_fc.bias",
        "logit_scale",
    ):
        p = dict(net.named_parameters())[name]
        place, step = (0,) * p.ndim, 1e-5
        with torch.no_grad():
            p[place] += step
            above = loss(net)
            p[place] -= 2 * step
            below = loss(net)
            p[place] += step
        assert float(found[name][place]) == pytest.approx(
            float(above - below) / 2 / step, abs=1e-5, rel=1e-3
        )


def test_gains_biases_and_the_temperature_do_not_decay():
    net = adapters.prepare(tiny().net, "full", 4, ("image", "text"))
    groups = tune.adamw(net, Settings(weight_decay=0.3)).param_groups
    names = {id(p): name for name, p in net.named_parameters()}
    decay = {names[id(p)] for g in groups if g["weight_decay"] == 0.3 for p in g["params"]}
    rest = {names[id(p)] for g in groups if g["weight_decay"] == 0.0 for p in g["params"]}
    assert decay | rest == set(names.values()) and not decay & rest
    assert {
        "logit_scale",
        "visual.ln_post.weight",
        "visual.transformer.resblocks.0.mlp.c_fc.bias",
        "visual.class_embedding",
    } <= rest
    assert {"visual.conv1.weight", "visual.proj", "token_embedding.weight"} <= decay
    assert {"positional_embedding", "visual.positional_embedding"} <= decay, "unlike ITRA's"


def test_a_batch_is_cut_into_chunks_of_at_most_so_many():
    batch = a_batch()
    for chunk, sizes in ((0, [13]), (5, [5, 5, 3]), (12, [12, 1]), (13, [13]), (100, [13])):
        parts = loop.split(batch, chunk)
        assert [len(part.captions) for part in parts] == sizes
        assert sum((list(part.captions) for part in parts), []) == list(batch.captions)
        assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
        assert torch.equal(torch.cat([part.draws for part in parts]), batch.draws)
    plain = loop.split(batch._replace(draws=None), 5)
    assert [part.draws for part in plain] == [None] * 3
    assert [len(part.captions) for part in loop.split(a_batch(1), 1)] == [1]
    none = batch._replace(captions=[], pixels=batch.pixels[:0], draws=None)
    assert [len(part.captions) for part in loop.split(none, 5)] == [0]


@pytest.mark.parametrize("lock_text", [True, False])
def test_chunks_have_the_loss_and_the_gradient_of_the_whole(lock_text):
    settings, batch = Settings(method="full", lock_text=lock_text), a_batch(7)
    loss, whole = gradients(tiny(), settings, batch)
    cached, parts = gradients(tiny(), replace(settings, chunk=3), batch)
    assert cached == pytest.approx(loss, abs=1e-6) and parts.keys() == whole.keys()
    assert lock_text == (not any(name.startswith("transformer.") for name in whole))
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=2e-6, rtol=2e-4)


def test_images_that_are_turned_already_are_pixels_over_255():
    model, batch = tiny(), a_batch(4)
    settings = Settings(lock_text=False)
    texts = loop.TextEncoder(model, settings)
    pixels = augment.warp(batch.pixels, batch.draws, batch.view).mul(255).round().to(torch.uint8)
    turned = batch._replace(pixels=pixels, draws=None)
    with torch.no_grad():
        image, text = loop.encode(model, texts, turned, settings)
        there = clip.normalise_pixels(pixels.float() / 255, model)
        expected = functional.normalize(model.net.encode_image(there), dim=-1)
        known = functional.normalize(
            model.net.encode_text(clip.tokenize(model, batch.captions)), dim=-1
        )
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(text, known)
    assert text.shape == (4, image.shape[1])


def test_the_optimizer_is_open_clips():
    defaults = tune.adamw(tiny().net, Settings()).defaults
    assert (defaults["betas"], defaults["eps"]) == ((0.9, 0.98), 1e-6)
    assert pytest.approx(4.6051702) == loop.MAX_LOGIT_SCALE


@pytest.mark.parametrize(
    ("loss", "slope", "precision", "count", "said"),
    [
        (1.0, 1.0, "float32", 8, None),
        (1.0, float("inf"), "float32", 9, "0, 1, 2, 3, 4, 5, 6, 7, ...."),
        (float("nan"), 1.0, "float32", 8, "0, 1, 2, 3, 4, 5, 6, 7. "),
        (float("nan"), 1.0, "fp16", 8, "0, 1, 2, 3, 4, 5, 6, 7. "),
        (1.0, float("inf"), "fp16", 8, None),  # the scaler leaves the step out
    ],
)
def test_what_is_not_finite_stops(monkeypatch, loss, slope, precision, count, said):
    names = [str(i) for i in range(13)]
    run = loop.Run(tiny(), names, Settings(precision=precision), None)

    def backward(model, texts, batch, settings, scaler):
        scaler.scale(torch.ones(()))  # as each loss is
        for p in run.net.parameters():
            if p.requires_grad:
                p.grad = torch.full_like(p, slope)
        return loss

    monkeypatch.setattr(loop, "backward", backward)
    before = snapshot(run.net)
    if said:
        with pytest.raises(FloatingPointError, match=f"Pairs of the batch: {re.escape(said)}"):
            run.step(3, a_batch(count), 0.1)
    else:
        assert run.step(3, a_batch(count), 0.1)[0] == loss
    assert bool(changed(before, run.net.state_dict())) == (loss == slope == 1)
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.1, 0.1]


def test_checkpoints_are_written_when_they_are_due_and_at_the_end(monkeypatch, tmp_path):
    due = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda out, data, step, run: due.append(step))
    settings = replace(QUICK, batch_size=8, epochs=2, checkpoint_every=3)
    _, losses = tune.fit(tiny(), memory(32), settings, tmp_path)
    assert due == [3, 6, 8] and len(losses) == 8
    assert (tmp_path / "adapter").is_dir()
    tune.fit(tiny(), memory(32), replace(settings, method="full"), tmp_path / "full")
    assert not (tmp_path / "full/adapter").exists()


# ---------------------------------------------------------------- order and chance


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (8, 8), (129, 32)])
def test_an_epoch_shows_no_pair_twice(count, batch):
    settings = Settings(batch_size=batch, epochs=4, seed=5)
    steps, each = tune.plan(count, settings), count // batch
    assert steps.shape == (4 * each, batch)
    epochs = [steps[e * each : (e + 1) * each].ravel() for e in range(4)]
    assert all(len(set(e)) == each * batch and set(e) <= set(range(count)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 4, "every epoch has its own order"
    assert np.array_equal(steps, tune.plan(count, settings))
    assert not np.array_equal(steps, tune.plan(count, replace(settings, seed=6)))


@pytest.mark.parametrize(("count", "size", "whole"), [(8, 4, 2), (9, 4, 2), (11, 4, 2), (3, 4, 1)])
def test_a_training_in_one_piece_has_every_whole_batch(count, size, whole):
    some = replace(Settings(), batch_size=size, epochs=3)
    found = schedule.batches(count, some, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in found] == [min(size, count)] * 3 * whole
    for epoch in range(3):
        seen = sum(found[epoch * whole : (epoch + 1) * whole], [])
        assert len(set(seen)) == len(seen) and set(seen) <= set(range(count))


def test_a_batch_larger_than_the_data_is_an_error():
    with pytest.raises(ValueError, match="a batch of 128 is larger than the data, 60 pairs"):
        tune.fit(tiny(), memory(60), Settings())


def test_processes_share_a_step_without_loss_or_repetition(monkeypatch):
    settings = Settings(batch_size=10, epochs=2)
    steps = tune.plan(25, settings)
    alone = list(tune.items(steps, settings, 1))
    assert len(alone) == len(steps) - 1 and np.array_equal(alone[0][0], steps[1])
    monkeypatch.setattr(schedule, "world", lambda: 3)
    shares = []
    for r in range(3):
        monkeypatch.setattr(schedule, "rank", lambda r=r: r)
        shares.append(list(tune.items(steps, settings, 1)))
    for step, (index, chance, _) in enumerate(alone):
        parts = [share[step][:2] for share in shares]
        got = sorted((int(i), *d) for part in parts for i, d in zip(*part, strict=True))
        assert got == sorted((int(i), *d) for i, d in zip(index, chance, strict=True))


def test_what_the_defaults_draw_stays():
    """Resumed runs and the book's numbers rest on it: the digest is of version 0.1."""
    settings, seen = Settings(batch_size=16, epochs=2, seed=3), []
    for index, draws, view in tune.items(tune.plan(40, settings), settings):
        for i, row in zip(index, draws, strict=True):
            places = [round(v, 9) + 0.0 for axis in augment.matrix(row, 1.5, view) for v in axis]
            seen.append([int(i), *places, round(float(row[-1]), 7)])
    digest = hashlib.sha256(json.dumps(seen).encode()).hexdigest()
    assert len(seen) == 64 and digest.startswith("99471650a8dab0bc")


def test_the_defaults_stay():
    said = "lora 16 True False 0.002 0.01 128 0 8 0.1 0.0 True 0.9 any True auto False 500 0 0 None"
    assert " ".join(map(str, asdict(Settings()).values())) == said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "loro"}, "unknown method 'loro': choose one of full"),
        ({"size": 100_000}, "size is 100000: give at most 2048, no tower is wider"),
        ({"turns": "left"}, "unknown turns 'left': choose one of any, right, none"),
        ({"crop": 0.0}, "crop is 0.0: give the smallest share of an image, up to 1"),
        ({"crop": 90.0}, "crop is 90.0"),
        ({"crop": 1.5}, "crop is 1.5"),
        ({"batch_size": 0}, "batch_size is 0: give 1 or more"),
        ({"epochs": -1}, "epochs is -1: give 1 or more"),
        ({"max_norm": -1.0}, "max_norm is -1.0: give 0 or more"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: give 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay is nan: give 0 or more"),
    ],
)
def test_a_setting_without_sense_is_named(change, says):
    with pytest.raises(ValueError, match=says):
        Settings(**change)


def test_draws_are_uniform_and_differ_from_step_to_step():
    drawn = np.stack([tune.draws(step, Settings(batch_size=200)) for step in range(30)])
    assert drawn.shape == (30, 200, augment.DRAWS) and drawn.min() >= 0 and drawn.max() < 1
    assert (
        abs(drawn.mean((0, 1)) - 0.5).max() < 0.02
        and abs(drawn.std((0, 1)) - 12**-0.5).max() < 0.01
    )
    assert len({step.tobytes() for step in drawn}) == 30


@pytest.mark.parametrize(
    ("steps", "warm_up", "peak"), [(1, 0.1, 1), (7, 0.1, 1), (100, 0.1, 10), (100, 25, 25)]
)
def test_rate_rises_then_falls_to_nearly_zero(steps, warm_up, peak):
    factors = [tune.rate(step, steps, warm_up) for step in range(steps)]
    assert max(factors) == 1 == factors[peak - 1] and min(factors) > 0
    assert factors[:peak] == sorted(factors[:peak]) and factors[peak:] == sorted(
        factors[peak:], reverse=True
    )
    assert steps < 7 or factors[-1] < 0.1
    half = peak + (steps - peak) // 2
    assert steps < 100 or factors[half] == pytest.approx(0.5, abs=0.02)


def test_a_warm_up_that_the_run_has_no_room_for_is_a_tenth_of_it():
    factors = [tune.rate(step, 60, 500) for step in range(60)]
    assert factors == [tune.rate(step, 60, 0.1) for step in range(60)]
    assert factors[5] == 1 and factors[-1] < 0.01
    assert [tune.rate(step, 60, 60) for step in range(60)] == factors


def test_steps_cut_the_plan_and_the_rate_is_planned_for_them(tmp_path, capsys):
    settings = replace(QUICK, epochs=2, steps=3, warm_up=500)
    whole = tune.plan(len(memory()), replace(settings, steps=None))
    assert len(whole) > 3
    assert np.array_equal(tune.plan(len(memory()), settings), whole[:3])
    _, losses = tune.fit(tiny(), memory(), settings, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(losses) == len(lines) == 3
    rates = [settings.learning_rate * tune.rate(step, 3) for step in range(3)]
    assert [line["rate"] for line in lines] == pytest.approx(rates)
    said = [f"3 of the {len(whole)} steps of 2 epochs (--set steps)"]
    said += ["the rate rises over 1 of 3 steps, not over 500"]
    assert capsys.readouterr().out.splitlines() == said


def test_unset_steps_leave_the_hash_of_a_run_as_it_was():
    assert "steps" not in repr(Settings()).replace("checkpoint_every", "")
    assert repr(Settings()).startswith("Settings(method='lora', size=16, ")
    assert repr(Settings()).endswith("keep_every=0, seed=0)")
    assert repr(Settings(steps=60)).endswith("seed=0, steps=60)")


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_no_run(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}: give 1 or more"):
        Settings(steps=steps)


def test_more_steps_than_the_epochs_have_are_refused():
    settings = Settings(batch_size=8, epochs=2, steps=11)
    with pytest.raises(ValueError, match=r"steps is 11: 2 epochs of 40 pairs have 10, give .* ep"):
        tune.plan(40, settings)
    assert len(tune.plan(40, replace(settings, steps=10))) == 10


# ---------------------------------------------------------------- the run


@pytest.mark.parametrize("method", ["lora", "full", "dora", "head"])
@pytest.mark.parametrize("lock_text", [True, False])
def test_tuning_changes_the_unlocked_towers_only(method, lock_text):
    model, settings = tiny(), replace(QUICK, method=method, lock_text=lock_text)
    before = snapshot(model.net)
    tuned, losses = tune.fit(model, memory(), settings)
    after = tuned.net.state_dict()
    assert set(after) == set(before), "merged: the names of the general model"
    moved = changed(before, after)
    assert moved and len(losses) == 4 and not tuned.net.training
    text = ("transformer.", "token_", "positional_", "ln_final", "text_projection")
    assert any(name.startswith("visual.") for name in moved)
    assert any(name.startswith(text) for name in moved) != lock_text


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_loss_falls(method):
    settings = Settings(method=method, size=8, learning_rate=1e-2, batch_size=32, epochs=10)
    _, losses = tune.fit(tiny(), memory(), settings)
    assert len(losses) == 20 and np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.5
    assert np.mean(losses[-4:]) >= np.log(4) - 0.3, (
        "four of the 32 share a colour: less would be a leak"
    )


def test_the_same_seed_gives_the_same_losses_whatever_the_workers():
    runs = [
        tune.fit(tiny(), memory(), replace(QUICK, seed=seed), workers=w)
        for seed, w in ((3, 0), (3, 2), (4, 0))
    ]
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert not changed(runs[0][0].net.state_dict(), runs[1][0].net.state_dict())


def test_batch_statistics_stay():
    model = pocket_like()
    before = snapshot(model.net)
    tune.fit(model, memory(), replace(QUICK, method="full", epochs=1))
    moved = changed(before, model.net.state_dict())
    assert "visual.trunk.conv_stem.weight" in moved and not [
        n for n in moved if "running" in n or "tracked" in n
    ]


def test_the_temperature_is_capped():
    model = tiny()
    with torch.no_grad():
        model.net.logit_scale.fill_(np.log(100) - 1e-3)
    tune.fit(model, memory(), replace(QUICK, method="full", learning_rate=1.0, warm_up=1))
    assert model.net.logit_scale.exp() <= 100.001


def test_the_gradient_is_clipped(tmp_path):
    moved = []
    for norm in (0.0, 1e-7):
        model = tiny()
        before = snapshot(model.net)
        folder = tmp_path / str(norm)
        tune.fit(
            model,
            memory(),
            replace(QUICK, method="full", max_norm=norm, weight_decay=0, epochs=1),
            folder,
        )
        moved.append(
            max(float((before[n] - v).abs().max()) for n, v in model.net.state_dict().items())
        )
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert all(line["norm"] > 1e-3 for line in lines), "the norm before clipping is logged"
    assert 0 < moved[1] < 0.5 * moved[0], (
        "AdamW divides by the gradient's size, EPSILON does not shrink with it"
    )


def test_a_locked_text_tower_reads_every_caption_once(monkeypatch):
    read = []
    real = clip.encode_texts
    counted = lambda model, texts: read.extend(texts) or real(model, texts)  # noqa: E731
    monkeypatch.setattr(clip, "encode_texts", counted)
    tune.fit(tiny(), memory(), replace(QUICK, epochs=4))
    assert sorted(read) == sorted({text for texts in some_pairs()[1] for text in texts})
    known = {}
    _, first = tune.fit(tiny(), memory(), QUICK, known=known)
    del read[:]
    _, second = tune.fit(tiny(), memory(), QUICK, known=known)
    assert not read and first == second, "what one run read, the next one with the same tower knows"
    free = replace(QUICK, lock_text=False)
    free_losses = [tune.fit(tiny(), memory(), free, known=table)[1] for table in (known, None)]
    assert free_losses[0] == free_losses[1], "a tower that is tuned reads anew"


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_precisions_agree_roughly(precision):
    settings = replace(QUICK, method="full", precision=precision, learning_rate=1e-3)
    _, losses = tune.fit(tiny(), memory(), settings)
    _, exact = tune.fit(tiny(), memory(), replace(settings, precision="float32"))
    assert losses == pytest.approx(exact, abs=0.05) and np.isfinite(losses).all()


def test_auto_on_a_gpu_without_bf16_is_fp16_with_its_scaler(monkeypatch):
    settings = replace(QUICK, method="full", learning_rate=1e-3)
    _, expected = tune.fit(tiny(), memory(), replace(settings, precision="fp16"))
    for module in (loop, clip.model):
        monkeypatch.setattr(module, "precision", lambda chosen="auto": "fp16")
    assert loop.Run(tiny(), memory().names, settings, None).scaler.is_enabled()
    _, losses = tune.fit(tiny(), memory(), settings)
    assert losses == expected


def test_a_run_goes_on_where_auto_has_become_fp16(monkeypatch, tmp_path):
    tune.fit(tiny(), memory(), QUICK, tmp_path)
    monkeypatch.setattr(loop, "precision", lambda chosen: "fp16")
    tune.fit(tiny(), memory(), QUICK, tmp_path)


def test_an_unknown_precision_is_named():
    with pytest.raises(
        ValueError, match="unknown precision 'int4': choose one of auto, float32, bf16, fp16"
    ):
        tune.fit(tiny(), memory(), replace(QUICK, precision="int4"))


@pytest.mark.slow
def test_compiled_towers_give_the_same_losses(monkeypatch):
    real, seen = nn.Module.compile, []

    def eager(self):
        """A compiler may be missing."""
        seen.append(self)
        real(self, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", eager)
    _, losses = tune.fit(
        tiny(), memory(), replace(QUICK, method="full", lock_text=False, compiled=True)
    )
    _, plain = tune.fit(tiny(), memory(), replace(QUICK, method="full", lock_text=False))
    assert len(seen) == 2 and losses == pytest.approx(plain, abs=1e-5)


# ---------------------------------------------------------------- folders, kills and several
# processes

SCRIPT = """
import sys, torch
import small_tuning
from rs5m import tune
from dataclasses import asdict, replace
torch.set_num_threads(1)
changes = {"epochs": 10, "checkpoint_every": 3, "chunk": CHUNK, "method": "METHOD"}
settings = replace(small_tuning.QUICK, lock_text=False, **changes)
model, losses = tune.fit(small_tuning.tiny(), small_tuning.memory(), settings, sys.argv[1])
if tune.rank() == 0:
    torch.save((losses, model.net.state_dict()), sys.argv[1] + "/result.pt")
"""


def script(tmp_path: Path, chunk: int = 0, method: str = "full") -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("CHUNK", str(chunk)).replace("METHOD", method))
    return path


def result(folder: Path) -> tuple[list[float], dict]:
    return torch.load(folder / "result.pt", weights_only=True)


@pytest.fixture(scope="module")
def processes():
    return killed.ready()


def run(folder: Path, step: int = 0, **options) -> None:
    """The script's run in this process, which dies at a step on the disk."""
    if step:
        killed.at(step, folder)
    sys.argv[1:] = [str(folder)]
    exec(script(folder.parent, **options).read_text(), {})


def unbroken(processes, tmp_path: Path, **options) -> tuple[list[float], dict]:
    process = processes.Process(target=run, args=(tmp_path / "unbroken",), kwargs=options)
    process.start()
    process.join()
    return result(tmp_path / "unbroken")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"chunk": 5, "method": "lora"}])
def test_two_processes_have_the_curve_of_one(processes, tmp_path, options):
    losses, weights = unbroken(processes, tmp_path, **options)
    folder = tmp_path / "two"
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_port=0",
        "--standalone",
    ]
    done = subprocess.run(
        [*torchrun, script(tmp_path, **options), folder],
        env=VARIABLES,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    both, after = result(folder)
    assert len(losses) == 20 and both == pytest.approx(losses, abs=1e-4)
    assert max(losses) - min(losses) > 0.1, "a curve that does not move would agree, too"
    vectors = []
    for state in (
        weights,
        after,
    ):  # not weights: AdamW enlarges the rounding of gradients that are zero
        model = tiny()
        model.net.load_state_dict(state)
        vectors.append(clip.encode_images(model, some_pairs(16)[0], quiet=True))
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-3 * np.abs(vectors[0]).max()
    assert len((folder / "log.jsonl").read_text().splitlines()) == 20, "one process writes"


@pytest.mark.slow
def test_killed_at_random_steps_it_goes_on_as_if_unbroken(processes, tmp_path):
    losses, weights = unbroken(processes, tmp_path)
    folder, ends, reached = tmp_path / "killed", [], []
    for step in (9, 13, 3, 14, 10, 0):  # before, in and after the writing of a checkpoint
        process = processes.Process(target=run, args=(folder, step))
        process.start()
        process.join()
        ends.append(process.exitcode)
        reached.append(len((folder / "log.jsonl").read_text().splitlines()))
    assert ends == [-9] * 5 + [0] and len(set(reached)) >= 4, f"{ends}, {reached}"
    again, after = result(folder)
    assert again == losses and not changed(weights, after), (
        "the same losses to the last bit, the same weights"
    )
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(20)) and [
        line["loss"] for line in lines
    ] == losses
    assert not list(folder.glob("*.tmp"))


def test_a_folder_takes_one_run_at_a_time_and_sheds_what_killed_ones_left(tmp_path):
    half = tmp_path / ".checkpoint.safetensors.99999.tmp"
    half.write_bytes(b"half")
    with (
        FileLock(tmp_path / ".tune.lock"),
        pytest.raises(OSError, match="in use by another run: let it finish"),
    ):
        tune.fit(tiny(), memory(), QUICK, tmp_path)
    assert half.is_file()  # it may be the other run's
    tune.fit(tiny(), memory(), QUICK, tmp_path)
    assert not half.is_file()


def test_a_finished_run_takes_no_further_step(tmp_path):
    first, losses = tune.fit(tiny(), memory(), QUICK, tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    second, again = tune.fit(tiny(), memory(), QUICK, tmp_path)
    assert losses == again and (tmp_path / "log.jsonl").read_bytes() == before
    assert not changed(first.net.state_dict(), second.net.state_dict())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("settings", r"\(crop 0.9 -> 0.8, seed 0 -> 1\)"),
        ("data", r"\(its data differ\)"),
        ("model", r"\(its model differs\)"),
    ],
)
def test_the_folder_of_another_run_is_refused_by_what_differs(tmp_path, change, says):
    tune.fit(tiny(), memory(), QUICK, tmp_path)
    settings = replace(QUICK, chunk=7, compiled=False)
    settings = replace(settings, seed=1, crop=0.8) if change == "settings" else settings
    with pytest.raises(ValueError, match=f"belongs to another run {says}: .*name another folder"):
        tune.fit(
            tiny(int(change == "model")), memory(48 if change == "data" else 64), settings, tmp_path
        )


@pytest.mark.parametrize("left", [0, 7, 200, -9])
def test_a_truncated_checkpoint_is_named(tmp_path, left):
    tune.fit(tiny(), memory(), QUICK, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match="checkpoint.safetensors is not a whole checkpoint"):
        tune.fit(tiny(), memory(), QUICK, tmp_path)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path):
    settings = replace(QUICK, method="full", checkpoint_every=1, epochs=6)
    source = memory()
    poisoned = tune.plan(64, settings)[5]  # the sixth step: pixels are made to be no numbers there
    real = augment.warp
    calls = []

    def warp(pixels, draws, view):
        calls.append(1)
        return real(pixels, draws, view) * (float("nan") if len(calls) == 6 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "warp", warp)
        with pytest.raises(FloatingPointError, match="step 5: loss nan") as caught:
            tune.fit(tiny(), source, settings, tmp_path)
    assert all(str(source.names[i]) in str(caught.value) for i in poisoned[:8])
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())
    _, losses = tune.fit(tiny(), source, settings, tmp_path)
    _, clean = tune.fit(tiny(), source, settings)
    assert losses == clean, "healed, it goes on from the last good step"


def test_a_gpu_that_is_too_small_is_one_sentence(monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr(loop, "backward", full)
    for chunk, count in ((0, 32), (8, 8)):
        with pytest.raises(ValueError, match=f"too small for {count} images at once: make chunk"):
            tune.fit(tiny(), memory(), replace(QUICK, chunk=chunk))


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_can_go_on(tmp_path):
    with small_disk(tmp_path, "64k") as (disk, _):
        with pytest.raises(OSError, match="checkpoint.safetensors could not be written"):
            tune.fit(tiny(), memory(), replace(QUICK, method="full"), disk)
        assert not list(disk.glob("*.tmp"))


def test_a_disk_that_is_full_for_the_log_is_named_and_the_run_goes_on(tmp_path):
    settings = replace(QUICK, batch_size=4)
    _, losses = tune.fit(tiny(), memory(8), settings)
    with small_disk(tmp_path, "64k") as (disk, resize):
        (disk / "others").write_bytes(bytes(64 * 1024))
        with pytest.raises(OSError, match="log.jsonl could not be written .*: free some space"):
            tune.fit(tiny(), memory(8), settings, disk)
        resize("30m")
        assert tune.fit(tiny(), memory(8), settings, disk)[1] == losses
        assert len((disk / "log.jsonl").read_text().splitlines()) == 4


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        tune.fit(tiny(), memory(), QUICK, tmp_path, board=True)
    noted = []

    class Writer:
        def __init__(self, folder):
            assert Path(folder).parent == tmp_path

        def add_scalar(self, name, value, step):
            noted.append((name, step))

        def close(self):
            noted.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", type(sys)("board"))
    sys.modules["torch.utils.tensorboard"].SummaryWriter = Writer
    tune.fit(tiny(), memory(), QUICK, tmp_path, board=True)
    assert noted[-1] == "closed" and {("loss", step) for step in range(4)} < set(noted)


def test_damaged_pairs_are_named(tmp_path):
    class Source(loader.Memory):
        def __getitem__(self, item):
            batch = super().__getitem__(item)
            keep = batch.index != 3
            captions = [c for c, k in zip(batch.captions, keep, strict=True) if k]
            return batch._replace(
                pixels=batch.pixels[keep],
                captions=captions,
                index=batch.index[keep],
                draws=batch.draws[keep],
                damaged=["x.tar 3: broken"] * int((~keep).sum()),
            )

    _, losses = tune.fit(tiny(), Source(*some_pairs(), 32), QUICK, tmp_path)
    assert np.isfinite(losses).all()
    assert (tmp_path / "damaged.txt").read_text().splitlines() == ["x.tar 3: broken"] * 2, (
        "once an epoch"
    )
