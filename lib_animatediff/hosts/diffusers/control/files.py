"""Files of control models: which kind a file is, and whether it fits a checkpoint. Only headers are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.diffusers.networks import NetworkError
from motion_module.files.other_models import identify_other
from motion_module.files.safe_unpickler import TensorHeader
from motion_module.files.weights import FileHeader, read_header
from motion_module.limits import exists, is_file, is_folder, parse_json, read_limited

CONTROLNET, T2I_ADAPTER = "a ControlNet", "a T2I adapter"
CONFIG = "config.json"
PREFIX = "control_model."  # of a ControlNet among the weights of a whole checkpoint
PER_LEVEL = 3  # skip connections of each resolution of a UNet
UNSHUFFLED = 64  # numbers that a T2I adapter takes from each channel of its image, 8x8 pixels at once
_PATCHES = (UNSHUFFLED, 3 * UNSHUFFLED)  # of images in grey and in colour; those for SDXL take 16x16 pixels
_FIRST_OF_T2I = tuple(f"{start}{name}.weight" for name in ("conv_in", "body.0.in_conv") for start in ("", "adapter."))
_OUTPUTS = ("zero_convs.{}.0.weight", "controlnet_down_blocks.{}.weight")  # of a ControlNet, in both formats
_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
_MOST_CONFIG_BYTES = 100_000
_CONDITIONS = re.compile(r"attn2\.to_k\.weight$")
_T2I_BLOCK = re.compile(r"^(?:adapter\.)?body\.(\d+)\.(?:(?:resnets|body)\.0\.)?block1\.weight$")
_SHUFFLE = "shuffle"  # its weights are those of any ControlNet
_OTHER_KINDS = {  # by what is in the names of their weights
    "motion_modules.": "a SparseCtrl encoder",
    "lora_controlnet": "a Control-LoRA",
    "lllite_": "a ControlLLLite",
    "task_embedding": "a union ControlNet",
    "ctrl_to_base": "a ControlNet-XS",
    "ip_adapter.": "an IP-Adapter",
}


@dataclass(frozen=True)
class ControlFile:
    """A control model by its header.

    Attributes:
        name: for messages.
        weights: the file with the weights.
        kind: `CONTROLNET` or `T2I_ADAPTER`.
        config: diffusers' configuration beside the weights; None: the file is all there is.
        header: of the file.
        tensors: headers of the weights, without `PREFIX`.
    """

    name: str
    weights: Path
    kind: str
    config: Mapping[str, Any] | None
    header: FileHeader
    tensors: Mapping[str, TensorHeader]

    def check_fits(self, unet: Mapping[str, Any]) -> None:
        """Check that the widths are those of a UNet.

        Args:
            unet: the configuration of a ``UNet2DConditionModel``.

        Raises:
            NetworkError: the model was made for another base.
        """
        if self.kind == T2I_ADAPTER and self._patch() not in _PATCHES:
            raise NetworkError(
                f"{self.name} is a T2I adapter for SDXL, and clips are rendered with Stable Diffusion 1.5 here. Choose "
                "one for that base.",
                code="AD-H24",
            )
        widths, wanted = self._widths(), (unet["block_out_channels"], unet["cross_attention_dim"])
        if widths != (list(wanted[0]), wanted[1] if self.kind == CONTROLNET else None):
            raise NetworkError(
                f"{self.name} was not made for this checkpoint's base: it has layers of {_in_words(widths[0])} "
                f"channels{_conditions(widths[1])}, and the checkpoint {_in_words(wanted[0])}"
                f"{_conditions(wanted[1] if widths[1] else None)}. Choose a control model for Stable Diffusion 1.5.",
                code="AD-H22",
            )

    def _widths(self) -> tuple[list[int], int | None]:
        """Channels of each resolution, and of the conditions if it reads them."""
        if self.kind == T2I_ADAPTER:
            return t2i_channels(self.tensors), None
        conditions = {
            header.shape[-1] for name, header in self.tensors.items() if header.shape and _CONDITIONS.search(name)
        }
        return self._levels(), min(conditions, default=None)

    def _levels(self) -> list[int]:
        numbers = range(1, len(self.tensors), PER_LEVEL)
        outputs = (_first_side(self.tensors, *(name.format(n) for name in _OUTPUTS)) for n in numbers)
        return list(takewhile(bool, outputs))

    def _patch(self) -> int:
        """Numbers that a T2I adapter takes from its image at each place."""
        shapes = (self.tensors[name].shape for name in _FIRST_OF_T2I if name in self.tensors)
        return next((shape[1] for shape in shapes if len(shape) > 1), 0)


def read_control_file(path: Path) -> ControlFile:
    """Identify a control model by its header.

    Args:
        path: a file in the original format or in diffusers', or a folder as diffusers' ``save_pretrained`` writes it.

    Raises:
        MotionFileError: the file cannot be read.
        NetworkError: there is no such file, or it is another model.
    """
    if not exists(path):
        raise NetworkError(f"There is no control model {path}. Check the path.", code="AD-H19")
    weights, config = _in_folder(path) if is_folder(path) else (path, None)
    header = read_header(weights)
    tensors = _without_prefix(header.tensors)
    return ControlFile(path.name, weights, _kind_of(path.name, tensors), config, header, tensors)


def t2i_channels(tensors: Mapping[str, TensorHeader]) -> list[int]:
    """The channels of each resolution of a T2I adapter, in either format."""
    blocks = {int(match[1]): name for name in tensors if (match := _T2I_BLOCK.match(name))}
    widths = [
        _first_side(tensors, f"body.{n}.out_conv.weight", f"adapter.body.{n}.out_conv.weight", blocks[n])
        for n in sorted(blocks)
    ]
    return widths[:: 2 if is_original_full(tensors) else 1]


def is_original_full(tensors: Iterable[str]) -> bool:
    """Whether a T2I adapter is a full one in the original format, which lists two blocks for each resolution."""
    return "body.0.block1.weight" in tensors


def _kind_of(name: str, tensors: Mapping[str, TensorHeader]) -> str:
    other = next((what for part, what in _OTHER_KINDS.items() if any(part in key for key in tensors)), None)
    if other is None and _SHUFFLE in name.lower():
        other = "a ControlNet for shuffled images, which acts on the prompt's stream alone"
    if other is None:
        if any(name.format(0) in tensors for name in _OUTPUTS):
            return CONTROLNET
        if any(map(_T2I_BLOCK.match, tensors)):
            return T2I_ADAPTER
        known = identify_other(tensors)
        other = known.what if known else "a file of another kind"
    raise NetworkError(
        f"{name} is {other}. As a control model, choose a ControlNet such as control_v11p_sd15_canny.pth, or a T2I "
        "adapter.",
        code="AD-H20",
    )


def _in_folder(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    weights = next((folder / name for name in _WEIGHTS if is_file(folder / name)), None)
    try:
        config = parse_json(read_limited(folder / CONFIG, _MOST_CONFIG_BYTES))
    except (OSError, ValueError):
        config = None
    if weights is None or not isinstance(config, dict):
        raise NetworkError(
            f"{folder} is not a control model: a folder needs {CONFIG} and {_WEIGHTS[0]}, as diffusers writes them. "
            "Give the folder of the model, or its file.",
            code="AD-H21",
        )
    return weights, config


def _without_prefix(tensors: Mapping[str, TensorHeader]) -> dict[str, TensorHeader]:
    own = {name.removeprefix(PREFIX): header for name, header in tensors.items() if name.startswith(PREFIX)}
    return own or dict(tensors)


def _first_side(tensors: Mapping[str, TensorHeader], *names: str) -> int:
    """The first side of the first of these tensors that there is; 0: there is none."""
    return next((tensors[name].shape[0] for name in names if name in tensors and tensors[name].shape), 0)


def _in_words(widths: Sequence[int]) -> str:
    return ", ".join(map(str, widths))


def _conditions(width: int | None) -> str:
    return "" if width is None else f" and conditions of {width} numbers"
