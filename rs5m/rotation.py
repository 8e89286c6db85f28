"""Rotation-invariant selection: of an image's captions, the one that fits well and steadily however
it is turned.

* paper, RS3: of five ranked captions one is chosen by a rotation-invariance criterion
* its formula, angles and model are not in the sources available to us: the criteria are ours
* not in the paper: all views show the same part of the ground, so that neither corners nor zoom
  decide
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from rs5m import clip
from rs5m.zeroshot import normalise

if TYPE_CHECKING:
    import torch  # slow to import, and `select` needs none of it

CRITERIA = ("mean_minus_deviation", "lowest_variance", "worst_case", "mean")
ANGLES = tuple(range(0, 360, 30))  # degrees, counter-clockwise
Images = Sequence[np.ndarray]


def select(
    similarity: np.ndarray,
    criterion: str = "mean_minus_deviation",
    weight: float = 1.0,
    best: int = 3,
) -> np.ndarray:
    """The position of the chosen caption of each image: ints (images,); ties go to the first
    caption.

    ValueError, beside those of `scores`, for an image whose captions are all absent: -1 instead
    would index the last caption. With the first rotation alone, `select(similarity[:, :1])` is the
    usual choice by similarity. Paper: rotation-invariant selection. Chapter: rotation.

    Args: those of `scores`.
    """
    values = scores(similarity, criterion, weight, best)
    bare = np.flatnonzero(np.isnan(values).all(1))
    if len(bare):
        raise ValueError(
            f"image {bare[0]} has no caption to choose from ({len(bare)} such images): "
            "leave them out"
        )
    return (
        np.where(np.isnan(values), -np.inf, values).argmax(1) if len(values) else np.zeros(0, int)
    )


def scores(
    similarity: np.ndarray,
    criterion: str = "mean_minus_deviation",
    weight: float = 1.0,
    best: int = 3,
) -> np.ndarray:
    """What each caption is chosen by, higher is better: floats (images, captions), NaN where a
    caption is absent. Over the rotations:

    - mean_minus_deviation: the mean less `weight` standard deviations (population)
    - lowest_variance: minus the variance; -inf outside the `best` captions by mean, of which the
      first win ties
    - worst_case: the minimum
    - mean: no criterion, the baseline

    The default is ours, not known to be the paper's: it changes smoothly with every similarity, and
    its one plain parameter runs from the baseline (0) towards the steadiest caption whatever it
    says (large). The worst case rests on a single view and falls with the number of views; the
    lowest variance ignores the fit within the `best`, where a vague caption is the steadiest.
    Nothing says that 1.0 and 3 are best. ValueError for an unknown criterion, another shape, no
    rotation, a value that is infinite or missing in some rotations only, weight < 0 or best < 1.
    Paper: rotation-invariant selection.

    Args:
        similarity: (images, rotations, captions) in any one unit, cosines or logits; a caption that
            is absent is NaN in all rotations of its image.
        criterion: one of `CRITERIA`.
        weight: of the deviation, for mean_minus_deviation.
        best: how many captions lowest_variance chooses from.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}: choose one of {', '.join(CRITERIA)}")
    if not (0 <= weight < math.inf and best >= 1):
        raise ValueError(
            f"weight is {weight} and best is {best}: they must be at least 0 and at least 1"
        )
    similarity = _checked(similarity)
    mean = similarity.mean(1)
    if criterion == "mean_minus_deviation":
        return mean - weight * similarity.std(1)
    if criterion == "worst_case":
        return similarity.min(1)
    if criterion == "lowest_variance":
        rank = np.argsort(-mean, axis=1, kind="stable").argsort(
            1
        )  # absent captions, NaN, come last
        return np.where((rank < best) | np.isnan(mean), -similarity.var(1), -np.inf)
    return mean


def _checked(similarity: np.ndarray) -> np.ndarray:
    similarity = np.asarray(similarity, np.float64)
    if similarity.ndim != 3 or not similarity.shape[1]:
        raise ValueError(
            f"similarity has shape {similarity.shape}: give (images, rotations >= 1, captions)"
        )
    odd = ~np.isfinite(similarity) & ~np.isnan(similarity).all(1, keepdims=True)
    if odd.any():
        i, r, c = np.argwhere(odd)[0]
        raise ValueError(
            f"similarity of image {i}, rotation {r}, caption {c} is {similarity[i, r, c]}: "
            "give a number, or NaN in all rotations where the image has no such caption"
        )
    return similarity


def side(size: int, angles: Sequence[float] = ANGLES) -> int:
    """Pixels of the square image in which a centred square of `size` pixels stays inside at every
    one of the angles.

    `size` itself for quarter turns alone (the whole image is seen), up to 1.41 times that for
    others. The margins are whole pixels. ValueError for no angle or one that is not finite.
    """
    if not len(angles) or not all(math.isfinite(angle) for angle in angles):
        raise ValueError(f"angles are {list(angles)}: give at least one, in degrees")
    reach = max(abs(math.cos(a)) + abs(math.sin(a)) for a in map(math.radians, angles))
    needed = math.ceil(
        (size - 1) * reach + 1 - 1e-6
    )  # from the first pixel's centre to the last one's
    return needed + (needed - size) % 2


def rotate(
    images: Images,
    angles: Sequence[float] = ANGLES,
    size: int = 224,
    mirrored: bool = False,
    device: torch.device | None = None,
) -> torch.Tensor:
    """The views of images: floats 0 to 255 (images, rotations, 3, size, size), on the device.

    Every image is resized once (bicubic, antialiased, centre crop) to `side` pixels and turned at
    scale one: quarter turns exactly, other angles bilinearly, which is slightly softer. All views
    show the same centred square, in part or whole (see `side`), and nothing from outside the image.
    ValueError for a wrong image or angle. Paper: rotation-invariant selection.

    Args:
        images: uint8 (h, w, 3).
        angles: degrees, counter-clockwise.
        size: of a view, in pixels.
        mirrored: the same views again, each flipped left to right.
        device: where; None: `clip.device()`.
    """
    import torch

    pixels = _squares(images, side(size, angles)).to(device or clip.device()).float()
    views = dict(_views(pixels, angles, size, mirrored))
    return torch.stack([views[place] for place in range(len(views))], 1)


def _squares(images: Images, pixels: int, first: int = 0, squash: bool = False) -> torch.Tensor:
    clip.check_images(images, first)
    return clip.crop(images, pixels, squash)


def _views(
    pixels: torch.Tensor, angles: Sequence[float], size: int, mirrored: bool
) -> Iterator[tuple[int, torch.Tensor]]:
    """(place among the rotations, view) in an order that samples once for all angles that differ by
    quarter turns.
    """
    groups = defaultdict(list)
    for place, angle in enumerate(angles):
        turns, rest = divmod(round(angle, 6), 90)
        groups[rest].append((place, int(turns)))
    for rest, members in groups.items():
        sampled = _sampled(pixels, math.radians(rest), size)
        for place, turns in members:
            view = sampled.rot90(turns, (2, 3))
            yield place, view
            if mirrored:
                yield place + len(angles), view.flip(3)


def _sampled(pixels: torch.Tensor, angle: float, size: int) -> torch.Tensor:
    from torch.nn import functional

    n, channels, whole, _ = pixels.shape
    if not angle:
        margin = (whole - size) // 2
        return pixels[:, :, margin : margin + size, margin : margin + size]
    scale = (size - 1) / max(
        1, whole - 1
    )  # grid units are half the way between the outermost pixel centres
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    theta = pixels.new_tensor([[[cos, -sin, 0], [sin, cos, 0]]])
    grid = functional.affine_grid(theta, [1, channels, size, size], align_corners=True).expand(
        n, -1, -1, -1
    )
    return functional.grid_sample(
        pixels, grid, padding_mode="border", align_corners=True
    )  # border: rounding only


def similarities(
    model: clip.Model,
    images: Images,
    captions: Sequence[Sequence[str]],
    angles: Sequence[float] = ANGLES,
    mirrored: bool = False,
    batch: int = 256,
    quiet: bool = False,
) -> np.ndarray:
    """Cosines of every view of an image with the image's captions: float32 (images, rotations,
    captions), NaN behind the last caption of an image.

    A model that presses whole images into its square, as SigLIP does, has them pressed before they
    are turned. A caption is encoded once however many images share it. ValueError for other lengths
    or kinds. Paper: rotation-invariant selection.

    Args:
        images: uint8 (h, w, 3), of any size; decoded, resized and sent to the device once.
        captions: a list for each image, of any length.
        angles, mirrored: the rotations are those of `rotate`, in its order.
        batch: images at a time.
        quiet: no progress bar.
    """
    if len(images) != len(captions) or any(isinstance(texts, str) for texts in captions):
        raise ValueError(
            f"{len(images)} images and {len(captions)} lists of captions: "
            "give one list for each image"
        )
    distinct = {
        text: row
        for row, text in enumerate(dict.fromkeys(text for texts in captions for text in texts))
    }
    vectors = normalise(clip.encode_texts(model, list(distinct))) if distinct else None
    longest = max(map(len, captions), default=0)
    found = np.full((len(images), len(angles) * (1 + mirrored), longest), np.nan, np.float32)
    for start in tqdm(range(0, len(images), batch), desc="rotations", unit="batch", disable=quiet):
        part, whole = images[start : start + batch], side(model.image_size, angles)
        pixels = _squares(part, whole, start, model.squash)
        for i, views in enumerate(normalise(_encode(model, pixels, angles, mirrored)), start):
            if len(
                captions[i]
            ):  # a caption that comes twice is computed once: the two must tie to the last bit
                rows, back = np.unique(
                    [distinct[text] for text in captions[i]], return_inverse=True
                )
                found[i, :, : len(back)] = (views @ vectors[rows].T)[:, back]
    return found


def _encode(
    model: clip.Model, pixels: torch.Tensor, angles: Sequence[float], mirrored: bool
) -> np.ndarray:
    import torch

    model.net.eval()
    with torch.inference_mode():
        # linear, so once for all views
        pixels = clip.normalise_pixels(pixels.to(clip.device()).float().div_(255), model)
        views = _views(pixels, angles, model.image_size, mirrored)  # one is held at a time
        vectors = {place: clip.encode_pixels(model, view) for place, view in views}
        return torch.stack([vectors[place] for place in range(len(vectors))], 1).cpu().numpy()
