"""Folders that other libraries load: open_clip's local-dir, and transformers' CLIPModel. Chapter:
clip.

A folder of open_clip has open_clip_model.safetensors: transformers would take a model.safetensors
without a config.json for its own, and answer with a random network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from torch import nn

from rs5m.clip import checkpoints
from rs5m.clip.activation import uses
from rs5m.clip.model import Model
from rs5m.clip.openclip import open_clip
from rs5m.files import whole, whole_folder

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"  # open_clip's names
TOLERANCE = 1e-5  # of the features, at most, between the network and its copy in transformers
LAYERS = {"visual": "vision_model", "text": "text_model"}
MODULES = (  # open_clip's names within CLIP's towers, and those of transformers
    (r"^(?:text\.)?(token|positional)_embedding", r"text.\1_embedding"),
    (r"^(?:text\.)?(ln_final|transformer)\.", r"text.\1."),
    (r"transformer\.resblocks\.", "encoder.layers."),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"mlp\.c_fc", "mlp.fc1"),
    (r"mlp\.c_proj", "mlp.fc2"),
    (r"^visual\.conv1", "visual.embeddings.patch_embedding"),
    (r"^visual\.class_embedding", "visual.embeddings.class_embedding"),
    (r"^(visual|text)\.positional_embedding", r"\1.embeddings.position_embedding.weight"),
    (r"^text\.token_embedding", "text.embeddings.token_embedding"),
    (r"^visual\.ln_pre\.", "visual.pre_layrnorm."),  # their spelling
    (r"^visual\.ln_post\.", "visual.post_layernorm."),
    (r"^text\.ln_final\.", "text.final_layer_norm."),
    (r"^(visual|text)\.", lambda found: f"{LAYERS[found[1]]}."),
)


def openclip(model: Model, folder: str | Path, **more: object) -> Path:
    """Write a model as a folder that open_clip and `rs5m.clip.load` know as local-dir:FOLDER; the
    path of its weights.

    A network that no configuration of open_clip describes, such as the pocket's, is its weights
    alone. more: facts for the header of the weights, see `rs5m.clip.checkpoints.export`.
    """
    folder = Path(folder)
    written = checkpoints.export(model, folder / WEIGHTS, **more)
    if (config := _openclip_config(model)) is not None:
        with whole(folder / CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2))
    if hasattr(model.tokenizer, "tokenizer") and config:  # of transformers, for its text tower
        model.tokenizer.tokenizer.save_pretrained(folder)
    return written


def _openclip_config(model: Model) -> dict | None:
    architecture = open_clip.get_model_config(model.name) if model.name else None
    if architecture is None:
        return None
    if (quick := uses(model.net)) is not None:
        architecture["quick_gelu"] = quick
    if getattr(model.net, "positional_embedding", None) is not None:  # a text may be longer
        architecture["text_cfg"]["context_length"] = len(model.net.positional_embedding)
    preprocess = {"mean": list(model.mean), "std": list(model.std)}
    kept = getattr(model.net.visual, "preprocess_cfg", {})
    preprocess |= {key: kept[key] for key in ("interpolation", "resize_mode") if key in kept}
    return {"model_cfg": architecture, "preprocess_cfg": preprocess}


# ---------------------------------------------------------------- transformers


def transformers(model: Model, folder: str | Path) -> Path:
    """Write a model as a folder that transformers' CLIPModel and CLIPProcessor load; its path.

    The copy is compared with the network before the folder appears. ValueError for a network that
    CLIPModel cannot compute: only CLIP's vision transformer with CLIP's own text tower has a
    counterpart there. FileExistsError for a folder that is not empty.
    """
    from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor

    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a new folder")
    try:
        config = _transformers_config(model)
        copy = CLIPModel(config).eval()
        copy.load_state_dict(_converted(model.net))
    except (AttributeError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"{_refusal(model)} ({reason})") from error
    _compare(model, copy)
    size, place = model.image_size, {"image_mean": model.mean, "image_std": model.std}
    images = CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **place
    )
    if folder.is_dir():
        folder.rmdir()  # an empty one, over which some systems rename nothing
    with whole_folder(folder) as temporary:
        copy.save_pretrained(temporary)
        CLIPProcessor(images, _tokenizer(model)).save_pretrained(temporary)
    return folder


def counterpart(name: str) -> str:
    """transformers' name of a parameter or module within CLIP's towers, by open_clip's."""
    for pattern, put in MODULES:
        name = re.sub(pattern, put, name)
    return name


def is_clip(net: nn.Module) -> bool:
    """Whether both towers are the transformers of CLIP, whose layers CLIPModel has, too."""
    towers = net.visual, getattr(net, "text", net)
    return all(hasattr(getattr(tower, "transformer", None), "resblocks") for tower in towers)


def _refusal(model: Model) -> str:
    name = model.name or "this network"
    return f"{name} has no counterpart among transformers' CLIPModel: export it to open_clip"


def _transformers_config(model: Model):
    from transformers import CLIPConfig

    if not is_clip(model.net) or uses(model.net) is None:
        raise ValueError(_refusal(model))
    image, text = model.net.visual, getattr(model.net, "text", model.net)
    act = {"hidden_act": "quick_gelu" if uses(model.net) else "gelu"}
    dim = image.proj.shape[1]
    vision = {"image_size": model.image_size, "patch_size": image.conv1.kernel_size[0]}
    words, length = text.token_embedding.num_embeddings, text.positional_embedding.shape[0]
    tokens = {"vocab_size": words, "max_position_embeddings": length}
    # the marks of begin and end are the last two words
    tokens |= {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    return CLIPConfig(
        vision_config=vision | _sizes(image.transformer, dim) | act,
        text_config=tokens | _sizes(text.transformer, dim) | act,
        projection_dim=dim,
    )


def _sizes(tower: nn.Module, dim: int) -> dict:
    layer = tower.resblocks[0]
    return {
        "hidden_size": tower.width,
        "intermediate_size": layer.mlp.c_fc.out_features,
        "num_hidden_layers": len(tower.resblocks),
        "num_attention_heads": layer.attn.num_heads,
        "layer_norm_eps": layer.ln_1.eps,
        "projection_dim": dim,
    }


def _converted(net: nn.Module) -> dict[str, torch.Tensor]:
    """A network's tensors under transformers' names, on the CPU in float32."""
    tensors = {}
    for name, tensor in net.state_dict().items():
        tensor = tensor.detach().float().cpu()
        if name.endswith("text_projection"):
            tensors["text_projection.weight"] = tensor.T.contiguous()
        elif name == "visual.proj":
            tensors["visual_projection.weight"] = tensor.T.contiguous()
        elif found := re.fullmatch(r"(.*\.attn\.)in_proj_(weight|bias)", name):
            for part, value in zip("qkv", tensor.chunk(3), strict=True):
                tensors[counterpart(f"{found[1]}{part}_proj.{found[2]}")] = value.contiguous()
        elif name != "logit_scale":
            tensors[counterpart(name.replace("text.text_projection", "text_projection"))] = tensor
    return tensors | {"logit_scale": net.logit_scale.detach().float().cpu().reshape(())}


@torch.inference_mode()
def _compare(model: Model, copy: nn.Module) -> None:
    """ValueError where the copy computes other features than the network."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, model.image_size, model.image_size, generator=generator)
    tokens = model.tokenizer(["a photo of an airport", "water"])
    where = next(model.net.parameters())
    ours = (
        model.net.encode_image(pixels.to(where), normalize=True),
        model.net.encode_text(tokens.to(where.device), normalize=True),
    )
    theirs = copy.get_image_features(pixels), copy.get_text_features(tokens)
    for a, b in zip(ours, theirs, strict=True):
        b = getattr(b, "pooler_output", b)  # of transformers from 5 on
        off = float((a.float().cpu() - nn.functional.normalize(b, dim=-1)).abs().max())
        if not off <= TOLERANCE:
            raise ValueError(f"{_refusal(model)} (its features would be off by {off:.1e})")


def _tokenizer(model: Model):
    """CLIP's tokenizer as transformers has it, from open_clip's table of word parts."""
    from transformers import CLIPTokenizer

    ours = model.tokenizer
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {marks.get(word, word): number for word, number in ours.encoder.items()}
    options = {"model_max_length": ours.context_length}
    return CLIPTokenizer(vocab=words, merges=[tuple(pair) for pair in ours.bpe_ranks], **options)
