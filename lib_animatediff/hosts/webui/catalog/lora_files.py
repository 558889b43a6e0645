"""Which files are motion LoRAs or domain adapters, by their headers: files that the WebUI's loader has no use for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from motion_module import MotionFileError
from motion_module.files.weights import read_header
from motion_module.lora.domain_adapter import holds_domain_adapter
from motion_module.lora.motion_lora import holds_motion_lora

MOTION, ADAPTER = "motion LoRA", "domain adapter"
_ALIAS_KEY = "ss_output_name"  # in the metadata of a trainer, under which the WebUI finds a LoRA, too


@dataclass(frozen=True)
class LoraFile:
    """What a file is.

    Attributes:
        kind: MOTION, ADAPTER, or empty for anything else.
        alias: another name that it has for the WebUI; empty if none.
    """

    kind: str = ""
    alias: str = ""


def lora_file(path: Path) -> LoraFile:
    """What a file is; nothing of ours if it is broken or has just gone."""
    try:
        stat = path.stat()
    except OSError:
        return LoraFile()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16384)
def _read(path: Path, _changed: int, _size: int) -> LoraFile:
    """Reading even the headers of a large folder at every request would take its time."""
    try:
        header = read_header(path)
    except MotionFileError:
        return LoraFile()
    kinds = ((MOTION, holds_motion_lora), (ADAPTER, holds_domain_adapter))
    kind = next((kind for kind, is_it in kinds if is_it(header.tensors)), "")
    return LoraFile(kind, header.metadata.get(_ALIAS_KEY, ""))
