"""A small folder in the published layout, for a rehearsal of the scales that read it: the six
official test sets with the encodings of their tables, RS5M shards by their names.

Pictures are views of the pocket world, real images where `real` holds EuroSAT or UC Merced; which
picture belongs to which class, caption or query is true for EuroSAT alone. Nothing measured on it
is a result.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from rs5m import pocket
from rs5m.data import datasets, records
from rs5m.evaluate import cards

EACH = {"eurosat": 20, "resisc45": 2, "aid": 2, "rsitmd": 24, "rsicd": 24}  # of a class, of a set
SHARDS = {"pub11": 2, "rs3": 2}  # training shards; one more of each half is a validation shard
PAIRS = 48  # of a shard
SCENES = 2
TOPS = {"eurosat": "eurosat-rgb/2750", "resisc45": "RESISC45", "aid": "AID"}
TABLES = {  # folder of the images, encoding of the csv, captions with a letter that tells it
    "rsitmd": ("images", "utf-8", "a café near water, view {}, sentence {}"),
    "rsicd": ("RSICD_images", "gb18030", "many buildings’ roofs, view {}, sentence {}"),
}


def jpeg(pixels: np.ndarray, size: tuple[int, int]) -> bytes:
    content, image = io.BytesIO(), Image.fromarray(pixels)
    image.resize(size, Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


def views() -> Iterator[np.ndarray]:
    """Squares of the pocket world, always the same ones in the same order, without end."""
    chips, generator = pocket.chips("train").images, np.random.default_rng(0)
    while True:
        yield chips[generator.integers(len(chips))]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def labelled(folder: Path, name: str, picture: Iterator[np.ndarray]) -> None:
    """A set of class folders, without content of its own."""
    known = cards.card(name)
    for label in known["classes"]:
        for i in range(EACH[name]):
            path = folder / TOPS[name] / label / f"{label}_{i + 1}.jpg"
            write(path, jpeg(next(picture), tuple(known["size"])))


def eurosat(folder: Path, real: Path) -> None:
    """EuroSAT's first images of each class, byte for byte."""
    data = datasets.classes("eurosat", real)
    for c in range(len(data.classes)):
        for i in np.flatnonzero(data.labels == c)[: EACH["eurosat"]]:
            write(folder / TOPS["eurosat"] / data.images.names[i], data.images.read(i))


def captioned(folder: Path, name: str, picture: Iterator[np.ndarray]) -> None:
    """A set with its csv of five captions an image, rows not in the order of the names."""
    inside, encoding, text = TABLES[name]
    rows = ["filename,title"]
    for i in reversed(range(EACH[name])):
        write(folder / name / inside / f"{name}_{i}.jpg", jpeg(next(picture), (224, 224)))
        rows += [f'{name}_{i}.jpg,"{text.format(i, n)}"' for n in range(5)]
    write(folder / name / f"{name}_test.csv", ("\n".join(rows) + "\n").encode(encoding))


def air_slt(folder: Path, picture: Iterator[np.ndarray]) -> None:
    entries, corner = [], [[600.5, 50.0], [890.0, 60.0], [850.0, 300.0]]  # x, y in pixels
    for i in range(SCENES):
        name = f"{i}.jpg"
        write(folder / "AIR-SLT/imgs" / name, jpeg(next(picture), (1000, 800)))
        for text in ("a pond beside a road.\n", "planes parked at an airport.\n"):
            entries += [{"caption": text, "jpg_name": name, "points": [corner]}]
    write(folder / "AIR-SLT/annotations/anno.json", json.dumps(entries).encode())


def shards(folder: Path, picture: Iterator[np.ndarray]) -> None:
    """Both halves of RS5M, in its own layout."""
    texts = pocket.captions(pocket.chips("train"))
    (folder / "rs5m").mkdir(parents=True, exist_ok=True)
    for half, count in SHARDS.items():
        for shard in range(count + 1):
            kind, number = ("train", shard) if shard < count else ("val", 0)
            pairs = [
                records.Record(
                    jpeg(next(picture), (256, 256)),
                    f"{half}_{shard}_{i}",
                    texts[(shard * PAIRS + i) % len(texts)][0],
                )
                for i in range(PAIRS)
            ]
            records.write(folder / "rs5m" / f"{half}-{kind}-{number:04d}.tar", pairs, "rs5m")


def make(folder: Path, real: Path | None = None) -> None:
    """The whole folder. real: a folder with EuroSAT, UC Merced and its captions; what of them it
    has is used, UC Merced by links to its files.
    """
    picture = views()
    if real and any((real / zipped).is_file() for zipped in datasets.LAYOUTS["eurosat"][2]):
        eurosat(folder, real)
    else:
        labelled(folder, "eurosat", picture)
    for name in ("resisc45", "aid"):
        labelled(folder, name, picture)
    for name in TABLES:
        captioned(folder, name, picture)
    air_slt(folder, picture)
    shards(folder, picture)
    for inside in ("ucm_q92.zip", "captions/ucm_captions.json") if real else ():
        if (real / inside).is_file():
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            (folder / inside).symlink_to((real / inside).resolve())
