"""Tuning: the general model becomes a domain model. Paper: PEFT section. Chapter: tune.

* networks run in evaluation mode: no dropout (CLIP has none), batch statistics stay the general
  model's. So a step has no chance in it, and a batch cut into chunks or over GPUs has the gradient
  of the whole one
* order, crops, turns and captions are functions of seed and step alone: a run that is killed and
  started again, or split over other GPUs, goes on as if nothing had happened
* [NOT IMPLEMENTED] sharded optimiser states: a GPU holds the network, its gradients and AdamW's two
  moments
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from rs5m import adapters, clip, results
from rs5m.clip import Model, device
from rs5m.tune.augment import warp
from rs5m.tune.distributed import agree, gather, rank, start_processes, sum_gradients, world
from rs5m.tune.loader import Batch, stream
from rs5m.tune.log import Log, load_checkpoint, save_checkpoint
from rs5m.tune.schedule import Settings, items, plan, rate

BETAS, EPSILON = (0.9, 0.98), 1e-6  # open_clip's for vision transformers
HOTTEST = math.log(100)  # CLIP's cap of the temperature: a larger factor makes training unstable
PRECISIONS = {"auto": None, "float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss of normalised vectors (n, dim) whose rows belong together; open_clip's
    implementation.
    """
    return clip.open_clip.ClipLoss()(image, text, scale)


# ---------------------------------------------------------------- what is decided before the first
# step


def optimiser(net: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW over what is trained; gains, biases and the temperature (fewer than two dimensions) do
    not decay.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.learning_rate, BETAS, EPSILON)


def autocast(precision: str) -> torch.autocast | nullcontext:
    """The arithmetic of a step; "auto" is `rs5m.clip.autocast`: bf16 on CUDA, float32 elsewhere."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    kind = PRECISIONS[precision]
    if kind is None:
        return clip.autocast()
    return nullcontext() if kind is torch.float32 else torch.autocast(device().type, kind)


class Texts:
    """Captions to normalised vectors; a locked text tower encodes every distinct caption once.

    known: the vectors that earlier runs with the same locked tower left; new ones are added to it.
    """

    def __init__(self, model: Model, settings: Settings, known: dict | None = None):
        self.model, self.settings = model, settings
        self.known = ({} if known is None else known) if settings.lock_text else None

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """Vectors (n, dim) on the device, with a gradient where the text tower is being tuned."""
        if self.known is None:
            tokens = clip.tokenize(self.model, captions).to(device())
            with autocast(self.settings.precision):
                return functional.normalize(
                    clip.text_vectors(self.model.net, tokens).float(), dim=-1
                )
        new = sorted(set(captions) - self.known.keys())
        if new:
            vectors = functional.normalize(
                torch.from_numpy(clip.encode_texts(self.model, new)), dim=-1
            )
            self.known |= zip(new, vectors, strict=True)
        return torch.stack([self.known[text] for text in captions]).to(device())


# ---------------------------------------------------------------- one step


def encode(
    model: Model, texts: Texts, batch: Batch, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised vectors (n, dim) of a batch's images, turned here if they were not before, and of
    its captions.
    """
    pixels = batch.pixels.to(device(), non_blocking=True)
    turned = pixels.float().div_(255) if batch.draws is None else warp(pixels, batch.draws)
    with autocast(settings.precision):
        image = clip.in_blocks(model.net.encode_image, clip.normalise_pixels(turned, model)).float()
    return functional.normalize(image, dim=-1), texts(batch.captions)


def cut(batch: Batch, size: int) -> list[Batch]:
    """A batch in chunks of at most `size` images (0: the batch itself), with at least one."""
    size = size or max(1, len(batch.captions))
    spans = [slice(start, start + size) for start in range(0, max(1, len(batch.captions)), size)]
    turns = [None if batch.draws is None else batch.draws[span] for span in spans]
    return [
        batch._replace(pixels=batch.pixels[span], captions=batch.captions[span], draws=turn)
        for span, turn in zip(spans, turns, strict=True)
    ]


def backward(model: Model, texts: Texts, batch: Batch, settings: Settings, scaler=None) -> float:
    """Leave the gradient of the undivided batch in the trained parameters, scaled by `scaler`; its
    loss.

    With several chunks this is gradient caching (Gao et al. 2021): all vectors without a graph, the
    loss's gradient with respect to the vectors, then each chunk once more with its graph, so that
    memory follows the chunk and the gradient stays exact. Over several processes the vectors are
    gathered and the gradients summed. Chapter: tune.
    """
    chunks = cut(batch, settings.chunk)
    with torch.set_grad_enabled(len(chunks) == 1):
        graphs = [encode(model, texts, chunk, settings) for chunk in chunks]
    leaves = [torch.cat(part).detach().requires_grad_() for part in zip(*graphs, strict=True)]
    factor = model.net.logit_scale
    loss = contrastive_loss(*map(gather, leaves), factor.exp())
    wanted = [*leaves, factor] if factor.requires_grad else leaves
    gradients = torch.autograd.grad(scaler.scale(loss) if scaler else loss, wanted)
    if factor.requires_grad:
        factor.grad = gradients[2] / world()  # the same in all processes, and summed below
    for i, part in enumerate(
        zip(*(g.split([len(c.captions) for c in chunks]) for g in gradients[:2]), strict=True)
    ):
        vectors = graphs[i] if len(chunks) == 1 else encode(model, texts, chunks[i], settings)
        used = [
            (vector, gradient)
            for vector, gradient in zip(vectors, part, strict=True)
            if vector.requires_grad
        ]
        torch.autograd.backward(*zip(*used, strict=True))
    sum_gradients(p for p in model.net.parameters() if p.requires_grad)
    return loss.item()


# ---------------------------------------------------------------- the run


def fit(
    model: Model,
    source,
    settings: Settings,
    out: str | Path | None = None,
    workers: int = 0,
    board: bool = False,
    known: dict | None = None,
) -> tuple[Model, list[float]]:
    """Tune the model in place on a source of pairs (`rs5m.tune.loader`); the domain model and the
    loss of every step.

    out: a folder for checkpoint.safetensors and log.jsonl (a line a step; with `board` also
    TensorBoard's files); a run that stopped goes on there, ValueError if the folder holds another
    run. workers: processes that decode. known: see `Texts`. Under torchrun each process takes its
    share of every batch. FloatingPointError, naming the pairs, when the loss is no number: the last
    checkpoint stays. Adapters that can be are merged. Paper: PEFT section. Chapter: tune.
    """
    steps = plan(len(source), settings)
    start_processes()
    torch.manual_seed(settings.seed)  # where adapters begin
    texts = Texts(model, settings, known)
    net = adapters.prepare(model.net, settings.method, settings.size, settings.towers()).eval()
    if settings.compiled:
        for tower in (
            model.net.visual,
            getattr(model.net, "text", getattr(model.net, "transformer", None)),
        ):
            tower.compile()
    stepper = optimiser(net, settings)
    scaler = torch.amp.GradScaler(device().type, enabled=settings.precision == "fp16")
    alike = replace(
        settings, chunk=0, compiled=False, checkpoint_every=0
    )  # may change when a run goes on
    identity = results.digest(alike, source.fingerprint())
    state = load_checkpoint(out, identity, net, stepper, scaler)
    agree(state.step, "the step to go on from: every process must see the same folder")
    log = Log(out, state.step, board)
    bar = tqdm(
        total=len(steps), initial=state.step, desc=settings.method, unit="step", disable=rank() > 0
    )
    bar.set_postfix_str("the first step compiles" if settings.compiled else "")
    for step, batch in enumerate(
        stream(source, items(steps, settings, state.step), workers), state.step
    ):
        for group in stepper.param_groups:
            group["lr"] = settings.learning_rate * rate(step, len(steps), settings.warm_up)
        norm, loss = _step(model, net, texts, batch, settings, stepper, scaler, source, step)
        log.line(step=step, loss=loss, rate=group["lr"], norm=norm, images=settings.batch)
        log.damaged(batch.damaged)
        bar.set_postfix(loss=f"{loss:.3f}", samples=f"{log.speed:.0f}/s", refresh=False)
        bar.update()
        if out and ((step + 1) % settings.checkpoint_every == 0 or step + 1 == len(steps)):
            log.flush()
            save_checkpoint(out, identity, step + 1, net, stepper, scaler)
    bar.close()
    log.close()
    return replace(model, net=adapters.merge(net).eval()), state.losses + log.losses


def _step(
    model, net, texts, batch, settings, stepper, scaler, source, step: int
) -> tuple[float, float]:
    """One step of the optimiser: the gradient's norm before clipping, and the loss."""
    stepper.zero_grad(set_to_none=True)
    loss = backward(model, texts, batch, settings, scaler)
    scaler.unscale_(stepper)
    trained = [p for p in net.parameters() if p.requires_grad]
    norm = float(nn.utils.clip_grad_norm_(trained, settings.max_norm or math.inf))
    if not math.isfinite(loss) or not (math.isfinite(norm) or scaler.is_enabled()):
        pairs = ", ".join(str(source.names[i]) for i in batch.index[:8])
        raise FloatingPointError(
            f"step {step}: loss {loss}, gradient norm {norm}; nothing was changed by it. Pairs of the batch: {pairs}"
            f"{', ...' if len(batch.index) > 8 else ''}. Lower the learning rate or use bf16; the checkpoint is good"
        )
    scaler.step(stepper)
    scaler.update()
    with torch.no_grad():
        model.net.logit_scale.clamp_(max=HOTTEST)
    return norm, loss
