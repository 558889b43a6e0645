"""Pinned frames in the WebUI, see `sampling.pinned_frames`: in txt2img, img2img and both passes of hires fix.

The denoisers of all samplers call the UNet with latents of unit variance and a timestep, as diffusers does. So the same
hooks hold the frames. In img2img the other frames start from the init image; at a denoising strength of 1 they start
from noise alone, as in txt2img.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.batch import RowOrder
from lib_animatediff.engine.patching import patch_next_call
from lib_animatediff.hosts.webui.clip.prompts import ClipPrompts
from lib_animatediff.hosts.webui.compat import a1111, unet_calls
from lib_animatediff.hosts.webui.compat.denoiser import encoded
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings.derived import is_loop
from lib_animatediff.sampling.hold import NoiseLevels
from lib_animatediff.sampling.inversion import ddim_timesteps, invert
from lib_animatediff.sampling.pinned_frames import HeldFrames, PinnedLatents, hold
from lib_animatediff.video.fitting import STEP, Size
from lib_animatediff.video.source import over_white

PINS_FIELD, HASHES_FIELD = "Pinned frames", "Pinned frames hashes"  # of infotexts


class PinnedImages:
    """The pinned frames of one request; nothing happens without any."""

    def __init__(self, plan: ClipPlan, prompts: ClipPrompts) -> None:
        self._plan = plan
        self._prompts = prompts
        self._pins = None if plan.pins is None else plan.pins.within(len(plan.rendered))
        self._latents: dict[Size, Tensor] = {}
        self._inverted: tuple[tuple[str, ...], Tensor] | None = None  # with the prompts that they follow
        self._order: RowOrder | None = None
        self._hooks = HeldFrames()

    @torch.no_grad()
    def load(self, p: Any) -> None:
        """Encode the images for the first pass and invert them, with the request's checkpoint alone.

        Raises:
            ClipError: an image cannot be read.
        """
        if self._pins is None:
            return
        latents = self._encoded(p, _size(p))
        if not self._shares_noise(p):
            self._inverted = None
            return
        prompts = tuple(p.prompts)
        if self._inverted is None or self._inverted[0] != prompts:
            self._inverted = prompts, self._inverted_by_clips(p, latents, prompts)

    @contextmanager
    def held(self, p: Any, order: RowOrder | None) -> Iterator[None]:
        """Hold the frames in the calls of the UNet inside the block, from `begin` on.

        Args:
            order: of the rows of a call, where it is not ``(k b f)``.
        """
        self._order = order
        if self._pins is None:
            yield
            return
        with hold(host_model(p.sd_model).unet, self._hooks):
            yield

    @torch.no_grad()
    def begin(self, p: Any, noise: Tensor) -> None:
        """Begin to hold the frames of a pass, and share their noise. Called in the hook before every sampling.

        Call it before FreeInit repeats the sampler's run, so that each run begins from shared noise.

        Args:
            noise: of the rows ``(b f) c h w``, in the size of the pass.
        """
        if self._pins is None:
            return
        inverted = None if p.is_hr_pass or self._inverted is None else self._inverted[1]
        # Hires fix cuts off what does not fit.
        size = (noise.shape[3] * STEP, noise.shape[2] * STEP) if p.is_hr_pass else _size(p)
        pinned = PinnedLatents(
            self._pins,
            self._encoded(p, size).to(noise),
            len(self._plan.rendered),
            inverted,
            places=[self._pins.frames[place] for place in self._pins.lenders(len(self._plan.rendered))],
            is_loop=is_loop(self._plan.settings),
            order=self._order,
            leads_on=self._pins.leads_on and not p.is_hr_pass and self._others_start_from_noise(p),
        )
        model = host_model(p.sd_model)
        levels = NoiseLevels(model.alphas_cumprod, in_logarithms=True)
        self._hooks.begin(pinned, levels, predicts_velocity=model.predicts_velocity)
        if inverted is not None:
            wrap_method(
                p.sampler, "sample", lambda sample, p, x, *args, **named: sample(p, pinned.in_noise(x), *args, **named)
            )
        self._keep = pinned.in_result

    def keep_images(self, p: Any) -> None:
        """Let the sampler's result have the images. Called after all others have patched the sampler."""
        if starts_from_noise(p, self._plan):  # also a preview whose frame has no image
            patch_next_call(p.sampler, "sample_img2img", sample_from_noise)
        if self._pins is None:
            return
        keep = self._keep
        for name in ("sample", "sample_img2img"):
            wrap_method(p.sampler, name, lambda sample, *args, **named: keep(sample(*args, **named)))

    def reach(self, progress: float) -> None:
        """Set the completed share of the sampling, before a call of the denoiser."""
        self._hooks.progress = progress

    def _encoded(self, p: Any, size: Size) -> Tensor:
        """The latents of the images, ``p c h w``. They are means, so that nothing is random."""
        if size not in self._latents:
            assert self._pins is not None
            with a1111.encoding_means():
                images = map(over_white, self._pins.images(size))
                self._latents[size] = torch.cat([encoded(image, p.sd_model) for image in images])
        return self._latents[size]

    def _shares_noise(self, p: Any) -> bool:
        """Whether other frames have a share of the images' inverted noise."""
        return self._pins is not None and self._pins.inversion > 0 and self._others_start_from_noise(p)

    def _others_start_from_noise(self, p: Any) -> bool:
        pins, plan = self._pins, self._plan
        if pins is None or plan.video is not None or len(pins.pins) == len(plan.rendered):
            return False
        return not is_img2img(p) or starts_from_noise(p, plan)

    def _inverted_by_clips(self, p: Any, latents: Tensor, prompts: Sequence[str]) -> Tensor:
        """The inverted noise for the prompts of each clip: ``b p c h w``."""
        assert self._pins is not None
        places, conditions = a1111.first_conditions(self._prompts.pad_conditionings(p.c, "cond", is_second_pass=False))
        conditions = self._prompts.blended_conditions(conditions)
        frames, found = len(self._plan.rendered), {}
        which = self._pins.lenders(frames)
        latents, places_of_pins = latents[which], [self._pins.frames[place] for place in which]
        clips = []
        for first in range(0, len(prompts), frames):
            rows = [first + frame for frame in places_of_pins]
            words = tuple(prompts[row] for row in rows)
            if words not in found:
                found[words] = _inverted(p, latents, rows_of(conditions, [places[row] for row in rows]))
            clips.append(found[words])
        return torch.stack(clips)


def starts_from_noise(p: Any, plan: ClipPlan) -> bool:
    """Whether the other frames of a clip in img2img start from noise instead of the init image."""
    is_free = plan.pins is not None and plan.video is None and plan.ramp is None
    return is_free and is_img2img(p) and p.denoising_strength >= 1 and getattr(p, "mask", None) is None


def _inverted(p: Any, latents: Tensor, conditions: Any) -> Tensor:
    def predict(noised: Tensor, timestep: float) -> Tensor:
        return unet_calls.predicted(p, noised, timestep, conditions)

    # The checkpoint was trained with its own noise levels, and the motion module with others.
    model = host_model(p.sd_model)
    levels = model.alphas_cumprod.float().cpu()
    return invert(latents, predict, ddim_timesteps(int(p.steps)), levels, predicts_velocity=model.predicts_velocity)


def rows_of(conditions: Any, rows: Sequence[int]) -> Any:
    """Some rows of conditions ``n t c``; SDXL's are a dict of tensors."""
    if isinstance(conditions, Tensor):
        return conditions[list(rows)]
    return {name: entry[list(rows)] for name, entry in conditions.items()}


def sample_from_noise(_sample: Any, p: Any, _x: Tensor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Replaces ``Sampler.sample_img2img`` at full strength, where the WebUI still adds the image to the noise."""
    return p.sampler.sample(p, noise, *args, **kwargs)  # type: ignore[no-any-return]


def wrap_method(sampler: Any, name: str, ours: Callable[..., Tensor]) -> None:
    """Run ``ours`` with a method of a sampler, which serves one pass, and its arguments."""
    original = getattr(sampler, name)
    setattr(sampler, name, functools.wraps(original)(lambda *args, **kwargs: ours(original, *args, **kwargs)))


def _size(p: Any) -> Size:
    """Width and height of the first pass."""
    return int(p.width) // STEP * STEP, int(p.height) // STEP * STEP


def is_img2img(p: Any) -> bool:
    """Whether a request is one of image to image."""
    return hasattr(p, "init_images")
