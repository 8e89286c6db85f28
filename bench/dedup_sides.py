"""The sides of bench/dedup.py: from files to groups or pairs, each in a process of its own.

    python bench/dedup_sides.py NAME --data FOLDER [--decoded]

Prints one line of JSON. Chapter: dedup.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import types
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DISTANCE, NEAR = 10, 4  # imagededup's default, and a strict one


def unite(n: int, edges) -> list[int]:
    """Smallest member per component; plain: the other environment promises no scipy.sparse."""
    parent = list(range(n))

    def find(x):
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        return x

    for i, j in edges:
        a, b = find(i), find(j)
        parent[max(a, b)] = min(a, b)
    return [find(x) for x in range(n)]


def run_imagehash(files):
    import imagehash

    hashes = [imagehash.phash(Image.open(f) if isinstance(f, Path) else f) for f in files]
    return unite(
        len(files),
        ((i, j) for i, a in enumerate(hashes) for j in range(i) if a - hashes[j] <= DISTANCE),
    )


def run_imagededup(files):
    found = phash_pairs(files, DISTANCE)
    return unite(len(files), found)


def phash_pairs(files, distance: int) -> list[tuple[int, int]]:
    """Pairs that imagededup's PHash takes for copies."""
    from imagededup.methods import PHash

    method = PHash(verbose=False)
    if isinstance(files[0], Path):
        found = method.find_duplicates(
            image_dir=str(files[0].parent), max_distance_threshold=distance
        )
        place = {f.name: k for k, f in enumerate(files)}
    else:
        codes = {
            str(k): method.encode_image(image_array=np.asarray(i)) for k, i in enumerate(files)
        }
        found = method.find_duplicates(encoding_map=codes, max_distance_threshold=distance)
        place = {k: int(k) for k in codes}
    found = ((place[a], place[b]) for a, others in found.items() for b in others)
    return sorted({(min(pair), max(pair)) for pair in found})


def our_pairs(files, orientations: bool) -> list[tuple[int, int]]:
    """Pairs that the closer look takes for copies."""
    from rs5m import dedup

    pairs = dedup.scored_pairs(dedup.signatures(files), orientations=orientations)
    return pairs.loc[pairs.score >= dedup.MIN_SCORE, ["i", "j"]].to_numpy().tolist()


PAIRS = {  # a method's pairs among files, without a clock
    "rs5m, one orientation": partial(our_pairs, orientations=False),
    "rs5m, eight orientations": partial(our_pairs, orientations=True),
    f"imagededup PHash at {DISTANCE}": partial(phash_pairs, distance=DISTANCE),
    f"imagededup PHash at {NEAR}": partial(phash_pairs, distance=NEAR),
}


def run_hash(files):
    from rs5m import dedup

    return dedup.near_duplicates(dedup.image_hash(files)).tolist()  # at our default distance


def run_look(files):
    from rs5m import dedup

    return dedup.groups(dedup.signatures(files)).tolist()


SIDES = {
    "imagehash": run_imagehash,
    "imagededup": run_imagededup,
    "rs5m_hash": run_hash,
    "rs5m": run_look,
}


def without_torch() -> None:
    """Stand in for imagededup's networks, which need torch; its hashes do not."""
    for module in ("methods.cnn", "utils.models"):
        sys.modules["imagededup." + module] = types.SimpleNamespace(CNN=None, CustomModel=None)


def side(name: str, folder: Path, decoded: bool) -> dict:
    """One timed run. Imports, and decoding if `decoded`, are done before the clock starts."""
    files = sorted(folder.glob("*.jpg"))
    files = [Image.open(f).convert("RGB") for f in files] if decoded else files
    if name == "imagehash":
        import imagehash  # noqa: F401
    elif name == "imagededup":
        without_torch()
        import imagededup.methods  # noqa: F401
    else:
        import rs5m.dedup  # noqa: F401
    start = time.perf_counter()
    ids = SIDES[name](files)
    return {"seconds": time.perf_counter() - start, "ids": [int(k) for k in ids]}


def call(python: str, *arguments) -> dict:
    """What this file prints under another Python."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, __file__, *arguments], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(
            f"{arguments} failed under {python}: {done.stderr.strip().splitlines()[-1]}"
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*SIDES, *PAIRS])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--decoded", action="store_true")
    a = parser.parse_args()
    if a.name in SIDES:
        found = side(a.name, a.data, a.decoded)
    else:
        if "imagededup" in a.name:
            without_torch()
        found = {"pairs": PAIRS[a.name](sorted(a.data.glob("*.jpg")))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
