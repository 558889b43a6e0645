"""The double's samplers, with the arguments of the WebUI's, and what they met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from support.webui_double.denoiser import guided
from support.webui_double.models import SdModel
from support.webui_double.state import InterruptedException, shared
from torch import Tensor, nn

if TYPE_CHECKING:
    from support.webui_double.double import Processing

SIDE = 8


@dataclass
class Sampling:
    """What one run of a sampler met.

    Attributes:
        given: the latents of images that it begins from.
        noise: what is added to them.
        strength: the denoising strength of its p.
    """

    model: SdModel
    rows: int
    table: Tensor
    hooks: int
    given: Tensor | None
    noise: Tensor
    strength: float | None


class Denoiser(nn.Module):
    """CFGDenoiser of the samplers with timesteps, which gives the noise."""

    mask_before_denoising = True
    padded_cond_uncond = padded_cond_uncond_v0 = False
    step = steps = total_steps = 0

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler

    def get_pred_x0(self, x: Tensor, _noise: Tensor, _timestep: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor, _timestep: Tensor, *, p: Any, unet: nn.Module, prompts: Any, step: int) -> Tensor:
        noise = guided(p, unet, x, prompts, step)
        self.step += 1
        return noise


@dataclass
class Sampler:
    """As k-diffusion's: it keeps the noise levels that the checkpoint has when it is made."""

    name: str
    table: Tensor
    conditioning_key = "crossattn"

    def __post_init__(self) -> None:
        self.model_wrap_cfg = Denoiser(self)

    def get_timesteps(self, p: Processing, steps: int) -> Tensor:
        return torch.clip(torch.arange(0, 1000, 1000 // steps) + 1, 0, 999)

    def sample(
        self, p: Processing, x: Tensor, conditioning: Any, unconditional: Any, steps: Any = None, image: Any = None
    ) -> Tensor:
        return self._run(p, None, x, conditioning)

    def sample_img2img(
        self,
        p: Processing,
        x: Tensor,
        noise: Tensor,
        conditioning: Any,
        unconditional: Any,
        steps: Any = None,
        image: Any = None,
    ) -> Tensor:
        return self._run(p, x, noise, conditioning)

    def _run(self, p: Processing, given: Tensor | None, noise: Tensor, prompts: list[str]) -> Tensor:
        model, unet, x = p.sd_model, p.sd_model.model.diffusion_model, noise if given is None else given + noise
        strength = getattr(p, "denoising_strength", None)
        met = Sampling(model, len(x), p.sampler.table, count_hooks(unet), given, noise.clone(), strength)
        shared.samplings.append(met)
        if shared.during_sampling is not None:
            shared.during_sampling(p)
        if shared.state.interrupted:
            return x
        p.sampler.model_wrap_cfg.step = 0
        p.sampler.model_wrap_cfg.steps = p.sampler.model_wrap_cfg.total_steps = shared.steps
        try:
            for step in range(shared.steps):
                timestep = torch.full((len(x),), 500.0 - step)
                noise_of_x = p.sampler.model_wrap_cfg(x, timestep, p=p, unet=unet, prompts=prompts, step=step)
                x = x - (1 - p.sampler.table[500]).sqrt() * noise_of_x / shared.steps
        except InterruptedException:
            pass
        return x


def create_sampler(name: str, model: SdModel) -> Sampler:
    return Sampler(name, model.alphas_cumprod)


def noise(seeds: list[int]) -> Tensor:
    return torch.stack([torch.randn(4, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class ImageRNG:
    """The generators of a batch's rows, of which each call is another draw."""

    def __init__(self, seeds: list[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self) -> Tensor:
        return torch.stack([torch.randn(4, SIDE, SIDE, generator=generator) for generator in self._generators])


def count_hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in module.modules())


def latent_of(picture: Any) -> float:
    """An image is its width and its first pixel."""
    return picture.width / 100 + picture.convert("RGB").getpixel((0, 0))[0] / 1000


def images_tensor_to_samples(image: Tensor, approximation: Any = None, model: Any = None) -> Tensor:
    """The same for the rows of a tensor, each on its own."""
    values = image.shape[-1] / 100 + image[:, 0, 0, 0] * 255 / 1000
    side = SIDE * (2 if image.shape[-1] == 2 * SIDE * SIDE else 1)  # images of hires fix have latents as others have
    return values.view(-1, 1, 1, 1).expand(-1, 4, side, side)


def common() -> dict[str, Any]:
    """What modules.sd_samplers_common has."""
    return {
        "InterruptedException": InterruptedException,
        "images_tensor_to_samples": images_tensor_to_samples,
        "setup_img2img_steps": setup_img2img_steps,
    }


def setup_img2img_steps(p: Processing, _steps: int | None = None) -> tuple[int, int]:
    """With the user's option off."""
    return p.steps, int(min(p.denoising_strength, 0.999) * p.steps)
