"""The network of `rs5m.captions.prefix`: a linear layer from an image's vector to the first tokens
of a small GPT-2. Chapter: captions.
"""

from dataclasses import dataclass

import torch
from torch import nn

END = 0  # the one special token: the end of a caption, and the padding after it


@dataclass(frozen=True)
class CaptionerSettings:
    """The captioner's size and its training. Words that occur fewer than `rare` times are not part
    of its language.
    """

    prefix: int = 4  # tokens that stand for the image
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    batch_size: int = 128
    epochs: int = 8
    rare: int = 5
    seed: int = 0


class Decoder(nn.Module):
    """Image vectors (n, dim), normalised and standardised, to a prefix (n, tokens, width) in front
    of GPT-2's words.
    """

    def __init__(self, dim: int, vocabulary: int, places: int, settings: CaptionerSettings):
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.bridge = nn.Linear(dim, settings.prefix * settings.width)
        drop = settings.dropout
        self.gpt = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                n_positions=settings.prefix + places,
                n_embd=settings.width,
                n_layer=settings.layers,
                n_head=settings.heads,
                resid_pdrop=drop,
                embd_pdrop=drop,
                attn_pdrop=drop,
                bos_token_id=END,
                # no padding id: transformers would warn of each END as of a mistake
                eos_token_id=END,
            )
        )
        # Tied by hand: transformers switches its own tying off, for the whole process, while any
        # model is being loaded.
        self.gpt.lm_head.weight = self.gpt.transformer.wte.weight

    def prefix(self, vectors: torch.Tensor) -> torch.Tensor:
        """The first tokens (n, prefix, width) of image vectors (n, dim)."""
        flat = self.bridge((nn.functional.normalize(vectors, dim=-1) - self.mean) / self.std)
        return flat.view(len(vectors), self.settings.prefix, self.settings.width)

    def forward(self, vectors: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The mean loss of a word. tokens (n, length): captions, END, then -100 where there is
        nothing to learn.
        """
        words = self.gpt.transformer.wte(tokens.clamp(min=END))  # (n, length, width)
        inputs = torch.cat([self.prefix(vectors), words], 1)
        logits = self.gpt(inputs_embeds=inputs).logits
        logits = logits[:, self.settings.prefix - 1 : -1]  # each place predicts the next
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
