"""Small CLIPs for tests: two architectures known to open_clip by name, random or trained on the
known photographs.
"""

import json
import math
from pathlib import Path

import torch
from torch.nn import functional

from rs5m import clip
from rs5m.clip import Model, activation, open_clip

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
}
NAME = "rs5m-small"
NAMES = {False: NAME, True: f"{NAME}-quickgelu"}


def register(folder: Path) -> None:
    """Let open_clip know the two, which differ as ViT-B-32 and ViT-B-32-quickgelu do."""
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    (folder / f"{NAME}-quickgelu.json").write_text(json.dumps(CONFIG | {"quick_gelu": True}))
    open_clip.add_model_config(folder)


def random(quick: bool, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return clip.load(NAMES[quick])


def trained(quick: bool, seed: int, steps: int = 50, sparse: bool = True) -> Model:
    """A CLIP that learned the photographs with one activation, in about three seconds.

    sparse: its feed-forward units begin far below zero and weigh much in the sum, as in CLIPs after
    long training; there the two activations differ by as much as they pass on. Dense units hide the
    difference.
    """
    model = random(quick, seed)
    net = model.net.requires_grad_(True)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if sparse and "c_fc.bias" in name:
                weight.fill_(-3)
            if sparse and "c_proj.weight" in name:
                weight.mul_(30)
        net.logit_scale.fill_(math.log(100))
    net.token_embedding.requires_grad_(False)
    net.logit_scale.requires_grad_(False)
    pixels = clip.preprocess(activation.pictures(model.image_size), model)
    tokens = model.tokenizer(activation.captions())
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], weight_decay=0)
    match = torch.arange(len(tokens))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        image = functional.normalize(net.encode_image(pixels), dim=-1)
        text = functional.normalize(net.encode_text(tokens), dim=-1)
        logits = 100 * image @ text.T
        loss = functional.cross_entropy(logits, match)
        loss = (loss + functional.cross_entropy(logits.T, match)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.requires_grad_(False)
    return model


def logits(net: torch.nn.Module, seed: int = 0) -> torch.Tensor:
    """float32 logits (5, 4) of random pixels and tokens, by the network alone."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(5, 3, 32, 32, generator=generator)
    tokens = open_clip.get_tokenizer(NAME)(list("abcd"))
    with torch.inference_mode():
        image = net.encode_image(pixels, normalize=True)
        text = net.encode_text(tokens, normalize=True)
        return net.logit_scale.exp() * image @ text.T


def off(vectors, others) -> float:
    """The largest difference between features here and those of transformers, both normalised."""
    others = getattr(others, "pooler_output", others)
    ours, theirs = (
        functional.normalize(torch.as_tensor(v), dim=-1).numpy() for v in (vectors, others)
    )
    assert theirs.std() > 0.05
    return float(abs(ours - theirs).max())


def agree(model: Model, theirs, pixels: torch.Tensor, texts: list[str]) -> None:
    """The features of a model are those of transformers' own network, to 1e-5."""
    with torch.inference_mode():
        tokens = model.tokenizer(texts)
        assert off(clip.encode_pixels(model, pixels), theirs.get_image_features(pixels)) < 1e-5
        assert off(clip.encode_texts(model, texts), theirs.get_text_features(tokens)) < 1e-5
