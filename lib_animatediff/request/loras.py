"""The text that names motion LoRAs and domain adapters: ``name:0.8, other``, or tags as in a prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_animatediff.prompts.tags import LORA_TAG, replace_tags
from motion_module import ClipError

_SEPARATOR = re.compile(r"[,\n]")


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file with its strength; 1 is as trained."""

    path: Path
    strength: float = 1.0


@dataclass(frozen=True)
class NamedLora:
    """A motion LoRA or domain adapter by its name, with its strength; 1 is as trained."""

    name: str
    strength: float = 1.0


def parse_loras(text: str) -> tuple[NamedLora, ...]:
    """Names with strengths; 1 where there is no strength.

    Raises:
        ClipError: an item is not understood.
    """
    items = _SEPARATOR.split(replace_tags(text, r",\1,", LORA_TAG))
    return tuple(lora_of(item.strip().split(":"), item.strip()) for item in items if item.strip())


def lora_of(items: Sequence[str], written: str) -> NamedLora:
    """Name and strength from the items of a tag, with the UNet's strength where the WebUI's own tags have it.

    Args:
        items: of the tag, split at colons.
        written: the whole tag, for the message.

    Raises:
        ClipError: the strength is not a finite number, or there is no name.
    """
    positional = [item.strip() for item in items if "=" not in item]
    by_name = dict(item.split("=", 1) for item in items if "=" in item)
    text_encoder = by_name.get("te", positional[1] if len(positional) > 1 else "1")
    strength = by_name.get("unet", positional[2] if len(positional) > 2 else text_encoder)
    try:
        number = float(strength)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not positional or not positional[0]:
        raise ClipError(
            f"{written!r} is not a motion LoRA with a strength. Write a name and a strength, such as PanLeft:0.8.",
            code="AD-C32",
        )
    return NamedLora(positional[0], number)
