"""Folders that open_clip and transformers load, with the same features; and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import small
import small_clip
import torch
from torch.nn import functional

from rs5m import clip
from rs5m.clip import export, open_clip

pytestmark = pytest.mark.usefixtures("one_thread", "architectures")
TEXTS = ["an aerial view of 3 airports, near the sea", "Wasser - grün!", "a", "x " * 40]


def trained_like(quick: bool) -> clip.Model:
    """A random network whose biases and gains are not those of the start."""
    model = small_clip.random(quick)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return replace(model, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def pictures() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40, 56, 3), np.uint8) for _ in range(3)]


def normalised(vectors) -> np.ndarray:
    return functional.normalize(torch.as_tensor(vectors), dim=-1).numpy()


@pytest.mark.parametrize("quick", [True, False])
def test_a_folder_of_transformers_has_the_features(tmp_path, quick):
    from transformers import CLIPModel, CLIPProcessor

    model = trained_like(quick)
    folder = export.transformers(model, tmp_path / "deep" / "hf")
    theirs = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(folder)
    ready = processor(
        text=TEXTS, images=pictures(), return_tensors="pt", padding=True, truncation=True
    )
    with torch.inference_mode():
        got = theirs(**ready)
    image, text = normalised(got.image_embeds), normalised(got.text_embeds)
    ours = normalised(clip.encode_texts(model, TEXTS))
    assert np.abs(text - ours).max() < 1e-5 and np.std(ours) > 0.05
    exact = normalised(clip.encode_images(model, pictures(), quiet=True, exact=True))
    # their processor resizes as torchvision does, which moves some pixels by a grey level
    assert np.abs(image - exact).max() < 2e-3
    pixels = clip.preprocess(pictures(), model)
    with torch.inference_mode():
        vectors = theirs.get_image_features(pixels)
    vectors = normalised(getattr(vectors, "pooler_output", vectors))
    assert np.abs(vectors - exact).max() < 1e-5
    assert theirs.config.vision_config.hidden_act == ("quick_gelu" if quick else "gelu")
    assert theirs.logit_scale.item() == pytest.approx(model.net.logit_scale.item())


@pytest.mark.parametrize("quick", [True, False])
def test_a_folder_of_open_clip_has_the_features_and_the_normalisation(tmp_path, quick):
    model = trained_like(quick)
    written = export.openclip(model, tmp_path, recipe="x")
    assert written.name == "open_clip_model.safetensors"
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(TEXTS)
    with torch.inference_mode():
        text = net.eval().encode_text(tokens).numpy()
    assert np.abs(text - clip.encode_texts(model, TEXTS)).max() < 1e-5
    assert torch.equal(small_clip.logits(net), small_clip.logits(model.net))
    assert tuple(transform.transforms[-1].mean) == model.mean
    again = clip.load(f"local-dir:{tmp_path}")
    assert (again.mean, again.std, again.image_size) == (model.mean, model.std, 32)
    # and once more from what was loaded
    export.openclip(again, tmp_path / "again")
    third = clip.load(f"local-dir:{tmp_path / 'again'}")
    assert torch.equal(small_clip.logits(third.net), small_clip.logits(model.net))


def test_weights_beside_the_configuration_of_another_network_are_one_sentence(tmp_path):
    export.openclip(small_clip.random(True), tmp_path)
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["embed_dim"] += 8
    path.write_text(json.dumps(config))
    with pytest.raises(OSError, match="of two networks .*size mismatch for .*fetch both") as caught:
        clip.load(f"local-dir:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_transformers_does_not_take_open_clips_folder_for_its_own(tmp_path):
    from transformers import CLIPModel

    export.openclip(small.model(small.pocket()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["open_clip_model.safetensors"]
    with pytest.raises(OSError):
        CLIPModel.from_pretrained(tmp_path, local_files_only=True)


@pytest.mark.parametrize(
    "net",
    [
        small.pocket,
        lambda: small.vit(pool_type="avg"),
        lambda: small.vit(ls_init_value=0.1),
        lambda: small.vit(no_ln_pre=True),
        lambda: small.vit(attentional_pool=True),
    ],
)
def test_a_network_without_a_counterpart_is_refused(tmp_path, net):
    with pytest.raises(ValueError, match="no counterpart among transformers' CLIPModel"):
        export.transformers(small.model(net()), tmp_path / "hf")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty: name a new folder"):
        export.transformers(small.model(small.vit()), tmp_path)
