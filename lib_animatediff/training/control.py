"""Train a ControlNet (Zhang and others, arXiv 2302.05543) on the frozen base model.

It starts as a copy of the UNet's encoder whose outputs are zero, and learns to draw an image from its hint. Like the
official ones, it is trained on single images; in a clip it reads one hint per frame.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from motion_module.sparse_ctrl.names import LDM_MIDDLE, LDM_RESNET, LDM_STARTS

from .loss import Group, Objective
from .rng import Draws, stream
from .settings import TrainingError, TrainingSettings

if TYPE_CHECKING:
    from .clips import Clip

PREFIX = "control_model."  # of every weight in the official files

_LEVELS = 255  # of a pixel
_RESNET = {ours.rstrip("."): ldm.rstrip(".") for ldm, ours in LDM_RESNET}
_STARTS = {
    **{ours: ldm for ldm, ours in LDM_STARTS if not ldm.startswith("input_hint_block")},
    **{f"mid_block.{ours}.": f"middle_block.{number}." for number, ours in LDM_MIDDLE.items()},
    "controlnet_cond_embedding.conv_in.": "input_hint_block.0.",
}
_HINT_BLOCK = re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)\.")
_OUTPUT = re.compile(r"controlnet_down_blocks\.(\d+)\.")
_DOWN = re.compile(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.")
_RESNET_PART = re.compile(rf"^({'|'.join(_RESNET)})\.")


class ControlObjective(Objective):
    """The loss of a UNet whose features a ControlNet adds to.

    Args:
        unet: diffusers' UNet.
        network: the ControlNet.
        alphas, largest_weight, moving_weight: see `Objective`.
        preprocessor: makes the hints of clips that have none.
    """

    def __init__(
        self,
        unet: nn.Module,
        network: nn.Module,
        alphas: Tensor,
        largest_weight: float,
        moving_weight: float = 1.0,
        preprocessor: str = "",
    ) -> None:
        super().__init__(unet, None, alphas, largest_weight, moving_weight)
        self.network = network
        self._preprocessor = preprocessor

    def given(self, clip: Clip, _latents: Tensor, _draws: Draws, /) -> Group:
        """The ``hints`` of a clip, ``f 3 H W``."""
        return {"hints": hints_of(clip, self._preprocessor)}

    def predicted(self, rows: Tensor, timesteps: Tensor, group: Group) -> Tensor:
        """The noise in rows ``(b f) c h w``; the group's ``hints`` are ``b f c H W``."""
        dtype = next(self.unet.parameters()).dtype
        text = group["text"].repeat_interleave(len(rows) // len(group["text"]), 0).to(dtype)
        rows, hints = rows.to(dtype), rearrange(group["hints"], "b f c h w -> (b f) c h w").to(dtype)
        skips, middle = self.network(
            rows, timesteps, encoder_hidden_states=text, controlnet_cond=hints, return_dict=False
        )
        return self.unet(  # type: ignore[no-any-return]
            rows,
            timesteps,
            encoder_hidden_states=text,
            down_block_additional_residuals=[skip.to(dtype) for skip in skips],
            mid_block_additional_residual=middle.to(dtype),
        ).sample


def new_control_network(unet: Any, settings: TrainingSettings) -> nn.Module:
    """A ControlNet that leaves the UNet's output as it is, float32.

    Raises:
        TrainingError: the UNet is none of diffusers.
    """
    if not hasattr(unet, "config"):
        raise TrainingError(
            "A ControlNet is trained on diffusers' UNet. Load the base model as a checkpoint or as a diffusers folder.",
            code="AD-T40",
        )
    from diffusers import ControlNetModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(settings.seed, "initial weights").initial_seed())
        network: nn.Module = ControlNetModel.from_unet(unet)
    # By torch's own methods: those of diffusers warn about layers in float32.
    nn.Module.to(network, device=unet.device, dtype=torch.float32)
    return network.requires_grad_(True)


def hints_of(clip: Clip, preprocessor: str) -> Tensor:
    """Hints of a clip, ``f 3 H W`` from 0 to 1: its own, or what a preprocessor makes of its frames.

    Raises:
        TrainingError: it has neither.
    """
    if clip.hints is not None:
        return clip.hints
    if clip.frames is None:
        raise TrainingError(
            "A ControlNet, or a SparseCtrl encoder for scribbles, needs hints beside latents. Pass clips of latents, "
            "caption and hints.",
            code="AD-T41",
        )
    return torch.stack([_preprocessed(frame, preprocessor) for frame in clip.frames])


def _preprocessed(frame: Tensor, preprocessor: str) -> Tensor:
    import numpy as np
    from PIL import Image

    from lib_animatediff.video.preprocess import PREPROCESSORS

    pixels = ((frame + 1) * (_LEVELS / 2)).round().clamp(0, _LEVELS).to(torch.uint8)
    made = PREPROCESSORS[preprocessor](Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy()))
    return rearrange(torch.from_numpy(np.array(made)), "h w c -> c h w").float() / _LEVELS


def official_names(network: Any) -> dict[str, str]:
    """Name in the official files of each of a ControlNet's weights, by its name in diffusers."""
    layers, blocks = network.config.layers_per_block, len(network.controlnet_cond_embedding.blocks)
    return {name: PREFIX + _official(name, layers, blocks) for name in network.state_dict()}


def _official(name: str, layers: int, hint_blocks: int) -> str:
    for start, official in _STARTS.items():
        if name.startswith(start):
            return official + _resnet_part(name.removeprefix(start))
    if name.startswith("controlnet_cond_embedding.conv_out."):
        return f"input_hint_block.{2 + 2 * hint_blocks}." + name.rpartition(".")[2]
    if match := _HINT_BLOCK.match(name):
        return f"input_hint_block.{2 + 2 * int(match[1])}." + name[match.end() :]
    if match := _OUTPUT.match(name):
        return f"zero_convs.{match[1]}.0." + name[match.end() :]
    match = _DOWN.match(name)
    assert match is not None, name
    level, kind, number = int(match[1]), match[2], int(match[3])
    first = 1 + level * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers}.0.op." + name.rpartition(".")[2]
    place = 0 if kind == "resnets" else 1
    return f"input_blocks.{first + number}.{place}." + _resnet_part(name[match.end() :])


def _resnet_part(name: str) -> str:
    return _RESNET_PART.sub(lambda match: _RESNET[match[1]] + ".", name)
