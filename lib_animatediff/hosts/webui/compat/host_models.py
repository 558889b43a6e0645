"""The loaded checkpoint as its host holds it: its UNet, its noise levels, and how the host calls the UNet.

The kind is chosen by what a model has, not by the program's name. AUTOMATIC1111's is a model of ldm or sgm. reForge's
looks like one, but samples with its ``forge_objects``. Forge's has ``forge_objects`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.call import count_rows
from lib_animatediff.engine.patching import patch_forward
from lib_animatediff.sampling.schedule import use_schedule
from motion_module import IncompatibleModelError
from motion_module.schedules import BetaSchedule

from . import a1111

_VELOCITY = ("v", "v_prediction")
_INPAINTING_CHANNELS = 9
_ROWS = {"cond_indices": 0, "uncond_indices": 1}  # lists in the options of a call, and their kind of stream
_MEMORY = "memory_peak_estimation_modifier"  # the key of a UNet patcher's own estimate


class HostModel:
    """A checkpoint of AUTOMATIC1111.

    Args:
        sd_model: ``p.sd_model``.

    Attributes:
        calls_whole_streams: whether each call of the UNet has whole streams in the order ``(k b f)``, and conditions of
            one length. Otherwise the host arranges rows by prompts, and may split them.
    """

    calls_whole_streams = False

    def __init__(self, sd_model: Any) -> None:
        self._sd_model = sd_model

    @property
    def unet(self) -> nn.Module:
        """The UNet that the host calls."""
        return self._sd_model.model.diffusion_model  # type: ignore[no-any-return]

    @property
    def alphas_cumprod(self) -> Tensor:
        """The noise levels that the sampler uses now, ``(steps,)``."""
        return self._sd_model.alphas_cumprod  # type: ignore[no-any-return]

    @property
    def predicts_velocity(self) -> bool:
        """Whether the UNet predicts velocities; otherwise it predicts noise."""
        return getattr(self._sd_model, "parameterization", None) in _VELOCITY

    @property
    def dtype(self) -> torch.dtype:
        """The type that the UNet computes in; the weights may have a narrower one."""
        return next(self.unet.parameters()).dtype

    @property
    def is_inpainting(self) -> bool:
        """Whether the checkpoint sees masks. Samplers know it of AUTOMATIC1111's models of Stable Diffusion 1.5."""
        return bool(getattr(self._sd_model, "is_sdxl_inpaint", False))

    def use_schedule(self, schedule: BetaSchedule) -> AbstractContextManager[None]:
        """Sample with these noise levels inside the block, with the user's options for them."""
        return use_schedule(self._sd_model, schedule, adjust=partial(_with_noise_options, self._sd_model))

    def empty_condition(self) -> Any:
        """``(1 n c)``: the condition of the empty prompt; SDXL's may be a dict."""
        return self._sd_model.cond_stage_model_empty_prompt

    def prompt_length(self, text: str) -> Any:
        """Tokens of a prompt, padded to whole chunks; a string before the tokenizer is ready."""
        return a1111.prompt_length(text)

    def timestep_of(self, params: Any) -> Tensor:
        """The timestep of the denoiser's next call, ``(1,)``.

        Args:
            params: of the hook before the call.
        """
        sigma, model = params.sigma[:1], params.denoiser.inner_model
        # k-diffusion's samplers know noise levels; those of the DDIM family pass timesteps under the same name.
        return model.sigma_to_t(sigma) if hasattr(model, "sigma_to_t") else sigma  # type: ignore[no-any-return]

    def predicted(self, latents: Tensor, timesteps: Tensor, conditions: dict[str, Any], images: Tensor) -> Tensor:
        """What the UNet predicts of latents ``n c h w`` of unit variance, without CFG.

        Args:
            conditions: ``c_crossattn``, or SDXL's dict.
            images: what an inpainting checkpoint sees, ``n 5 h w``.
        """
        given = {**conditions, "c_concat": [images]}
        return self._sd_model.apply_model(latents, timesteps, given)  # type: ignore[no-any-return]

    def expect_rows(self, rows: int, more_bytes: int) -> None:
        """Let the host make room for calls of so many rows of a stream, and for weights that it does not know."""

    def numbering_rows(self) -> AbstractContextManager[None]:
        """Inside the block, what a call says about its rows by their numbers is about those of the context window.

        Enter it before the windows are put around the UNet's ``forward``.
        """
        return nullcontext()


class _PatchedModel(HostModel):
    """What reForge and Forge share: the UNet is a patcher's, and its model knows the noise levels."""

    calls_whole_streams = True
    _levels: str  # the attribute of the patcher's model with sigmas
    _memory: str  # the module that moves models between devices

    @property
    def _patcher(self) -> Any:
        return self._sd_model.forge_objects.unet

    @property
    def _noise_levels(self) -> Any:
        return getattr(self._patcher.model, self._levels)

    @property
    def unet(self) -> nn.Module:
        """The UNet of all clones of the patcher."""
        return self._patcher.model.diffusion_model  # type: ignore[no-any-return]

    @property
    def alphas_cumprod(self) -> Tensor:
        """The noise levels that sampler and UNet use now, ``(steps,)``."""
        return 1 / (self._noise_levels.sigmas**2 + 1)  # type: ignore[no-any-return]

    @property
    def is_inpainting(self) -> bool:
        """Whether the checkpoint sees masks."""
        return getattr(self.unet, "in_channels", None) == _INPAINTING_CHANNELS

    @contextmanager
    def use_schedule(self, schedule: BetaSchedule) -> Iterator[None]:
        """Sample with these noise levels inside the block, with the user's options for them."""
        levels = self._noise_levels
        former = levels.sigmas, levels.log_sigmas
        table = _with_noise_options(self._sd_model, schedule.alphas_cumprod()).double()
        levels.set_sigmas(((1 - table) / table).sqrt().to(former[0].device))
        try:
            yield
        finally:
            levels.sigmas, levels.log_sigmas = former

    def timestep_of(self, params: Any) -> Tensor:
        """The timestep of the denoiser's next call, ``(1,)``; samplers of all families pass noise levels."""
        return self._noise_levels.timestep(params.sigma[:1])  # type: ignore[no-any-return]

    def numbering_rows(self) -> AbstractContextManager[None]:
        """Number the rows of a call inside the block."""
        return patch_forward(self.unet, _with_numbers)

    @torch.inference_mode()
    def predicted(self, latents: Tensor, timesteps: Tensor, conditions: dict[str, Any], images: Tensor) -> Tensor:
        """What the UNet predicts of latents ``n c h w`` of unit variance, without CFG."""
        import_module(self._memory).load_model_gpu(self._patcher)
        context = conditions["crossattn"] if "crossattn" in conditions else conditions["c_crossattn"][0]
        label = {"y": conditions["vector"].to(self.dtype)} if "vector" in conditions else {}
        shown = torch.cat([latents, images.to(latents)], 1) if self.is_inpainting else latents
        found = self.unet(
            shown.to(self.dtype), timesteps, context=context.to(self.dtype), transformer_options={}, **label
        )
        return found.to(latents.dtype)  # type: ignore[no-any-return]

    def expect_rows(self, rows: int, more_bytes: int) -> None:
        """Let the host make room for calls of so many rows of a stream, and for weights that it does not know.

        It would make room for all frames. The patcher serves one pass: the host takes another one for the next.
        """
        patcher = self._patcher.clone()
        estimate = patcher.model_options.get(_MEMORY, patcher.memory_required)

        def of_windows(shape: Sequence[int]) -> Any:
            return estimate([min(shape[0], 2 * rows), *shape[1:]])  # the host counts two streams

        patcher.model_options[_MEMORY] = of_windows
        patcher.memory_required = of_windows  # Forge Neo reads no such option
        patcher.add_extra_preserved_memory_during_sampling(more_bytes)
        self._sd_model.forge_objects.unet = patcher


class ReforgeModel(_PatchedModel):
    """A checkpoint of reForge, which keeps the noise levels of its samplers twice."""

    _levels = "model_sampling"
    _memory = "ldm_patched.modules.model_management"

    @property
    def dtype(self) -> torch.dtype:
        """The type that the UNet computes in; the weights may have a narrower one."""
        return getattr(self._patcher.model, "manual_cast_dtype", None) or super().dtype

    @contextmanager
    def use_schedule(self, schedule: BetaSchedule) -> Iterator[None]:
        """Sample with these noise levels inside the block: the sampler's grid, and the UNet's timesteps."""
        grid = use_schedule(self._sd_model, schedule, adjust=partial(_with_noise_options, self._sd_model))
        with super().use_schedule(schedule), grid:
            yield

    def prompt_length(self, text: str) -> Any:
        """Tokens of a prompt, padded to whole chunks."""
        return a1111.prompt_length(text, self._sd_model.cond_stage_model)


class ForgeModel(_PatchedModel):
    """A checkpoint of Forge."""

    _levels = "predictor"
    _memory = "backend.memory_management"

    @property
    def predicts_velocity(self) -> bool:
        """Whether the UNet predicts velocities; otherwise it predicts noise."""
        return self._noise_levels.prediction_type in _VELOCITY

    @property
    def dtype(self) -> torch.dtype:
        """The type that the UNet computes in; the weights may have a narrower one."""
        return self._patcher.model.computation_dtype  # type: ignore[no-any-return]

    def empty_condition(self) -> Any:
        """``(1 n c)``: the condition of the empty prompt; SDXL's is a dict."""
        return self._sd_model.get_learned_conditioning([""])

    def prompt_length(self, text: str) -> Any:
        """Tokens of a prompt, padded to whole chunks."""
        return self._sd_model.get_prompt_lengths_on_ui(text)[1]


def _with_noise_options(sd_model: Any, table: Tensor) -> Tensor:
    """Apply the user's noise options, and what reForge and Forge know of the checkpoint."""
    own = (sd_model, getattr(sd_model, "model_config", None))
    return a1111.with_noise_options(table, rescales=any(getattr(each, "ztsnr", False) for each in own))


def _with_numbers(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the UNet with the numbers of its own rows of cond and of uncond, which patches of attention read."""
    options = kwargs.get("transformer_options") or {}
    if not any(name in options for name in _ROWS):
        return forward(*args, **kwargs)
    streams = options["cond_or_uncond"]
    each = count_rows(args, kwargs) // len(streams)
    rows = {
        name: [
            row
            for place, kind in enumerate(streams)
            if kind == wanted
            for row in range(place * each, (place + 1) * each)
        ]
        for name, wanted in _ROWS.items()
    }
    return forward(*args, **{**kwargs, "transformer_options": {**options, **rows}})


def host_model(sd_model: Any) -> HostModel:
    """The loaded checkpoint.

    Raises:
        IncompatibleModelError: the host holds it in a way that is not known.
    """
    if (found := _found(sd_model)) is None:
        raise IncompatibleModelError(
            "This WebUI holds its models in a way that AnimateDiff does not know. Use the AUTOMATIC1111 WebUI, Forge "
            "or reForge.",
            code="AD-W23",
        )
    return found


def current_model() -> HostModel:
    """The loaded checkpoint, during a request.

    Raises:
        IncompatibleModelError: the host holds it in a way that is not known.
    """
    return host_model(a1111.loaded_model())


def loaded_model() -> HostModel | None:
    """The loaded checkpoint; None if none is loaded, or not as one that is known."""
    return _found(a1111.loaded_model())


def lacks_noise_levels(sd_model: Any) -> bool:
    """Whether Forge has no table of noise levels for the checkpoint, as for those of flow matching."""
    predictor = getattr(_patched(sd_model), ForgeModel._levels, None)
    return predictor is not None and not hasattr(predictor, "set_sigmas")


def _patched(sd_model: Any) -> Any:
    """The model of the UNet's patcher; None if the host has no patchers."""
    return getattr(getattr(getattr(sd_model, "forge_objects", None), "unet", None), "model", None)


def _found(sd_model: Any) -> HostModel | None:
    if lacks_noise_levels(sd_model):
        return None
    if getattr(sd_model, "forge_objects", None) is not None:
        patched = _patched(sd_model)
        kinds = {"predictor": ForgeModel, "model_sampling": ReforgeModel}
        return next((kind(sd_model) for name, kind in kinds.items() if hasattr(patched, name)), None)
    is_ldm = hasattr(sd_model, "alphas_cumprod") or hasattr(getattr(sd_model, "model", None), "diffusion_model")
    return HostModel(sd_model) if is_ldm else None
