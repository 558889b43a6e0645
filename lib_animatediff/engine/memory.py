"""Detect that memory ran out, and free cached memory."""

from __future__ import annotations

import torch

_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory")  # of CUDA and MPS, the CPU, Windows' CPU


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out. MPS and the CPU have no exception type for it."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def empty_cache(device: torch.device) -> None:
    """Free the memory that torch caches, which is fragmented after an error."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
