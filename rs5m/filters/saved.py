"""A detector as a file: what it holds, and whether it belongs to a model. Chapter: filters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from rs5m import files
from rs5m.filters.regression import Detector
from rs5m.filters.rules import RULES, Thresholds
from rs5m.filters.vision import projected, trunk_of

LARGEST = 4096  # pixels at which a model may look, in a detector's file


def tower_digest(model) -> str:
    """SHA-256 over the weights of what `features` are made of, as hex: the trunk of a timm tower,
    else the whole image tower.
    """
    total = hashlib.sha256()
    tower = trunk_of(model.net) or model.net.visual
    for name, tensor in sorted(tower.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def save_detector(
    path: Path, detector: Detector, thresholds: Thresholds, about: dict | None = None
) -> None:
    """Write detector and thresholds as npz without pickle, whole or not at all.

    Args:
        path: of the npz.
        detector, thresholds: what `load_detector` gives back.
        about: what else a user should know, plain enough for JSON: `model` (a name), `tower`
            (`tower_digest`), `image_size` (pixels) and `validation` (figures by name).
    """
    with files.whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            **detector._asdict(),
            thresholds=np.array(thresholds[:2]),
            rule=np.array(thresholds.rule),
            about=np.array(json.dumps(about or {}, sort_keys=True)),
        )


def load_detector(path: Path) -> tuple[Detector, Thresholds]:
    """What `save_detector` wrote, read without pickle. ValueError that names a file which is not a
    detector, or whose numbers are not finite or do not fit together.
    """
    kept = _detector_arrays(path)
    detector = Detector(*(kept[name] for name in Detector._fields))
    if any(kept[name].dtype.kind not in "fiu" for name in (*Detector._fields, "thresholds")):
        raise ValueError(f"{path} is not a detector: its arrays are not numbers")
    shapes = {part.shape for part in (detector.weight, detector.centre, detector.spread)}
    one = (detector.bias.shape, kept["thresholds"].shape) == ((1,), (2,))
    if len(shapes) > 1 or detector.weight.ndim != 1 or not one:
        raise ValueError(f"{path} is not a whole detector: its arrays differ in length")
    if not (all(np.isfinite(part).all() for part in detector) and (detector.spread > 0).all()):
        raise ValueError(
            f"{path} holds numbers that are not finite, or a spread of 0: fit the detector again"
        )
    if str(kept["rule"]) not in RULES:
        raise ValueError(
            f"{path} has the unknown rule {kept['rule']}: choose one of {', '.join(RULES)}"
        )
    return detector, Thresholds(*map(float, kept["thresholds"]), str(kept["rule"]))


def about_detector(path: Path) -> dict:
    """What `save_detector` was told of a detector, {} for files of before. ValueError that names
    the file where it is damaged.
    """
    try:
        about = json.loads(str(_detector_arrays(path).get("about", "{}")))
        size, figures = about.get("image_size", 1), about.get("validation", {})
        whole = type(size) is int and 0 < size <= LARGEST and isinstance(figures, dict)
    except (json.JSONDecodeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} has a damaged description: fit the detector again")
    return about


def _detector_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            kept = {name: archive[name] for name in archive.files}
        missing = {*Detector._fields, "thresholds", "rule"} - kept.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return kept
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not a detector, or is cut off: write one with `rs5m detector fit`"
        ) from error


def check_detector(path: str | Path, detector: Detector, model, width: int) -> None:
    """ValueError where a detector was not fitted on features of this model.

    Args:
        path: of the detector's file, for the message.
        detector: of `load_detector`.
        model: what makes the features.
        width: how many numbers `features` gives for a picture.
    """
    about, length = about_detector(Path(path)), len(detector.weight)
    outer = projected(model.net) if trunk_of(model.net) is not None else 0
    if length not in (width, width - outer):
        raise ValueError(
            f"{path} is a detector of {length} features, and {model.name} gives {width}: it was "
            "fitted on another model"
        )
    if about.get("tower") and about["tower"] != tower_digest(model):
        raise ValueError(
            f"{path} was fitted on {about.get('model', 'another model')} with other weights than "
            f"these of {model.name}: name those, or fit the detector again"
        )


def words(about: dict) -> str:
    """A detector's validation figures in one line."""
    figures = about.get("validation") or {}
    return ", ".join(f"{name} {value}" for name, value in figures.items()) or "not stated"
