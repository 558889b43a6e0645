"""AnimateLCM-I2V in a UNet: features of an image are added before four motion modules (arXiv 2402.00769).

Each is added to the output of the last layer of a resolution on the way down, so also to the skip connection there. The
features do not depend on the latents and are made once for each number of frames. Their positions begin at 0 in each
context window. The file's motion module is a `MotionComponent` of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.host_tensor import HostTensor, Kept, copied
from lib_animatediff.engine.unet import UNetView
from motion_module import ClipError, IncompatibleModelError
from motion_module.image_encoder.network import DRIFT, LATENT_CHANNELS, ImageEncoder

from .amounts import amount_at
from .motion import TemporalRunner, placed_like

_SITE = "down_blocks.{}.motion_modules.1"  # the last one of a resolution


class ImageEncoderComponent:
    """An image for the motion module of an AnimateLCM-I2V model.

    Args:
        encoder: the image encoder of the model.
        image: the latent of the image, ``4 h w``, scaled as the UNet's.
        strengths: factor on the features, one per frame; the last one applies to all further frames. At 0 the UNet
            computes what it does without, bit for bit.
        drift: how far the frames move from the image; at 0 the features of all frames are the same.

    Raises:
        ClipError: a number is not finite, or a shape is wrong.
    """

    frames_at_once: int | None = None

    def __init__(
        self, encoder: ImageEncoder, image: Tensor, strengths: Sequence[float] = (1.0,), drift: float = DRIFT
    ) -> None:
        if not strengths or not all(map(math.isfinite, (*strengths, drift))):
            raise ClipError(f"{encoder.name}: drift and strengths must be finite numbers.", code="AD-QB3")
        if image.dim() != 3 or len(image) != LATENT_CHANNELS:
            raise ClipError(f"{encoder.name} needs the latent of one image, 4 h w.", code="AD-QB4")
        self.name = encoder.name
        self._encoder = encoder
        self._image = image
        self._strengths = tuple(strengths)
        self._drift = drift
        self._features: Kept[list[Tensor]] = Kept(most=4)
        self._amounts: Kept[HostTensor | None] = Kept()

    def acts_at(self, _progress: float) -> bool:
        """Whether it acts at a completed share of the sampling: always."""
        return True

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the hooks, which act before those of motion modules.

        Raises:
            IncompatibleModelError: the encoder was made for another UNet.
        """
        sites = {site.name: site for site in unet.sites}
        own = [sites.get(_SITE.format(level)) for level in range(len(self._encoder.widths))]
        found = [site for site in own if site is not None]
        if tuple(site.channels for site in found) != self._encoder.widths:
            raise IncompatibleModelError(
                f"{self.name} was made for a UNet with layers of other widths. AnimateLCM-I2V exists for Stable "
                "Diffusion 1.5 only; choose a checkpoint of that base.",
                code="AD-QB5",
            )
        undo.callback(self._features.clear)
        for level, site in enumerate(found):
            hook = FeatureHook(self, level, call, unet.motion_runners)
            undo.callback(site.layer.register_forward_hook(hook, prepend=True).remove)

    def added_to(self, x: Tensor, level: int, call: UNetCall, runners: Sequence[TemporalRunner]) -> Tensor:
        """Rows ``(k b f) c h w`` of a resolution with the features.

        Args:
            runners: of the motion modules, of which the first one knows where a closed window begins.

        Raises:
            ClipError: the image has another size than the latents, or the rows are not whole clips.
        """
        frames = call.frames_of(x.shape[0])
        amounts = self._amounts.get_or(tuple(call.frames), lambda: self._amount(call.frames))
        if amounts is None:
            return x
        features = self._features.get_or((frames, x.device, x.dtype), lambda: self._made(frames, x))
        feature = features[level]
        if feature.shape[2:] != x.shape[2:]:
            raise ClipError(
                f"{self.name} is given an image of {tuple(self._image.shape[1:])} latents, and the clip has other "
                "ones. Prepare it for the size of the clip.",
                code="AD-QB6",
            )
        start = runners[0].planned().start if runners else 0
        feature = feature.roll(start, 0) if start else feature
        weighted = feature * amounts.on(x.device).to(x.dtype).view(-1, 1, 1, 1)
        return rearrange(rearrange(x, "(n f) c h w -> n f c h w", f=frames) + weighted, "n f c h w -> (n f) c h w")

    def _amount(self, frames: Sequence[int]) -> HostTensor | None:
        """The strengths of the frames of a call; None: all are 0."""
        given = [float(amount_at(self._strengths, frame)) for frame in frames]
        return HostTensor(given) if any(given) else None

    @torch.no_grad()
    def _made(self, frames: int, like: Tensor) -> list[Tensor]:
        encoder = placed_like(self._encoder, like)
        made: list[Tensor] = encoder(copied(self._image, like.device).to(like.dtype), frames, self._drift)
        return made


class FeatureHook:
    """Forward hook of the last layer of a resolution: adds the features of the image to its output."""

    def __init__(
        self, component: ImageEncoderComponent, level: int, call: UNetCall, runners: Sequence[TemporalRunner]
    ) -> None:
        self._component = component
        self._level = level
        self._call = call
        self._runners = runners

    def __call__(self, layer: nn.Module, _inputs: object, output: Any) -> Any:
        if layer in self._call.skipped:
            return output
        x = output[0] if isinstance(output, tuple) else output
        x = self._component.added_to(x, self._level, self._call, self._runners)
        return (x, *output[1:]) if isinstance(output, tuple) else x
