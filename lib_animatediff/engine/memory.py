"""What is to be done when memory runs out."""

from __future__ import annotations

import torch

_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory")  # of CUDA and MPS, the CPU, Windows' CPU


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left. MPS and the CPU have no exception of their own."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def empty_cache(device: torch.device) -> None:
    """Let go what torch keeps for the next tensor: after an error it lies in pieces."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
