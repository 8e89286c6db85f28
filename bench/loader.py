"""Images per second of one core, from shards to normalised batches, beside webdataset with PIL and
torchvision.

    python -m bench.loader [--images 384] [--rounds 5] [--data DIR]

Shards of 256 x 256 and of 600 x 600 JPEGs (quality 90) are made on the spot: aerial photographs of
UC Merced where DIR (or RS5M_DATA) holds them, enlarged for 600, else windows of the Blue Marble.
One process and one thread a side; both sides run in turn, each over all images, from the shard on
disk (in the page cache) to float batches (64, 3, 224, 224), less CLIP's mean, over its deviation:

* ours: `loader.stream` over a shuffled plan, crop, mirror and rotation as `loader` draws them, then
  the normalisation
* webdataset: a shuffle buffer, PIL, torchvision's RandomResizedCrop (0.9 to 1.0, bicubic),
  RandomHorizontalFlip, RandomRotation(360), ToTensor, Normalize
* webdataset, bilinear: the same with bilinear crop and rotation, which is what our one sampling
  does

Where the time goes is stored too: reading, decoding, turning, normalising. Target: at least 2 times
the images per second of webdataset at 256 pixels, 3 times at 600. Processor seconds stand beside
the clock's: on a busy machine they say more. Chapter: tune.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import webdataset
from PIL import Image

from rs5m import clip, pocket, results
from rs5m.data import datasets, records
from rs5m.tune import augment, loader

SIZE, BATCH, SEED, QUALITY = 224, 64, 0, 90
TARGETS = {256: 2.0, 600: 3.0}
OURS, PEER, BILINEAR = "ours", "webdataset", "webdataset, bilinear"
MODEL = clip.Model(
    None, None, clip.open_clip.OPENAI_DATASET_MEAN, clip.open_clip.OPENAI_DATASET_STD, SIZE
)


def pictures(count: int, data: Path | None) -> tuple[str, list[Image.Image]]:
    """Where they come from, and `count` pictures of 256 x 256 pixels."""
    generator = np.random.default_rng(SEED)
    if data and (found := list(_ucm(data))):
        return "UC Merced", [found[i] for i in generator.permutation(len(found))[:count]]
    world = pocket.blue_marble()
    corners = zip(
        *(generator.integers(0, side - 256, count) for side in world.shape[:2]), strict=True
    )
    return "Blue Marble", [
        Image.fromarray(np.array(world[r : r + 256, c : c + 256])) for r, c in corners
    ]


def _ucm(data: Path):
    found = datasets.classes("ucm", data).images
    for i in range(len(found.names)):
        image = Image.open(io.BytesIO(found.read(i))).convert("RGB")
        if image.size == (256, 256):
            yield image


def shard(path: Path, images: list[Image.Image], side: int) -> Path:
    """The pictures as JPEGs of that side, in the layout that the peer decodes without help."""

    def pairs():
        for i, image in enumerate(images):
            file = io.BytesIO()
            image.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY)
            yield records.Record(file.getvalue(), f"{i}.jpg", f"picture {i}")

    records.write(path, pairs(), layout="webdataset")
    return path


# ---------------------------------------------------------------- the sides


def plan(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches with their draws."""
    generator = np.random.default_rng(SEED)
    order, draws = (
        generator.permutation(count),
        generator.random((count, augment.DRAWS), np.float32),
    )
    return [(order[i : i + BATCH], draws[i : i + BATCH]) for i in range(0, count, BATCH)]


def ours(source: loader.Shards, items: list) -> int:
    """Runs once over the plan; returns the number of images."""
    return sum(len(normalised(batch.pixels)) for batch in loader.stream(source, items))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """As `clip.normalise_pixels`, image by image and in place, so that the numbers stay in the
    core's cache.
    """
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MODEL.mean, MODEL.std))
    scale, shift, out = 1 / std, -mean / std, torch.empty(pixels.shape)
    for one, into in zip(pixels, out, strict=True):
        torch.mul(one, scale, out=into).add_(shift)
    return out


def webdataset_side(path: Path, bilinear: bool):
    """A function that runs once over the shard; returns the number of images."""
    from torchvision import transforms as t

    kind = t.InterpolationMode.BILINEAR if bilinear else t.InterpolationMode.BICUBIC
    turn = (
        t.InterpolationMode.BILINEAR if bilinear else t.InterpolationMode.NEAREST
    )  # torchvision's default
    steps = [
        t.RandomResizedCrop(SIZE, scale=(0.9, 1.0), interpolation=kind),
        t.RandomHorizontalFlip(),
        t.RandomRotation(360, interpolation=turn),
        t.ToTensor(),
        t.Normalize(MODEL.mean, MODEL.std),
    ]
    data = (
        webdataset.WebDataset(str(path), shardshuffle=False)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "txt")
    )
    data = data.map_tuple(t.Compose(steps), lambda text: text).batched(BATCH)
    return lambda: sum(len(pixels) for pixels, _ in data)


def parts(source: loader.Shards, items: list) -> dict[str, float]:
    """Microseconds of processor time an image of each part of our side, alone."""
    index, draws = (np.concatenate(values) for values in zip(*items, strict=True))
    contents = [source._read(i, *source._places[i, :2]) for i in index]
    turned = source[items[0]].pixels
    runs = {
        "reading": lambda: [source._read(i, *source._places[i, :2]) for i in index],
        "decoding in full": lambda: [augment.decode(content) for content in contents],
        "decoding and turning": lambda: [
            augment.cut(c, SIZE, d.tolist()) for c, d in zip(contents, draws, strict=True)
        ],
        "all but normalising": lambda: [source[item] for item in items],
        "normalising": lambda: [normalised(turned) for _ in items],
    }
    return {
        name: round(1e6 * min(timed(run)[1] for _ in range(3)) / len(index), 1)
        for name, run in runs.items()
    }


# ---------------------------------------------------------------- measuring


def timed(run) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - cpu


def measure(sides: dict, count: int, rounds: int) -> dict[str, dict]:
    """Images per second of every side in every round, in turn; the order is reversed in every other
    round.
    """
    for run in sides.values():
        assert run() == count  # and warm
    found = {name: {"images_per_second": [], "images_per_cpu_second": []} for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            clock, cpu = timed(sides[name])
            found[name]["images_per_second"].append(round(count / clock, 1))
            found[name]["images_per_cpu_second"].append(round(count / cpu, 1))
            print(f"round {number + 1}  {name:22s} {count / clock:8.1f} images/s", flush=True)
    return found


def ratios(found: dict[str, dict], key: str) -> dict[str, float]:
    """Medians over the rounds of the ratios within a round: a busy minute is busy for all sides."""
    pick = {name: side[key] for name, side in found.items()}
    return {
        f"ours over {name}": round(
            statistics.median(o / p for o, p in zip(pick[OURS], pick[name], strict=True)), 3
        )
        for name in (PEER, BILINEAR)
    }


def one_size(folder: Path, images: list[Image.Image], side: int, rounds: int) -> dict:
    path = shard(folder / f"{side}.tar", images, side)
    source, items = loader.Shards(path, SIZE), plan(len(images))
    sides = {
        OURS: lambda: ours(source, items),
        PEER: webdataset_side(path, False),
        BILINEAR: webdataset_side(path, True),
    }
    found = measure(sides, len(images), rounds)
    clock = ratios(found, "images_per_second")
    return {
        "bytes_an_image": round(path.stat().st_size / len(images)),
        "sides": found,
        "median_images_per_second": {
            n: statistics.median(s["images_per_second"]) for n, s in found.items()
        },
        "ratios": clock,
        "cpu_ratios": ratios(found, "images_per_cpu_second"),
        "microseconds_an_image": parts(source, items),
        "target": TARGETS[side],
        "target_met": clock[f"ours over {PEER}"] >= TARGETS[side],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=os.environ.get("RS5M_DATA"))
    args = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    start, (origin, images) = time.perf_counter(), pictures(args.images, args.data)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {str(side): one_size(Path(folder), images, side, args.rounds) for side in TARGETS}
    values = {
        "pictures": origin,
        "images": len(images),
        "quality": QUALITY,
        "batch": BATCH,
        "rounds": args.rounds,
        "opencv": cv2.__version__,
        "threads": 1,
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "sizes": sizes,
    }
    path = results.save("loader", "bench", values, time.perf_counter() - start, SEED)
    for side, size in sizes.items():
        verdict = "met" if size["target_met"] else "missed"
        print(f"{side} pixels: images/s {size['median_images_per_second']}, {size['ratios']}")
        cost = size["microseconds_an_image"]
        print(f"  target {size['target']} {verdict}; microseconds an image {cost}")
    print(f"stored in {path}")


if __name__ == "__main__":
    main()
