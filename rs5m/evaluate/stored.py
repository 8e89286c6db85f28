"""Vectors that somebody else computed, scored: zero-shot accuracy without a model or an image.
Chapter: zeroshot.

A file holds `image` (n, dim), `label` (n,) and the texts of the classes in one of three forms:
`text` (classes, prompts, dim), `mean` (classes, dim) over prompts, `single` (classes, dim) of one
prompt. What an archive of numpy says is taken as numbers alone; pickled objects are refused.
"""

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rs5m import files, intervals, zeroshot
from rs5m.evaluate import frozen
from rs5m.vectors import normalise

FORMS = ("text", "mean", "single")
VERSION = 1  # of what `rs5m embed` writes; another one's vectors are not comparable
NORM = 0.01  # float16 keeps the length of a normalised vector to this


class Stored(NamedTuple):
    """One model's vectors of a labelled set; texts by form, `text` (classes, prompts, dim) and
    `mean` and `single` (classes, dim), float64.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    texts: dict[str, np.ndarray]
    prompts: tuple[str, ...]
    notes: tuple[str, ...]  # what a reader of the numbers should know of the file


def read(path: str | Path) -> Stored:
    """The vectors of an npz file, checked. FileNotFoundError; ValueError that names the file, the
    array and the cure.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give an npz with image, label and text")
    held = arrays(path)
    missing = [name for name in ("image", "label") if name not in held]
    forms = [form for form in FORMS if form in held]
    if missing or not forms:
        lacks = missing or [" or ".join(FORMS)]
        has = ", ".join(sorted(held)) or "nothing"
        raise ValueError(
            f"{path} lacks {', '.join(lacks)} (it has {has}): save them with the vectors, as "
            "`rs5m embed --classes` does of a folder of classes"
        )
    about(held, path)
    axes = {"image": 2} | {form: 3 if form == "text" else 2 for form in forms}
    checked = {name: vectors(held[name], name, n, path) for name, n in axes.items()}
    texts = {name: array.astype(np.float64) for name, array in checked.items()}
    image = texts.pop("image")
    for form, text in texts.items():
        if text.shape[-1] != image.shape[1]:
            raise ValueError(
                f"{path}: {form} has vectors of {text.shape[-1]} numbers and image of "
                f"{image.shape[1]}: take both from one model"
            )
    counts = {form: len(text) for form, text in texts.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"{path}: the forms have different numbers of classes ({counts}): save them again"
        )
    if len(held.get("classes", ())) not in (0, counts[forms[0]]):
        raise ValueError(
            f"{path} names {len(held['classes'])} classes and has texts of {counts[forms[0]]}: "
            "save the vectors again"
        )
    if counts[forms[0]] < 2:
        raise ValueError(f"{path} has one class: classification needs two or more")
    label = _labels(held["label"], len(image), len(texts[forms[0]]), path)
    prompts = tuple(map(str, held.get("prompts", ())))
    return Stored(path.stem, image, label, texts, prompts, tuple(_notes(image, texts, label)))


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What an npz holds, as numbers and texts alone; ValueError for pickles and half files."""
    with path.open("rb") as stream:
        start = stream.read(64)
    files.refuse_pointer(path, start)
    found = "one array of numpy" if start.startswith(b"\x93NUMPY") else files.kind(start)
    if found not in ("", "a zip", "an empty zip"):
        raise ValueError(f"{path} is {found}, not an npz: name one that rs5m embed wrote")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if "allow_pickle" in str(error) and _pickled(path):
            raise ValueError(
                f"{path} holds pickled objects, which could run code: save plain arrays of numbers"
            ) from error
        raise ValueError(f"{path} is not a whole npz file: fetch or save it again") from error


def _pickled(path: Path) -> bool:
    """Whether a file that numpy takes for a pickle may be one: an archive, or begun like one."""
    with path.open("rb") as stream:
        return zipfile.is_zipfile(path) or stream.read(1) == b"\x80"


def about(held: dict[str, np.ndarray], path: Path) -> dict:
    """What `rs5m embed` wrote beside its arrays, {} where another tool made them; ValueError for
    what another version wrote.
    """
    found = None
    with suppress(ValueError):
        found = json.loads(str(held.get("about")))
    if not isinstance(found, dict):
        return {}
    if (version := found.get("version", VERSION)) != VERSION:
        raise ValueError(
            f"{path} has vectors of version {version}, and this rs5m makes those of {VERSION}: "
            "run rs5m embed again"
        )
    return found


def vectors(array: np.ndarray, name: str, axes: int, path: Path) -> np.ndarray:
    """An array that is one of finite vectors; ValueError that names it for any other.

    Args:
        array: floats, the last axis a vector's numbers.
        name: of the array, for the error.
        axes: how many it must have.
        path: of its file, for the error.
    """
    if 0 in array.shape:
        raise ValueError(f"{path}: {name} is empty (shape {array.shape}): save the vectors again")
    if array.ndim != axes or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}: give floats with {axes} axes"
        )
    rows = array.reshape(-1, array.shape[-1])
    good = np.isfinite(rows).all(1) & rows.any(1)
    if not good.all():
        raise ValueError(
            f"{path}: {int((~good).sum())} of {len(rows)} rows of {name} are zeros or not finite "
            "numbers: leave them out, or make them again"
        )
    return array


def _labels(label: np.ndarray, images: int, classes: int, path: Path) -> np.ndarray:
    if label.shape != (images,) or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(
            f"{path}: label is {label.dtype} of shape {label.shape}: give {images} whole numbers"
        )
    if label.min() < 0 or label.max() >= classes:
        raise ValueError(
            f"{path}: labels run from {label.min()} to {label.max()}, and there are {classes} "
            "classes: count from 0"
        )
    return label.astype(np.int64)


def _notes(image: np.ndarray, texts: dict[str, np.ndarray], label: np.ndarray) -> list[str]:
    notes = []
    for name, array in {"image": image, **texts}.items():
        length = np.linalg.norm(array, axis=-1)
        if np.abs(length - 1).max() > NORM and name != "mean":
            notes.append(f"{name} is not normalised (lengths {length.min():.2f} to "
                         f"{length.max():.2f}): averaging prompts depends on it")  # fmt: skip
    classes = len(next(iter(texts.values())))
    if empty := classes - len(np.unique(label)):
        notes.append(
            f"{empty} of {classes} classes have no image: they count as wrong answers only"
        )
    return notes


def classifiers(stored: Stored) -> dict[str, np.ndarray]:
    """Class vectors (classes, dim) by protocol, as far as the file has them: "105 prompts" and so
    on by the number of prompts, "mean of prompts" and "one prompt".
    """
    found = {}
    if "text" in stored.texts:
        text = stored.texts["text"]
        found[f"{text.shape[1]} prompts"] = zeroshot.classifier(text)
    if "mean" in stored.texts:
        found["mean of prompts"] = normalise(stored.texts["mean"])
    if "single" in stored.texts:
        found["one prompt"] = normalise(stored.texts["single"])
    return found


def score(stored: Stored) -> dict[str, dict]:
    """Protocol -> top1, top5 and balanced in %, the interval of top1 and the hits (n,)."""
    found = {}
    for name, classifier in classifiers(stored).items():
        hit = zeroshot.hits(stored.image, classifier, stored.label)
        found[name] = zeroshot.accuracy(stored.image, classifier, stored.label)
        low, high = intervals.stratified_share(hit, stored.label)
        found[name] |= {"low": low, "high": high, "hit": hit}
    return found


def spread(stored: Stored) -> np.ndarray:
    """Top-1 in % of each prompt alone (prompts,); ValueError where the file keeps means only."""
    if "text" not in stored.texts:
        raise ValueError(f"{stored.name} has no vectors by prompt: only `text` shows the spread")
    each = [normalise(text) for text in stored.texts["text"].transpose(1, 0, 2)]
    return np.array([100 * zeroshot.hits(stored.image, one, stored.label).mean() for one in each])


def gain(before: np.ndarray, after: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Difference of two top-1 accuracies on the same images with its paired bootstrap interval:
    gain, low, high in points. Images are drawn within their classes.
    """
    change = after.astype(float) - before.astype(float)
    generator, total = np.random.default_rng(0), np.zeros(intervals.RESAMPLES)
    for c in np.unique(label):
        values, counts = np.unique(change[label == c], return_counts=True)
        draws = generator.multinomial(counts.sum(), counts / counts.sum(), intervals.RESAMPLES)
        total += draws @ values
    low, high = intervals.percentiles(100 * total / len(change))
    return {"gain": 100 * float(change.mean()), "low": low, "high": high}


def chosen(tasks: str) -> list[str]:
    """The tasks that stored vectors are scored by; ValueError, with the names, for any other."""
    names, known = [name.strip() for name in tasks.split(",")], ["zeroshot", *frozen.TASKS]
    if wrong := [name for name in names if name not in known]:
        raise ValueError(
            f"unknown task {wrong[0]!r} beside --features: choose from {','.join(known)}"
        )
    return [name for name in known if name in names]


def measured(vectors: Stored, tasks: list[str]) -> dict[str, dict]:
    """What each task found, by the name of the protocol: top1, low, high and more. ValueError that
    names the file where a task cannot be done with it.
    """
    rows = {name: _row(found) for name, found in score(vectors).items()}
    rows = rows if "zeroshot" in tasks else {}
    text = next(iter(classifiers(vectors).values()))
    for task in tasks:
        if task in frozen.TASKS:
            try:
                rows |= frozen.TASKS[task](vectors.image, vectors.label, text)
            except ValueError as error:
                raise ValueError(f"{vectors.name}, {task}: {error}") from error
    return rows


def run(paths: list[str | Path], out: str | Path, tasks: str = "zeroshot") -> dict:
    """Score every file by the tasks, print the table and write it as JSON to `out`; returns it."""
    report, asked = {}, chosen(tasks)
    for vectors in map(read, paths):
        rows = measured(vectors, asked)
        text = next(iter(classifiers(vectors).values()))
        about = {"images": len(vectors.label), "dim": vectors.image.shape[1]}
        about["chance"] = 100 / len(text)
        report[vectors.name] = about | {"protocols": rows, "notes": list(vectors.notes)}
        for name, row in rows.items():
            print(
                f"{vectors.name:<24} {name:<16} top-1 {row['top1']:6.2f} % "
                f"[{row['low']:.1f}, {row['high']:.1f}]{_beside(row)}"
            )
        print(f"{vectors.name}: {len(text)} classes, chance {about['chance']:.2f} %")
        for note in vectors.notes:
            print(f"{vectors.name}: {note}")
    with files.whole(out) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _beside(row: dict) -> str:
    """What a line of the table says beside top-1."""
    if "balanced" in row:
        return f"  balanced {row['balanced']:6.2f} %"
    if "gain" in row:
        return f"  {row['gain']:+.1f} [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}] by it"
    return f"  C = {row['C']:g}" if "C" in row else ""


def _row(found: dict) -> dict[str, float]:
    return {key: found[key] for key in ("top1", "top5", "balanced", "low", "high")}
