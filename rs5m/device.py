"""The device that is there: one function, so that no module assumes one."""

import torch


def device() -> torch.device:
    """The device that is there: CUDA, Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
