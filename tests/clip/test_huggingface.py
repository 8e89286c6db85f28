"""Folders of transformers as open_clip's networks: the same features as transformers' own."""

import json
import shutil

import pytest
import small_clip
import torch

from rs5m import clip
from rs5m.clip import export, huggingface

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["an aerial view of 3 airports, near the sea", "Wasser - grün!", "a", "x " * 40]
SIZES = {
    "small": {"patch_size": 8, "image_size": 24, "intermediate_size": 96},
    "of open_clip's usual proportions": {"patch_size": 16, "image_size": 32},
}


def config(act: str, vision: dict, **text):
    from transformers import CLIPConfig

    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "hidden_act": act, "projection_dim": 32}
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "max_position_embeddings": 20}
    return CLIPConfig(
        vision_config=tower | vision,
        text_config=tower | ends | {"vocab_size": 49408} | text,
        projection_dim=32,
    )


def written(folder, act="quick_gelu", vision=SIZES["small"], file="model.safetensors", **text):
    """A random CLIPModel with its folder; its biases and gains are not those of the start."""
    from transformers import CLIPModel

    torch.manual_seed(0)
    model = CLIPModel(config(act, vision, **text)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    model.save_pretrained(folder)
    if file.endswith(".bin"):
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / file)
    return model


@pytest.mark.parametrize("file", huggingface.WEIGHTS)
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("vision", SIZES.values(), ids=SIZES)
def test_features_are_those_of_transformers(tmp_path, act, vision, file):
    theirs = written(tmp_path, act, vision, file)
    norm = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(norm))
    model = clip.load(f"local-dir:{tmp_path}")
    assert (model.mean, model.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    size, tokens = vision["image_size"], model.tokenizer(TEXTS)
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    assert model.image_size == size and tokens.shape == (4, 20)
    small_clip.agree(model, theirs, pixels, TEXTS)
    assert model.net.logit_scale.item() == pytest.approx(theirs.logit_scale.item())


def test_what_was_exported_comes_back(tmp_path):
    small_clip.register(tmp_path)
    for quick in (True, False):
        model = small_clip.random(quick)
        folder = export.transformers(model, tmp_path / f"hf{quick}")
        again = clip.load(f"local-dir:{folder}")
        assert torch.equal(small_clip.logits(again.net), small_clip.logits(model.net))
        assert (again.name, again.mean, again.std) == (model.name, model.mean, model.std)
        assert again.tokenizer(TEXTS).equal(model.tokenizer(TEXTS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    written(folder)
    return folder


def edited(source, target, **changes):
    shutil.copytree(source, target)
    told = json.loads((target / "config.json").read_text())
    for key, value in changes.items():
        told["vision_config"][key] = value
    (target / "config.json").write_text(json.dumps(told))
    return f"local-dir:{target}"


BAD = {
    "two activations": ({"hidden_act": "gelu"}, "activations gelu and quick_gelu: open_clip has"),
    "another": ({"hidden_act": "relu"}, "has the activations relu and quick_gelu"),
    "eps": ({"layer_norm_eps": 1e-6}, "another layer_norm_eps than open_clip's"),
    "depth": ({"num_hidden_layers": 3}, "lacks vision_model.encoder.layers.2"),
    "heads": ({"num_attention_heads": 3}, "config.json makes no model .*not a multiple of the"),
    "width": ({"intermediate_size": 128}, "another shape has visual.transformer.resblocks.0.mlp"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_folder_that_does_not_fit_is_one_sentence(folder, tmp_path, what):
    changes, says = BAD[what]
    with pytest.raises(ValueError, match=says):
        clip.load(edited(folder, tmp_path / "x", **changes))


def test_a_folder_without_weights_or_with_half_a_configuration(folder, tmp_path):
    name = edited(folder, tmp_path / "x")
    (tmp_path / "x/model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="x has no model.safetensors or pytorch_model.bin"):
        clip.load(name)
    (tmp_path / "x/config.json").write_text('{"model_type": "cl')
    with pytest.raises(ValueError, match="config.json is damaged"):
        clip.load(name)
    (tmp_path / "x/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(OSError, match="is that of bert, and of transformers' models clip and sig"):
        clip.load(name)
    (tmp_path / "x/config.json").unlink()
    with pytest.raises(OSError, match="no open_clip_config.json, nor transformers' config.json"):
        clip.load(name)
