"""Duplicates: a million hashes, planted near-copies among 10,000 images, and the same files through
other packages.

    python3.11 -m venv PEERS
    PEERS/bin/pip install imagehash tqdm scikit-learn matplotlib
    PEERS/bin/pip install --no-deps imagededup
    python bench/dedup.py --data DIR --peer-python PEERS/bin/python [--out results/bench/dedup.json]

DIR holds ucm_q92.zip and eurosat_rgb.zip. `--no-deps`, since imagededup asks for torch and
torchvision, gigabytes that its hashes never use; this file stands in for the two modules that
import them. Each side runs in a process of its own, in turn, from the same JPEG files (or decoded
images) to groups; imports are not timed. Without --peer-python that part is skipped and the JSON
says so. `--only million,planted,kinds,peers` names the parts to run, the others stay as stored;
`kinds` is of made stock pictures (bench/stock_pictures.py).

Thresholds were chosen on one half of both data sets; the reported copies and the peers' files are
of the other half. Chapter: dedup.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import stock_pictures as stock
import stored
from dedup_sides import DISTANCE, PAIRS, SIDES, call
from PIL import Image
from planted import COPY, planted

ROOT = Path(__file__).resolve().parents[1]
# Grey levels of a picture's standard deviation: re-encoding erases what little there is.
FEATURELESS = 1.5


def planted_scores(data: Path, seed: int, part: int) -> dict:
    """Recall per kind, precision and curves on 9,000 images and 1,000 copies."""
    from rs5m import dedup

    blobs, names, source, kind = planted(data, seed, 1000, 8000, 1000, part)
    n = len(names)
    start = time.perf_counter()
    found = dedup.signatures(Image.open(io.BytesIO(b)) for b in blobs)
    middle = time.perf_counter()
    pairs = dedup.scored_pairs(found)
    seconds = {"signatures": middle - start, "pairs": time.perf_counter() - middle}
    i, j = pairs.i.to_numpy(), pairs.j.to_numpy()
    own = (j >= n) & (i == source[np.maximum(j - n, 0)])
    score = np.full(len(source), -1.0)
    score[j[own] - n] = pairs.score[own]
    flat = found["thumb"][source].astype(np.float32).std((1, 2)) < FEATURELESS
    hit, taken = score >= dedup.MIN_SCORE, (pairs.score >= dedup.MIN_SCORE).to_numpy()
    label = names + [f"{names[s]}*{k}" for s, k in zip(source, kind, strict=True)]
    rough = found["thumb"].astype(np.float32).std((1, 2)) >= FEATURELESS
    rough[n:] = ~flat
    clear = taken & rough[i] & rough[j]
    origin = np.r_[np.arange(n), source]
    curve = dedup.threshold_curve(pairs.score, own, len(source), np.arange(40, 100, 5) / 100, True)
    return {
        "seed": seed,
        "part": part,
        "images": len(label),
        "planted": len(source),
        "max_distance": dedup.MAX_DISTANCE,
        "min_score": dedup.MIN_SCORE,
        "seconds": seconds,
        "candidates": len(pairs),
        "recall": hit.mean(),
        "precision": own[taken].sum() / taken.sum(),
        "with_structure": {
            "planted": int((~flat).sum()),
            "recall": hit[~flat].mean(),
            "precision": own[clear].sum() / clear.sum(),
        },
        "featureless": {"planted": int(flat.sum()), "recall": hit[flat].mean()},
        "recall_by_kind": {k: hit[kind == k].mean() for k in COPY},
        "recall_by_kind_with_structure": {k: hit[(kind == k) & ~flat].mean() for k in COPY},
        "pairs_not_planted": [
            [label[i[row]], label[j[row]], round(pairs.score.iloc[row], 3)]
            for row in np.flatnonzero(taken & ~own)
        ],
        "cluster_pairs": cluster_scores(dedup.groups_of(pairs, len(label)), origin, source, kind),
        "curve_score": curve.to_dict("list"),
        "curve_distance": distance_curve(found, n, source),
    }


def distance_curve(found: dict, n: int, source) -> dict:
    """Recall and precision of a 64-bit hash alone, per distance, all pairs compared."""
    from rs5m import dedup
    from rs5m.dedup import hamming

    hashes = np.ascontiguousarray(found["hash"][:, 0])
    i, j = (
        np.concatenate(x) for x in zip(*hamming.hash_pairs(hashes, hashes.copy(), 16), strict=True)
    )
    i, j = np.unique(np.stack([i, j])[:, i < j], axis=1)
    own = (j >= n) & (i == source[np.maximum(j - n, 0)])
    distance = np.bitwise_count(hashes[i] ^ hashes[j])
    return dedup.threshold_curve(distance, own, len(source), range(0, 17, 2)).to_dict("list")


# ---------------------------------------------------------------- a million hashes


def million(distance: int = 8, n: int = 1_000_000) -> dict:
    """Seconds and peak memory of grouping n hashes: a fifth near another one, 100,000 equal. Run in
    a fresh process.
    """
    from rs5m import dedup

    r = np.random.default_rng(0)
    hashes = r.integers(0, 2**64, n, dtype=np.uint64)
    hashes[: n // 5] = hashes[r.integers(0, n, n // 5)]
    for _ in range(distance // 2):
        hashes[: n // 5] ^= np.uint64(1) << r.integers(0, 64, n // 5).astype(np.uint64)
    hashes[-n // 10 :] = 0
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    ids = dedup.near_duplicates(hashes, distance)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "hashes": n,
        "max_distance": distance,
        "seconds": seconds,
        "cpu_seconds": after.ru_utime - before.ru_utime,
        "peak_gb": after.ru_maxrss / 1e6,
        "clusters": len(np.unique(ids)),
    }


# ---------------------------------------------------------------- other packages


def cluster_scores(ids, origin, source, kind) -> dict:
    """Recall: copies in their source's cluster. Precision: pairs in a cluster from one source."""
    ids, n = np.asarray(ids), len(origin) - len(source)
    hit = ids[n:] == ids[source]
    both, cluster = (np.unique(x, return_counts=True)[1] for x in (ids * len(ids) + origin, ids))
    right, pairs = (both * (both - 1)).sum() / 2, (cluster * (cluster - 1)).sum() / 2
    return {
        "recall": hit.mean(),
        "precision": right / pairs if pairs else 1.0,
        "pairs": int(pairs),
        "largest_cluster": int(cluster.max()),
        "recall_by_kind": {k: hit[kind == k].mean() for k in dict.fromkeys(kind)},
    }


def peers(
    data: Path, python: str, rounds: int, decoded: bool, ucm=1000, eurosat=2000, copies=600
) -> dict:
    """The four sides in turn on the same files; medians, and ratios to the faster of the other
    packages.
    """
    blobs, names, source, kind = planted(data, 2, ucm, eurosat, copies, part=1)
    runs = {k: [] for k in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for k, b in enumerate(blobs):
            (Path(folder) / f"{k:06d}.jpg").write_bytes(b)
        for _ in range(rounds):
            for name in SIDES:
                runs[name].append(
                    call(
                        sys.executable if name.startswith("rs5m") else python,
                        name,
                        "--data",
                        folder,
                        *["--decoded"][: int(decoded)],
                    )
                )
    origin = np.r_[np.arange(len(names)), source]
    out = {
        "images": len(blobs),
        "planted": copies,
        "rounds": rounds,
        "distance": DISTANCE,
        "sides": {},
    }
    for name, run in runs.items():
        seconds = [x["seconds"] for x in run]
        out["sides"][name] = {
            "seconds": seconds,
            "median": statistics.median(seconds),
            **cluster_scores(run[-1]["ids"], origin, source, kind),
        }
    best = min(out["sides"][k]["median"] for k in ("imagehash", "imagededup"))
    out["times_faster_than_the_faster"] = {
        k: best / out["sides"][k]["median"] for k in ("rs5m_hash", "rs5m")
    }
    return out


def kinds(python: str | None, seed: int = 11, strangers: int = 600, copies: int = 240) -> dict:
    """Recall by kind of copy, and precision, of accepted pairs among made stock pictures."""
    images = stock.strangers(seed, strangers)
    made, source, kind = stock.copied(seed + 1000, images, copies, tuple(stock.KINDS))
    origin, out = np.r_[np.arange(strangers), source], {}
    with tempfile.TemporaryDirectory() as folder:
        for k, image in enumerate(images + made):
            image.save(Path(folder) / f"{k:06d}.jpg", quality=95)
        for name in PAIRS:
            if (peer := "imagededup" in name) and not python:
                print(f"{name} was not run: name its environment with --peer-python.")
                continue
            said = call(python if peer else sys.executable, name, "--data", folder)
            i, j = np.array(said["pairs"]).reshape(-1, 2).T
            hit = np.isin(np.arange(strangers, len(origin)), j[i == origin[j]])
            out[name] = {
                "pairs": len(i),
                "precision": float((origin[i] == origin[j]).mean()) if len(i) else 1.0,
                "recall": {str(k): float(hit[kind == k].mean()) for k in dict.fromkeys(kind)},
            }
    return {"seed": seed, "strangers": strangers, "copies": copies, "methods": out}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("RS5M_DATA", ROOT.parent / "shared" / "data")),
    )
    parser.add_argument("--peer-python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "dedup.json")
    parser.add_argument("--only", default="million,planted,kinds,peers")
    a = parser.parse_args()
    result = stored.begun(a.out)
    if "million" in a.only:
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            result["million"] = fresh.submit(million).result()
    if "planted" in a.only:
        result["planted"] = {
            "chosen_on": planted_scores(a.data, 0, 0),
            "reported_on": planted_scores(a.data, 5, 1),
        }
    if "kinds" in a.only:
        result["kinds"] = kinds(a.peer_python)
    if "peers" in a.only:
        result["peers"] = "not run: no --peer-python"
    if "peers" in a.only and a.peer_python:
        result["peers"] = {
            k: peers(a.data, a.peer_python, a.rounds, k == "from_images")
            for k in ("from_files", "from_images")
        }
    stored.save(result, a.out)


if __name__ == "__main__":
    main()
