"""The official evaluation as one run: sets in, one JSON and one table out. Chapter: zeroshot,
retrieval, selo.

A number has its official name, and the paper's beside it, only where its set is whole: the very
files that its card lists, each of them readable. All other numbers stand apart, with the reason,
under names that nobody publishes.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from rs5m import clip, intervals, paper, pocket, results, retrieval, selo, zeroshot
from rs5m.clip import released
from rs5m.data import datasets
from rs5m.evaluate import cards, features, prompts, testsets
from rs5m.evaluate.reporting import KS, RECALLS, SELO, TITLES, column, show, sorted_out, write

LAYOUT = (
    "eurosat-rgb/2750/, RESISC45/, AID/, rsitmd/, rsicd/ and AIR-SLT/ as in the hub's rs5m_test_data, or "
    "eurosat_rgb.zip and ucm_q92.zip with captions/ucm_captions.json"
)


class Found(NamedTuple):
    """A test set that is there: its task, its name and what its reader gave."""

    task: str
    name: str
    data: object


class Scored(NamedTuple):
    """Values and 95 % intervals by our names, what else was measured, and (reason, names) of what
    was left out.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    extra: dict
    skipped: list[str]


def run(
    model_name: str, checkpoint: str | Path | None, data: str | Path, tasks: str | list[str], out
) -> dict:
    """Evaluate a model on every set of the tasks that is in the folder; prints the table, writes
    and returns the JSON.

    model_name, checkpoint: of `rs5m.clip.load`; the checkpoint may also be open_clip's tag of
    general weights. data: the official test folder, the book's local folder, or "pocket". tasks: of
    `rs5m.evaluate.testsets.TASKS`, a list or with commas. ValueError for an unknown task,
    FileNotFoundError where the folder has no set of them. Chapter: zeroshot.
    """
    began, out = time.perf_counter(), _writable(Path(out))
    found, left_out = find(chosen(tasks), data)
    why = {(f.task, f.name): _differences(f) for f in found}
    model, about = load(model_name, checkpoint)
    store = features.Store(model)
    scored = {(f.task, f.name): SCORE[f.task](store, f) for f in found}
    for (task, name), result in scored.items():
        if result.skipped:
            why[task, name] = [
                *why[task, name],
                f"files that could not be used: {len(result.skipped)}",
            ]
            left_out.append(
                {"task": task, "set": name, "reason": "could not be used", "files": result.skipped}
            )
    about |= {
        "weights_sha256": store.identity["weights"],
        "quick_gelu": store.identity["quick_gelu"],
    }
    report = sorted_out(scored, why, column(model_name, checkpoint)) | {
        "left_out": left_out,
        "protocol": protocol(store, found),
        "cards": {name: cards.card(name) for name in map(_card, found)},
        "model": about,
        "provenance": results.provenance("official", 0)
        | {"date": datetime.now(UTC).isoformat(timespec="seconds")},
        "seconds": {
            "encoding": sum(store.seconds.values()),
            "by_set": store.seconds,
            "total": time.perf_counter() - began,
        },
    }
    write(report, out)
    show(report)
    print(
        "{total:.1f} s, {encoding:.1f} of them encoding".format_map(report["seconds"])
        + f"; written to {out}"
    )
    return report


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


def find(tasks: list[str], data: str | Path) -> tuple[list[Found], list[dict]]:
    """The sets that are there, unread, and the official ones that are not, with the reason."""
    world = str(data) == "pocket"
    if not world and not Path(data).is_dir():
        raise FileNotFoundError(f"{data} is no folder: put {LAYOUT} into one, or give 'pocket'")
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
        if not any(f.task == task for f in found):
            print(f"{task}: no set of this task is in {data}")
    if not found and world:
        raise FileNotFoundError(
            f"the pocket world has no set of {', '.join(tasks)}: give another task or a folder"
        )
    if not found:
        raise FileNotFoundError(f"{data} has no set of {', '.join(tasks)}: put {LAYOUT} into it")
    return found, left_out


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
    known = clip.open_clip.list_models()
    file = (
        released.fetch(name)
        if name in released.RELEASED and not checkpoint
        else Path(checkpoint or "")
    )
    tag = name in known and not file.is_file() and str(checkpoint) in _tags(name)
    model = (
        clip.load(name, str(checkpoint)) if tag else clip.load(name, checkpoint=checkpoint or None)
    )
    told = {"tag": checkpoint} if tag else None
    if file.is_file():
        told = {"file": file.name, "sha256": pocket.sha256(file)}
    elif name in known and not checkpoint:
        told = "none: random weights"
        print(
            f"warning: {name} has random weights: give --checkpoint a file or one of {', '.join(_tags(name))}"
        )
    return model, {
        "name": name,
        "architecture": model.name,
        "checkpoint": told,
        "parameters": clip.parameters(model.net),
    }


def _tags(name: str) -> list[str]:
    return clip.open_clip.list_pretrained_tags_by_model(name)


# ---------------------------------------------------------------- the three tasks


def score_classes(store: features.Store, found: Found) -> Scored:
    """Top-1 by the official averaging, in %, rounded to two digits as published; top-5, balanced
    and CLIP's beside.
    """
    data, encoded = found.data, store.images(found.data.images, found.name)
    label, groups = data.labels[encoded.kept], prompts.prompts(data)
    text = store.texts([text for group in groups for text in group], f"zeroshot-{found.name}")
    text = text.reshape(len(groups), len(groups[0]), -1)
    extra = {}
    for averaging in ("rs5m", "clip"):
        accuracy = zeroshot.accuracy(encoded.vectors, zeroshot.classifier(text, averaging), label)
        extra |= {f"{averaging}_{key}": value for key, value in accuracy.items()}
    hit = zeroshot.hits(encoded.vectors, zeroshot.classifier(text), label)
    extra["rs5m_balanced_interval"] = zeroshot.interval(hit, label)
    extra["images"] = len(label)
    return Scored(
        {"top1": round(extra["rs5m_top1"], 2)},
        {"top1": intervals.stratified_share(hit, label)},
        extra,
        encoded.skipped,
    )


def score_captions(store: features.Store, found: Found) -> Scored:
    """The six recalls and their mean, in %; an unreadable image takes its captions with it."""
    data, encoded = found.data, store.images(found.data.images, found.name)
    captions = [data.captions[i] for i in encoded.kept]
    image_of_text = np.repeat(np.arange(len(captions)), [len(group) for group in captions])
    text = store.texts(
        [caption for group in captions for caption in group], f"retrieval-{found.name}"
    )
    hits = retrieval.hits(encoded.vectors, text, image_of_text, KS)
    intervals = {"mean_recall": retrieval.interval(hits, image_of_text)}
    for name, hit, owner in zip(
        RECALLS, hits, (np.arange(len(captions)), image_of_text), strict=True
    ):
        intervals |= {f"{name}_R@{k}": intervals.clustered_share(hit[:, i], owner) for i, k in enumerate(KS)}
    extra = {"images": len(captions), "captions": len(text)}
    return Scored(retrieval.summary(hits, KS), intervals, extra, [*data.left_out, *encoded.skipped])


def score_scenes(store: features.Store, found: Found) -> Scored:
    """Means of Rsu, Rda, Ras and Rmi over the queries, and the values of each query."""
    scenes = store.scenes(found.data, found.name)
    texts = [query.caption for scene in found.data for query in scene.queries]
    vectors = iter(zeroshot.normalise(store.texts(texts, f"selo-{found.name}")))
    jobs = []
    for scene, seen in zip(found.data, scenes, strict=True):
        windows = zeroshot.normalise(seen.vectors)
        jobs += [(scene.name, query, seen, windows @ next(vectors)) for query in scene.queries]
    with ThreadPoolExecutor(features.processors()) as pool:  # filters and sums leave Python's lock
        queries = list(
            tqdm(pool.map(_query, jobs), total=len(jobs), desc=f"{found.name}, maps", unit="query")
        )
    table = np.array([[query[key] for key in SELO] for query in queries])  # (queries, 4)
    drawn = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
    bounds = np.quantile(table[drawn].mean(1), (0.025, 0.975), axis=0).T.tolist()
    values, intervals = (
        dict(zip(SELO, table.mean(0).tolist(), strict=True)),
        dict(zip(SELO, bounds, strict=True)),
    )
    return Scored(values, intervals, {"queries": queries}, [])


def _query(job: tuple) -> dict:
    """What one query is worth: its scene's name, its caption, and the metrics of its map."""
    name, query, seen, cosines = job
    heat = selo.probability_map(seen.windows, cosines, seen.height, seen.width)
    told = {
        key: float(value) for key, value in selo.metrics(heat, query.regions).items() if key in SELO
    }
    return {"scene": name, "caption": query.caption} | told


SCORE: dict[str, Callable] = {
    "zeroshot": score_classes,
    "retrieval": score_captions,
    "selo": score_scenes,
}


def protocol(store: features.Store, found: list[Found]) -> dict:
    """How the numbers came about, in words and numbers."""
    words = {
        f.name: [datasets.class_prompt(f.name, c) for c in f.data.classes]
        for f in found
        if f.task == "zeroshot"
    }
    seen = ("image_size", "mean", "std", "image_precision", "device", "versions")
    return {
        "preprocessing": {"resize": "short side, bicubic, antialiased; centre crop; RGB"}
        | {key: store.identity[key] for key in seen},
        "zeroshot": {
            "prompts": len(paper.prompts()),
            "averaging": "mean of un-normalised prompts, then normalised",
            "logits": "100 x cosine",
            "top1": "of all images, in %, rounded to 2 digits",
            "classes": words,
        },
        "retrieval": {
            "k": KS,
            "order": "images by name, captions as in the csv",
            "ties": "count by their share",
        },
        "selo": {
            "steps": selo.STEPS,
            "windows": "resized to 256 x 256 (cubic) before preprocessing",
        },
        "intervals": "95 %, bootstrap: images within classes; images with their captions; queries",
    }


def _writable(out: Path) -> Path:
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a file for the JSON")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out
