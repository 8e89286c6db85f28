"""Whether tuning deeper than the matrix behind the trunk learns more from RSICD's captions.

    RS5M_DATA=FOLDER python -m bench.deeper [--out results/bench/deeper.json]

Scale local, the training images of `rs5m.book.rsicd`, copies of test images left out. Images go
through the frozen first stages once. Each arm goes on from the head that chapter tune learns, and
trains with it nothing more (the control), the trunk's last stage in full, or LoRA from stage 4 on,
as `rs5m.adapters` places it: same images, turns, captions, batches and loss. All learn from nine
tenths of the training images; an arm's rate is that of the highest mean recall on the others, seed
0. One more arm learns such a head anew from these images and this book's own pairs together (the
chapters pub11 and rs3 must have run); it is not tested on EuroSAT, whose images are among them.
Of EuroSAT every tenth image is tested. Written after each seed. Chapter: tune.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from rs5m import adapters, clip, intervals, results, rotation, tune, zeroshot
from rs5m.adapters.towers import FIRST_STAGE
from rs5m.book import contact, domain, head, models, rsicd, scales, unseen
from rs5m.book.scales import data_folder
from rs5m.book.unseen import BEFORE, GENERAL
from rs5m.data import datasets
from rs5m.evaluate import prompts
from rs5m.tune import ret2
from rs5m.tune.schedule import batches

HEAD, LAST, LORA = "the head alone", "the last stage in full", "LoRA from stage 4 on"
OWN = "the head on both kinds of pairs"
STAGE = {LAST: 6, LORA: FIRST_STAGE}  # whose input is kept
ARMS = {  # arm: rates to choose from
    LORA: (tune.Settings().learning_rate,),
    LAST: (3e-4, 1e-3),
    HEAD: (3e-4, 1e-3, 3e-3),
}
EPOCHS = 1  # behind the head's own
SEEDS = (0, 1, 2)
EVERY = 10  # image of EuroSAT is tested
RANK = 16
LOCK = Lock()  # torch has one random state for all threads


@torch.inference_mode()
def stages(
    model: clip.Model, images: Sequence[np.ndarray], angles: Sequence[float]
) -> dict[str, np.ndarray]:
    """By arm of STAGE what its first trained stage is given: float16 (n, angles, c, h, w)."""
    trunk, found = model.net.visual.trunk, {arm: [] for arm in STAGE}
    for start in tqdm(range(0, len(images), 32), "stages", unit="batch"):
        views = rotation.rotate(images[start : start + 32], angles, model.image_size).div_(255)
        x = clip.normalise_pixels(views.flatten(0, 1), model)
        x = trunk.bn1(trunk.conv_stem(x))
        for stage, block in enumerate(trunk.blocks):
            for arm in (arm for arm in STAGE if STAGE[arm] == stage):
                found[arm].append(x.half().unflatten(0, views.shape[:2]).contiguous().numpy())
            x = block(x)
    return {arm: np.concatenate(parts) for arm, parts in found.items()}


def kept(scale, name: str, images: datasets.Images, angles: Sequence[float]) -> dict:
    """`stages`, kept in runs/."""

    def make(out: Path) -> None:
        pictures = [datasets.decode(images.read(i))[0] for i in range(len(images.names))]
        np.savez(out / "stages.npz", **stages(models.general(scale), pictures, angles))

    digest = hashlib.sha256("\n".join(images.names).encode()).hexdigest()
    folder = results.artefact(f"deeper-{name}", scale.name, (scale, tuple(angles), digest), make)
    with np.load(folder / "stages.npz") as held:
        return dict(held)


class Tail(nn.Module):
    """The trunk from a stage on, and the head: (n, c, h, w) to vectors (n, dim)."""

    def __init__(self, net: nn.Module, stage: int):
        super().__init__()
        trunk = net.visual.trunk
        self.body = nn.Sequential(
            *trunk.blocks[stage:], trunk.conv_head, trunk.bn2, trunk.global_pool
        )
        self.proj = net.visual.head.proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.body(x.contiguous(memory_format=torch.channels_last)))

    @torch.inference_mode()
    def features(self, inputs: np.ndarray) -> np.ndarray:
        """What the head is given of upright images (n, c, h, w)."""
        parts = (part.float() for part in torch.from_numpy(inputs).split(32))
        return torch.cat([self.body(part) for part in parts]).numpy()

    @torch.inference_mode()
    def vectors(self, inputs: np.ndarray) -> np.ndarray:
        """Of upright images (n, c, h, w)."""
        return self.proj(torch.from_numpy(self.features(inputs))).numpy()


def some(found: datasets.Classes, at: np.ndarray) -> datasets.Classes:
    """The images of a set at these positions."""
    names, read = [found.images.names[i] for i in at], found.images.read
    images = datasets.Images(names, lambda i: read(at[i]))
    return found._replace(images=images, labels=found.labels[at])


def trained(model: clip.Model, start: np.ndarray, arm: str) -> Tail:
    """The tail of a copy of the model with this head, the arm's parameters ready to be trained."""
    net = head.attach(model, start).net
    if arm == LORA:
        adapters.prepare(net, "lora", RANK)
    tail = Tail(net, STAGE[arm])
    if arm == LAST:
        tail.requires_grad_(True)
    return tail


def learn(
    model: clip.Model, start: np.ndarray, arm: str, inputs: np.ndarray, captions, known, settings
) -> Tail:
    """Like `rs5m.book.head.fit`, with more than the head. Args: see there; inputs of `stages`."""
    generator = torch.Generator().manual_seed(settings.seed)
    with LOCK:
        torch.manual_seed(settings.seed)  # where adapters begin
        tail = trained(model, start, arm)
    scale = model.net.logit_scale.detach().clone().requires_grad_()
    moved = [p for p in tail.parameters() if p.requires_grad] + [scale]
    optimizer = torch.optim.AdamW(moved, settings.learning_rate, weight_decay=settings.weight_decay)
    plan = batches(len(inputs), settings, generator)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: tune.rate(step, len(plan)))
    for index in tqdm(plan, arm, unit="step"):
        turn = torch.randint(inputs.shape[1], (len(index),), generator=generator)
        given = torch.from_numpy(inputs[index, turn]).float()
        image = functional.normalize(clip.in_blocks(tail, given), dim=-1)
        drawn = head.draw([captions[i] for i in index], generator)
        text = torch.stack([known[caption] for caption in drawn])
        optimizer.zero_grad()
        tune.contrastive_loss(image, text, scale.exp()).backward()
        optimizer.step()
        schedule.step()
    return tail


class Deeper:
    """The images and captions, and what every arm needs of them."""

    def __init__(self):
        scale = scales.get("local")
        self.model, root = models.general(scale), rsicd.folder(scale)
        train, self.test = (ret2.split(root, "rsicd", half) for half in ("train", "test"))
        stored = results.load("rsicd", "local")["values"]["settings"]
        chosen = {key: stored[key] for key in ("learning_rate", "epochs")}
        self.settings = replace(rsicd.SETTINGS, **chosen)
        gone, files = set(unseen.left_out()["image"]), rsicd.files_of(train)
        keep = np.array([name not in gone for name in files.names])
        self.captions = [texts for texts, here in zip(train.captions, keep, strict=True) if here]
        inputs = kept(scale, "train", files, head.TURNS)
        self.inputs = {arm: part[keep] for arm, part in inputs.items()}
        self.known = rsicd.known_texts(scale, self.model, [*self.captions, *self.test.captions])
        self.order = np.random.default_rng(0).permutation(len(self.captions))
        self.heads, self.tests, self.held = {}, {}, {"rsicd-test": rsicd.files_of(self.test)}
        for name in rsicd.TESTS:
            found = datasets.classes(name, data_folder(scale))
            if name == "eurosat":
                found = some(found, np.arange(0, len(found.labels), EVERY))
            self.tests[name], self.held[name] = found, found.images
        self.held = {name: kept(scale, name, shown, (0,)) for name, shown in self.held.items()}
        own = trained(self.model, head.weight(self.model), LAST)
        turned = self.inputs[LAST]
        self.features = own.features(turned.reshape(-1, *turned.shape[2:]))
        self.features = self.features.reshape(*turned.shape[:2], -1)
        self.shown = {name: own.features(given[LAST][:, 0]) for name, given in self.held.items()}

        pairs = domain.source(scale, scale.runs[0])
        batch = pairs[np.arange(len(pairs)), None]
        self.own = head.features(self.model, list(batch.pixels.permute(0, 2, 3, 1).numpy()))
        self.own_captions = [pairs.captions(i) for i in batch.index]
        self.own_known = head.text_features(self.model, self.own_captions)

    def both(self, at: np.ndarray, seed: int) -> np.ndarray:
        """A head that learned from these training images and this book's pairs."""
        captions = [*(self.captions[i] for i in at), *self.own_captions]
        given = np.concatenate([self.features[at], self.own]), captions
        known = self.known | self.own_known
        return head.fit(self.model, *given, replace(self.settings, seed=seed), known=known)[0]

    def head(self, at: np.ndarray, seed: int) -> np.ndarray:
        """The head of chapter tune, learned from these training images once."""
        with LOCK:
            if (len(at), seed) not in self.heads:
                given = self.features[at], [self.captions[i] for i in at]
                run = replace(self.settings, seed=seed)
                self.heads[len(at), seed] = head.fit(self.model, *given, run, known=self.known)[0]
            return self.heads[len(at), seed]

    def arm(self, arm: str, start: np.ndarray, at: np.ndarray, rate: float, seed: int):
        """The arm after training on these images: a function of a set's name, or of positions of
        training images, that gives their vectors.
        """
        captions = [self.captions[i] for i in at]
        run = replace(self.settings, seed=seed, learning_rate=rate, epochs=EPOCHS)
        if arm == HEAD:
            given = self.model, self.features[at], captions, run, start, self.known
            return self.of_head(head.fit(*given)[0])
        tail = learn(self.model, start, arm, self.inputs[arm][at], captions, self.known, run)
        return lambda what: tail.vectors(
            self.held[what][arm][:, 0] if isinstance(what, str) else self.inputs[arm][what, 0]
        )

    def of_head(self, matrix: np.ndarray):
        """`arm` of a head as it is."""
        return lambda what: (
            (self.shown[what] if isinstance(what, str) else self.features[what, 0]) @ matrix.T
        )

    def tried(self, arm: str, rate: float, seed: int) -> tuple[dict, dict[str, np.ndarray]]:
        """An arm with a rate and a seed: a row that is stored, mean recall on the images to choose
        by in it, and the vectors of every set's images.
        """
        began = time.perf_counter()
        held, rest = np.split(self.order, [round(rsicd.VALIDATION * len(self.order))])
        if arm == GENERAL:
            of = self.of_head(head.weight(self.model))
        elif arm == BEFORE:
            of = self.of_head(self.head(rest, seed))
        elif arm == OWN:
            of = self.of_head(self.both(rest, seed))
        else:
            of = self.arm(arm, self.head(rest, seed), rest, rate, seed)
        recall = rsicd.mean_recall(of(held), [self.captions[i] for i in held], self.known)
        row = {"arm": arm, "learning_rate": rate, "seed": seed, "epochs": EPOCHS * (arm in ARMS)}
        row |= {"mean recall": recall, "seconds": time.perf_counter() - began}
        print(row, flush=True)
        return row, {name: of(name) for name in self.held}

    def measure(self, run, write) -> None:
        """Everything, given to `write` after each seed; run: (method, jobs) to their results in
        order.
        """
        arms = {GENERAL: (0.0,), BEFORE: (0.0,), OWN: (0.0,)} | ARMS
        rows, found = [], {arm: [] for arm in arms}
        for seed in SEEDS:
            jobs = [(arm, rate, seed) for arm, rates in arms.items() for rate in rates]
            best = {}
            for row, vectors in run(self.tried, jobs):
                rows.append(row)
                if (
                    row["mean recall"]
                    > best.get(row["arm"], (row | {"mean recall": -1},))[0]["mean recall"]
                ):
                    best[row["arm"]] = row, vectors
            for arm, (_, vectors) in best.items():
                found[arm].append(vectors)
            arms = {arm: (row["learning_rate"],) for arm, (row, _) in best.items()}
            values = {"images": len(self.order), "arms": rows, "seeds": seed + 1}
            write(values | self.tested(found))

    def tested(self, vectors: dict) -> dict:
        """By set and arm: level and distance to the head before, over seeds and images; recall on
        RSICD's test half.
        """
        tests = {}
        for name, found in self.tests.items():
            classifier = zeroshot.classifier(prompts.class_text(self.model, found))
            hits = {
                arm: [zeroshot.hits(one[name], classifier, found.labels) for one in each]
                for arm, each in vectors.items()
                if (arm, name) != (OWN, "eurosat")
            }
            tests[name] = _levels(hits, found.labels)
            hits.pop(OWN, None)  # its captions have other words
            if new := contact.unheard(self.captions, found):
                at = np.isin(found.labels, new)
                fewer = {arm: [hit[at] for hit in each] for arm, each in hits.items()}
                tests[f"{name}, new classes"] = _levels(fewer, found.labels[at])
        asked = self.test.captions, self.known
        recalls = {
            arm: [rsicd.mean_recall(one["rsicd-test"], *asked) for one in each]
            for arm, each in vectors.items()
        }
        return {"tests": tests, "retrieval": recalls}


def _levels(hits: dict, labels: np.ndarray) -> dict:
    sides = {"level": np.zeros(len(labels)), "over the head": hits[BEFORE]}
    return {
        arm: {name: intervals.gain_over_seeds(side, each, labels) for name, side in sides.items()}
        for arm, each in hits.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench/deeper.json"))
    options = parser.parse_args(arguments)

    def write(values: dict) -> None:
        values = values | {"date": datetime.now(UTC).strftime("%Y-%m-%d")}
        options.out.write_text(json.dumps({"values": values}, indent=1) + "\n")

    deeper = Deeper()
    torch.set_num_threads(1)

    def run(method, jobs):  # in threads of one core each
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            yield from threads.map(lambda job: method(*job), jobs)

    deeper.measure(run, write)


if __name__ == "__main__":
    main()
