"""Why web pairs hurt on EuroSAT, and why both halves together are worth less than one.

    RS5M_DATA=FOLDER python -m bench.halves [--out results/bench/halves.json]

Scale local. Every image goes through the frozen trunk once; every arm learns the matrix behind it
in as many steps, three seeds each, and differs from another in one thing alone: pixels, their
resolution, the names of the classes, the manner of the captions, or how the halves share batches
and steps. Test: images of EuroSAT that are in no pair. Chapter: tune.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from rs5m import intervals, pocket, results, tune, zeroshot
from rs5m.book import domain, head, models, runs, scales, sets, testing
from rs5m.captions.sentences import sentence
from rs5m.evaluate import prompts
from rs5m.pocket.webtexts import words
from rs5m.tune import loader

SEEDS = (0, 1, 2)
STEPS, BATCH, RATE = 40, 128, 1e-3
COARSE = 15  # pixels along a side: those of a chip of the pocket world
NEAREST = {  # class of EuroSAT as its RS3 sentences write it: the nearest land cover
    "annual crop": "cropland",
    "forest": "evergreen needleleaf forest",
    "herbaceous vegetation": "open shrubland",
    "highway": "urban area",
    "industrial": "urban area",
    "pasture": "grassland",
    "permanent crop": "cropland",
    "residential": "urban area",
    "river": "open water",
    "sea lake": "open water",
}
BACK = {  # land cover: the nearest class of EuroSAT; a longer name before one that it holds
    "cropland and natural vegetation mosaic": "annual crop",
    "cropland": "annual crop",
    "forest": "forest",
    "shrubland": "herbaceous vegetation",
    "woody savanna": "herbaceous vegetation",
    "savanna": "herbaceous vegetation",
    "grassland": "pasture",
    "urban area": "residential",
    "open water": "sea lake",
}
LEAVES = r"(?:evergreen|deciduous|mixed|open|closed) (?:needleleaf |broadleaf )?"  # before a name


class Part(NamedTuple):
    """Trunk features (n, width) and the one caption of each image."""

    features: np.ndarray
    captions: list[str]

    def told(self, captions: Sequence[str]) -> Part:
        return self._replace(captions=list(captions))

    def only(self, keep: np.ndarray) -> Part:
        kept = np.flatnonzero(keep)
        return Part(self.features[kept], [self.captions[i] for i in kept])


class Arm(NamedTuple):
    """What is learned from: parts whose batches are mixed, or by `order` taken apart."""

    name: str
    parts: list[Part]
    steps: int = STEPS
    order: str = "mixed"  # mixed, even, in turn or one after the other


def pixels(source: loader.Shards) -> list[np.ndarray]:
    return list(source[np.arange(len(source)), None].pixels.permute(0, 2, 3, 1).numpy())


def coarse(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((COARSE, COARSE), Image.Resampling.BOX))


def renamed(text: str, names: dict[str, str]) -> str:
    """The text, in lower case, with the first of these names that it holds exchanged."""
    low = re.sub(f"{LEAVES}(?=forest|shrubland)", "", text.lower())
    return next((low.replace(name, names[name]) for name in names if name in low), text)


def web_texts(names: Sequence[str], places: Sequence[dict], naming: bool) -> list[str]:
    """Alt-texts of the pocket web for images of these classes, with a name in each or in none."""
    forms = [form for form in words()["texts"]["view"] if ("{name}" in form) == naming]
    generator = np.random.default_rng(0)
    return [
        forms[generator.integers(len(forms))].format(name=name, **place)
        for name, place in zip(names, places, strict=True)
    ]


def plan(sizes: Sequence[int], arm: Arm, generator: np.random.Generator) -> list[np.ndarray]:
    """The pairs of every step, as positions in all parts one behind the other."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def endless(indices: np.ndarray, count: int) -> np.ndarray:
        rounds = -(-count // len(indices))
        return np.concatenate([generator.permutation(indices) for _ in range(rounds)])[:count]

    whole = [start + np.arange(size) for start, size in zip(starts, sizes, strict=True)]
    if arm.order == "mixed":
        return np.split(endless(np.concatenate(whole), arm.steps * BATCH), arm.steps)
    share = arm.steps // len(whole)
    apart = [np.split(endless(one, share * BATCH), share) for one in whole]
    if arm.order == "even":
        halves = [np.split(endless(one, share * BATCH), arm.steps) for one in whole]
        return [np.concatenate(step) for step in zip(*halves, strict=True)]
    if arm.order == "in turn":
        return [step for steps in zip(*apart, strict=True) for step in steps]
    return [step for steps in apart for step in steps]


def learn(model, arm: Arm, known: dict[str, torch.Tensor], seed: int) -> np.ndarray:
    """The matrix behind the trunk (dim, width) after the arm's steps."""
    generator = np.random.default_rng(seed)
    steps = plan([len(part.captions) for part in arm.parts], arm, generator)
    inputs = torch.from_numpy(np.concatenate([part.features for part in arm.parts]))
    text = torch.stack([known[caption] for part in arm.parts for caption in part.captions])
    matrix = torch.from_numpy(head.weight(model)).requires_grad_()
    factor = model.net.logit_scale.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([matrix, factor], RATE, weight_decay=0.01)
    for number, index in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * tune.rate(number, len(steps))
        image = functional.normalize(inputs[index] @ matrix.T, dim=-1)
        loss = tune.contrastive_loss(image, text[index], factor.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return matrix.detach().numpy()


class Halves:
    """Both halves of scale local, their variants, and the test."""

    def __init__(self):
        self.scale = scales.get("local")
        self.model = models.general(self.scale)
        web, labelled = (domain.source(self.scale, (name,)) for name in ("pub11", "rs3"))
        records = runs.labelled_records(self.scale)
        world = pocket.chips("train")
        others = np.flatnonzero(runs.continents(world) != runs.ANNOTATED)
        shown, stems = pixels(labelled), np.array([Path(name).stem for name in labelled.names])
        self.web = self.part("pub11", pixels(web), [web.captions(i)[0] for i in range(len(web))])
        self.rs3 = self.part("rs3", shown, [labelled.captions(i)[0] for i in range(len(labelled))])
        classed = np.array([records[stem].labels[0] in NEAREST for stem in stems])
        self.names = [records[stem].labels[0] for stem in stems[classed]]
        told = [sentence(records[stem]) for stem in stems[classed]]
        self.plain = self.rs3.only(classed).told(told)
        kept = [image for image, keep in zip(shown, classed, strict=True) if keep]
        self.coarse = self.part("coarse", [coarse(image) for image in kept], told)
        at = list(others[runs.some_of_each(world.labels[others])])  # of a class as EuroSAT's
        lines = [sentence(sets.pocket_record(world, i, "")) for i in at]
        self.world = self.part("pocket", [world.images[i] for i in at], lines)
        near = (world.places[i] for i in np.resize(at, len(self.names)))
        keys = ("city", "country", "state")
        self.places = [{key: p.get(key) or p["country"] for key in keys} for p in near]
        self.test = sets.some(domain.test_set("eurosat", self.scale), 100)
        self.tested = self.features("test", list(self.test.images))
        self.classifier = zeroshot.classifier(prompts.class_text(self.model, self.test))
        self.before = self.hits(head.weight(self.model))

    def part(self, name: str, images: list[np.ndarray], captions: list[str]) -> Part:
        return Part(self.features(name, images), captions)

    def features(self, name: str, images: list[np.ndarray]) -> np.ndarray:
        """What the trunk gives for upright images (n, width), kept in runs/."""

        def make(out: Path) -> None:
            np.save(out / "trunk.npy", head.features(self.model, images, (0,), quiet=True)[:, 0])

        digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
        return np.load(results.artefact(f"halves-{name}", "local", (digest,), make) / "trunk.npy")

    def hits(self, matrix: np.ndarray) -> np.ndarray:
        return zeroshot.hits(self.tested @ matrix.T, self.classifier, self.test.labels)

    def arms(self) -> dict[str, list[Arm]]:
        """Question -> arms."""
        web, rs3, plain, world = self.web, self.rs3, self.plain, self.world
        covers = [*BACK, "wetland", "snow and ice", "barren desert"]
        holds = np.array([any(n in text.lower() for n in covers) for text in web.captions])
        alt = {naming: web_texts(self.names, self.places, naming) for naming in (True, False)}
        shuffled = np.random.default_rng(0).permutation(len(plain.captions))
        return {
            "the halves": [Arm("PUB11", [web]), Arm("RS3", [rs3]), Arm("both", [web, rs3])],
            "RS3's metadata, one thing changed": [
                Arm("as they are", [plain]),
                Arm("pixels of the pocket world, its own names", [world]),
                Arm("pixels of the pocket world, EuroSAT's names",
                    [world.told([renamed(t, BACK) for t in world.captions])]),
                Arm(f"pictures of {COARSE} pixels", [self.coarse]),
                Arm("names of the nearest land cover",
                    [plain.told([renamed(t, NEAREST) for t in plain.captions])]),
                Arm("alt-texts that name the class", [plain.told(alt[True])]),
                Arm("alt-texts that name a place alone", [plain.told(alt[False])]),
                Arm("sentences of other images",
                    [plain.told([plain.captions[i] for i in shuffled])]),
            ],
            "PUB11, one thing changed": [
                Arm("texts that name a land cover alone", [web.only(holds)]),
                Arm("texts that name none alone", [web.only(~holds)]),
                Arm("land covers under EuroSAT's names",
                    [web.told([renamed(t, BACK) for t in web.captions])]),
            ],
            "both, batches and steps changed": [
                Arm("RS3 alone, as many looks as in both", [rs3],
                    round(STEPS * len(rs3.captions) / (len(rs3.captions) + len(web.captions)))),
                Arm("both, RS3 as often as alone", [web, rs3],
                    round(STEPS * (1 + len(web.captions) / len(rs3.captions)))),
                Arm("both, half of each batch from each", [web, rs3], order="even"),
                Arm("both, batches of one half in turn", [web, rs3], order="in turn"),
                Arm("PUB11 first, then RS3", [web, rs3], order="after"),
                Arm("RS3 first, then PUB11", [rs3, web], order="after"),
            ],
        }  # fmt: skip

    def measure(self) -> dict:
        """What is stored: arms by question, the general model, and what PUB11 does by class."""
        arms, labels = self.arms(), self.test.labels
        told = [(text,) for of in arms.values() for arm in of for p in arm.parts for text in p[1]]
        known, found, rows = head.text_features(self.model, told), {}, []
        for question, group in arms.items():
            for arm in group:
                began = time.perf_counter()
                heads = [learn(self.model, arm, known, seed) for seed in SEEDS]
                found[arm.name] = [self.hits(matrix) for matrix in heads]
                rows.append({"question": question} | self.row(arm, found[arm.name], began))
                print({k: v for k, v in rows[-1].items() if k != "over_general"}, flush=True)
        both = {
            name: _short(intervals.gain_over_seeds(found[name], found["both"], labels))
            for name in ("PUB11", "RS3")
        }
        change = np.mean(found["PUB11"], 0) - self.before
        classes = enumerate(self.test.classes)
        by_class = {name: 100 * float(change[labels == c].mean()) for c, name in classes}
        said = [name for names in testing.spellings(self.test).values() for name in names]
        return {
            "general": float(intervals.balanced(self.before, labels)),
            "arms": rows,
            "both_over": both,
            "pub11_by_class": by_class,
            "images": len(labels),
            "pub11_names_a_class": _share(self.web.captions, said),
        }  # fmt: skip

    def row(self, arm: Arm, hits: list[np.ndarray], began: float) -> dict:
        labels = self.test.labels
        over = intervals.gain_over_seeds(self.before, hits, labels)
        return {
            "arm": arm.name,
            "pairs": sum(len(part.captions) for part in arm.parts),
            "steps": arm.steps,
            "balanced": float(np.mean([intervals.balanced(hit, labels) for hit in hits])),
            "over_general": _short(over),
            "seconds": (time.perf_counter() - began) / len(SEEDS),
        }


def _short(gain: dict) -> dict:
    return {key: gain[key] for key in ("gain", "low", "high", "seeds")}


def _share(texts: Sequence[str], names: Sequence[str]) -> float:
    """Of the texts, in %, that hold one of the names."""
    return 100 * float(np.mean([any(n.lower() in t.lower() for n in names) for t in texts]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench/halves.json"))
    options = parser.parse_args(arguments)
    values = Halves().measure() | {"date": datetime.now(UTC).strftime("%Y-%m-%d")}
    options.out.write_text(json.dumps({"values": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
