"""Models by name, and what the hub gives for them, said before it is fetched. Chapter: clip."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rs5m import files
from rs5m.clip import known

TAGS = {  # the general weights that the paper's models stand on, by architecture
    "ViT-B-32-quickgelu": "openai",
    "RN50x64-quickgelu": "openai",
    "ViT-H-14": "laion2b_s32b_b79k",
}
WEIGHTS = "open_clip_model.safetensors"  # of one of TAGS, on the hub
PICKLED, CONFIG = "open_clip_pytorch_model.bin", "open_clip_config.json"
REMOTE = "hf-hub:"  # and OWNER/NAME: a repository with a configuration and weights
OPTION = "--checkpoint"
WAYS_OUT = (
    f"name a file of its weights with {OPTION}, connect to the hub (or point HF_HOME at a "
    "folder that has them), or do without: --model pocket"
)


@cache
def model_of(
    name: str,
    checkpoint: str,
    size: int = 0,
    ways_out: str = WAYS_OUT,
    option: str = OPTION,
):
    """A model by name, loaded once for the check and the run. ValueError for a name that needs a
    file of weights; OSError with the ways out where its weights are not available.

    Args:
        name: of `rs5m.clip.load`.
        checkpoint: a file of its weights, empty for those of the hub.
        size: pixels for the pocket's, 0 for the model's own.
        ways_out: what else a user can do.
        option: what the command calls `checkpoint`.
    """
    from rs5m import clip

    if name == "pocket" and size and not checkpoint:
        from rs5m.clip.pocket import pocket_model

        return pocket_model(size)
    tag = _tag(name, checkpoint, option)
    try:
        if tag:
            weights(name)
        return clip.load(name, tag, checkpoint or None)
    except OSError as error:
        raise OSError(f"{error}; or {ways_out.replace(OPTION, option)}") from error


def identity(name: str, checkpoint: str = "", option: str = OPTION) -> str:
    """A model's name with a digest of the weights that will be loaded, fetched if need be; nothing
    is built. Arguments and errors as in `model_of`.
    """
    tag = _tag(name, checkpoint, option)
    try:
        if checkpoint:
            path = Path(checkpoint)
            if not path.is_file():
                raise FileNotFoundError(f"{path} is not a file: check the spelling of {option}")
        elif name in known.models() and known.models()[name].format != "open_clip":
            path = known.weights(name)
        elif name in known.models():
            path = remote(f"{REMOTE}{known.models()[name].source}")
        elif name.startswith(REMOTE):
            path = remote(name)
        elif tag:
            path = weights(name)
        else:  # the pocket's, or an address that names its folder
            return name
        return f"{name} {files.sha256(path)[:12]}"
    except OSError as error:
        raise OSError(f"{error}; or {WAYS_OUT.replace(OPTION, option)}") from error


def weights(name: str) -> Path:
    """The file of one of TAGS in the hub's cache. What is about to be fetched is said; OSError
    where the hub does not answer, at once and not after the minute in which open_clip tries again.
    """
    from rs5m.clip import open_clip

    repo = open_clip.get_pretrained_cfg(name, TAGS[name])["hf_hub"].rstrip("/")
    if not (held := _held(repo, WEIGHTS)):
        print(f"asking the hub for the weights of {name}", flush=True)
    try:
        return held or _fetched(name, repo, [WEIGHTS])
    except LookupError as error:
        raise OSError(f"the hub does not give the weights of {name} ({error})") from error


def remote(name: str, weighted: bool = True) -> Path:
    """The weights of "hf-hub:OWNER/NAME" in the hub's cache, beside their configuration, which is
    all that comes unless `weighted`. Said and refused as in `weights`.
    """
    repo, wanted = name.removeprefix(REMOTE), [[CONFIG], [WEIGHTS, PICKLED]][: 1 + weighted]
    if not all(held := [_held(repo, *some) for some in wanted]):
        print(f"asking the hub for {name}", flush=True)
    try:
        return [
            there or _fetched(name, repo, some) for there, some in zip(held, wanted, strict=True)
        ][-1]
    except LookupError as error:
        private = ": there is none, or it is private and needs HF_TOKEN"
        said = f"{error}{private if error.args[0] in (401, 403, 404) else ''}"
        raise OSError(
            f"{name} could not be loaded from the hub ({said}): check the name and the network, "
            "or fetch its files where there is one and name their folder as local-dir:FOLDER"
        ) from error


def _held(repo: str, *names: str) -> Path | None:
    """The first of these files that is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    there = [try_to_load_from_cache(repo, name) for name in names]
    return next((Path(path) for path in there if isinstance(path, str)), None)


def _fetched(name: str, repo: str, wanted: list[str]) -> Path:
    """The first of these files that the hub has; what is fetched of weights is said. LookupError
    with a word on the hub's answer, OSError for a full disk.
    """
    import huggingface_hub as given

    file, *others = wanted
    try:
        size = given.get_hf_file_metadata(given.hf_hub_url(repo, file), timeout=10).size or 0
        if file != CONFIG:
            amount = f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
            print(f"fetching {name}: {amount}", flush=True)
        return Path(given.hf_hub_download(repo, file))
    except Exception as error:  # the hub's own, its HTTP client's and plain ones
        if others and isinstance(error, given.errors.EntryNotFoundError):
            return _fetched(name, repo, others)
        files.refuse_full(error, given.constants.HF_HUB_CACHE)
        status = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
        raise LookupError(status) from error


def _tag(name: str, checkpoint: str, option: str) -> str | None:
    tag = None if checkpoint else TAGS.get(name)
    if not (tag or checkpoint or name in ("pocket", *known.models()) or ":" in name):
        near = known.near(name, list(TAGS))
        others = f", or choose {', '.join(near)}" if near else ""
        raise ValueError(f"{name} needs weights: name their file with {option}{others}")
    return tag
