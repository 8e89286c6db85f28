"""Real captions: a head tuned on RSICD's training half, tested on three sets it has never seen.
Chapter: tune.

The captions are human, five an image. Training images of which a test set holds a copy are left
out; learning rate and epochs are chosen on a validation split of RSICD, never on a test set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rs5m import clip, dedup, files, intervals, results, retrieval, tune, zeroshot
from rs5m.book import colour, head, models, plots
from rs5m.book import contact as touch
from rs5m.book.scales import Scale, data_folder
from rs5m.book.scorecard import NAMES
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.evaluate import prompts
from rs5m.intervals import in_words
from rs5m.tune import ret2

ZIP = "rsicd_112.zip"
TESTS = ("eurosat", "ucm", "whurs19")
ARMS = ("colour", "general", "tuned", "labels")
VALIDATION = 0.1  # of the training images
RATES, EPOCHS = (3e-4, 1e-3, 3e-3), (1, 2, 4, 8, 16)  # what the validation split chooses from
SEEDS = (0, 1, 2)
SETTINGS = tune.Settings("head", batch_size=512)


class Part(NamedTuple):
    """The images of a set: what the trunk gives to the head (n, angles, width), mean and deviation
    of the three channels (n, 6), and `rs5m.dedup.signatures`.
    """

    features: np.ndarray
    colours: np.ndarray
    signatures: dict[str, np.ndarray]


def there(scale: Scale) -> bool:
    """Whether the scale's data folder holds RSICD."""
    return scale.name == "local" and (
        (data_folder(scale) / ZIP).is_file() or (data_folder(scale) / "rsicd/RSICD_images").is_dir()
    )


def folder(scale: Scale) -> Path:
    """A folder with RSICD in the official layout: the data folder, or ZIP unpacked in runs/.
    ValueError for half a file.
    """
    archive = data_folder(scale) / ZIP
    if not archive.is_file():
        return data_folder(scale)

    def unpack(out: Path) -> None:
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(out)  # names that lead out of the folder are cut by zipfile
        except zipfile.BadZipFile as error:
            raise ValueError(f"{archive} is not a whole zip file: fetch it again") from error

    return results.artefact("rsicd", scale.name, (files.sha256(archive),), unpack)


def part(scale: Scale, name: str, images: datasets.Images, angles: Sequence[float]) -> Part:
    """The images of a set through the trunk of the scale's general model, kept in runs/. ValueError
    for an image that is not readable.

    Args:
        scale: whose model it is.
        name: of the set, in the folder's name and in errors.
        images: of the set.
        angles: degrees, of the views of each image.
    """

    def make(out: Path) -> None:
        pictures = [datasets.decode(images.read(i))[0] for i in range(len(images.names))]
        if broken := [n for n, p in zip(images.names, pictures, strict=True) if p is None]:
            raise ValueError(f"{name}: {broken[0]} is not readable, one of {len(broken)}")
        np.savez(
            out / "part.npz",
            features=head.features(models.general(scale), pictures, angles).astype(np.float16),
            colours=colour.numbers(pictures),
            **dedup.signatures(pictures),
        )

    key = (scale, tuple(angles), images.names)
    with np.load(results.artefact(f"trunk-{name}", scale.name, key, make) / "part.npz") as kept:
        held = dict(kept)
    features = held.pop("features").astype(np.float32)
    return Part(features, held.pop("colours"), held)


def contact(train: Part, tests: dict[str, Part]) -> dict[str, pd.DataFrame]:
    """Test set -> `rs5m.dedup.leaks`: pairs of a test and a training image that are copies, turned
    and mirrored ones too.
    """
    return {name: dedup.leaks(train.signatures, test.signatures) for name, test in tests.items()}


def chosen(model: Model, features: np.ndarray, captions: list, known: dict) -> dict:
    """Learning rate and epochs of the highest mean recall on a held-out tenth of the images:
    learning_rate, epochs, and `table` of all that was tried.

    Args:
        model: whose head it is.
        features: what the trunk gives, (n, angles, width); the first angle is the upright image.
        captions: a tuple of each image.
        known: `rs5m.tune.text_features` of the captions.
    """
    held = np.zeros(len(features), bool)
    drawn = np.random.default_rng(0).permutation(len(features))
    held[drawn[: round(VALIDATION * len(features))]] = True
    train = [texts for texts, out in zip(captions, held, strict=True) if not out]
    asked = [texts for texts, out in zip(captions, held, strict=True) if out]
    table = []
    for rate in RATES:
        for epochs in EPOCHS:
            settings = replace(SETTINGS, learning_rate=rate, epochs=epochs)
            tuned, _ = head.fit(model, features[~held], train, settings, known=known)
            value = mean_recall(features[held][:, 0] @ tuned.T, asked, known)
            table.append({"learning_rate": rate, "epochs": epochs, "mean recall": value})
    best = max(table, key=lambda row: row["mean recall"])
    return {key: best[key] for key in ("learning_rate", "epochs")} | {"table": table}


def mean_recall(image: np.ndarray, captions: list[tuple[str, ...]], known: dict) -> float:
    """Mean recall in % of image vectors (n, dim) and all captions of each."""
    text = torch.stack([known[text] for texts in captions for text in texts]).cpu().numpy()
    owner = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    return retrieval.recall(image, text, owner)["mean_recall"]


def measure(scale: Scale) -> dict:
    """The whole experiment; seconds where the trunk's features are in runs/, else minutes.

    Keys: images, left_out (training images by the test set that holds a copy), contact (images of
    that set with a copy in the training half), named (`rs5m.book.contact.count`), settings, `tests`
    (set -> arm -> balanced accuracy with its interval; the gain over the general model and over the
    colour baseline over seeds and images; the same of classes new to the captions), retrieval (mean
    recall on RSICD's test half before and after; not the published protocol: smaller images, nine
    tenths of them).
    """
    model, root = models.general(scale), folder(scale)
    train, test = (ret2.split(root, "rsicd", half) for half in ("train", "test"))
    seen = part(scale, "rsicd-train", _files(train), head.TURNS)
    sets = {name: datasets.classes(name, data_folder(scale)) for name in TESTS}
    parts = {name: part(scale, name, found.images, (0,)) for name, found in sets.items()}
    parts["rsicd-test"] = part(scale, "rsicd-test", _files(test), (0,))
    copies = contact(seen, parts)
    copied = np.concatenate([pairs["train"] for pairs in copies.values()])
    keep = ~np.isin(np.arange(len(seen.features)), copied)
    captions = [texts for texts, kept in zip(train.captions, keep, strict=True) if kept]
    seen = Part(seen.features[keep], seen.colours[keep], {})
    known = _known(scale, model, [*captions, *test.captions])
    settings = chosen(model, seen.features, captions, known)
    run = replace(SETTINGS, **{key: settings[key] for key in ("learning_rate", "epochs")})
    heads = [
        head.fit(model, seen.features, captions, replace(run, seed=seed), known=known)[0]
        for seed in SEEDS
    ]
    six = colour.fit_head(seen.colours, captions, run, model, known)
    images = parts["rsicd-test"].features[:, 0]
    return {
        "images": int(keep.sum()),
        "left_out": {name: pairs["train"].nunique() for name, pairs in copies.items()},
        "contact": {name: pairs["test"].nunique() for name, pairs in copies.items()},
        "named": {name: touch.count(captions, found) for name, found in sets.items()},
        "settings": settings,
        "tests": {
            name: _tested(model, found, parts[name], heads, six, touch.unheard(captions, found))
            for name, found in sets.items()
        },
        "retrieval": {
            "before": mean_recall(images @ head.weight(model).T, test.captions, known),
            "after": [mean_recall(images @ one.T, test.captions, known) for one in heads],
        },
    }


def _files(split: ret2.Split) -> datasets.Images:
    names = [path.name for path in split.paths]
    return datasets.Images(names, lambda i: split.paths[i].read_bytes())


def _known(scale: Scale, model: Model, captions: list) -> dict[str, torch.Tensor]:
    """Normalised features of every caption, kept in runs/: there are 30,000 distinct ones."""
    texts = sorted({text for group in captions for text in group})

    def make(out: Path) -> None:
        found = head.text_features(model, [tuple(texts)])
        torch.save(torch.stack([found[text] for text in texts]).half(), out / "features.pt")

    kept = results.artefact("texts-rsicd", scale.name, (scale, texts), make)
    features = torch.load(kept / "features.pt", weights_only=True).float()
    return dict(zip(texts, features.to(clip.device()), strict=True))


def _tested(
    model: Model, found: datasets.Classes, part: Part, heads: list, six, unheard: list[int]
) -> dict:
    """The arms on one test set, and on the images of those classes alone that are new to the
    captions, if there are any (`unheard`, see `rs5m.book.contact`); all classes can be answered.
    """
    classifier = zeroshot.classifier(prompts.class_text(model, found))
    labels, features = found.labels, part.features[:, 0]

    def hit(vectors: np.ndarray) -> np.ndarray:
        return zeroshot.hits(vectors, classifier, labels)

    hits = {
        "colour": [hit(six(part.colours))],
        "general": [hit(features @ head.weight(model).T)],
        "tuned": [hit(features @ one.T) for one in heads],
        "labels": [colour.probe(features, labels)],
    }
    chance = {"chance": 100 / len(found.classes)}
    values = _arms(hits, labels) | chance
    if unheard:
        some = np.isin(labels, unheard)
        fewer = {arm: [one[some] for one in each] for arm, each in hits.items()}
        names = [prompts.class_prompt(found.classes[c]) for c in unheard]
        values["unheard"] = _arms(fewer, labels[some]) | chance | {"classes": names}
    return values


def _arms(hits: dict[str, list[np.ndarray]], labels: np.ndarray) -> dict:
    """Balanced accuracy of each arm, and the gain of the tuned one over two others."""
    nothing, tuned = np.zeros(len(labels)), hits["tuned"]
    return {
        "images": len(labels),
        "arms": {k: intervals.gain_over_seeds(nothing, v, labels) for k, v in hits.items()},
        "over general": intervals.gain_over_seeds(hits["general"][0], tuned, labels),
        "over colour": intervals.gain_over_seeds(hits["colour"][0], tuned, labels),
    }


def experiment(scale: Scale) -> dict | None:
    """`measure`, or what was stored, see `rs5m.results.measured`."""
    return results.measured("rsicd", "local", there(scale), lambda: measure(scale))


def table(values: dict) -> pd.DataFrame:
    """Balanced zero-shot accuracy in % by test set and arm, with the gains and their intervals."""

    rows = {}
    for name, found in values["tests"].items():
        arms = {arm: in_words(one, "gain") for arm, one in found["arms"].items()}
        rows[NAMES[name]] = {"chance": f"{found['chance']:.1f}"} | arms
        rows[NAMES[name]] |= {
            k: in_words(found[k], "gain", sign="+") for k in ("over general", "over colour")
        }
    return pd.DataFrame(rows).T


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the section's first paragraph; NaN where none is stored."""
    if values is None:
        return {"images": np.nan} | {f"{name}_{arm}": np.nan for name in TESTS for arm in ARMS}
    numbers = {"images": values["images"]}
    for name, found in values["tests"].items():
        numbers |= {f"{name}_{arm}": found["arms"][arm]["gain"] for arm in ARMS}
    return numbers


def new_classes(values: dict | None) -> str:
    """What tuning does for the classes that are new to the captions, in words."""
    said = []
    for name, found in values["tests"].items() if values else ():
        if new := found.get("unheard"):
            level = {arm: in_words(one, "gain") for arm, one in new["arms"].items()}
            said.append(
                f"{', '.join(new['classes'])} of {NAMES[name]} go from {level['general']} to "
                f"{level['tuned']} % on their {new['images']:,} images, colour reaches "
                f"{level['colour']} %"
            )
    return "; ".join(said) or "no stored run has any"


def figure(values: dict):
    """The arms of every test set with their intervals."""
    points = [
        (NAMES[name], arm, one["gain"], one["low"], one["high"])
        for name, found in values["tests"].items()
        for arm, one in found["arms"].items()
    ]
    return plots.intervals(points, "balanced zero-shot accuracy, %")
