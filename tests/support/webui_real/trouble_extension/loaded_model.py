"""The loaded checkpoint as AUTOMATIC1111's WebUI, Forge or reForge holds it."""

from importlib import import_module

import torch
from modules import shared


def objects():
    """What Forge and reForge sample with; None in AUTOMATIC1111's WebUI."""
    return getattr(shared.sd_model, "forge_objects", None)


def whole():
    """The module with all weights; in Forge and reForge, with those of the UNet.

    A LoRA stays in their text encoder until it encodes again, and they keep the conditions of a prompt.
    """
    return shared.sd_model if objects() is None else objects().unet.model


def own_methods():
    """What the checkpoint itself has in place of methods of its class; Forge's is no module."""
    own = {name: repr(value) for name, value in vars(shared.sd_model).items() if callable(value)}
    return repr(sorted(own.items()))


def name_of(inner):
    """The name of a part of `whole` in AUTOMATIC1111's checkpoints."""
    return inner if objects() is None else f"model.{inner}"


def unet():
    return shared.sd_model.model.diffusion_model if objects() is None else objects().unet.model.diffusion_model


def part(name):
    """A module by its name in AUTOMATIC1111's checkpoints."""
    if objects() is None:
        return shared.sd_model.get_submodule(name)
    first, _, rest = name.partition(".")
    roots = {"model": objects().unet.model, "first_stage_model": objects().vae.first_stage_model}
    return roots[first].get_submodule(rest)


def alphas():
    """The noise levels that the UNet knows."""
    if objects() is None:
        return shared.sd_model.alphas_cumprod
    model = objects().unet.model
    sigmas = (getattr(model, "predictor", None) or model.model_sampling).sigmas.double()
    return 1 / (sigmas**2 + 1)


def denoised(denoiser, x, sigma, text, image_cond):
    """What the host's own call of the UNet makes of latents with one text for each row, without CFG."""
    if objects() is None:
        return denoiser.inner_model(x, sigma, cond={"c_crossattn": [text], "c_concat": [image_cond]})
    if hasattr(objects().unet.model, "predictor"):
        return denoised_by_forge(denoiser, x, sigma, text, image_cond)
    sampling = import_module("ldm_patched.modules.samplers").sampling_function
    given = import_module("modules_forge.forge_sampler").cond_from_a1111_to_patched_ldm(text)
    return sampling(objects().unet.model, x, sigma, None, given, 1.0, objects().unet.model_options, 1)


def denoised_by_forge(denoiser, x, sigma, text, image_cond):
    kind = import_module("modules.script_callbacks").CFGDenoiserParams
    params = kind(x, image_cond, sigma, 0, 1, text, None, denoiser)
    composition = [[(row, 1.0)] for row in range(len(x))]
    sampling = import_module("backend.sampling.sampling_function").sampling_function
    return sampling(denoiser, denoiser_params=params, cond_scale=1.0, cond_composition=composition)[0]


def begins_to_skip():
    """Whether steps with an even number leave out uncond, which reForge does; others leave it out in odd ones."""
    return objects() is not None and hasattr(objects().unet.model, "model_sampling")


def without_uncond(part):
    """What stands for uncond in a step without it: the first part; Forge and reForge add the parts up."""
    return part if objects() is None else torch.zeros_like(part)


def says_timesteps(denoiser):
    """Whether the sampler's noise levels are timesteps: those of DDIM and the like, which reForge translates before."""
    return getattr(denoiser, "alphas", None) is not None and not begins_to_skip()


def at_level(denoiser, x, sigma):
    """Latents and noise levels of a call, and what makes the sampler's result of the denoised latents.

    In Forge and reForge, samplers of DDIM's family pass timesteps and latents of unit variance, and want noise.
    """
    if not getattr(denoiser, "classic_ddim_eps_estimation", False):
        return x, sigma, lambda denoised: denoised
    table = denoiser.inner_model.inner_model.alphas_cumprod
    level = ((1 - table) / table).sqrt()[sigma.round().long()][:, None, None, None]
    scaled = x * (level**2 + 1).sqrt()
    return scaled, level.flatten(), lambda denoised: (scaled - denoised) / level


def cond_first(rows, named):
    """Rows of a call with those of cond before those of uncond, which come first in Forge and reForge."""
    streams = (named.get("transformer_options") or {}).get("cond_or_uncond")
    if not streams:
        return rows
    parts = rows.chunk(len(streams))
    return torch.cat([part for kind in (0, 1) for part, own in zip(parts, streams, strict=True) if own == kind])
