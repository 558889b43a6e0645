"""Parts of a source video that are held in the WebUI's denoiser: lower strengths, and what a mask keeps.

A hook after the denoiser replaces its result for these parts, see `sampling.hold`. It goes by the noise level of the
call, so that samplers with several calls a step, and with levels of their own, need nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.host_tensor import HostTensor
from lib_animatediff.hosts.webui.compat import denoiser as webui
from lib_animatediff.hosts.webui.compat.a1111 import encoding_means
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.request.start.kept import latent_masks, shares_of
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.sampling.hold import NoiseLevels, prediction_of, strengths_of
from lib_animatediff.video.mask import mask_frames
from lib_animatediff.video.source import over_white, source_frames

_ALWAYS, _NEVER = math.inf, -1.0  # noise levels from which a part is free
_ROUNDING = 1 + 1e-4


def has_parts(video: VideoStart) -> bool:
    """Whether parts of the frames are held: otherwise all of them have one strength."""
    return video.mask is not None or isinstance(video.denoise, tuple)


class HeldParts:
    """The parts of the frames of one clip.

    Args:
        frames: of the clip.
        size: width and height in pixels.

    Raises:
        ClipError: a mask cannot be read.
    """

    def __init__(self, video: VideoStart, frames: int, size: tuple[int, int]) -> None:
        self._video = video
        self._frames = frames
        self._size = size
        self._strengths = strengths_of(video.strengths(frames), latent_masks(video, size, frames))

    def sample(
        self,
        sample: Callable[..., Tensor],
        p: Any,
        x: Tensor,
        noise: Tensor,
        *args: Any,
        steps: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Replaces ``Sampler.sample_img2img``, whose arguments follow ``sample``; rows are ``(b f) c h w``."""
        clips = len(x) // self._frames
        if self._video.mask is not None and webui.sees_masks(p):
            kwargs["image_conditioning"] = self._conditions(p, x[: self._frames]).repeat(clips, 1, 1, 1)
        levels = free_from(self._strengths, self._video.strongest, webui.levels_of_img2img(p, steps))
        hook = DenoiserHook(x, levels.repeat(clips, 1, 1, 1), host_model(p.sd_model).alphas_cumprod)
        handle = p.sampler.model_wrap_cfg.register_forward_hook(hook)
        try:
            sampled = sample(p, x, noise, *args, steps=steps, **kwargs)
        finally:
            handle.remove()
        is_never_free = HostTensor((self._strengths <= 0).repeat(clips, 1, 1, 1)).on(sampled.device)
        return torch.where(is_never_free, x.to(sampled), sampled)

    def _conditions(self, p: Any, latents: Tensor) -> Tensor:
        """What an inpainting checkpoint sees of each frame: ``f 5 h w``."""
        source, mask = self._video.source, self._video.mask
        assert mask is not None
        images = source_frames(source, self._size, self._frames)
        masks = mask_frames(mask, source, self._size, self._frames)
        with encoding_means(), torch.no_grad():
            rows = [
                webui.mask_condition(p, over_white(image), (shares_of(grey) > 0).float(), row[None])
                for image, grey, row in zip(images, masks, latents, strict=True)
            ]
        return torch.cat(rows)


def free_from(strengths: Tensor, strongest: float, begins: Tensor) -> Tensor:
    """The noise level up to which each part is held, in the order of ``strengths``.

    Args:
        strengths: of the parts, float64.
        strongest: the strength at which the sampler begins.
        begins: the level at which image to image begins that has i + 1 steps, by i.
    """
    steps = (strengths.clamp(max=webui.HIGHEST) * len(begins)).long()
    levels = begins[steps].float()
    levels = torch.where(strengths >= strongest, torch.tensor(_ALWAYS), levels)
    return torch.where(strengths <= 0, torch.tensor(_NEVER), levels)


class DenoiserHook:
    """Replaces the result of the WebUI's ``CFGDenoiser`` for parts that are held.

    Args:
        images: latents without noise, ``(b f) c h w``.
        levels: the noise level from which each part is free, in the sampler's own units.
        alphas_cumprod: of the checkpoint.
    """

    def __init__(self, images: Tensor, levels: Tensor, alphas_cumprod: Tensor) -> None:
        self._images = images
        self._levels = HostTensor(levels * _ROUNDING)
        self._signals = NoiseLevels(alphas_cumprod)  # only samplers by timesteps ask, at whole ones

    def __call__(self, denoiser: nn.Module, args: tuple[Any, ...], result: Tensor) -> Tensor:
        """The hook: ``args`` begin with the latents and the noise level of each row."""
        x, level = args[:2]
        is_free = self._levels.on(x.device) >= level.reshape(-1, 1, 1, 1)
        images = self._images.to(x)
        if webui.predicts_noise(denoiser):
            signal = self._signals.signal_at(level.to(x.device))[:, None, None, None]
            images = prediction_of(images.float(), x.float(), signal, predicts_velocity=False)
        return torch.where(is_free, result, images.to(result))
