"""The general models of a scale."""

from rs5m import clip
from rs5m.book.scales import Scale


def general(scale: Scale) -> clip.Model:
    """The general model of a scale (the paper's GVLM): the pocket's, or open_clip's with its
    pretrained weights.
    """
    return (
        clip.pocket_model(scale.image_size)
        if scale.model == "pocket"
        else clip.load(scale.model, scale.pretrained)
    )


def second(scale: Scale) -> clip.Model:
    """Another general model of a scale, so that no single model's taste ranks the captions.
    Chapter: captions.

    The paper's is CLIP's RN50x64; the pocket's has EfficientNet-Lite2 as its trunk.
    """
    return (
        clip.pocket_model(scale.image_size, "lite2")
        if scale.model == "pocket"
        else clip.load("RN50x64-quickgelu", "openai")
    )
