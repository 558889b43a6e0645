"""What a clip will be and need, for the panel and the log before it is rendered."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.hosts.webui.catalog.encoders import find_camera, find_encoder
from lib_animatediff.hosts.webui.catalog.models import canonical_name, find_model, inspected
from lib_animatediff.hosts.webui.catalog.sources import find_source
from lib_animatediff.hosts.webui.clip.batching import parts_of, splits_clips
from lib_animatediff.hosts.webui.clip.control.strip import control_strips
from lib_animatediff.hosts.webui.clip.prompt_travel import frame_prompts
from lib_animatediff.hosts.webui.clip.speed import HostSampling, files_of, sampling_notes
from lib_animatediff.hosts.webui.clip.start.video import sampled_steps
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.host_models import HostModel, loaded_model
from lib_animatediff.prompts.tags import replace_tags
from lib_animatediff.prompts.travel import Travel, table
from lib_animatediff.request.camera.choosing import poses_shown
from lib_animatediff.request.control.choosing import choose_hosted, names_in
from lib_animatediff.request.control.memory import CAMERA, I2V, SPARSE, Steering
from lib_animatediff.request.effects import idle_settings, notes_of
from lib_animatediff.request.estimate import CHUNK, ClipEstimate, in_plain_words, one_line
from lib_animatediff.request.plan import ClipPlan, Sampling, plan_clip
from lib_animatediff.request.settings import SETTINGS, parse_settings
from lib_animatediff.request.window_map import window_map
from motion_module import AnimateDiffError, MotionFileError
from motion_module.image_encoder.header import has_image_encoder

from .guides.camera import camera_drawing
from .loops import LOOPS

_AND = re.compile(r"\bAND\b")
ONE_PROMPT = (
    "All frames get the same prompt, since only one of its lines begins with a frame's number. Begin the first prompt "
    "with 0: too."
)
_PAGE = {"width": 512, "height": 512, "steps": 20, "batch_size": 1}  # the WebUI's defaults
_OFFER = (
    "<p class='animatediff-plan'><button type='button' class='animatediff-set-sampling'>Set what fits</button> "
    "sampler, schedule type, steps and CFG scale</p>"
)
_LEAST_BYTES, _MOST_BYTES = 2, 4  # of a number in the computation; weights may be stored in fewer


def free_memory() -> int | None:
    """Free bytes on the device of the model; None if unknown."""
    device = a1111.device()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Memory that torch has reserved is free for our tensors.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if find_spec("psutil") is None:
        return None
    return int(import_module("psutil").virtual_memory().available)


def token_count(texts: Iterable[str]) -> int:
    """Tokens of the longest of these prompts, padded to whole chunks; one chunk if no checkpoint is loaded."""
    model = loaded_model()
    if model is None:
        return CHUNK
    parts = {part for text in set(texts) for part in _AND.split(replace_tags(text))}
    lengths = [model.prompt_length(part) for part in parts]
    return max(
        (length for length in lengths if isinstance(length, int)), default=CHUNK
    )  # "-" before the tokenizer is ready


@dataclass(frozen=True)
class PlanView:
    """The panel's plan as HTML.

    Attributes:
        summary: one line about what will be made and whether it fits, then notes; or the error.
        windows: the UNet calls, and the map of the windows, for the fold of long clips.
        prompts: the prompt of each frame, for the fold of prompts over time.
        controls: the images of ControlNet units over the frames, for their fold.
        camera: the drawing of its path, for its fold.
    """

    summary: str = ""
    windows: str = ""
    prompts: str = ""
    controls: str = ""
    camera: str = ""


def view_plan(values: Mapping[str, Any], page: Mapping[str, Any]) -> PlanView:
    """The plan of the panel's values.

    Args:
        values: the panel's settings by name.
        page: prompt, negative_prompt, width, height, steps, batch_size, sampler_name, scheduler and cfg_scale of the
            tab, whether it has the button of `sampling_offer` (sets_sampling), and a serial that comes back.
    """
    changed, serial = changed_settings(values), page.get("serial")
    if not values.get("enable"):
        return PlanView(_marks({}, changed, serial))
    try:
        settings = parse_settings(values)
        steps = int(page.get("steps") or _PAGE["steps"])
        plan = plan_clip(replace(settings, model=canonical_name(settings.model)), Sampling(steps=steps))
        frames = plan.frames
        prompts, (travel,) = frame_prompts([str(page.get("prompt") or "")], frames)
        negatives, (negative_travel,) = frame_prompts(
            [str(page.get("negative_prompt") or "")], frames, "negative prompt"
        )
    except AnimateDiffError as error:
        return PlanView(_line(str(error), is_warning=True) + _marks({}, changed, serial))
    numbers = {name: int(page.get(name) or default) for name, default in _PAGE.items()}
    clips, steps = numbers.pop("batch_size"), numbers.pop("steps")
    estimate = _estimate(plan, prompts[:1], prompts, negatives, **numbers, clips=clips, steps=sum(plan.runs_of(steps)))
    rendered, output = len(plan.rendered), plan.output
    shown = output.shown_count(rendered) if plan.makes_clip else rendered
    travels = travel is not None or negative_travel is not None
    words = in_plain_words(estimate, shown, float(output.shown_fps), added=output.interpolation is not None)
    summary = [_line(words, is_warning=not estimate.fits)]
    summary += [_line(str(note), is_warning=True) for note in notes_of(settings, travels)]
    summary.append(_sampling(settings.model, page))
    if travel is not None and len(travel.keys) == 1:
        summary.append(_line(ONE_PROMPT, is_warning=True))
    windows = _line(one_line(estimate).partition(": ")[2])
    if isinstance(plan.windows, ContextWindows):
        windows += f"<div class='animatediff-windows'>{window_map(plan.windows, frames, steps)}</div>"
    tables = [
        _titled(f"What each frame gets: {name}", _travel_table(found, plan))
        for name, found in (("prompt", travel), ("negative prompt", negative_travel))
        if found is not None
    ]
    summary.append(_marks(idle_settings(settings, travels), changed, serial))
    strips = control_strips(lambda: choose_hosted(settings, find_source)[1], frames)
    camera = camera_drawing(lambda: poses_shown(settings, find_source))
    return PlanView("".join(summary), windows, "".join(tables), strips, camera)


def _sampling(model: str, page: Mapping[str, Any]) -> str:
    """What does not fit a distilled file, with a button that sets the page's own fields, see `sampling_offer`."""
    sampler, scheduler, cfg = (page.get(name) for name in ("sampler_name", "scheduler", "cfg_scale"))
    if not sampler:  # the page has not said
        return ""
    asked = HostSampling(
        str(sampler), str(scheduler or "Automatic"), int(page.get("steps") or _PAGE["steps"]), float(cfg or 1)
    )
    files = files_of(model, str(page.get("prompt") or ""))
    lines = [_line(str(note), is_warning=True) for note in sampling_notes(model, files, asked)]
    return "".join(lines) + (_OFFER if lines and files and page.get("sets_sampling") else "")


def changed_settings(values: Mapping[str, Any]) -> list[str]:
    """The settings that differ from their defaults and are out of view, by name.

    A list counts as the tuple of its values. The field "Loop" shows its settings unless it says Custom.
    """
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if (plain.get("closed_loop"), plain.get("reverse")) in LOOPS.values():
        plain = {name: value for name, value in plain.items() if name not in ("closed_loop", "reverse")}
    return [s.name for s in SETTINGS.values() if s.in_panel and s.group and plain.get(s.name, s.default) != s.default]


def _marks(idle: Mapping[str, str], changed: Sequence[str], serial: Any) -> str:
    """What the page reads: settings without effect, with the reasons, settings that were changed, and its own serial.

    The page compares the serial of its latest request, since answers may arrive late.
    """
    marks = html.escape(json.dumps({"idle": idle, "changed": changed, "serial": serial}))
    return f"<div class='animatediff-marks animatediff-hidden' data-marks='{marks}'></div>"


def estimate_line(p: Processing, plan: ClipPlan, prompts: Sequence[str], size: tuple[int, int] | None = None) -> str:
    """The line for the log about the batch that will be sampled.

    Args:
        p: with its rows arranged.
        prompts: prompts of all rows.
        size: width and height of the second pass, which has its own steps and no FreeInit.
    """
    width, height = size or (p.width, p.height)
    runs = plan.runs_of(sampled_steps(p, plan)) if size is None else (_second_steps(p),)
    negatives = getattr(p, "hr_negative_prompts" if size else "negative_prompts", None) or [""]
    clips = max(len(prompts) // len(plan.rendered), 1)
    return one_line(
        _estimate(plan, prompts, prompts, negatives, clips=clips, width=width, height=height, steps=sum(runs))
    )


def _estimate(
    plan: ClipPlan, rows: Sequence[str], prompts: Sequence[str], negatives: Sequence[str], **sizes: int
) -> ClipEstimate:
    """The estimate. The WebUI counts parts over ``rows``; ``prompts`` and ``negatives`` are all distinct texts."""
    model = loaded_model()
    parts = parts_of(rows)
    streams = max(parts) + 1
    tokens, others = token_count(prompts), token_count(negatives)
    number_bytes = _number_bytes(model)
    return ClipEstimate(
        base="sdxl" if getattr(a1111.loaded_model(), "is_sdxl", False) else "sd15",
        frames=len(plan.rendered),
        windows=plan.windows,
        streams=streams,
        streams_per_call=_streams_per_call(model, streams, is_even=tokens == others or a1111.pads_conditions()),
        one_clip_per_call=splits_clips(model, parts),
        tokens=max(tokens, others),
        number_bytes=number_bytes,
        reuse=plan.reuse,
        guidance=plan.guidance,
        steering=tuple(_steering(plan)),
        free=_left_free(model, plan.settings.model, number_bytes),
        **sizes,
    )


def _streams_per_call(model: HostModel | None, streams: int, *, is_even: bool) -> int:
    """Streams per call of the WebUI's denoiser, which cannot compute prompts of different lengths in one call.

    Others than AUTOMATIC1111's make them equally long, and call as many streams at once as fit into memory.
    """
    if model is not None and model.calls_whole_streams:
        return streams
    if not a1111.batches_cond_uncond():
        return 1
    return streams if is_even else min(streams - 1, 2)


def _second_steps(p: Any) -> int:
    """Number of steps of the second pass of hires fix, which are all sampled at any denoising strength."""
    return int(getattr(p, "hr_second_pass_steps", 0) or p.steps)


def _number_bytes(model: HostModel | None) -> int:
    """Bytes per number in the UNet's computation; its weights may be stored in 8 bits."""
    if model is None:
        return _MOST_BYTES if a1111.device().type == "cpu" else _LEAST_BYTES
    return min(max(model.dtype.itemsize, _LEAST_BYTES), _MOST_BYTES)


def _left_free(model: HostModel | None, motion: str, number_bytes: int) -> int | None:
    """Bytes that the models leave free; None before a checkpoint is loaded, since its size is unknown."""
    if model is None:
        return None
    free, device = free_memory(), a1111.device()
    if free is None or device.type == "cpu":  # the models are already in this memory
        return free
    elsewhere = (w for w in model.unet.parameters() if w.device.type != device.type)
    waiting: int = sum(weight.numel() * weight.element_size() for weight in elsewhere)
    return max(free - waiting - _motion_parameters(motion) * number_bytes, 0)


def _motion_parameters(name: str) -> int:
    try:
        return inspected(find_model(name)).parameters or 0
    except (MotionFileError, OSError):
        return 0  # the panel and the run report the error


def _steering(plan: ClipPlan) -> Iterator[Steering]:
    """The models that images or a camera steer a clip with. The weights of AnimateLCM-I2V are the motion module's."""
    settings = plan.settings
    with suppress(AnimateDiffError, OSError):  # the run reports the error
        for name in names_in(settings.sparse_ctrl):
            yield Steering(SPARSE, inspected(find_encoder(name)[0]).parameters or 0)
    with suppress(AnimateDiffError, OSError):
        if settings.camera.strip() and settings.camera_model.strip():
            yield Steering(CAMERA, inspected(find_camera(settings.camera_model)[0]).parameters or 0)
    with suppress(AnimateDiffError, OSError):
        if has_image_encoder(find_model(settings.model)):
            yield Steering(I2V, 0)


def _travel_table(travel: Travel, plan: ClipPlan) -> str:
    blends = plan.travel_options.blends(travel)
    rows = "".join(
        f"<tr><td>{html.escape(frames)}</td><td>{html.escape(text)}</td></tr>" for frames, text in table(travel, blends)
    )
    return f"<table class='animatediff-travel'><tr><th>Frames</th><th>Prompt</th></tr>{rows}</table>"


def _line(text: str, *, is_warning: bool = False) -> str:
    return f"<p class='animatediff-plan{' animatediff-advice' if is_warning else ''}'>{html.escape(text)}</p>"


def _titled(title: str, content: str) -> str:
    return f"<div class='animatediff-titled'><b>{html.escape(title)}</b>{content}</div>"
