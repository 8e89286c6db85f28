"""A tuning run by a recipe, from what is given to what is written. Chapter: tune."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rs5m.files import sha256, whole
from rs5m.tune.recipes import Recipe

if TYPE_CHECKING:
    from rs5m.tune.kept import Validation


def run(
    recipe: Recipe,
    data: Sequence[str],
    out: str | Path,
    checkpoint: str | Path | None = None,
    workers: int = 0,
    board: bool = False,
    image_column: str = "",
    caption_column: str = "",
    validate: Callable[[], Validation] | None = None,
) -> str:
    """Tune by a recipe; writes a folder that open_clip loads as local-dir:OUT, with run.json, and
    returns a sentence about it.

    Adapters are in out/adapter/, beside the model if they can be merged. A run that stopped goes
    on. Under torchrun the first process writes, the others return "".

    Args:
        data: of `rs5m.data.shards.local`; what `rs5m.data.pairs` packs into out/shards; for
            rsicd, rsitmd and ret2 also the folder in the official layout.
        checkpoint: weights to begin from in place of the recipe's.
        workers: processes that decode.
        board: write TensorBoard's files, too.
        image_column, caption_column: of a table, guessed and said where they are not given.
        validate: makes what judges the weights on the way; the best ones are in out/best.
    """
    from rs5m import clip
    from rs5m.tune.distributed import rank, start_processes
    from rs5m.tune.kept import best
    from rs5m.tune.loader import Shards
    from rs5m.tune.log import refuse_other, spent
    from rs5m.tune.loop import fit
    from rs5m.tune.schedule import Settings

    out = Path(out)
    begun = time.perf_counter() - spent(out)  # a run that goes on has spent seconds before
    refuse_missing(data, "shards, a table or a folder of pairs")
    settings = Settings(**recipe.settings)  # what makes no sense is named before anything is read
    refuse_other(out, settings)
    packed = prepared(recipe.data, data, image_column, caption_column)
    start_processes()  # before the model takes its device
    judge = validate() if validate and not rank() else None
    model = _model(recipe, checkpoint)
    source = Shards(packed(out), model.image_size, on_device=clip.device().type == "cuda")
    tuned, losses = fit(model, source, settings, out, workers, board, validate=judge)
    if rank():
        return ""
    record = _begun(recipe, checkpoint) | _account(recipe, tuned, source, losses, out, data)
    record |= {"validation": {**judge.about, "best": best(out)}} if judge else {}
    return _write(tuned, recipe, out, record | {"seconds": round(time.perf_counter() - begun, 1)})


def _model(recipe: Recipe, checkpoint: str | Path | None):
    """The model to begin with; random weights are the seed's, and said: hardly anybody means
    them.
    """
    import torch

    from rs5m import clip
    from rs5m.tune.distributed import rank

    bare = not (recipe.pretrained or checkpoint or rank())
    if bare and recipe.model in clip.open_clip.list_models():
        tags = clip.open_clip.list_pretrained_tags_by_model(recipe.model)
        cure = f"--checkpoint, or --pretrained {' or '.join(tags)}" if tags else "--checkpoint"
        print(f"warning: {recipe.model} begins from random weights: give {cure}")
    torch.manual_seed(recipe.settings["seed"])
    return clip.load(recipe.model, recipe.pretrained, checkpoint or None)


def refuse_missing(given: Sequence[str | Path], wanted: str) -> None:
    """FileNotFoundError for what is not there and is no pattern or address."""
    for one in map(str, given):
        if not re.search(r"://|[*?\[{]", one) and not Path(one).exists():
            raise FileNotFoundError(f"{one} is not there: name {wanted}")


def shards(
    data: str, given: Sequence[str], out: Path, image_column: str = "", caption_column: str = ""
) -> list:
    """What to train on: given shards as they are, of a folder its training shards, or shards built
    in out/shards, of the set `data` or of what `rs5m.data.pairs` packs.

    Args:
        data: of the recipe, one of `recipes.DATA`.
        given: shards, their folder, a table or a folder of pairs.
        out: the folder of the run.
        image_column, caption_column: of a table; guessed where empty.
    """
    return prepared(data, given, image_column, caption_column)(out)


def prepared(
    data: str, given: Sequence[str], image_column: str = "", caption_column: str = ""
) -> Callable[[Path], list]:
    """`shards` in two steps: wrong columns and kinds are named here, images are read when the
    function that is returned gets `out`. Args: those of `shards`.
    """
    from rs5m.data import pairs
    from rs5m.tune import ret2

    folder = Path(given[0])
    if len(given) == 1 and folder.is_dir():
        # RS5M's folder holds validation shards as well
        if training := sorted(folder.glob("**/*-train-*.tar")):
            return lambda out: training
        if data != "shards" and not any(folder.glob("*.tar")):
            return partial(_built, partial(ret2.shards, folder, data))
    if found := pairs.packable(given):
        return partial(_built, pairs.packer(found, image_column, caption_column))
    return lambda out: list(given)


def _built(make: Callable[[Path], list[Path]], folder: Path) -> list[Path]:
    """The set's shards, made by the first process; the others wait, and torchrun ends them if it
    fails.
    """
    from rs5m.tune.distributed import rank

    out = folder / "shards"
    while rank() and not out.is_dir():
        time.sleep(1)
    return make(out)


def _begun(recipe: Recipe, checkpoint: str | Path | None) -> dict:
    """What the run began from: a name for people, and what tells it from others of that name."""
    general = " ".join(filter(None, (recipe.model, recipe.pretrained)))
    model = {"name": recipe.model, "pretrained": recipe.pretrained}
    if not checkpoint:
        return {"recipe": recipe.name, "base": general, "model": model}
    file = {"file": Path(checkpoint).name, "sha256": sha256(checkpoint)}
    model["checkpoint"] = file
    return {"recipe": recipe.name, "base": Path(checkpoint).name, "model": model}


def _broken(out: Path) -> dict[str, list[str]]:
    """The pairs whose image could not be read when its batch came, each once, by reason."""
    from rs5m.tune.log import DAMAGED

    path, found = out / DAMAGED, {}
    for line in sorted(set(path.read_text().splitlines())) if path.is_file() else ():
        pair, _, reason = line.rpartition(": ")
        found.setdefault(reason, []).append(pair)
    return found


def _account(
    recipe: Recipe, tuned, source, losses: list[float], out: Path, data: Sequence[str]
) -> dict:
    """What run.json says beside the times: every number is of this run."""
    from rs5m import results
    from rs5m.data import images, runfolder
    from rs5m.data.shards import BESIDE, beside
    from rs5m.device import precision

    built = out / "shards" / "data.json"
    origin = results.provenance("recipe", recipe.settings["seed"])
    counts = json.loads(built.read_text()) if built.is_file() else {}
    counts.pop("folder", None)  # says nothing on another machine
    left_out = dict(Counter(counts.get("left_out", {})) + Counter(source.left_out))
    names = runfolder.left_out(built.parent)
    names |= {reason: some.listed() for reason, some in source.others.items()}
    names |= {"damaged": source.damaged} if source.damaged else {}
    found = len(source) + sum(left_out.values())
    for reason, pairs in _broken(out).items():
        left_out[reason] = left_out.get(reason, 0) + len(pairs)
        names[reason] = [*names.get(reason, ()), *pairs]
    unread = [] if built.is_file() else beside(data, source.paths)
    names |= {BESIDE: unread} if unread else {}
    runfolder.save_left_out(out, names)
    used = found - sum(left_out.values())
    counts |= {
        "found": found,
        "pairs": used,
        "damaged": len(source.damaged),
        "left_out": left_out,
        "fingerprint": source.fingerprint(),
    } | ({"beside": len(unread)} if unread else {})
    print(f"{used} of {found} pairs are used; left out: {left_out}")
    if unread:
        print(f"other files {BESIDE}: {len(unread)}, named in left_out.json")
    columns = ("value", "known", "source")
    return {
        "images": images.RULE,
        "architecture": tuned.name,
        "commit": origin["commit"],
        "device": origin["device"],
        "precision": precision(recipe.settings["precision"]),
        "settings": {k: dict(zip(columns, row, strict=True)) for k, row in recipe.marks.items()},
        "data": counts,
        "losses": {"steps": len(losses), "first": losses[0], "last": losses[-1]},
        "versions": origin["versions"] | {"python": origin["python"]},
    }


def _write(tuned, recipe: Recipe, out: Path, record: dict) -> str:
    """Write the weights and run.json; where they are and how far the loss came, in a sentence."""
    from rs5m import adapters, results
    from rs5m.clip import export

    settings = sorted((k, v) for k, v in recipe.settings.items() if k != "keep_every")
    begun = record["base"], record["model"]
    record["run"] = results.digest(settings, begun, record["data"]["fingerprint"])
    record["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    if adapters.mergeable(recipe.settings["method"]):
        origin = {key: record[key] for key in ("recipe", "base", "run")}
        written = export.openclip(tuned, out, **origin)
    else:
        written = out / "adapter"
    with whole(out / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False))
    steps, first, last = (record["losses"][key] for key in ("steps", "first", "last"))
    return f"{written}: loss {first:.3f} at the first of {steps} steps, {last:.3f} at the last"
