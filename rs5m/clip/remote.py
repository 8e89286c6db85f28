"""Repositories of the hub that open_clip loads as hf-hub:OWNER/NAME, said before they are fetched.
Chapter: clip.
"""

from __future__ import annotations

from pathlib import Path

from rs5m import files
from rs5m.web import hub

PREFIX = "hf-hub:"  # and OWNER/NAME: a repository with a configuration and weights
WEIGHTS, PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
CONFIG = "open_clip_config.json"


def remote(name: str, weighted: bool = True) -> Path:
    """The weights of "hf-hub:OWNER/NAME" in the hub's cache, beside their configuration, which is
    all that comes unless `weighted`. What is about to be fetched is printed; OSError where the
    hub does not give it, at once.
    """
    repo, wanted = name.removeprefix(PREFIX), [[CONFIG], [WEIGHTS, PICKLED]][: 1 + weighted]
    kept = [held(repo, *some) for some in wanted]
    if not all(kept):
        print(f"asking the hub for {name}", flush=True)
    try:
        return [
            there or fetched(name, repo, some) for there, some in zip(kept, wanted, strict=True)
        ][-1]
    except LookupError as error:
        private = ": there is none, or it is private and needs HF_TOKEN"
        said = f"{error.args[0]}{private if error.args[1] in (401, 403, 404) else ''}"
        raise OSError(
            f"{name} could not be loaded from the hub ({said}): check the name and the network, "
            "or fetch its files where there is one and name their folder as local-dir:FOLDER"
        ) from error


def general(name: str, address: str) -> Path:
    """The file of an architecture's general weights in the hub's cache, where open_clip finds it.
    What is about to be fetched is printed; errors of `fetched`.

    address: open_clip's, a repository with or without a file of it.
    """
    repo, _, file = address.rpartition("/")
    wanted = [WEIGHTS, PICKLED]
    if file and file != PICKLED:
        wanted = [file]
        if file.endswith((".bin", ".pth")):
            wanted.insert(0, f"{file[:-4]}.safetensors")
    if there := held(repo, *wanted):
        return there
    print(f"asking the hub for the weights of {name}", flush=True)
    return fetched(name, repo, wanted)


def held(repo: str, *names: str) -> Path | None:
    """The first of these files that is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    there = [try_to_load_from_cache(repo, name) for name in names]
    return next((Path(path) for path in there if isinstance(path, str)), None)


def fetched(name: str, repo: str, wanted: list[str]) -> Path:
    """The first of these files that the hub has; what is fetched of weights is printed. LookupError
    with a word on the hub's answer and its status, OSError for a full disk.
    """
    import huggingface_hub as given

    file, *others = wanted
    try:
        size = hub.size(repo, file)
        if file != CONFIG:
            amount = f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
            print(f"fetching {name}: {amount}", flush=True)
        return Path(given.hf_hub_download(repo, file))
    except Exception as error:  # the hub's own, its HTTP client's and plain ones
        if others and isinstance(error, given.errors.EntryNotFoundError):
            return fetched(name, repo, others)
        files.refuse_full(error, given.constants.HF_HUB_CACHE)
        status = getattr(getattr(error, "response", None), "status_code", None)
        raise LookupError(hub.why(error), status) from error
