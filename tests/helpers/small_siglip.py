"""Small SigLIPs for tests: an architecture known to open_clip by name, and folders of transformers'
SiglipModel of its size.
"""

import json
from pathlib import Path

import torch

from rs5m.clip import open_clip

TRUNK, NAME, WORDS = "vit_rs5m_patch8_siglip_24", "rs5m-small-SigLIP", 40
CONFIG = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 24, "timm_model_name": TRUNK, "timm_model_pretrained": False,
                   "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {"context_length": 12, "vocab_size": WORDS, "width": 64, "heads": 2, "layers": 2,
                 "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
                 "norm_kwargs": {"eps": 1e-6}},
}  # fmt: skip


def register(folder: Path) -> None:
    """Let open_clip know it, and timm its trunk."""
    # behind rs5m.clip, which lets torchvision be imported beside a CPU-only torch
    from timm.models import _registry
    from timm.models.vision_transformer import VisionTransformer

    def small(pretrained=False, img_size=24, num_classes=0, **_):
        sizes = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
        return VisionTransformer(
            img_size=img_size, num_classes=0, class_token=False, global_pool="map", **sizes
        )

    _registry._model_entrypoints[TRUNK] = small
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder)


def written(folder, act="gelu_pytorch_tanh", pixels=24):
    """A random SiglipModel with its folder and a tokenizer of some words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "hidden_act": act}
    torch.manual_seed(0)
    words = {"vocab_size": WORDS, "max_position_embeddings": 12, "projection_size": 64}
    config = SiglipConfig(
        vision_config=tower | {"image_size": pixels, "patch_size": 8}, text_config=tower | words
    )
    model = SiglipModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    model.save_pretrained(folder)
    table = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i + 2 for i in range(WORDS - 2)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    return model
