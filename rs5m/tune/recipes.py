"""Recipes: what is known of GeoRSCLIP's training, setting by setting, and what we chose where
nothing is. Chapter: tune.

rs5m/tune/recipes/NAME.toml gives each setting its value and its mark: published, with where from;
likely, with what it follows from; or ours, with why. A file of one's own is a toml, too:
`name = value` for what differs from the recipe DEFAULT.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import pandas as pd

RECIPES = files("rs5m.tune") / "recipes"
DEFAULT = "georsclip-b32"
MARKS = ("published", "likely", "ours")
DATA = ("shards", "rsicd", "rsitmd", "ret2")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
MODEL = ("model", "pretrained", "data")  # texts beside the settings
SAID = ("captions", "sampling", "normalisation")  # what the loader does; to be read, not changed


@dataclass(frozen=True)
class Recipe:
    """One training run as data.

    model, pretrained: arguments of `rs5m.clip.load`; data: one of DATA; settings: fields of
    `rs5m.tune.Settings`; marks: for each setting, these three and what the loader does included,
    (value, one of MARKS, where from or why).
    """

    name: str
    model: str
    pretrained: str | None
    data: str
    settings: Mapping[str, object]
    marks: Mapping[str, tuple[object, str, str]]


def names() -> list[str]:
    """The recipes there are."""
    return sorted(path.name.removesuffix(".toml") for path in RECIPES.iterdir())


def get(name: str) -> Recipe:
    """The recipe of that name, or of a file NAME.toml. ValueError, naming all, for any other, and
    for a file with an unknown name or a value of another type.
    """
    if name.endswith(".toml"):
        return _of_file(Path(name))
    if name not in names():
        raise ValueError(
            f"unknown recipe {name!r}: choose one of {', '.join(names())}, or name a file FILE.toml"
        )
    rows = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    return _made(
        name, {key: (row["value"], row["known"], row["source"]) for key, row in rows.items()}
    )


def _made(name: str, marks: Mapping[str, tuple[object, str, str]]) -> Recipe:
    settings = {key: value for key, (value, *_) in marks.items() if key in _fields()}
    model, pretrained, data = (marks[key][0] for key in MODEL)
    frozen = MappingProxyType(settings), MappingProxyType(dict(marks))
    return Recipe(name, model, pretrained or None, data, *frozen)


def _of_file(path: Path) -> Recipe:
    """The recipe DEFAULT with what a file sets: `name = value`, or rows like those of the
    package's files.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not there: give a recipe's file, or one of {', '.join(names())}"
        ) from error
    except ValueError as error:  # tomllib's own, and bytes that are not UTF-8
        raise ValueError(
            f"{path} is not toml ({error}): write name = value on each line"
        ) from error
    marks = dict(get(DEFAULT).marks)
    usual = marks | _fields()
    if "model" in given:  # other weights than the default's
        marks["pretrained"] = ("", "ours", path.name)
    for key, row in given.items():
        row = row if isinstance(row, dict) else {"value": row}
        if key not in usual or not {"value"} <= row.keys() <= {"value", "known", "source"}:
            raise ValueError(f"{path}: {_unknown(key, row, usual)}")
        default = "" if key in MODEL + SAID else usual[key]
        value = _checked(
            f"{path}: {key} = {json.dumps(row['value'], default=str)}", row["value"], default
        )
        known, source = row.get("known", "ours"), row.get("source", path.name)
        if known not in MARKS or not isinstance(source, str):
            raise ValueError(
                f"{path}: [{key}] is {known!r} by {source!r}: give one of {', '.join(MARKS)}, and "
                "a text"
            )
        marks[key] = (value, known, source)
    if marks["data"][0] not in DATA:
        raise ValueError(f"{path}: data is {marks['data'][0]!r}: give one of {', '.join(DATA)}")
    return _made(path.stem, marks)


def _unknown(key: str, row: dict, known: Mapping) -> str:
    """What is wrong with a row of a recipe's file: its name, or the names in it."""
    if key in known:
        return f"[{key}] has {', '.join(row) or 'nothing'}: give it value, known and source"
    near = difflib.get_close_matches(key, known, 1, cutoff=0)
    return f"unknown setting {key!r}: the nearest is {near[0]} (there are {', '.join(known)})"


def table(name: str) -> pd.DataFrame:
    """DataFrame setting, value, known (one of MARKS), source of a recipe."""
    rows = [(setting, *row) for setting, row in get(name).marks.items()]
    return pd.DataFrame(rows, columns=["setting", "value", "known", "source"])


def overview() -> str:
    """A line for each recipe: its name, model, method, epochs, batch and learning rate, and whence
    the rate is.
    """
    lines = []
    for name in names():
        recipe = get(name)
        about, rate = recipe.settings, recipe.marks["learning_rate"]
        model = " ".join(filter(None, (recipe.model, recipe.pretrained)))
        lines.append(
            f"{name:20} {model}, {about['method']}, epochs {about['epochs']}, batch "
            f"{about['batch_size']}, learning rate {rate[0]:g} ({rate[1]}: {rate[2]})"
        )
    return "\n".join(lines)


def begin_from(recipe: Recipe, model: str = "", pretrained: str = "") -> Recipe:
    """The recipe with another model, or other general weights of its own; a model of its own name
    brings none of the recipe's weights.
    """
    if not model and not pretrained:
        return recipe
    changed = {"model": model or recipe.model, "pretrained": pretrained}
    marks = {key: (value, "ours", "changed on the command line") for key, value in changed.items()}
    return _made(recipe.name, recipe.marks | marks)


def change(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The recipe with settings changed by texts "field=value", values as in JSON; a change is
    marked ours.

    ValueError for a text without =, an unknown field or a value of another type.
    """
    settings, marks = dict(recipe.settings), dict(recipe.marks)
    for text in assignments:
        field, equals, word = text.partition("=")
        if not equals or field not in _fields():
            raise ValueError(
                f"--set {text}: give field=value, the field one of {', '.join(_fields())}"
            )
        settings[field] = _value(field, word, _fields()[field])
        marks[field] = (settings[field], "ours", "changed on the command line")
    frozen = {"settings": MappingProxyType(settings), "marks": MappingProxyType(marks)}
    return dataclasses.replace(recipe, **frozen)


def _fields() -> dict[str, object]:
    """The settings, each with a value of its type: the default, or one where that is unset."""
    from rs5m.tune.schedule import Settings  # imports torch

    return vars(Settings()) | {"steps": 100}


def _value(field: str, word: str, default: object) -> object:
    """A word as a value of the default's type; on and off are true and false."""
    plain = {"on": "true", "off": "false"}.get(word.lower(), word.lower())
    try:
        value = word if isinstance(default, str) else json.loads(plain)
    except ValueError:
        value = None
    return _checked(f"--set {field}={word}", value, default)


def _checked(where: str, value: object, default: object) -> object:
    """A value of the default's type; a whole number will do for a fraction."""
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        such = f", such as {json.dumps(default)}" if default != "" else ""
        raise ValueError(f"{where}: give {KINDS[type(default)]}{such}")
    return value
