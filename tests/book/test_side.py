"""The layer beside the pocket's image tower: nothing changes before it learns, and then only it."""

import numpy as np
import pytest
import torch

from rs5m import clip, pocket, tune
from rs5m.book import models, scales, side
from rs5m.tune import loader

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def pairs():
    chips = pocket.chips("train")
    some = np.linspace(0, len(chips.labels) - 1, 192).astype(int)
    captions = [(chips.classes[chips.labels[i]],) for i in some]
    return loader.Memory([chips.images[i] for i in some], captions, 96)


def test_the_layer_starts_as_nothing_and_learns_alone(pairs):
    model, before = (models.general(scales.get("mini")) for _ in range(2))
    images = [pixels.permute(1, 2, 0).numpy() for pixels in pairs[np.arange(32), None].pixels]
    expected = clip.encode_images(before, images, quiet=True)
    side.attach(model)
    assert np.allclose(clip.encode_images(model, images, quiet=True), expected, atol=1e-6)

    model = models.general(scales.get("mini"))
    texts = sorted({texts[0] for texts in (pairs.captions(i) for i in range(len(pairs)))})
    losses = side.fit(model, pairs, tune.text_features(model, texts), seed=0)
    tower, was = model.net.visual.tower.state_dict(), before.net.visual.state_dict()
    assert all(torch.equal(tower[name], was[name]) for name in was)
    assert len(losses) == side.SETTINGS.epochs and np.mean(losses[-4:]) < losses[0] - 0.5
    own, early = side._encoded(model, pairs)
    layer = model.net.visual.side
    by_hand = own + early @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    found = clip.encode_images(model, images, quiet=True)
    assert np.allclose(found, by_hand[:32], atol=1e-4)
    assert abs(found - expected).max() > 0.01


def test_early_stages_are_those_of_the_trunk(pairs):
    """Beside a twin that asks timm for the stages."""
    model = models.general(scales.get("mini"))
    pixels = clip.normalise_pixels(pairs[np.arange(4), None].pixels.float() / 255, model)
    found = []
    trunk = model.net.visual.trunk
    hooks = [
        part.register_forward_hook(lambda part, given, x: found.append(x.clone()))
        for part in (trunk.bn1, *trunk.blocks[: side.STAGES])
    ]
    with torch.inference_mode():
        expected = model.net.visual(pixels)
        for hook in hooks:
            hook.remove()
        own, early = side.Staged(model.net.visual).parts(pixels)
    pooled = [stage.flatten(2) for stage in found]
    twin = torch.cat([p(stage) for stage in pooled for p in (_mean, _deviation)], 1)
    assert torch.allclose(own, expected, atol=1e-5) and torch.allclose(early, twin, atol=1e-5)


def _mean(x):
    return x.mean(2)


def _deviation(x):
    return ((x - x.mean(2, keepdim=True)) ** 2).sum(2).div(x.shape[2] - 1).sqrt()


def test_a_tower_without_such_stages_is_told():
    from small_tuning import tiny

    assert side.fits(models.general(scales.get("mini"))) and not side.fits(tiny())
