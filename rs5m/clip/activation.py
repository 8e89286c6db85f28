"""QuickGELU or GELU: a network with the wrong one loads without an error and answers worse.
Chapter: clip.

open_clip builds GELU unless the architecture's name ends in -quickgelu; OpenAI's weights, and
GeoRSCLIP's that began from them, were trained with QuickGELU, x * sigmoid(1.702 x). A state dict
does not say which. So what is known is asked in this order: the header that
`rs5m.clip.checkpoints.export` writes, the names under which weights were released, open_clip's
table of pretrained weights; for a file of which nothing is known, photographs decide.

* ours: the photographs. They tell the two apart where the activation matters, as in a trained CLIP,
  whose units are mostly far below zero; a network for which both fit equally, or that recognises
  none of the pictures, gets no answer
* not measured: the probe on released weights, which are not part of this project's tests
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rs5m.clip.model import Model, crop, encode_images, encode_texts
from rs5m.clip.openclip import open_clip
from rs5m.pocket.pictures import photo

NAMES = {True: "QuickGELU", False: "GELU"}
PHOTOS = {  # what scikit-image, scikit-learn and matplotlib ship as files, in a few words
    "skimage/astronaut.png": "an astronaut in an orange space suit",
    "skimage/chelsea.png": "a cat",
    "skimage/coffee.png": "a cup of coffee on a wooden table",
    "skimage/camera.png": "a man behind a camera on a tripod",
    "skimage/rocket.jpg": "a rocket on a launch pad",
    "skimage/coins.png": "ancient coins",
    "skimage/page.png": "a page of a printed book",
    "skimage/brick.png": "a brick wall",
    "skimage/grass.png": "grass",
    "skimage/gravel.png": "gravel",
    "skimage/moon.png": "the surface of the moon",
    "skimage/hubble_deep_field.jpg": "galaxies in deep space",
    "skimage/ihc.png": "tissue under a microscope",
    "skimage/retina.jpg": "the retina of an eye",
    "skimage/motorcycle_left.png": "a motorcycle in a garage",
    "sklearn/china.jpg": "a Chinese temple",
    "sklearn/flower.jpg": "a flower",
    "matplotlib/grace_hopper.jpg": "a woman in a navy uniform",
}
# nats; a loss above half of chance's says that the pictures mean little to the network
KNOWS = 0.5 * math.log(len(PHOTOS))
# the other activation fits clearly better from this many nats, and this share of the loss
GAP, SHARE = 0.02, 0.1
QuickGELU = open_clip.transformer.QuickGELU


def _activations(net: nn.Module) -> list[nn.Module]:
    """The blocks of open_clip's own transformers, whose child `gelu` is the activation; timm's
    towers have none.
    """
    return [m for m in net.modules() if isinstance(getattr(m, "gelu", None), QuickGELU | nn.GELU)]


def uses(net: nn.Module) -> bool | None:
    """Whether a network computes QuickGELU; None where it has no part that could."""
    blocks = _activations(net)
    return not isinstance(blocks[0].gelu, nn.GELU) if blocks else None


@contextmanager
def switched(net: nn.Module) -> Iterator[None]:
    """The network with the other activation, for as long as the context lasts."""
    kept = [(block, block.gelu) for block in _activations(net)]
    try:
        for block, activation in kept:
            block.gelu = QuickGELU() if isinstance(activation, nn.GELU) else nn.GELU()
        yield
    finally:
        for block, activation in kept:
            block.gelu = activation


# ---------------------------------------------------------------- what is known


def cure(name: str, quick: bool) -> str:
    """What to load in place of an architecture of the wrong activation."""
    right = f"{name}-quickgelu" if quick else name.removesuffix("-quickgelu")
    known = right in open_clip.list_models()
    return f"load {right}" if known else f"build it with quick_gelu={quick}"


# ---------------------------------------------------------------- photographs decide


class Probe(NamedTuple):
    """Contrastive losses (nats) of the known photographs: as the network is, and with the other
    activation.
    """

    own: float
    other: float

    @property
    def other_fits(self) -> bool:
        """Whether the other activation fits clearly better, in a network that recognises the
        pictures.
        """
        return self.other < KNOWS and self.own - self.other > max(GAP, SHARE * self.own)


def probe(model: Model) -> Probe:
    """Both losses of the photographs in PHOTOS, at the network's own temperature."""
    own = _loss(model)
    with switched(model.net):
        return Probe(own, _loss(model))


def captions() -> list[str]:
    """The photographs' captions."""
    return [f"a photo of {words}" for words in PHOTOS.values()]


@cache
def pictures(size: int) -> np.ndarray:
    """The photographs as squares, uint8 (n, size, size, 3)."""
    return crop([np.array(photo(name)) for name in PHOTOS], size).permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def _loss(model: Model) -> float:
    image = encode_images(model, pictures(model.image_size), quiet=True)
    text = encode_texts(model, captions())
    image_features, text_features = (  # (photographs, dim) each
        functional.normalize(torch.from_numpy(vectors).double(), dim=-1)
        for vectors in (image, text)
    )
    logits = image_features @ text_features.T * float(model.net.logit_scale.exp())
    match = torch.arange(len(logits))
    by_image = functional.cross_entropy(logits, match)
    return float(by_image + functional.cross_entropy(logits.T, match)) / 2
