"""The whole evaluation of a test set beside the bare encoder passes over the same images.

    python -m bench.evaluate [--rounds 5] [--data DIR] [--images COUNT]

Zero-shot classification, which has the most images a text. Sets: EuroSAT (64 x 64) and UC Merced (256 x 256) from DIR
or RS5M_DATA, else JPEGs cut from the Blue Marble in EuroSAT's layout; every n-th image. Models: the pocket's, and
ViT-B/32 with random weights: speed does not ask what they say. Both sides run in turn, in the other order every other
round:

* bare: the image tower over normalised pixels that lie ready in memory, in the batches of `rs5m.features`; beside it
  the text tower over the prompts, by `clip.encode_texts`
* ours: what `rs5m evaluate` does after the model is loaded, from an empty cache: the digest of the weights and of the
  files, decoding, resizing, encoding, writing the cache, accuracies and intervals; the texts' seconds stand apart

Target: without the texts at most 1.15 times bare; with them, beside both towers, the same. What our side spends outside
the encoder does not grow with the model, so a small network over large pictures shows the most of it.
Chapter: zeroshot.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rs5m import clip, evaluate, features, official, pocket, results, testsets

TARGET, SEED, QUALITY = 1.15, 0, 90
RUNS = {  # model, set: how many images
    ("pocket", "eurosat"): 2700,
    ("pocket", "ucm"): 1050,
    ("ViT-B-32-quickgelu", "eurosat"): 256,
    ("ViT-B-32-quickgelu", "ucm"): 256,
}


def data_folder(data: Path | None, folder: Path) -> tuple[str, Path]:
    """Where the pictures come from, and a folder that holds them: DIR, or one made of the Blue Marble."""
    if data and data.is_dir():
        return "real", data
    world, generator = pocket.blue_marble(), np.random.default_rng(SEED)
    for label in range(10):
        made = folder / "eurosat-rgb" / "2750" / f"Class{label}"
        made.mkdir(parents=True)
        for i in range(270):
            r, c = (generator.integers(0, side - 64) for side in world.shape[:2])
            Image.fromarray(world[r : r + 64, c : c + 64]).save(made / f"{i:03d}.jpg", quality=QUALITY)
    return "Blue Marble", folder


def some(found: official.Found, count: int) -> official.Found:
    """Every n-th image of a set."""
    data = found.data
    index = np.arange(0, len(data.labels), max(1, len(data.labels) // count))[:count]
    images = testsets.Images([data.images.names[i] for i in index], lambda i: data.images.read(int(index[i])))
    return found._replace(data=data._replace(images=images, labels=data.labels[index]))


def ready(model: clip.Model, images) -> list[torch.Tensor]:
    """The batches of `features.encode`, kept in memory."""
    batch = features.batch_size()
    return [
        pixels.clone(memory_format=torch.preserve_format) for _, pixels in features.batches(images, model, batch, 0)
    ]


@torch.inference_mode()
def bare(model: clip.Model, pixels: list[torch.Tensor]) -> None:
    for batch in pixels:
        clip.encode_pixels(model, batch.to(clip.device()), exact=True).cpu()


def ours(model: clip.Model, found: official.Found) -> float:
    """The whole evaluation from an empty cache; returns the seconds that its texts took."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            store = features.Store(model)
            official.score_classes(store, found)
        finally:
            os.chdir(here)
    return sum(seconds for stage, seconds in store.seconds.items() if stage.startswith("texts"))


# ---------------------------------------------------------------- measuring


def timed(run) -> tuple[float, object]:
    began = time.perf_counter()
    value = run()
    return time.perf_counter() - began, value


def one_round(sides: dict, number: int) -> dict[str, float]:
    """Seconds of each side, and ours without its texts."""
    seconds = {}
    for name in list(sides)[:: -1 if number % 2 else 1]:
        seconds[name], value = timed(sides[name])
        if name == "ours":
            seconds["ours, without texts"] = seconds[name] - value
    return seconds


def measure(model: clip.Model, found: official.Found, rounds: int) -> dict:
    prompts = [text for group in evaluate.prompts(found.data) for text in group]
    pixels = ready(model, found.data.images)
    sides = {
        "bare images": lambda: bare(model, pixels),
        "bare texts": lambda: clip.encode_texts(model, prompts),
        "ours": lambda: ours(model, found),
    }
    for run in sides.values():  # warm
        run()
    found_seconds = [one_round(sides, number) for number in range(rounds)]
    ratios = {
        "ours without texts over bare images": [s["ours, without texts"] / s["bare images"] for s in found_seconds],
        "ours over bare images and texts": [s["ours"] / (s["bare images"] + s["bare texts"]) for s in found_seconds],
    }
    middle = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    seconds = {name: round(statistics.median(s[name] for s in found_seconds), 3) for name in found_seconds[0]}
    return {"images": len(found.data.labels), "prompts": len(prompts), "median_seconds": seconds, "ratios": middle,
            "rounds": [{name: round(value, 3) for name, value in s.items()} for s in found_seconds],
            "target": TARGET, "target_met": max(middle.values()) <= TARGET}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=0, help="of every run, in place of its own count")
    parser.add_argument("--data", type=Path, default=os.environ.get("RS5M_DATA"))
    args = parser.parse_args()
    start, runs = time.perf_counter(), {}
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        origin, data = data_folder(args.data, Path(folder))
        for (name, test), count in RUNS.items():
            try:
                found = official.Found("zeroshot", test, testsets.classes(test, data.resolve()))
            except FileNotFoundError:
                continue
            model = clip.load(name)
            run = runs[f"{name}, {test}"] = measure(model, some(found, args.images or count), args.rounds)
            print(f"{name}, {test}: {run['images']} images, {run['median_seconds']}, {run['ratios']}, "
                  f"target {TARGET} {'met' if run['target_met'] else 'missed'}", flush=True)  # fmt: skip
    values = {"pictures": origin, "batch": features.batch_size(), "threads": torch.get_num_threads(),
              "cpus": features.processors(), "load_average": os.getloadavg(), "runs": runs}  # fmt: skip
    print(f"stored in {results.save('evaluate', 'bench', values, time.perf_counter() - start, SEED)}")


if __name__ == "__main__":
    main()
