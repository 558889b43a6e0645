"""Train a PIA model (arXiv 2312.13964): a motion module, and five more channels of the UNet's first convolution.

The channels are the image of the clip's first frame, and for each frame how closely it follows that image: its
*affinity*, which falls with the difference between both. So a user can ask for much or little motion later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.unet import UNetView
from motion_module import MotionModule
from motion_module.image_input import CHANNELS, LATENT_CHANNELS

from .clips import BrokenClipError, Clip, Cut, Source
from .latents import latents_of
from .loss import Group, Objective
from .rng import Draws
from .settings import TrainingSettings

LEAST_AFFINITY = 0.2  # of the frame that differs most, as in the official training
MEASURED_CLIPS = 64  # for the largest difference at each distance


class PiaObjective(Objective):
    """The loss of a UNet whose first convolution also receives an image and the affinities of the frames.

    Args:
        unet: the base model's UNet, with the motion module inside when it is called.
        motion: the motion module, which is trained.
        added: weights of the convolution for mask and image, ``c 5 3 3``, which are trained.
        differences: see `largest_differences`.
        alphas, largest_weight, moving_weight: see `Objective`.
    """

    def __init__(
        self,
        unet: nn.Module,
        motion: nn.Module | None,
        added: nn.Parameter,
        differences: Tensor,
        alphas: Tensor,
        largest_weight: float,
        moving_weight: float = 1.0,
    ) -> None:
        super().__init__(unet, motion, alphas, largest_weight, moving_weight)
        self.added = added
        self._differences = differences

    def given(self, _clip: Clip, latents: Tensor, _draws: Draws, /) -> Group:
        """The ``image`` of a clip, ``c h w``, and the ``affinity`` of its frames, ``f``."""
        return {"image": latents[0], "affinity": affinities(latents, self._differences)}

    def predicted(self, rows: Tensor, timesteps: Tensor, group: Group) -> Tensor:
        """The noise in rows ``(b f) c h w`` of a group."""
        frames, sides = group["affinity"].shape[1], rows.shape[2:]
        mask = rearrange(group["affinity"], "b f -> (b f) 1 1 1").expand(-1, -1, *sides)
        images = repeat(group["image"], "b c h w -> (b f) c h w", f=frames)
        change = F.conv2d(torch.cat([mask, images], dim=1), self.added, padding=1)

        def add(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            return output + change.to(output.dtype)

        handle = UNetView(self.unet).first_convolution.register_forward_hook(add)
        try:
            return super().predicted(rows, timesteps, group)
        finally:
            handle.remove()


def affinities(latents: Tensor, differences: Tensor) -> Tensor:
    """How closely the frames of a clip, ``f c h w``, follow the first one: from 1 to `LEAST_AFFINITY`.

    Args:
        differences: the largest one at each distance in frames; 0: nothing ever changes.
    """
    share = _differences(latents) / differences[: len(latents)].to(latents).clamp(min=1e-12)
    return 1 - (1 - LEAST_AFFINITY) * share.clamp(max=1)


def largest_differences(
    source: Source, items: Iterable[int], settings: TrainingSettings, vae: Any, skip: Callable[[str, str], None]
) -> Tensor:
    """The largest difference between the first frame and the one at each distance, in some clips; ``f``.

    Args:
        source: the clips.
        items: indices of the training clips, of which the first `MEASURED_CLIPS` are read.
        settings: how clips are cut.
        vae: encodes clips of images.
        skip: called with name and error of each clip that cannot be read.
    """
    largest = torch.zeros(settings.frames)
    for index in islice(items, MEASURED_CLIPS):
        draws = Draws(settings.seed, -1 - index)
        try:
            clip = source.read(index, Cut(settings.frames, settings.stride, draws.uniform("start")))
        except BrokenClipError as error:
            skip(source.name(index), error.message)
            continue
        largest = torch.maximum(largest, _differences(latents_of(clip, vae, draws, torch.device("cpu"))))
    return largest


def new_image_input(unet: nn.Module) -> nn.Parameter:
    """Weights for mask and image that leave the UNet's output as it is, ``c 5 3 3`` float32."""
    convolution: Any = UNetView(unet).first_convolution
    shape = (convolution.out_channels, CHANNELS - LATENT_CHANNELS, *convolution.kernel_size)
    return nn.Parameter(torch.zeros(shape, device=convolution.weight.device))


def image_input_state(unet: nn.Module, added: Tensor) -> dict[str, Tensor]:
    """The convolution of a PIA file: the checkpoint's own four channels, then those of mask and image."""
    convolution: Any = UNetView(unet).first_convolution
    weight = torch.cat([convolution.weight.detach().float(), added.detach().float()], dim=1)
    return {"conv_in.weight": weight.cpu(), "conv_in.bias": convolution.bias.detach().float().cpu()}


def without_middle(motion: MotionModule) -> dict[str, Tensor]:
    """The weights of a motion module that a PIA model has, which has no site in the middle block."""
    return {name: weight for name, weight in motion.state_dict().items() if not name.startswith("mid_block.")}


def _differences(latents: Tensor) -> Tensor:
    return (latents - latents[:1]).abs().mean(dim=(1, 2, 3))
