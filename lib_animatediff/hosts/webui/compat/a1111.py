"""AUTOMATIC1111 1.10: every name of the WebUI that this extension uses."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from modules import (
    extensions,
    hashes,
    paths,
    prompt_parser,
    scripts,
    sd_models,
    sd_samplers,
    sd_samplers_common,
    sd_unet,
    shared,
    ui_tempdir,
    util,
)
from torch import Tensor

from lib_animatediff.sampling.schedule import rescaled_to_zero_snr

from .base import Options, State

Script = scripts.Script
ALWAYS_VISIBLE = scripts.AlwaysVisible
InterruptedSampling: type[BaseException] = sd_samplers_common.InterruptedException

# Of Stable Diffusion 1.5 and SDXL, of reForge, and of Forge.
_DISTRIBUTIONS = (
    *(f"{code}.modules.distributions.distributions" for code in ("ldm", "sgm", "ldm_patched.ldm")),
    "backend.nn.vae",
)
_DISTRIBUTION = "DiagonalGaussianDistribution"
_HIDDEN_BY_HOST = "animatediff_original"
_LORA_FOLDERS = (("lora_dir", "Lora"), ("lyco_dir_backcompat", "LyCORIS"))  # command-line option, default


# ---- state and options


def state() -> State:
    """The WebUI's current state."""
    return shared.state  # type: ignore[no-any-return]


def opts() -> Options:
    """The user's settings of the WebUI."""
    return shared.opts  # type: ignore[no-any-return]


def add_option(key: str, default: Any, label: str, component: Any, arguments: Any, section: tuple[str, str]) -> None:
    """Add an option to the settings page."""
    shared.opts.add_option(key, shared.OptionInfo(default, label, component, arguments, section=section))


@contextmanager
def options_for_one_run(**values: Any) -> Iterator[None]:
    """Set options inside the block; the user's saved settings do not change.

    An attribute hides the option of its name. Saving inside the block writes the option.
    """
    attributes = vars(shared.opts)
    before = {name: attributes[name] for name in values if name in attributes}
    attributes.update(values)
    try:
        yield
    finally:
        for name in values:
            del attributes[name]
        attributes.update(before)


def prompt_comments_are_on() -> bool:
    """Whether the WebUI removes comments from prompts. reForge, which has no option for it, always does."""
    return bool(getattr(shared.opts, "enable_prompt_comments", bool(_comment_strippers())))


def slashes_begin_comments() -> bool:
    """Whether ``// ...`` and ``/* ... */`` are comments, too, as in reForge and Forge Neo."""
    return any("b" not in strip("a//b") for strip in _comment_strippers())


def _comment_strippers() -> list[Callable[[str], str]]:
    found = [vars(module).get("strip_comments") for module in script_modules("comments.py")]
    return [strip for strip in found if strip]


def img2img_samples_all_steps() -> bool:
    """Whether img2img samples as many steps as txt2img."""
    return bool(getattr(shared.opts, "img2img_fix_steps", False))


def batches_cond_uncond() -> bool:
    """Whether cond and uncond share a call of the UNet where they can. Where there is no option, they do."""
    return bool(getattr(shared.opts, "batch_cond_uncond", True))


def pads_conditions() -> bool:
    """Whether the WebUI makes cond and uncond equally long by padding."""
    return bool(getattr(shared.opts, "pad_cond_uncond", False) or getattr(shared.opts, "pad_cond_uncond_v0", False))


# ---- models


def loaded_model() -> Any:
    """The host's own object of the loaded checkpoint; None if none is loaded. ``shared.sd_model`` would load it."""
    return sd_models.model_data.sd_model


def checkpoint_info() -> Any:
    """Name and hash of the checkpoint."""
    return getattr(shared.sd_model, "sd_checkpoint_info", None)


def file_of_chosen_checkpoint() -> Path | None:
    """The file of the chosen checkpoint, which Forge loads for the next image only; None if there is none."""
    info = sd_models.get_closet_checkpoint_match(getattr(shared.opts, "sd_model_checkpoint", None) or "")
    return None if info is None else Path(info.filename)


def file_of_loaded_checkpoint() -> Path | None:
    """The file of the loaded checkpoint; None if none is loaded."""
    info = getattr(loaded_model(), "sd_checkpoint_info", None)
    return None if info is None else Path(info.filename)


def device() -> torch.device:
    """The device that the WebUI computes on."""
    found = getattr(shared, "device", None)
    return found if isinstance(found, torch.device) else torch.device("cpu")


def unet_replacement() -> str | None:
    """The label of the UNet's replacement, such as TensorRT; None if there is none."""
    return None if sd_unet.current_unet is None else str(sd_unet.current_unet.option.label)


def with_noise_options(table: Tensor, *, rescales: bool = False) -> Tensor:
    """Apply the user's noise options to a table of ``alphas_cumprod``, as the WebUI does for the checkpoint's.

    Args:
        rescales: to a terminal SNR of 0 also without the user's option.
    """
    if getattr(shared.opts, "use_downcasted_alpha_bar", False):
        table = table.half()
    if rescales or shared.opts.sd_noise_schedule == "Zero Terminal SNR":
        table = rescaled_to_zero_snr(table)
    return table


def img2img_steps(p: Any, steps: int | None) -> tuple[int, int]:
    """The steps of the schedule, and the number of the last step before img2img begins."""
    return sd_samplers_common.setup_img2img_steps(p, steps)  # type: ignore[no-any-return]


def encoded(pixels: Tensor, model: Any) -> Tensor:
    """``(1 c h w)``: the latents of an image ``1 3 h w`` from 0 to 1."""
    return sd_samplers_common.images_tensor_to_samples(pixels, None, model)  # type: ignore[no-any-return]


def has_sampler(name: str) -> bool:
    """Whether the WebUI has a sampler of this name."""
    return name in sd_samplers.all_samplers_map


@contextmanager
def encoding_means() -> Iterator[None]:
    """Encode images to the means of the VAE's distributions; otherwise they are drawn from the global generator."""
    kinds = [vars(sys.modules[name]).get(_DISTRIBUTION) for name in _DISTRIBUTIONS if name in sys.modules]
    with ExitStack() as span:
        for kind in filter(None, kinds):
            span.callback(setattr, kind, "sample", kind.sample)
            kind.sample = kind.mode
        yield


def resized(image: Any, mode: int, size: tuple[int, int]) -> Any:
    """An RGB image in another size, by one of img2img's resize modes."""
    return import_module("modules.images").resize_image(mode, image, *size)


def decoded_samples(images: Tensor) -> Any:
    """Images ``(b f) c h w``, -1 to 1, as ``p.sample`` returns those that need no VAE any more."""
    return import_module("modules.processing").DecodedSamples(images)


@contextmanager
def renewed_sampler(p: Any) -> Iterator[None]:
    """Give ``p`` a sampler with the checkpoint's current noise levels; img2img creates its own before sampling."""
    former = p.sampler
    p.sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    try:
        yield
    finally:
        p.sampler = former


def refreshed_checkpoint(path: Path) -> str:
    """Read the list of checkpoints again; returns the name of a file in it."""
    sd_models.list_models()
    titles = (titled.title for titled in sd_models.checkpoints_list.values() if Path(titled.filename) == path)
    return str(next(titles, path.name))


# ---- prompts


def split_prompts(prompts: Sequence[str]) -> list[int]:
    """The number of parts into which AND divides each prompt."""
    return [len(parts) for parts in prompt_parser.get_multicond_prompt_list(prompts)[0]]


def ends_of_prompts(denoiser: Any) -> set[int]:
    """The denoiser's calls, by number, after which a prompt with a schedule, such as ``[a:b:10]``, changes."""
    arguments = getattr(getattr(denoiser, "sampler", None), "sampler_extra_args", None) or {}
    parts = [part.schedules for row in getattr(arguments.get("cond"), "batch", []) for part in row]
    return {entry.end_at_step for schedule in (*parts, *(arguments.get("uncond") or [])) for entry in schedule}


def first_conditions(conditioning: Any) -> tuple[list[int], Any]:
    """The place of each prompt's first part, and the conditions ``n t c`` of all parts at the first step."""
    parts, conditions = prompt_parser.reconstruct_multicond_batch(conditioning, 0)
    return [places[0][0] for places in parts], conditions


def prompt_length(text: str, *encoder: Any) -> Any:
    """Tokens of a prompt, padded to whole chunks; a string before the tokenizer is ready.

    Args:
        encoder: of the text, which reForge wants to know.
    """
    return import_module("modules.sd_hijack").model_hijack.get_prompt_lengths(text, *encoder)[1]


def apply_styles(text: str, styles: Sequence[str], *, is_negative: bool) -> str:
    """A prompt with the user's styles."""
    known = shared.prompt_styles
    apply = known.apply_negative_styles_to_prompt if is_negative else known.apply_styles_to_prompt
    return str(apply(text, styles))


# ---- files


def models_folder() -> Path:
    """The folder with the folders of checkpoints, LoRAs and so on."""
    return Path(paths.models_path)


def lora_folders() -> list[Path]:
    """The folders in which the WebUI looks for LoRAs."""
    given = getattr(shared, "cmd_opts", None)  # it lacks these options without the builtin extension
    folders = [getattr(given, option, None) or models_folder() / default for option, default in _LORA_FOLDERS]
    return [Path(folder) for folder in [*folders, *(getattr(given, "lora_dirs", None) or ())]]  # Forge Neo has more


def walk_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder, as the WebUI walks its own: links are followed."""
    return [Path(path) for path in util.walk_files(str(folder), allowed_extensions=suffixes)]


def file_sha256(path: Path, title: str) -> str | None:
    """The hash of a file, from the WebUI's cache; None if the user disabled hashing."""
    return hashes.sha256(str(path), title)  # type: ignore[no-any-return]


def before_hidden_infotext(prepare: Callable[[Any], None]) -> None:
    """Prepare what is saved before Forge hides the infotext in its pixels, which is before any callback.

    Args:
        prepare: receives the parameters of the callback before an image is saved. It replaces an earlier one.
    """
    module = sys.modules.get("modules.stealth_infotext")
    if module is None:
        return
    original = getattr(module.add_stealth_pnginfo, _HIDDEN_BY_HOST, module.add_stealth_pnginfo)

    def add_stealth_pnginfo(params: Any) -> Any:
        prepare(params)
        return original(params)

    setattr(add_stealth_pnginfo, _HIDDEN_BY_HOST, original)
    module.add_stealth_pnginfo = add_stealth_pnginfo  # type: ignore[attr-defined]


def installed_extensions() -> list[Any]:
    """All extensions, enabled or not."""
    return list(extensions.extensions)


def file_name(p: Any, seed: int, prompt: str, image: Any, pattern: str) -> str:
    """A file name by a pattern with the WebUI's placeholders."""
    return str(import_module("modules.images").FilenameGenerator(p, seed, prompt, image).apply(pattern))


def first_infotext(p: Any) -> str:
    """The infotext of the first image of the batch that is under way."""
    create = import_module("modules.processing").create_infotext
    return str(create(p, p.all_prompts, p.all_seeds, p.all_subseeds, iteration=p.iteration))


def cache_folder() -> Path:
    """The folder of the WebUI's caches."""
    return Path(paths.data_path) / "cache"


def next_sequence_number(folder: Path) -> int:
    """The number of the next file in a folder."""
    return int(import_module("modules.images").get_next_sequence_number(str(folder), ""))


def allow_file_in_page(path: Path) -> None:
    """Allow the page to request a file outside the WebUI's folder."""
    if getattr(shared, "demo", None) is not None:
        ui_tempdir.register_tmp_file(shared.demo, str(path))


def page_may_read(path: Path) -> bool:
    """Whether the WebUI itself has shown this file on the page. A path that comes back from there can be anyone's."""
    demo = getattr(shared, "demo", None)
    return demo is not None and bool(ui_tempdir.check_tmp_file(demo, str(path)))


def readable_folders() -> list[Path]:
    """The folders from which the WebUI gives files to its page: its own, those of its owner, and that of uploads."""
    owners = getattr(shared.cmd_opts, "gradio_allowed_path", None) or [paths.data_path]
    uploads = os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio"
    return [Path(folder) for folder in (*owners, uploads)]


def open_folder(folder: Path) -> bool:
    """Open a folder on the server's screen; False if the user forbade it, or if it cannot be opened."""
    if shared.cmd_opts.hide_ui_dir_config or not folder.is_dir():
        return False
    try:
        util.open_folder(str(folder))
    except OSError:  # the system has no file manager
        return False
    return True


# ---- scripts


def always_on_scripts(kind: type) -> list[Any]:
    """The scripts of a class in both tabs."""
    runners = (scripts.scripts_txt2img, scripts.scripts_img2img)
    return [script for runner in runners for script in runner.alwayson_scripts if isinstance(script, kind)]


def scripts_of(p: Any) -> list[Any]:
    """The always-on scripts of a request, of all extensions."""
    return list(getattr(p.scripts, "alwayson_scripts", None) or [])


def title_of(script: Any) -> str:
    """A script's title in small letters; empty for one without."""
    try:
        return str(script.title()).lower()
    except (AttributeError, NotImplementedError):
        return ""


def selected_script(p: Any) -> str | None:
    """The title of the selectable script that runs ``p``, such as "x/y/z plot"; None for a request without one."""
    number = p.script_args[0] if p.script_args else 0  # from 1, or the string None after pasted parameters
    if not isinstance(number, int) or number < 1:
        return None
    listed = getattr(p.scripts, "selectable_scripts", None) or []
    return title_of(listed[number - 1]) if number <= len(listed) else ""


def script_modules(file_name: str) -> list[Any]:
    """The modules of all scripts with this file name."""
    return [data.module for data in scripts.scripts_data if Path(data.path).name == file_name]


def input_accordion(*args: Any, **kwargs: Any) -> Any:
    """The WebUI's accordion with a checkbox."""
    return import_module("modules.ui_components").InputAccordion(*args, **kwargs)


def refresh_button(component: Any, refresh: Callable[[], None], listed: Callable[[], dict[str, Any]], id: str) -> Any:
    """The WebUI's button that reads a list again."""
    return import_module("modules.ui_common").create_refresh_button(component, refresh, listed, id)
