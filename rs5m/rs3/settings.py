"""How a run of RS3 is done. Chapter: rs3."""

from dataclasses import dataclass

from rs5m import captions, rotation
from rs5m.data import records

ORDERS = ("metadata first", "visual first")
CHOICES = ("rotation", "top", "drawn")
RENDERINGS = ("all", "rgb", "msrgb")
SHARD = 256  # images of one shard: what a killed run may have to do again


@dataclass(frozen=True)
class Settings:
    """How a run is done; ValueError where it cannot be.

    Args:
        order: one of `ORDERS`, see `join`.
        part: (i, n) for only the shards whose number is i modulo n.
        candidates: captions that are written for an image.
        criterion: one of `rotation.CRITERIA`.
        angles: degrees.
        shard_size: images of one shard.
        layout: the members' names in the shards, one of `records.LAYOUTS`.
        choice: one of `CHOICES`: the visual caption is the one that turning chose, the best ranked
            one, or one of these two drawn by the image's name, as in the release (author, official
            tracker, issue 5).
        captions: how many captions a pair keeps: the chosen one, then the best ranked others.
        rendering: one of `RENDERINGS`: of an fMoW view that is there as NAME_rgb and as NAME_msrgb,
            both are taken, as in the release, or this one.
    """

    order: str = ORDERS[0]
    part: tuple[int, int] = (0, 1)
    candidates: int = captions.CANDIDATES
    criterion: str = rotation.CRITERIA[0]
    angles: tuple[float, ...] = tuple(rotation.ANGLES)
    shard_size: int = SHARD
    layout: str = records.LAYOUTS[0]
    choice: str = CHOICES[0]
    rendering: str = RENDERINGS[0]
    captions: int = 1

    def __post_init__(self):
        for kind, value, known in (
            ("order", self.order, ORDERS),
            ("criterion", self.criterion, rotation.CRITERIA),
            ("layout", self.layout, records.LAYOUTS),
            ("choice", self.choice, CHOICES),
            ("rendering", self.rendering, RENDERINGS),
        ):
            if value not in known:
                raise ValueError(f"unknown {kind} {value!r}: choose one of {', '.join(known)}")
        if not (len(self.part) == 2 and 0 <= self.part[0] < self.part[1]):
            raise ValueError(f"part is {self.part}: give (i, n) with i from 0 to n - 1")
        if self.candidates < 1 or self.shard_size < 1:
            raise ValueError(
                f"candidates is {self.candidates} and shard_size is {self.shard_size}: "
                "give at least 1"
            )
        if not 1 <= self.captions <= captions.KEEP[1]:
            raise ValueError(
                f"captions is {self.captions}: give 1 to {captions.KEEP[1]}, as many as are ranked"
            )
        if self.captions > 1 and self.layout != records.LAYOUTS[0]:
            raise ValueError(
                f"the layout {self.layout} has room for one caption: give captions 1, or "
                f"choose the layout {records.LAYOUTS[0]}"
            )
        rotation.side(1, self.angles)  # its own sentence for bad angles

    def facts(self) -> dict:
        """What run.json holds of them: all but the part, and the rendering and the number of
        captions where they are not the usual ones.
        """
        one = {} if self.rendering == RENDERINGS[0] else {"rendering": self.rendering}
        one |= {} if self.captions == 1 else {"captions": self.captions}
        return one | {
            "order": self.order,
            "candidates": self.candidates,
            "criterion": self.criterion,
            "angles": [float(angle) for angle in self.angles],
            "shard": self.shard_size,
            "layout": self.layout,
            "choice": self.choice,
        }


DEFAULT = Settings()
