"""AUTOMATIC1111: where image to image begins, what denoisers leave out, and what inpainting checkpoints see."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.sampling.hold import NoiseLevels
from lib_animatediff.sampling.inversion import Level
from lib_animatediff.video.pixels import levels_of
from motion_module import ClipError

from . import a1111
from .host_models import host_model

HIGHEST = 0.999  # denoising strength of the WebUI's image to image
_INPAINTING = ("hybrid", "concat")  # how the UNet takes the mask
_SKIP_OPTION, _SKIP_FIELD = "skip_early_cond", "Skip Early CFG"


def encoded(image: Any, model: Any) -> Tensor:
    """``(1 c h w)``: the latents of an RGB image."""
    return a1111.encoded(pixels_of(image), model)


def pixels_of(image: Any) -> Tensor:
    """``(1 3 h w)``: an RGB image, from 0 to 1."""
    return levels_of(image)[None].permute(0, 3, 1, 2).float() / 255


def levels_of_img2img(p: Any, steps: int | None) -> Tensor:
    """The noise level of the first call of the denoiser by the number of steps less one, in the sampler's own units.

    Args:
        steps: as passed to ``sample_img2img``.
    """
    steps, _ = a1111.img2img_steps(p, steps)
    if hasattr(p.sampler, "get_timesteps"):  # one step less than the level of its noise says
        timesteps: Tensor = p.sampler.get_timesteps(p, steps).cpu().float()
        return torch.cat([timesteps.new_tensor([-1]), timesteps[: steps - 1]])
    return p.sampler.get_sigmas(p, steps).cpu()[:steps].flip(0)  # type: ignore[no-any-return]


def levels_of_calls(p: Any, steps: int | None) -> list[Level]:
    """The noise levels at which image to image calls its denoiser, from the noisiest one; empty: it does not.

    Args:
        steps: as passed to ``sample_img2img``.
    """
    _, last = a1111.img2img_steps(p, steps)
    called = levels_of_img2img(p, steps)[: last + 1].flip(0)
    table = host_model(p.sd_model).alphas_cumprod.detach().float().cpu()
    if hasattr(p.sampler, "get_timesteps"):
        timesteps = called[called >= 0]
        return list(zip(timesteps.tolist(), table[timesteps.long()].tolist(), strict=True))
    signals = 1 / (1 + called[called > 0].double() ** 2)
    timesteps = NoiseLevels(table, in_logarithms=True).timesteps_at(signals.float())
    return list(zip(timesteps.tolist(), signals.tolist(), strict=True))


def first_calls(p: Any, strengths: Tensor, steps: int | None) -> Tensor:
    """The number of the call, of `levels_of_calls`, with which image to image of each strength would begin: int64."""
    total, last = a1111.img2img_steps(p, steps)
    return last - (strengths.clamp(max=HIGHEST) * total).long()


def signal_of_start(p: Any, steps: int | None) -> float:
    """The share of the image in the variance of the latents that image to image begins from."""
    steps, last = a1111.img2img_steps(p, steps)
    if hasattr(p.sampler, "get_timesteps"):
        return float(host_model(p.sd_model).alphas_cumprod[p.sampler.get_timesteps(p, steps)[last]])
    return 1 / (1 + float(p.sampler.get_sigmas(p, steps)[steps - last - 1]) ** 2)


def predicts_noise(denoiser: Any) -> bool:
    """Whether a ``CFGDenoiser`` gives the noise at a timestep, and not the image at a sigma."""
    # Those of Forge and reForge get timesteps, too, but put masks on later.
    return bool(denoiser.mask_before_denoising or getattr(denoiser, "classic_ddim_eps_estimation", False))


def sees_masks(p: Any) -> bool:
    """Whether the checkpoint is made for inpainting."""
    return p.sampler.conditioning_key in _INPAINTING or host_model(p.sd_model).is_inpainting


def mask_condition(p: Any, image: Any, changes: Tensor, latents: Tensor) -> Tensor:
    """What an inpainting checkpoint sees of an image: ``1 5 h w``.

    Args:
        image: RGB.
        changes: ``h w``, 1 where the image may change.
        latents: of the image, ``1 c h w``.
    """
    vae = p.sd_model.first_stage_model  # Forge's has another place, and casts images itself
    dtype = next(vae.parameters()).dtype if isinstance(vae, torch.nn.Module) else torch.float32
    pixels = pixels_of(image).to(latents.device, dtype) * 2 - 1
    return p.inpainting_image_conditioning(pixels, latents, image_mask=changes[None, None])  # type: ignore[no-any-return]


class _FirstStep(int):
    """Step 0, of which hardly any share of the steps is done."""

    def __truediv__(self, steps: float) -> float:
        return sys.float_info.min


def can_leave_out_uncond() -> bool:
    """Whether this WebUI has the option that `optional_uncond` uses."""
    return hasattr(a1111.opts(), _SKIP_OPTION)


@contextmanager
def optional_uncond(p: Any) -> Iterator[Callable[[Any, bool], None]]:
    """Yield a function that makes a denoiser leave out uncond from the next call on, or not.

    It uses the option "Ignore negative prompt during early sampling", which the denoiser reads in each call after its
    callback. The infotext then says what the user's own option did. Forge Neo ignores the option where no share of the
    steps is done yet.

    Raises:
        ClipError: this WebUI has no such option.
    """
    users: Any = getattr(a1111.opts(), _SKIP_OPTION, None)
    if users is None:
        raise ClipError(
            'This WebUI has no option "Ignore negative prompt during early sampling", which CFG start and CFG end use. '
            "Update it, or set guidance_start to 0 and guidance_end to 1.",
            code="AD-W31",
        )
    fields = p.extra_generation_params
    before = fields.get(_SKIP_FIELD)

    def leave_out(denoiser: Any, leaves_out: bool) -> None:
        vars(a1111.opts())[_SKIP_OPTION] = math.inf if leaves_out else users
        if not denoiser.step:
            denoiser.step = _FirstStep(0) if leaves_out else 0

    with a1111.options_for_one_run(**{_SKIP_OPTION: users}):
        try:
            yield leave_out
        finally:
            recorded = before if users == 0 else users
            if recorded is None:
                fields.pop(_SKIP_FIELD, None)
            elif _SKIP_FIELD in fields:
                fields[_SKIP_FIELD] = recorded
