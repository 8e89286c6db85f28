"""A test set's score by its task: values, intervals and what else is measured, from vectors of the
set's images and texts; and how the numbers came about. Chapter: zeroshot, retrieval, selo.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from rs5m import intervals, paper, retrieval, selo, zeroshot
from rs5m.data import images
from rs5m.data.datasets import Classes, LeftOut
from rs5m.evaluate import features, localize, multilabel, prompts, protocols
from rs5m.evaluate.labelled import Several
from rs5m.evaluate.reporting import KS, RECALLS

RESIZE = {
    False: "short side by Pillow's bicubic filter; centre crop; RGB",
    True: "both sides by Pillow's bicubic filter; RGB",
}


class Found(NamedTuple):
    """A test set that is there: its task, its name and what its reader gave."""

    task: str
    name: str
    data: object


class Scored(NamedTuple):
    """Values and 95 % intervals by our names, what else was measured, the images of the set that
    could not be used, and other files that lay beside them, by reason.

    protocols: values and intervals by other papers' protocols, `by_protocol` of each.
    chance: what a model that gives every pair the same score has, of the values that have it.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    extra: dict
    skipped: LeftOut
    strays: LeftOut
    predictions: pd.DataFrame | None = None
    protocols: dict[str, dict] = {}
    chance: dict[str, float] = {}


def score_classes(
    store: features.Store, found: Found, words=prompts.NONE, others: tuple[str, ...] = ()
) -> Scored:
    """Top-1 by the official averaging, in %, rounded to two digits as published; top-5, balanced
    and CLIP's beside; or the mean average precision of a set with several labels an image.

    Args:
        store: the model's vectors.
        found: a set of the task.
        words: names and prompts in place of the set's, `prompts.NONE` for none.
        others: protocols of `rs5m.evaluate.protocols.zeroshot` that are measured, too.
    """
    data, encoded = found.data, store.images(found.data.images, found.name)
    judge = _several if isinstance(data, Several) else _one
    scored = judge(store, found, words, encoded)
    rows = _by_protocol(store, found, words, encoded, others)
    told = {name: row | {"chance": scored.chance} for name, row in rows.items()}
    return scored._replace(protocols=told)


def _class_text(store: features.Store, name: str, groups: list[list[str]]) -> np.ndarray:
    text = store.texts([text for group in groups for text in group], f"zeroshot-{name}")
    return text.reshape(len(groups), len(groups[0]), -1)


def _by_protocol(store, found, words, encoded, others: tuple[str, ...]) -> dict[str, dict]:
    data, kept, rows = found.data, encoded.kept, {}
    for name in others:
        one = protocols.zeroshot()[name]
        texts = protocols.texts(one, data.classes, words)
        text = _class_text(store, f"{found.name}-{name}", texts)
        classifier = zeroshot.classifier(text, one.averaging)
        if isinstance(data, Several):
            values, between, _ = _precision(encoded.vectors, classifier, data.labels[kept])
        else:
            hit = zeroshot.hits(encoded.vectors, classifier, data.labels[kept])
            values = {"top1": 100 * float(hit.mean())}
            between = {"top1": intervals.stratified_share(hit, data.labels[kept])}
        rows[name] = {"values": values, "intervals": between, "prompts": text.shape[1]}
    return rows


def _precision(image, classifier, labels) -> tuple[dict, dict, np.ndarray]:
    """Values and intervals of mean average precision, and those of each class."""
    measured = multilabel.measure(zeroshot.logits(image, classifier), labels)
    kinds = ("macro", "micro")
    values = {f"map_{kind}": measured[f"map_{kind}"] for kind in kinds}
    between = {f"map_{kind}": measured[f"{kind}_interval"] for kind in kinds}
    return values, between, measured["by_class"]


def _several(store, found, words, encoded) -> Scored:
    data, groups = found.data, prompts.prompts(found.data, words)
    classifier = zeroshot.classifier(_class_text(store, found.name, groups))
    values, between, by_class = _precision(encoded.vectors, classifier, data.labels[encoded.kept])
    shown = {
        c: None if np.isnan(v) else float(v) for c, v in zip(data.classes, by_class, strict=True)
    }
    extra = {"images": len(encoded.kept), "labels": int(data.labels[encoded.kept].sum())}
    extra["average_precision"] = shown
    labels = data.labels[encoded.kept]
    alike = multilabel.measure(np.zeros(labels.shape), labels, draws=1)
    scored = Scored(values, between, extra, by_reason(encoded), data.left_out)
    return scored._replace(chance={key: alike[key] for key in values})


def _one(store, found, words, encoded) -> Scored:
    data = found.data
    label, groups = data.labels[encoded.kept], prompts.prompts(data, words)
    text = _class_text(store, found.name, groups)
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
    scored = Scored(values, {"top1": top1}, extra, by_reason(encoded), data.left_out, table)
    return scored._replace(chance={"top1": 100 / len(data.classes)})


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


def score_captions(
    store: features.Store, found: Found, words=prompts.NONE, others: tuple[str, ...] = ()
) -> Scored:
    """The six recalls and their mean, in %, by the official order of ties; in extra by their share.
    An unreadable image takes its captions with it.

    Args:
        store, found, words: those of `score_classes`; words are not used.
        others: protocols of `rs5m.evaluate.protocols.retrieval` that are measured, too.
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
    rows = {
        name: _recalls(store, found, captions, encoded, name)
        for name in others
        if name in protocols.retrieval()
    }
    alike = np.ones((len(captions), 1)), np.ones((len(text), 1))
    chance = retrieval.recall(*alike, image_of_text, KS)
    values = retrieval.summary(hits, KS)
    return Scored(values, between, extra, skipped, {}, protocols=rows, chance=chance)


def _recalls(store, found: Found, captions: list, encoded, name: str) -> dict:
    texts, right = protocols.captions(name, captions)
    text = store.texts(texts, f"retrieval-{found.name}-{name}")
    ks = protocols.retrieval()[name].k
    values, between = protocols.recall(encoded.vectors, text, right, ks)
    chance = protocols.chance(right, ks)
    return {"values": values, "intervals": between, "chance": chance, "texts": len(texts)}


def score_scenes(
    store: features.Store, found: Found, words=prompts.NONE, others: tuple[str, ...] = ()
) -> Scored:
    """Means of Rsu, Rda, Ras and Rmi over the queries, and the values of each query. Args: those of
    `score_classes`; words and others are not used.
    """
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
        found.setdefault(reason, []).append(name)
    return found


SCORE: dict[str, Callable] = {
    "zeroshot": score_classes,
    "retrieval": score_captions,
    "selo": score_scenes,
}


def protocol(store: features.Store, found: list[Found], words: prompts.Words) -> dict:
    """How the numbers came about, in words and numbers."""
    templates = words.templates or paper.prompts()
    classes = {
        f.name: [words.of_class(c) for c in f.data.classes] for f in found if f.task == "zeroshot"
    }
    seen = ("image_size", "mean", "std", "image_precision", "device", "versions")
    return {
        "preprocessing": {
            "resize": RESIZE[store.identity["squash"]],
            "pixels": f"Pillow {store.identity['versions']['pillow']}",
            "images": images.RULE,
        }
        | {key: store.identity[key] for key in seen},
        "zeroshot": {
            "prompts": len(templates),
            "templates_sha256": features.texts_digest(templates),
            "averaging": "mean of un-normalised prompts, then normalised",
            "logits": "100 x cosine",
            "top1": "of all images, in %, rounded to 2 digits",
            "classes": classes,
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
