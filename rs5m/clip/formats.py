"""Known formats of checkpoints by the names that they hold. Chapter: clip."""

from collections.abc import Mapping

import torch

TEXT = ("token_embedding.weight", "positional_embedding", "ln_final.weight")
SHARED = ("logit_scale", "transformer.resblocks.0.attn.in_proj_weight", "text_projection", *TEXT)
TEXTS = tuple(f"text.{name}" for name in TEXT)
FORMATS = {  # names that a checkpoint of each kind has
    "OpenAI's CLIP with a transformer": ("visual.conv1.weight", "visual.proj", *SHARED),
    "OpenAI's CLIP with a ResNet": ("visual.attnpool.c_proj.weight", *SHARED),
    "open_clip's CLIP with a text tower of its own": ("visual.conv1.weight", *TEXTS),
    "open_clip's CLIP with a trunk of timm": ("visual.trunk.norm.weight", *TEXT),
    "open_clip's SigLIP": ("visual.trunk.attn_pool.latent", "logit_bias", *TEXTS),
    "open_clip's CLIP with a sentence encoder": (
        "visual.conv1.weight",
        "text.transformer.embeddings.word_embeddings.weight",
        "text.proj.0.weight",
    ),
}
SHOWN = 3  # tensors that a message names of each kind


def first(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def nearest(tensors: Mapping[str, torch.Tensor]) -> str:
    """The known format whose names a checkpoint has most of, where it has not all of any."""
    missing = {
        how: [name for name in names if name not in tensors] for how, names in FORMATS.items()
    }
    how = min(missing, key=lambda how: len(missing[how]) / len(FORMATS[how]))
    if not missing[how]:
        return ""
    if len(missing[how]) == len(FORMATS[how]):
        return f"Its names, such as {first(list(tensors))}, are those of no known format. "
    return f"Its names come nearest to those of {how}, of which it lacks {first(missing[how])}. "
