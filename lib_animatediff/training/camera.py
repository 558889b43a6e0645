"""Train a CameraCtrl model (arXiv 2404.02101) on the frozen base model with a frozen motion module.

Its encoder starts from random weights and its merges from zero, so that nothing changes at first. It learns from clips
with the camera of each frame; poses are relative to the first frame of the example, as they are in a clip.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.components.motion import PlannedViews
from lib_animatediff.engine.unet import UNetView
from motion_module.camera_ctrl.load import LENGTH
from motion_module.camera_ctrl.network import LEVELS, SHRINK, CameraCtrl, CameraLayout, level_of, merged_sites
from motion_module.camera_ctrl.rays import pluecker_rays
from motion_module.options import Merge

from .loss import Group, Objective
from .rng import Draws, stream
from .settings import TrainingError, TrainingSettings

if TYPE_CHECKING:
    from .clips import Clip


class CameraSteering:
    """The component that steers the motion module by features with gradients, of a path for each clip of a batch.

    Attributes:
        model: the CameraCtrl model that is trained.
    """

    frames_at_once: int | None = None

    def __init__(self, model: CameraCtrl) -> None:
        self.name = model.name
        self.model = model
        self._features: dict[tuple[int, int, int], list[Tensor]] = {}

    def follow(self, features: list[Tensor], latents: Tensor) -> None:
        """Use these features, ``(b f) c h w`` at each resolution, in calls with latents of this shape.

        They stay, because gradient checkpointing runs the UNet again in the backward pass.
        """
        self._features[_place(latents, 0)] = features

    def clear(self) -> None:
        """Forget the features of the step before."""
        self._features.clear()

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """See `Component.attach`."""
        (runner,) = unet.motion_runners

        def merging(site: str, x: Tensor, _planned: PlannedViews) -> Merge | None:
            return self._merge(site, x, call.clip_frames) if site in self.model.widths else None

        runner.merging = merging
        undo.callback(setattr, runner, "merging", None)

    def _merge(self, site: str, x: Tensor, frames: int) -> Merge:
        level, layer = level_of(site), self.model.merge(site)
        feature = rearrange(self._features[_place(x, level)][level], "(b f) c h w -> b f (h w) c", f=frames)

        def merge(tokens: Tensor, positions: slice, _view: int) -> Tensor:
            return tokens + layer(tokens + feature[:, :, positions].to(tokens.dtype))  # type: ignore[no-any-return]

        return merge


class CameraObjective(Objective):
    """The loss of a UNet whose motion module follows a camera.

    Args:
        unet: the base model's UNet, with motion module and steering inside when it is called.
        motion: the motion module, frozen.
        steering: holds the CameraCtrl model, which is trained.
        alphas, largest_weight, moving_weight: see `Objective`.
    """

    def __init__(
        self,
        unet: nn.Module,
        motion: nn.Module | None,
        steering: CameraSteering,
        alphas: Tensor,
        largest_weight: float,
        moving_weight: float = 1.0,
    ) -> None:
        super().__init__(unet, motion, alphas, largest_weight, moving_weight)
        self.camera = steering.model
        self._steering = steering

    def forward(self, groups: list[Group]) -> Tensor:
        """See `Objective.forward`."""
        self._steering.clear()
        return super().forward(groups)

    def given(self, clip: Clip, latents: Tensor, _draws: Draws, /) -> Group:
        """The ``rays`` of a clip, ``f 6 H W``.

        Raises:
            TrainingError: it has no camera.
        """
        if clip.poses is None:
            raise TrainingError(
                "A CameraCtrl model is trained on clips with a camera for each frame. Pass clips of frames, caption, "
                "None and poses.",
                code="AD-T49",
            )
        height, width = (side * SHRINK for side in latents.shape[2:])
        return {"rays": pluecker_rays(clip.poses, (width, height))}

    def predicted(self, rows: Tensor, timesteps: Tensor, group: Group) -> Tensor:
        """The noise in rows ``(b f) c h w`` of a group."""
        rays = rearrange(group["rays"], "b f c h w -> (b f) c h w")
        self._steering.follow(self.camera.encode(rays, clips=len(group["rays"])), rows)
        return super().predicted(rows, timesteps, group)


def new_camera_ctrl(unet: nn.Module, settings: TrainingSettings) -> CameraCtrl:
    """A CameraCtrl model that leaves the UNet's output as it is, float32.

    Raises:
        TrainingError: the UNet has other layers than that of Stable Diffusion 1.5.
    """
    found = {site.name: site.channels for site in UNetView(unet).sites}
    widths = [found.get(f"down_blocks.{level}.motion_modules.0", 0) for level in range(LEVELS)]
    if any(found.get(site) != width for site, width in merged_sites(widths).items()):
        raise TrainingError(
            "A CameraCtrl model is made for the layers of Stable Diffusion 1.5, and this base model has others. Choose "
            "another base model.",
            code="AD-T50",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(settings.seed, "initial weights").initial_seed())
        model = CameraCtrl(CameraLayout(tuple(widths), max(LENGTH, settings.frames)), "the new CameraCtrl model")
    for site in model.widths:
        for weight in model.merge(site).parameters():
            nn.init.zeros_(weight)
    return model.to(next(unet.parameters()).device)


def _place(x: Tensor, level: int) -> tuple[int, int, int]:
    """What tells groups of one step apart: the rows, and the sides at the finest resolution."""
    return x.shape[0], x.shape[2] << level, x.shape[3] << level
