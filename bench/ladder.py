"""How far each change of the recipe brings a model of the pocket world, beside six colour numbers.

    python -m bench.ladder [--shards 'FOLDER/*.tar' ...] [--out results/bench/ladder.json]

The pairs are those of scale mini (or of given shards), the test is the pocket world's: Europe and
Africa, which no pair shows. Images go through the frozen trunk once; every arm learns a matrix
behind some of its stages by the contrastive loss (`rs5m.book.head`), three seeds each, or a
logistic regression where it says so. Nothing is chosen on the test: every arm is listed, and the
pairs, stages and epochs of the last ones were the best of 20 on chips of the Americas, which no
test uses.
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
from pathlib import Path

import numpy as np
import torch

from rs5m import clip, intervals, pocket, results, zeroshot
from rs5m.book import colour, domain, head, models, runs, scales, sets, testing
from rs5m.book.runs.captioning import _where
from rs5m.captions.sentences import sentence
from rs5m.evaluate import prompts
from rs5m.tune import loader

SEEDS = (0, 1, 2)
SETTINGS = replace(head.SETTINGS, batch_size=128)
EARLY = 3  # the stem and the first stages, where colour is still there
# of the arms with the sentences of all chips, the best on the Americas: stem and three stages
FIRST, EPOCHS = 4, 32
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
        spellings = list(zip(*testing.spellings(self.test).values(), strict=True))
        self.named = colour.named(self.captions, spellings)
        said = colour.from_captions(self.colours[0], self.captions, spellings, self.colours[1])
        self.baseline = said == self.test.labels
        chips = pocket.chips("train")
        self.chips = kept(self.model, "chips", list(chips.images))
        self.chip_colours = colour.numbers(chips.images)
        self.chip_captions = pocket.captions(chips)
        records = (sets.pocket_record(chips, i, "") for i in range(len(chips.labels)))
        self.sentences = [(sentence(record),) for record in records]
        self.home = _where(chips) == runs.ANNOTATED
        stems = [Path(name).stem for name in source.names]
        self.labelled = np.array([stem.startswith("chip") for stem in stems])
        self.taken = np.isin([f"chip{i:05d}" for i in range(len(self.home))], stems)
        texts = [*self.captions, *self.chip_captions[::LABELLED], *self.sentences]
        self.known = head.text_features(self.model, texts)
        self.spellings = spellings
        self.classifier = zeroshot.classifier(prompts.class_text(self.model, self.test))

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
        self, change: str, train: np.ndarray, test: np.ndarray, captions, epochs=8, same=None
    ) -> dict:
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
        return self.row(change, hits, (time.perf_counter() - began) / len(SEEDS), same)

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
        every = np.hstack([self.chips[-1], *self.chips[:EARLY], self.chip_colours])
        chips = every[::LABELLED]
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
                       self.chip_captions[::LABELLED], 64),
        ]  # fmt: skip
        return rows

    def more_sentences(self) -> list[dict]:
        """Arms with RS3's sentence of every training chip beside the book's RS3."""
        first = np.hstack(self.seen[:FIRST]), np.hstack(self.chips[:FIRST])
        held, rows, new = np.hstack(self.held[:FIRST]), [], ~self.taken
        web, rs3 = (np.flatnonzero(self.labelled == half) for half in (False, True))
        for pairs, chips, name in (
            (rs3, new & ~self.home, "RS3's sentences of all chips but the Americas'"),
            ([*web, *rs3], new & ~self.home, "the same and PUB11"),
            (rs3, new, "RS3's sentences of all chips"),
        ):
            index = np.flatnonzero(chips)
            captions = [self.captions[i] for i in pairs] + [self.sentences[i] for i in index]
            train = np.vstack([first[0][pairs], first[1][index]])
            shown = np.vstack([self.colours[0][pairs], self.chip_colours[index]])
            said = colour.from_captions(shown, captions, self.spellings, self.colours[1])
            same = said == self.test.labels
            rows += [
                self.row(f"six colour numbers, {name}", [same], 0.0),
                self.tuned(
                    f"stem and first three stages, {name}", train, held, captions, EPOCHS, same
                ),
            ]
        return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", nargs="+", help="tar files, in place of scale mini's own pairs")
    parser.add_argument("--out", type=Path, default=Path("results/bench/ladder.json"))
    more = "only the arms with RS3's sentences; those of --out stay as they are"
    parser.add_argument("--more", action="store_true", help=more)
    options = parser.parse_args(arguments)
    scale = scales.get("mini")
    paths = sorted(Path(p) for pattern in options.shards or () for p in glob.glob(pattern))
    source = (
        loader.Shards(paths, scale.image_size) if paths else domain.source(scale, scale.runs[0])
    )
    ladder = Ladder(source)
    if options.more:
        stored = json.loads(options.out.read_text())["values"]["arms"]
        new = ladder.more_sentences()
        names = {row["change"] for row in new}
        arms = [row for row in stored if row["change"] not in names] + new
    else:
        arms = ladder.arms() + ladder.more_sentences()
    values = {"pairs": len(source), "images": len(ladder.test.labels), "arms": arms}
    values["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"values": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
