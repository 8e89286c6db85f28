"""Tuning: the general model becomes a domain model. Paper: PEFT section. Chapter: tune.

* networks run in evaluation mode: no dropout (CLIP has none), batch statistics stay the general
  model's. So nothing in a step is random, and a batch cut into chunks or over GPUs has the gradient
  of the whole one
* order, crops, turns and captions are functions of seed and step alone: a run that is killed and
  started again, or split over other GPUs, goes on as if nothing had happened
* [NOT IMPLEMENTED] sharded optimizer states: a GPU holds the network, its gradients and AdamW's two
  moments
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from rs5m import adapters, clip
from rs5m.clip import Model, device
from rs5m.device import announce, precision
from rs5m.tune.augment import warp
from rs5m.tune.distributed import agree, gather, rank, start_processes, sum_gradients, world
from rs5m.tune.kept import Keeper, Validation
from rs5m.tune.loader import Batch, stream
from rs5m.tune.log import Log, held, load_checkpoint, save_checkpoint
from rs5m.tune.schedule import PRECISIONS, Settings, items, plan, rate, shortened

BETAS, EPSILON = (0.9, 0.98), 1e-6  # open_clip's for vision transformers
MAX_LOGIT_SCALE = math.log(100)  # CLIP's cap: a larger factor makes training unstable


def contrastive_loss(
    image_features: torch.Tensor, text_features: torch.Tensor, factor: torch.Tensor
) -> torch.Tensor:
    """CLIP's loss of normalised features (n, dim) whose rows belong together, by open_clip.

    factor: exp(logit_scale).
    """
    return clip.open_clip.ClipLoss()(image_features, text_features, factor)


def adamw(net: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW over what is trained; gains, biases, tables of relative positions and the temperature
    do not decay, as in open_clip's trainer.
    """
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    rest = {name for name, p in trained if p.ndim < 2 or "bias" in name}  # swin's tables are biases
    groups = [
        {
            "params": [p for name, p in trained if name not in rest],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for name, p in trained if name in rest], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.learning_rate, BETAS, EPSILON)


def autocast(precision: str) -> torch.autocast | nullcontext:
    """The arithmetic of a step; "auto" is `rs5m.clip.autocast`, as `rs5m.device.precision` says."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    kind = PRECISIONS[precision]
    if kind is None:
        return clip.autocast()
    return nullcontext() if kind is torch.float32 else torch.autocast(device().type, kind)


# ---------------------------------------------------------------- features


def text_features(model: Model, captions: Sequence[str]) -> dict[str, torch.Tensor]:
    """Normalised features (dim,) on the CPU of distinct captions, by the text tower as it is."""
    vectors = torch.from_numpy(clip.encode_texts(model, captions))
    return dict(zip(captions, functional.normalize(vectors, dim=-1), strict=True))


class TextEncoder:
    """Captions to normalised features; a locked text tower encodes every distinct caption once.

    known: `text_features` that earlier runs with the same locked tower left; new ones are added.
    """

    def __init__(self, model: Model, settings: Settings, known: dict | None = None):
        self.model, self.settings = model, settings
        self.known = ({} if known is None else known) if settings.lock_text else None

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """Features (n, dim) on the device, with a gradient where the text tower is being tuned."""
        if self.known is None:
            tokens = clip.tokenize(self.model, captions).to(device())
            with autocast(self.settings.precision):
                features = clip.text_vectors(self.model.net, tokens).float()
            return functional.normalize(features, dim=-1)
        if new := sorted(set(captions) - self.known.keys()):
            self.known |= text_features(self.model, new)
        return torch.stack([self.known[text] for text in captions]).to(device())


def encode(
    model: Model, texts: TextEncoder, batch: Batch, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised features (n, dim) of a batch's images, turned here if they were not before, and of
    its captions. Args: those of `backward`.
    """
    pixels = batch.pixels.to(device(), non_blocking=True)
    if batch.draws is None:
        turned = pixels.float().div_(255)
    else:
        turned = warp(pixels, batch.draws, batch.view)
    with autocast(settings.precision):
        image = clip.in_blocks(model.net.encode_image, clip.normalise_pixels(turned, model)).float()
    return functional.normalize(image, dim=-1), texts(batch.captions)


def split(batch: Batch, chunk: int) -> list[Batch]:
    """A batch in chunks of at most `chunk` images (0: the batch itself), with at least one."""
    count = max(1, len(batch.captions))
    chunks = []
    for start in range(0, count, chunk or count):
        part = slice(start, start + (chunk or count))
        draws = None if batch.draws is None else batch.draws[part]
        pixels, captions = batch.pixels[part], batch.captions[part]
        chunks.append(batch._replace(pixels=pixels, captions=captions, draws=draws))
    return chunks


def backward(
    model: Model, texts: TextEncoder, batch: Batch, settings: Settings, scaler=None
) -> float:
    """Leave the gradient of the undivided batch in the trained parameters; its loss.

    Several chunks are gradient caching (Gao et al. 2021): all features without a graph, the loss's
    gradient with respect to the features, then each chunk once more with its graph. Memory follows
    the chunk, the gradient stays exact. Over processes features are gathered and gradients summed.

    Args:
        texts: encodes the captions.
        settings: for the precision, and for the images of a chunk.
        scaler: scales the gradient, not the loss that is returned.
    """
    chunks = split(batch, settings.chunk)
    undivided = len(chunks) == 1
    with torch.set_grad_enabled(undivided):
        encoded = [encode(model, texts, chunk, settings) for chunk in chunks]
    image_features = torch.cat([image for image, _ in encoded]).detach()  # (n, dim)
    text_features = torch.cat([text for _, text in encoded]).detach()  # (n, dim)
    logit_scale = model.net.logit_scale  # ()
    wanted = [image_features.requires_grad_(), text_features.requires_grad_()]
    if logit_scale.requires_grad:
        wanted.append(logit_scale)

    loss = contrastive_loss(gather(image_features), gather(text_features), logit_scale.exp())
    gradients = torch.autograd.grad(scaler.scale(loss) if scaler else loss, wanted)
    if logit_scale.requires_grad:
        logit_scale.grad = gradients[2] / world()  # the same in all processes, and summed below

    sizes = [len(chunk.captions) for chunk in chunks]
    image_gradients = gradients[0].split(sizes)  # a (chunk, dim) for each chunk
    text_gradients = gradients[1].split(sizes)
    for i, chunk in enumerate(chunks):
        image, text = encoded[i] if undivided else encode(model, texts, chunk, settings)
        if image.requires_grad:
            image.backward(image_gradients[i])
        if text.requires_grad:
            text.backward(text_gradients[i])
    sum_gradients(p for p in model.net.parameters() if p.requires_grad)
    return loss.item()


class Run:
    """A model being tuned, with all that a step changes: network, optimizer and loss scaler.

    names: of the source's pairs; known: see `TextEncoder`.
    """

    def __init__(self, model: Model, names: list[str], settings: Settings, known: dict | None):
        self.model, self.names, self.settings = model, names, settings
        self.texts = TextEncoder(model, settings, known)
        towers = settings.towers()
        self.net = adapters.prepare(model.net, settings.method, settings.size, towers).eval()
        if settings.compiled:
            model.net.visual.compile()
            getattr(model.net, "text", getattr(model.net, "transformer", None)).compile()
        self.optimizer = adamw(self.net, settings)
        enabled = precision(settings.precision) == "fp16"
        self.scaler = torch.amp.GradScaler(device().type, enabled=enabled)

    def step(self, number: int, batch: Batch, learning_rate: float) -> tuple[float, float]:
        """One step of the optimizer: the loss, and the gradient's norm before clipping.

        FloatingPointError that names the pairs, and no change, where one of them is not finite;
        ValueError where the GPU's memory is too small.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = backward(self.model, self.texts, batch, self.settings, self.scaler)
        except torch.cuda.OutOfMemoryError as error:
            raise ValueError(
                f"the GPU's memory is too small for {self.settings.chunk or len(batch.captions)} "
                "images at once: make chunk smaller (--set chunk=N), the gradient stays the same"
            ) from error
        self.scaler.unscale_(self.optimizer)
        trained = [p for p in self.net.parameters() if p.requires_grad]
        norm = float(nn.utils.clip_grad_norm_(trained, self.settings.max_norm or math.inf))
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            pairs = ", ".join(str(self.names[i]) for i in batch.index[:8])
            more = ", ..." if len(batch.index) > 8 else ""
            raise FloatingPointError(
                f"step {number}: loss {loss}, gradient norm {norm}; nothing was changed by it. "
                f"Pairs of the batch: {pairs}{more}. Lower the learning rate or use bf16; the "
                "checkpoint is good"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self.model.net.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        return loss, norm


# ---------------------------------------------------------------- the run


def fit(
    model: Model,
    source,
    settings: Settings,
    out: str | Path | None = None,
    workers: int = 0,
    board: bool = False,
    known: dict | None = None,
    validate: Validation | None = None,
) -> tuple[Model, list[float]]:
    """Tune the model in place on a source of pairs; the domain model and the loss of every step.

    Under torchrun each process takes its share of every batch. Adapters that can be are merged.
    ValueError where `out` holds another run, OSError where one is at work there;
    FloatingPointError, naming the pairs, for a loss that is not finite: the last checkpoint stays.

    Args:
        source: of `rs5m.tune.loader`.
        out: a folder for checkpoint.safetensors and log.jsonl, a line a step; a run that stopped
            goes on there. Adapters are saved in its folder adapter/ before they are merged. Weights
            of every `settings.keep_every` steps are in kept/step-N, the best ones in best/.
        workers: processes that decode.
        board: write TensorBoard's files, too.
        known: see `TextEncoder`.
        validate: what judges the weights on the way; the random state and the run stay the same.
    """
    start_processes()
    with held(out):
        keeper = Keeper(out, settings.method, settings.keep_every, validate)
        return _fit(model, source, settings, out, workers, board, known, keeper)


def _fit(model, source, settings, out, workers, board, known, keeper) -> tuple[Model, list[float]]:
    steps, epoch = plan(len(source), settings), len(source) // settings.batch_size
    torch.manual_seed(settings.seed)  # where adapters begin
    if not rank():
        for said in shortened(len(steps), epoch * settings.epochs, settings):
            print(said)
        announce(settings.precision, clip.parameters(model.net), settings.compiled)
    run = Run(model, source.names, settings, known)
    data = source.fingerprint()
    state = load_checkpoint(out, data, run)
    agree(state.step, "the step to go on from: every process must see the same folder")
    log = Log(out, state.step, board)
    begin = {"initial": state.step, "desc": settings.method, "unit": "step", "disable": rank() > 0}
    bar = tqdm(total=len(steps), **begin)
    bar.set_postfix_str("the first step compiles" if settings.compiled else "")
    batches = stream(source, items(steps, settings, state.step), workers)
    for step, batch in enumerate(batches, state.step):
        learning_rate = settings.learning_rate * rate(step, len(steps), settings.warm_up)
        loss, norm = run.step(step, batch, learning_rate)
        log.time(settings.batch_size)
        scores = keeper(model, step + 1, step + 1 == len(steps), epoch)
        log.line(step=step, loss=loss, rate=learning_rate, norm=norm, **scores)
        log.damaged(batch.damaged)
        bar.set_postfix(loss=f"{loss:.3f}", samples=f"{log.speed:.0f}/s", refresh=False)
        bar.update()
        if scores:
            said = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
            bar.write(f"step {step + 1}: {said}")
        due = (step + 1) % settings.checkpoint_every == 0 or step + 1 == len(steps)
        if out and (due or scores):
            log.flush()
            save_checkpoint(out, data, step + 1, run)
    bar.close()
    log.close()
    if out and not rank() and settings.method not in ("full", "head"):
        adapters.save(run.net, Path(out) / "adapter")
    return replace(model, net=adapters.merge(run.net).eval()), state.losses + log.losses
