"""The whole evaluation of a test set beside the bare encoder passes over the same images and texts.

    python -m bench.evaluate [--rounds 5] [--data DIR]

Runs: EuroSAT (zero-shot, 64 x 64), UC Merced with its captions (retrieval, 256 x 256) from DIR or
RS5M_DATA, else JPEGs cut from the Blue Marble in EuroSAT's layout; one made scene of 2000 x 3000
pixels with 5 queries (semantic localization, 261 windows). Models: ViT-B/32 with random weights,
since speed does not ask what they say, and the pocket's, whose image tower takes a twentieth of the
time, so that all else weighs the more. Both sides run in turn, each round in the other order:

* ours: what `rs5m evaluate` does after the model is loaded, from an empty cache: the digests of the
  weights and of the files, decoding, cutting, resizing, encoding, writing the cache, maps, metrics
  and intervals
* bare: the same passes of both towers, over pixels that lie ready in memory and the same texts,
  batch by batch, torch's threads sharing each

Target: ours at most 1.10 times bare. Stored beside it: the same for images alone, ours less its
texts over the bare image passes; and the processors' seconds. Chapters: zeroshot, retrieval, selo.
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
from unittest import mock

import numpy as np
import torch
from PIL import Image

from bench import selo as scene
from rs5m import clip, pocket, results
from rs5m.device import processors
from rs5m.evaluate import features, official, testsets

TARGET, SEED, QUALITY = 1.10, 0, 90
PIXELS, TEXTS = "encode_pixels", "encode_texts"  # the towers' passes, by their names in rs5m.clip
RUNS = (  # model, task, set, how many images
    ("ViT-B-32-quickgelu", "zeroshot", "eurosat", 256),
    ("ViT-B-32-quickgelu", "retrieval", "ucm", 210),
    ("ViT-B-32-quickgelu", "selo", "a made scene", 1),
    ("pocket", "zeroshot", "eurosat", 2700),
)


def data_folder(data: Path | None, folder: Path) -> tuple[str, Path]:
    """Where the pictures come from, and a folder that holds them: DIR, or one made of the Blue
    Marble.
    """
    if data and data.is_dir():
        return "real", data
    world, generator = pocket.blue_marble(), np.random.default_rng(SEED)
    for label in range(10):
        made = folder / "eurosat-rgb" / "2750" / f"Class{label}"
        made.mkdir(parents=True)
        for i in range(270):
            r, c = (generator.integers(0, side - 64) for side in world.shape[:2])
            Image.fromarray(world[r : r + 64, c : c + 64]).save(
                made / f"{i:03d}.jpg", quality=QUALITY
            )
    return "Blue Marble", folder


def found(task: str, name: str, count: int, data: Path) -> official.Found:
    """The set of a run as `official.find` gives it, every n-th image; FileNotFoundError where the
    folder has none.
    """
    if task == "selo":
        return official.Found(task, name, [made_scene()])
    if task == "retrieval":
        return official.Found(task, name, testsets.captions(name, data))
    whole = testsets.classes(name, data)
    index = np.arange(0, len(whole.labels), max(1, len(whole.labels) // count))[:count]
    images = testsets.Images(
        [whole.images.names[i] for i in index], lambda i: whole.images.read(int(index[i]))
    )
    return official.Found(task, name, whole._replace(images=images, labels=whole.labels[index]))


def made_scene(height: int = 2000, width: int = 3000, queries: int = 5) -> testsets.Scene:
    """A scene as a JPEG in memory, decoded when it is read."""
    image, _, regions = scene.inputs(height, width, queries)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    asked = [
        testsets.Query(f"a view of the {i}th harbour with boats", one)
        for i, one in enumerate(regions)
    ]
    return testsets.Scene("made.jpg", lambda: np.asarray(Image.open(file)), asked)


# ---------------------------------------------------------------- the sides


def ours(model: clip.Model, what: official.Found) -> None:
    """The whole evaluation from an empty cache."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            official.SCORE[what.task](features.Store(model), what)
        finally:
            os.chdir(here)


@contextlib.contextmanager
def watched(note):
    """Within, every pass of a tower goes through note(name, function of the inputs, inputs)."""
    with contextlib.ExitStack() as stack:
        for name in (PIXELS, TEXTS):
            function = getattr(clip, name)
            stack.enter_context(mock.patch.object(clip, name, _watch(note, name, function)))
        yield


def _watch(note, name: str, function):
    def call(model, inputs, *more, **named):
        return note(name, lambda given: function(model, given, *more, **named), inputs)

    return call


def passes(run) -> list[tuple]:
    """What a run gives to the towers: (name, function of one input, input), pixels as copies, in
    batches of `clip.block`.
    """
    kept = []

    def note(name, function, inputs):
        copy = inputs.clone(memory_format=torch.preserve_format) if name == PIXELS else list(inputs)
        kept.append((name, function, copy))
        return function(inputs)

    with watched(note):
        run()
    pixels = torch.cat([inputs for name, _, inputs in kept if name == PIXELS])
    function = next(function for name, function, _ in kept if name == PIXELS)
    joined = pixels.contiguous(memory_format=torch.channels_last).split(clip.block())
    texts = [one for one in kept if one[0] == TEXTS]
    return [(PIXELS, function, inputs) for inputs in joined] + texts


@torch.inference_mode()
def bare(kept: list[tuple], which: str) -> None:
    for name, function, inputs in kept:
        if name == which:
            vectors = function(inputs)
            vectors.cpu() if name == PIXELS else None  # on a GPU, until they are there


# ---------------------------------------------------------------- measuring


def timed(run) -> dict[str, float]:
    """Seconds of a run by the clock and of the processors, and those that its texts took."""
    texts = 0.0

    def note(name, function, inputs):
        nonlocal texts
        began = time.perf_counter()
        result = function(inputs)
        texts += time.perf_counter() - began if name == TEXTS else 0  # images overlap
        return result

    began, spent = time.perf_counter(), time.process_time()
    with watched(note):
        run()
    return {
        "clock": time.perf_counter() - began,
        "processor": time.process_time() - spent,
        "texts": texts,
    }


def one_round(sides: dict, number: int) -> dict[str, dict[str, float]]:
    return {name: timed(sides[name]) for name in list(sides)[:: -1 if number % 2 else 1]}


def measure(model: clip.Model, what: official.Found, rounds: int) -> dict:
    kept = passes(lambda: ours(model, what))  # and warm
    sides = {
        "bare images": lambda: bare(kept, PIXELS),
        "bare texts": lambda: bare(kept, TEXTS),
        "ours": lambda: ours(model, what),
    }
    each = [one_round(sides, number) for number in range(rounds)]
    clock = [{name: side["clock"] for name, side in one.items()} for one in each]
    texts = [one["ours"]["texts"] for one in each]
    ratios = {
        "ours over bare": [s["ours"] / (s["bare images"] + s["bare texts"]) for s in clock],
        "ours without texts over bare images": [
            (s["ours"] - inside) / s["bare images"] for s, inside in zip(clock, texts, strict=True)
        ],
    }
    middle = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    counts = {
        name: sum(len(inputs) for kind, _, inputs in kept if kind == name)
        for name in (PIXELS, TEXTS)
    }
    return {
        "images": counts[PIXELS],
        "texts": counts[TEXTS],
        "median_seconds": medians(each),
        "ratios": middle,
        "rounds": each,
        "target": TARGET,
        "target_met": middle["ours over bare"] <= TARGET,
    }


def medians(each: list[dict]) -> dict[str, dict[str, float]]:
    """By side and kind, over the rounds."""
    return {
        name: {key: round(statistics.median(s[name][key] for s in each), 3) for key in side}
        for name, side in each[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=os.environ.get("RS5M_DATA"))
    args = parser.parse_args()
    start, runs, model = time.perf_counter(), {}, None
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        origin, data = data_folder(args.data, Path(folder))
        for name, task, test, count in RUNS:
            try:
                what = found(task, test, count, data.resolve())
            except FileNotFoundError:
                print(f"{test}: not there, not measured")
                continue
            model = model if model and model.name == name else clip.load(name)
            run = runs[f"{name}, {task}, {test}"] = measure(model, what, args.rounds)
            size = f"{run['images']} images, {run['texts']} texts"
            print(f"{name}, {task}, {test}: {size}, {run['median_seconds']}")
            print(
                f"  {run['ratios']}, target {TARGET} {'met' if run['target_met'] else 'missed'}",
                flush=True,
            )
    values = {
        "pictures": origin,
        "batch": clip.block(),
        "threads": torch.get_num_threads(),
        "cpus": processors(),
        "load_average": os.getloadavg(),
        "runs": runs,
    }
    print(
        f"stored in {results.save('evaluate', 'bench', values, time.perf_counter() - start, SEED)}"
    )


if __name__ == "__main__":
    main()
