"""The device and the processors that are there, so that no module assumes them."""

import os

import torch

BF16 = (8, 0)  # the capability from which CUDA has bf16 in hardware
LARGE = 50_000_000  # parameters of a network that is too much for a CPU to tune

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


def precision(chosen: str = "auto") -> str:
    """What "auto" means on the device: float32 on a CPU and on MPS, bf16 on CUDA, and fp16 on a GPU
    of capability below 8.0, which has no bf16; else what was chosen.
    """
    if chosen != "auto":
        return chosen
    here = device()
    if here.type != "cuda":
        return "float32"
    return "bf16" if torch.cuda.get_device_capability(here) >= BF16 else "fp16"


def announce(chosen: str, parameters: int, compiled: bool = False) -> None:
    """Print what a run should be told of the device before its first step.

    chosen: precision; parameters: of the network; compiled: whether that step compiles it.
    """
    if device().type == "cpu" and parameters > LARGE:
        print(
            f"This network of {parameters / 1e6:.0f} M parameters is tuned on the CPU: such "
            "networks are tuned on a GPU, which is many times faster."
        )
    if chosen == "auto" and precision() == "fp16":
        major, minor = torch.cuda.get_device_capability(device())
        print(f"precision: fp16, for a GPU of capability {major}.{minor} has no bf16")
    if compiled:
        long = "a minute or two" if device().type == "cpu" else "up to a minute"
        print(
            f"The first step compiles the towers, {long} without progress; it pays in long runs, "
            "and --set compiled=off leaves it out.",
            flush=True,
        )


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
