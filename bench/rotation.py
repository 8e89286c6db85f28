"""Seconds of the rotation-invariant choice, beside the bare encoder passes and beside one image at
a time through PIL.

    python -m bench.rotation [--images 256] [--rounds 5] [--out results/bench/rotation.json]

Decoded images of 256 x 256 pixels (windows of the Blue Marble) with five captions each, all
captions distinct (the worst case for encoding them once), twelve rotations, the general model of
scale mini. The sides run in turn:

* ours: `similarities` and `select`, from decoded images and texts to chosen captions
* image passes: the image tower alone, over tensors that are rotated, normalised and in memory
  already
* text passes: the text tower alone, over the same captions
* PIL: image by image, `Image.rotate` and a crop for each angle, then one call for its views and one
  for its captions

Target: ours at most 1.15 times the image passes and the text passes; the ratio to the image passes
alone, which is what the captions add where no stage before has encoded them, is stored too.
Processor seconds are stored beside the clock's: on a busy machine they say more. Chapter: rotation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rs5m import clip, pocket, results, rotation
from rs5m.book import models, scales
from rs5m.zeroshot import normalise

PIXELS, CAPTIONS, BATCH, SEED, TARGET = 256, 5, 64, 0, 1.15
OURS, IMAGE, TEXT, PIL = "ours", "image passes", "text passes", "one image at a time through PIL"
PLACES = (
    "a forest,a desert,a coast,fields,mountains,islands,snow and ice,a city,a river,a lake".split(
        ","
    )
)
FORMS = (
    "a satellite image of {} near {}",
    "an aerial view of {} and {}",
    "{}, with {} at its edge",
    "there is {} beside {}",
    "{} and {} seen from above",
)


def make_input(n: int) -> tuple[list[np.ndarray], list[list[str]]]:
    """n windows of the Blue Marble and five captions for each, no two alike."""
    generator, world = np.random.default_rng(SEED), pocket.blue_marble()
    rows, columns = (generator.integers(0, s - PIXELS, n) for s in world.shape[:2])
    images = [
        np.array(world[r : r + PIXELS, c : c + PIXELS]) for r, c in zip(rows, columns, strict=True)
    ]
    captions = [
        [
            f"{form.format(*generator.choice(PLACES, 2, replace=False))}, scene {CAPTIONS * i + k}"
            for k, form in enumerate(FORMS)
        ]
        for i in range(n)
    ]
    return images, captions


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rotated(model: clip.Model, images: list[np.ndarray]) -> list[torch.Tensor]:
    """All views as the encoder takes them, in batches of BATCH, one angle each."""
    batches = []
    for start in range(0, len(images), BATCH):
        views = rotation.rotate(images[start : start + BATCH], size=model.image_size).div_(255)
        batches += [clip.normalise_pixels(views[:, r], model) for r in range(views.shape[1])]
    return batches


@torch.inference_mode()
def image_passes(model: clip.Model, batches: list[torch.Tensor]) -> None:
    for pixels in batches:
        with clip.autocast():
            model.net.encode_image(pixels)
    wait()


def ours(model: clip.Model, images, captions) -> np.ndarray:
    return rotation.select(rotation.similarities(model, images, captions, batch=BATCH, quiet=True))


def with_pil(model: clip.Model, images, captions) -> np.ndarray:
    """The same choice as one would first write it: the largest square inside at all angles, cut
    from each rotation.
    """
    inner = int(PIXELS * model.image_size / rotation.side(model.image_size))
    low = (PIXELS - inner) // 2
    chosen = []
    for image, texts in zip(images, captions, strict=True):
        picture = Image.fromarray(image)
        turned = [picture.rotate(angle, Image.Resampling.BILINEAR) for angle in rotation.ANGLES]
        views = [np.array(t.crop((low, low, low + inner, low + inner))) for t in turned]
        cosine = (
            normalise(clip.encode_images(model, views, quiet=True))
            @ normalise(clip.encode_texts(model, texts)).T
        )
        chosen.append(rotation.select(cosine[None])[0])
    return np.array(chosen)


def measure(sides: dict, rounds: int) -> dict[str, dict]:
    """Clock and processor seconds of every side in every round, in turn; the order is reversed in
    every other round.
    """
    for run in sides.values():
        run()  # once before the clock starts: first calls allocate and choose kernels
    out = {name: {"seconds": [], "cpu_seconds": []} for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            clock, cpu = time.perf_counter(), time.process_time()
            sides[name]()
            out[name]["seconds"].append(round(time.perf_counter() - clock, 4))
            out[name]["cpu_seconds"].append(round(time.process_time() - cpu, 4))
            print(f"round {number + 1}  {name:32s} {out[name]['seconds'][-1]:8.3f} s", flush=True)
    return out


def ratios(table: dict[str, dict], key: str) -> dict[str, float]:
    """Medians over the rounds of the ratios within a round: a busy minute is busy for all sides."""
    pick = {name: side[key] for name, side in table.items()}
    rounds = list(zip(pick[OURS], pick[IMAGE], pick[TEXT], pick[PIL], strict=True))
    found = {
        "ours over image and text passes": [o / (i + t) for o, i, t, _ in rounds],
        "ours over image passes": [o / i for o, i, _, _ in rounds],
        "ours less text passes over image passes": [(o - t) / i for o, i, t, _ in rounds],
        "PIL over ours": [p / o for o, _, _, p in rounds],
    }
    return {name: round(statistics.median(values), 3) for name, values in found.items()}


def report(table: dict[str, dict], same: float, images: int, rounds: int) -> dict:
    clock = ratios(table, "seconds")
    return {
        "bench": "rotation",
        "images": images,
        "pixels": PIXELS,
        "rotations": len(rotation.ANGLES),
        "captions": CAPTIONS,
        "batch": BATCH,
        "rounds": rounds,
        "sides": table,
        "median_seconds": {
            name: statistics.median(side["seconds"]) for name, side in table.items()
        },
        "ratios": clock,
        "cpu_ratios": ratios(table, "cpu_seconds"),
        "same_choice_as_pil": same,
        "target": TARGET,
        "target_met": clock["ours over image and text passes"] <= TARGET,
        "target_met_by_image_passes_alone": clock["ours over image passes"] <= TARGET,
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    } | results.provenance("mini", SEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "results/bench/rotation.json"
    )
    args = parser.parse_args()
    model = models.general(scales.get("mini"))
    images, captions = make_input(args.images)
    batches, texts = rotated(model, images), [text for some in captions for text in some]
    sides = {
        OURS: lambda: ours(model, images, captions),
        IMAGE: lambda: image_passes(model, batches),
        TEXT: lambda: clip.encode_texts(model, texts),
        PIL: lambda: with_pil(model, images, captions),
    }
    same = float(np.mean(ours(model, images, captions) == with_pil(model, images, captions)))
    result = report(measure(sides, args.rounds), same, args.images, args.rounds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        json.dumps(
            {k: result[k] for k in ("ratios", "cpu_ratios", "same_choice_as_pil", "target_met")},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
