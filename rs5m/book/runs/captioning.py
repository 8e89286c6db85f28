"""The captioned set, the captioner and the two rankers that learn from it. Chapter: captions.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split
of UC Merced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from rs5m import clip, pocket, results
from rs5m.book import head, models, sets
from rs5m.book.runs.web import crawl, web_pairs
from rs5m.book.scales import Scale
from rs5m.captions import prefix
from rs5m.data import datasets
from rs5m.data.datasets import Pairs

# its chips and their composed captions play the captioned set; RS3 has the other continents
ANNOTATED = "Americas"


def continents(chips: pocket.Chips) -> np.ndarray:
    """Each chip's continent, from the town nearest to it: str (n,)."""
    at = zip(chips.places, chips.latitude, chips.longitude, strict=True)
    return np.array([pocket.continent(place["country_code"], *rest) for place, *rest in at])


@cache
def annotated(scale: Scale) -> Pairs:
    """The captioned set, the part that RSITMD plays for the paper's BLIP-2.

    UC Merced's training split with what people wrote, where the scale has it, else the pocket's
    training chips of the Americas with composed captions.
    """
    if sets.has_ucm(scale):
        return sets.pairs("ucm", scale)
    chips = pocket.chips("train")
    index, texts = np.flatnonzero(continents(chips) == ANNOTATED), pocket.captions(chips)
    return Pairs("Americas", [chips.images[i] for i in index], [texts[i] for i in index], [])


def _key(scale: Scale) -> tuple:
    """What the learned things of a scale depend on, without decoding more than need be."""
    pairs = annotated(scale)
    web_run = crawl(scale).name  # its name holds a hash of all that made it
    return scale, web_run, datasets.fingerprint(pairs.images, pairs.captions)


@cache
def _features(scale: Scale, part: Callable[[Scale], Pairs], ranker: str) -> np.ndarray:
    """The upright trunk features of a part's images; the captioner and model A read the same."""
    return head.features(RANKERS[ranker](scale), part(scale).images, angles=(0,))


def captioner_folder(scale: Scale) -> Path:
    """Where the prefix captioner is kept, trained on PUB11's pairs and the captioned set."""

    def make(folder: Path) -> None:
        model = models.general(scale)
        parts = (web_pairs, annotated)
        vectors = np.concatenate([_features(scale, part, "A")[:, 0] for part in parts])
        texts = web_pairs(scale).captions + annotated(scale).captions
        prefix.fit(vectors @ head.weight(model).T, texts, model=model)[0].save(folder)

    return results.artefact("captioner", scale.name, _key(scale), make)


def captioner(scale: Scale, model: clip.Model | None = None) -> prefix.PrefixCaptioner:
    """The prefix captioner of `captioner_folder`; model: the scale's general model, if it is loaded
    already.
    """
    return prefix.load(captioner_folder(scale), model or models.general(scale))


def rankers_folder(scale: Scale) -> Path:
    """Where the heads of models A and B are kept. Chapter: captions."""

    def make(folder: Path) -> None:
        part = annotated if sets.has_ucm(scale) else web_pairs
        for name, load in RANKERS.items():
            model = load(scale)
            tuned = head.weight(model)  # CLIP's rank as they are
            if scale.lock_text:
                tuned = head.fit(model, _features(scale, part, name), part(scale).captions)[0]
            np.save(folder / f"{name}.npy", tuned)

    return results.artefact("rankers", scale.name, _key(scale), make)


RANKERS = {"A": models.general, "B": models.second}


def rankers(scale: Scale) -> tuple[clip.Model, clip.Model]:
    """Models A and B of the ranking, their heads tuned on PUB11's pairs (on the captioned set where
    people wrote it).

    The paper's two, CLIP's of the scales colab and paper, have read the web and are left as they
    are; the pocket's general models have read no pair at all.
    """
    folder = rankers_folder(scale)
    a, b = (
        head.attach(load(scale), np.load(folder / f"{name}.npy")) for name, load in RANKERS.items()
    )
    return a, b
