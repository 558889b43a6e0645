"""Low-rank changes of weights (LoRA) in files: how programs name their parts, and what they add to a weight.

A LoRA of one layer is two small matrices and sometimes an ``alpha``. Trainers agree on that and on nothing else: the
layer's name is spelled with dots or underscores, the matrices are called down and up or A and B.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from motion_module.errors import MotionFileError
from motion_module.files.weights import read_tensors

# Fragments of patterns for names, which end in PART. Numbers are short: a stranger's could be of any length.
NUMBER = r"\d{1,4}"
LEVEL = rf"(?:.*[._])?(?P<path>down_blocks|mid_block|up_blocks)[._](?:(?P<level>{NUMBER})[._])?"
PART = (
    r"[._]?(?P<part>(?:lora[._])?(?:linear_layer\.)?(?:down|up)\.weight|lora[._][AB](?:\.\w+)?\.weight"
    r"|(?:lora[._])?alpha)"
)
_PARTS = {"A": "down", "B": "up", "down": "down", "up": "up", "alpha": "alpha"}
_MATRIX = re.compile(r"lora[._](?:linear_layer\.)?(?:down|A)(?:\.\w+)?\.weight$")  # one for each layer
# What other programs of the kind (LyCORIS) write instead of the two matrices, or beside them.
_UNSUPPORTED = re.compile(r"\.(?:hada_\w+|lokr_\w+|oft_\w+|lora_mid(?:\.weight)?|dora_scale|diff(?:_b)?)$")


@dataclass(frozen=True)
class LowRank:
    """The change of one weight.

    Attributes:
        down: ``r c``.
        up: ``d r``.
        scale: alpha over rank where the file has an alpha; 1 otherwise, as in official files.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight that it changes, ``d c``."""
        return self.up.shape[0], self.down.shape[1]

    def delta_weight(self) -> Tensor:
        """What is added to the weight at strength 1, ``d c`` float32."""
        return self.scale * (self.up.float() @ self.down.float())


def block_name(match: re.Match[str]) -> str:
    """The official name of the UNet block that a name which begins as LEVEL does lies in."""
    return match["path"] if match["level"] is None else f"{match['path']}.{match['level']}"


def part_of(match: re.Match[str]) -> str:
    """What a name that ends as PART does holds: ``"down"``, ``"up"`` or ``"alpha"``."""
    return next(part for word in re.split(r"[._]", match["part"]) if (part := _PARTS.get(word)))


def count_layers(names: Iterable[str]) -> int:
    """How many layers have a LoRA of any kind among these names."""
    return sum(1 for name in names if _MATRIX.search(name))


def reject_unsupported_lora_types(file: str, names: Iterable[str]) -> None:
    """Whether all of these names are those of a plain LoRA.

    Raises:
        MotionFileError: a layer is changed in another way, which would be left out without a word.
    """
    other = next(filter(_UNSUPPORTED.search, names), None)
    if other is not None:
        raise MotionFileError(
            f"{file}: holds changes that are no plain LoRA ({other.rpartition('.')[2]}: LoHa, LoKr, DoRA or another "
            "kind of LyCORIS), which are not run. Use the file as a plain LoRA, if there is one."
        )


def read_low_ranks(path: Path, places: Mapping[str, tuple[str, str]]) -> dict[str, LowRank]:
    """Low-rank changes by the layer or weight that each one changes, on the CPU in the file's dtype.

    Args:
        path: the file.
        places: for each of the file's names, the layer and the part (``"down"``, ``"up"``, ``"alpha"``).

    Raises:
        MotionFileError: the file is broken, or a LoRA in it is not whole or there twice.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in read_tensors(path, places).items():
        layer, part = places[name]
        if part in parts[layer]:
            raise MotionFileError(f"{path.name}: holds the LoRA for {layer} twice. Download it again.")
        parts[layer][part] = tensor.clone()
    return {layer: _low_rank(path.name, layer, found) for layer, found in parts.items()}


def _low_rank(file: str, layer: str, found: Mapping[str, Tensor]) -> LowRank:
    down, up, alpha = (_flat(found.get(part)) for part in ("down", "up", "alpha"))
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or len(down) != up.shape[1] or not len(down):
        raise MotionFileError(f"{file}: the LoRA for {layer} is not whole. Download it again.")
    if alpha is not None and (alpha.numel() != 1 or not alpha.isfinite().all()):
        raise MotionFileError(f"{file}: the alpha for {layer} is not one number. Download it again.")
    scale = 1.0 if alpha is None else float(alpha.float()) / len(down)
    return LowRank(down, up, scale)


def _flat(tensor: Tensor | None) -> Tensor | None:
    """A matrix that a trainer wrote as a convolution of 1 x 1, as a matrix."""
    if tensor is None or tensor.dim() <= 2 or tensor.shape[2:] != torch.Size([1] * (tensor.dim() - 2)):
        return tensor
    return tensor.reshape(tensor.shape[:2])
