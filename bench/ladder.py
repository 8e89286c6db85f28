"""How far each change of the recipe brings a model of the pocket world, beside six colour numbers.

    python -m bench.ladder [--shards 'FOLDER/*.tar' ...] [--out results/bench/ladder.json]

The pairs are those of scale mini (or of given shards), the test is the pocket world's: Europe and
Africa, which no pair shows. Images go through the frozen trunk once; every arm learns a matrix
behind some of its stages by the contrastive loss (`rs5m.book.head`), three seeds each, or a
logistic regression where it says so. Nothing is chosen on the test: every arm is listed.
Stored: balanced accuracy, its distance to six colour numbers learned from the same captions with
the interval over seeds and images, and the seconds of learning. Chapter: tune.
"""

from __future__ import annotations

import argparse
import glob
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from rs5m import clip, intervals, pocket, zeroshot
from rs5m.book import colour, domain, head, models, scales, sets, testing
from rs5m.evaluate import prompts
from rs5m.tune import loader

SEEDS = (0, 1, 2)
SETTINGS = replace(head.SETTINGS, batch_size=128)
EARLY = 3  # the stem and the first stages, where colour is still there
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
        self.seen, self.held = stages(self.model, pixels), stages(self.model, self.test.images)
        self.colours = colour.numbers(pixels), colour.numbers(self.test.images)
        spellings = list(zip(*testing.spellings(self.test).values(), strict=True))
        self.named = colour.named(self.captions, spellings)
        said = colour.from_captions(self.colours[0], self.captions, spellings, self.colours[1])
        self.baseline = said == self.test.labels
        chips = pocket.chips("train")
        self.chips = stages(self.model, chips.images[::LABELLED])
        self.chip_colours = colour.numbers(chips.images[::LABELLED])
        self.chip_captions = pocket.captions(chips)[::LABELLED]
        self.known = head.text_features(self.model, [*self.captions, *self.chip_captions])
        self.classifier = zeroshot.classifier(prompts.class_text(self.model, self.test))

    def row(self, change: str, hits: list[np.ndarray], seconds: float) -> dict:
        labels = self.test.labels
        over = intervals.gain_over_seeds(self.baseline, hits, labels)
        level = float(np.mean([intervals.balanced(hit, labels) for hit in hits]))
        keys = ("gain", "low", "high", "seeds")
        print(
            f"{change}: {level:.1f} %, {over['gain']:+.1f} to colour, {seconds:.1f} s", flush=True
        )
        over = {key: over[key] for key in keys}
        return {"change": change, "balanced": level, "over_colour": over, "seconds": seconds}

    def tuned(self, change: str, train: np.ndarray, test: np.ndarray, captions, epochs=8) -> dict:
        """A matrix behind these features, from nothing, by the contrastive loss."""
        began, hits = time.perf_counter(), []
        train, test = scaled(train, test)
        for seed in SEEDS:
            shape = len(self.classifier[0]), train.shape[1]
            start = np.random.default_rng(seed).normal(size=shape, scale=0.002).astype(np.float32)
            settings = replace(SETTINGS, seed=seed, epochs=epochs)
            fitted, _ = head.fit(
                self.model, train[:, None], captions, settings, start, known=self.known
            )
            hits.append(zeroshot.hits(test @ fitted.T, self.classifier, self.test.labels))
        return self.row(change, hits, (time.perf_counter() - began) / len(SEEDS))

    def regression(self, change: str, train: np.ndarray, test: np.ndarray) -> dict:
        """Classes that captions name, by a logistic regression: no text tower."""
        from sklearn.linear_model import LogisticRegression

        began, named = time.perf_counter(), self.named >= 0
        train, test = scaled(train, test)
        fitted = LogisticRegression(C=0.1, max_iter=300).fit(train[named], self.named[named])
        hit = fitted.predict(test) == self.test.labels
        return self.row(change, [hit], time.perf_counter() - began)

    def arms(self) -> list[dict]:
        """Every change that was tried, in this order."""
        rows = [self.row("six colour numbers, classes that captions name", [self.baseline], 0.0)]
        before = self.held[-1] @ head.weight(self.model).T
        hit = zeroshot.hits(before, self.classifier, self.test.labels)
        rows.append(self.row("the general model", [hit], 0.0))
        trunk, captions = (self.seen[-1], self.held[-1]), self.captions
        early = np.hstack(self.seen[:EARLY]), np.hstack(self.held[:EARLY])
        both = tuple(np.hstack(pair) for pair in zip(trunk, early, self.colours, strict=True))
        one = np.flatnonzero(self.named >= 0)
        clear, only = (both[0][one], both[1]), [captions[i] for i in one]
        chips = np.hstack([self.chips[-1], *self.chips[:EARLY], self.chip_colours])
        rows += [
            self.tuned("six colour numbers, contrastive", *self.colours, captions, 32),
            self.tuned("matrix behind the trunk", *trunk, captions),
            self.tuned("the same, four times as many steps", *trunk, captions, 32),
            self.tuned("stem and first stages in place of the trunk", *early, captions, 32),
            self.tuned("trunk, first stages and colour", *both, captions, 32),
            self.tuned("the same, captions that name one class only", *clear, only, 64),
            self.regression("trunk, classes that captions name", *trunk),
            self.regression("trunk, first stages and colour, classes that captions name", *both),
            self.tuned("labelled chips of one degree, composed captions", chips, both[1],
                       self.chip_captions, 64),
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
    values = {"pairs": len(source), "images": len(ladder.test.labels), "arms": ladder.arms()}
    values["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"values": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
