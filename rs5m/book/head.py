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


class Captions:
    """Draws a caption vector for each image of a batch; every distinct caption is encoded once, by
    a locked tower.
    """

    def __init__(self, model: Model, captions: Sequence[tuple[str, ...]]):
        self.captions = captions
        distinct = sorted({text for texts in captions for text in texts})
        self.vectors = functional.normalize(torch.from_numpy(clip.encode_texts(model, distinct)), dim=-1)
        self.row = {text: i for i, text in enumerate(distinct)}

    def draw(self, index: list[int], generator: torch.Generator) -> torch.Tensor:
        """Normalised vectors (n, dim) of one random caption of each image in `index`."""
        picks = torch.rand(len(index), generator=generator).tolist()
        texts = [self.captions[i][int(pick * len(self.captions[i]))] for i, pick in zip(index, picks, strict=True)]
        return self.vectors[[self.row[text] for text in texts]].to(clip.device())




@torch.inference_mode()
def features(model: Model, images: Sequence[np.ndarray], angles=TURNS, batch: int = 64, quiet: bool = False):
    """What the trunk gives to the head: float32 (images, angles, width), of uint8 images (h, w, 3)
    turned by degrees.

    ValueError for a model without a timm trunk and a linear head behind it, and for a wrong image.
    Chapter: rs3.
    """
    weight(model)
    clip.check_images(images)
    found = []
    for start in tqdm(range(0, len(images), batch), desc="features", unit="batch", disable=quiet):
        views = rotation.rotate(images[start : start + batch], angles, model.image_size).div_(255)
        flat = clip.normalise_pixels(views.flatten(0, 1), model)
        with clip.autocast():
            found.append(clip.in_blocks(model.net.visual.trunk, flat).float().cpu().view(*views.shape[:2], -1))
    return torch.cat(found).numpy()


def weight(model: Model) -> np.ndarray:
    """The head as a matrix (dim, width): `features @ weight.T` are the vectors of
    `rs5m.clip.encode_images`.
    """
    layer = getattr(getattr(model.net.visual, "head", None), "proj", None)
    if not isinstance(layer, torch.nn.Linear) or layer.bias is not None:
        raise ValueError("this model has no single linear layer behind its trunk: a pocket model has")
    return layer.weight.detach().cpu().numpy().copy()


def fit(
    model: Model, features: np.ndarray, texts: Captions, settings: tune.Settings = SETTINGS,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, list[float]]:
    """The tuned head (dim, width) and the loss of every step; the model is left as it is.

    features: (images, angles, width) of `features`; texts: `Captions(model, captions)`, one list of
    captions for each image, one drawn each epoch; start: the head to begin with, the model's own by
    default. Same seed, same machine: same head. ValueError where the numbers of images and texts
    differ. Chapter: rs3.
    """
    if len(features) != len(texts.captions):
        raise ValueError(f"{len(features)} images and {len(texts.captions)} lists of captions: give one for each image")
    generator = torch.Generator().manual_seed(settings.seed)
    inputs = torch.from_numpy(np.asarray(features, np.float32)).to(clip.device())
    head = torch.from_numpy(weight(model) if start is None else start.copy()).to(clip.device()).requires_grad_()
    scale = model.net.logit_scale.detach().clone().requires_grad_()
    optimiser = torch.optim.AdamW([head, scale], settings.learning_rate, weight_decay=settings.weight_decay)
    plan, losses = batches(len(inputs), settings, generator), []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: tune.rate(step, len(plan)))
    for index in plan:
        turn = torch.randint(inputs.shape[1], (len(index),), generator=generator)
        image = functional.normalize(inputs[index, turn] @ head.T, dim=-1)
        loss = tune.contrastive_loss(image, texts.draw(index, generator), scale.exp())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return head.detach().cpu().numpy(), losses


def attach(model: Model, head: np.ndarray) -> Model:
    """A copy of the model with this head (dim, width)."""
    net = copy.deepcopy(model.net)
    with torch.no_grad():
        net.visual.head.proj.weight.copy_(torch.from_numpy(head))
    return replace(model, net=net)
