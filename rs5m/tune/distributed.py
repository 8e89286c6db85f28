"""Several processes under torchrun as one: who am I, gathered vectors, summed gradients. Chapter:
tune.
"""

import os
from collections.abc import Iterable

import torch
from torch import distributed


def start_processes() -> None:
    """Join the group that torchrun announces in the environment: nccl on GPUs, gloo on CPUs; alone,
    do nothing.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """This process's number; 0 when it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gather(vectors: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, (n, dim) to (sum of n, dim); a gradient flows to this process's
    rows only.

    Shares may differ in length: a damaged pair is missing from one of them.
    """
    if world() == 1:
        return vectors
    counts = [torch.zeros(1, dtype=torch.long, device=vectors.device) for _ in range(world())]
    distributed.all_gather(counts, torch.tensor([len(vectors)], device=vectors.device))
    longest = int(max(counts))
    padded = vectors.new_zeros(longest, vectors.shape[1])
    padded[: len(vectors)] = vectors.detach()
    parts = [torch.empty_like(padded) for _ in range(world())]
    distributed.all_gather(parts, padded)
    parts = [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
    parts[rank()] = vectors
    return torch.cat(parts)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its sum over the processes, in one message.

    DistributedDataParallel would average during the backward pass; with gradient caching there are
    several passes to a step, and the loss already spans all processes, so one plain sum at the end
    is the exact gradient.
    """
    if world() == 1:
        return
    held = list(parameters)
    for p in held:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.reshape(-1) for p in held])
    distributed.all_reduce(flat)
    for p, part in zip(held, flat.split([p.numel() for p in held]), strict=True):
        p.grad.copy_(part.view_as(p))


def agree(value: int, what: str) -> None:
    """ValueError where the processes do not hold the same value."""
    if world() == 1:
        return
    on = "cuda" if torch.cuda.is_available() else "cpu"
    values = [torch.zeros(1, dtype=torch.long, device=on) for _ in range(world())]
    distributed.all_gather(values, torch.tensor([value], device=on))
    if len({int(v) for v in values}) > 1:
        raise ValueError(
            f"the processes do not agree on {what}: they have {[int(v) for v in values]}"
        )
