"""What a vision-language model sees in a picture: frozen features, and the score that they get
against texts. Chapter: filters.
"""

from __future__ import annotations

import numpy as np

from rs5m.zeroshot import classifier, logits

VIEWS = (
    "a satellite image",
    "an aerial photograph",
    "a satellite view of land and sea",
    "a view of the earth from space",
    "a remote sensing image of {}",
)
SCENES = ("forest", "desert", "coast", "fields", "mountains", "islands", "snow and ice", "a city")
OTHERS = ("a photo of a person", "a photo of an animal", "a photo of food", "a photo of a flower",
          "a photo of a vehicle", "a photo of a building", "a photo of a room",
          "a drawn map with letters", "a logo", "a web page", "a diagram", "a book page",
          "a medical image", "a picture of stars", "a texture", "a colour gradient")  # fmt: skip


def features(model, images, batch: int = 32) -> np.ndarray:
    """Frozen image features (n, dim) float32 of uint8 images (h, w, 3), computed once for both
    criteria.

    The projected vector first; behind it, where the tower is a timm trunk, its pooled output and
    the means and deviations of its inner stages: drawn maps differ from views in texture, not in
    content.
    """
    import torch

    from rs5m import clip

    found = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            pixels = clip.preprocess(images[start : start + batch], model).to(clip.device())
            with clip.autocast():
                vectors = _vectors(model.net, pixels)
            found.append(torch.cat([v.float() for v in vectors], 1).cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def _vectors(net, pixels) -> list:
    trunk = trunk_of(net)
    if trunk is None:
        return [net.encode_image(pixels)]
    stages = len(trunk.feature_info)
    taken = range(1, 5) if stages > 4 else range(stages)
    last, inner = trunk.forward_intermediates(pixels, indices=list(taken))
    pooled = trunk.forward_head(last)
    return [
        net.visual.head(pooled),
        pooled,
        *(f(x.float(), (2, 3)) for x in inner for f in (_mean, _deviation)),
    ]


def trunk_of(net):
    """The timm trunk of an image tower, None where it has none that shows its inner stages."""
    trunk = getattr(net.visual, "trunk", None)
    return trunk if hasattr(trunk, "forward_intermediates") else None


def projected(net) -> int:
    """How many of the first `features` come from the head behind the trunk, whatever its layers
    are; without layers it passes the pooled output on.
    """
    trunk, layers = trunk_of(net), list(net.visual.head.parameters())
    return len(layers[-1]) if layers else trunk.num_features


def _mean(x, axes):
    return x.mean(axes)


def _deviation(x, axes):
    return x.std(axes)


def prompts(model) -> np.ndarray:
    """Unit vectors (2, dim), as of two classes: all prompts of views from above, all prompts of
    everything else.

    An ensemble for each side, not the best single prompt: the chapter measures both.
    """
    from rs5m import clip

    views = [v.format(s) for v in VIEWS for s in (SCENES if "{}" in v else ("",))]
    return np.concatenate(
        [classifier(clip.encode_texts(model, list(side))[None], "clip") for side in (views, OTHERS)]
    )


def score_features(vectors: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Score in 0..1 of features (n, >= dim) against `prompts`: what a softmax over the two gives to
    views.

    Ten times softer than CLIP's own, which rounds many scores to one and leaves no threshold
    between them.
    """
    z = logits(vectors[:, : text.shape[1]], text) / 10
    return 1 / (1 + np.exp(z[:, 1] - z[:, 0]))


def score(model, images) -> np.ndarray:
    """Vision-language score in 0..1 (n,): how much nearer an image is to views from above than to
    everything else.

    Paper: PUB11, outliers by a vision-language model.
    """
    return score_features(features(model, images), prompts(model))
