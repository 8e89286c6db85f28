"""Tuning: what is trained, what is left alone, and what a killed run leaves behind; on small networks."""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from rs5m import clip, datasets, scales, tune
from rs5m.clip import Model, open_clip
from rs5m.tune import Settings

ROOT = Path(__file__).parents[1]
CFG = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TEXT = open_clip.CLIPTextCfg(**CFG)
QUICK = Settings(rank=4, learning_rate=3e-3, batch=32, epochs=2)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small lose more time to waiting threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(seed: int = 0) -> Model:
    """CLIP's two transformers, small and random."""
    torch.manual_seed(seed)
    vision = open_clip.CLIPVisionCfg(image_size=32, layers=2, width=64, head_width=32, patch_size=16)
    net = open_clip.CLIP(32, vision, TEXT).eval()
    return Model(net, open_clip.tokenizer.SimpleTokenizer(context_length=16), (0.5,) * 3, (0.5,) * 3, 32)


def pocket_like() -> Model:
    """The pocket model's convolutional image tower, random, with a small text tower."""
    torch.manual_seed(0)
    vision = open_clip.CLIPVisionCfg(**clip.TOWERS["image"], timm_model_name="tf_efficientnet_lite0", image_size=32)
    net = open_clip.CustomTextCLIP(32, vision, TEXT).eval()
    return Model(net, open_clip.tokenizer.SimpleTokenizer(context_length=16), (0.5,) * 3, (0.5,) * 3, 32)


def some_pairs(count: int = 64) -> tuple[list[np.ndarray], list[tuple[str, ...]]]:
    """Images of eight colours, with two captions that name the colour."""
    generator = np.random.default_rng(0)
    names = ("black", "blue", "green", "cyan", "red", "magenta", "yellow", "white")
    images, captions = [], []
    for i in range(count):
        colour = np.array([i % 8 & 4, i % 8 & 2, i % 8 & 1], bool) * 200
        images.append((colour + generator.integers(0, 56, (15, 15, 3))).astype(np.uint8))
        captions.append((f"{names[i % 8]} land", f"a view of {names[i % 8]}"))
    return images, captions


def snapshot(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def step(net: torch.nn.Module, model: Model, seed: int = 0) -> None:
    """One step of plain gradient descent on random pixels."""
    generator = torch.Generator().manual_seed(seed)
    image = model.net.encode_image(torch.randn(8, 3, 32, 32, generator=generator), normalize=True)
    text = model.net.encode_text(clip.tokenize(model, [f"text {i}" for i in range(8)]), normalize=True)
    net.zero_grad()
    tune.contrastive_loss(image, text, torch.tensor(10.0)).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.5 * parameter.grad


@pytest.mark.parametrize(("make", "lock_text"), [(tiny, True), (tiny, False), (pocket_like, True)])
def test_gradients_reach_every_adapter_and_nothing_else(make, lock_text):
    model = make()
    before = snapshot(model.net)
    targets = tune.lora_targets(model.net, lock_text)
    net = tune.prepare(model.net, Settings(rank=4, lock_text=lock_text))
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    for target in targets:
        assert any(f".{target}." in name for name in trained), f"{target} has no adapter"
    assert any(".transformer." in name and ".visual." not in name for name in trained) != lock_text
    for seed in (0, 1):  # B starts at zero, so A gets its first gradient at the second step
        step(net, model, seed)
    grads = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    dead = [name for name, grad in grads.items() if grad is None or not grad.abs().sum() > 0]
    assert not dead, f"no gradient: {dead}"
    left = {name.replace("base_model.model.", "").replace(".base_layer", ""): p for name, p in snapshot(net).items()}
    kept = {name: p for name, p in left.items() if name in before}
    moved = [name for name, p in kept.items() if not torch.allclose(p, before[name], atol=1e-6)]  # peft's attention
    assert len(kept) > 40 and not moved, f"a base weight moved: {moved}"  # adds and subtracts its adapter: rounding


def test_the_early_stages_of_the_trunk_have_no_adapter():
    targets = tune.lora_targets(pocket_like().net)
    stages = Counter(name.split("blocks.")[1][0] for name in targets if "blocks." in name)
    assert set(stages) == {"4", "5", "6"} and "visual.head.proj" in targets


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("lock_text", [True, False])
def test_tuning_changes_the_unlocked_towers_only(method, lock_text):
    model, (images, captions) = tiny(), some_pairs()
    before = snapshot(model.net)
    tuned, losses = tune.tune(model, images, captions, replace(QUICK, method=method, lock_text=lock_text))
    after = tuned.net.state_dict()
    assert set(after) == set(before), "merged: the names of the general model"
    moved = changed(before, after)
    assert moved and len(losses) == 4 and not tuned.net.training
    assert any(name.startswith("visual.") for name in moved)
    assert any(name.startswith("transformer.") for name in moved) != lock_text
    chosen = replace(QUICK, method=method, lock_text=lock_text)
    assert all(tune.tuned_name(name, chosen) for name in moved), "a moved tensor that is not saved"


def test_the_merged_model_is_the_adapted_one():
    model = tiny()
    net = tune.prepare(model.net, Settings(rank=4, lock_text=False))
    for seed in range(3):
        step(net, model, seed)
    pixels, tokens = torch.randn(4, 3, 32, 32), clip.tokenize(model, ["a", "b"])
    with torch.no_grad():
        adapted = net.encode_image(pixels), net.encode_text(tokens)
        with net.disable_adapter():
            general = net.encode_image(pixels)
        merged = net.merge_and_unload()
        torch.testing.assert_close((merged.encode_image(pixels), merged.encode_text(tokens)), adapted)
    assert (general - adapted[0]).abs().max() > 1e-3, "the adapters must have moved something"
    assert not any("lora" in name for name in merged.state_dict())


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'prompt': choose lora or full"):
        tune.prepare(tiny().net, Settings(method="prompt"))


def test_contrastive_loss_equals_two_cross_entropies():
    generator = torch.Generator().manual_seed(0)
    image, text = (functional.normalize(torch.randn(11, 7, generator=generator), dim=1) for _ in range(2))
    total = 0.0
    for i in range(11):
        row = [20 * float(image[i] @ text[j]) for j in range(11)]
        column = [20 * float(image[j] @ text[i]) for j in range(11)]
        total += np.log(np.exp(row).sum()) - row[i] + np.log(np.exp(column).sum()) - column[i]
    assert float(tune.contrastive_loss(image, text, torch.tensor(20.0))) == pytest.approx(total / 22, rel=1e-5)


def drawn(monkeypatch, angle: float, flip: bool, scale: float = 1.0) -> None:
    """Make `augment` draw this angle (in turns), mirror and crop."""
    values = iter([angle, 0.0 if flip else 0.9])
    monkeypatch.setattr(torch, "rand", lambda n, generator: torch.full((n,), next(values)))
    monkeypatch.setattr(tune, "CROP", (scale, scale))


@pytest.mark.parametrize(("turns", "flip"), [(0, False), (0, True), (0.25, False), (0.5, False), (0.75, True)])
def test_augment_turns_and_mirrors_by_what_was_drawn(monkeypatch, turns, flip):
    pixels = torch.rand(2, 3, 9, 9)
    drawn(monkeypatch, turns, flip)
    got = tune.augment(pixels, torch.Generator())
    candidates = [torch.rot90(pixels, k, (2, 3)) for k in (round(4 * turns), -round(4 * turns))]
    candidates = [c.flip(3) if flip else c for c in candidates] + [c.flip(2) for c in candidates if flip]
    assert min((got - c).abs().max() for c in candidates) < 1e-4


def test_augment_turns_a_marked_pixel_by_the_angle(monkeypatch):
    pixels = torch.zeros(1, 1, 65, 65)
    pixels[0, 0, 32, 56] = 1  # 24 pixels to the right of the centre
    pixels = functional.avg_pool2d(pixels, 3, 1, 1)
    for turns in (0.1, 1 / 6, 0.4):
        drawn(monkeypatch, turns, flip=False)
        row, column = divmod(int(tune.augment(pixels, torch.Generator()).argmax()), 65)
        angle = abs(np.arctan2(row - 32, column - 32)) / 2 / np.pi
        assert np.hypot(row - 32, column - 32) == pytest.approx(24, abs=1.5) and angle == pytest.approx(turns, abs=0.01)


def test_augment_crops_by_area(monkeypatch):
    ramp = torch.linspace(0, 1, 101).expand(1, 1, 101, 101)
    drawn(monkeypatch, 0, flip=False, scale=0.81)
    got = tune.augment(ramp, torch.Generator())[0, 0, 50]
    assert float(got[-1] - got[0]) == pytest.approx(0.9, abs=0.01)


def test_augment_draws_every_angle_and_both_mirrors():
    pixels = torch.zeros(400, 1, 33, 33)
    pixels[:, :, 14:19, 24:29], pixels[:, :, 24:29, 14:19] = 1, 3  # right, and below
    got = tune.augment(pixels, torch.Generator().manual_seed(0))
    again = tune.augment(pixels, torch.Generator().manual_seed(0))
    assert torch.equal(got, again) and got.shape == pixels.shape
    centre = torch.arange(33.0) - 16
    weights = (got > 2).float()
    x, y = (weights * centre).sum((1, 2, 3)), (weights * centre[:, None]).sum((1, 2, 3))
    quarter = ((torch.atan2(y, x) / torch.pi + 1) * 2).long().clamp(0, 3)
    assert np.bincount(quarter, minlength=4).min() > 60
    one = ((got > 0.7) & (got < 1.3)).float()
    turned = x * (one * centre[:, None]).sum((1, 2, 3)) - y * (one * centre).sum((1, 2, 3))
    assert 0.4 < (turned > 0).float().mean() < 0.6


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (8, 8), (5, 128)])
def test_batches_cover_an_epoch_without_repeats(count, batch):
    plan = tune.batches(count, Settings(batch=batch, epochs=4), torch.Generator().manual_seed(0))
    size = min(batch, count)
    each = count // size
    assert {len(index) for index in plan} == {size} and len(plan) == 4 * each
    for epoch in range(4):
        seen = sum(plan[epoch * each : (epoch + 1) * each], [])
        assert len(set(seen)) == len(seen) == each * size and set(seen) <= set(range(count))
    assert plan[:each] != plan[each : 2 * each], "every epoch has its own order"


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_rate_rises_then_falls_to_nearly_zero(steps):
    factors = [tune.rate(step, steps) for step in range(steps)]
    peak = max(1, steps // 10)
    assert max(factors) == 1 and min(factors) > 0
    assert factors[:peak] == sorted(factors[:peak]) and factors[peak:] == sorted(factors[peak:], reverse=True)
    assert steps < 7 or factors[-1] < 0.1
    assert steps < 100 or factors[55] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("lock_text", [True, False])
def test_a_drawn_caption_belongs_to_its_image(lock_text):
    model, (_, captions) = tiny(), some_pairs(16)
    texts = tune.Captions(model, captions, lock_text)
    generator = torch.Generator().manual_seed(0)
    picked = Counter()
    for _ in range(4):
        with torch.no_grad():
            vectors = texts.draw([3, 14, 0], generator)
        for i, vector in zip((3, 14, 0), vectors, strict=True):
            own = functional.normalize(torch.from_numpy(clip.encode_texts(model, captions[i])), dim=1)
            distance = (own - vector).abs().amax(1)
            assert distance.min() < 1e-4
            picked[int(distance.argmin())] += 1
    assert set(picked) == {0, 1}, "both captions get their turn"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_loss_falls(method):
    settings = Settings(method=method, rank=8, learning_rate=1e-2, batch=32, epochs=10)
    _, losses = tune.tune(tiny(), *some_pairs(), settings)
    assert len(losses) == 20 and np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.5
    assert np.mean(losses[-4:]) >= np.log(4) - 0.3, "four of the 32 share a colour: less would be a leak"


def test_the_same_seed_gives_the_same_losses():
    runs = [tune.tune(tiny(), *some_pairs(), replace(QUICK, seed=seed)) for seed in (3, 3, 4)]
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert not changed(runs[0][0].net.state_dict(), runs[1][0].net.state_dict())


def stand_ins(patch) -> list[str]:
    """The general model and the pairs of a scale, small; the list tells each time the pairs were read."""
    read = []

    def pairs(name, scale):
        read.append(name)
        return datasets.Pairs(name, *some_pairs(), [])

    patch.setattr(clip, "load", lambda scale, checkpoint=None: tiny())
    patch.setattr(datasets, "pairs", pairs)
    return read


@pytest.mark.parametrize("changes", [{"method": "full"}, {"lock_text": False}])
def test_the_domain_model_is_made_once(tmp_path, monkeypatch, capsys, changes):
    monkeypatch.chdir(tmp_path)
    stand_ins(monkeypatch)
    scale = replace(scales.get("mini"), epochs=1, batch=32, image_size=32)
    first, losses = tune.domain_model(scale, **changes)
    assert len(losses) == 2 and "computed" in capsys.readouterr().out
    second, again = tune.domain_model(scale, **changes)
    assert again == losses and "loaded" in capsys.readouterr().out
    images, captions = some_pairs(8)
    expected, _ = tune.tune(tiny(), *some_pairs(), tune.settings(scale, **changes))
    vectors = [clip.encode_images(model, images, quiet=True) for model in (tiny(), first, second, expected)]
    assert (vectors[1] == vectors[2]).all() and vectors[1] == pytest.approx(vectors[3], abs=1e-5)
    assert abs(vectors[0] - vectors[1]).max() > 1e-4
    words = [clip.encode_texts(model, [texts[0] for texts in captions]) for model in (first, second, expected)]
    assert (words[0] == words[1]).all() and words[0] == pytest.approx(words[2], abs=1e-5)
    tune.domain_model(scale, seed=1, **changes)
    tune.domain_model(scale, ("pocket", "ucm"), **changes)
    assert capsys.readouterr().out.count("computed") == 2, "other settings, other pairs: another model"
    monkeypatch.setattr(datasets, "pairs", lambda name, scale: datasets.Pairs(name, *some_pairs(40), []))
    tune.domain_model(scale, **changes)
    assert "computed" in capsys.readouterr().out, "other data under the same name: another model"


KILLED = """
import os, signal
from rs5m import scales, tune
import test_tune
import pytest
from dataclasses import replace
test_tune.stand_ins(pytest.MonkeyPatch())
def save_file(tensors, path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
tune.save_file = save_file
tune.domain_model(replace(scales.get("mini"), epochs=1, batch=32, image_size=32))
"""


def test_a_killed_tuning_leaves_nothing_that_is_taken_for_a_model(tmp_path, monkeypatch):
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    variables = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=variables,
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert list(tmp_path.glob("runs/mini/*/model.safetensors")), "it died with half a model written"
    monkeypatch.chdir(tmp_path)
    read = stand_ins(monkeypatch)
    _, losses = tune.domain_model(replace(scales.get("mini"), epochs=1, batch=32, image_size=32))
    assert read == ["pocket"] and len(losses) == 2
