"""Shards by name: files, folders, patterns, URLs and hub addresses become files on this machine.
Chapter: tune.
"""

import fnmatch
import re
from collections.abc import Iterable
from glob import glob
from pathlib import Path

from braceexpand import braceexpand

from rs5m.web.download import LIMITS, fetch
from rs5m.web.request import Limits


def local(shards: str | Path | Iterable[str | Path], limits: Limits = LIMITS) -> list[Path]:
    """The files of shards on this machine, in the order given, each folder's and pattern's sorted.

    shards: .tar files, folders of them, patterns (`*`, `{0000..0031}`), http(s) URLs, or hub
    addresses `hf://datasets/OWNER/NAME[@REVISION]/FILE`, of which FILE may be a pattern. Those from
    elsewhere are fetched whole once. ValueError or OSError that names what is not there, is named
    twice or cannot be had. Chapter: tune.
    """
    given = [shards] if isinstance(shards, str | Path) else list(shards)
    paths = [path for one in given for path in _found(one, limits)]
    if not paths:
        raise ValueError(
            "no shard was given: name .tar files, folders of them, URLs or hf://datasets/OWNER/NAME/FILE"
        )
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice:
        raise ValueError(
            f"{twice} is named twice among the shards: name it once, or its pairs count double"
        )
    return paths


def _found(shard: str | Path, limits: Limits) -> list[Path]:
    address, path = str(shard), Path(shard)
    if isinstance(shard, str) and "://" in shard:
        if not shard.startswith(("http://", "https://", "hf://")):
            raise ValueError(
                f"{shard} is no address that can be fetched: give http://, https:// or hf://datasets/..."
            )
        return [
            p
            for one in braceexpand(shard)
            for p in (_hub(one) if one[:2] == "hf" else [fetch(one, limits)])
        ]
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.tar")) if path.is_dir() else []
    if not path.is_dir() and re.search(r"[*?\[{]", address):
        found = [
            Path(file) for one in braceexpand(address) for file in sorted(glob(one, recursive=True))
        ]
    if not found:
        raise FileNotFoundError(
            f"{address} {'holds no .tar file' if path.is_dir() else 'is not there'}: name shards"
        )
    return found


def _hub(address: str) -> list[Path]:
    from huggingface_hub import hf_hub_download, list_repo_files

    match = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)", address)
    if not match:
        raise ValueError(
            f"{address} is no shard on the hub: write hf://datasets/OWNER/NAME/FILE.tar"
        )
    owner_and_name, revision, file = match.groups()
    where = {"repo_id": owner_and_name, "repo_type": "dataset", "revision": revision}
    try:
        files = (
            [file]
            if not re.search(r"[*?\[]", file)
            else sorted(fnmatch.filter(list_repo_files(**where), file))
        )
        found = [Path(hf_hub_download(filename=one, **where)) for one in files]
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        raise OSError(
            f"{address} could not be fetched from the hub ({type(error).__name__}): check the name, the"
            " network and, for a private data set, HF_TOKEN"
        ) from error
    if not found:
        raise FileNotFoundError(f"{address} matches no file of the data set: name shards")
    return found
