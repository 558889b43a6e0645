"""Pinned frames on a diffusers pipeline: the UNet sees their images without noise, at a timestep of 0.

The rows of pinned frames are replaced before each call, and what the sampler gets for them leads to their images. So
every sampler works, and the temporal attention sees what the other frames have to join. These start from a share of the
images' inverted noise, see `sampling.inversion`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.call import count_clips
from lib_animatediff.engine.host_tensor import HostTensor
from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT, SAMPLER, new_sampler, timesteps_of
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings.derived import is_loop
from lib_animatediff.request.start.pins import PinnedFrames
from lib_animatediff.sampling.inversion import invert, share_inverted_noise
from lib_animatediff.video.source import examine, source_frames

from .video import encode_frames

_V_PREDICTION = "v_prediction"


class PinnedLatents:
    """The pinned frames of a clip that is sampled.

    Args:
        pins: the pinned frames that are rendered.
        latents: of their images, ``p c h w``.
        frames: of the clip.
        inverted: the inverted noise of the images, ``p c h w``; None: all frames have their own noise.
        is_loop: the clip's end leads to its beginning.
    """

    def __init__(
        self, pins: PinnedFrames, latents: Tensor, frames: int, inverted: Tensor | None, *, is_loop: bool = False
    ) -> None:
        self.pins = pins
        self.frames = frames
        self.latents = latents
        self._inverted = inverted
        self._is_loop = is_loop
        self._places = HostTensor(pins.frames)

    def in_noise(self, noise: Tensor) -> Tensor:
        """Unit noise ``f c h w``, with the share of the images' inverted noise."""
        if self._inverted is None:
            return noise
        return share_inverted_noise(noise, self._inverted, self.pins.frames, self.pins.inversion, is_loop=self._is_loop)

    def in_result(self, latents: Tensor) -> Tensor:
        """Sampled latents ``f c h w``; those of exactly pinned frames are their images', bit for bit."""
        return latents if self.pins.strength < 1 else self.put(latents, self.latents)

    def put(self, rows: Tensor, values: Tensor) -> Tensor:
        """Rows ``(k b f) ...`` with the values of the pinned frames, ``p ...`` or ``(k b) p ...``."""
        by_clip = self._by_clip(rows)
        values = values.to(rows.dtype).expand(len(by_clip), len(self.pins.pins), *rows.shape[1:])
        return by_clip.index_copy(1, self._places.on(rows.device), values).flatten(0, 1)

    def take(self, rows: Tensor) -> Tensor:
        """The pinned frames among rows ``(k b f) ...``: ``(k b) p ...``."""
        return self._by_clip(rows).index_select(1, self._places.on(rows.device))

    def _by_clip(self, rows: Tensor) -> Tensor:
        return rows.reshape(count_clips(len(rows), self.frames), self.frames, *rows.shape[1:])

    @contextmanager
    def held(self, unet: nn.Module, sampler: Any) -> Iterator[HeldFrames]:
        """Hold the pinned frames in all calls of the UNet inside the block.

        Enter it before anything that replaces the UNet's forward, so that this records the timesteps of the rows.

        Args:
            sampler: a diffusers scheduler with the noise levels of the sampling.
        """
        hooks = HeldFrames(self, sampler)
        handles = [
            unet.register_forward_pre_hook(hooks.before, with_kwargs=True),
            unet.register_forward_hook(hooks.after),
        ]
        try:
            yield hooks
        finally:
            for handle in handles:
                handle.remove()


class HeldFrames:
    """The hooks of a UNet that hold pinned frames.

    Attributes:
        progress: completed share of the sampling. Frames are held while it is below the strength of the pins.
    """

    def __init__(self, pinned: PinnedLatents, sampler: Any) -> None:
        self.progress = 0.0
        self._pinned = pinned
        self._levels = sampler.alphas_cumprod.to(pinned.latents.device, torch.float32)
        self._predicts_velocity = sampler.config.prediction_type == _V_PREDICTION
        self._given: tuple[Tensor, Tensor] | None = None  # latents and timesteps of the call under way

    def before(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        """Replace the rows of pinned frames by their images, and their timesteps by 0."""
        if self.progress >= self._pinned.pins.strength:
            return None
        latents, timestep, *others = args  # diffusers' pipeline passes both by position
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
        self._given = latents, timesteps
        pinned = self._pinned
        rows = pinned.put(latents, pinned.latents)
        return (rows, pinned.put(timesteps, torch.zeros_like(timesteps[:1])), *others), kwargs

    def after(self, _unet: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """Replace what the UNet predicts for pinned frames, so that the sampler goes to their images."""
        given, self._given = self._given, None
        if given is None:
            return None
        latents, timesteps = given
        pinned = self._pinned
        signal = self._levels[pinned.take(timesteps).round().long()][..., None, None, None]
        image = pinned.latents.float()
        noise = (pinned.take(latents).float() - signal.sqrt() * image) / (1 - signal).sqrt()
        wanted = signal.sqrt() * noise - (1 - signal).sqrt() * image if self._predicts_velocity else noise
        return (pinned.put(output[0], wanted), *output[1:])


def check_pins(plan: ClipPlan) -> None:
    """Read the images of the plan's pinned frames once, before anything is loaded.

    Raises:
        AnimateDiffError: one of them is missing or damaged.
    """
    if plan.pins is not None:
        for pin in plan.pins.pins:
            examine(pin.source(plan.pins.fit), frames=1)


def pinned_latents(
    pipeline: Any, plan: ClipPlan, kwargs: Mapping[str, Any], like: Tensor, own_sampler: Any
) -> PinnedLatents | None:
    """The pinned frames among those that are rendered; None if there are none.

    Call it before a motion module is injected, since the checkpoint alone inverts the images.

    Args:
        kwargs: the pipeline's keyword arguments for prompts.
        like: an empty tensor with the shape, dtype and device of the latents, ``f c h w``.
        own_sampler: the checkpoint's scheduler.

    Raises:
        ClipError: an image cannot be read.
    """
    pins = None if plan.pins is None else plan.pins.within(len(like))
    if pins is None:
        return None
    size = like.shape[3] * PIXELS_PER_LATENT, like.shape[2] * PIXELS_PER_LATENT
    images = (image for pin in pins.pins for image in source_frames(pin.source(pins.fit), size, 1))
    latents = encode_frames(pipeline, images, like[: len(pins.pins)])
    inverted = None
    if pins.inversion > 0 and plan.video is None and len(pins.pins) < len(like):
        conditions = _conditions(pipeline, kwargs, pins.frames)
        # The checkpoint was trained with its own noise levels, and the motion module with others.
        sampler = new_sampler(SAMPLER, own_sampler, None)
        inverted = _inverted(pipeline, latents, conditions, sampler, plan.sampling.steps)
    return PinnedLatents(pins, latents, len(like), inverted, is_loop=is_loop(plan.settings))


@torch.no_grad()
def _inverted(pipeline: Any, latents: Tensor, conditions: Tensor, sampler: Any, steps: int) -> Tensor:
    levels = sampler.alphas_cumprod

    def predict(noised: Tensor, timestep: float) -> Tensor:
        output: Tensor = pipeline.unet(noised, timestep, encoder_hidden_states=conditions, return_dict=False)[0]
        if sampler.config.prediction_type != _V_PREDICTION:
            return output
        signal = float(levels[round(timestep)])
        noise: Tensor = signal**0.5 * output.float() + (1 - signal) ** 0.5 * noised.float()
        return noise

    return invert(latents, predict, timesteps_of(sampler, steps), levels)


def _conditions(pipeline: Any, kwargs: Mapping[str, Any], frames: list[int]) -> Tensor:
    """The conditions of frames' prompts: ``p n c``."""
    given = kwargs.get("prompt_embeds")
    if given is None:
        given, _ = pipeline.encode_prompt(kwargs["prompt"], pipeline.device, 1, False)
    rows: Tensor = given.expand(len(frames), -1, -1) if len(given) == 1 else given[frames]
    return rows
