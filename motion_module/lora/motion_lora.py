"""Motion LoRA: a low-rank update of a motion module, such as a camera movement.

The updated weight is ``W + strength * scale * up @ down`` (arXiv 2307.04725, section 4.3). One pattern covers the key
formats in circulation: official, flattened for the WebUI or by kohya's trainer, several of diffusers, and PEFT. Spatial
weights in the same file, as MotionDirector writes them, belong to the base model and are ignored here.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from motion_module.errors import IncompatibleModelError, MotionFileError
from motion_module.files.weights import read_header
from motion_module.network import MotionModule

from .low_rank import (
    LEVEL,
    NUMBER,
    PART,
    LowRank,
    block_name,
    count_layers,
    part_of,
    read_low_ranks,
    reject_unsupported_lora_types,
)

_log = logging.getLogger(__name__)

_NAME = re.compile(
    rf"{LEVEL}(?:motion_modules|temporal_attentions)[._](?P<site>{NUMBER})[._](?:temporal_transformer[._])?(?:"
    rf"transformer_blocks[._](?P<block>{NUMBER})[._](?:"
    rf"(?:attention_blocks[._](?P<from_0>{NUMBER})|attn(?P<from_1>{NUMBER}))"
    r"[._](?:processor[._])?to_(?P<layer>q|k|v|out)(?:[._]0)?"
    r"|ff[._]net[._](?P<ff>0[._]proj|2))"
    rf"|(?P<proj>proj_in|proj_out)){PART}"
)
_MOTION = re.compile(r"(?:motion_modules|temporal_attentions)[._]\d")
_MID = "mid_block."


@dataclass(frozen=True)
class MotionLora:
    """The low-rank updates of a motion LoRA file.

    Attributes:
        name: file name, for messages.
        deltas: update by official weight name.
        spatial: number of base model layers with a LoRA in the file, which is ignored.
    """

    name: str
    deltas: Mapping[str, LowRank]
    spatial: int = 0


@dataclass(frozen=True)
class LoraMatch:
    """How many weights of a motion LoRA exist in a motion module; ``str()`` gives a report in one line.

    Attributes:
        lora: name of the LoRA.
        motion: name of the motion module.
        kind: kind of the motion module.
        matched: number of the module's weights that the LoRA updates.
        total: number of weights that the LoRA has updates for.
        missing_mid: how many of them are in the middle block, if the module has none.
        spatial_ignored: number of base model layers with a LoRA in the file, which is ignored.
    """

    lora: str
    motion: str
    kind: str
    matched: int
    total: int
    missing_mid: int
    spatial_ignored: int

    def __str__(self) -> str:
        parts = [f"{self.lora}: {self.matched} of its {self.total} weights match {self.motion}"]
        if self.missing_mid:
            parts.append(
                f"{self.missing_mid} belong to the middle block, which this motion module ({self.kind}) lacks: "
                "the LoRA was made for v2 and may have little effect"
            )
        missing = self.total - self.matched - self.missing_mid
        if missing:
            parts.append(f"{missing} without a counterpart: the LoRA was made for another motion module")
        if self.spatial_ignored:
            parts.append(f"checkpoint layers ignored: {self.spatial_ignored}")
        return f"{'; '.join(parts)}."


def holds_motion_lora(names: Iterable[str]) -> bool:
    """Whether these keys are those of a motion LoRA."""
    return any(map(_NAME.fullmatch, names))


def load_motion_lora(path: str | Path) -> MotionLora:
    """Load a motion LoRA in any known key format, from safetensors or a pickled checkpoint.

    Raises:
        MotionFileError: the file is damaged or is not a motion LoRA.
    """
    path = Path(path)
    names = read_header(path).tensors
    reject_unsupported_lora_types(path.name, filter(_MOTION.search, names))
    found = {name: match for name in names if (match := _NAME.fullmatch(name))}
    spatial = count_layers(name for name in names if not _MOTION.search(name))
    if not found:
        raise _no_motion_lora(path, spatial)
    places = {name: (_official_name(match), part_of(match)) for name, match in found.items()}
    return MotionLora(path.name, read_low_ranks(path, places), spatial)


def match_report(motion: MotionModule, lora: MotionLora) -> LoraMatch:
    """Compare the weights of a motion LoRA with those of a motion module.

    Raises:
        IncompatibleModelError: no weight matches, or a weight has another shape.
    """
    weights = dict(motion.named_parameters())
    matching = {name: change for name, change in lora.deltas.items() if name in weights}
    _check(motion, lora, weights, matching)
    missing_mid = sum(name.startswith(_MID) for name in lora.deltas) if motion.mid_block is None else 0
    return LoraMatch(lora.name, motion.name, motion.kind, len(matching), len(lora.deltas), missing_mid, lora.spatial)


def apply_motion_lora(motion: MotionModule, lora: MotionLora, strength: float = 1.0) -> MotionModule:
    """Copy a motion module and merge a LoRA into the copy. See `apply_motion_loras`.

    Args:
        motion: the motion module, which is not changed.
        lora: the LoRA.
        strength: 1 for the LoRA as trained, 0 for no effect; negative values reverse the movement.
    """
    return apply_motion_loras(motion, [(lora, strength)])


def apply_motion_loras(motion: MotionModule, loras: Sequence[tuple[MotionLora, float]]) -> MotionModule:
    """Copy a motion module and merge LoRAs with their strengths into the copy.

    Updates for sites that the module lacks are ignored: a LoRA for v2 has one site more than a v3 module. The number of
    matching weights is logged, see `match_report`. Updates are added in float32 and rounded once.

    Raises:
        IncompatibleModelError: no weight of a LoRA matches, or a weight has another shape.
    """
    for lora, _ in loras:
        _log.info("%s", match_report(motion, lora))
    merged = copy.deepcopy(motion)
    with torch.no_grad():
        for name, weight in merged.named_parameters():
            changes = [s * lora.deltas[name].delta_weight() for lora, s in loras if s and name in lora.deltas]
            if changes:
                change = torch.stack(changes).sum(0).to(weight.device)
                weight.copy_((weight.float() + change).to(weight.dtype))
    if loras:
        merged.name = f"{motion.name} with {', '.join(lora.name for lora, _ in loras)}"
    return merged


def _check(
    motion: MotionModule, lora: MotionLora, weights: Mapping[str, Tensor], matching: Mapping[str, LowRank]
) -> None:
    if not matching:
        raise IncompatibleModelError(
            f"None of the {len(lora.deltas)} weights in {lora.name} exists in {motion.name}. "
            "Use a motion LoRA made for this base model.",
            code="AD-N06",
        )
    for name, change in matching.items():
        if change.shape != tuple(weights[name].shape):
            raise IncompatibleModelError(
                f"{lora.name} was made for a motion module of another size: {name} has shape {change.shape} in the "
                f"LoRA, {tuple(weights[name].shape)} in {motion.name}. Use a motion LoRA made for this base model.",
                code="AD-N07",
            )


def _no_motion_lora(path: Path, spatial: int) -> MotionFileError:
    if spatial:
        return MotionFileError(
            f"{path.name} is an image LoRA, not a motion LoRA. Use it like any image LoRA.",
            what="an image LoRA",
            code="AD-N08",
        )
    return MotionFileError(
        f"{path.name} is not a motion LoRA. Choose a file such as v2_lora_PanLeft.ckpt.", code="AD-N09"
    )


def _official_name(match: re.Match[str]) -> str:
    transformer = f"{block_name(match)}.motion_modules.{match['site']}.temporal_transformer"
    if match["proj"]:
        return f"{transformer}.{match['proj']}.weight"
    block = f"{transformer}.transformer_blocks.{match['block']}"
    if match["ff"]:
        return f"{block}.ff.net.{match['ff'].replace('_', '.')}.weight"
    attention = int(match["from_0"]) if match["from_0"] else int(match["from_1"]) - 1
    layer = "to_out.0" if match["layer"] == "out" else f"to_{match['layer']}"
    return f"{block}.attention_blocks.{attention}.{layer}.weight"
