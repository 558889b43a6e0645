"""Loads a diffusers pipeline from a checkpoint file, and creates its sampler."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_animatediff.builtin_model import STABLE_DIFFUSION_15, CheckpointError
from lib_animatediff.request.distilled import SPACINGS, TRAILING
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from motion_module import ClipError, MotionFileError
from motion_module.files.weights import read_header
from motion_module.limits import is_file, is_folder
from motion_module.schedules import SCALED_LINEAR, TRAINING_STEPS, BetaSchedule

CONFIG_INDEX = "model_index.json"
PIXELS_PER_LATENT = 8
INPAINTING_CHANNELS = 9  # of the UNet: latents, the mask, and the latents of what it keeps
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"


@dataclass(frozen=True)
class Sampler:
    """A sampler by diffusers.

    Attributes:
        scheduler: diffusers' class.
        webui: its name in the WebUI, for infotexts.
        options: of the class.
        spacings: timesteps that it can have, the default first; None: those of consistency models, which are 50 in the
            training, evenly spaced from the last one.
        eta: share of the noise that is added again at each step, for samplers that leave the choice.
    """

    scheduler: str
    webui: str
    options: Mapping[str, Any] = field(default_factory=dict)
    spacings: tuple[str | None, ...] = SPACINGS
    eta: float = 0.0


_CONSISTENCY_SPACINGS = (None, TRAILING)
CONSISTENCY_STEPS = 50  # of the distillation of LCM and TCD; also the most sampling steps
TCD_ETA = 0.3  # gamma of the TCD paper, arXiv 2402.19159
SAMPLERS = {  # ddim as officially
    "ddim": Sampler("DDIMScheduler", "DDIM", {"clip_sample": False}),
    "euler": Sampler("EulerDiscreteScheduler", "Euler"),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler", "Euler a"),
    "dpm++2m": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M"),
    "dpm++2m-sde": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M SDE", {"algorithm_type": "sde-dpmsolver++"}),
    "lcm": Sampler("LCMScheduler", "LCM", spacings=_CONSISTENCY_SPACINGS),
    "tcd": Sampler("TCDScheduler", "TCD", spacings=_CONSISTENCY_SPACINGS, eta=TCD_ETA),
}
SAMPLER, STEPS, CFG = "ddim", 25, 7.5  # as in the official configurations
_NOISE_LEVELS = (  # options of diffusers' schedulers for the noise schedule of a checkpoint
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def check_request(*, seed: int, size: tuple[int, int], steps: int, cfg: float) -> None:
    """Check values before any file is loaded.

    Raises:
        ClipError: a value is out of range.
    """
    if not 0 <= seed < SEED_LIMIT:
        raise ClipError(f"seed must be between 0 and {SEED_LIMIT - 1}, not {seed}.", code="AD-D12")
    for name, pixels in zip(("width", "height"), size, strict=True):
        if pixels < PIXELS_PER_LATENT or pixels % PIXELS_PER_LATENT:
            raise ClipError(f"{name} must be a multiple of {PIXELS_PER_LATENT} above 0, not {pixels}.", code="AD-D13")
    # The official sampler starts one step late, so that it has one step less than the training.
    if not 1 <= steps < TRAINING_STEPS:
        raise ClipError(f"steps must be between 1 and {TRAINING_STEPS - 1}, not {steps}.", code="AD-D14")
    if not math.isfinite(cfg):
        raise ClipError(f"cfg must be a finite number, not {cfg}.", code="AD-D15")


def pick_device(name: str = "auto") -> str:
    """PyTorch's name of a device. ``auto`` is the first available one of CUDA, MPS and the CPU."""
    import torch

    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_host(checkpoint: Path, device: str) -> None:
    """Check that file and device exist before `load_pipeline` does slow work.

    Raises:
        CheckpointError: the file or the device does not exist.
    """
    if not is_file(checkpoint):
        raise CheckpointError(f"There is no checkpoint {checkpoint}. Check the path.", code="AD-D16")
    check_device(device)


def check_device(device: str) -> None:
    """Check that PyTorch can compute on a device.

    Raises:
        CheckpointError: it cannot.
    """
    import torch

    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # each backend raises its own type
        raise CheckpointError(
            f"PyTorch cannot compute on {device!r}. Use the device 'cpu', or install a PyTorch build that supports it "
            "(README).",
            code="AD-D17",
        ) from error


def find_config(checkpoint: Path, config: Path | None = None) -> Path:
    """The folder with tokenizer and configs: the given one, ``config`` in the checkpoint's folder, or the built-in one.

    Raises:
        CheckpointError: ``config`` is not such a folder.
    """
    if config is None:
        neighbour = checkpoint.parent / "config"
        return neighbour if _is_config(neighbour) else STABLE_DIFFUSION_15
    if not _is_config(config):
        raise CheckpointError(
            f"There is no {CONFIG_INDEX} in {config}. As config, give the folder of a model as diffusers' "
            "save_pretrained writes it (its weights are not needed), or omit it for Stable Diffusion 1.5.",
            code="AD-D18",
        )
    return config


def _is_config(folder: Path) -> bool:
    return is_file(folder / CONFIG_INDEX)


def load_pipeline(checkpoint: Path, *, config: Path | None = None, device: str = "cpu") -> Any:
    """A diffusers pipeline from a Stable Diffusion 1.5 single file; float32 on a CPU, float16 elsewhere.

    Args:
        checkpoint: ``.safetensors`` or ``.ckpt`` file.
        config: folder with tokenizer and configs, as ``save_pretrained`` writes them; see `find_config`.
        device: PyTorch's name of it.

    Raises:
        CheckpointError: the file is missing or damaged, the device does not exist, or ``config`` is not such a folder.
    """
    check_host(checkpoint, device)
    folder = find_config(checkpoint, config)
    # All Stable Diffusion 1.5 models have the same tokenizer, so a folder of configs may omit it.
    tokenizer = folder if is_folder(folder / "tokenizer") else STABLE_DIFFUSION_15
    import torch

    parts: dict[str, Any] = {}
    with _quiet_libraries():
        from diffusers import StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTokenizer

        try:
            how = {
                "config": str(folder),
                "local_files_only": True,
                "torch_dtype": torch.float32 if torch.device(device).type == "cpu" else torch.float16,
            }
            if is_inpainting_file(checkpoint):
                channels = {"subfolder": "unet", "in_channels": INPAINTING_CHANNELS}
                parts["unet"] = UNet2DConditionModel.from_single_file(str(checkpoint), **how, **channels)
            pipeline = StableDiffusionPipeline.from_single_file(
                str(checkpoint),
                **how,
                **parts,
                safety_checker=None,
                tokenizer=CLIPTokenizer.from_pretrained(tokenizer / "tokenizer"),
            ).to(device)
        except Exception as error:  # diffusers raises errors of any type
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0]
            raise CheckpointError(
                f"{checkpoint.name} could not be loaded as Stable Diffusion 1.5: {reason.rstrip('. ')}. "
                "Check that it is a complete checkpoint of that base, and that config, if given, belongs to it.",
                code="AD-D19",
            ) from error
    pipeline.vae.enable_slicing()  # decoding all frames at once would need gigabytes of memory
    return pipeline


def is_inpainting_file(checkpoint: Path) -> bool:
    """Whether a single file holds an inpainting checkpoint, by its header; False for a file that cannot be read."""
    try:
        first = read_header(checkpoint).tensors.get(_FIRST_LAYER)
    except MotionFileError:
        return False
    return first is not None and first.shape[1:2] == (INPAINTING_CHANNELS,)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Suppress warnings of both libraries about intended choices: no safety checker, no torchvision."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    former = [(log, log.get_verbosity()) for log in (of_diffusers, of_transformers)]
    for log, _ in former:
        log.set_verbosity_error()
    showed_progress = of_diffusers.is_progress_bar_enabled()
    of_diffusers.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity in former:
            log.set_verbosity(verbosity)
        if showed_progress:
            of_diffusers.enable_progress_bar()


def check_sampler(name: str, spacing: str | None = None, steps: int = 1) -> None:
    """Refuse an unknown name of a sampler, timesteps that it does not have, and more steps than it has timesteps.

    Args:
        spacing: one of its spacings; None: its default.

    Raises:
        ClipError: the message lists what there is.
    """
    if name not in SAMPLERS:
        raise ClipError(f"There is no sampler {name!r}. Choose one of {', '.join(SAMPLERS)}.", code="AD-D20")
    spacings = [known for known in SAMPLERS[name].spacings if known is not None]
    if spacing is not None and spacing not in spacings:
        raise ClipError(
            f"The sampler {name} has no {spacing} timesteps. Choose {' or '.join(spacings)}, or omit the spacing.",
            code="AD-D29",
        )
    if has_consistency_timesteps(name, spacing) and steps > CONSISTENCY_STEPS:
        raise ClipError(
            f"The sampler {name} was trained on {CONSISTENCY_STEPS} timesteps, so {steps} steps are too many. Lower "
            "the steps; 4 to 8 are usual.",
            code="AD-D30",
        )


def spacing_of(name: str, spacing: str | None) -> str | None:
    """The spacing of a sampler's timesteps, where None means its default."""
    return SAMPLERS[name].spacings[0] if spacing is None else spacing


def has_consistency_timesteps(name: str, spacing: str | None) -> bool:
    """Whether a sampler takes its steps among the timesteps of a consistency distillation."""
    return spacing_of(name, spacing) is None


def new_sampler(name: str, former: Any, schedule: BetaSchedule | None, spacing: str | None = None) -> Any:
    """A sampler with the motion module's noise levels, and by default the timesteps of the official configurations.

    The prediction type comes from the checkpoint's own scheduler, and so do the noise levels if ``schedule`` is None.

    Args:
        spacing: of the timesteps; None: the sampler's default.
    """
    import diffusers

    check_sampler(name, spacing)
    sampler = SAMPLERS[name]
    levels = _levels(SCALED_LINEAR if schedule is None else schedule)
    if schedule is None:
        levels |= {key: former.config[key] for key in _NOISE_LEVELS if former.config.get(key) is not None}
    return getattr(diffusers, sampler.scheduler)(
        **levels,
        **_timesteps(name, spacing, levels["num_train_timesteps"]),
        prediction_type=former.config.get("prediction_type", "epsilon"),
        **sampler.options,
    )


def timesteps_of(sampler: Any, steps: int) -> list[float]:
    """The timesteps of a run of this many steps, in the order in which the UNet is called with them.

    They are computed in main memory, by a copy of the sampler, so that nothing waits for the device.
    """
    planned = type(sampler).from_config(sampler.config)
    planned.set_timesteps(steps)
    return [float(timestep) for timestep in planned.timesteps.tolist()]


def _timesteps(name: str, spacing: str | None, train_steps: int) -> dict[str, Any]:
    """The options of diffusers' scheduler for its timesteps."""
    if None not in SAMPLERS[name].spacings:
        return {"steps_offset": 1, "timestep_spacing": spacing_of(name, spacing)}
    # Among all timesteps of the training instead of 50, theirs are the trailing ones.
    consistent = has_consistency_timesteps(name, spacing)
    return {"original_inference_steps": CONSISTENCY_STEPS if consistent else train_steps}


def _levels(schedule: BetaSchedule) -> dict[str, Any]:
    return {
        "num_train_timesteps": schedule.steps,
        "beta_schedule": schedule.name,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
    }
