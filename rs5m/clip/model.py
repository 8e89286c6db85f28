"""The general vision-language model (the paper's GVLM), and how images and texts become vectors.
Chapter: clip.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from rs5m.clip.openclip import open_clip
from rs5m.device import device, precision, processors

MAX_TOKENS = 77  # CLIP's context; captions of the pocket world are far shorter


@dataclass(frozen=True)
class Model:
    """A two-tower network with what belongs to it: its tokenizer and the normalisation it was
    trained with.

    squash: whether a whole image is pressed into the network's square, as SigLIP learned it; else
    its short side is resized and the centre cut out.
    """

    net: nn.Module
    tokenizer: object
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    name: str = ""  # open_clip's name of the architecture, or "pocket"
    squash: bool = False


def block() -> int:
    """Images or texts at once, where nothing else decides: on a CPU few enough for its caches."""
    return 32 if device().type == "cpu" else 256


def in_blocks(tower: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """tower(pixels), on a CPU block by block: the pocket's convolutional tower is nearly twice as
    fast at 32 as at 256.

    With a gradient the whole graph is kept, as without blocks.
    """
    if pixels.device.type != "cpu" or len(pixels) <= block():
        return tower(pixels)
    return torch.cat([tower(part) for part in pixels.split(block())])


def preprocess(images: Sequence[np.ndarray], model: Model) -> torch.Tensor:
    """uint8 images (h, w, 3) of any size to normalised floats (n, 3, size, size), as the official
    evaluation does it.

    `crop`, then CLIP's or the tower's own mean and std.
    """
    pixels = crop(images, model.image_size, model.squash)
    return normalise_pixels(pixels.float().div_(255), model)


def check_images(images: Sequence[np.ndarray], first: int = 0) -> None:
    """ValueError that numbers, from `first`, an image that is not a uint8 array (h, w, 3)."""
    for i, image in enumerate(images, first):
        kind, shape = getattr(image, "dtype", type(image).__name__), getattr(image, "shape", ())
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"image {i} is {kind} of shape {shape}: give uint8 arrays (h, w, 3)")


def normalise_pixels(pixels: torch.Tensor, model: Model) -> torch.Tensor:
    """Floats in 0..1 (n, 3, s, s) less the model's mean over its std, in channels_last order."""
    mean = torch.tensor(model.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(model.std, device=pixels.device).view(3, 1, 1)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def crop(images: Sequence[np.ndarray], size: int, squash: bool = False) -> torch.Tensor:
    """uint8 images (h, w, 3) to uint8 squares (n, 3, size, size) by `square`, on all processors."""
    with ThreadPoolExecutor(min(processors(), len(images)) or 1) as pool:
        squares = list(pool.map(lambda image: _squared(image, size, squash), images))
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)


def _squared(image: np.ndarray, size: int, squash: bool) -> np.ndarray:
    same = image.shape[:2] == (size, size)
    return image if same else square(Image.fromarray(image), size, squash)


def square(image: Image.Image, size: int, squash: bool = False) -> np.ndarray:
    """The uint8 square (size, size, 3) that a network sees of an RGB image: the short side resized
    to `size` by Pillow's bicubic filter, then the centre; or, to squash, both sides resized.

    Other antialiased bicubic filters, torch's among them, differ from Pillow's by a grey level or
    two in some pixels, and that moves vectors and predictions.
    """
    if squash:
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    short = min(image.size)
    # rounded down, and the crop to even, as torchvision does
    width, height = (side * size // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def autocast() -> torch.autocast:
    """bf16 on CUDA, fp16 where the GPU has no bf16. A CPU computes in float32, also where it has
    bf16 in hardware: numbers then agree between CPUs.

    The pocket's convolutional tower would gain a third in speed and lose much: bf16 turns some
    vectors far off.
    """
    kind = precision()
    dtype = torch.float16 if kind == "fp16" else torch.bfloat16
    return torch.autocast(device().type, dtype, enabled=kind != "float32")


@torch.inference_mode()
def encode_images(
    model: Model, images: Sequence[np.ndarray], batch_size: int = 0, quiet=False, exact=False
) -> np.ndarray:
    """Un-normalised image vectors (n, dim) float32 of uint8 images (h, w, 3).

    Args:
        batch_size: how many at once; 0: `block`.
        quiet: show no progress bar.
        exact: see `encode_pixels`.
    """
    model.net.eval()
    size, vectors = batch_size or block(), []
    for start in tqdm(range(0, len(images), size), desc="images", unit="batch", disable=quiet):
        pixels = preprocess(images[start : start + size], model).to(device())
        vectors.append(encode_pixels(model, pixels, exact).cpu())
    return torch.cat(vectors).numpy()


def encode_pixels(model: Model, pixels: torch.Tensor, exact: bool = False) -> torch.Tensor:
    """Un-normalised vectors (n, dim) float32 of normalised pixels (n, 3, size, size), both on the
    device.

    exact: computed in float32 on every device, as the official evaluation does.
    """
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with nullcontext() if exact else autocast():
        return in_blocks(model.net.encode_image, pixels).float()


def tokenize(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Token ids (n, length), cut to the batch's longest text where the tower masks its padding."""
    tokens = model.tokenizer(list(texts))
    pad = getattr(getattr(model.net, "text", None), "config", None)
    if pad is not None:  # a Hugging Face tower; CLIP's own tower wants all 77 places
        tokens = tokens[:, : int((tokens != pad.pad_token_id).sum(1).max())]
    return tokens


def text_vectors(net: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Un-normalised text vectors (n, dim) of token ids, without the places behind the longest
    text's end.

    CLIP's tower looks back only and answers at the end mark, so what stands behind it changes
    nothing and costs up to three quarters of the tower's time. Other towers get the tokens as they
    are.
    """
    ours = isinstance(net, open_clip.CLIP) and net.text_pool_type == "argmax"
    if not ours or net.attn_mask is None:
        return net.encode_text(tokens)
    end = tokens.argmax(1)  # the end mark is the highest id
    tokens = tokens[:, : int(end.max()) + 1]
    length, kind = tokens.shape[1], net.transformer.get_cast_dtype()
    x = net.token_embedding(tokens).to(kind) + net.positional_embedding[:length].to(kind)
    x = net.ln_final(net.transformer(x, attn_mask=net.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), end]
    projection = net.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


@torch.inference_mode()
def encode_texts(model: Model, texts: Sequence[str], batch_size: int = 0) -> np.ndarray:
    """Un-normalised text vectors (n, dim) float32, encoded in order of length and returned in the
    order given.

    batch_size: how many at once; 0: `block`.
    """
    model.net.eval()
    size = batch_size or block()
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = [None] * len(texts)
    for start in range(0, len(texts), size):
        index = order[start : start + size]
        tokens = tokenize(model, [texts[i] for i in index]).to(device())
        for i, vector in zip(index, text_vectors(model.net, tokens).float().cpu(), strict=True):
            vectors[i] = vector
    return torch.stack(vectors).numpy()


def parameters(net: nn.Module, trainable: bool = False) -> int:
    """How many numbers a network holds, or how many of them are being trained."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trainable)
