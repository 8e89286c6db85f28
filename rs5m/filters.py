"""Stage 5 of PUB11: outliers, by a vision-language score and a remote-sensing detector together.
Chapter: filters.

* paper, PUB11: the score of a vision-language model and an image detector are used jointly
* the paper publishes neither its prompts, nor the detector, nor the thresholds, nor how the two are
  joined; here the rule ("both" or "either" below its threshold) and the thresholds are those that
  do best on a validation split
* [NOT IMPLEMENTED] a fine-tuned detector: ours is a logistic regression on the frozen features of
  the same model
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rs5m import files
from rs5m.zeroshot import classifier, logits

VIEWS = (
    "a satellite image",
    "an aerial photograph",
    "a satellite view of land and sea",
    "a view of the earth from space",
    "a remote sensing image of {}",
)
SCENES = ("forest", "desert", "coast", "fields", "mountains", "islands", "snow and ice", "a city")
OTHERS = ("a photo of a person", "a photo of an animal", "a photo of food", "a photo of a flower",
          "a photo of a vehicle", "a photo of a building", "a photo of a room",
          "a drawn map with letters", "a logo", "a web page", "a diagram", "a book page",
          "a medical image", "a picture of stars", "a texture", "a colour gradient")  # fmt: skip
SCORE, PROBABILITY = "low_score", "low_probability"  # reasons of the rules with one criterion
BOTH, EITHER = "low_score_and_probability", "low_score_or_probability"
RULES = ("both", "either", "score", "probability")
LARGEST = 4096  # pixels at which a model may look, in a detector's file


class Detector(NamedTuple):
    """A logistic regression on normalised image features: weight (dim,), bias (1,), centre and
    spread (dim,).
    """

    weight: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    spread: np.ndarray


class Thresholds(NamedTuple):
    """Below `score` or `probability` an image looks like an outlier; `rule`: both, either, score or
    probability.
    """

    score: float
    probability: float
    rule: str = "both"


def features(model, images, batch: int = 32) -> np.ndarray:
    """Frozen image features (n, dim) float32 of uint8 images (h, w, 3), computed once for both
    criteria.

    The projected vector first; behind it, where the tower is a timm trunk, its pooled output and
    the means and deviations of its inner stages: drawn maps differ from views in texture, not in
    content.
    """
    import torch

    from rs5m import clip

    found = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            pixels = clip.preprocess(images[start : start + batch], model).to(clip.device())
            with clip.autocast():
                vectors = _vectors(model.net, pixels)
            found.append(torch.cat([v.float() for v in vectors], 1).cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def _vectors(net, pixels) -> list:
    trunk = _trunk(net)
    if trunk is None:
        return [net.encode_image(pixels)]
    stages = len(trunk.feature_info)
    taken = range(1, 5) if stages > 4 else range(stages)
    last, inner = trunk.forward_intermediates(pixels, indices=list(taken))
    pooled = trunk.forward_head(last)
    return [
        net.visual.head(pooled),
        pooled,
        *(f(x.float(), (2, 3)) for x in inner for f in (_mean, _deviation)),
    ]


def _trunk(net):
    """The timm trunk of an image tower, None where it has none that shows its inner stages."""
    trunk = getattr(net.visual, "trunk", None)
    return trunk if hasattr(trunk, "forward_intermediates") else None


def _projected(net) -> int:
    """How many of the first `features` come from the head behind the trunk, whatever its layers
    are; without layers it passes the pooled output on.
    """
    trunk, layers = _trunk(net), list(net.visual.head.parameters())
    return len(layers[-1]) if layers else trunk.num_features


def _mean(x, axes):
    return x.mean(axes)


def _deviation(x, axes):
    return x.std(axes)


def prompts(model) -> np.ndarray:
    """Unit vectors (2, dim), as of two classes: all prompts of views from above, all prompts of
    everything else.

    An ensemble for each side, not the best single prompt: the chapter measures both.
    """
    from rs5m import clip

    views = [v.format(s) for v in VIEWS for s in (SCENES if "{}" in v else ("",))]
    return np.concatenate(
        [classifier(clip.encode_texts(model, list(side))[None], "clip") for side in (views, OTHERS)]
    )


def score_features(vectors: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Score in 0..1 of features (n, >= dim) against `prompts`: what a softmax over the two gives to
    views.

    Ten times softer than CLIP's own, which rounds many scores to one and leaves no threshold
    between them.
    """
    z = logits(vectors[:, : text.shape[1]], text) / 10
    return 1 / (1 + np.exp(z[:, 1] - z[:, 0]))


def score(model, images) -> np.ndarray:
    """Vision-language score in 0..1 (n,): how much nearer an image is to views from above than to
    everything else.

    Paper: PUB11, outliers by a vision-language model.
    """
    return score_features(features(model, images), prompts(model))


def fit_detector(
    vectors: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    weights: np.ndarray | None = None,
    strength: float = 0.01,
    ground: np.ndarray | None = None,
) -> Detector:
    """A detector by logistic regression; ValueError where one of the two labels is missing.

    Args:
        vectors: features (n, dim).
        labels: bool (n,).
        seed: of the solver.
        weights: how much each counts, (n,); by default both labels together count the same.
        strength: C of the regression.
        ground: features whose centre and spread scale the others, by default all of `vectors`.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(labels, bool)
    if labels.all() or not labels.any():
        raise ValueError(
            "a detector needs examples of remote sensing and of everything else: one of them is "
            "missing"
        )
    ground = vectors if ground is None else ground
    centre, spread = ground.mean(0), ground.std(0) + 1e-6
    balance = "balanced" if weights is None else None
    head = LogisticRegression(C=strength, max_iter=1000, class_weight=balance, random_state=seed)
    head.fit((vectors - centre) / spread, labels, weights)
    return Detector(head.coef_[0].astype(np.float64), head.intercept_, centre, spread)


def probability(detector: Detector, vectors: np.ndarray) -> np.ndarray:
    """Probability (n,) that features (n, dim) are remote sensing.

    A detector of fewer numbers rests on the last ones: the inner part of `features`.
    """
    inner = vectors[:, vectors.shape[1] - len(detector.weight) :]
    z = ((inner - detector.centre) / detector.spread) @ detector.weight + detector.bias
    return 1 / (1 + np.exp(-np.clip(z, -50, 50)))


def tower_digest(model) -> str:
    """SHA-256 over the weights of what `features` are made of, as hex: the trunk of a timm tower,
    else the whole image tower.
    """
    total = hashlib.sha256()
    tower = _trunk(model.net) or model.net.visual
    for name, tensor in sorted(tower.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def save_detector(
    path: Path, detector: Detector, thresholds: Thresholds, about: dict | None = None
) -> None:
    """Write detector and thresholds as npz without pickle, whole or not at all.

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
        raise ValueError(f"{path} joins by {kept['rule']}: choose one of {', '.join(RULES)}")
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
        raise ValueError(f"{path} is damaged in what it says of itself: fit the detector again")
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
            f"{path} is not a detector: write one with rs5m.filters.save_detector"
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
    projected = _projected(model.net) if _trunk(model.net) is not None else 0
    if length not in (width, width - projected):
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


def joint(score: float, probability: float, thresholds: Thresholds) -> str | None:
    """Why an image is dropped by the joint rule, or None to keep it.

    Paper: PUB11, outliers; the paper does not say how; `choose_thresholds` decides.
    """
    return joint_all(np.array([score]), np.array([probability]), thresholds)[0]


def joint_all(
    scores: np.ndarray, probabilities: np.ndarray, thresholds: Thresholds
) -> list[str | None]:
    """`joint` of arrays (n,): a reason or None per image. ValueError for an unknown rule."""
    low, unlikely = scores < thresholds.score, probabilities < thresholds.probability
    rules = {
        "both": (low & unlikely, BOTH),
        "either": (low | unlikely, EITHER),
        "score": (low, SCORE),
        "probability": (unlikely, PROBABILITY),
    }
    if thresholds.rule not in rules:
        raise ValueError(f"unknown rule {thresholds.rule!r}: choose one of {', '.join(rules)}")
    drop, reason = rules[thresholds.rule]
    return [reason if d else None for d in drop]


def choose_thresholds(
    scores, probabilities, labels, beta: float = 1.0, rules=("both", "either")
) -> Thresholds:
    """The thresholds and the rule of the highest F-beta on a validation split; beta < 1 prefers
    precision.

    scores, probabilities (n,), labels bool (n,). Candidates: 41 quantiles of each. Ties go to the
    rule and to the thresholds that keep more, and between those to the middle.
    """
    labels = np.asarray(labels, bool)
    grid = np.linspace(0, 1, 41)
    best, ties = -1.0, []
    for rule in rules:
        for s in np.unique(np.quantile(scores, grid)):
            for p in np.linspace(0.02, 0.98, 49):
                drop = (
                    (scores < s) & (probabilities < p)
                    if rule == "both"
                    else (scores < s) | (probabilities < p)
                )
                value = f_beta(labels, ~drop, beta)
                ties = [] if value > best + 1e-12 else ties
                best = max(best, value)
                ties += [Thresholds(float(s), float(p), rule)] if value >= best - 1e-12 else []
    ties = [t for t in ties if t.rule == ties[0].rule]
    return sorted(ties)[len(ties) // 2]


def f_beta(labels: np.ndarray, kept: np.ndarray, beta: float) -> float:
    """F-beta of what is kept, 0 if nothing true is kept."""
    hit = int((labels & kept).sum())
    return (1 + beta**2) * hit / (beta**2 * labels.sum() + kept.sum()) if hit else 0.0


def auc(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of pairs of a right and a wrong picture that stand in the
    right order, a tie for half; arrays (..., n). NaN where one of the two is missing.
    """
    from scipy.stats import rankdata

    ranks, right = rankdata(score, axis=-1), label.sum(-1)
    wrong = label.shape[-1] - right
    with np.errstate(invalid="ignore"):
        return ((ranks * label).sum(-1) - right * (right + 1) / 2) / (right * wrong)


def roc(values: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """DataFrame threshold, false_positive_rate, true_positive_rate of keeping `values` >=
    threshold.
    """
    from sklearn.metrics import roc_curve

    false, true, threshold = roc_curve(labels, values)
    return pd.DataFrame(
        {"threshold": threshold, "false_positive_rate": false, "true_positive_rate": true}
    )


def precision_recall(values: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """DataFrame threshold, precision, recall of keeping `values` >= threshold."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, threshold = precision_recall_curve(labels, values)
    return pd.DataFrame(
        {"threshold": threshold, "precision": precision[:-1], "recall": recall[:-1]}
    )
