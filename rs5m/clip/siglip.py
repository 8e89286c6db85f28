"""Folders of transformers' SiglipModel as open_clip's networks. Chapter: clip."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from rs5m.clip.export import counterpart
from rs5m.clip.openclip import open_clip

APPROXIMATE = {"gelu_pytorch_tanh": "tanh", "gelu": "none"}
TRUNK = (  # timm's names within the image tower, and those of transformers
    (r"^visual\.trunk\.", "vision_model."),
    (r"patch_embed\.proj", "embeddings.patch_embedding"),
    (r"\.pos_embed$", ".embeddings.position_embedding.weight"),
    (r"\.blocks\.", ".encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"layers\.(\d+)\.attn\.proj", r"layers.\1.self_attn.out_proj"),
    (r"layers\.(\d+)\.attn\.", r"layers.\1.self_attn."),
    (r"^vision_model\.norm\.", "vision_model.post_layernorm."),
    (r"attn_pool\.latent", "head.probe"),
    (r"attn_pool\.proj\.", "head.attention.out_proj."),
    (r"attn_pool\.norm\.", "head.layernorm."),
    (r"attn_pool\.mlp\.", "head.mlp."),
)


def network(folder: Path, name: str) -> tuple[nn.Module, object, int, str]:
    """An untrained network of the folder's sizes, its tokenizer, its image size in pixels and
    open_clip's name. ValueError where open_clip has no such SigLIP.
    """
    from transformers import SiglipConfig

    config = SiglipConfig.from_pretrained(folder)
    image, text = config.vision_config, config.text_config
    name = name or _named(image, text)
    acts = {APPROXIMATE.get(part.hidden_act) for part in (image, text)}
    if not name or len(acts) > 1 or None in acts:
        raise ValueError(
            f"{folder} holds a SiglipModel of {image.image_size} pixels and {text.hidden_size} "
            f"numbers with {image.hidden_act} and {text.hidden_act}, which open_clip does not have"
        )
    net = open_clip.create_model(name, load_weights=False)
    for module in net.modules():
        if isinstance(module, nn.GELU):
            module.approximate = next(iter(acts))
    length = text.max_position_embeddings
    tokenizer = open_clip.tokenizer.HFTokenizer(
        str(folder), context_length=length, clean="canonicalize"
    )
    return net, tokenizer, image.image_size, name


def _named(image, text) -> str:
    """open_clip's SigLIP of these sizes, the first one by name; "" where it has none."""
    wanted = (image.image_size, text.hidden_size, text.num_hidden_layers, text.vocab_size)
    for name in sorted(open_clip.list_models()):
        config = open_clip.get_model_config(name)
        vision, words = config["vision_cfg"], config["text_cfg"]
        trunk = str(vision.get("timm_model_name"))
        has = [vision.get("image_size"), *(words.get(key) for key in ("width", "layers"))]
        alike = (*has, words.get("vocab_size")) == wanted
        if alike and "siglip" in trunk and f"patch{image.patch_size}_" in trunk:
            return name
    return ""


def converted(net: nn.Module, theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SiglipModel's tensors under the names of open_clip's network; KeyError for a missing one."""
    found = {}
    for name, tensor in net.state_dict().items():
        if name in ("logit_scale", "logit_bias"):
            found[name] = theirs[name].reshape(tensor.shape)
        elif name.startswith("text."):
            found[name] = _of_text(name, theirs)
        else:
            found[name] = _of_trunk(name, theirs)
    return found


def _of_text(name: str, theirs: dict[str, torch.Tensor]) -> torch.Tensor:
    if name.startswith("text.text_projection."):
        return theirs[f"text_model.head.{name.rpartition('.')[2]}"]
    if parts := re.fullmatch(r"(.*\.attn\.)in_proj_(weight|bias)", name):
        thirds = (counterpart(f"{parts[1]}{part}_proj.{parts[2]}") for part in "qkv")
        return torch.cat([theirs[one] for one in thirds])
    return theirs[counterpart(name)]


def _of_trunk(name: str, theirs: dict[str, torch.Tensor]) -> torch.Tensor:
    kind = name.rpartition(".")[2]
    if found := re.search(r"attn_pool\.(q|kv)\.", name):
        whole = theirs[f"vision_model.head.attention.in_proj_{kind}"]
        third = len(whole) // 3
        return whole[:third] if found[1] == "q" else whole[third:]
    for pattern, put in TRUNK:
        name = re.sub(pattern, put, name)
    if name.endswith(f"self_attn.qkv.{kind}"):
        base = name.removesuffix(f"qkv.{kind}")
        return torch.cat([theirs[f"{base}{part}_proj.{kind}"] for part in "qkv"])
    tensor = theirs[name]
    return tensor[None] if "position_embedding" in name else tensor
