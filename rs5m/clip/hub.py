"""Models by name, and what the hub gives for them, said before it is fetched. Chapter: clip."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rs5m import files
from rs5m.clip import known
from rs5m.clip.remote import PREFIX, general, remote

TAGS = {  # the general weights that the paper's models stand on, by architecture
    "ViT-B-32-quickgelu": "openai",
    "RN50x64-quickgelu": "openai",
    "ViT-H-14": "laion2b_s32b_b79k",
}
OPTION = "--checkpoint"
WAYS_OUT = (
    f"name a file of its weights with {OPTION}, connect to the hub (or point HF_HOME at a "
    "folder that has them), or do without: --model pocket"
)


@cache
def model_of(
    name: str, checkpoint: str, size: int = 0, ways_out: str = WAYS_OUT, option: str = OPTION
):
    """A model by name, loaded once for the check and the run. ValueError for a name that needs a
    file of weights; OSError with the ways out where its weights are not available.

    Args:
        name: of `rs5m.clip.load`, or NAME@TAG for open_clip's weights of that tag.
        checkpoint: a file of its weights, empty for those of the hub.
        size: pixels for the pocket's, 0 for the model's own.
        ways_out: what else a user can do.
        option: what the command calls `checkpoint`.
    """
    from rs5m import clip

    if name == "pocket" and size and not checkpoint:
        from rs5m.clip.pocket import pocket_model

        return pocket_model(size)
    tag, name = _tag(name, checkpoint, option), parted(name)[0]
    try:
        if tag:
            weights(name, tag)
        return clip.load(name, tag, checkpoint or None)
    except FileNotFoundError:
        raise
    except OSError as error:
        if name.startswith("local-dir:"):
            raise
        raise OSError(f"{error}; what helps: {ways_out.replace(OPTION, option)}") from error


def identity(name: str, checkpoint: str = "", option: str = OPTION) -> str:
    """A model's name with a digest of the weights that will be loaded, fetched if need be; nothing
    is built. Arguments and errors as in `model_of`.
    """
    model, tag = name, _tag(name, checkpoint, option)
    name, _ = parted(model)
    try:
        if checkpoint:
            path = Path(checkpoint)
            if not path.is_file():
                raise FileNotFoundError(f"{path} is not a file: check the spelling of {option}")
        elif name in known.models() and known.models()[name].format != "open_clip":
            path = known.weights(name)
        elif name in known.models():
            path = remote(f"{PREFIX}{known.models()[name].source}")
        elif name.startswith(PREFIX):
            path = remote(name)
        elif tag:
            path = weights(name, tag)
        else:  # the pocket's, or an address that names its folder
            return name
        return f"{model} {files.sha256(path)[:12]}"
    except OSError as error:
        raise OSError(f"{error}; what helps: {WAYS_OUT.replace(OPTION, option)}") from error


def weights(name: str, tag: str) -> Path:
    """The file of an architecture's general weights in the hub's cache. What is about to be fetched
    is printed; OSError where the hub does not answer, at once and not after the minute in which
    open_clip tries again.
    """
    from rs5m.clip import open_clip

    try:
        return general(name, open_clip.get_pretrained_cfg(name, tag)["hf_hub"])
    except LookupError as error:
        raise OSError(f"the hub does not give the weights of {name} ({error.args[0]})") from error


def parted(model: str) -> tuple[str, str]:
    """Name and tag of NAME@TAG; "" for no tag, as an address such as local-dir:FOLDER has none."""
    name, _, tag = model.partition("@")
    return (model, "") if ":" in model else (name, tag)


def _tag(model: str, checkpoint: str, option: str) -> str | None:
    """The tag of the weights to fetch; ValueError, before they are, for one that there is not."""
    name, given = parted(model)
    if given and checkpoint:
        raise ValueError(f"{name}@{given} and {option} both name weights: leave one out")
    if given:
        from rs5m.clip import factory

        known.check_single(name, given)
        factory.of_weights(name, given)
        return given
    tag = None if checkpoint else TAGS.get(name)
    if not (tag or checkpoint or name in ("pocket", *known.models()) or ":" in name):
        from rs5m.clip import open_clip

        if name not in (theirs := open_clip.list_models()):
            raise ValueError(known.unknown(name, theirs))
        near = known.near(name, list(TAGS))
        others = f", or choose {', '.join(near)}" if near else ""
        raise ValueError(f"{name} needs weights: name their file with {option}{others}")
    return tag
