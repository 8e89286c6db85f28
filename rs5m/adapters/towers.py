"""The towers of an open_clip network: where they take adapters, and how these reach the attention.
Chapter: adapters.

open_clip's transformers hold query, key and value in one nn.MultiheadAttention, which reads its
layers' weights and never calls them: an adapter on such a layer would see no data and get no
gradient. `split` puts the same function in plain linear layers in its place, and `fuse` puts it
back, names and all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

# of a convolutional trunk: earlier stages work at the highest resolution and cost the most
FIRST_STAGE = 4
OPEN_CLIP = {  # names within one layer of a transformer
    "attention": "attn",
    "inner": ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"),
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
BERT = {
    "attention": "attention.self",
    "inner": (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ),
    "up": "intermediate.dense",
    "down": "output.dense",
}


@dataclass(frozen=True)
class Tower:
    """The places of a tower that take adapters, by module name, with their widths.

    linear: (name, in, out) of linear layers and 1x1 convolutions; outputs: (name, width) of what
    ends a feed-forward sublayer, or of a convolutional block; attention: (name, width), none in a
    convolutional tower.
    """

    linear: list[tuple[str, int, int]]
    outputs: list[tuple[str, int]]
    attention: list[tuple[str, int]]

    def spots(self, method: str) -> list[tuple]:
        """The places of one method, none where the tower cannot take it."""
        both = self.attention and self.attention + self.outputs
        places = {"adapter": self.outputs, "prefix": self.attention, "unipelt": both}
        return places.get(method, self.linear)


def anatomy(net: nn.Module, tower: str) -> Tower:
    """Where a tower takes adapters: a transformer of open_clip or a BERT, or a trunk like
    EfficientNet's.

    ValueError for another architecture.
    """
    root = "visual." if tower == "image" else "text." if hasattr(net, "text") else ""
    module = net.get_submodule(root[:-1])
    transformer, trunk = getattr(module, "transformer", None), getattr(module, "trunk", None)
    layers = getattr(transformer, "resblocks", ())
    if len(layers) and isinstance(layers[0].attn, nn.MultiheadAttention):
        name, hidden = f"{root}transformer.resblocks", layers[0].mlp.c_fc.out_features
        return _transformer(name, len(layers), OPEN_CLIP, transformer.width, hidden)
    layers = getattr(getattr(transformer, "encoder", None), "layer", ())
    if len(layers) and hasattr(layers[0].attention.self, "query"):
        config = transformer.config
        name = f"{root}transformer.encoder.layer"
        return _transformer(name, len(layers), BERT, config.hidden_size, config.intermediate_size)
    mobile = hasattr(trunk, "conv_head")
    if mobile and all(hasattr(block, "conv_pwl") for _, block in _blocks(trunk)):
        return _convolutional(module)
    raise ValueError(
        f"adapters have no known place in the {tower} tower ({type(module).__name__}): choose full "
        "or head"
    )


def _transformer(root: str, depth: int, names: dict, width: int, hidden: int) -> Tower:
    layers = [f"{root}.{i}." for i in range(depth)]
    inner = [(layer + name, width, width) for layer in layers for name in names["inner"]]
    up = [(layer + names["up"], width, hidden) for layer in layers]
    down = [(layer + names["down"], hidden, width) for layer in layers]
    outputs = [(name, width) for name, *_ in down]
    return Tower(inner + up + down, outputs, [(n + names["attention"], width) for n in layers])


def _blocks(trunk: nn.Module) -> list[tuple[str, nn.Module]]:
    places = []
    for i, stage in list(enumerate(trunk.blocks))[FIRST_STAGE:]:
        places += [(f"visual.trunk.blocks.{i}.{j}", block) for j, block in enumerate(stage)]
    return places


def _convolutional(visual: nn.Module) -> Tower:
    blocks = _blocks(visual.trunk)
    layers = {}
    for name, block in blocks:
        layers |= {f"{name}.conv_pw": block.conv_pw, f"{name}.conv_pwl": block.conv_pwl}
    layers["visual.trunk.conv_head"] = visual.trunk.conv_head
    linear = [(name, layer.in_channels, layer.out_channels) for name, layer in layers.items()]
    if head := getattr(visual.head, "proj", None):
        linear.append(("visual.head.proj", head.in_features, head.out_features))
    return Tower(linear, [(name, block.conv_pwl.out_channels) for name, block in blocks], [])


class Attention(nn.Module):
    """nn.MultiheadAttention as open_clip calls it, batch first and without weights, with four plain
    linear layers.
    """

    def __init__(self, fused: nn.MultiheadAttention):
        super().__init__()
        if not fused.batch_first:
            raise ValueError(
                "attention that takes its tokens first cannot be split: build the network batch "
                "first"
            )
        self.num_heads, self.dropout, self.out_proj = fused.num_heads, fused.dropout, fused.out_proj
        biases = (None,) * 3 if fused.in_proj_bias is None else fused.in_proj_bias.chunk(3)
        pairs = zip(fused.in_proj_weight.chunk(3), biases, strict=True)
        self.q_proj, self.k_proj, self.v_proj = (_linear(weight, bias) for weight, bias in pairs)
        self.train(fused.training)

    def projections(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The layers of query, key and value."""
        return self.q_proj, self.k_proj, self.v_proj

    def forward(
        self, query, key, value, need_weights: bool = False, attn_mask: torch.Tensor | None = None
    ):
        """Tokens (n, t, width) to (tokens, None), as nn.MultiheadAttention calls it.

        Args:
            query, key, value: tokens before their projections.
            need_weights: taken and ignored, no weights are given.
            attn_mask: as in nn.MultiheadAttention.
        """
        tokens = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        mask = open_mask(attn_mask, len(query))
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attend(*tokens, mask, self.num_heads, dropout)), None

    def fused(self) -> nn.MultiheadAttention:
        """The nn.MultiheadAttention with the same weights."""
        layers = self.projections()
        bias = layers[0].bias is not None
        sizes = layers[0].in_features, self.num_heads, self.dropout, bias
        whole = nn.MultiheadAttention(*sizes, batch_first=True, device="meta")
        whole.in_proj_weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]))
        if bias:
            whole.in_proj_bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]))
        whole.out_proj = self.out_proj
        return whole.requires_grad_(layers[0].weight.requires_grad).train(self.training)


def split(net: nn.Module, names: list[str] | None = None) -> nn.Module:
    """Put an Attention in the place of every nn.MultiheadAttention, or of those one of whose layers
    is named; the network.
    """
    wanted = {name.rpartition(".")[0] for name in names or ()}
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.MultiheadAttention) and (names is None or name in wanted):
            put(net, name, Attention(module))
    return net


def fuse(net: nn.Module) -> None:
    """Undo `split`: the network has open_clip's own modules and names again."""
    for name, module in list(net.named_modules()):
        if isinstance(module, Attention):
            put(net, name, module.fused())


def put(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of this name."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A linear layer with copies of these tensors."""
    # on meta, no random numbers are drawn
    layer = nn.Linear(*weight.T.shape, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return layer


def attend(query, key, value, mask, heads: int, dropout: float = 0.0) -> torch.Tensor:
    """Attention of tokens (n, t, width), width split by heads.

    Args:
        query, key, value: tokens after their projections.
        mask: floats to add, True where a key is seen, or None; broadcast to (n, heads, t, keys).
        heads: how many; they divide the width.
        dropout: the share of attention weights that is dropped.
    """
    split = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query.dtype)  # autocast may have made the tokens narrower
    mixed = functional.scaled_dot_product_attention(*split, attn_mask=mask, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


def open_mask(mask: torch.Tensor | None, count: int) -> torch.Tensor | None:
    """A mask of nn.MultiheadAttention, (q, k) or (n heads, q, k), True where a key is hidden, as
    `attend` wants it.
    """
    if mask is None:
        return None
    mask = ~mask if mask.dtype == torch.bool else mask
    return mask.unflatten(0, (count, -1)) if mask.dim() == 3 else mask
