"""Recipes: what is known of GeoRSCLIP's training, setting by setting, and what we chose where
nothing is. Chapter: tune.

rs5m/tune/recipes/NAME.toml gives each setting its value and its mark: published, with where from,
or ours, with why.
"""

from __future__ import annotations

import dataclasses
import json
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from rs5m.files import whole

RECIPES = files("rs5m.tune") / "recipes"
MARKS = ("published", "ours")
DATA = ("shards", "rsicd", "rsitmd", "ret2")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


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
    """The recipe of that name. ValueError, naming all, for any other."""
    if name not in names():
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(names())}")
    rows = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    marks = {key: (row["value"], row["known"], row["source"]) for key, row in rows.items()}
    settings = {key: value for key, (value, *_) in marks.items() if key in _fields()}
    model, pretrained, data = (marks[key][0] for key in ("model", "pretrained", "data"))
    frozen = MappingProxyType(settings), MappingProxyType(marks)
    return Recipe(name, model, pretrained or None, data, *frozen)


def table(name: str) -> pd.DataFrame:
    """DataFrame setting, value, known (published or ours), source of a recipe."""
    rows = [(setting, *row) for setting, row in get(name).marks.items()]
    return pd.DataFrame(rows, columns=["setting", "value", "known", "source"])


def change(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The recipe with settings changed by texts "field=value", values as in JSON; a change is
    marked ours.

    ValueError for a text without =, an unknown field or a value of another type.
    """
    settings, marks = dict(recipe.settings), dict(recipe.marks)
    for text in assignments:
        field, equals, word = text.partition("=")
        if not equals or field not in settings:
            raise ValueError(
                f"--set {text}: give field=value, the field one of {', '.join(settings)}"
            )
        settings[field] = _value(field, word, _fields()[field].default)
        marks[field] = (settings[field], "ours", "changed on the command line")
    frozen = {"settings": MappingProxyType(settings), "marks": MappingProxyType(marks)}
    return dataclasses.replace(recipe, **frozen)


def _fields() -> dict[str, dataclasses.Field]:
    from rs5m.tune.schedule import Settings  # imports torch

    return {field.name: field for field in dataclasses.fields(Settings)}


def _value(field: str, word: str, default: object) -> object:
    """A word as a value of the default's type; a whole number will do for a fraction."""
    try:
        value = word if isinstance(default, str) else json.loads(word.lower())
    except ValueError:
        value = None
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        kind = KINDS[type(default)]
        raise ValueError(f"--set {field}={word}: give {kind}, such as {json.dumps(default)}")
    return value


# ---------------------------------------------------------------- a run


def run(
    recipe: Recipe,
    data: Sequence[str],
    out: str | Path,
    checkpoint: str | Path | None = None,
    workers: int = 0,
    board: bool = False,
    image_column: str = "",
    caption_column: str = "",
) -> str:
    """Tune by a recipe; writes a folder that open_clip loads as local-dir:OUT, with run.json, and
    returns a sentence about it.

    Adapters are in out/adapter/, beside the model where they can be merged into it. A run that
    stopped goes on. Under torchrun the first process writes, the others return "".

    Args:
        data: shards, their folders or addresses (see `rs5m.data.shards.local`); what
            `rs5m.data.pairs` packs into out/shards; for rsicd, rsitmd and ret2 also the folder in
            the official layout.
        checkpoint: weights to begin from in place of the recipe's.
        workers: processes that decode.
        board: write TensorBoard's files, too.
        image_column, caption_column: of a table, guessed and said where they are not given.
    """
    from rs5m import clip
    from rs5m.tune.distributed import rank, start_processes
    from rs5m.tune.loader import Shards
    from rs5m.tune.log import spent
    from rs5m.tune.loop import fit
    from rs5m.tune.schedule import Settings

    out = Path(out)
    begun = time.perf_counter() - spent(out)  # a run that goes on has spent seconds before
    start_processes()  # before the model takes its device
    paths = shards(recipe.data, data, out, image_column, caption_column)
    model = clip.load(recipe.model, recipe.pretrained, checkpoint or None)
    source = Shards(paths, model.image_size, on_device=clip.device().type == "cuda")
    tuned, losses = fit(model, source, Settings(**recipe.settings), out, workers, board)
    if rank():
        return ""
    general = " ".join(filter(None, (recipe.model, recipe.pretrained)))
    record = {"recipe": recipe.name, "base": Path(checkpoint).name if checkpoint else general}
    record |= _account(recipe, tuned, source, losses, out)
    print("{pairs} of {found} pairs are used; left out: {left_out}".format_map(record["data"]))
    record["seconds"] = round(time.perf_counter() - begun, 1)
    written = _write(tuned, recipe, out, record)
    first, last = f"{losses[0]:.3f}", f"{losses[-1]:.3f}"
    return f"{written}: loss {first} at the first of {len(losses)} steps, {last} at the last"


def shards(
    data: str, given: Sequence[str], out: Path, image_column: str = "", caption_column: str = ""
) -> list:
    """What to train on: given shards as they are, of a folder its training shards, or shards built
    in out/shards, of the set `data` or of what `rs5m.data.pairs` packs.
    """
    from rs5m.data import pairs
    from rs5m.tune import ret2

    folder = Path(given[0])
    if len(given) == 1 and folder.is_dir():
        # RS5M's folder holds validation shards as well
        if training := sorted(folder.glob("**/*-train-*.tar")):
            return training
        if data != "shards" and not any(folder.glob("*.tar")):
            return _built(partial(ret2.shards, folder, data), out / "shards")
    if found := pairs.packable(given):
        pack = partial(pairs.pack, found, image=image_column, caption=caption_column)
        return _built(pack, out / "shards")
    return list(given)


def _built(make: Callable[[Path], list[Path]], out: Path) -> list[Path]:
    """The set's shards, made by the first process; the others wait, and torchrun ends them if it
    fails.
    """
    from rs5m.tune.distributed import rank

    while rank() and not out.is_dir():
        time.sleep(1)
    return make(out)


def _account(recipe: Recipe, tuned, source, losses: list[float], out: Path) -> dict:
    """What run.json says beside the times: every number is of this run."""
    from rs5m import results
    from rs5m.data import images, runfolder

    built = out / "shards" / "data.json"
    origin = results.provenance("recipe", recipe.settings["seed"])
    counts = json.loads(built.read_text()) if built.is_file() else {}
    counts.pop("folder", None)  # says nothing on another machine
    left_out = dict(Counter(counts.get("left_out", {})) + Counter(source.left_out))
    names = runfolder.left_out(built.parent)
    runfolder.save_left_out(out, names | ({"damaged": source.damaged} if source.damaged else {}))
    counts |= {
        "found": len(source) + sum(left_out.values()),
        "pairs": len(source),
        "damaged": len(source.damaged),
        "left_out": left_out,
        "fingerprint": source.fingerprint(),
    }
    columns = ("value", "known", "source")
    return {
        "images": images.RULE,
        "architecture": tuned.name,
        "commit": origin["commit"],
        "device": origin["device"],
        "settings": {k: dict(zip(columns, row, strict=True)) for k, row in recipe.marks.items()},
        "data": counts,
        "losses": {"steps": len(losses), "first": losses[0], "last": losses[-1]},
        "versions": origin["versions"] | {"python": origin["python"]},
    }


def _write(tuned, recipe: Recipe, out: Path, record: dict) -> Path:
    from rs5m import adapters, results
    from rs5m.clip import export

    settings = sorted(recipe.settings.items())
    record["run"] = results.digest(settings, record["base"], record["data"]["fingerprint"])
    record["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    if adapters.mergeable(recipe.settings["method"]):
        origin = {key: record[key] for key in ("recipe", "base", "run")}
        written = export.openclip(tuned, out, **origin)
    else:
        written = out / "adapter"
    with whole(out / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False))
    return written
