"""Motion LoRA: a small change of a motion module's layers, such as a camera movement.

``W + strength * scale * up @ down`` (arXiv 2307.04725, section 4.3). Many spellings of the names are about: official,
flattened for the WebUI or by kohya's trainer, diffusers' of several ages and PEFT's; one pattern knows them all.
Spatial weights in such a file, as MotionDirector writes them, are for the base model and stay unused here.
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
    """What a file holds.

    Attributes:
        name: the file's, for messages.
        deltas: by the official name of the weight that each one changes.
        spatial: how many layers of the base model it holds a LoRA for, which stays unused.
    """

    name: str
    deltas: Mapping[str, LowRank]
    spatial: int = 0


@dataclass(frozen=True)
class LoraMatch:
    """How much of a motion LoRA has a place in a motion module; as text, one line about it.

    Attributes:
        lora: the file's name.
        motion: the motion module's.
        kind: the motion module's.
        matched: how many weights of the module the LoRA changes.
        total: how many weights it was made for.
        missing_mid: how many of them are in the middle block, which the module lacks.
        spatial_ignored: how many layers of the base model it holds a LoRA for, which stays unused.
    """

    lora: str
    motion: str
    kind: str
    matched: int
    total: int
    missing_mid: int
    spatial_ignored: int

    def __str__(self) -> str:
        said = [f"{self.lora}: {self.matched} of its {self.total} weights match {self.motion}"]
        if self.missing_mid:
            said.append(
                f"{self.missing_mid} belong to the middle block, which this motion module ({self.kind}) lacks: "
                "the LoRA was made for v2 and may do little"
            )
        missing = self.total - self.matched - self.missing_mid
        if missing:
            said.append(f"{missing} have no place in it: the LoRA was made for another motion module")
        if self.spatial_ignored:
            said.append(f"it changes {self.spatial_ignored} layers of the checkpoint, too, which are left as they are")
        return f"{'; '.join(said)}."


def holds_motion_lora(names: Iterable[str]) -> bool:
    """Whether these are the names of a file with a motion LoRA."""
    return any(map(_NAME.fullmatch, names))


def load_motion_lora(path: str | Path) -> MotionLora:
    """Load a motion LoRA in any of the known spellings (safetensors or a pickled checkpoint).

    Raises:
        MotionFileError: the file is broken or holds no motion LoRA.
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
    """How much of a motion LoRA has a place in a motion module.

    Raises:
        IncompatibleModelError: nothing has, or a weight is of another size.
    """
    weights = dict(motion.named_parameters())
    matching = {name: change for name, change in lora.deltas.items() if name in weights}
    _check(motion, lora, weights, matching)
    missing_mid = sum(name.startswith(_MID) for name in lora.deltas) if motion.mid_block is None else 0
    return LoraMatch(lora.name, motion.name, motion.kind, len(matching), len(lora.deltas), missing_mid, lora.spatial)


def apply_motion_lora(motion: MotionModule, lora: MotionLora, strength: float = 1.0) -> MotionModule:
    """A copy of a motion module with the LoRA merged in; the module itself is untouched. See `apply_motion_loras`.

    Args:
        motion: what to change.
        lora: how.
        strength: 0 gives an equal copy, 1 the LoRA as trained, less than 0 the opposite movement.
    """
    return apply_motion_loras(motion, [(lora, strength)])


def apply_motion_loras(motion: MotionModule, loras: Sequence[tuple[MotionLora, float]]) -> MotionModule:
    """A copy of a motion module with LoRAs merged in, each with its strength; the module itself is untouched.

    Sites that the module lacks are passed over: a LoRA made for v2 has one more than a v3 module. How many weights
    matched is logged, see `match_report`. Changes add up in float32 and are rounded once.

    Raises:
        IncompatibleModelError: nothing of a LoRA matches, or a weight is of another size.
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
            f"None of the {len(lora.deltas)} weights of {lora.name} belongs to {motion.name}. "
            "Use a motion LoRA made for this base model."
        )
    for name, change in matching.items():
        if change.shape != tuple(weights[name].shape):
            raise IncompatibleModelError(
                f"{lora.name} is made for a motion module of other widths: {name} is {tuple(weights[name].shape)} in "
                f"{motion.name}, {change.shape} in the LoRA. Use one made for this base model."
            )


def _no_motion_lora(path: Path, spatial: int) -> MotionFileError:
    if spatial:
        return MotionFileError(
            f"{path.name}: an image LoRA, no motion LoRA. Use it in the prompt as any LoRA: <lora:{path.stem}:1>.",
            what="an image LoRA",
        )
    return MotionFileError(f"{path.name}: no motion LoRA. Choose a file such as v2_lora_PanLeft.ckpt.")


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
