"""A linear head tuned on frozen features: the cheapest tuning there is, seconds for thousands of
pairs. Chapter: rs3.

The image tower's trunk runs once, over a few turns of every image; what is trained is the matrix
behind it. It answers which pairs teach more, not how well a model can learn them: `rs5m.tune` moves
the trunk, too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional
from tqdm.auto import tqdm

from rs5m import clip, rotation, tune
from rs5m.clip import Model
from rs5m.tune.schedule import batches

SETTINGS = tune.Settings("head", learning_rate=1e-3, epochs=8)
TURNS = (0, 90, 180, 270)  # degrees: every epoch sees each image at one of them


def text_features(model: Model, captions: Sequence[tuple[str, ...]]) -> dict[str, torch.Tensor]:
    """Normalised features (dim,) of every distinct caption, encoded together, for several `fit`."""
    return tune.text_features(model, sorted({text for texts in captions for text in texts}))


@torch.inference_mode()
def features(
    model: Model,
    images: Sequence[np.ndarray],
    angles: Sequence[float] = TURNS,
    batch_size: int = 64,
    quiet: bool = False,
) -> np.ndarray:
    """What the trunk gives to the head, or a tower of CLIP's as a whole: float32 (images, angles,
    width). ValueError for a wrong image.

    Args:
        images: uint8 (h, w, 3) each.
        angles: degrees to turn them by.
        batch_size: images at once.
        quiet: show no progress bar.
    """
    trunk = getattr(model.net.visual, "trunk", model.net.visual)
    clip.check_images(images)
    parts = []
    for start in tqdm(range(0, len(images), batch_size), "features", unit="batch", disable=quiet):
        part = images[start : start + batch_size]
        views = rotation.rotate(part, angles, model.image_size).div_(255)  # (n, angles, 3, s, s)
        pixels = clip.normalise_pixels(views.flatten(0, 1), model)
        with clip.autocast():
            rows = clip.in_blocks(trunk, pixels)  # (n * angles, width)
        parts.append(rows.float().cpu().view(*views.shape[:2], -1))
    return torch.cat(parts).numpy()


def weight(model: Model) -> np.ndarray:
    """The head as a matrix (dim, width): `features @ weight.T` are the vectors of
    `rs5m.clip.encode_images`. Of a tower of CLIP's, whose last projection belongs to it, the unit
    matrix.
    """
    if not hasattr(model.net.visual, "trunk"):
        return np.eye(_projection(model.net.visual)[0].shape[-1], dtype=np.float32)
    layer = getattr(getattr(model.net.visual, "head", None), "proj", None)
    if not isinstance(layer, torch.nn.Linear) or layer.bias is not None:
        raise ValueError(
            "this model has no single linear layer behind its trunk: a pocket model has"
        )
    return layer.weight.detach().cpu().numpy().copy()


def _projection(tower: torch.nn.Module) -> list[torch.Tensor]:
    """The last projection of a tower of CLIP's, (width, dim) or (dim,): its matrix, and its bias
    where it has one. ValueError for any other.
    """
    if isinstance(getattr(tower, "proj", None), torch.nn.Parameter):  # ViT
        return [tower.proj]
    if last := getattr(getattr(tower, "attnpool", None), "c_proj", None):  # ResNet
        return [last.weight.T, last.bias]
    raise ValueError("this model has no single linear layer behind its image tower")


def fit(
    model: Model,
    features: np.ndarray,
    captions: Sequence[tuple[str, ...]],
    settings: tune.Settings = SETTINGS,
    start: np.ndarray | None = None,
    known: dict[str, torch.Tensor] | None = None,
    beside: np.ndarray | None = None,
) -> tuple[np.ndarray, list[float]]:
    """The tuned head (dim, width) and the loss of every step; the model is left as it is.

    Same seed, same machine: same head. ValueError where the numbers of images and captions differ.

    Args:
        features: (images, angles, width) of `features`.
        captions: one or more for each image, one of them drawn each epoch.
        start: the head to begin with, by default the model's own.
        known: `text_features` of these captions and perhaps others; None: they are encoded now.
        beside: vectors (images, angles, dim) that are not trained and that the head's are added to.
    """
    if len(features) != len(captions):
        raise ValueError(
            f"{len(features)} images and {len(captions)} lists of captions: give one for each image"
        )
    known = text_features(model, captions) if known is None else known
    generator = torch.Generator().manual_seed(settings.seed)
    inputs = torch.from_numpy(np.asarray(features, np.float32)).to(clip.device())
    fixed = None if beside is None else torch.from_numpy(beside).to(clip.device())
    head = torch.from_numpy(weight(model) if start is None else start.copy()).to(clip.device())
    logit_scale = model.net.logit_scale.detach().clone()
    trained = [head.requires_grad_(), logit_scale.requires_grad_()]
    decay = {"weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, **decay)
    plan, losses = batches(len(inputs), settings, generator), []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: tune.rate(step, len(plan)))
    for index in plan:
        turn = torch.randint(inputs.shape[1], (len(index),), generator=generator)
        image = inputs[index, turn] @ head.T  # (n, dim)
        if fixed is not None:
            image = image + fixed[index, turn]
        image = functional.normalize(image, dim=-1)
        drawn = draw([captions[i] for i in index], generator)
        text = torch.stack([known[caption] for caption in drawn]).to(clip.device())  # (n, dim)
        loss = tune.contrastive_loss(image, text, logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return head.detach().cpu().numpy(), losses


def draw(captions: Sequence[tuple[str, ...]], generator: torch.Generator) -> list[str]:
    """One random caption of each image."""
    picks = torch.rand(len(captions), generator=generator).tolist()
    return [texts[int(pick * len(texts))] for texts, pick in zip(captions, picks, strict=True)]


def attach(model: Model, head: np.ndarray) -> Model:
    """A copy of the model with this head (dim, width), or with its last projection times it."""
    net, matrix = copy.deepcopy(model.net), torch.from_numpy(head)
    with torch.no_grad():
        if hasattr(net.visual, "trunk"):
            net.visual.head.proj.weight.copy_(matrix)
        else:
            for part in _projection(net.visual):
                part.copy_(part @ matrix.T.to(part))
    return replace(model, net=net)
