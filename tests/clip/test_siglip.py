"""Folders of transformers' SiglipModel as open_clip's networks: transformers' own features."""

import json
from io import BytesIO

import numpy as np
import pytest
import small_clip
import torch
from PIL import Image
from small_siglip import NAME, register, written

from rs5m import clip
from rs5m.clip import factory
from rs5m.data import datasets
from rs5m.evaluate import features

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
    with pytest.raises(
        ValueError, match="SiglipModel of 32 pixels and 64 numbers .* does not have"
    ):
        clip.load(f"local-dir:{tmp_path}")


def test_pixels_are_those_of_transformers_processor(tmp_path):
    """A whole image pressed into the square, at every shape; CLIP's folders cut the centre out."""
    import transformers

    written(tmp_path)
    model = clip.load(f"local-dir:{tmp_path}")
    slow = "SiglipImageProcessorPil"  # since 5; before, the plain name is the one with Pillow
    make = getattr(transformers, slow, transformers.SiglipImageProcessor)
    theirs = make(size={"height": 24, "width": 24})
    generator = np.random.default_rng(0)
    shapes = ((24, 24), (40, 100), (100, 30), (7, 9))
    pictures = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    wanted = [theirs(Image.fromarray(one), return_tensors="pt").pixel_values for one in pictures]
    torch.testing.assert_close(clip.preprocess(pictures, model), torch.cat(wanted))
    files = [BytesIO() for _ in pictures]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file, "PNG")
    images = datasets.Images([str(i) for i in range(4)], lambda i: files[i].getvalue())
    with torch.inference_mode():
        vectors = model.net.encode_image(torch.cat(wanted)).numpy()
    np.testing.assert_allclose(
        features.encode(model, images, quiet=True).vectors, vectors, atol=1e-4
    )
    assert features.identity(model)["squash"] is True


def test_a_folder_says_how_its_images_are_resized(tmp_path):
    written(tmp_path)
    told = {"size": {"shortest_edge": 24}, "resample": 2, "image_mean": [0.1] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    with pytest.warns(UserWarning, match="asks for Pillow's filter 2: .* bicubic"):
        model = clip.load(f"local-dir:{tmp_path}")
    assert model.squash is False and model.mean == (0.1,) * 3


def test_weights_of_an_architecture_without_a_tag_are_read_as_its_releases_are(tmp_path):
    usual = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "image_resize_mode": "squash"}
    assert factory._usual("ViT-B-16-SigLIP-256") == usual
    assert factory._usual("ViT-B-32-quickgelu").get("image_resize_mode") != "squash"
    assert factory._usual(NAME) == {}
