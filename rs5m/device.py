"""The device and the processors that are there, so that no module assumes them."""

import os

import torch

_chosen: torch.device | None = None


def choose(name: str) -> None:
    """Make `device` give the one named, such as cpu or cuda:1, and "" what is there; ValueError for
    one that is not.
    """
    global _chosen
    try:
        _chosen = torch.device(name) if name else None
        torch.empty(1, device=_chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        _chosen = None
        reason = str(error).strip().splitlines()[0][:100]
        raise ValueError(
            f"--device {name} is not available here ({reason}): leave it out to use {device()}"
        ) from error


def device() -> torch.device:
    """The device that `choose` named, else the one that is there: CUDA, Apple's MPS, or the CPU."""
    if _chosen is not None:
        return _chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
