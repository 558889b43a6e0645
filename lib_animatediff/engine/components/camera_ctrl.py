"""CameraCtrl in a UNet: a camera path steers a motion module (arXiv 2404.02101).

An encoder makes features of the rays of each frame, and a layer merges them into the tokens of the first attention of
each temporal transformer. The features do not depend on the latents, so those of a context window are kept for all
steps; a clip of more than eight windows, whose features would fill the memory, makes them again at each step. Poses
are relative to the first frame of a window, as the encoder has seen them in its training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.call import UNetCall, input_of
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.host_tensor import HostTensor, Kept, copied
from lib_animatediff.engine.unet import UNetView
from motion_module import ClipError, IncompatibleModelError
from motion_module.camera_ctrl.network import MULTIPLE, SHRINK, CameraCtrl, level_of
from motion_module.camera_ctrl.poses import CameraPose
from motion_module.camera_ctrl.rays import pluecker_rays
from motion_module.options import Merge

from .amounts import acts_within, amount_at
from .motion import PlannedViews, TemporalRunner, placed_like

WINDOWS_KEPT = 8  # features of a window of 16 frames of 512x512 take 76 MB in half precision


class CameraCtrlComponent:
    """A camera path for the first motion module of a clip, which stands before it.

    Args:
        model: the CameraCtrl model. It was trained with the official v3 motion module.
        poses: one for each frame of the clip, the same in every clip of a batch.
        strengths: one per frame; the last one applies to all further frames. At 0 everywhere the UNet computes what it
            does without, bit for bit.
        start, end: the part of the sampling in which it acts, from 0.0 to 1.0.

    Raises:
        ClipError: a strength is not finite, or the part of the sampling is empty.
    """

    frames_at_once: int | None = None

    def __init__(
        self,
        model: CameraCtrl,
        poses: Sequence[CameraPose],
        strengths: Sequence[float] = (1.0,),
        start: float = 0.0,
        end: float = 1.0,
    ) -> None:
        if not strengths or not all(map(math.isfinite, strengths)):
            raise ClipError(f"{model.name}: the strengths of the frames must be finite numbers.", code="AD-Q77")
        if not 0 <= start < end <= 1:
            raise ClipError(
                f"{model.name}: a camera acts from a start of 0 or more to a later end, at most 1, not from {start:g} "
                f"to {end:g}.",
                code="AD-Q78",
            )
        self.name = model.name
        self._model = model
        self._poses = tuple(poses)
        self._strengths = tuple(strengths)
        self._start, self._end = start, end
        self._latents: tuple[torch.Size, torch.device, torch.dtype] | None = None  # of a call in which it acts
        self._features: Kept[list[Tensor]] = Kept(most=WINDOWS_KEPT)
        self._encoders: Kept[CameraCtrl] = Kept(most=2)
        self._layers: Kept[nn.Module] = Kept()
        self._amounts: Kept[float | HostTensor] = Kept()
        self._runner: TemporalRunner | None = None

    def acts_at(self, progress: float) -> bool:
        """Whether it acts at a completed share of the sampling."""
        return acts_within(progress, self._start, self._end)

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Steer the first motion module that is attached already.

        Raises:
            ClipError: there is no motion module, or not one pose for each frame, or this object is attached already.
            IncompatibleModelError: the model was made for another UNet.
        """
        if self._runner is not None:
            raise ClipError(
                f"{self.name} is in use by another injection. Create a new component for each injection.", code="AD-Q79"
            )
        if not unet.motion_runners:
            raise ClipError(
                f"{self.name} steers a motion module, and none is before it. Give the motion module first.",
                code="AD-Q80",
            )
        if len(self._poses) != call.clip_frames:
            raise ClipError(
                f"{self.name} has poses for {len(self._poses)} frames, and the clip has {call.clip_frames}. Give one "
                "for each frame.",
                code="AD-Q81",
            )
        widths = {site.name: site.channels for site in unet.sites}
        if any(widths.get(site) != width for site, width in self._model.widths.items()):
            raise IncompatibleModelError(
                f"{self.name} was made for a UNet with layers of other widths. CameraCtrl exists for Stable Diffusion "
                "1.5 only; choose a checkpoint of that base.",
                code="AD-Q82",
            )
        if unet.motion_runners[0].merging is not None:
            raise ClipError("A motion module follows one camera. Remove the second one.", code="AD-Q83")
        self._runner = unet.motion_runners[0]
        self._runner.merging = self._merging
        undo.callback(self._detach)

    def around_call(
        self, call: UNetCall, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Note whether the camera acts, and the size of the latents, in a UNet call on one window."""
        follows_steps = self._start > 0 or self._end < 1  # otherwise the progress is not read, which may wait
        if not follows_steps or self.acts_at(call.progress):
            x = input_of(args, kwargs)
            self._latents = x.shape[2:], x.device, x.dtype
        try:
            return forward(*args, **kwargs)
        finally:
            self._latents = None

    def _merging(self, site: str, x: Tensor, planned: PlannedViews) -> Merge | None:
        """See `motion.Merging`."""
        if self._latents is None or site not in self._model.widths:
            return None
        orders = [tuple(sorted(window)) if planned.start else window for window in planned.windows]
        amounts = [self._amounts.get_or(order, partial(self._amount, order)) for order in orders]
        if all(amount == 0 for amount in amounts):
            return None
        layer = self._layers.get_or((site, x.device, x.dtype), lambda: placed_like(self._model.merge(site), x))
        features = [self._at_site(site, x, window).flatten(2).transpose(1, 2) for window in planned.windows]
        if planned.start:
            features = [each.roll(planned.start, 0) for each in features]
        return _Merged(layer, features, [each if isinstance(each, float) else each.on(x.device) for each in amounts])

    def _amount(self, frames: Sequence[int]) -> float | HostTensor:
        given = [float(amount_at(self._strengths, frame)) for frame in frames]
        return given[0] if len(set(given)) == 1 else HostTensor(given)

    def _at_site(self, site: str, x: Tensor, window: tuple[int, ...]) -> Tensor:
        """The features of a window at a site, ``f c h w``, in the order of the window."""
        assert self._latents is not None
        features = self._features.get_or((window, *self._latents), lambda: self._encoded(window))
        feature = features[level_of(site)].to(x.dtype)
        if feature.shape[2:] != x.shape[2:]:  # sides that are no multiples of 64 pixels
            feature = F.interpolate(feature, x.shape[2:], mode="bilinear")
        return feature

    @torch.no_grad()
    def _encoded(self, window: tuple[int, ...]) -> list[Tensor]:
        """The encoder's features for one window; sides in pixels are rounded up to what the encoder can halve."""
        assert self._latents is not None
        (height, width), device, dtype = self._latents
        sides = [math.ceil(side * SHRINK / MULTIPLE) * MULTIPLE for side in (width, height)]
        poses = [self._poses[frame] for frame in window]
        rays = pluecker_rays(poses, (sides[0], sides[1]), width / height, lambda each: copied(each, device))
        rays = rays.to(dtype)
        encoder = self._encoders.get_or((device, dtype), lambda: placed_like(self._model, rays))
        return encoder.encode(rays, _views(len(window), encoder.trained_length))

    def _detach(self) -> None:
        if self._runner is not None:
            self._runner.merging = None
        self._runner = None
        for kept in (self._features, self._encoders, self._layers):
            kept.clear()


@dataclass(frozen=True)
class _Merged:
    """A `Merge`: tokens plus what the layer makes of them and of the camera.

    Attributes:
        layer: of the site.
        features: of each view, ``f d c``.
        amounts: of each view, a number or one for each frame.
    """

    layer: nn.Module
    features: Sequence[Tensor]
    amounts: Sequence[float | Tensor]

    def __call__(self, tokens: Tensor, positions: slice, view: int) -> Tensor:
        merged: Tensor = self.layer(tokens + self.features[view][:, positions])
        amount = self.amounts[view]
        if isinstance(amount, Tensor):
            return tokens + merged * amount.to(merged.dtype).view(-1, 1, 1)
        return tokens + (merged if amount == 1 else merged * amount)


def _views(frames: int, trained_length: int) -> list[tuple[Sequence[int], Sequence[float]]]:
    """Views that overlap by half, for more frames than the encoder's tables have."""
    if frames <= trained_length:
        return []
    windows = ContextWindows(trained_length, trained_length // 2, kind="static", fusion="flat")
    return [(window, windows.weights(window, frames)) for window in windows.plan(frames, 0)]
