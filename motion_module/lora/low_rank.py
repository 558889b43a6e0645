"""Low-rank updates of weights (LoRA): their keys in files, and the difference that they add to a weight.

The LoRA of a layer consists of two small matrices and sometimes an ``alpha``. Names differ between trainers: layers
are spelled with dots or underscores, the matrices are called down and up or A and B.
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
from motion_module.files.weights import are_weights, read_tensors

# Fragments of key patterns, which end with PART. Numbers are limited, because untrusted keys can be of any length.
NUMBER = r"\d{1,4}"
LEVEL = rf"(?:.*[._])?(?P<path>down_blocks|mid_block|up_blocks)[._](?:(?P<level>{NUMBER})[._])?"
PART = (
    r"[._]?(?P<part>(?:lora[._])?(?:linear_layer\.)?(?:down|up)\.weight|lora[._][AB](?:\.\w+)?\.weight"
    r"|(?:lora[._])?alpha)"
)
_PARTS = {"A": "down", "B": "up", "down": "down", "up": "up", "alpha": "alpha"}
_MATRIX = re.compile(r"lora[._](?:linear_layer\.)?(?:down|A)(?:\.\w+)?\.weight$")  # one per layer
# Parameters of other methods (LyCORIS), instead of the two matrices or in addition to them.
_UNSUPPORTED = re.compile(r"\.(?:hada_\w+|lokr_\w+|oft_\w+|lora_mid(?:\.weight)?|dora_scale|diff(?:_b)?)$")


@dataclass(frozen=True)
class LowRank:
    """Low-rank update of one weight.

    Attributes:
        down: ``r c``.
        up: ``d r``.
        scale: alpha divided by rank if the file has an alpha; otherwise 1, as in official files.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the updated weight, ``d c``."""
        return self.up.shape[0], self.down.shape[1]

    def delta_weight(self) -> Tensor:
        """Difference to add to the weight at strength 1: ``d c``, float32."""
        return self.scale * (self.up.float() @ self.down.float())


def block_name(match: re.Match[str]) -> str:
    """Official name of the UNet block in a key that matches LEVEL."""
    return match["path"] if match["level"] is None else f"{match['path']}.{match['level']}"


def part_of(match: re.Match[str]) -> str:
    """Part in a key that matches PART: ``"down"``, ``"up"`` or ``"alpha"``."""
    return next(part for word in re.split(r"[._]", match["part"]) if (part := _PARTS.get(word)))


def count_layers(names: Iterable[str]) -> int:
    """Number of layers with a LoRA among these keys."""
    return sum(1 for name in names if _MATRIX.search(name))


def reject_unsupported_lora_types(file: str, names: Iterable[str]) -> None:
    """Check that all keys are those of a plain LoRA.

    Raises:
        MotionFileError: a layer uses another method, which would be ignored silently.
    """
    other = next(filter(_UNSUPPORTED.search, names), None)
    if other is not None:
        raise MotionFileError(
            f"{file} contains weights of an unsupported method ({other.rpartition('.')[2]}: LoHa, LoKr, DoRA or "
            "another LyCORIS type). Use a plain LoRA instead.",
            code="AD-N02",
        )


def read_low_ranks(path: Path, places: Mapping[str, tuple[str, str]]) -> dict[str, LowRank]:
    """Read low-rank updates by the layer or weight that they change, on the CPU in the file's dtype.

    Args:
        path: the file.
        places: layer and part (``"down"``, ``"up"``, ``"alpha"``) by key in the file.

    Raises:
        MotionFileError: the file is damaged, or a LoRA in it is incomplete or duplicated.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in read_tensors(path, places).items():
        layer, part = places[name]
        if part in parts[layer]:
            raise MotionFileError(f"{path.name} contains two LoRAs for {layer}. Download it again.", code="AD-N03")
        parts[layer][part] = tensor.clone()
    return {layer: _low_rank(path.name, layer, found) for layer, found in parts.items()}


def _low_rank(file: str, layer: str, found: Mapping[str, Tensor]) -> LowRank:
    down, up, alpha = (_flat(found.get(part)) for part in ("down", "up", "alpha"))
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or len(down) != up.shape[1] or not len(down):
        raise MotionFileError(f"{file} contains an incomplete LoRA for {layer}. Download it again.", code="AD-N04")
    if not are_weights(down) or not are_weights(up):
        raise MotionFileError(
            f"{file} has weights for {layer} that are no finite numbers. Download it again from its publisher.",
            code="AD-N10",
        )
    if alpha is not None and (alpha.is_complex() or alpha.numel() != 1 or not alpha.isfinite().all()):
        raise MotionFileError(
            f"{file} contains an alpha for {layer} that is not a single number. Download it again.", code="AD-N05"
        )
    scale = 1.0 if alpha is None else float(alpha.float()) / len(down)
    return LowRank(down, up, scale)


def _flat(tensor: Tensor | None) -> Tensor | None:
    """Convert the weight of a 1x1 convolution to a matrix; return other tensors unchanged."""
    if tensor is None or tensor.dim() <= 2 or tensor.shape[2:] != torch.Size([1] * (tensor.dim() - 2)):
        return tensor
    return tensor.reshape(tensor.shape[:2])
