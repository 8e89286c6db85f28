"""The official evaluation as one run: sets in, one JSON and one table out. Chapter: zeroshot,
retrieval, selo.

A number has its official name, and the paper's beside it, only where its set is whole: the very
files that its card lists, each of them readable. All other numbers stand apart, with the reason,
under names that nobody publishes.
"""

import difflib
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from rs5m import __version__, clip, pocket, results
from rs5m.clip import known
from rs5m.data.datasets import LeftOut
from rs5m.evaluate import cards, features, labelled, prompts, protocols, reporting, testsets
from rs5m.evaluate.contact import of_run
from rs5m.evaluate.reporting import TITLES, column, side_by_side, sorted_out
from rs5m.evaluate.scoring import SCORE, Found, Scored, protocol

LAYOUT = (
    "eurosat-rgb/2750/, RESISC45/, AID/, rsitmd/, rsicd/ and AIR-SLT/ as in the hub's "
    "rs5m_test_data, or eurosat_rgb.zip and ucm_q92.zip with captions/ucm_captions.json"
)


def run(
    model_name: str,
    checkpoint: str | Path | None,
    data: str | Path,
    tasks: str | list[str],
    out: str | Path,
    predictions: str | Path | None = None,
    words: prompts.Words = prompts.NONE,
    how: dict | None = None,
    asked: protocols.Asked = protocols.NONE,
) -> dict:
    """Evaluate a model on every set of the tasks in the folder: a table on the screen, and a JSON.

    ValueError for an unknown task, FileNotFoundError where the folder has no set of them.

    Args:
        model_name: of `rs5m.clip.load`.
        checkpoint: a file, or open_clip's tag of general weights.
        data: the official test folder, the book's local folder, a set of one's own as
            `rs5m.evaluate.labelled.own` reads it, or "pocket"; or a list of some.
        tasks: of `rs5m.evaluate.testsets.TASKS`, a list or with commas.
        out: the JSON's file.
        predictions: a folder; each labelled set's table by image goes into it as SET.parquet.
        words: names and prompts of one's own classes.
        how: keywords for `rs5m.evaluate.features.encode`.
        asked: protocols beside the usual one, and a table's columns.
    """
    began, out = time.perf_counter(), _writable(Path(out), predictions)
    found, left_out = find_all(chosen(tasks), data, asked)
    _check_words(words, found, asked)
    why = {(f.task, f.name): _differences(f) for f in found}
    model, about = load(model_name, checkpoint)
    store = features.Store(model, how=how)
    scored = {(f.task, f.name): SCORE[f.task](store, f, words, asked.protocols) for f in found}
    for (task, name), result in scored.items():
        left_out += entries(task, name, result.skipped) + entries(task, name, result.strays)
        why[task, name] += _incomplete(result, store.identity["image_precision"])
    report = sorted_out(scored, why, column(model_name, checkpoint)) | {
        "left_out": left_out,
        "protocols": side_by_side(scored),
        "model": about | _network(store.identity),
        "contact": of_run(model_name, checkpoint, map(_card, found)),
        **_made(store, found, words, began),
    }
    reporting.write(report, out)
    reporting.write_predictions(scored, predictions)
    reporting.show(report)
    told = "{total:.1f} s, {encoding:.1f} of them encoding".format_map(report["seconds"])
    print(f"{told}; written to {out}")
    return report


def _made(store: features.Store, found: list[Found], words: prompts.Words, began: float) -> dict:
    """By what protocol, from what, and how long it took."""
    encoding, total = sum(store.seconds.values()), time.perf_counter() - began
    return {
        "protocol": protocol(store, found, words),
        "cards": _cards(found),
        "texts_cut": store.cut,
        "sha256": store.digests,
        "provenance": _provenance(),
        "seconds": {"encoding": encoding, "by_set": store.seconds, "total": total},
    }


def _incomplete(result: Scored, precision: str) -> list[str]:
    """Why a score is not that of the whole set in the official numbers."""
    count, told = sum(map(len, result.skipped.values())), []
    if count:
        told.append(f"files that could not be used: {count}")
    if precision != "float32":
        told.append(f"images were encoded in {precision}")
    return told


def _cards(found: list[Found]) -> dict[str, dict]:
    names = [name for name in map(_card, found) if name in cards.known()]
    return {name: cards.card(name) | {"known_by": cards.known_by(name)} for name in names}


def _network(identity: dict) -> dict:
    return {"weights_sha256": identity["weights"], "quick_gelu": identity["quick_gelu"]}


def _provenance() -> dict:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return results.provenance("official", 0) | {"rs5m": __version__, "date": date}


# ---------------------------------------------------------------- what there is


def chosen(tasks: str | list[str]) -> list[str]:
    """The tasks by name, in the order of `rs5m.evaluate.testsets.TASKS`; ValueError, with the
    names, for any other.
    """
    names = [name.strip() for name in tasks.split(",")] if isinstance(tasks, str) else list(tasks)
    for name in names:
        if name not in testsets.TASKS:
            raise ValueError(f"unknown task {name!r}: choose from {','.join(testsets.TASKS)}")
    return [name for name in testsets.TASKS if name in names]


def find_all(
    tasks: list[str], data: str | Path | list, asked: protocols.Asked = protocols.NONE
) -> tuple[list[Found], list[dict]]:
    """`find` in each of some places; ValueError for two sets of one name."""
    several = data if isinstance(data, list) else [data]
    found, left_out = [], []
    for one in several:
        there, not_there = find(tasks, one, asked.image, asked.label)
        found, left_out = found + there, left_out + not_there
        for task in tasks:
            if not any(f.task == task for f in there):
                print(f"{task}: no set of this task is in {one}")
    names = [(f.task, f.name) for f in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"--data: two sets are called {twice[0][1]}: give each once, or rename a folder"
        )
    return found, left_out


def _nearest(data: str | Path) -> str:
    """Files and folders beside it of a similar name, and the one set that is not a file."""
    path = Path(data)
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, ["pocket", *beside], 3)
    return known.meant(near)


def find(
    tasks: list[str], data: str | Path, image: str = "", label: str = ""
) -> tuple[list[Found], list[dict]]:
    """The sets that are there, unread, and the official ones that are not, with the reason.

    Args: tasks, of `testsets.TASKS`; data, as in `run`; image, label, a table's columns.
    """
    world = str(data) == "pocket"
    if not world and not Path(data).exists():
        raise FileNotFoundError(
            f"{data} is not a folder: {_nearest(data)}put {LAYOUT} into one, or give 'pocket'"
        )
    if not world and (Path(data).is_file() or image or label):
        if "zeroshot" not in tasks:
            raise ValueError(f"{data} is a labelled set: name zeroshot among the --tasks")
        own = labelled.own(data, image, label)
        if own is None:
            raise ValueError(f"{data} has no table: leave --image-column and --label-column out")
        return [Found("zeroshot", own.name, own)], []
    read = {"zeroshot": testsets.classes, "retrieval": testsets.captions, "selo": testsets.scenes}
    found, left_out = [], []
    for task in tasks:
        for name in testsets.TASKS[task]:
            if (name == "pocket") != world:
                continue
            try:
                found.append(Found(task, name, read[task](name, Path(data))))
            except FileNotFoundError as error:
                if name in TITLES:
                    left_out.append(
                        {"task": task, "set": name, "reason": str(error).replace(str(data), "DATA")}
                    )
    if not found and not world and "zeroshot" in tasks and (own := labelled.own(data)):
        return [Found("zeroshot", own.name, own)], []
    if not found and world:
        raise FileNotFoundError(
            f"the pocket world has no set of {', '.join(tasks)}: give another task or a folder"
        )
    if not found:
        raise FileNotFoundError(
            f"{data} has no set of {', '.join(tasks)}: put {LAYOUT} into it, or a folder of images "
            "for each class of your own, a table of images and labels, or shards of them"
        )
    return found, left_out


def _check_words(
    words: prompts.Words, found: list[Found], asked: protocols.Asked = protocols.NONE
) -> None:
    """ValueError for words that are not those of one's own classes, or beside protocols that have
    their own.
    """
    if words.templates and asked.protocols:
        raise ValueError(
            "--templates are a protocol of their own: leave them out, or leave --protocol out"
        )
    own = [f for f in found if f.task == "zeroshot" and f.name not in testsets.TASKS["zeroshot"]]
    if words != prompts.NONE and not own:
        raise ValueError(
            "--classnames and --templates are for a folder of your own classes, and this is "
            f"{', '.join(f.name for f in found)}: leave them out"
        )
    every = [name for f in own for name in f.data.classes]
    for f in own:
        words.check(f.name, f.data.classes, every)


def _card(found: Found) -> str:
    return "ucm_captions" if (found.task, found.name) == ("retrieval", "ucm") else found.name


def _differences(found: Found) -> list[str]:
    if found.name not in TITLES:
        return ["not one of the paper's test sets"]
    told = testsets.differences(found.data)
    for sentence in told:
        print(f"warning: {found.name}: {sentence}")
    return told


def load(name: str, checkpoint: str | Path | None) -> tuple[clip.Model, dict]:
    """The model, and what is known of it: name, architecture, checkpoint with its SHA-256, number
    of parameters.
    """
    torch.manual_seed(0)  # of weights that stay random
    theirs = clip.open_clip.list_models()
    one = None if checkpoint else known.models().get(name)
    of_name = one and one.format != "open_clip"
    file = known.weights(name) if of_name else Path(checkpoint or "")
    # what has neither an ending nor a folder is a tag, maybe a wrong one
    bare = checkpoint and Path(checkpoint).stem == str(checkpoint) and not file.exists()
    tag = name in theirs and bare
    model = (
        clip.load(name, str(checkpoint)) if tag else clip.load(name, checkpoint=checkpoint or None)
    )
    told = {"tag": checkpoint} if tag else None
    if file.is_file():
        told = {"file": file.name, "sha256": pocket.sha256(file)}
    elif name in theirs and not checkpoint:
        told = "none: random weights"
        print(
            f"warning: {name} has random weights: give --checkpoint a file or one of "
            f"{', '.join(_tags(name))}"
        )
    return model, {
        "name": name,
        "architecture": model.name,
        "checkpoint": told,
        "parameters": clip.parameters(model.net),
    }


def _tags(name: str) -> list[str]:
    return clip.open_clip.list_pretrained_tags_by_model(name)


def entries(task: str, name: str, left_out: LeftOut) -> list[dict]:
    """What is left out of a set, an entry for each reason, as the report has it."""
    return [
        {"task": task, "set": name, "reason": reason, "count": len(names), "files": names}
        for reason, names in left_out.items()
    ]


def _writable(out: Path, predictions: str | Path | None) -> Path:
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a file for the JSON")
    if predictions:
        try:
            Path(predictions).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror.lower()
            raise ValueError(
                f"--predictions {predictions} cannot be used as a folder ({reason}): name another"
            ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    return out
