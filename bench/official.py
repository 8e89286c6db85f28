"""The evaluation of a labelled set beside the official one: processor time, clock and memory.

    python -m bench.official [--rounds 3] [--data DIR]

The official side is its plain twin, which the tests hold to its numbers
(`tests/helpers/plain_official.py`: torchvision's transforms file by file, batches of 100, the texts
of each class). Ours is what `rs5m evaluate` does after the model is loaded, from an empty cache.
Pictures and models are those of EuroSAT in `bench.evaluate`. Each side runs in a process of its
own, in turn, in the other order every other round; loading the model counts for none. Where
clip_benchmark can be imported beside a numpy below 2.4, its zero-shot classification is a third
side: float32 as in the others, batches of 64, no worker processes, whose time would not be seen.

Target: ours at most two thirds of the official processor time. Chapter: zeroshot.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench import evaluate
from rs5m import clip, paper, results
from rs5m.evaluate import official

TARGET, FOLDER = 2 / 3, "eurosat-rgb/2750"


def written(what: official.Found, folder: Path) -> None:
    """A labelled set's files in EuroSAT's layout."""
    for i, label in enumerate(what.data.labels):
        path = folder / FOLDER / what.data.classes[label] / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(what.data.images.read(i))


def sides() -> list[str]:
    there = importlib.util.find_spec("clip_benchmark")
    fits = np.lib.NumpyVersion(np.__version__) < "2.4.0"  # 1.6.2 makes numbers of arrays of one
    return ["ours", "official", *(["clip_benchmark"] if there and fits else [])]


def by_clip_benchmark(model: clip.Model, root: Path, prepare) -> None:
    """CLIP_benchmark's own loop over a folder of class folders, with the paper's prompts."""
    from clip_benchmark.metrics import zeroshot_classification
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    pictures = ImageFolder(root, prepare)
    names = [paper.class_name(folder) for folder in pictures.classes]
    templates = [prompt.replace("{}", "{c}") for prompt in paper.prompts()]
    given = model.net, DataLoader(pictures, 64), model.tokenizer, names, templates
    zeroshot_classification.evaluate(*given, "cpu", amp=False)


def alone(side: str, name: str, folder: Path) -> None:
    """One side in this process; prints its seconds and the peak of its memory as JSON."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests/helpers"))
    import plain_official

    torch.manual_seed(evaluate.SEED)
    model = clip.load(name)
    model.net.eval()
    what = evaluate.found("zeroshot", "eurosat", 10**6, folder)
    run = {
        "ours": lambda: evaluate.ours(model, what),
        "official": lambda: plain_official.classes(model, folder / FOLDER),
        "clip_benchmark": lambda: by_clip_benchmark(
            model, folder / FOLDER, plain_official.transform(model)
        ),
    }[side]
    told = evaluate.timed(run)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    seconds = {f"{key}_seconds": round(told[key], 3) for key in ("clock", "processor")}
    print(json.dumps(seconds | {"peak_mb": round(peak, 1)}))


def one_round(name: str, folder: Path, number: int) -> dict[str, dict[str, float]]:
    call = [sys.executable, "-m", "bench.official", "--model", name, "--data", str(folder)]
    found = {}
    for side in sides()[:: -1 if number % 2 else 1]:
        child = subprocess.run(
            [*call, "--side", side], stdout=subprocess.PIPE, check=True, text=True
        )
        found[side] = json.loads(child.stdout.splitlines()[-1])
    return found


def measure(name: str, what: official.Found, rounds: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        written(what, Path(folder))
        each = [one_round(name, Path(folder), number) for number in range(rounds)]
    spent = [[s[side]["processor_seconds"] for side in ("ours", "official")] for s in each]
    ratio = statistics.median(ours / theirs for ours, theirs in spent)
    return {
        "images": len(what.data.labels),
        "median": evaluate.medians(each),
        "processor_ratio": round(ratio, 3),
        "target": round(TARGET, 3),
        "target_met": ratio <= TARGET,
        "rounds": each,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=os.environ.get("RS5M_DATA"))
    parser.add_argument("--side", choices=sides(), help="used by itself")
    parser.add_argument("--model", help="used by itself")
    args = parser.parse_args()
    if args.side:
        alone(args.side, args.model, args.data)
        return
    start, runs = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        origin, data = evaluate.data_folder(args.data, Path(folder))
        for name, task, test, count in evaluate.RUNS:
            if task == "zeroshot":
                what = evaluate.found(task, test, count, data.resolve())
                run = runs[f"{name}, {test}"] = measure(name, what, args.rounds)
                met = "met" if run["target_met"] else "missed"
                print(f"{name}, {test}, {run['images']} images: {run['median']}")
                print(f"  processor time {run['processor_ratio']} of the official one: {met}")
    values = {"pictures": origin, "load_average": os.getloadavg(), "runs": runs}
    spent = time.perf_counter() - start
    print(f"stored in {results.save('official', 'bench', values, spent, evaluate.SEED)}")


if __name__ == "__main__":
    main()
