"""A linear layer beside the pocket's image tower, on its first stages, which still see colour.
Chapter: tune.

The tower is left as it is and sees each image once; the layer's vectors are added to its own. It is
one of the methods that leave the trunk alone (Head2Toe, Evci et al. 2022). Stages and epochs were
the best of twelve on chips of the Americas, which no test uses and no pair of RS3 shows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from rs5m import clip
from rs5m.book import head
from rs5m.clip import Model
from rs5m.tune import loader

STAGES = 3  # behind the stem: those that low-rank adapters do not touch
SETTINGS = replace(head.SETTINGS, batch_size=128, epochs=32)


class Staged(nn.Module):
    """An image tower with a trunk like EfficientNet's, and the layer beside it, at first zero.

    Its vectors (n, dim) are the tower's plus the layer's.
    """

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.tower = tower
        with torch.inference_mode():
            own, early = self.parts(torch.zeros(1, 3, *tower.image_size, device=clip.device()))
        self.side = nn.Linear(early.shape[1], own.shape[1], device=own.device)
        nn.init.zeros_(self.side.weight)
        nn.init.zeros_(self.side.bias)

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tower's own vectors (n, dim), and the mean and the deviation over the picture of
        every channel of the stem and the first stages (n, width).
        """
        trunk, early = self.tower.trunk, []
        x = trunk.bn1(trunk.conv_stem(images))
        for stage in (nn.Identity(), *trunk.blocks):
            x = stage(x)
            if len(early) <= STAGES:
                early.append(torch.cat([x.float().mean((2, 3)), x.float().std((2, 3))], 1))
        rows = trunk.forward_head(trunk.bn2(trunk.conv_head(x)))
        return self.tower.head(rows), torch.cat(early, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (n, dim) of normalised pixels (n, 3, h, w)."""
        own, early = self.parts(images)
        return own + self.side(early)


def fits(model: Model) -> bool:
    """Whether the model's image tower has the stages: the pocket's have."""
    return hasattr(getattr(model.net.visual, "trunk", None), "conv_stem")


def size(model: Model) -> int:
    """How many parameters the layer of a model has that is not attached yet."""
    return clip.parameters(Staged(model.net.visual).side)


def attach(model: Model) -> None:
    """Put the layer beside the model's image tower, in place; its vectors do not change yet."""
    model.net.visual = Staged(model.net.visual).eval()


def fit(
    model: Model, pairs: loader.Shards | loader.Memory, known: dict[str, torch.Tensor], seed: int
) -> list[float]:
    """Attach the layer and learn it by the contrastive loss, all else frozen; the loss of every
    step.

    Args:
        model: one that `fits`, changed in place.
        pairs: to learn from.
        known: `rs5m.tune.text_features` of the pairs' captions.
        seed: of the order of the pairs and the choice among captions.
    """
    attach(model)
    own, early = _encoded(model, pairs)
    centre, spread = early.mean(0), early.std(0) + 1e-6
    rows = np.hstack([(early - centre) / spread, np.ones((len(early), 1))]).astype(np.float32)
    captions = [pairs.captions(i) for i in range(len(pairs))]
    matrix, losses = head.fit(
        model,
        rows[:, None],
        captions,
        replace(SETTINGS, seed=seed),
        np.zeros((own.shape[1], rows.shape[1]), np.float32),
        known,
        own[:, None],
    )
    weight = matrix[:, :-1] / spread  # mean zero and deviation one, by the layer itself
    side = model.net.visual.side
    with torch.no_grad():
        side.weight.copy_(torch.from_numpy(weight))
        side.bias.copy_(torch.from_numpy(matrix[:, -1] - weight @ centre))
    return losses


@torch.inference_mode()
def _encoded(model: Model, pairs, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """`Staged.parts` of all images, upright."""
    found = []
    for start in tqdm(range(0, len(pairs), batch_size), "early stages", unit="batch"):
        pixels = pairs[np.arange(start, min(start + batch_size, len(pairs))), None].pixels
        images = clip.normalise_pixels(pixels.to(clip.device()).float().div_(255), model)
        found.append([part.float().cpu().numpy() for part in model.net.visual.parts(images)])
    own, early = zip(*found, strict=True)
    return np.concatenate(own), np.concatenate(early)
