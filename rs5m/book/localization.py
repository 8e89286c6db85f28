"""Large scenes for semantic localization at mini and local, with queries, polygons and scores.
Chapter: selo.

`mini`: blocks of the Blue Marble over Europe and Africa, polygons from the land-cover map. `local`:
mosaics of UC Merced's test tiles, whose cells are known. Nothing in either was seen in tuning.
"""

from functools import partial

import cv2
import numpy as np

from rs5m import pocket, selo
from rs5m.book import sets
from rs5m.book.scales import Scale, data_folder
from rs5m.data.datasets import Labelled
from rs5m.evaluate import testsets
from rs5m.evaluate.localize import Scores
from rs5m.evaluate.prompts import class_prompt
from rs5m.evaluate.testsets import Query, Scene

SIDE = 256  # pixels of a scene in one degree, and in one tile of a mosaic
BLOCK = (8, 12)  # degrees of a scene, north to south and west to east
# corners of the blocks: all of Europe and Africa
NORTH, WEST = range(72, -32, -8), range(-24, 60, 12)
AREAS = 3  # polygons of a query at most
SMALLEST = 1.0  # square degrees of a polygon at least: one chip
LARGEST = 0.3  # share of a scene that a query's polygons may cover
# pixels of the land-cover map: areas and gaps narrower than half a degree do not count
GAP = pocket.COVER // 2 + 1
MOSAIC = (7, 10)  # tiles of a mosaic, rows and columns: the 210 test tiles of UC Merced fill three


def scenes(scale: Scale) -> list[Scene]:
    """The scenes of a scale: `blue_marble` at mini, `mosaics` at local, AIR-SLT elsewhere."""
    if scale.name == "mini":
        return blue_marble()
    if scale.name == "local":
        return mosaics(sets.test_set("ucm", scale))
    return testsets.scenes("air_slt", data_folder(scale))


def blue_marble() -> list[Scene]:
    """One scene for each row of blocks, 8 x 12 degrees enlarged to 2048 x 3072 pixels; read when
    asked for.

    The rule, fixed before any model was asked:
    - blocks lie on the grid NORTH x WEST, all their degrees in the test continents by the nearest
      town;
    - a block's queries are the classes of the test chips for which `areas` finds polygons;
    - of each row of blocks, the one with most queries is taken, the westernmost of several; one
      query is too few.
    """
    taken = []
    for north in NORTH:
        row = [(west, queries(north, west)) for west in WEST if inside(north, west)]
        west, found = max(row, key=lambda block: len(block[1]), default=(0, []))
        if len(found) > 1:
            taken.append(Scene(name(north, west), partial(enlarged, north, west), found))
    return taken


def name(north: int, west: int) -> str:
    """How a block is called: its latitudes and longitudes, as in "8 to 16 N, 12 to 24 E"."""
    spans = []
    for low, high, letters in ((north - BLOCK[0], north, "NS"), (west, west + BLOCK[1], "EW")):
        ends, letter = ((low, high), letters[0]) if high > 0 else ((-high, -low), letters[1])
        spans.append(f"{ends[0]} to {ends[1]} {letter}")
    return ", ".join(spans)


def inside(north: int, west: int) -> bool:
    """Whether the town nearest to every degree of a block lies in Europe or Africa."""
    import reverse_geocode  # builds its tree at first use

    cells = [(north - r - 0.5, west + c + 0.5) for r in range(BLOCK[0]) for c in range(BLOCK[1])]
    towns = reverse_geocode.search(cells)
    found = [
        pocket.continent(town["country_code"], *at) for town, at in zip(towns, cells, strict=True)
    ]
    return bool(np.isin(found, pocket.TEST_CONTINENTS).all())


def block(world: np.ndarray, pixels: int, north: int, west: int) -> np.ndarray:
    """A block of BLOCK degrees, (BLOCK[0] * pixels, BLOCK[1] * pixels), cut from a map of the
    world.

    Args:
        world: (180 * pixels, 360 * pixels) or more axes, the north pole and the date line first.
        pixels: in one degree.
        north, west: degrees of the block's upper left corner.
    """
    top, left = (90 - north) * pixels, (west + 180) * pixels
    return world[top : top + BLOCK[0] * pixels, left : left + BLOCK[1] * pixels]


def enlarged(north: int, west: int) -> np.ndarray:
    """A block of the Blue Marble, a degree of 15 pixels enlarged to SIDE (cubic): uint8 (2048,
    3072, 3).
    """
    part = block(pocket.blue_marble(), pocket.CHIP, north, west)
    return cv2.resize(part, (BLOCK[1] * SIDE, BLOCK[0] * SIDE), interpolation=cv2.INTER_CUBIC)


def queries(north: int, west: int) -> list[Query]:
    """The classes of a block that have areas, each as a prompt of the paper with its polygons."""
    cover, names = block(pocket.land_cover(), pocket.COVER, north, west), pocket.class_names()
    found = [(label, areas(cover, names.index(label))) for label in pocket.chips("test").classes]
    return [
        Query(f"a satellite image of the {label}.", regions) for label, regions in found if regions
    ]


def areas(cover: np.ndarray, code: int) -> list[np.ndarray]:
    """Polygons (k, 2) x, y in pixels of the scene around the compact areas of a land-cover class;
    [] if none hold.

    cover: a block of the land-cover map (160, 240). Gaps and then arms narrower than GAP are taken
    away, what is left of SMALLEST size is outlined. That must be at most AREAS polygons, at most
    LARGEST of the scene, the class on at least pocket.MAJORITY of it, and at least that share of
    the class: what is not outlined would count as a mistake.
    """
    mask, disc = (
        (cover == code).astype(np.uint8),
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GAP, GAP)),
    )
    smooth = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc)
    outlines, _ = cv2.findContours(smooth, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [o for o in outlines if cv2.contourArea(o) >= SMALLEST * pocket.COVER**2]
    polygons = [cv2.approxPolyDP(o, pocket.COVER / 10, True)[:, 0] for o in large]
    if not 1 <= len(polygons) <= AREAS:
        return []
    filled = cv2.fillPoly(np.zeros_like(mask), polygons, 1)
    both = (mask * filled).sum()
    good = (
        min(both / filled.sum(), both / mask.sum()) >= pocket.MAJORITY and filled.mean() <= LARGEST
    )
    return [(p + 0.5) * (SIDE / pocket.COVER) for p in polygons] if good else []


def layouts(tiles: int, seed: int = 0) -> np.ndarray:
    """Which tile lies in which cell: int (mosaics, rows, columns); no tile lies in two cells."""
    each = MOSAIC[0] * MOSAIC[1]
    order = np.random.default_rng(seed).permutation(tiles)
    return order[: tiles // each * each].reshape(-1, *MOSAIC)


def scattered(grid: np.ndarray, label: int) -> np.ndarray:
    """Cells (n, 2) row, column of a label in a mosaic (rows, columns); none where they are over
    AREAS or touch.
    """
    cells = np.argwhere(grid == label)
    apart = np.abs(cells[:, None] - cells).max(-1) + 2 * np.eye(len(cells), dtype=int)
    return cells if len(cells) <= AREAS and apart.min(initial=2) > 1 else cells[:0]


def mosaics(test: Labelled, seed: int = 0) -> list[Scene]:
    """Mosaics of MOSAIC tiles of SIDE pixels in random order; a query for each class with 1 to
    AREAS cells apart.
    """
    return [
        Scene(f"mosaic {i + 1}", partial(joined, test.images, grid), _cells(test, grid))
        for i, grid in enumerate(layouts(len(test.labels), seed))
    ]


def _cells(test: Labelled, grid: np.ndarray) -> list[Query]:
    # the boundary of a polygon belongs to it
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (SIDE - 1)
    found = []
    for label, folder in enumerate(test.classes):
        if len(cells := scattered(test.labels[grid], label)):
            text = f"an aerial image of the {class_prompt(folder)}."
            found.append(Query(text, [corners + SIDE * cell[::-1].astype(float) for cell in cells]))
    return found


def joined(images: list[np.ndarray], grid: np.ndarray) -> np.ndarray:
    """The mosaic of a grid of tiles: uint8 (rows x SIDE, columns x SIDE, 3); a tile of another size
    is resized.
    """
    shape = (SIDE, SIDE)
    tiles = [
        [cv2.resize(images[i], shape, interpolation=cv2.INTER_CUBIC) for i in row] for row in grid
    ]
    return np.concatenate([np.concatenate(row, 1) for row in tiles])


def informed(scene: Scene, seen: Scores) -> Scores:
    """The scores of an oracle: the share of a window that a query's polygons
    cover.
    """
    tables = [cv2.integral(selo.mask(query.regions, *seen.shape)) for query in scene.queries]
    r0, r1, c0, c1 = seen.windows.T
    inside = np.stack([t[r1, c1] - t[r0, c1] - t[r1, c0] + t[r0, c0] for t in tables])
    return seen._replace(cosines=inside / ((r1 - r0) * (c1 - c0)))
