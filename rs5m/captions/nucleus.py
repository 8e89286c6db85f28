"""Nucleus sampling whose random numbers depend on the image alone. Chapter: captions."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from rs5m.captions.candidates import Images
from rs5m.clip import openclip  # noqa: F401  (before transformers, which imports torchvision)
from rs5m.device import device

TOP_P, TOP_K, LONGEST = 0.95, 50, 50  # official inference code; LONGEST in tokens


def image_seeds(images: Images, seed: int = 0) -> list[int]:
    """A seed for each image from its pixels, so neither its position, its batch nor a resumed run
    changes its text.
    """
    heads = (f"{seed} {image.shape} ".encode() for image in images)
    pairs = zip(heads, images, strict=True)
    digests = (hashlib.sha256(head + image.tobytes()).digest() for head, image in pairs)
    return [int.from_bytes(digest[:8], "big") for digest in digests]


class Nucleus:
    """Sampling from random numbers drawn in advance: a logits processor that leaves one token for
    each sequence.

    transformers draws from one global stream, so a sequence's numbers depend on its batch. Here
    each image has a stream of its own, drawn on the CPU: the same on every device, and for the
    first candidates however many are asked for. top_k and top_p are the library's. What is left to
    chance is rounding: another batch size or device, above all in half precision, may turn a draw
    at the very border between two tokens, and with it the rest of that candidate.
    """

    def __init__(
        self, seeds: Sequence[int], n: int, steps: int, top_k: int = TOP_K, top_p: float = TOP_P
    ):
        from transformers import TopKLogitsWarper, TopPLogitsWarper

        self.warpers = [TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)]
        drawn = [np.random.default_rng(seed).random((n, steps), np.float32) for seed in seeds]
        self.draws = torch.from_numpy(np.concatenate(drawn)).to(device())  # (sequences, steps)
        self.step = 0

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for warper in self.warpers:
            scores = warper(tokens, scores)
        cumulative = scores.softmax(-1).cumsum(-1)
        target = self.draws[:, self.step, None] * cumulative[:, -1:]  # the sum is not quite one
        # the first that exceeds it has a probability above zero
        chosen = (cumulative <= target).sum(-1, keepdim=True).clamp_(max=scores.shape[1] - 1)
        self.step = min(self.step + 1, self.draws.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def sampling(
    seeds: Sequence[int],
    n: int,
    steps: int,
    end: int,
    padding: int,
    top_k: int = TOP_K,
    never: Sequence[int] = (),
) -> dict:
    """Keywords for transformers' `generate`: n sequences a prompt, `steps` new tokens at most,
    drawn by `Nucleus`.

    The library's multinomial draw then has one token to choose from.

    Args:
        seeds: one for each prompt.
        end, padding: token ids.
        top_k: 1 is greedy.
        never: token ids that are not drawn.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    config = GenerationConfig(
        do_sample=True,
        top_k=0,
        top_p=1.0,
        temperature=1.0,
        num_beams=1,
        num_return_sequences=n,
        use_cache=True,
        max_new_tokens=steps,
        eos_token_id=end,
        pad_token_id=padding,
        suppress_tokens=list(never) or None,
    )
    return {
        "generation_config": config,
        "logits_processor": LogitsProcessorList([Nucleus(seeds, n, steps, top_k)]),
    }
