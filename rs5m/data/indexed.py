"""The index of a shard, kept in the user's cache, so that a large shard is walked once. Chapter:
tune.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from rs5m import reach
from rs5m.data import records
from rs5m.data.records import Index, Others
from rs5m.files import cache_folder, whole

LARGE = 2**24  # bytes of a shard whose index is kept: a smaller one is walked in no time
SETTLED = 2.0  # seconds after a change from which a file's time tells the next change apart


def index(shard: Path) -> Index:
    """`records.index` of a shard: the one that was kept where path, name, size and time of change
    are the same, and so is the code that makes it.

    It is kept in $RS5M_CACHE/index (else ~/.cache/rs5m/index); where that is full or cannot be
    written, the shard is walked each time.
    """
    status = shard.stat()
    if status.st_size < LARGE:
        return records.index(shard)
    key = [shard.name, status.st_size, status.st_mtime_ns, reach.code(records.__name__)]
    path = _place(shard)
    found = _load(path, key)
    if found is None:
        found = records.index(shard)
        if time.time() - status.st_mtime > SETTLED:
            with suppress(OSError):
                _keep(path, key, found)
    return found


def _place(shard: Path) -> Path:
    name = hashlib.sha256(os.fsencode(shard.resolve())).hexdigest()[:32]
    return cache_folder() / "index" / f"{name}.npz"


def _load(path: Path, key: list) -> Index | None:
    """None where nothing is kept, or of another state of the shard, or what is kept is broken."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            said, places = json.loads(kept["said"].tobytes()), kept["places"]
        if said["key"] != key or len(said["names"]) != len(places):
            return None
        others = {reason: Others(n, tuple(names)) for reason, (n, names) in said["others"].items()}
        digest = bytes.fromhex(said["digest"])
        return Index(said["names"], places, said["damaged"], digest, said["left_out"], others)
    except Exception:  # zipfile, zlib and numpy raise their own for a broken file
        return None


def _keep(path: Path, key: list, found: Index) -> None:
    said = found._asdict() | {"key": key, "digest": found.digest.hex(), "places": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, places=found.places, said=np.frombuffer(json.dumps(said).encode(), "u1"))
