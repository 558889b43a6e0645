"""Types of the WebUI's objects, with the attributes that this extension uses."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Processing(Protocol):
    """One request, ``p`` in the WebUI: ``StableDiffusionProcessingTxt2Img`` or ``...Img2Img``."""

    prompt: Any  # a string, or one per row
    negative_prompt: Any
    styles: list[str]
    seed: Any  # a number, or one per row
    subseed: Any
    subseed_strength: float
    steps: int
    cfg_scale: float
    width: int
    height: int
    batch_size: int
    n_iter: int
    iteration: int
    batch_index: int
    sampler_name: str
    scheduler: str | None
    do_not_save_samples: bool
    do_not_save_grid: bool
    outpath_samples: str
    script_args: Any
    prompts: list[str]
    negative_prompts: list[str]
    all_prompts: list[str]
    all_seeds: list[int]
    all_subseeds: list[int]
    seeds: list[int]
    subseeds: list[int]
    hr_prompts: list[str]
    all_hr_prompts: list[str]
    hr_c: Any
    hr_uc: Any
    hr_upscale_to_x: int
    hr_upscale_to_y: int
    is_hr_pass: bool
    refiner_switch_at: float | None
    firstpass_image: Any
    extra_generation_params: dict[str, Any]
    comments: dict[str, int]
    sd_model: Any
    sampler: Any
    rng: Any
    sample: Any
    scripts: Any


class State(Protocol):
    """``shared.state``: the WebUI's current state."""

    time_start: float | None
    interrupted: bool
    skipped: bool
    stopping_generation: bool
    current_latent: Tensor | None
    sampling_step: int
    sampling_steps: int
    textinfo: str | None
    job_no: int
    job_count: int
    id_live_preview: int


class Options(Protocol):
    """``shared.opts``: the user's settings of the WebUI."""

    data: dict[str, Any]
    sd_noise_schedule: str
    uni_pc_order: int
    return_mask: bool
    return_mask_composite: bool
    enable_pnginfo: bool
