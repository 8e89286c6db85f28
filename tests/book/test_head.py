"""The linear head on frozen features: agreement with the whole model, determinism, gradients, bad
input.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rs5m import clip, pocket
from rs5m.book import head, models, scales
from rs5m.tune import schedule
from rs5m.zeroshot import normalise


@pytest.fixture(scope="module")
def model():
    return models.general(scales.get("mini"))


@pytest.fixture(scope="module")
def chips():
    return pocket.chips("train")


@pytest.mark.slow
def test_features_times_head_are_the_models_vectors(model, chips):
    rows = head.features(model, chips.images[:5], (0, 90), quiet=True)
    turned = [np.ascontiguousarray(np.rot90(image)) for image in chips.images[:5]]
    upright, quarter = (
        clip.encode_images(model, images, quiet=True) for images in (list(chips.images[:5]), turned)
    )
    found = rows @ head.weight(model).T
    assert np.allclose(found[:, 0], upright, atol=1e-6)
    # resized bytes round the other way
    assert ((normalise(found[:, 1]) * normalise(quarter)).sum(1) > 0.999).all()


def pairs(model, chips, count=256):
    index = np.linspace(0, len(chips.labels) - 1, count).astype(int)
    names = [(chips.classes[chips.labels[i]],) for i in index]
    rows = head.features(model, chips.images[index], (0,), quiet=True)
    return rows, names, chips.labels[index]


@pytest.mark.slow
def test_a_tuned_head_learns_its_pairs_the_same_way_twice_and_leaves_the_model(model, chips):
    rows, texts, labels = pairs(model, chips)
    before, names = head.weight(model), normalise(clip.encode_texts(model, chips.classes))
    first, losses = head.fit(model, rows, texts, replace(head.SETTINGS, batch_size=64))
    again, _ = head.fit(model, rows, texts, replace(head.SETTINGS, batch_size=64))
    other, _ = head.fit(model, rows, texts, replace(head.SETTINGS, batch_size=64, seed=1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(before, head.weight(model)) and np.mean(losses[-4:]) < losses[0]
    right = [((rows[:, 0] @ w.T) @ names.T).argmax(1) == labels for w in (before, first)]
    assert right[1].mean() > right[0].mean() + 0.2
    assert np.array_equal(head.weight(head.attach(model, first)), first)
    assert np.array_equal(before, head.weight(model))


@pytest.mark.slow
def test_one_step_moves_the_head_as_autograd_through_the_whole_model_would(model, chips):
    rows, texts, _ = pairs(model, chips, 16)
    settings = replace(head.SETTINGS, batch_size=16, epochs=1, weight_decay=0.0)
    moved = head.fit(model, rows, texts, settings)[0] - head.weight(model)
    generator = torch.Generator().manual_seed(settings.seed)
    order = schedule.batches(16, settings, generator)[0]
    torch.randint(1, (16,), generator=generator)
    drawn = head.draw([texts[i] for i in order], generator)
    text = torch.from_numpy(normalise(clip.encode_texts(model, drawn)))
    layer = torch.nn.Linear(rows.shape[2], moved.shape[0], bias=False)
    layer.weight.data.copy_(torch.from_numpy(head.weight(model)))
    image = torch.nn.functional.normalize(layer(torch.from_numpy(rows[order, 0])), dim=-1)
    logits = model.net.logit_scale.exp().detach() * image @ text.T
    target = torch.arange(16)
    loss = torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(
        logits.T, target
    )
    loss.backward()
    gradient = layer.weight.grad.numpy()
    # Adam's first step is the sign of the gradient
    large = np.abs(gradient) > np.quantile(np.abs(gradient), 0.5)
    assert np.array_equal(np.sign(moved)[large], -np.sign(gradient)[large])


def test_bad_input(model, chips):
    rows, texts, _ = pairs(model, chips, 16)
    with pytest.raises(ValueError, match="16 lists of captions"):
        head.fit(model, rows[:3], texts)
    with pytest.raises(ValueError, match="image 0 is float64"):
        head.features(model, [np.zeros((4, 4, 3))])
    bare = replace(model, net=torch.nn.Module())
    bare.net.visual = torch.nn.Identity()
    with pytest.raises(ValueError, match="no single linear layer"):
        head.weight(bare)


@pytest.mark.parametrize("vision", [{"layers": 1, "patch_size": 16}, {"layers": [1, 1, 1, 1]}])
def test_a_head_behind_a_tower_of_clip_is_folded_into_its_last_projection(vision, tmp_path):
    """ViT and ResNet: the vectors of the model with the head are the head times its vectors."""
    from rs5m.clip import open_clip

    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "width": 16, "head_width": 8} | vision
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    name = f"rs5m-head-{type(vision['layers']).__name__}"
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    model = clip.load(name)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
    rows = head.features(model, pictures, angles=(0,), quiet=True)[:, 0]
    assert np.array_equal(head.weight(model), np.eye(12, dtype=np.float32))
    tuned = np.random.default_rng(1).normal(size=(12, 12)).astype(np.float32)
    after = clip.encode_images(head.attach(model, tuned), pictures, quiet=True)
    assert np.allclose(normalise(after), normalise(rows @ tuned.T), atol=0.02)  # bf16
    assert not np.allclose(normalise(after), normalise(rows), atol=0.1)
