"""What the panel and the log tell of a clip before it is painted: memory, windows, and the prompt of each frame."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from modules import sd_models, shared

from lib_animatediff.engine.context_windows import Chunks, ContextWindows
from lib_animatediff.hosts.webui.catalog.models import find_model, means_zero
from lib_animatediff.hosts.webui.clip.prompt_travel import frame_prompts
from lib_animatediff.hosts.webui.clip.text2video_zero import text2video_zero_of
from lib_animatediff.hosts.webui.hooks.batching import parts_of, splits_clips
from lib_animatediff.prompts.travel import Travel, table
from lib_animatediff.request.estimate import CHUNK, ClipEstimate, one_line
from lib_animatediff.request.settings import (
    ClipSettings,
    clip_frames,
    context_windows,
    freeinit_rounds,
    parse_settings,
    travels_in_loop,
)
from lib_animatediff.request.window_map import window_map
from motion_module import AnimateDiffError, MotionFileError, inspect_motion_file

_NETWORK_TAG = re.compile(r"<\w+:[^>]+>")  # as modules.extra_networks takes them out
_AND = re.compile(r"\bAND\b")
_PAGE = {"width": 512, "height": 512, "steps": 20, "batch_size": 1}  # as the WebUI begins
_LEAST_BYTES, _MOST_BYTES = 2, 4  # weights may be kept smaller than what is computed with


def free_memory() -> int | None:
    """Bytes where the model computes that tensors can still take; None if nobody tells."""
    device = _device()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for its next tensors is not free for anybody else, but for us.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if find_spec("psutil") is None:
        return None
    return int(import_module("psutil").virtual_memory().available)


def token_count(texts: Iterable[str]) -> int:
    """Tokens of the longest of these prompts, filled up to whole chunks; one chunk if no checkpoint is loaded."""
    if sd_models.model_data.sd_model is None:
        return CHUNK
    model_hijack = import_module("modules.sd_hijack").model_hijack
    parts = {part for text in set(texts) for part in _AND.split(_NETWORK_TAG.sub("", text))}
    lengths = [model_hijack.get_prompt_lengths(part)[1] for part in parts]
    return max((length for length in lengths if isinstance(length, int)), default=CHUNK)  # "-" before one is ready


def plan_html(values: Mapping[str, Any], page: Mapping[str, Any]) -> str:
    """What the panel shows: a line about calls and memory, the map of the windows, the prompt of each frame.

    Args:
        values: settings by name, as the panel has them.
        page: prompt, negative_prompt, width, height, steps and batch_size of the tab.
    """
    try:
        settings = parse_settings(values)
        frames = clip_frames(settings)
        if means_zero(settings.model):
            text2video_zero_of(settings)
        prompts, (travel,) = frame_prompts([str(page.get("prompt") or "")], frames)
        negatives, (negative_travel,) = frame_prompts(
            [str(page.get("negative_prompt") or "")], frames, "negative prompt"
        )
    except AnimateDiffError as error:
        return _line(str(error), is_warning=True)
    numbers = {name: int(page.get(name) or default) for name, default in _PAGE.items()}
    clips, steps = numbers.pop("batch_size"), numbers.pop("steps")
    rows = 1 if settings.poster else frames
    told = {**numbers, "clips": clips, "steps": sum(freeinit_rounds(settings, steps))}
    plan = _preflight(settings, rows, prompts[:1], prompts, negatives, **told)
    pieces = [_line(one_line(plan), is_warning=not plan.fits)]
    windows = _windows(settings)
    if isinstance(windows, ContextWindows):
        pieces.append(_folded("Context windows", window_map(windows, frames, steps)))
    for name, found in (("prompt", travel), ("negative prompt", negative_travel)):
        if found is not None:
            pieces.append(_folded(f"What each frame gets: {name}", _travel_table(found, settings)))
    return "".join(pieces)


def preflight_line(
    p: Any,
    settings: ClipSettings,
    frames: int,
    prompts: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
) -> str:
    """The line for the log, of the batch that is about to be sampled.

    Args:
        p: with its rows laid out: ``p.prompts`` are those of all frames.
        settings: of the clip.
        frames: of the clip.
        prompts: of the rows, where it is not ``p.prompts``: the second pass has its own.
        size: width and height of the second pass, which has steps of its own and no FreeInit.
    """
    rows = p.prompts if prompts is None else prompts
    width, height = size or (p.width, p.height)
    rounds = freeinit_rounds(settings, _steps(p)) if size is None else [_second_steps(p)]
    negatives = getattr(p, "hr_negative_prompts" if size else "negative_prompts", None) or [""]
    clips = max(len(rows) // frames, 1)
    told = {"clips": clips, "width": width, "height": height, "steps": sum(rounds)}
    return one_line(_preflight(settings, frames, rows, rows, negatives, **told))


def _preflight(
    settings: ClipSettings,
    frames: int,
    rows: Sequence[str],
    prompts: Sequence[str],
    negatives: Sequence[str],
    **told: int,
) -> ClipEstimate:
    """``rows`` are those whose parts the WebUI counts together, ``prompts`` and ``negatives`` all texts that occur."""
    model = sd_models.model_data.sd_model
    parts = parts_of(rows)
    streams = max(parts) + 1
    tokens, others = token_count(prompts), token_count(negatives)
    number_bytes = _number_bytes(model)
    return ClipEstimate(
        base="sdxl" if getattr(model, "is_sdxl", False) else "sd15",
        frames=frames,
        windows=_windows(settings),
        streams=streams,
        streams_per_call=_streams_per_call(streams, is_even=tokens == others or _pads()),
        one_clip_per_call=splits_clips(parts),
        tokens=max(tokens, others),
        number_bytes=number_bytes,
        free=_left_free(model, settings, number_bytes),
        **told,
    )


def _windows(settings: ClipSettings) -> ContextWindows | Chunks | None:
    """What one call of the UNet has of the clip at a time."""
    windows = context_windows(settings)
    if windows is None or not means_zero(settings.model):
        return windows
    return None if settings.poster else Chunks(windows.length)


def _streams_per_call(streams: int, *, is_even: bool) -> int:
    """As the WebUI's denoiser cuts its rows: prompts of different lengths cannot go together."""
    if not shared.opts.batch_cond_uncond:
        return 1
    return streams if is_even else min(streams - 1, 2)


def _pads() -> bool:
    return bool(shared.opts.pad_cond_uncond or shared.opts.pad_cond_uncond_v0)


def _steps(p: Any) -> int:
    """Steps that will be sampled: img2img begins in the middle."""
    strength = getattr(p, "denoising_strength", None)
    if not hasattr(p, "init_images") or strength is None or getattr(shared.opts, "img2img_fix_steps", False):
        return int(p.steps)
    return int(min(strength, 0.999) * p.steps) + 1


def _second_steps(p: Any) -> int:
    """Of the second pass of hires fix, which are all sampled, however much it repaints."""
    return int(getattr(p, "hr_second_pass_steps", 0) or p.steps)


def _device() -> torch.device:
    device = getattr(shared, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


def _number_bytes(model: Any) -> int:
    """Of what the UNet computes with; its weights may be kept in 8 bits."""
    if model is None:
        return _MOST_BYTES if _device().type == "cpu" else _LEAST_BYTES
    weight: torch.Tensor = next(model.model.diffusion_model.parameters())
    return min(max(weight.element_size(), _LEAST_BYTES), _MOST_BYTES)


def _left_free(model: Any, settings: ClipSettings, number_bytes: int) -> int | None:
    """What the models leave free; None before a checkpoint is loaded, since nobody knows what it will take."""
    free = None if model is None else free_memory()
    device = _device()
    if free is None or device.type == "cpu":  # there they lie in the same memory already
        return free
    elsewhere = (w for w in model.model.diffusion_model.parameters() if w.device.type != device.type)
    waiting: int = sum(weight.numel() * weight.element_size() for weight in elsewhere)
    return max(free - waiting - _motion_parameters(settings.model) * number_bytes, 0)


def _motion_parameters(name: str) -> int:
    try:
        path = find_model(name)
        stat = path.stat()
    except (MotionFileError, OSError):
        return 0  # the panel says it in a line of its own, and so does the run
    return _parameters(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _parameters(path: Path, _changed: int, _size: int) -> int:
    return inspect_motion_file(path).parameters or 0


def _travel_table(travel: Travel, settings: ClipSettings) -> str:
    blends = travel.blends(
        settings.travel_interpolation, settings.travel_easing, settings.travel_hold, travels_in_loop(settings)
    )
    rows = "".join(
        f"<tr><td>{html.escape(frames)}</td><td>{html.escape(text)}</td></tr>" for frames, text in table(travel, blends)
    )
    return f"<table class='animatediff-travel'><tr><th>Frames</th><th>Prompt</th></tr>{rows}</table>"


def _line(text: str, *, is_warning: bool = False) -> str:
    return f"<p class='animatediff-plan{' animatediff-advice' if is_warning else ''}'>{html.escape(text)}</p>"


def _folded(title: str, content: str) -> str:
    return f"<details class='animatediff-more'><summary>{html.escape(title)}</summary>{content}</details>"
