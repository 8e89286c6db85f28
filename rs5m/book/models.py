"""The general models of a scale."""

from rs5m import clip
from rs5m.book.scales import Scale
from rs5m.clip import hub


def general(scale: Scale) -> clip.Model:
    """The general model of a scale (the paper's GVLM): the pocket's, or open_clip's with its
    pretrained weights.
    """
    return (
        clip.pocket_model(scale.image_size)
        if scale.model == "pocket"
        else _loaded(scale.model, scale.pretrained)
    )


def second(scale: Scale) -> clip.Model:
    """Another general model of a scale, so that no single model's taste ranks the captions.
    Chapter: captions.

    The paper's is CLIP's RN50x64; the pocket's has EfficientNet-Lite2 as its trunk.
    """
    return (
        clip.pocket_model(scale.image_size, "lite2")
        if scale.model == "pocket"
        else _loaded("RN50x64-quickgelu", "openai")
    )


def _loaded(name: str, tag: str | None) -> clip.Model:
    """open_clip's network; its weights are asked of the hub first, which says what comes and how
    much. OSError at once, with the hub's answer, where it does not come.
    """
    if tag and hub.TAGS.get(name) == tag:
        try:
            hub.weights(name, tag)
        except OSError as error:
            cure = "connect to the hub and run it again, or point HF_HOME at a folder that has them"
            raise OSError(f"{error}: {cure}") from error
    return clip.load(name, tag)
