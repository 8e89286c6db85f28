"""Parameter-efficient tuning of open_clip's towers through peft, and what it is compared with.
Chapter: adapters.

* paper, PEFT section: Pfeiffer adapter, LoRA, prefix-tuning, UniPELT; for comparison full tuning
* not in the paper: DoRA and a linear head; the sizes and places of the modules, which the sources
  available to us leave open
* frozen in every method but full: the temperature; in every method but full and head: all weights,
  biases and gains

The methods that peft lacks are in `rs5m.adapters.tuners`, the places that take an adapter in
`rs5m.adapters.towers`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import torch
from torch import nn

from rs5m.adapters.towers import Tower, anatomy, fuse, put, split

METHODS = ("full", "head", "lora", "dora", "adapter", "prefix", "unipelt")
TOWERS = ("image", "text")
HEADS = {
    "image": ("visual.proj", "visual.head.proj.weight"),
    "text": (
        "text_projection",
        "text_projection.weight",
        "text.text_projection",
        "text.proj.weight",
    ),
}


@dataclass(frozen=True)
class Adapted:
    """What `prepare` did to a network: kept on it as `adapted`, saved with the trained tensors.

    base: by name of the general model's tensors, their shape and a digest of some of their values.
    """

    method: str
    size: int
    towers: tuple[str, ...]
    base: dict[str, str]
    trained: tuple[str, ...] = ()

    def settings(self) -> tuple[str, int, tuple[str, ...]]:
        """The arguments of `prepare` that made it."""
        return self.method, self.size, self.towers


def mergeable(method: str) -> bool:
    """Whether `merge` gives back a plain network: adapter, prefix and UniPELT compute what no
    weight of it can.
    """
    return method in ("full", "head", "lora", "dora")


def prepare(
    net: nn.Module, method: str = "lora", size: int = 16, towers: tuple[str, ...] = ("image",)
) -> nn.Module:
    """Freeze an open_clip network and make exactly the method's parameters trainable; returns what
    is to be trained.

    * full: the towers and the temperature; head: the towers' last projections; both return `net`
      itself
    * lora, dora: rank `size`, scale 1, on all linear layers of a transformer's layers; in a
      convolutional tower on the 1x1 convolutions from stage 4 on and on the projection
    * adapter: a bottleneck of width `size` behind every feed-forward sublayer, or every block from
      stage 4 on
    * prefix: `size` keys and values in every attention
    * unipelt: both, and LoRA of query and value; each of the three has `size` and a gate

    The last five return the result of peft.get_peft_model, and `net` itself computes the same.
    lora, dora and adapter start as the general model; prefix and unipelt only near it, since the
    prefix takes its share of the attention at once. ValueError for an unknown method or tower, a
    size below 1, a tower that cannot take the method and a network that holds adapters already.

    Args:
        net: changed in place.
        method: one of `METHODS`.
        size: rank, width or length, see above; full and head have none.
        towers: "image", "text" or both.
    """
    names = places(net, method, size, towers)
    base = identity(net)
    net.requires_grad_(False)
    if method in ("full", "head"):
        wrapped = net
        for name in names:
            net.get_parameter(name).requires_grad_(True)
    else:
        wrapped = _wrapped(net, method, size, names)
    trained = tuple(name for name, parameter in net.named_parameters() if parameter.requires_grad)
    net.adapted = Adapted(method, size, tuple(towers), base, trained)
    return wrapped


def _wrapped(net: nn.Module, method: str, size: int, names: list[str]) -> nn.Module:
    from peft import LoraConfig, get_peft_model  # slow to import, and full tuning needs neither

    from rs5m.adapters.lowrank import LowRank
    from rs5m.adapters.tuners import CONFIGS

    # of a list, peft would take the names as endings of other names
    exactly = "|".join(map(re.escape, names))
    if method in ("lora", "dora"):
        dora = method == "dora"
        split(net, names)
        if dora:
            _no_row_of_zeros(net, names)
        config = LoraConfig(r=size, lora_alpha=size, use_dora=dora, target_modules=exactly)
        if not dora:
            config._register_custom_module({nn.Linear: LowRank})
    else:
        config = CONFIGS[method](size=size, target_modules=exactly)
    wrapped = get_peft_model(net, config)
    return wrapped if net.training else wrapped.eval()  # new modules are in training mode


@torch.no_grad()
def _no_row_of_zeros(net: nn.Module, names: list[str]) -> None:
    """DoRA divides each row by its norm: one of zero (the pocket model has two) gets a number that
    no sum will notice.

    Other rows are so small that they are zero in float16: DoRA of such a model needs bfloat16.
    """
    for name in names:
        weight = net.get_submodule(name).weight
        weight[weight.flatten(1).norm(dim=1) == 0, 0] = 1e-12


def places(net: nn.Module, method: str, size: int, towers: tuple[str, ...]) -> list[str]:
    """Names of the modules that a method wraps, or of the parameters that full and head train;
    the network is left as it is. Args: those of `prepare`, and so are the errors.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    twice = len(set(towers)) < len(towers)
    if not towers or isinstance(towers, str) or set(towers) - set(TOWERS) or twice:
        raise ValueError(f"towers are {towers!r}: give a tuple of 'image', 'text' or both")
    if type(size) is not int or size < 1:
        raise ValueError(f"size is {size!r}: give a whole number, at least 1")
    if any(hasattr(module, "base_layer") for module in net.modules()):
        raise ValueError(
            "the network already holds adapters: merge them, or load the general model again"
        )
    names = [name for tower in towers for name in _places(net, method, tower)]
    if method == "full":
        names += [name for name, _ in net.named_parameters() if name.startswith("logit_")]
    return names


def _places(net: nn.Module, method: str, tower: str) -> list[str]:
    if method == "full":
        return [name for name, _ in net.named_parameters() if _in_tower(name, tower)]
    if method == "head":
        lacks = "projection"
        names = [name for name, _ in net.named_parameters() if name in HEADS[tower]]
    else:
        lacks = "attention"
        names = [name for name, *_ in anatomy(net, tower).spots(method)]
    if not names:
        raise ValueError(
            f"the {tower} tower has no {lacks}, so it takes no {method}: choose another method or "
            "tower"
        )
    return names


def _in_tower(name: str, tower: str) -> bool:
    if tower == "image":
        return name.startswith("visual.")
    return not name.startswith(("visual.", "logit_"))


def formula(net: nn.Module, method: str, size: int, towers: tuple[str, ...]) -> int:
    """How many numbers a method trains, from the widths w and depths of a network that holds no
    adapters yet.

    For each place: LoRA r (in + out), DoRA out more; adapter 2 w r + r + w; prefix 2 w r; UniPELT
    the last two, 4 w r and 3 (w + 1) for each layer's three gates. full and head count their
    parameters. Args: those of `places`, and so are the
    errors; r is `size`.
    """
    names = places(net, method, size, towers)
    if method in ("full", "head"):
        return sum(net.get_parameter(name).numel() for name in names)
    return sum(_formula(anatomy(net, tower), method, size) for tower in towers)


def _formula(tower: Tower, method: str, size: int) -> int:
    low_rank = sum(size * (wide_in + wide_out) for _, wide_in, wide_out in tower.linear)
    adapter = sum(2 * width * size + size + width for _, width in tower.outputs)
    prefix = sum(2 * width * size for _, width in tower.attention)
    inside = sum(4 * width * size + 3 * (width + 1) for _, width in tower.attention)
    return {
        "lora": low_rank,
        "dora": low_rank + sum(wide_out for *_, wide_out in tower.linear),
        "adapter": adapter,
        "prefix": prefix,
        "unipelt": adapter + prefix + inside,
    }[method]


def merge(net: nn.Module) -> nn.Module:
    """The open_clip network within what `prepare` returned: after lora and dora with plain layers
    and its own names.

    They are folded into the weights, and the network is ready for another `prepare`. After full and
    head it is plain anyway; after a method that is not `mergeable` the modules stay where they are.
    Parameters stay frozen.
    """
    plain, adapted = adapted_of(net)
    if adapted.method in ("lora", "dora"):
        for name, module in list(plain.named_modules()):
            if hasattr(module, "base_layer"):
                module.merge()
                put(plain, name, module.base_layer)
        fuse(plain)
        del plain.adapted, plain.peft_config
    return plain


def adapted_of(net: nn.Module) -> tuple[nn.Module, Adapted]:
    """The open_clip network within what `prepare` returned, and what was done to it."""
    plain = net.get_base_model() if hasattr(net, "get_base_model") else net
    if not hasattr(plain, "adapted"):
        raise ValueError(
            "the network has no adapters: it was not prepared for tuning, or they have been merged"
        )
    return plain, plain.adapted


def identity(net: nn.Module) -> dict[str, str]:
    """What tells one base model from another: of each tensor the shape and a digest of up to 64 of
    its values.

    The temperature is left out, as no vector depends on it.
    """
    digests = {}
    for name, tensor in net.state_dict().items():
        shape = "x".join(map(str, tensor.shape)) or "1"
        some = tensor.reshape(-1)[:: max(1, tensor.numel() // 64)]
        values = b"" if tensor.is_meta else some.cpu().double().numpy().tobytes()
        if not name.startswith("logit_"):
            digests[name] = f"{shape} {hashlib.sha256(values).hexdigest()[:12]}"
    return digests
