"""Detects motion LoRAs and domain adapters, which the WebUI's own loader does not support, from their headers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from motion_module import MotionFileError
from motion_module.files.weights import read_header
from motion_module.lora.domain_adapter import holds_domain_adapter
from motion_module.lora.motion_lora import holds_motion_lora

MOTION, ADAPTER = "motion LoRA", "domain adapter"
_ALIAS_KEY = "ss_output_name"  # in a trainer's metadata; the WebUI also finds LoRAs by this name


@dataclass(frozen=True)
class LoraFile:
    """The type of a LoRA file.

    Attributes:
        kind: MOTION, ADAPTER, or empty for any other file.
        alias: another name of the file in the WebUI; empty if none.
    """

    kind: str = ""
    alias: str = ""


def lora_file(path: Path) -> LoraFile:
    """The type of a file; empty if it is damaged or was just deleted."""
    try:
        stat = path.stat()
    except OSError:
        return LoraFile()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16384)
def _read(path: Path, _changed: int, _size: int) -> LoraFile:
    """Cached, since reading the headers of a large folder for every request would be slow."""
    try:
        header = read_header(path)
    except MotionFileError:
        return LoraFile()
    kinds = ((MOTION, holds_motion_lora), (ADAPTER, holds_domain_adapter))
    kind = next((kind for kind, is_it in kinds if is_it(header.tensors)), "")
    return LoraFile(kind, header.metadata.get(_ALIAS_KEY, ""))
