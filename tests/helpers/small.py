"""Small pictures and networks, made in one place; importable by a child process."""

import io

import numpy as np
import torch
from PIL import Image
from torch import nn

from rs5m import clip
from rs5m.clip import Model, open_clip

SIDE = 32  # pixels
CFG = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TEXT = open_clip.CLIPTextCfg(**CFG)
HALF = (0.5,) * 3


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """A picture as the bytes of a file; PNG keeps every pixel."""
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def vit(
    seed: int = 0, text: open_clip.CLIPTextCfg = TEXT, dim: int = 32, **vision
) -> open_clip.CLIP:
    """CLIP's two transformers, random."""
    torch.manual_seed(seed)
    usual = {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    return open_clip.CLIP(dim, open_clip.CLIPVisionCfg(**usual | vision), text).eval()


def pocket(
    seed: int = 0, text: open_clip.CLIPTextCfg = TEXT, side: int = SIDE
) -> open_clip.CustomTextCLIP:
    """The pocket model's convolutional image tower, random, with a small text tower."""
    torch.manual_seed(seed)
    vision = open_clip.CLIPVisionCfg(
        **clip.TOWERS["image"], timm_model_name="tf_efficientnet_lite0", image_size=side
    )
    return open_clip.CustomTextCLIP(32, vision, text).eval()


def model(net: nn.Module, mean: tuple = HALF, std: tuple = HALF) -> Model:
    """A network that reads pictures of SIDE pixels and texts of 16 tokens, as a model."""
    return Model(net, open_clip.tokenizer.SimpleTokenizer(context_length=16), mean, std, SIDE)
