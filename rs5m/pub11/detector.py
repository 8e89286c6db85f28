"""`rs5m detector`: fit a detector of remote sensing on one's own pictures, and report what one is
worth. Chapter: filters.

* the figures of a fit are cross-validated, but its threshold is the best one for these very
  probabilities, so precision and recall there are a little too good, the AUC is not; those of a
  report are of the pictures that are given, which the detector should not have learned from
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rs5m import files, filters, intervals
from rs5m.clip import hub
from rs5m.data import datasets, images, sheet, tables
from rs5m.pub11.judge import Named

FOLDS = 5
POCKET_SIZE = 224  # pixels for the pocket's tower, at which a detector works best
PATHS, LABELS = ("path", "file", "image", "filename"), ("label", "class", "target")
TRUE, FALSE = ("1", "1.0", "true", "yes", "positive"), ("0", "0.0", "false", "no", "negative")
SHOWN = 40  # pictures of each end of the contact sheet


class Examples(NamedTuple):
    """Pictures (h, w, 3) uint8 with their names and labels, and what was left out by reason."""

    names: list[str]
    pictures: list[np.ndarray]
    labels: np.ndarray
    left_out: dict[str, list[str]]


def examples(
    positives: Sequence[str], negatives: Sequence[str], table: str | Path | None = None
) -> Examples:
    """Labelled pictures of folders, or of a table with the columns path and label.

    ValueError where one of the two labels has no readable picture, or both have the same one;
    FileNotFoundError for a folder or table that does not exist.
    """
    found: list[tuple[Path, bool]] = []
    left_out: dict[str, list[str]] = {}
    for folders, label in ((positives, True), (negatives, False)):
        for folder in map(Path, folders):
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder} is not a folder: name one with pictures")
            kept, others = datasets.listed(folder, datasets.ENDINGS)
            found += [(path, label) for path in kept.values()]
            for reason, names in others.items():
                left_out.setdefault(reason, []).extend(f"{folder}/{name}" for name in names)
    if table:
        found += _tabled(Path(table), left_out)
    return _read(found, left_out)


def _tabled(path: Path, left_out: dict[str, list[str]]) -> Iterable[tuple[Path, bool]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: give a table with path and label")
    table = tables.look(path)
    name = tables.column(table, "", PATHS, "a column called path")
    label = tables.column(table, "", LABELS, "a column called label", lambda kind: True)
    for number, row in enumerate(tables.rows(table, [name, label]), 1):
        if row.get(tables.FAULT) or not row[name]:
            left_out.setdefault(row.get(tables.FAULT) or "no_path", []).append(f"row {number}")
            continue
        said, file = str(row[label]).strip().lower(), path.parent / row[name]
        if said not in (*TRUE, *FALSE):
            raise ValueError(
                f"{path}, row {number}: the label {row[label]!r} is neither 1 (remote sensing) "
                "nor 0"
            )
        if not file.is_file():
            left_out.setdefault("missing", []).append(row[name])
            continue
        yield file, said in TRUE


def _read(found: list[tuple[Path, bool]], left_out: dict[str, list[str]]) -> Examples:
    names, pictures, labels = [], [], []
    seen: dict[str, tuple[Path, bool]] = {}
    for path, label in found:
        patch = len(datasets.sources(path)) > 1
        data = datasets.content(path) if patch else files.content(path)
        image, reason = images.read(data, images.DECODING)
        first, said = seen.setdefault(hashlib.sha256(data).hexdigest(), (path, label))
        if image is not None and said != label:
            raise ValueError(
                f"{first} and {path} are the same picture, but one is labelled remote sensing and "
                "the other is not: leave one out"
            )
        if image is not None and first is not path:  # it would be learned from and judged, too
            reason = "the same picture again"
        if reason:
            left_out.setdefault(reason, []).append(str(path))
            continue
        names.append(str(path))
        pictures.append(np.array(image))
        labels.append(label)
    held = np.array(labels, bool)
    if held.all() or not held.any():
        which = "remote sensing" if not held.any() else "everything else"
        others = f"; left out: {datasets.in_words(left_out)}" if left_out else ""
        raise ValueError(f"no readable picture of {which} among {len(held)}{others}: give some")
    return Examples(names, pictures, held, left_out)


def fit(given: Examples, name: str, checkpoint: str, out: str | Path) -> str:
    """Fit a detector on pictures by a model's features and write it; a sentence with its
    cross-validated figures, of which precision and recall are at the threshold that is chosen on
    them. ValueError where a label has fewer pictures than FOLDS.

    Args:
        given: of `examples`.
        name: of `rs5m.clip.load`; its features are used.
        checkpoint: a file of its weights, empty for those of the hub.
        out: the npz to write.
    """
    counts = int(given.labels.sum()), int((~given.labels).sum())
    if min(counts) < FOLDS:
        raise ValueError(
            f"{counts[0]} pictures of remote sensing and {counts[1]} others: give {FOLDS} of each "
            "at least"
        )
    model = hub.model_of(name, checkpoint, POCKET_SIZE if name == "pocket" else 0)
    vectors = filters.features(model, given.pictures)
    likely = _cross_validated(vectors, given.labels)
    threshold = _best(likely, given.labels)
    figures = worth(likely, given.labels, threshold)
    judged = f"cross-validation in {FOLDS} folds on {len(likely)} pictures"
    validation = {"judged by": f"{judged} that also chose the threshold"}
    validation |= {key: round(one["value"], 4) for key, one in figures.items()}
    about = {"model": name, "tower": filters.tower_digest(model), "validation": validation}
    about |= {"image_size": model.image_size}
    filters.save_detector(
        Path(out),
        filters.fit_detector(vectors, given.labels),
        filters.Thresholds(0.0, threshold, "probability"),
        about,
    )
    return (
        f"{out}: {counts[0]} and {counts[1]} pictures; {_said(figures)}; cross-validated, but "
        "precision and recall are a little too good: the threshold was chosen on these pictures"
    )


def _cross_validated(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of each picture by a detector that did not learn from it."""
    from sklearn.model_selection import StratifiedKFold

    likely = np.zeros(len(labels))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(vectors, labels):
        found = filters.fit_detector(vectors[train], labels[train])
        likely[test] = filters.probability(found, vectors[test])
    return likely


def _best(likely: np.ndarray, labels: np.ndarray) -> float:
    """The threshold of the highest F1, in the middle between two pictures."""
    levels = np.unique(likely)
    middles = (levels[1:] + levels[:-1]) / 2
    values = [filters.f_beta(labels, likely >= level, 1.0) for level in middles]
    return float(middles[int(np.argmax(values))]) if len(middles) else 0.5


def worth(likely: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, dict[str, float]]:
    """Precision, recall and AUC with intervals over pictures: value, low, high from 0 to 1."""
    kept = likely >= threshold
    found = {"precision": _share(labels[kept]), "recall": _share(kept[labels])}
    return found | {"AUC": intervals.named(filters.auc, likely, labels)}


def _share(hit: np.ndarray) -> dict[str, float]:
    if not hit.size:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    low, high = intervals.wilson(int(hit.sum()), hit.size)
    return {"value": float(hit.mean()), "low": low / 100, "high": high / 100}


def _said(figures: dict) -> str:
    return ", ".join(
        f"{name} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for name, one in figures.items()
    )


def report(given: Examples, judge: Named, page: str | Path) -> str:
    """What a detector is worth on labelled pictures: a sentence, and a page with the pictures at
    both ends and those on the wrong side of the threshold.
    """
    judge.check()
    _, likely = judge.load(Path())(given.pictures)
    threshold = judge.thresholds().probability
    figures = worth(likely, given.labels, threshold)
    order, kept = np.argsort(-likely, kind="stable"), likely >= threshold
    wrong = {
        "kept, but everything else": order[(kept & ~given.labels)[order]],
        "dropped, but remote sensing": order[::-1][(~kept & given.labels)[order[::-1]]],
        "most likely": order,
        "least likely": order[::-1],
    }
    groups = [_group(title, places, given, likely) for title, places in wrong.items()]
    rows = [{"figure": name} | one for name, one in figures.items()]
    lead = f"{judge.detector} on {len(likely)} pictures, threshold {threshold:.3f}."
    table = pd.DataFrame(rows).round(3)
    sheet.write(Path(page), "What the detector is worth", lead, [("Figures", table)], groups)
    return f"{_said(figures)} at threshold {threshold:.3f}; pictures in {page}"


def _group(title: str, places: np.ndarray, given: Examples, likely: np.ndarray) -> sheet.Group:
    from PIL import Image

    cards = [
        sheet.Card(
            sheet.thumbnail(Image.fromarray(given.pictures[i])),
            Path(given.names[i]).name,
            "remote sensing" if given.labels[i] else "everything else",
            f"{likely[i]:.3f}",
        )
        for i in places[:SHOWN]
    ]
    return sheet.Group(title, len(places), cards)
