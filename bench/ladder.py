"""How far each change of the recipe brings a model of the pocket world, beside six colour numbers.

    python -m bench.ladder [--shards 'FOLDER/*.tar' ...] [--out results/bench/ladder.json]

The pairs are those of scale mini (or of given shards), the test is the pocket world's: Europe and
Africa, which no pair shows. Images go through the frozen trunk once; every arm learns a matrix
behind some of its stages by the contrastive loss (`rs5m.book.head`), three seeds each, or a
logistic regression where it says so. Every arm is listed; the recipe's stages and epochs were
chosen on chips of the Americas, which no test uses and no pair of RS3 shows ("choice").
Stored: balanced accuracy, its distance to six colour numbers learned from the book's captions with
the interval over seeds and images, and to six that learned from an arm's own captions where those
are others; the seconds of learning. Chapter: tune.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import torch

from rs5m import clip, intervals, pocket, results, zeroshot
from rs5m.book import colour, domain, head, models, runs, scales, sets, side, testing
from rs5m.captions.sentences import sentence
from rs5m.evaluate import prompts
from rs5m.tune import loader

SEEDS = (0, 1, 2)
SETTINGS = replace(head.SETTINGS, batch_size=128)
FIRST = side.STAGES + 1  # the stem and the first stages, where colour is still there
LONG = side.SETTINGS.epochs
LABELLED = 6  # every sixth training chip: about as many as captions name a class


@torch.inference_mode()
def stages(model: clip.Model, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean and deviation over the picture of what every stage of the trunk gives, then the trunk's
    features: float32 (n, width) each.
    """
    trunk, parts = model.net.visual.trunk, []
    for start in range(0, len(images), 64):
        pixels = clip.crop(list(images[start : start + 64]), model.image_size).float().div_(255)
        x = trunk.bn1(trunk.conv_stem(clip.normalise_pixels(pixels, model)))
        found = [x]
        for block in trunk.blocks:
            found.append(block(found[-1]))
        rows = [torch.cat([f.mean((2, 3)), f.std((2, 3))], 1) for f in found]
        last = trunk.bn2(trunk.conv_head(found[-1])).mean((2, 3))
        parts.append([row.numpy() for row in (*rows, last)])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def kept(model: clip.Model, name: str, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`stages`, kept in runs/."""

    def make(out: Path) -> None:
        np.savez(out / "stages.npz", *stages(model, images))

    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    with np.load(
        results.artefact(f"ladder-{name}", "mini", (digest,), make) / "stages.npz"
    ) as held:
        return list(held.values())


def scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the training features' mean zero and deviation one, and a constant."""
    centre, spread = train.mean(0), train.std(0) + 1e-6
    ones = [np.ones((len(part), 1)) for part in (train, test)]
    parts = ((part - centre) / spread for part in (train, test))
    return tuple(
        np.hstack([part, one]).astype(np.float32) for part, one in zip(parts, ones, strict=True)
    )


class Ladder:
    """The pairs, the test and what every arm needs of them."""

    def __init__(self, source: loader.Shards):
        scale = scales.get("mini")
        self.model, self.test = models.general(scale), sets.test_set("pocket", scale)
        self.captions = [source.captions(i) for i in range(len(source))]
        pixels = source[np.arange(len(source)), None].pixels.permute(0, 2, 3, 1).numpy()
        self.seen = kept(self.model, "pairs", pixels)
        self.held = kept(self.model, "test", self.test.images)
        self.colours = colour.numbers(pixels), colour.numbers(self.test.images)
        self.spellings = list(zip(*testing.spellings(self.test).values(), strict=True))
        self.named = colour.named(self.captions, self.spellings)
        self.baseline = self.by_colour(self.colours[0], self.captions)
        self.chips = pocket.chips("train")
        self.chip_stages = kept(self.model, "chips", list(self.chips.images))
        self.chip_colours = colour.numbers(self.chips.images)
        self.chip_captions = pocket.captions(self.chips)
        records = (sets.pocket_record(self.chips, i, "") for i in range(len(self.chips.labels)))
        self.sentences = [(sentence(record),) for record in records]
        stems = [Path(name).stem for name in source.names]
        # of each pair the chip it shows, -1: from the web
        self.chip = np.array([int(s[4:]) if s.startswith("chip") else -1 for s in stems])
        texts = [*self.captions, *self.chip_captions[::LABELLED], *self.sentences]
        self.known = head.text_features(self.model, texts)
        self.classifier = zeroshot.classifier(prompts.class_text(self.model, self.test))

    def by_colour(self, numbers: np.ndarray, captions: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Where six colour numbers that learn from these captions are right."""
        known = self.spellings, self.colours[1], self.test.labels
        return colour.strongest(numbers, captions, *known) == self.test.labels

    def row(self, change: str, hits: list, seconds: float, same: np.ndarray | None = None) -> dict:
        """An arm as it is stored; same: hits of colour that learned from the arm's own captions."""
        labels = self.test.labels
        over = intervals.gain_over_seeds(self.baseline, hits, labels)
        level = float(np.mean([intervals.balanced(hit, labels) for hit in hits]))
        keys = ("gain", "low", "high", "seeds")
        print(
            f"{change}: {level:.1f} %, {over['gain']:+.1f} to colour, {seconds:.1f} s", flush=True
        )
        found = {"over_colour": over}
        if same is not None:
            found["over_same"] = intervals.gain_over_seeds(same, hits, labels)
        short = {name: {key: gain[key] for key in keys} for name, gain in found.items()}
        return {"change": change, "balanced": level, "seconds": seconds} | short

    def tuned(
        self, change: str, train: np.ndarray, test: np.ndarray, captions, epochs=8, same=None,
        trunk=None,
    ) -> dict:  # fmt: skip
        """A matrix behind these features, from nothing, by the contrastive loss.

        trunk: trunk features of the pairs, where the general model's vectors are added as they are.
        """
        began, hits = time.perf_counter(), []
        train, test = scaled(train, test)
        matrix = head.weight(self.model)
        beside, added = None, 0.0
        if trunk is not None:
            beside, added = (trunk @ matrix.T)[:, None], self.held[-1] @ matrix.T
        for seed in SEEDS:
            shape = len(matrix), train.shape[1]
            start = np.random.default_rng(seed).normal(size=shape, scale=0.002).astype(np.float32)
            fitted, _ = head.fit(
                self.model, train[:, None], captions, replace(SETTINGS, seed=seed, epochs=epochs),
                start if trunk is None else 0 * start, self.known, beside,
            )  # fmt: skip
            vectors = test @ fitted.T + added
            hits.append(zeroshot.hits(vectors, self.classifier, self.test.labels))
        return self.row(change, hits, (time.perf_counter() - began) / len(SEEDS), same)

    def choice(self) -> list[dict]:
        """Balanced accuracy on chips of the Americas, which no pair of RS3 shows and no test uses,
        of the layer beside the frozen trunk by how many stages it reads and how long it learns:
        what the recipe was chosen by.
        """
        home = np.flatnonzero(runs.continents(self.chips) == runs.ANNOTATED)
        matrix, labels, rows = head.weight(self.model), self.chips.labels[home], []
        beside, added = ((part @ matrix.T) for part in (self.seen[-1], self.chip_stages[-1][home]))
        for stages, epochs in product((1, 2, 3), (8, 16, 32, 64)):
            train, tested = scaled(
                np.hstack(self.seen[: stages + 1]), np.hstack(self.chip_stages[: stages + 1])[home]
            )
            zero, levels = np.zeros((len(matrix), train.shape[1]), np.float32), []
            for seed in SEEDS:
                fitted, _ = head.fit(
                    self.model, train[:, None], self.captions,
                    replace(SETTINGS, seed=seed, epochs=epochs), zero, self.known, beside[:, None],
                )  # fmt: skip
                hits = zeroshot.hits(tested @ fitted.T + added, self.classifier, labels)
                levels.append(intervals.balanced(hits, labels))
            level = float(np.mean(levels))
            print(f"stages {stages}, epochs {epochs}: {level:.1f} % on the Americas", flush=True)
            rows.append({"stages": stages, "epochs": epochs, "balanced": level})
        return rows

    def regression(self, change: str, train: np.ndarray, test: np.ndarray) -> dict:
        """Classes that captions name, by a logistic regression: no text tower."""
        from sklearn.linear_model import LogisticRegression

        began, named = time.perf_counter(), self.named >= 0
        train, test = scaled(train, test)
        fitted = LogisticRegression(C=0.1, max_iter=300).fit(train[named], self.named[named])
        hit = fitted.predict(test) == self.test.labels
        return self.row(change, [hit], time.perf_counter() - began)

    def arms(self) -> list[dict]:
        """Every change that was tried on the book's pairs, in this order."""
        rows = [self.row("six colour numbers, classes that captions name", [self.baseline], 0.0)]
        for name, weight in (("pair", None), ("class", "balanced")):
            said = colour.from_captions(
                self.colours[0], self.captions, self.spellings, self.colours[1], weight
            )
            change = f"six colour numbers, each {name} counting the same"
            rows.append(self.row(change, [said == self.test.labels], 0.0))
        before = self.held[-1] @ head.weight(self.model).T
        hit = zeroshot.hits(before, self.classifier, self.test.labels)
        rows.append(self.row("the general model", [hit], 0.0))
        trunk, captions = (self.seen[-1], self.held[-1]), self.captions
        early = np.hstack(self.seen[:FIRST]), np.hstack(self.held[:FIRST])
        both = tuple(np.hstack(pair) for pair in zip(trunk, early, strict=True))
        every = tuple(np.hstack(pair) for pair in zip(both, self.colours, strict=True))
        one = np.flatnonzero(self.named >= 0)
        clear, only = (every[0][one], every[1]), [captions[i] for i in one]
        chips = np.hstack([self.chip_stages[-1], *self.chip_stages[:FIRST], self.chip_colours])
        rows += [
            self.tuned("six colour numbers, contrastive", *self.colours, captions, LONG),
            self.tuned("matrix behind the trunk", *trunk, captions),
            self.tuned("matrix behind the trunk, four times as many steps", *trunk, captions, LONG),
            self.tuned("stem and first stages in place of the trunk", *early, captions),
            self.tuned("stem and first stages in place of the trunk, four times as many steps",
                       *early, captions, LONG),
            self.tuned("stem and first stages beside the frozen trunk", *early, captions, LONG,
                       trunk=trunk[0]),
            self.tuned("trunk, stem and first stages, both learned", *both, captions, LONG),
            self.tuned("trunk, stem, first stages and colour, all learned", *every, captions, LONG),
            self.tuned("these, captions that name one class only", *clear, only, LONG),
            self.regression("trunk, classes that captions name", *trunk),
            self.regression("trunk, first stages and colour, classes that captions name", *every),
            self.tuned("labelled chips of one degree, composed captions", chips[::LABELLED],
                       every[1], self.chip_captions[::LABELLED], 64),
        ]  # fmt: skip
        return rows

    def other_pairs(self) -> list[dict]:
        """The matrix beside the frozen trunk with fewer and with more images in RS3, each beside
        the matrix behind the trunk and six colour numbers that learn from the same captions.
        """
        held, rows = np.hstack(self.held[:FIRST]), []
        web, rs3 = (np.flatnonzero(where) for where in (self.chip < 0, self.chip >= 0))
        few = runs.some_of_each(self.chips.labels[self.chip[rs3]])
        home = np.flatnonzero(runs.continents(self.chips) == runs.ANNOTATED)
        nothing = home[:0]
        for pairs, chips, name in (
            ([*web, *rs3[few]], nothing, "40 images of a class in RS3"),
            (rs3, nothing, "RS3 alone"),
            ([*web, *rs3], home, "the Americas' chips, too, with their sentences"),
        ):
            captions = [self.captions[i] for i in pairs] + [self.sentences[i] for i in chips]
            stages = [
                np.vstack([seen[pairs], chip[chips]])
                for seen, chip in zip(self.seen, self.chip_stages, strict=True)
            ]
            shown = np.vstack([self.colours[0][pairs], self.chip_colours[chips]])
            same = self.by_colour(shown, captions)
            first = np.hstack(stages[:FIRST])
            rows += [
                self.row(f"six colour numbers, {name}", [same], 0.0),
                self.tuned(f"matrix behind the trunk, {name}", stages[-1], self.held[-1], captions,
                           same=same),
                self.tuned(f"stem and first stages beside the frozen trunk, {name}", first, held,
                           captions, LONG, same, stages[-1]),
            ]  # fmt: skip
        return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", nargs="+", help="tar files, in place of scale mini's own pairs")
    parser.add_argument("--out", type=Path, default=Path("results/bench/ladder.json"))
    options = parser.parse_args(arguments)
    scale = scales.get("mini")
    paths = sorted(Path(p) for pattern in options.shards or () for p in glob.glob(pattern))
    source = (
        loader.Shards(paths, scale.image_size) if paths else domain.source(scale, scale.runs[0])
    )
    ladder = Ladder(source)
    arms = ladder.arms() + ladder.other_pairs()
    values = {"pairs": len(source), "images": len(ladder.test.labels), "arms": arms}
    values["choice"] = ladder.choice()
    values["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"values": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
