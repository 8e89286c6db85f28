"""The domain model of a scale (the paper's DVLM), tuned on the shards that this book made.
Chapter: tune.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from rs5m import adapters, results, tune
from rs5m.book import models, processes, runs, scales, sets, side, testing
from rs5m.book.scales import Scale, data_folder
from rs5m.clip import Model
from rs5m.clip.checkpoints import write
from rs5m.data import datasets
from rs5m.files import whole
from rs5m.tune import Settings, loader, memory
from rs5m.tune.distributed import rank, world
from rs5m.tune.log import CHECKPOINT

SAVED = 50  # steps between checkpoints of a run of hours, which a session of Colab can cut off


def source(scale: Scale, run: tuple[str, ...]) -> loader.Shards | loader.Memory:
    """The pairs of a run.

    pub11 and rs3 are the shards that the chapters of these names wrote (of PUB11 what shows no test
    continent), rs5m the published ones in RS5M_DATA; pocket and ucm are pairs that
    `rs5m.data.datasets` reads, for comparison.
    """
    if all(name in SHARDS for name in run):
        return _longest(scale, loader.Shards(_shards(scale.name, run), scale.image_size))
    if len(run) > 1:
        raise ValueError(
            f"{'+'.join(run)}: only shards are put together, those of {', '.join(SHARDS)}"
        )
    pairs = sets.pairs(run[0], scale)
    return loader.Memory(pairs.images, pairs.captions, scale.image_size)


def _longest(scale: Scale, pairs: loader.Shards) -> loader.Shards:
    """Those pairs that the scale's steps reach, evenly over the shards, where there are more: at
    the scales that read what the user has.
    """
    reached = scale.steps * scale.batch_size
    if scale.lock_text or not reached or reached >= len(pairs):
        return pairs
    print(f"{reached:,} of {len(pairs):,} pairs: {scale.steps} steps of {scale.batch_size}")
    return pairs.part(np.linspace(0, len(pairs) - 1, reached).astype(int))


@cache
def _shards(name: str, run: tuple[str, ...]) -> list[Path]:
    """Made by the scale of that name as it is: one with smaller images tunes on the same pairs."""
    return [path for part in run for path in SHARDS[part](scales.get(name))]


def published_shards(scale: Scale, half: str = "*") -> list[Path]:
    """The published training shards in the scale's folder, linked folders included."""
    folder, name = data_folder(scale), f"{half}-train-[0-9][0-9][0-9][0-9].tar"
    shards = sorted(path for below in ("", "*/", "*/*/") for path in folder.glob(below + name))
    if not shards:
        wanted = half if half != "*" else "{pub11,rs3}"
        raise FileNotFoundError(f"{folder} holds no RS5M shard ({wanted}-train-NNNN.tar)")
    if gaps := _gaps([path.name for path in shards]):
        print(f"not among the shards of {folder}, so its pairs are left out: {', '.join(gaps)}")
    return shards


def _gaps(names: list[str]) -> list[str]:
    """The shards that are missing between others of their half: 0003 beside 0002 and 0004."""
    gaps = []
    for half in dict.fromkeys(name.partition("-")[0] for name in names):
        known = {int(name[-8:-4]) for name in names if name.startswith(f"{half}-")}
        between = sorted(set(range(min(known), max(known))) - known)
        gaps += [f"{half}-train-{number:04d}.tar" for number in between]
    return gaps


def _half(scale: Scale, name: str) -> list[Path]:
    """A half of RS5M: this book's own, or the published one where the scale reads that."""
    if not scale.lock_text:
        return published_shards(scale, name)
    if name == "pub11":
        return runs.pub11_shards(scale)
    return sorted((runs.labelled_set(scale) / "out").glob("rs3-train-*.tar"))


def halves(scale: Scale) -> dict[str, tuple[str, ...]]:
    """PUB11, RS3 and both as runs; of the published halves those that the folder holds."""
    parts = {"PUB11": ("pub11",), "RS3": ("rs3",)}
    if scale.lock_text:
        return parts | {"both": ("pub11", "rs3")}
    names = {path.name.partition("-")[0] for path in published_shards(scale)}
    held = {name: run for name, run in parts.items() if run[0] in names}
    return held | {"both": scale.runs[0]}


SHARDS = {
    "pub11": partial(_half, name="pub11"),
    "rs3": partial(_half, name="rs3"),
    "rs5m": published_shards,
}


def test_set(name: str, scale: Scale) -> datasets.Labelled:
    """The test set of that name less the images that RS3 captioned: at local those are some of
    EuroSAT's.
    """
    data = sets.test_set(name, scale)
    if scale.name != "local":
        return data
    seen = {path.stem for path in (runs.labelled_set(scale) / "images").iterdir()}
    return datasets.subset(data, np.array([Path(name).stem not in seen for name in data.names]))


def settings(scale: Scale, pairs: int | None = None, **changes) -> Settings:
    """The settings of a scale: the pocket model's text tower is locked, CLIP's own is tuned with
    the images.

    pairs: how many the run has; where the scale counts `steps`, epochs are what comes nearest to
    them, so that runs of different sizes take equally many.
    """
    base = Settings(
        learning_rate=scale.learning_rate, batch_size=scale.batch_size, lock_text=scale.lock_text
    )
    if not scale.lock_text:
        base = replace(base, checkpoint_every=SAVED)
    # where the scale counts steps, it has no epochs
    chosen = replace(base, **({"epochs": max(1, scale.epochs)} | changes))
    if pairs and pairs < chosen.batch_size and not scale.lock_text:
        print(f"a batch of {pairs}, not of {chosen.batch_size}: there are no more pairs")
        chosen = replace(chosen, batch_size=pairs)
    if scale.steps and pairs and "epochs" not in changes:
        each = max(1, pairs // chosen.batch_size)  # steps of an epoch
        chosen = replace(chosen, epochs=max(1, round(scale.steps / each)))
    return chosen


@cache
def _table(scale: Scale, texts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    load = partial(models.general, scale)
    vectors = testing.text_vectors(scale, "captions", list(texts), "general", load)
    return dict(zip(texts, functional.normalize(torch.from_numpy(vectors), dim=-1), strict=True))


def captions(scale: Scale, pairs: loader.Shards | loader.Memory) -> dict[str, torch.Tensor]:
    """Normalised features (dim,) of all captions of the pairs by a scale's locked text tower, for
    `tune.fit`.

    Encoded once and kept, those of the scale's first run together and the rest by itself, so that
    every run on them or on a part of them reads the very same numbers, whatever ran before it.
    """
    texts = _texts(pairs)
    first = _texts(source(scale, scale.runs[0]))
    shared = _table(scale, first) if set(first) & set(texts) else {}
    rest = tuple(text for text in texts if text not in shared)
    return shared | (_table(scale, rest) if rest else {})


def _texts(pairs: loader.Shards | loader.Memory) -> tuple[str, ...]:
    return tuple(sorted({text for i in range(len(pairs)) for text in pairs.captions(i)}))


def folder(scale: Scale, run: tuple[str, ...] | None = None, **changes) -> Path:
    """Where a domain model of a scale is kept; it is tuned now if it is not there.

    run: names of the pairs to tune on (default: the scale's first run); changes: fields of
    Settings.
    """
    run = run or scale.runs[0]
    pairs = source(scale, run)
    chosen = settings(scale, len(pairs), **changes)
    if not adapters.mergeable(chosen.method):
        raise ValueError(
            f"{chosen.method} stays beside the weights: use tune.fit and adapters.save"
        )

    def make(out: Path) -> None:
        number = 1 if scale.lock_text else processes.count()
        if number > 1:
            processes.start(number, scale, run, chosen, out)
        else:
            tuned(scale, run, chosen, out, pairs)

    key, name = (scale, chosen, pairs.fingerprint()), "tuned-" + "-".join(run)
    made = results.artefact(name, scale.name, key, make, resumes=not scale.lock_text)
    (made / CHECKPOINT).unlink(missing_ok=True)
    return made


def tuned(
    scale: Scale,
    run: tuple[str, ...],
    chosen: Settings,
    out: Path,
    pairs: loader.Shards | loader.Memory | None = None,
) -> None:
    """Tune the general model on a run's pairs, at the pocket's scales with `side` behind it; under
    torchrun the first process writes into out.

    Args:
        scale: where the text tower is locked, the run does not resume.
        run: see `source`.
        chosen: how it is tuned, of `settings`.
        out: the folder for model.safetensors and losses.json.
        pairs: those of the run; None: read here.
    """
    pairs, model = pairs or source(scale, run), models.general(scale)
    known = captions(scale, pairs) if chosen.lock_text else None
    kept = None if scale.lock_text else out  # minutes begin anew, hours go on
    model, losses = tune.fit(model, pairs, chunked(model, chosen), kept, known=known)
    if rank():
        return
    if chosen.lock_text and side.fits(model):
        side.fit(model, pairs, known, chosen.seed)
    tensors = {
        name: value.contiguous().cpu()
        for name, value in model.net.state_dict().items()
        if tuned_name(name, chosen)
    }
    with whole(out / "model.safetensors") as temporary:
        write(tensors, temporary, {})
    with whole(out / "losses.json") as temporary:
        temporary.write_text(json.dumps(losses))


def chunked(model: Model, chosen: Settings) -> Settings:
    """The settings with the chunk that the GPU holds, of its process's share of the batch; the
    gradient stays the same. On a CPU as they are.
    """
    bytes_here = memory.of_device()
    if bytes_here is None or chosen.chunk:
        return chosen
    share = -(-chosen.batch_size // world())
    chunk = memory.need(model, chosen).chunk(share, bytes_here)
    if chunk and not rank():
        print(f"{chunk} of {share} pairs at once: no more fit into {bytes_here / 2**30:.0f} GiB")
    return replace(chosen, chunk=chunk)


def domain_model(
    scale: Scale, run: tuple[str, ...] | None = None, **changes
) -> tuple[Model, list[float]]:
    """The domain model of a scale and the loss of every step; arguments like those of `folder`."""
    kept, model = folder(scale, run, **changes), models.general(scale)
    tensors = load_file(kept / "model.safetensors")
    if "visual.side.weight" in tensors:
        side.attach(model)
    model.net.load_state_dict(model.net.state_dict() | tensors)
    return model, json.loads((kept / "losses.json").read_text())


def tuned_name(name: str, chosen: Settings) -> bool:
    """Whether a tensor of the network can differ after tuning: those of the towers being tuned, and
    the temperature.
    """
    if name == "logit_scale":
        return True
    return not (chosen.lock_image if name.startswith("visual.") else chosen.lock_text)
