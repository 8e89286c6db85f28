"""What of their folder the chapters read at colab and paper, and which of them can run on what is
there. Chapter: setup.
"""

from collections.abc import Callable
from typing import NamedTuple

from rs5m.book import domain
from rs5m.book.scales import Scale, data_folder
from rs5m.data import datasets


class Part(NamedTuple):
    """A part of the folder: what `rs5m fetch` calls it, a look that raises FileNotFoundError where
    it is not there, and the chapters that stop without it.
    """

    title: str
    fetch: str
    look: Callable[[Scale], object]
    chapters: tuple[str, ...]


def _captioned(name: str) -> Callable[[Scale], object]:
    return lambda scale: datasets.captions(name, data_folder(scale))


def _scenes(scale: Scale) -> None:
    if datasets.base_of(data_folder(scale), "AIR-SLT/annotations/anno.json") is None:
        raise FileNotFoundError("no AIR-SLT")


PARTS = (
    Part(
        "EuroSAT",
        "tests",
        lambda scale: datasets.classes("eurosat", data_folder(scale)),
        ("clip", "tune", "adapters", "zeroshot", "leaderboard", "rotation", "rs3", "selo"),
    ),
    Part(
        "RS5M's shards",
        "shards",
        domain.published_shards,
        ("tune", "adapters", "zeroshot", "leaderboard", "retrieval", "selo"),
    ),
    Part("RSITMD", "tests", _captioned("rsitmd"), ("retrieval",)),
    Part("RSICD", "tests", _captioned("rsicd"), ("retrieval",)),
    Part("AIR-SLT", "tests", _scenes, ("selo",)),
)


def lacking(scale: Scale) -> dict[str, list[Part]]:
    """chapter -> the parts that it stops without and the folder does not have; a scale that is not
    the published one's lacks nothing here.
    """
    lost = {}
    for part in PARTS if not scale.lock_text else ():
        try:
            part.look(scale)
        except FileNotFoundError:
            for chapter in part.chapters:
                lost.setdefault(chapter, []).append(part)
    return lost


def told(scale: Scale, pages: list[str]) -> list[str]:
    """What is to be said before the first of the pages runs: of each that will stop, what it needs,
    and which can run. Nothing where all can.
    """
    lost = {page: parts for page, parts in lacking(scale).items() if page in pages}
    lines = [
        f"{page} needs {', '.join(part.title for part in parts)}: `rs5m fetch "
        f"{' '.join(dict.fromkeys(part.fetch for part in parts))} --out {data_folder(scale)}`"
        for page, parts in lost.items()
    ]
    if lost:
        lines.append(f"can run: {', '.join(page for page in pages if page not in lost)}")
    return lines
