"""What a step of tuning takes of a device's memory, counted before it is taken, and the largest
chunk that fits. Chapter: tune.

The network's graph is followed without its numbers (torch's FakeTensorMode), so that counting takes
seconds and no memory on any machine, whatever the network. `bench/memory.py` holds it against
measured steps.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rs5m import adapters
from rs5m.clip import Model, open_clip
from rs5m.device import device
from rs5m.tune.loop import autocast
from rs5m.tune.schedule import Settings

SHARE = 0.85  # of a device's memory: the rest is its context and fragments
PEAK = 1.7  # of what the graph keeps, with what backward adds for a moment: LoRA in bench/memory.py


class Need(NamedTuple):
    """Bytes of a step.

    standing: weights, their gradients and AdamW's moments; cast: weights in the precision of the
    step; pair: what the graph keeps of a pair of the chunk; waiting: of a pair of the batch.
    """

    standing: int
    cast: int
    pair: int
    waiting: int

    def step(self, batch: int, chunk: int = 0) -> int:
        """Bytes of a step in all; chunk 0: the batch undivided."""
        return self.standing + self.cast + batch * self.waiting + (chunk or batch) * self.pair

    def chunk(self, batch: int, memory: int) -> int:
        """The largest chunk that `memory` bytes hold; 0: the batch undivided. ValueError where they
        do not hold a single pair.
        """
        rest, peak = self.standing + self.cast + batch * self.waiting, PEAK * self.pair
        free = SHARE * memory - rest
        if free < peak:
            least = (rest + peak) / SHARE / 2**30
            raise ValueError(
                f"a batch of {batch} needs {least:.1f} GiB even a pair at a time, the device has "
                f"{memory / 2**30:.1f}: make the batch smaller, or tune adapters (method lora)"
            )
        fits = int(free // peak)
        return 0 if fits >= batch else fits


def need(model: Model, settings: Settings, context: int = 0) -> Need:
    """Of a network, its numbers unread: on the CPU, on a GPU or on torch's meta device.

    context: tokens of a text, 0: as many as the tower reads; CLIP's leave out what no text of a
    chunk reaches.
    """
    context = context or getattr(model.net, "context_length", 77)
    plain = _copy(model.net, "meta")
    adapters.prepare(plain, settings.method, settings.size, settings.towers())
    size, tower = (model.image_size,) * 2, settings.precision
    with FakeTensorMode():
        net = _copy(plain, device().type).eval()
        _shorten(net, context)
        one, three = (_saved(net, count, size, context, tower) for count in (1, 3))
    pair = (three - one) // 2
    tensors = [*plain.parameters(), *plain.buffers()]
    trained = sum(p.numel() for p in plain.parameters() if p.requires_grad)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    width = plain.text_projection.shape[-1] if hasattr(plain, "text_projection") else 1024
    waiting = 3 * size[0] * size[1] + 2 * 2 * 4 * width  # pixels; both features and gradients
    return Need(weights + 3 * 4 * trained, one - pair, pair, waiting)


def of_device() -> int | None:
    """The bytes of the GPU that is there; None on a CPU, whose memory others share."""
    if device().type != "cuda":
        return None
    return torch.cuda.get_device_properties(device()).total_memory


def _copy(net: nn.Module, on: str) -> nn.Module:
    """The network with tensors on another device in place of its own, their numbers left behind."""
    known = {}
    for tensor in (*net.parameters(), *net.buffers()):
        made = torch.empty(tensor.shape, dtype=tensor.dtype, device=on)
        if isinstance(tensor, nn.Parameter):
            made = nn.Parameter(made, tensor.requires_grad)
        known[id(tensor)] = made
    return copy.deepcopy(net, known)


def _shorten(net: nn.Module, context: int) -> None:
    """Let CLIP's text tower read texts of that many tokens, as `rs5m.clip.text_vectors` does."""
    if isinstance(net, open_clip.CLIP) and net.attn_mask is not None:
        net.positional_embedding = nn.Parameter(net.positional_embedding[:context])
        net.attn_mask = net.attn_mask[:context, :context]


def _saved(net: nn.Module, count: int, size: tuple, context: int, precision: str) -> int:
    """Bytes that the graph of both features keeps beside the network's own tensors."""
    own = {t.untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
    held = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            held[storage._cdata] = storage  # held on to: an address is not used twice
        return tensor

    on = device().type
    pixels = torch.zeros(count, 3, *size, device=on)
    tokens = torch.ones(count, context, dtype=torch.long, device=on)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, autocast(precision):
        # not clip.text_vectors, which asks where texts end
        features = net.encode_image(pixels).float(), net.encode_text(tokens).float()
        kept = [nn.functional.normalize(vectors, dim=-1) for vectors in features]
    del kept
    return sum(storage.nbytes() for storage in held.values())
