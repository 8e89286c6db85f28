"""The list of keywords, the second list and the traps, as ``keywords.toml`` holds them. Chapter:
keywords.
"""

import tomllib
from functools import cache
from importlib import resources


@cache
def _toml() -> dict:
    return tomllib.loads(
        resources.files(__package__).joinpath("keywords.toml").read_text(encoding="utf-8")
    )


def groups(more: bool = False) -> dict[str, dict]:
    """The groups of the list, or of the second list, in the file's order:
    {group: {"reason": str, "terms": [str, ...]}}.
    """
    return {
        name: {"reason": g["reason"], "terms": list(g["terms"])}
        for name, g in _toml()["more" if more else "groups"].items()
    }


def terms(more: bool = False) -> list[str]:
    """All terms of all groups, in the file's order and spelling."""
    return [term for group in groups(more).values() for term in group["terms"]]


def trap_terms() -> list[str]:
    """The phrases in which a keyword means something else."""
    return list(_toml()["traps"]["terms"])


@cache
def ordinary() -> tuple[str, ...]:
    """A hundred captions of ordinary pictures, our own, in which no keyword has business."""
    listed = resources.files(__package__).joinpath("ordinary.txt")
    return tuple(listed.read_text(encoding="utf-8").splitlines())
