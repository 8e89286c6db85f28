"""QuickGELU or GELU: networks trained here with one of them, found out in a network that computes
the other.
"""

import math
import warnings

import numpy as np
import pytest
import small
import small_clip
import torch

from rs5m import clip
from rs5m.book import models
from rs5m.clip import activation, checkpoints, factory
from rs5m.pocket.pictures import photo

pytestmark = pytest.mark.usefixtures("one_thread", "architectures")


@pytest.fixture(
    scope="module", params=[(quick, seed) for quick in (True, False) for seed in (0, 1)]
)
def learned(request, tmp_path_factory):
    """A trained network's activation, and its weights as a plain state dict of which nothing is
    known.
    """
    quick, seed = request.param
    path = tmp_path_factory.mktemp("learned") / "epoch_7.pt"
    torch.save(small_clip.trained(quick, seed).net.state_dict(), path)
    return quick, path


def silent(load):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load()


@pytest.mark.slow
def test_the_photographs_find_the_wrong_activation(learned):
    quick, path = learned
    right = silent(lambda: clip.load(small_clip.NAMES[quick], checkpoint=path))
    cure = f"load {small_clip.NAMES[quick]}$"
    with pytest.warns(
        UserWarning, match=f"{path.name} fits {activation.NAMES[quick]} clearly better .*: {cure}"
    ):
        wrong = clip.load(small_clip.NAMES[not quick], checkpoint=path)
    assert activation.probe(right) == pytest.approx(activation.probe(wrong)[::-1], rel=1e-4)


@pytest.mark.slow
def test_the_probe_leaves_the_network_as_it_was(learned):
    quick, path = learned
    model = clip.load(small_clip.NAMES[quick], checkpoint=path)
    before = small_clip.logits(model.net)
    with pytest.raises(KeyboardInterrupt), activation.switched(model.net):
        assert activation.uses(model.net) is not quick
        assert not torch.equal(small_clip.logits(model.net), before)
        raise KeyboardInterrupt
    assert activation.uses(model.net) is quick and torch.equal(small_clip.logits(model.net), before)


@pytest.mark.parametrize("quick", [True, False])
def test_an_untrained_network_gets_no_answer(quick, tmp_path):
    for seed in range(2):
        path = tmp_path / f"{seed}.pt"
        torch.save(small_clip.random(quick, seed).net.state_dict(), path)
        for built in (True, False):
            silent(lambda name=small_clip.NAMES[built], path=path: clip.load(name, checkpoint=path))


@pytest.mark.slow
@pytest.mark.parametrize("quick", [True, False])
def test_where_the_activation_hardly_matters_nothing_is_said(quick, tmp_path):
    """The limit of the probe: dense units, every picture learned by heart; either activation
    answers alike.
    """
    model = small_clip.trained(quick, 0, steps=25, sparse=False)
    found = activation.probe(model)
    assert found.own < 1 < activation.KNOWS and abs(found.own - found.other) < 0.02  # chance is 2.9
    torch.save(model.net.state_dict(), tmp_path / "dense.pt")
    silent(lambda: clip.load(small_clip.NAMES[not quick], checkpoint=tmp_path / "dense.pt"))


@pytest.mark.parametrize(
    ("own", "other", "says"),
    [
        (0.5, 0.4, True),
        (0.5, 0.46, False),
        (0.02, 0.001, False),
        (0.03, 0.001, True),
        (3.2, 2.8, False),
        (1.0, 0.2, True),
        (2.9, 1.4, True),
        (0.2, 0.5, False),
        (math.nan, 0.1, False),
    ],
)
def test_what_counts_as_clear(own, other, says):
    assert activation.Probe(own, other).other_fits is says


def test_the_loss_is_that_of_the_formula():
    """Softmax by hand over the similarities, both ways, picture by picture."""
    model = small_clip.random(True)
    pictures = [np.array(photo(name)) for name in activation.PHOTOS]
    image = clip.encode_images(model, pictures, quiet=True).astype(float)
    text = clip.encode_texts(model, activation.captions()).astype(float)
    image, text = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (image, text))
    scores = np.exp(image @ text.T * math.exp(model.net.logit_scale.item()))
    each = [
        -math.log(scores[i, i] / scores[i].sum()) - math.log(scores[i, i] / scores[:, i].sum())
        for i in range(18)
    ]
    assert activation.probe(model).own == pytest.approx(sum(each) / 36, rel=1e-5)


@pytest.mark.parametrize("quick", [True, False])
def test_our_header_knows(quick, tmp_path):
    path = checkpoints.export(small_clip.random(quick), tmp_path / "model.safetensors")
    assert (
        silent(lambda: clip.load(small_clip.NAMES[quick], checkpoint=path)).name
        == small_clip.NAMES[quick]
    )
    says = (
        f"trained with {activation.NAMES[quick]} .by its header.* load {small_clip.NAMES[quick]}$"
    )
    with pytest.raises(ValueError, match=says):
        clip.load(small_clip.NAMES[not quick], checkpoint=path)


def test_the_names_of_released_files_are_known(tmp_path):
    path = tmp_path / "RS5M_ViT-B-32.pt"
    torch.save(small_clip.random(True).net.state_dict(), path)
    silent(lambda: clip.load(small_clip.NAMES[True], checkpoint=path))
    with pytest.raises(
        ValueError, match="RS5M_ViT-B-32.pt was trained with QuickGELU .as released under that name"
    ):
        clip.load(small_clip.NAMES[False], checkpoint=path)


def test_open_clips_table_is_asked_before_anything_is_fetched():
    with pytest.raises(
        ValueError, match="openai of ViT-B-32 were trained with QuickGELU.*load ViT-B-32-quickgelu$"
    ):
        clip.load("ViT-B-32", "openai")
    with pytest.raises(
        ValueError, match="unknown weights 'openai' of ViT-H-14: choose laion2b_s32b_b79k"
    ):
        clip.load("ViT-H-14", "openai")


def test_the_second_ranker_is_built_with_quickgelu(monkeypatch):
    """OpenAI's RN50x64 as well: its text tower computes QuickGELU."""
    asked = []
    monkeypatch.setattr(clip, "load", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(models.hub, "weights", lambda *_: None)  # there
    from rs5m.book import scales

    models.second(scales.get("colab"))
    assert asked == [("RN50x64-quickgelu", "openai")] and factory.of_tag(*asked[0])
    assert clip.open_clip.get_model_config(asked[0][0])["quick_gelu"]


def test_towers_without_the_activation_are_left_alone():
    net = small.pocket()
    assert activation.uses(net.visual) is None and activation.uses(net) is False
