"""The methods that peft lacks for CLIP's towers, as peft tuners: adapter, prefix and UniPELT.
Chapter: adapters.

* Pfeiffer adapter (Pfeiffer et al. 2021): one bottleneck per layer, behind the feed-forward
  sublayer
* prefix-tuning (Li and Liang 2021): trainable keys and values in every attention; without the
  network that makes them in the paper, which holds many times the parameters of the prefix and is
  thrown away after training
* UniPELT (Mao et al. 2022): both, and LoRA of query and value, each behind a learned gate per layer
* not in the papers: the adapter adds to the sublayer's output before the residual and its
  normalisation, so that its start is the general model exactly; UniPELT's gates open per token, and
  the prefix's by the mean over real tokens

`peft.get_peft_model(net, AdapterConfig(size=16, target_modules=...))` works with each;
`rs5m.adapters.prepare` names the modules.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from rs5m.adapters.towers import Attention, attend, open_mask
from rs5m.clip import openclip  # noqa: F401  (before peft, which imports torchvision)

from peft import PeftConfig, mapping  # isort: skip
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer  # isort: skip


def gate(width: int) -> nn.Linear:
    """UniPELT's gate before its sigmoid: one number per token, zero at the start, so that it opens
    by half.
    """
    layer = nn.Linear(width, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Bottleneck(nn.Module):
    """Down to `size` numbers, ReLU, up again, added to the input: tokens (n, t, width) or maps (n,
    width, h, w).
    """

    def __init__(self, width: int, size: int, maps: bool = False, gated: bool = False):
        super().__init__()
        self.down = nn.Conv2d(width, size, 1) if maps else nn.Linear(width, size)
        self.up = nn.Conv2d(size, width, 1) if maps else nn.Linear(size, width)
        self.gate = gate(width) if gated else None
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The input with the bottleneck's change, of its shape; a gate scales it per token."""
        change = self.up(functional.relu(self.down(hidden)))
        return hidden + (change if self.gate is None else change * self.gate(hidden).sigmoid())


class Prefix(nn.Module):
    """`size` trainable keys and values that every token of a layer may attend to. The values start
    at zero.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.key = nn.Parameter(torch.randn(size, width) * 0.02)
        self.value = nn.Parameter(torch.zeros(size, width))

    def forward(self, hidden, query, key, value, mask):
        """The three and the mask, with the prefix before keys and values.

        Args:
            hidden: the attention's input (n, t, width), which a plain prefix does not read.
            query, key, value: the tokens after their projections.
            mask: see `widened`.
        """
        return query, self.before(key, self.key), self.before(value, self.value), self.widened(mask)

    @staticmethod
    def before(tokens: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        """prefix (size, width), or one for each of the n (n, size, width), before tokens (n, t,
        width).
        """
        return torch.cat([prefix.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], 1)

    def widened(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """A mask (..., queries, keys) that hides no part of the prefix."""
        if mask is None:
            return None
        seen = mask.new_full((*mask.shape[:-1], len(self.key)), mask.dtype == torch.bool)
        return torch.cat([seen, mask], -1)


class GatedPrefix(Prefix):
    """UniPELT's part inside the attention: a prefix and LoRA of query and value, each with its
    gate.
    """

    def __init__(self, width: int, size: int):
        super().__init__(width, size)
        self.query_down, self.value_down = (nn.Linear(width, size, bias=False) for _ in range(2))
        self.query_up, self.value_up = (nn.Linear(size, width, bias=False) for _ in range(2))
        self.prefix_gate, self.low_rank_gate = gate(width), gate(width)
        nn.init.zeros_(self.query_up.weight)
        nn.init.zeros_(self.value_up.weight)

    def forward(self, hidden, query, key, value, mask):
        """Like `Prefix.forward`, with LoRA's change of query and value. Args: the same;
        `hidden` opens the gates.
        """
        opened = self.low_rank_gate(hidden).sigmoid()
        query = query + opened * self.query_up(self.query_down(hidden))
        value = value + opened * self.value_up(self.value_down(hidden))
        share = mean_over_tokens(self.prefix_gate(hidden).sigmoid(), mask)
        key = self.before(key, share * self.key)
        return query, key, self.before(value, share * self.value), self.widened(mask)


def mean_over_tokens(opened: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean (n, 1, 1) of opened (n, tokens, 1) over the tokens that the last one may see, so not
    over padding.
    """
    if mask is None:
        return opened.mean(1, keepdim=True)
    seen = (mask if mask.dtype == torch.bool else mask == 0)[..., -1, :]
    seen = seen[:, 0] if seen.dim() == 3 else seen  # all heads see the same tokens
    weight = seen[..., None].to(opened.dtype)
    return (opened * weight).sum(1, keepdim=True) / weight.sum(-2, keepdim=True)


class TunedLayer(nn.Module, BaseTunerLayer):
    """A frozen module with trainable parts beside it, one for each adapter's name, of which the
    active one works.
    """

    adapter_layer_names = ("tuned_parts",)

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer
        self.tuned_parts = nn.ModuleDict()
        self.merged_adapters = []
        self.train(base_layer.training)  # a new module trains, and attention would drop out

    def active(self) -> nn.Module | None:
        """The part at work, None where adapters are switched off."""
        if self.disable_adapters:
            return None
        names = [name for name in self.active_adapters if name in self.tuned_parts]
        return self.tuned_parts[names[0]] if names else None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """ValueError, always: no weight of the base layer computes what these parts do."""
        raise ValueError(
            "an adapter, a prefix and UniPELT cannot be folded into the weights: keep the modules"
        )


class TunedOutput(TunedLayer):
    """A module whose output goes through the part."""

    def forward(self, *inputs, **options):
        """The base layer's output through the part at work, or as it is where none is."""
        output, part = self.base_layer(*inputs, **options), self.active()
        return output if part is None else part(output)


class TunedAttention(TunedLayer):
    """Self-attention, ours or that of a Hugging Face BERT, whose query, key and value go through
    the part.
    """

    def forward(self, hidden: torch.Tensor, *inputs, **options):
        """Tokens (n, t, width) to (tokens, None); the rest as the base layer takes it."""
        attention, part = self.base_layer, self.active()
        if part is None:
            return attention(hidden, *inputs, **options)
        if isinstance(attention, Attention):
            mask = open_mask(options.get("attn_mask"), len(hidden))
            layers, heads, dropout = attention.projections(), attention.num_heads, attention.dropout
        else:
            mask = options.get("attention_mask", inputs[0] if inputs else None)
            layers = attention.query, attention.key, attention.value
            heads, dropout = attention.num_attention_heads, attention.dropout.p
        query, key, value, mask = part(hidden, *(layer(hidden) for layer in layers), mask)
        mixed = attend(query, key, value, mask, heads, dropout if self.training else 0.0)
        return (attention.out_proj(mixed) if isinstance(attention, Attention) else mixed), None


class Tuner(BaseTuner):
    """Wraps the target modules: attention in TunedAttention, anything else in TunedOutput."""

    prefix = "tuned_"
    tuner_layer_cls = TunedLayer
    target_module_mapping = {}

    def _create_and_replace(
        self, config, adapter_name, target, target_name, parent, current_key, **_
    ) -> None:
        inner = target.base_layer if isinstance(target, TunedLayer) else target
        if isinstance(inner, nn.MultiheadAttention):
            inner = Attention(inner)
        inside = isinstance(inner, Attention) or hasattr(inner, "query")
        part = config.inside(inner) if inside else config.behind(inner)
        if part is None:
            raise ValueError(
                f"{config.name} has no part for {current_key!r}: see rs5m.adapters.towers.anatomy "
                "for the places"
            )
        if inner is not getattr(target, "base_layer", None):
            target = TunedAttention(inner) if inside else TunedOutput(inner)
            setattr(parent, target_name, target)
        target.tuned_parts[adapter_name] = part.to(next(inner.parameters()).device)

    def _replace_module(self, parent, child_name, new_module, child) -> None:
        # peft's own also looks for a weight, which attention does not have
        setattr(parent, child_name, new_module)


@dataclass
class PartConfig(PeftConfig):
    """size: width of the bottleneck, length of the prefix, rank; target_modules: names, or one
    regular expression.
    """

    size: int = 16
    target_modules: list[str] | str | None = None

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = self.name

    def inside(self, attention: nn.Module) -> nn.Module | None:
        """The part of this method inside an attention, None where it has none."""

    def behind(self, module: nn.Module) -> nn.Module | None:
        """The part of this method behind a module, None where it has none."""


def attention_width(attention: nn.Module) -> int:
    """How many features a token has that goes into an attention, ours or transformers'."""
    return (attention.q_proj if isinstance(attention, Attention) else attention.query).in_features


class AdapterConfig(PartConfig):
    """The Pfeiffer adapter; target_modules: last linear layers of feed-forward sublayers, or
    convolutional blocks.
    """

    name = "PFEIFFER"

    def behind(self, module: nn.Module) -> nn.Module:
        """A bottleneck as wide as the module's output."""
        if hasattr(module, "conv_pwl"):
            return Bottleneck(module.conv_pwl.out_channels, self.size, maps=True)
        return Bottleneck(module.out_features, self.size)


class PrefixConfig(PartConfig):
    """Prefix-tuning; target_modules: attentions. (peft's own PREFIX_TUNING serves language models
    of transformers.)
    """

    name = "ATTENTION_PREFIX"

    def inside(self, attention: nn.Module) -> nn.Module:
        """A prefix as wide as the attention."""
        return Prefix(attention_width(attention), self.size)


class UniPELTConfig(PartConfig):
    """UniPELT; target_modules: attentions and the last linear layers of feed-forward sublayers."""

    name = "UNIPELT"

    def inside(self, attention: nn.Module) -> nn.Module:
        """A prefix and LoRA, both gated, as wide as the attention."""
        return GatedPrefix(attention_width(attention), self.size)

    def behind(self, module: nn.Module) -> nn.Module:
        """A gated bottleneck as wide as the module's output."""
        return Bottleneck(module.out_features, self.size, gated=True)


def register(config: type[PartConfig]) -> None:
    """Tell peft of a method, as its `register_peft_method` does.

    That function takes only names of the enumeration PeftType, which nobody else can add to; the
    tables that it fills are open, and a plain string serves in them: the members of PeftType are
    strings, too.
    """
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[config.name] = config
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[config.name] = Tuner
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[config.name] = Tuner.prefix


CONFIGS = {"adapter": AdapterConfig, "prefix": PrefixConfig, "unipelt": UniPELTConfig}
for config in CONFIGS.values():
    register(config)
