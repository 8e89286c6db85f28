"""The captioned set, the captioner and the two rankers that learn from it; or BLIP-2, where it is.
Chapter: captions.

Nothing learned here has seen Europe or Africa, where the pocket world is tested, or the test split
of UC Merced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from rs5m import clip, pocket, results
from rs5m.book import head, models, sets
from rs5m.book.runs.web import crawl, web_pairs
from rs5m.book.scales import Scale, data_folder
from rs5m.captions import BLIP2, Blip2Captioner, prefix
from rs5m.data import datasets
from rs5m.data.datasets import Pairs
from rs5m.rs3.input import folder_digest

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


def blip2_folder(scale: Scale) -> Path | None:
    """The paper's captioner, where colab and paper have it without fetching its 31 GB: a folder of
    its name in the data folder, or all of its weights in the hub's cache; else None.
    """
    if scale.lock_text:
        return None
    given = data_folder(scale) / Path(BLIP2).name
    if given.is_dir():
        return given
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(BLIP2, "config.json")
    if not isinstance(cached, str):
        return None
    folder, files = Path(cached).parent, ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return folder if all((folder / name).is_file() for name in files) else None


def captioner(
    scale: Scale, model: clip.Model | None = None
) -> prefix.PrefixCaptioner | Blip2Captioner:
    """BLIP-2 where `blip2_folder` finds it, else the prefix captioner of `captioner_folder`; at
    colab and paper it is said which.

    model: the scale's general model, if it is loaded already.
    """
    if folder := blip2_folder(scale):
        print(f"{BLIP2} of {folder} writes the captions")
        return Blip2Captioner(folder)
    if not scale.lock_text:
        print(
            f"{BLIP2} is not here, and a small captioner writes: for BLIP-2 itself run `hf download"
            f' {BLIP2} --exclude "*.bin"` first (31 GB; 16 GB of a GPU), or put its files into '
            f"{data_folder(scale) / Path(BLIP2).name}"
        )
    return prefix.load(captioner_folder(scale), model or models.general(scale))


def captioner_name(scale: Scale) -> str:
    """Which captioner writes, for what is made of its captions: it changes with the captioner."""
    folder = blip2_folder(scale)
    return f"{BLIP2} {folder_digest(folder)}" if folder else captioner_folder(scale).name


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
