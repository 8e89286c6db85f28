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
from rs5m.book import colour, head, models, sets
from rs5m.book import contact as touch
from rs5m.book.scales import Scale, data_folder
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.evaluate import prompts
from rs5m.tune import ret2

ZIP = "rsicd_112.zip"
LEFT_OUT = "rsicd_left_out.csv"  # in results/local
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


class Material(NamedTuple):
    """What the experiment reads: RSICD's halves, the sets tested on, their `Part`s by name, the
    test half's as "rsicd-test"; `contact`; the training images that stay, with their captions; text
    features by caption.
    """

    train: ret2.Split
    test: ret2.Split
    sets: dict[str, datasets.Classes]
    parts: dict[str, Part]
    copies: dict[str, pd.DataFrame]
    keep: np.ndarray
    seen: Part
    captions: list[tuple[str, ...]]
    known: dict[str, torch.Tensor]


def material(scale: Scale) -> Material:
    """All that the towers give, kept in runs/, less the training images that a test set holds."""
    model, root = models.general(scale), folder(scale)
    train, test = (ret2.split(root, "rsicd", half) for half in ("train", "test"))
    seen = part(scale, "rsicd-train", files_of(train), head.TURNS)
    found = {name: sets.classes(name, scale) for name in TESTS}
    parts = {name: part(scale, name, one.images, (0,)) for name, one in found.items()}
    parts["rsicd-test"] = part(scale, "rsicd-test", files_of(test), (0,))
    copies = contact(seen, parts)
    copied = np.concatenate([pairs["train"] for pairs in copies.values()])
    keep = ~np.isin(np.arange(len(seen.features)), copied)
    captions = [texts for texts, kept in zip(train.captions, keep, strict=True) if kept]
    seen = Part(seen.features[keep], seen.colours[keep], {})
    known = known_texts(scale, model, [*captions, *test.captions])
    return Material(train, test, found, parts, copies, keep, seen, captions, known)


def left_out(copies: dict[str, pd.DataFrame], train: list, tests: dict[str, list]) -> pd.DataFrame:
    """DataFrame image, test_set, test_image, orientation (as in `rs5m.dedup.orient`), score: each
    training image left out, with its best match in each set. Images by name.
    """
    rows = [
        (train[pair.train], name, tests[name][pair.test], pair.orientation, round(pair.score, 2))
        for name, pairs in copies.items()
        for pair in pairs.sort_values("score", ascending=False).itertuples()
    ]
    table = pd.DataFrame(rows, columns=["image", "test_set", "test_image", "orientation", "score"])
    table = table.drop_duplicates(["image", "test_set"])
    return table.sort_values(["test_set", "image"], ignore_index=True)


def _listed(found: Material) -> None:
    """Write results/local/LEFT_OUT."""
    names = {name: labelled.images.names for name, labelled in found.sets.items()}
    names["rsicd-test"] = [path.name for path in found.test.paths]
    table = left_out(found.copies, [path.name for path in found.train.paths], names)
    with files.whole(results.root() / "results" / "local" / LEFT_OUT) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def measure(scale: Scale) -> dict:
    """The whole experiment; seconds where the trunk's features are in runs/, else minutes. Names of
    what was left out go to results/local/LEFT_OUT.

    Keys: images, left_out (training images by the test set that holds a copy), contact (images of
    that set with a copy in the training half), named (`rs5m.book.contact.count`), settings, `tests`
    (set -> arm -> balanced accuracy with its interval; the gain over the general model and over the
    colour baseline over seeds and images; the same of classes new to the captions), retrieval (mean
    recall on RSICD's test half before and after; not the published protocol: smaller images, nine
    tenths of them).
    """
    model, found = models.general(scale), material(scale)
    _listed(found)
    seen, captions, known = found.seen, found.captions, found.known
    settings = chosen(model, seen.features, captions, known)
    run = replace(SETTINGS, **{key: settings[key] for key in ("learning_rate", "epochs")})
    heads = [
        head.fit(model, seen.features, captions, replace(run, seed=seed), known=known)[0]
        for seed in SEEDS
    ]
    six = colour.fit_head(seen.colours, captions, run, model, known)
    images, asked = found.parts["rsicd-test"].features[:, 0], found.test.captions
    return {
        "images": len(captions),
        "left_out": {name: pairs["train"].nunique() for name, pairs in found.copies.items()},
        "contact": {name: pairs["test"].nunique() for name, pairs in found.copies.items()},
        "named": {name: touch.count(captions, one) for name, one in found.sets.items()},
        "settings": settings,
        "tests": {
            name: _tested(model, one, found.parts[name], heads, six, touch.unheard(captions, one))
            for name, one in found.sets.items()
        },
        "retrieval": {
            "before": mean_recall(images @ head.weight(model).T, asked, known),
            "after": [mean_recall(images @ one.T, asked, known) for one in heads],
        },
    }


def files_of(split: ret2.Split) -> datasets.Images:
    """Its images, to be read."""
    names = [path.name for path in split.paths]
    return datasets.Images(names, lambda i: split.paths[i].read_bytes())


def known_texts(scale: Scale, model: Model, captions: list) -> dict[str, torch.Tensor]:
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
        names = {c: prompts.class_prompt(found.classes[c]) for c in unheard}
        values["unheard"] = _arms(fewer, labels[some]) | chance | {"classes": list(names.values())}
        values["unheard"]["by class"] = {
            name: {
                arm: 100 * float(np.mean(each, 0)[labels == c].mean()) for arm, each in hits.items()
            }
            for c, name in names.items()
        }
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
