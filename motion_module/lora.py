"""Motion LoRA: a small change of a motion module's attention layers, such as a camera movement.

``W + strength * scale * up @ down`` (arXiv 2307.04725, section 4.3). Four spellings of the names are about: official,
flattened for the WebUI, and two of diffusers; one pattern knows them all. Spatial weights in such a file are for the
base model and stay unused here.
"""

from __future__ import annotations

import copy
import logging
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .errors import IncompatibleModelError, MotionFileError
from .files import read_tensors
from .network import MotionModule

_log = logging.getLogger(__name__)

_NAME = re.compile(
    r"(?:.*[._])?(?P<path>down_blocks|mid_block|up_blocks)[._](?:(?P<level>\d+)[._])?"
    r"motion_modules[._](?P<site>\d+)[._](?:temporal_transformer[._])?"
    r"transformer_blocks[._](?P<block>\d+)[._](?:attention_blocks[._](?P<from_0>\d+)|attn(?P<from_1>\d+))[._]"
    r"(?:processor[._])?to_(?P<layer>q|k|v|out)(?:[._]0)?[._]?"
    r"(?P<part>(?:lora[._])?(?:down|up)\.weight|lora[._][AB](?:\.default)?\.weight|alpha)"
)
_PARTS = {"down": "down", "up": "up", "A": "down", "B": "up", "alpha": "alpha"}


@dataclass(frozen=True)
class LowRank:
    """The change of one weight.

    Attributes:
        down: ``r c``.
        up: ``c r``.
        scale: alpha over rank where the file has an alpha; 1 otherwise, as in official files.
    """

    down: Tensor
    up: Tensor
    scale: float

    def change(self) -> Tensor:
        """What is added to the weight at strength 1, ``c c`` float32."""
        return self.scale * (self.up.float() @ self.down.float())


@dataclass(frozen=True)
class MotionLora:
    """What a file holds.

    Attributes:
        name: the file's, for messages.
        changes: by the official name of the weight that each one changes.
    """

    name: str
    changes: Mapping[str, LowRank]


def load_motion_lora(path: str | Path) -> MotionLora:
    """Load a motion LoRA in any of the known spellings (safetensors or a pickled checkpoint).

    Raises:
        MotionFileError: the file is broken or holds no motion LoRA.
    """
    path = Path(path)
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in read_tensors(path).items():
        match = _NAME.fullmatch(key)
        if match:
            parts[_official_name(match)][_part(match)] = tensor.clone()
    if not parts:
        raise MotionFileError(f"{path.name}: no motion LoRA. Choose a file such as v2_lora_PanLeft.ckpt.")
    return MotionLora(path.name, {name: _low_rank(path.name, name, found) for name, found in parts.items()})


def apply_motion_lora(motion: MotionModule, lora: MotionLora, strength: float = 1.0) -> MotionModule:
    """A copy of a motion module with the LoRA merged in; the module itself is untouched.

    Sites that the module lacks are passed over: a LoRA made for v2 has one more than a v3 module. How many weights
    matched is logged. Apply again for a second LoRA: changes add up.

    Args:
        motion: what to change.
        lora: how.
        strength: 0 gives an equal copy, 1 the LoRA as trained, less than 0 the opposite movement.

    Raises:
        IncompatibleModelError: nothing matches, or a weight is of another size.
    """
    merged = copy.deepcopy(motion)
    weights = dict(merged.named_parameters())
    matching = {name: change for name, change in lora.changes.items() if name in weights}
    _check(motion, lora, weights, matching)
    _log.info("%s: %d of its %d weights match %s.", lora.name, len(matching), len(lora.changes), motion.name)
    if strength:
        with torch.no_grad():
            for name, low_rank in matching.items():
                weight = weights[name]
                change = strength * low_rank.change().to(weight.device)
                weight.copy_((weight.float() + change).to(weight.dtype))
    merged.name = f"{motion.name} with {lora.name}"
    return merged


def _check(
    motion: MotionModule, lora: MotionLora, weights: Mapping[str, Tensor], matching: Mapping[str, LowRank]
) -> None:
    if not matching:
        raise IncompatibleModelError(
            f"None of the {len(lora.changes)} weights of {lora.name} belongs to {motion.name}. "
            "Use a motion LoRA made for this base model."
        )
    for name, change in matching.items():
        shape = (change.up.shape[0], change.down.shape[1])
        if shape != tuple(weights[name].shape):
            raise IncompatibleModelError(
                f"{lora.name} is made for a motion module of other widths: {name} is {tuple(weights[name].shape)} in "
                f"{motion.name}, {shape} in the LoRA. Use one made for this base model."
            )


def _official_name(match: re.Match[str]) -> str:
    block = match["path"] if match["level"] is None else f"{match['path']}.{match['level']}"
    attention = int(match["from_0"]) if match["from_0"] else int(match["from_1"]) - 1
    layer = "to_out.0" if match["layer"] == "out" else f"to_{match['layer']}"
    return (
        f"{block}.motion_modules.{match['site']}.temporal_transformer.transformer_blocks.{match['block']}"
        f".attention_blocks.{attention}.{layer}.weight"
    )


def _part(match: re.Match[str]) -> str:
    return next(part for word in re.split(r"[._]", match["part"]) if (part := _PARTS.get(word)))


def _low_rank(file: str, name: str, found: Mapping[str, Tensor]) -> LowRank:
    down, up, alpha = (found.get(part) for part in ("down", "up", "alpha"))
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or len(down) != up.shape[1]:
        raise MotionFileError(f"{file}: the LoRA for {name} is not whole. Download it again.")
    if alpha is not None and alpha.numel() != 1:
        raise MotionFileError(f"{file}: the alpha for {name} is not one number. Download it again.")
    scale = 1.0 if alpha is None else float(alpha.float()) / len(down)
    return LowRank(down, up, scale)
