"""The official evaluation as one run: sets in, one JSON and one table out. Chapter: zeroshot,
retrieval, selo.

A number has its official name, and the paper's beside it, only where its set is whole: the very
files that its card lists, each of them readable. All other numbers stand apart, with the reason,
under names that nobody publishes.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rs5m import __version__, clip, intervals, paper, pocket, results, retrieval, selo, zeroshot
from rs5m.clip import released
from rs5m.data import images
from rs5m.data.datasets import Classes, LeftOut
from rs5m.evaluate import cards, features, localize, prompts, testsets
from rs5m.evaluate.reporting import (
    KS,
    RECALLS,
    TITLES,
    column,
    show,
    sorted_out,
    write,
    write_predictions,
)

LAYOUT = (
    "eurosat-rgb/2750/, RESISC45/, AID/, rsitmd/, rsicd/ and AIR-SLT/ as in the hub's "
    "rs5m_test_data, or eurosat_rgb.zip and ucm_q92.zip with captions/ucm_captions.json"
)


class Found(NamedTuple):
    """A test set that is there: its task, its name and what its reader gave."""

    task: str
    name: str
    data: object


class Scored(NamedTuple):
    """Values and 95 % intervals by our names, what else was measured, the images of the set that
    could not be used, and other files that lay beside them, by reason.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    extra: dict
    skipped: LeftOut
    strays: LeftOut
    predictions: pd.DataFrame | None = None


def run(
    model_name: str,
    checkpoint: str | Path | None,
    data: str | Path,
    tasks: str | list[str],
    out: str | Path,
    predictions: str | Path | None = None,
) -> dict:
    """Evaluate a model on every set of the tasks that is in the folder; prints the table, writes
    and returns the JSON.

    ValueError for an unknown task, FileNotFoundError where the folder has no set of them.

    Args:
        model_name: of `rs5m.clip.load`.
        checkpoint: a file, or open_clip's tag of general weights.
        data: the official test folder, the book's local folder, or "pocket".
        tasks: of `rs5m.evaluate.testsets.TASKS`, a list or with commas.
        out: the JSON's file.
        predictions: a folder; each labelled set's table by image goes into it as SET.parquet.
    """
    began, out = time.perf_counter(), _writable(Path(out))
    found, left_out = find(chosen(tasks), data)
    why = {(f.task, f.name): _differences(f) for f in found}
    model, about = load(model_name, checkpoint)
    store = features.Store(model)
    scored = {(f.task, f.name): SCORE[f.task](store, f) for f in found}
    for (task, name), result in scored.items():
        left_out += entries(task, name, result.skipped | result.strays)
        if count := sum(map(len, result.skipped.values())):
            why[task, name].append(f"files that could not be used: {count}")
    about["weights_sha256"] = store.identity["weights"]
    about["quick_gelu"] = store.identity["quick_gelu"]
    report = sorted_out(scored, why, column(model_name, checkpoint)) | {
        "left_out": left_out,
        "protocol": protocol(store, found),
        "cards": {n: cards.card(n) | {"known_by": cards.known_by(n)} for n in map(_card, found)},
        "model": about,
        "sha256": store.digests,
        "provenance": _provenance(),
        "seconds": _seconds(store, began),
    }
    write(report, out)
    if predictions:
        write_predictions({name: s.predictions for (_, name), s in scored.items()}, predictions)
    show(report)
    print("{total:.1f} s, {encoding:.1f} of them encoding".format_map(report["seconds"]), end="; ")
    print(f"written to {out}")
    return report


def _provenance() -> dict:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return results.provenance("official", 0) | {"rs5m": __version__, "date": date}


def _seconds(store: features.Store, began: float) -> dict:
    encoding, total = sum(store.seconds.values()), time.perf_counter() - began
    return {"encoding": encoding, "by_set": store.seconds, "total": total}


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
        raise FileNotFoundError(f"{data} is not a folder: put {LAYOUT} into one, or give 'pocket'")
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


# ---------------------------------------------------------------- the three tasks


def score_classes(store: features.Store, found: Found) -> Scored:
    """Top-1 by the official averaging, in %, rounded to two digits as published; top-5, balanced
    and CLIP's beside.
    """
    data, encoded = found.data, store.images(found.data.images, found.name)
    label, groups = data.labels[encoded.kept], prompts.prompts(data)
    text = store.texts([text for group in groups for text in group], f"zeroshot-{found.name}")
    text = text.reshape(len(groups), len(groups[0]), -1)
    extra, hit = {"images": len(label)}, {}
    for averaging in ("rs5m", "clip"):
        classifier = zeroshot.classifier(text, averaging)
        measured = zeroshot.measure(encoded.vectors, classifier, label)
        hit[averaging] = measured.pop("hit")
        bounds = measured.pop("low"), measured.pop("high")
        extra |= {f"{averaging}_{key}": value for key, value in measured.items()}
        extra[f"{averaging}_balanced_interval"] = bounds
    values = {"top1": round(extra["rs5m_top1"], 2)}
    top1 = intervals.stratified_share(hit["rs5m"], label)
    table = by_image(data, encoded, zeroshot.classifier(text))
    return Scored(values, {"top1": top1}, extra, by_reason(encoded), data.left_out, table)


def by_image(data: Classes, encoded: features.Encoded, classifier: np.ndarray) -> pd.DataFrame:
    """path, label and predicted class of each image that could be decoded, and its score_CLASS for
    each class: 100 x cosine, float32.
    """
    scores = zeroshot.logits(encoded.vectors, classifier)
    table = {
        "path": [data.images.names[i] for i in encoded.kept],
        "label": [data.classes[i] for i in data.labels[encoded.kept]],
        "predicted": [data.classes[i] for i in scores.argmax(1)],
    }
    named = {f"score_{name}": scores[:, i] for i, name in enumerate(data.classes)}
    return pd.DataFrame(table | named)


def score_captions(store: features.Store, found: Found) -> Scored:
    """The six recalls and their mean, in %, by the official order of ties; in extra by their share.

    An unreadable image takes its captions with it.
    """
    data, encoded = found.data, store.images(found.data.images, found.name)
    captions = [data.captions[i] for i in encoded.kept]
    image_of_text = np.repeat(np.arange(len(captions)), [len(group) for group in captions])
    texts = [caption for group in captions for caption in group]
    text = store.texts(texts, f"retrieval-{found.name}")
    hits = retrieval.official_hits(encoded.vectors, text, image_of_text, KS)
    fair = retrieval.hits(encoded.vectors, text, image_of_text, KS)
    between = {"mean_recall": retrieval.interval(hits, image_of_text)}
    owners = (np.arange(len(captions)), image_of_text)
    for name, hit, owner in zip(RECALLS, hits, owners, strict=True):
        for i, k in enumerate(KS):
            between[f"{name}_R@{k}"] = intervals.clustered_share(hit[:, i], owner)
    extra = {"images": len(captions), "captions": len(text)}
    extra["ties_by_share"] = retrieval.summary(fair, KS)
    skipped = data.left_out | by_reason(encoded)
    return Scored(retrieval.summary(hits, KS), between, extra, skipped, {})


def score_scenes(store: features.Store, found: Found) -> Scored:
    """Means of Rsu, Rda, Ras and Rmi over the queries, and the values of each query."""
    scored = localize.scene_scores(store, found.data, found.name, jpeg=True)
    measured = localize.measure(found.data, scored, jpeg=True)
    asked = [(scene.name, query.caption) for scene in found.data for query in scene.queries]
    queries = [
        {"scene": scene, "caption": caption}
        | {key: float(values[i]) for key, values in measured.items()}
        for i, (scene, caption) in enumerate(asked)
    ]
    means = {key: intervals.mean(values) for key, values in measured.items()}
    return Scored(
        {key: mean["mean"] for key, mean in means.items()},
        {key: (mean["low"], mean["high"]) for key, mean in means.items()},
        {"queries": queries},
        {},
        {},
    )


def by_reason(encoded: features.Encoded) -> LeftOut:
    """The images that could not be decoded, by reason."""
    found: LeftOut = {}
    for name, reason in encoded.skipped.items():
        found.setdefault(f"unreadable: {reason}", []).append(name)
    return found


def entries(task: str, name: str, left_out: LeftOut) -> list[dict]:
    """What is left out of a set, an entry for each reason, as the report has it."""
    return [
        {"task": task, "set": name, "reason": reason, "count": len(names), "files": names}
        for reason, names in left_out.items()
    ]


SCORE: dict[str, Callable] = {
    "zeroshot": score_classes,
    "retrieval": score_captions,
    "selo": score_scenes,
}


def protocol(store: features.Store, found: list[Found]) -> dict:
    """How the numbers came about, in words and numbers."""
    words = {
        f.name: [prompts.class_prompt(f.name, c) for c in f.data.classes]
        for f in found
        if f.task == "zeroshot"
    }
    seen = ("image_size", "mean", "std", "image_precision", "device", "versions")
    return {
        "preprocessing": {
            "resize": "short side by Pillow's bicubic filter; centre crop; RGB",
            "pixels": f"Pillow {store.identity['versions']['pillow']}",
            "images": images.RULE,
        }
        | {key: store.identity[key] for key in seen},
        "zeroshot": {
            "prompts": len(paper.prompts()),
            "templates_sha256": features.texts_digest(paper.prompts()),
            "averaging": "mean of un-normalised prompts, then normalised",
            "logits": "100 x cosine",
            "top1": "of all images, in %, rounded to 2 digits",
            "classes": words,
        },
        "retrieval": {
            "k": KS,
            "order": "images by name, captions as in the csv",
            "ties": "in the order of torch.topk on float32 scores, as in the official code; under "
            "ties_by_share in extra, equal scores count as if in random order",
        },
        "selo": {
            "steps": selo.STEPS,
            "windows": "resized to 256 x 256 (cubic), written as JPEG of quality 95 and read back, "
            "then preprocessed",
            "maps": "written as JPEG of quality 95 and read back",
        },
        "intervals": "95 %, bootstrap: images within classes; images with their captions; queries",
    }


def _writable(out: Path) -> Path:
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a file for the JSON")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out
