"""A test double of the WebUI 1.10: the parts that the glue meets, with the behaviour of their originals.

Names, order and traps are those of modules/scripts.py and modules/processing.py; what the glue never sees is left
out. A picture is 8 by 8 pixels, which the real LDM UNet paints in one step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from PIL import Image
from support.webui_double import components
from support.webui_double.denoiser import CFG
from support.webui_double.functions import (
    Conditioning,
    FilenameGenerator,
    Processed,
    checkpoint_functions,
    create_infotext,
    get_multicond_prompt_list,
    get_next_sequence_number,
    get_prompt_lengths,
    infotext_of_batch,
    reconstruct_multicond_batch,
    sha256,
    to_image,
    walk_files,
)
from support.webui_double.models import SdModel
from support.webui_double.sampling import SIDE, ImageRNG, common, count_hooks, create_sampler, latent_of, noise  # noqa: F401 - tests look for them here
from support.webui_double.scripts import AlwaysVisible, Script, ScriptRunner
from support.webui_double.state import OptionInfo, Options, State, shared
from torch import Tensor, nn

CLIP = {"model": "mm.safetensors", "frames": 2}


# ---- modules.processing


@dataclass
class Processing:
    prompt: Any = "a cat"
    negative_prompt: Any = ""
    seed: Any = 1
    subseed: Any = 100
    subseed_strength: float = 0
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 20
    cfg_scale: float = CFG
    sampler_name: str = "Euler"
    scheduler: str | None = None
    width: int = 8
    height: int = 8
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    outpath_samples: Any = None
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    refiner_checkpoint_info: Any = None
    refiner_switch_at: float | None = None
    scripts: ScriptRunner | None = None
    script_args: tuple[Any, ...] = ()
    is_api: bool = False
    mask_for_overlay: Any = None
    comments: dict[str, int] = field(default_factory=dict)
    styles: list[str] = field(default_factory=list)
    is_hr_pass: bool = False
    cached_c: list[Any] = field(default_factory=lambda: [None, None])

    def close(self) -> None:
        self.is_closed = True

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    @property
    def sd_model(self) -> SdModel:
        return shared.sd_model

    def setup_prompts(self) -> None:
        rows = self.prompt if isinstance(self.prompt, list) else [self.prompt] * (self.batch_size * self.n_iter)
        negative = self.negative_prompt
        self.all_prompts = rows
        self.all_negative_prompts = negative if isinstance(negative, list) else [negative] * len(rows)
        assert len(self.all_prompts) == len(self.all_negative_prompts)

    def setup_conds(self) -> Conditioning:
        if self.cached_c[0] != self.prompts:
            self.cached_c[:] = [list(self.prompts), Conditioning(self.prompts)]
        self.c: Conditioning = self.cached_c[1]
        return self.c

    def init(self, all_prompts: list[str], all_seeds: list[int], all_subseeds: list[int]) -> None:
        pass

    def sample(self, prompts: list[str]) -> Tensor:
        self.sampler = create_sampler(self.sampler_name, self.sd_model)
        return denoise(self, None, self.rng.next(), prompts)

    def txt2img_image_conditioning(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 5, 1, 1)


@dataclass
class Txt2Img(Processing):
    enable_hr: bool = False
    hr_sampler_name: str | None = None
    hr_checkpoint: SdModel | None = None
    hr_prompt: Any = ""
    hr_prompts: Any = None
    hr_upscale_to_x: int = 16
    hr_upscale_to_y: int = 16
    hr_second_pass_steps: int = 0
    denoising_strength: float = 0.75
    latent_scale_mode: Any = field(default_factory=dict)

    def setup_prompts(self) -> None:
        super().setup_prompts()
        if self.enable_hr:
            self.hr_prompt = self.hr_prompt or self.prompt
            several = isinstance(self.hr_prompt, list)
            self.all_hr_prompts = self.hr_prompt if several else [self.hr_prompt] * (self.batch_size * self.n_iter)

    def sample(self, prompts: list[str]) -> Tensor:
        samples = super().sample(prompts)
        if not self.enable_hr:
            return samples
        decoded = self.decoded_between_passes(samples) if self.latent_scale_mode is None else None
        reload_model_weights(self.hr_checkpoint)
        return self.sample_hr_pass(samples, decoded, self.hr_prompts)

    def decoded_between_passes(self, samples: Tensor) -> Tensor:
        return torch.stack(decode_latent_batch(self.sd_model, samples))

    def sample_hr_pass(self, samples: Tensor, decoded_samples: Tensor | None, prompts: list[str]) -> Any:
        if shared.state.interrupted:
            return samples
        self.is_hr_pass = True
        self.sampler = create_sampler(self.sampler_name, self.sd_model)
        if decoded_samples is not None:
            samples = torch.cat([self.sd_model.encode_first_stage(image[None]) for image in decoded_samples])
        shared.state.nextjob()
        large = nn.functional.interpolate(samples, scale_factor=2)
        large = denoise(self, torch.zeros_like(large), large, prompts)
        self.sampler = None
        self.is_hr_pass, decoded = False, decode_latent_batch(self.sd_model, large)
        return decoded


@dataclass
class Img2Img(Processing):
    init_images: Any = None
    denoising_strength: float = 0.75
    image_mask: Any = None
    resize_mode: int = 0

    def init(self, all_prompts: list[str], all_seeds: list[int], all_subseeds: list[int]) -> None:
        self.sampler = create_sampler(self.sampler_name, self.sd_model)  # long before p.sample
        pictures = list(map(latent_of, self.init_images))
        if len(pictures) == 1:
            pictures = pictures * self.batch_size
        elif len(pictures) <= self.batch_size:
            self.batch_size = len(pictures)
        else:
            raise RuntimeError(f"bad number of images passed: {len(pictures)}; expecting {self.batch_size} or less")
        self.init_latent = torch.tensor(pictures).view(-1, 1, 1, 1)

    def sample(self, prompts: list[str]) -> Tensor:
        return denoise(self, self.init_latent.expand(-1, 4, SIDE, SIDE), self.rng.next(), prompts)


class DecodedSamples(list):
    already_decoded = True


def decode_latent_batch(model: SdModel, batch: Tensor) -> DecodedSamples:
    return DecodedSamples(model.decode_first_stage(batch[i : i + 1])[0] for i in range(len(batch)))


def denoise(p: Processing, given: Tensor | None, x: Tensor, prompts: list[str]) -> Tensor:
    """A run of as many steps as a test asks for, one otherwise: hands back what it has when interrupted.

    Args:
        given: latents of images, to which the sampler adds the noise x; None: noise alone.
    """
    p.scripts.call("process_before_every_sampling", p, noise=x)
    if given is None:
        return p.sampler.sample(p, x, prompts, None, image=None)
    return p.sampler.sample_img2img(p, given, x, prompts, None, image=None)


def reload_model_weights(info: SdModel | None = None) -> None:
    shared.sd_model = info or shared.checkpoint


def process_images(p: Processing) -> Processed:
    p.scripts.call("before_process", p)
    reload_model_weights()
    seed = 7 if p.seed == -1 else p.seed
    p.setup_prompts()
    rows = range(len(p.all_prompts))
    p.all_seeds = seed if isinstance(seed, list) else [seed + (row if p.subseed_strength == 0 else 0) for row in rows]
    p.all_subseeds = p.subseed if isinstance(p.subseed, list) else [p.subseed + row for row in rows]
    p.scripts.call("process", p)
    p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
    images, infotexts = [], []
    if shared.state.job_count == -1:
        shared.state.job_count = p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)
    for n in range(p.n_iter):
        shared.state.skipped = False
        if shared.state.interrupted:
            break
        reload_model_weights()
        p.iteration = n
        batch = slice(n * p.batch_size, (n + 1) * p.batch_size)
        p.negative_prompts = p.all_negative_prompts[batch]
        p.prompts, p.seeds, p.subseeds = p.all_prompts[batch], p.all_seeds[batch], p.all_subseeds[batch]
        if getattr(p, "enable_hr", False):
            p.hr_prompts = p.all_hr_prompts[batch]
        p.scripts.call("before_process_batch", p)
        if len(p.prompts) == 0:
            break
        p.scripts.call("process_batch", p)
        p.sd_model.alphas_cumprod = p.sd_model.alphas_cumprod_original.to("cpu")
        with torch.no_grad():
            p.rng = ImageRNG(p.seeds)
            samples = p.sample(prompts=p.setup_conds())
            images_of_batch = decoded_batch(p, samples)
        p.prompts = p.all_prompts[batch]
        finish_images(p, images_of_batch, images, infotexts)
    if not infotexts:
        infotexts.append("nothing was painted")
    first = int(shared.opts.return_grid and not p.do_not_save_grid and len(images) > 1)
    if first:
        images.insert(0, Image.new("RGB", (SIDE, SIDE)))
        infotexts.insert(0, "grid")
    processed = Processed(p, images, infotexts, first)
    p.scripts.call("postprocess", p, processed)
    return processed


def finish_images(p: Processing, decoded: list[Tensor], images: list[Any], infotexts: list[str]) -> None:
    """Add the images of a batch, and a mask after each."""
    for i, sample in enumerate(decoded):
        image = to_image(sample)
        p.batch_index = i
        p.scripts.call("postprocess_image", p, SimpleNamespace(image=image))
        finished = SimpleNamespace(image=image)
        p.scripts.call("postprocess_image_after_composite", p, finished)
        image = finished.image
        if not p.do_not_save_samples:
            shared.saved.append(p.seeds[i])
        infotexts.append(create_infotext(p, i))
        if shared.opts.enable_pnginfo:
            image.info["parameters"] = infotexts[-1]
        images.append(image)
        if p.mask_for_overlay is not None:
            images += [p.mask_for_overlay] * (shared.opts.return_mask + shared.opts.return_mask_composite)


def decoded_batch(p: Processing, samples: Any) -> list[Tensor]:
    """The images of a batch, after the hooks around them."""
    is_decoded = getattr(samples, "already_decoded", False)
    decoded = torch.stack(samples if is_decoded else decode_latent_batch(p.sd_model, samples))
    shared.painted.append(decoded)
    shared.state.nextjob()
    p.scripts.call("postprocess_batch", p)
    kept = SimpleNamespace(images=list(decoded))
    p.scripts.call("postprocess_batch_list", p, kept)
    return kept.images


class ModelData:
    """The checkpoint that is loaded; the original loads one when `shared.sd_model` is asked for."""

    @property
    def sd_model(self) -> SdModel | None:
        return shared.sd_model


# ---- the whole


def begin(checkpoint: SdModel) -> None:
    """A WebUI that has just started."""
    vars(shared).clear()
    shared.checkpoint = shared.sd_model = checkpoint
    shared.state = State()
    shared.OptionInfo = OptionInfo
    shared.opts = Options(
        batch_cond_uncond=True,
        skip_early_cond=0.0,
        pad_cond_uncond=False,
        pad_cond_uncond_v0=False,
        use_downcasted_alpha_bar=False,
        sd_noise_schedule="Default",
        enable_pnginfo=True,
        return_grid=True,
        return_mask=False,
        return_mask_composite=False,
    )
    shared.cfg_denoiser_callbacks, shared.calls, shared.painted = [], [], []
    shared.app_started_callbacks, shared.may_be_read, shared.demo = [], [], object()
    shared.cmd_opts, shared.opened_folders = SimpleNamespace(hide_ui_dir_config=False), []
    shared.swallowed, shared.samplings, shared.saved, shared.hashes = [], [], [], {}
    shared.image_rows = []  # of the image conditions of each call of the denoiser
    shared.steps = 1  # of a sampler's run
    shared.conds = {}  # with their schedules, as the sampler hands them to the denoiser
    shared.guides_first_step = False  # as Forge Neo does whatever the option says
    shared.during_sampling = None  # a test's own: called with p before the UNet is
    shared.during_decoding = None  # likewise, with a frame's latents


def modules(models_path: Path) -> dict[str, ModuleType]:
    """What to put into `sys.modules`."""
    contents: dict[str, dict[str, Any]] = {
        "scripts": {
            "Script": Script,
            "AlwaysVisible": AlwaysVisible,
            "scripts_txt2img": ScriptRunner(),
            "scripts_img2img": ScriptRunner(),
            "scripts_data": [],
        },
        "shared": vars(shared),
        "paths": {"models_path": str(models_path), "data_path": str(models_path.parent)},
        "hashes": {"sha256": sha256},
        "util": {"walk_files": walk_files, "open_folder": lambda path: shared.opened_folders.append(path)},
        "ui_tempdir": {
            "register_tmp_file": lambda demo, path: shared.may_be_read.append(path),
            "check_tmp_file": lambda demo, path: path in shared.may_be_read,
        },
        "images": {
            "FilenameGenerator": FilenameGenerator,
            "get_next_sequence_number": get_next_sequence_number,
            "resize_image": lambda mode, image, width, height: image.resize((width, height)),
        },
        "prompt_parser": {
            "get_multicond_prompt_list": get_multicond_prompt_list,
            "reconstruct_multicond_batch": reconstruct_multicond_batch,
        },
        "sd_models": {"model_data": ModelData(), **checkpoint_functions(models_path / "Stable-diffusion")},
        "sd_hijack": {"model_hijack": SimpleNamespace(get_prompt_lengths=get_prompt_lengths)},
        "sd_unet": {"current_unet": None},
        "processing": {"DecodedSamples": DecodedSamples, "create_infotext": infotext_of_batch},
        "sd_samplers": {"create_sampler": create_sampler, "all_samplers_map": dict.fromkeys(("Euler", "DDIM"))},
        "sd_samplers_common": common(),
        "extensions": {"extensions": []},
        "script_callbacks": {
            "on_before_ui": lambda callback: callback(),
            "on_before_image_saved": shared.app_started_callbacks.append,
            "on_image_saved": shared.app_started_callbacks.append,
            "on_app_started": shared.app_started_callbacks.append,
            "on_ui_settings": lambda callback: callback(),
            "on_cfg_denoiser": shared.cfg_denoiser_callbacks.append,
        },
        "ui_common": {"create_refresh_button": components.create_refresh_button},
        "ui_components": {"InputAccordion": components.InputAccordion},
    }
    package = ModuleType("modules")
    package.__path__ = []
    made = {"modules": package, "gradio": components.gradio()}
    for name, content in contents.items():
        module = made[f"modules.{name}"] = ModuleType(f"modules.{name}")
        vars(module).update(content)
        setattr(package, name, module)
    return made


@contextmanager
def in_place(made: dict[str, ModuleType]) -> Iterator[None]:
    """Inside, imports find the double. Afterwards nobody else does, and our packages are the objects they were."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _concerned(name)}
    sys.modules.update({name: module for name, module in before.items() if ".webui" not in name})
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in list(sys.modules):
            if _concerned(name):
                del sys.modules[name]
        sys.modules.update(before)


def _concerned(name: str) -> bool:
    return name.partition(".")[0] in ("modules", "gradio", "lib_animatediff", "motion_module")
