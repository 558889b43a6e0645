"""The command `animate`. Each row of the settings table becomes an option."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lib_animatediff.builtin_model import DEFAULT, MODELS, BuiltInModel, built_in, copy_to_webui
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.pipeline import pick_device
from lib_animatediff.hosts.diffusers.speed import choose_sampling, clip_files
from lib_animatediff.jobs.recipe import FurtherMotion, Request
from lib_animatediff.request.distilled import LEADING, SPACINGS, SamplerSettings, distilled_files
from lib_animatediff.request.masks import packed_mask
from lib_animatediff.request.methods import ModuleFile
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE
from lib_animatediff.request.output import output_of
from lib_animatediff.request.settings import SETTINGS, Setting, parse_settings
from lib_animatediff.request.settings.setting import FAST
from lib_animatediff.request.start.taken_over import VideoIn
from lib_animatediff.sampling.text2video_zero import NAME
from lib_animatediff.video import FORMATS
from lib_animatediff.video.formats import check_rate
from motion_module import ClipError
from motion_module.limits import exists, read_limited

from . import control_in
from .asked import AskedClip
from .files import KIND_OPTION
from .guides import choosing, image_prompt
from .one_clip.render import Report, Take, render_clip
from .options import CHECKPOINT_OPTION, DEVICE_OPTION, GroupedCommand, given_words, ray_option
from .start import images_in
from .start.video_in import take_video

# Settings with another option, or none: files are paths here, and the command always renders a clip.
OTHER_OPTIONS = {
    "enable": "",
    "model": "--motion",
    "formats": "--format",
    "motion_loras": "--motion-lora",
    "request_id": "",
    "resume": "",
    **images_in.OTHER_OPTIONS,
    **control_in.OTHER_OPTIONS,
    **choosing.OTHER_OPTIONS,
}
TABLE_OPTIONS = [s for s in SETTINGS.values() if s.name not in OTHER_OPTIONS]
_EARLIER_NAMES = {"preview": ("poster",)}
_HEADINGS = {s.name: s.group for s in TABLE_OPTIONS} | images_in.HEADINGS | control_in.HEADINGS
_HEADINGS |= choosing.HEADINGS | image_prompt.HEADINGS


def _with_table_options(command: Callable[..., None]) -> Callable[..., None]:
    for setting in reversed(TABLE_OPTIONS):
        command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        *(f"--{name.replace('_', '-')}" for name in (setting.name, *_EARLIER_NAMES.get(setting.name, ()))),
        setting.name,
        type=_FILE if setting.image else click.Choice(setting.choices) if setting.choices else setting.type,
        is_flag=setting.type is bool,
        multiple=setting.type is tuple,
        default=None if setting.image else setting.default,
        show_default=setting.default != "",
        help=setting.full_help,
    )


def _with_images_as_text(table: dict[str, Any]) -> dict[str, Any]:
    """Image settings are files on the command line and base64 strings in the table."""
    read = {name: "" if table[name] is None else _as_text(table[name]) for name in IMAGES}
    return {**table, **read}


def _as_text(path: Path) -> str:
    try:
        return packed_mask(base64.b64encode(read_limited(path)).decode("ascii"))
    except OSError as error:
        raise ClipError(f"{path} cannot be read ({error.strerror}). Check the path.", code="AD-K01") from error
    except ClipError as error:
        raise ClipError(
            f"{path}: {error.message} On the command line, give the path of the file.", code="AD-K02"
        ) from error


_FILE = click.Path(path_type=Path)
IMAGES = [setting.name for setting in SETTINGS.values() if setting.image]
_RANDOM_SEED, _RANDOM_SEEDS = -1, 2**32  # as in the WebUI
SIZE = 512  # as in the official configurations


@click.command(cls=GroupedCommand, headings=_HEADINGS)
@CHECKPOINT_OPTION
@click.option(
    "--motion",
    "--model",
    "motions",
    multiple=True,
    help=f"Motion module, such as v3_sd15_mm.ckpt, or {NAME.lower()}. Default: that of a built-in checkpoint. May be "
    "repeated; further modules act after the first: FILE, FILE:EFFECT or FILE:effect=0.5,scale=1.2.",
)
@KIND_OPTION
@click.option("--prompt", help=f'Describes the clip. Default with the built-in checkpoint: "{DEFAULT.prompt}".')
@click.option("--negative-prompt", default="", help="Describes what the clip should not show.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="The same seed gives the same clip. Frame i uses seed + i. -1 takes a random one.",
)
@images_in.with_image_options
@control_in.with_control_options
@choosing.with_guide_options
@image_prompt.with_image_prompt_options
@_with_table_options
@click.option("--lora", "loras", multiple=True, help="LoRA for the checkpoint: FILE or FILE:STRENGTH. May be repeated.")
@click.option(
    "--embedding", "embeddings", type=_FILE, multiple=True, help="Embedding. Its word is the name of the file."
)
@click.option(
    "--motion-lora", "motion_loras", multiple=True, help="Motion LoRA or domain adapter: FILE or FILE:STRENGTH."
)
@click.option("--width", type=int, help=f"In pixels, a multiple of 8. Default: {SIZE}, built-in {DEFAULT.size}.")
@click.option("--height", type=int, help=f"In pixels, a multiple of 8. Default: {SIZE}, built-in {DEFAULT.size}.")
@click.option(
    "--steps",
    type=int,
    show_default=str(host.STEPS),
    help="Sampling steps. More steps are slower and give cleaner images.",
)
@click.option(
    "--sampler",
    type=click.Choice(list(host.SAMPLERS)),
    show_default=host.SAMPLER,
    help="Sampler. lcm and tcd are for distilled files.",
)
@click.option(
    "--spacing",
    type=click.Choice(SPACINGS),
    show_default=f"{LEADING}, or that of lcm and tcd",
    help="Timesteps of the sampling steps. Distilled files need trailing.",
)
@click.option(
    "--cfg",
    type=float,
    help="CFG scale: higher values follow the prompt more strictly; at 1 there is no negative prompt. Default: "
    f"{host.CFG}, built-in {DEFAULT.cfg}.",
)
@click.option(
    "--decoder",
    type=_FILE,
    help="Tiny decoder, such as taesd_decoder.safetensors: much faster than the checkpoint's VAE, with less detail.",
)
@click.option(
    "--config",
    type=_FILE,
    help="Folder with tokenizer and configs. Default: config in the checkpoint's folder, or SD 1.5's.",
)
@DEVICE_OPTION
@ray_option("Compute the context windows of a long clip")
@click.option("--output", type=_FILE, default=Path("clip.gif"), show_default=True, help="File of the clip.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(list(FORMATS), case_sensitive=False),
    multiple=True,
    help="Format of the clip. May be repeated. Default: from the suffix of the output.",
)
@click.option("--contact-sheet", type=_FILE, help="Also write all frames in a grid, as a PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def animate(
    checkpoint: Path,
    motions: tuple[str, ...],
    kind: str | None,
    prompt: str | None,
    negative_prompt: str,
    seed: int,
    loras: tuple[str, ...],
    embeddings: tuple[Path, ...],
    motion_loras: tuple[str, ...],
    width: int | None,
    height: int | None,
    steps: int | None,
    sampler: str | None,
    spacing: str | None,
    cfg: float | None,
    decoder: Path | None,
    config: Path | None,
    device: str,
    ray: int | None,
    output: Path,
    formats: tuple[str, ...],
    contact_sheet: Path | None,
    camera_drawing: Path | None,
    as_json: bool,
    **table: Any,
) -> Any:
    """Render a clip from a prompt. Without options, use a small built-in model."""
    # All checks precede the checkpoint, quick ones first. The context's object takes the request, or it is rendered.
    video = take_video(table)
    given = images_in.take_images(table)
    guides = choosing.take_guides(table, given, motions, kind)
    motions, kind = guides.motions, guides.kind
    controls = (*control_in.take_controls(table, video), *guides.units, *image_prompt.take_image_prompt(table))
    settings = parse_settings(_with_images_as_text(table))
    if seed == _RANDOM_SEED:
        seed = secrets.randbelow(_RANDOM_SEEDS)
        click.echo(f"Seed: {seed}", err=True)
    further, added = tuple(map(_further, motions[1:])), tuple(map(networks.parse_added, loras))
    # A distilled LoRA works beside a motion module that is not distilled.
    is_fast = settings.speed == FAST and not distilled_files((), [(one.path.name, one.strength) for one in added])
    start = _start(checkpoint, Path(motions[0]) if motions else None, prompt, is_fast=is_fast)
    modules = [ModuleFile(start.motion, kind), *(ModuleFile(one.path) for one in further)]
    how = choose_sampling(
        clip_files(modules, added, start.checkpoint.name),
        settings.speed,
        SamplerSettings(sampler, spacing, steps, cfg),
        negative_prompt=negative_prompt,
        default_cfg=start.cfg,
    )
    request = Request(
        checkpoint=start.checkpoint,
        motion=start.motion,
        kind=kind,
        further=further,
        prompt=start.prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        settings=settings,
        loras=added,
        embeddings=embeddings,
        motion_loras=tuple(map(networks.parse_added, motion_loras)),
        video=video.start if video else given.start if given else None,
        pins=guides.pins,
        ramp=given.ramp if given else None,
        controls=controls,
        size=_size(video, given, (width, height), start.size),
        steps=how.steps,
        cfg=how.cfg,
        sampler=how.sampler,
        spacing=how.spacing,
        decoder=decoder,
        config=config,
        device=pick_device(device),
    )
    context = click.get_current_context()
    asked = AskedClip(request, output, formats, (*how.lines, *guides.lines), video, given)
    check_rate(asked.keys, float(output_of(settings).shown_fps))
    take: Take = context.obj or render_clip
    words = (*given_words(context), f"--seed={seed}")
    return take(asked, Report(device, contact_sheet, as_json, words, ray, camera_drawing))


def _size(
    video: VideoIn | None, images: images_in.ImagesIn | None, sides: tuple[int | None, int | None], side: int
) -> tuple[int, int]:
    """Width and height: as given, else those of the video or the image, else ``side``."""
    if video:
        return video.size(*sides)
    if images:
        return images.size(*sides, side)
    width, height = (side if one is None else one for one in sides)
    return width, height


def _further(text: str) -> FurtherMotion:
    """``FILE``, ``FILE:0.5`` (the effect) or ``FILE:effect=0.5,scale=1.2``."""
    name, colon, amounts = text.rpartition(":")
    if not colon or exists(Path(text)):
        return FurtherMotion(Path(text))
    try:
        items = [item.rpartition("=") for item in amounts.split(",")]
        numbers = {key.strip() or "effect": float(value) for key, _, value in items}
    except ValueError:
        return FurtherMotion(Path(text))  # the colon is part of the path, such as after a drive letter
    if not set(numbers) <= {"effect", "scale"} or not 0 <= numbers.get("effect", 1) <= MOST_EFFECT:
        raise ClipError(
            f"--motion {text} is not valid. Write FILE:effect=0.5,scale=1.2, with effect from 0 to {MOST_EFFECT:g}.",
            code="AD-K04",
        )
    if not 0 <= numbers.get("scale", 1) <= MOST_SCALE:
        raise ClipError(f"--motion {text}: scale must be between 0 and {MOST_SCALE:g}.", code="AD-K05")
    return FurtherMotion(Path(name), **numbers)


@dataclass(frozen=True)
class _Start:
    """Files and prompt of the clip, with defaults for its checkpoint."""

    checkpoint: Path
    motion: Path
    prompt: str
    size: int
    cfg: float


def _start(checkpoint: Path, motion: Path | None, prompt: str | None, *, is_fast: bool) -> _Start:
    """The given files, or those of a built-in model, which may have a motion module for few steps."""
    if model := built_in(checkpoint):
        motion = motion or model.folder / ((is_fast and model.fast_motion) or model.motion)
        return _Start(model.folder / model.checkpoint, motion, prompt or model.prompt, model.size, model.cfg)
    if motion is None:
        raise ClipError(
            "The built-in motion modules fit the built-in checkpoints only. Give --motion as well.", code="AD-K06"
        )
    if prompt is None:
        raise ClipError("There is no prompt. Describe the clip with --prompt.", code="AD-K07")
    return _Start(checkpoint, motion, prompt, SIZE, host.CFG)


def _to_webui(model: BuiltInModel) -> click.Command:
    @click.command(
        f"{model.name}-to-webui",
        help=f"Copy the built-in {model.name} model into the WebUI at WEBUI, to try AnimateDiff without a download.",
    )
    @click.argument("webui", type=_FILE)
    def to_webui(webui: Path) -> None:
        for path in copy_to_webui(webui, model):
            click.echo(path)

    return to_webui


TO_WEBUI = tuple(map(_to_webui, MODELS.values()))
