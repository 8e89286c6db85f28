"""Folders of transformers' SiglipModel as open_clip's networks: transformers' own features."""

import pytest
import small_clip
import torch
from small_siglip import NAME, register, written

from rs5m import clip

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["w1 w2 w3", "w9", "w4 w4 " * 9]


@pytest.fixture(scope="module", autouse=True)
def architecture(tmp_path_factory):
    register(tmp_path_factory.mktemp("architectures"))


@pytest.mark.parametrize("act", ["gelu_pytorch_tanh", "gelu"])
def test_features_are_those_of_transformers(tmp_path, act):
    theirs = written(tmp_path, act)
    model = clip.load(f"local-dir:{tmp_path}")
    assert (model.name, model.image_size, model.mean) == (NAME, 24, (0.5, 0.5, 0.5))
    tokens = model.tokenizer(TEXTS)
    assert tokens.shape == (3, 12) and tokens.unique().numel() > 4
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    small_clip.agree(model, theirs, pixels, TEXTS)
    assert model.net.logit_bias.item() == pytest.approx(theirs.logit_bias.item())


def test_a_siglip_that_open_clip_lacks_is_refused(tmp_path):
    written(tmp_path, pixels=32)
    with pytest.raises(ValueError, match="a SiglipModel of 32 pixels and 64 numbers .* none such"):
        clip.load(f"local-dir:{tmp_path}")
