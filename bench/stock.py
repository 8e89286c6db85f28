"""Duplicates among made pictures as stock agencies sell them: shapes, cut-outs of photographs and
texts on white and grey, under one watermark and over one footer line; and copies of them, so that
errors can be counted.

    python bench/stock.py [--strangers 900] [--framed 100] [--seeds 21 22 ...] [--out FILE]

Prints, and with --out stores, the share of joined pairs that are copies, for scored pairs and for
groups; the share of copies found, by kind, beside a DCT hash at distance 10; and prints the time of
pairs among textures without and with a white frame. Thresholds were chosen on seeds 1 to 4; one of
them, the factor for other colours, was kept after two values had been seen on the default seeds.
Needs scikit-image, scikit-learn and matplotlib for photographs.
Chapter: dedup.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from stock_pictures import KINDS, copied, framed, strangers

from rs5m import dedup

SEEDS = [*range(21, 25), *range(31, 35), *range(41, 45)]


def by_kind(found, kind) -> dict:
    """Share of copies found, by kind."""
    return {str(k): round(float(found[kind == k].mean()), 3) for k in dict.fromkeys(kind)}


def phash(image: Image.Image) -> np.uint64:
    """The usual DCT hash of 64 bits."""
    from scipy.fft import dctn

    grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, float))[:8, :8]
    return np.packbits(low > np.median(low)).view(np.uint64)[0]


def _quality(ids, origin, source, kind) -> dict:
    """Of groups: their pairs and the wrong ones, the copies and the missed ones (mirrored ones left
    out, which one orientation cannot find), the largest group, recall by kind.
    """
    count = len(origin) - len(source)
    same, found = np.triu(ids[:, None] == ids, 1), ids[count:] == ids[source]
    upright = kind != "mirrored"
    return {
        "pairs": int(same.sum()),
        "wrong": int((same & (origin[:, None] != origin)).sum()),
        "copies": int(upright.sum()),
        "missed": int((upright & ~found).sum()),
        "largest": int(np.bincount(ids).max()),
        "recall": by_kind(found, kind),
    }


def errors(count: int, seed: int) -> dict:
    """Precision, and recall by kind, among `count` strangers and copies of a third: of groups
    before and after weak links are cut, and of a DCT hash.
    """
    images = strangers(seed, count)
    made, source, kind = copied(seed + 1000, images, count // 3, tuple(KINDS))
    images += made
    origin = np.r_[np.arange(count), source]
    pairs = dedup.scored_pairs(dedup.signatures(images))
    joined = pairs[pairs.score >= dedup.MIN_SCORE]
    whole = dedup.components(len(images), joined.i.to_numpy(), joined.j.to_numpy())
    ids = dedup.groups_of(pairs, len(images))
    hashes = np.array([phash(i) for i in images])
    near = np.triu(np.bitwise_count(hashes[:, None] ^ hashes) <= 10, 1)
    return {
        "candidates": len(pairs),
        "uncut groups": _quality(whole, origin, source, kind),
        "groups": _quality(ids, origin, source, kind),
        "DCT hash": {
            "pairs": int(near.sum()),
            "wrong": int((near & (origin[:, None] != origin)).sum()),
            "recall": by_kind(near[source, np.arange(count, len(images))], kind),
        },
    }


def total(some: list[dict]) -> dict:
    """Precision and recall over the groups of several seeds."""
    sums = {name: sum(one[name] for one in some) for name in ("pairs", "wrong", "copies", "missed")}
    shares = {"precision": 1 - sums["wrong"] / max(sums["pairs"], 1)}
    return sums | shares | {"recall": 1 - sums["missed"] / max(sums["copies"], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--strangers", type=int, default=900)
    parser.add_argument("--framed", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = {"date": time.strftime("%Y-%m-%d"), "strangers": args.strangers, "seeds": {}}
    for seed in args.seeds:
        result["seeds"][str(seed)] = found = errors(args.strangers, seed)
        print(f"seed {seed}: {json.dumps(found)}", flush=True)
    result["groups"] = total([found["groups"] for found in result["seeds"].values()])
    print(f"groups: {json.dumps(result['groups'])}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    for frame in (0, 0.1, 0.25):
        signatures = dedup.signatures(framed(0, args.framed, frame))
        start = time.perf_counter()
        found = len(dedup.scored_pairs(signatures))
        print(f"frame {frame}: {time.perf_counter() - start:.2f} s, {found} candidates")


if __name__ == "__main__":
    main()
