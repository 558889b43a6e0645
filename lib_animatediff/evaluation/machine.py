"""Versions and hardware, on which frames and times depend."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from lib_animatediff import __version__

_LIBRARIES = ("torch", "diffusers", "transformers", "opencv-python-headless")


def versions() -> str:
    """Versions of this program and of the libraries that render and measure."""
    return ", ".join([f"animatediff {__version__}", *map(_versioned, _LIBRARIES)])


def _versioned(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except ImportError:  # opencv comes under several names
        return f"{library} unknown"


def machine_of(device: str) -> str:
    """Short description of the hardware."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads, {platform.system()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
