"""Tuning: the general model becomes a domain model, by LoRA or in full. Paper: PEFT section. Chapter: tune."""

import json
import math
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from rs5m import clip, datasets, pocket, results
from rs5m.clip import Model, device
from rs5m.scales import Scale

WARM_UP = 0.1  # share of the steps over which the learning rate rises
EARLY = re.compile(r"visual\.trunk\.(conv_stem|blocks\.[0-3]\.)")  # half of the time, left as they are
CROP = (0.9, 1.0)  # scale of the random crop (official evaluation code: 0.9 to 1.0)


@dataclass(frozen=True)
class Settings:
    """One tuning run. `method` is "lora" or "full"; with `lock_text` the text tower is left as it is."""

    method: str = "lora"
    rank: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    batch: int = 128
    epochs: int = 8
    lock_text: bool = True
    seed: int = 0


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss of normalised vectors (n, dim) whose rows belong together; open_clip's implementation."""
    return clip.open_clip.ClipLoss()(image, text, scale)


def lora_targets(net: nn.Module, lock_text: bool = True) -> list[str]:
    """The layers that get an adapter: attention, linear layers and 1x1 convolutions of the towers being tuned.

    The first stages of a convolutional trunk are left out: they work at the highest resolution and cost the most.
    """
    names = []
    for name, layer in net.named_modules():
        tower = name.startswith("visual.") or not lock_text
        pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
        inside_attention = name.endswith("attn.out_proj")  # peft adapts it together with its attention
        if EARLY.match(name) or not tower or inside_attention:
            continue
        if pointwise or isinstance(layer, nn.Linear | nn.MultiheadAttention):
            names.append(name)
    return names


def prepare(net: nn.Module, settings: Settings) -> nn.Module:
    """The network with exactly the parameters of `settings.method` trainable; with "lora", wrapped by peft."""
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    if settings.method == "lora":
        from peft import LoraConfig, get_peft_model  # imports torchvision, which rs5m.clip makes importable

        targets = lora_targets(net, settings.lock_text)
        net = get_peft_model(net, LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=targets))
    elif settings.method == "full":
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.startswith("visual.") or not settings.lock_text)
    else:
        raise ValueError(f"unknown method {settings.method!r}: choose lora or full")
    return net


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random rotation (0 to 360 degrees), mirror image and crop (0.9 to 1.0) of floats (n, 3, s, s), corners reflected.

    Nothing is up in an image from above, so the paper turns freely (official evaluation code).
    """
    n = len(pixels)
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    side = torch.empty(n).uniform_(*CROP, generator=generator).sqrt()
    cos, sin = side * angle.cos(), side * angle.sin()
    zero = torch.zeros(n)
    theta = torch.stack([torch.stack([flip * cos, -sin, zero], 1), torch.stack([flip * sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


class Captions:
    """Draws a caption vector for each image of a batch; a locked text tower encodes every distinct caption once."""

    def __init__(self, model: Model, captions: list[tuple[str, ...]], locked: bool):
        self.model, self.captions, self.vectors = model, captions, None
        if locked:
            distinct = sorted({text for texts in captions for text in texts})
            self.vectors = functional.normalize(torch.from_numpy(clip.encode_texts(model, distinct)), dim=-1)
            self.row = {text: i for i, text in enumerate(distinct)}

    def draw(self, index: list[int], generator: torch.Generator) -> torch.Tensor:
        """Normalised vectors (n, dim) of one random caption of each image in `index`."""
        picks = torch.rand(len(index), generator=generator).tolist()
        texts = [self.captions[i][int(pick * len(self.captions[i]))] for i, pick in zip(index, picks, strict=True)]
        if self.vectors is not None:
            return self.vectors[[self.row[text] for text in texts]].to(device())
        tokens = clip.tokenize(self.model, texts).to(device())
        with clip.autocast():
            return self.model.net.encode_text(tokens, normalize=True).float()


def rate(step: int, steps: int) -> float:
    """The learning rate's factor: a linear rise over WARM_UP of the steps, then half a cosine to zero."""
    rise = max(1, int(WARM_UP * steps))
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def batches(count: int, settings: Settings, generator: torch.Generator) -> list[list[int]]:
    """Shuffled positions for all epochs, in whole batches: a short last batch would be an easier task."""
    size = min(settings.batch, count)
    order = [torch.randperm(count, generator=generator).tolist() for _ in range(settings.epochs)]
    return [epoch[start : start + size] for epoch in order for start in range(0, count - size + 1, size)]


def squares(model: Model, images: list[np.ndarray]) -> torch.Tensor:
    """All images at the network's size, uint8 (n, 3, size, size): resized once, not once an epoch."""
    return torch.cat([clip.crop([image], model.image_size) for image in images])


def tune(
    model: Model, images: list[np.ndarray], captions: list[tuple[str, ...]], settings: Settings
) -> tuple[Model, list[float]]:
    """Tune the model in place on pairs; returns the domain model (adapters merged) and the loss of every step.

    images: n uint8 arrays (h, w, 3) of any size; captions: one or more per image, one drawn at random each epoch.
    """
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    pixels, texts = squares(model, images), Captions(model, captions, settings.lock_text)
    net = prepare(model.net, settings)
    net.train(settings.method == "full")  # LoRA leaves the batch statistics of the general model alone
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    plan = batches(len(images), settings, generator)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, len(plan)))
    losses = []
    for index in (bar := tqdm(plan, desc=settings.method, unit="step")):
        floats = augment(pixels[index].to(device()).float().div_(255), generator)
        with clip.autocast():
            image = model.net.encode_image(clip.normalise_pixels(floats, model), normalize=True).float()
        loss = contrastive_loss(image, texts.draw(index, generator), model.net.logit_scale.exp())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.net.logit_scale.clamp_(max=math.log(100))  # as CLIP does: a larger factor makes training unstable
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    merged = net.merge_and_unload() if settings.method == "lora" else net
    return replace(model, net=merged.eval()), losses


def settings(scale: Scale, **changes) -> Settings:
    """The settings of a scale: the pocket model's text tower is locked, CLIP's own is tuned with the images."""
    locked = scale.model == "pocket"
    base = Settings(learning_rate=scale.learning_rate, batch=scale.batch, epochs=scale.epochs, lock_text=locked)
    return replace(base, **changes)


def domain_model(scale: Scale, run: tuple[str, ...] | None = None, **changes) -> tuple[Model, list[float]]:
    """The domain model of a scale (the paper's DVLM) and its losses, from runs/ if it is there, else tuned now.

    run: names of the pairs to tune on (default: the scale's first run); changes: fields of Settings.
    """
    chosen, run = settings(scale, **changes), run or scale.runs[0]
    parts = [datasets.pairs(name, scale) for name in run]
    images, captions = [sum((getattr(part, key) for part in parts), []) for key in ("images", "captions")]

    def make(folder: Path) -> None:
        tuned, losses = tune(clip.load(scale), images, captions, chosen)
        tensors = {name: value for name, value in tuned.net.state_dict().items() if tuned_name(name, chosen)}
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, folder / "model.safetensors")
        (folder / "losses.json").write_text(json.dumps(losses))

    # a change in any of these modules may change the pixels, the text or the steps
    data = datasets.fingerprint(images, captions)
    inputs = (scale, chosen, data, clip, datasets, pocket, sys.modules[__name__])
    folder = results.artefact("tuned-" + "-".join(run), scale.name, inputs, make)
    model = clip.load(scale)
    kept = model.net.state_dict() | load_file(folder / "model.safetensors")
    model.net.load_state_dict(kept)
    return model, json.loads((folder / "losses.json").read_text())


def tuned_name(name: str, chosen: Settings) -> bool:
    """Whether a tensor of the network can differ after tuning: the image tower's, and the text tower's if unlocked."""
    return name.startswith("visual.") or name == "logit_scale" or not chosen.lock_text
