"""Folders of transformers' CLIPModel and SiglipModel as open_clip's networks: the way back of
`rs5m.clip.export.transformers`. Chapter: clip.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import torch
from torch import nn

from rs5m.clip import checkpoints, siglip
from rs5m.clip.export import counterpart
from rs5m.clip.known import FLAX, FLAX_WAY_OUT, WEIGHTS
from rs5m.clip.model import Model
from rs5m.clip.openclip import open_clip
from rs5m.device import device

CONFIG = "config.json"
ACTIVATIONS = {"quick_gelu": True, "gelu": False}
BICUBIC = 3  # Pillow's number of its filter
EPS = 1e-5  # of CLIP's layer norms, in both libraries
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def kind(folder: str | Path) -> str:
    """Which of NETWORKS a folder of transformers holds; "" for any other folder."""
    folder = Path(folder)
    if (folder / "open_clip_config.json").is_file() or not (folder / CONFIG).is_file():
        return ""
    found = model_type(folder)
    return found if found in NETWORKS else ""


def model_type(folder: Path) -> str:
    """What transformers calls the model of a folder; "" where its configuration does not say."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is damaged ({error}): fetch it again") from error
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def load(folder: str | Path, name: str = "") -> Model:
    """The model of a folder with config.json and weights, on the device.

    name: open_clip's name of the architecture, where it is known; "": by the sizes in the
    configuration. FileNotFoundError for missing weights; ValueError for a configuration that
    open_clip cannot compute, and for weights that do not fit, with the first names that differ.
    """
    folder = Path(folder)
    path = next((folder / one for one in WEIGHTS if (folder / one).is_file()), None)
    if path is None:
        flax = (folder / FLAX).is_file()
        cure = FLAX_WAY_OUT.replace("PLACE", repr(str(folder))) if flax else "put the weights there"
        raise FileNotFoundError(f"{folder} has no {' or '.join(WEIGHTS)}: {cure}")
    build, converted = NETWORKS[kind(folder)]
    try:
        net, tokenizer, size, found = build(folder, name)
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # transformers' own, for sizes that do not go together
        why = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"{folder / CONFIG} makes no model ({why}): fetch it again") from error
    tensors = checkpoints.read(path)
    try:
        state = converted(net, tensors)
    except KeyError as error:
        raise ValueError(
            f"{path} does not fit its {CONFIG}: it lacks {error.args[0]}: fetch both again"
        ) from error
    if unlike := checkpoints.difference(net, state):
        raise ValueError(f"{path} does not fit its {CONFIG}: {unlike}: fetch both again")
    net.load_state_dict(state)
    mean, std, squash = _preprocessing(folder)
    return Model(net.eval().to(device()), tokenizer, mean, std, size, found, squash)


def _preprocessing(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean, std and whether whole images are pressed into the square, as the folder says; a warning
    where it wants another filter than the bicubic one.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        # CLIPProcessor of transformers 5 writes one file for both
        path = folder / "processor_config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    told = told.get("image_processor", told)
    siglip = kind(folder) == "siglip"
    mean, std = ((0.5,) * 3,) * 2 if siglip else (MEAN, STD)
    size, filter_ = told.get("size"), told.get("resample", BICUBIC)
    squash = "height" in size if isinstance(size, dict) else siglip
    if filter_ != BICUBIC:
        warnings.warn(
            f"{path} asks for Pillow's filter {filter_}: images are resized by its bicubic one, "
            f"{BICUBIC}, so features will differ a little from those of transformers",
            stacklevel=3,
        )
    return tuple(told.get("image_mean", mean)), tuple(told.get("image_std", std)), squash


# ---------------------------------------------------------------- CLIPModel


def _clip(folder: Path, name: str) -> tuple[nn.Module, object, int, str]:
    from transformers import CLIPConfig

    config = CLIPConfig.from_pretrained(folder)
    image, text = config.vision_config, config.text_config
    quick = {ACTIVATIONS.get(part.hidden_act) for part in (image, text)}
    if len(quick) > 1 or None in quick:
        acts = f"{image.hidden_act} and {text.hidden_act}"
        raise ValueError(f"{folder / CONFIG} has the activations {acts}: open_clip has one for "
                         "both towers, quick_gelu or gelu")  # fmt: skip
    if {image.layer_norm_eps, text.layer_norm_eps} != {EPS}:
        raise ValueError(f"{folder / CONFIG} has another layer_norm_eps than open_clip's {EPS}")
    vision = {"image_size": image.image_size, "patch_size": image.patch_size}
    vision |= _tower(image) | {"head_width": image.hidden_size // image.num_attention_heads}
    words = {"context_length": text.max_position_embeddings, "vocab_size": text.vocab_size}
    words |= _tower(text) | {"heads": text.num_attention_heads}
    whole = {"embed_dim": config.projection_dim, "quick_gelu": quick.pop()}
    net = open_clip.CLIP(**whole, vision_cfg=vision, text_cfg=words)
    tokenizer = open_clip.SimpleTokenizer(context_length=text.max_position_embeddings)
    if tokenizer.vocab_size != text.vocab_size:
        tokenizer = open_clip.tokenizer.HFTokenizer(
            str(folder), context_length=text.max_position_embeddings
        )
    return net, tokenizer, image.image_size, name or _named(whole, vision, words)


def _tower(config) -> dict:
    ratio = config.intermediate_size / config.hidden_size
    return {"layers": config.num_hidden_layers, "width": config.hidden_size, "mlp_ratio": ratio}


def _named(whole: dict, vision: dict, words: dict) -> str:
    """open_clip's name of the architecture with these sizes; "" where it has none."""
    usual = {"head_width": 64, "mlp_ratio": 4.0, "context_length": 77, "vocab_size": 49408}
    for name in open_clip.list_models():
        config = {"quick_gelu": False} | open_clip.get_model_config(name)
        pairs = ((whole, config), (vision, config["vision_cfg"]), (words, config["text_cfg"]))
        alike = all((usual | has).get(key) == want[key] for want, has in pairs for key in want)
        plain = not config.get("custom_text") and "hf_model_name" not in config["text_cfg"]
        if alike and plain and len(config["vision_cfg"]) <= 6:
            return name
    return ""


def _of_clip(net: nn.Module, theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """CLIPModel's tensors under the names of open_clip's network; KeyError for a missing one."""
    found = {"logit_scale": theirs["logit_scale"].reshape(())}
    for name in net.state_dict():
        if name == "text_projection":
            found[name] = theirs["text_projection.weight"].T.contiguous()
        elif name == "visual.proj":
            found[name] = theirs["visual_projection.weight"].T.contiguous()
        elif parts := re.fullmatch(r"(.*\.attn\.)in_proj_(weight|bias)", name):
            thirds = (counterpart(f"{parts[1]}{part}_proj.{parts[2]}") for part in "qkv")
            found[name] = torch.cat([theirs[one] for one in thirds])
        elif name != "logit_scale":
            found[name] = theirs[counterpart(name)]
    return found


NETWORKS = {"clip": (_clip, _of_clip), "siglip": (siglip.network, siglip.converted)}
