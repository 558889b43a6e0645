"""AUTOMATIC1111: what a call of ``CFGDenoiser`` gives and leaves behind, and how to repeat it without the UNet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from . import a1111

_FUNCTIONS_OF_SAMPLERS = "sampler_post_cfg_function"
_UNET_OF_SAMPLERS = "need_last_noise_uncond"  # of samplers with CFG++


@dataclass(frozen=True)
class DenoiserOutput:
    """One call of a denoiser.

    Attributes:
        denoised: what the sampler gets, ``n c h w``.
        uncond: the noise of uncond, which samplers with CFG++ read; None: they do not.
        padded: whether conditions were padded, in either of the WebUI's ways, as infotexts say.
    """

    denoised: Tensor
    uncond: Tensor | None
    padded: tuple[bool, bool]


def wrap_denoiser(p: Any, ours: Callable[..., Tensor]) -> None:
    """Run ``ours`` in the calls of the denoiser of a sampler, which serves one pass.

    Args:
        ours: receives the denoiser and its own forward, then latents, noise level, and the call's other arguments.
    """
    denoiser = p.sampler.model_wrap_cfg
    original = denoiser.forward
    denoiser.forward = lambda x, sigma, *args, **kwargs: ours(denoiser, original, x, sigma, *args, **kwargs)


def gives_all(kwargs: Mapping[str, Any]) -> bool:
    """Whether a sampler gets all of a call by `DenoiserOutput`.

    Samplers with CFG++ of reForge and Forge Neo pass functions that receive uncond.

    Args:
        kwargs: of the call.
    """
    return _FUNCTIONS_OF_SAMPLERS not in (kwargs.get("model_options") or {})


def output_of(denoiser: Any, denoised: Tensor) -> DenoiserOutput:
    """What a call has given, and left in the denoiser: copies, since samplers may write into the tensors later."""
    uncond = denoiser.last_noise_uncond if getattr(denoiser, _UNET_OF_SAMPLERS, False) else None
    padded = bool(denoiser.padded_cond_uncond), bool(denoiser.padded_cond_uncond_v0)
    return DenoiserOutput(denoised.detach().clone(), None if uncond is None else uncond.detach().clone(), padded)


def repeat_call(denoiser: Any, x: Tensor, sigma: Tensor, output: DenoiserOutput) -> Tensor:
    """Leave the denoiser as the call did that gave an output, and return what the sampler gets.

    Raises:
        InterruptedSampling: the user interrupts.
    """
    state = a1111.state()
    if state.interrupted or state.skipped:
        raise a1111.InterruptedSampling
    denoised = output.denoised.to(x.device)
    if output.uncond is not None:
        denoiser.last_noise_uncond = output.uncond.to(x.device)
    denoiser.padded_cond_uncond, denoiser.padded_cond_uncond_v0 = output.padded
    denoiser.sampler.last_latent = denoiser.get_pred_x0(x, denoised, sigma)  # the result after an interrupt
    denoiser.step += 1
    return denoised


def arguments_of_scripts(p: Any) -> Iterator[tuple[str, list[Any]]]:
    """The title of each always-on script of a request, and its arguments."""
    given = list(p.script_args)
    for script in a1111.scripts_of(p):
        yield a1111.title_of(script), given[script.args_from : script.args_to]


def folder_of_unfinished_clips() -> Path:
    """Where unfinished clips are kept: in the WebUI's folder of caches."""
    return a1111.cache_folder() / "animatediff"
