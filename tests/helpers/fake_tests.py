"""Small folders in the true layout of the official test sets, a few images each."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from small import encoded

from rs5m.evaluate import cards


def jpeg(seed: int, size: tuple[int, int] = (64, 64)) -> bytes:
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
    return encoded(image, "JPEG", quality=90)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def labelled(folder: Path, root: str, name: str, each: int = 2) -> None:
    """`each` images of every class of the card."""
    known = cards.card(name)
    for c, label in enumerate(known["classes"]):
        for i in range(each):
            write(
                folder / root / label / f"{label}_{i + 1:03d}.jpg",
                jpeg(10 * c + i, tuple(known["size"])),
            )


def eurosat(folder: Path) -> None:
    labelled(folder, "eurosat-rgb/2750", "eurosat")


def resisc45(folder: Path) -> None:
    labelled(folder, "RESISC45", "resisc45")


def aid(folder: Path) -> None:
    labelled(folder, "AID", "aid", 1)


def captioned(
    folder: Path, name: str, images: str, encoding: str, title: str, count: int = 3
) -> None:
    """A csv whose rows are not in the order of the names, five captions for each image."""
    size = tuple(cards.card(name).get("size", (64, 64)))
    rows = ["filename,title"]
    for i in reversed(range(count)):
        write(folder / name / images / f"{i}.jpg", jpeg(i, size))
        rows += [f'{i}.jpg,"{title} {i}, sentence {n}"' for n in range(5)]
    write(folder / name / f"{name}_test.csv", ("\n".join(rows) + "\n").encode(encoding))


def rsitmd(folder: Path) -> None:
    captioned(folder, "rsitmd", "images", "utf-8", "a café near water")


def rsicd(folder: Path) -> None:
    captioned(folder, "rsicd", "RSICD_images", "gb18030", "many buildings’ roofs 河")


def air_slt(folder: Path, swap: bool = False) -> None:
    entries = []
    for i in range(2):
        write(folder / "AIR-SLT" / "imgs" / f"{i}.jpg", jpeg(i, (900, 600)))
        points = [[800.5, 50.0], [890.0, 60.0], [850.0, 300.0]]
        points = [[y, x] for x, y in points] if swap else points
        entries += [
            {"caption": f"a pond {n}.\n", "jpg_name": f"{i}.jpg", "points": [points]}
            for n in range(2)
        ]
    write(folder / "AIR-SLT" / "annotations" / "anno.json", json.dumps(entries).encode())


SETS = (eurosat, resisc45, aid, rsitmd, rsicd, air_slt)


def make(folder: Path) -> None:
    """All of them."""
    for each in SETS:
        each(folder)
