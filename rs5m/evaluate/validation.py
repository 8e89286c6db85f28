"""What judges a model while it is tuned: a set of one's own, of classes or of captions. Chapter:
tune.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from rs5m import clip, results, retrieval, zeroshot
from rs5m.clip import Model
from rs5m.data import datasets, pairs
from rs5m.data.datasets import Captions, Classes, Images
from rs5m.evaluate import features, prompts, testsets
from rs5m.tune.kept import Validation
from rs5m.tune.loader import Shards
from rs5m.tune.run import refuse_missing

Score = Callable[[Model], dict[str, float]]


def of(
    path: str, out: str | Path, every: int = 0, image_column: str = "", caption_column: str = ""
) -> Validation:
    """The validation on a set: the balanced accuracy of a folder with a folder of images for each
    class, else the mean recall of pairs; all in %.

    FileNotFoundError and ValueError that name what is wrong.

    Args:
        path: the folder of classes; or a table, COCO's captions or shards, as `rs5m tune` takes
            them.
        out: the run's folder: pairs that are not shards are packed into out/validation.
        every: steps between two validations; 0: an epoch.
        image_column, caption_column: of a table, guessed and said where they are not given.
    """
    if every < 0:
        raise ValueError(f"--validate-every {every}: give a number of steps, or 0 for an epoch")
    refuse_missing([path], "a folder of classes, or a table of images and captions")
    if Path(path).is_dir():
        data, score, by = _classes(Path(path))
        what = {"classes": len(data.classes)}
        identity = data.images.names, data.labels.tolist()
    else:
        data, score, by = _captions(path, Path(out), image_column, caption_column)
        what = {"captions": sum(map(len, data.captions))}
        identity = data.images.names, data.captions
    about = {"data": data.name, "images": len(data.images.names)} | what
    return Validation(_plain(score), by, every, about | {"digest": results.digest(identity)})


def _plain(score: Score) -> Score:
    """A score by the network as it is: its compiled towers would be compiled once more, for minutes
    on a CPU.
    """

    def plain(model: Model) -> dict[str, float]:
        stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
        with stance("force_eager") if stance else nullcontext():
            return score(model)

    return plain


# ---------------------------------------------------------------- classes


def _classes(folder: Path) -> tuple[Classes, Score, str]:
    data = testsets.own(folder)
    if data is None:
        raise ValueError(
            f"{folder} has no class folders with images: name a folder with a folder of images for "
            "each class, or a table of images and captions"
        )
    if data.left_out:
        print(f"{data.name}: left out of the validation: {datasets.in_words(data.left_out)}")
    text, encode = _remembered(lambda model: prompts.class_text(model, data)), _images(data)

    def score(model: Model) -> dict[str, float]:
        encoded = encode(model)
        label, classifier = data.labels[encoded.kept], zeroshot.classifier(text(model))
        return zeroshot.accuracy(encoded.vectors, classifier, label, (1,))

    return data, score, "balanced"


# ---------------------------------------------------------------- captions


def _captions(
    path: str, out: Path, image_column: str, caption_column: str
) -> tuple[Captions, Score, str]:
    shards = path
    if found := pairs.packable([path]):
        shards = pairs.pack(found, out / "validation", image_column, caption_column, "val")
    source = Shards(shards, 1)  # read as files, not as squares
    groups = [source.captions(i) for i in range(len(source))]
    images = Images(source.names, source.content)
    data = Captions(Path(path).name, images, groups, {})
    texts, encode = [one for group in groups for one in group], _images(data)
    text = _remembered(lambda model: clip.encode_texts(model, texts))

    def score(model: Model) -> dict[str, float]:
        encoded = encode(model)
        place = {int(i): row for row, i in enumerate(encoded.kept)}
        of = np.array([place.get(i, -1) for i, group in enumerate(groups) for _ in group])
        return retrieval.recall(encoded.vectors, text(model)[of >= 0], of[of >= 0])

    return data, score, "mean_recall"


def _images(data: Classes | Captions) -> Callable[[Model], features.Encoded]:
    """The vectors of a set's images; what is unreadable is told the first time."""
    told = []

    def encode(model: Model) -> features.Encoded:
        encoded = features.encode(model, data.images, data.name, quiet=True)
        if not told:
            datasets.tell_skipped(data.name, encoded.skipped)
            told.append(True)
        return encoded

    return encode


def _remembered(encode: Callable[[Model], np.ndarray]) -> Callable[[Model], np.ndarray]:
    """The same vectors again as long as the text tower gives a sentence the same one: one that is
    locked encodes its texts once.
    """
    known: dict[bytes, np.ndarray] = {}

    def vectors(model: Model) -> np.ndarray:
        probe = clip.encode_texts(model, ["a satellite image of water"]).tobytes()
        if probe not in known:
            known.clear()
            known[probe] = encode(model)
        return known[probe]

    return vectors
