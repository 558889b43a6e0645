"""The recipe of a clip as infotext, which the WebUI's PNG Info tab reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lib_animatediff import __version__
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.request.distilled import LINSPACE, TRAILING
from lib_animatediff.request.settings import to_infotext
from lib_animatediff.request.start.pins import in_words
from lib_animatediff.request.start.second_pass import SecondPass

if TYPE_CHECKING:
    from .recipe import Request

PROGRAM = "animatediff"
_HASH_LENGTH = 10  # of the hash as the WebUI shows it
_WEBUI_SCHEDULE = {TRAILING: "Simple", LINSPACE: "Uniform"}  # its schedule type with these timesteps


def infotext_of(request: Request, files: Mapping[str, Any]) -> str:
    """The recipe as infotext, which the WebUI's PNG Info tab reads."""
    checkpoint, motion = files["checkpoint"], files["motion"]
    interpolator = files["rife"]["name"] if "rife" in files else request.settings.interpolator
    settings = replace(request.settings, enable=True, model=motion["name"], interpolator=interpolator)
    if request.ramp is not None:
        settings = replace(settings, **request.ramp.values())
    second_pass = request.plan().second_pass
    line = to_infotext(settings, mm_hash=motion.get("sha256", "")[:_HASH_LENGTH])
    fields = {
        "Steps": request.steps,
        "Sampler": host.SAMPLERS[request.sampler].webui,
        **({"Schedule type": _WEBUI_SCHEDULE[request.spacing]} if request.spacing in _WEBUI_SCHEDULE else {}),
        "CFG scale": request.cfg,
        "Seed": request.seed,
        "Size": f"{request.size[0]}x{request.size[1]}",
        "Model hash": checkpoint["sha256"][:_HASH_LENGTH],
        "Model": request.checkpoint.stem,
        **_video_fields(files),
        **_ramp_fields(files),
        **({} if second_pass is None else _hires_fields(second_pass, request)),
        **({} if request.pins is None else {"Pinned frames": _quoted(in_words(request.pins))}),
        **{f"Control {number}": _quoted(str(unit)) for number, unit in enumerate(request.controls, 1)},
        "AnimateDiff": json.dumps(line, ensure_ascii=False),
        "Version": f"{PROGRAM} {__version__}",
    }
    lines = [request.prompt, f"Negative prompt: {request.negative_prompt}" if request.negative_prompt else ""]
    return "\n".join([*filter(None, lines), ", ".join(f"{name}: {value}" for name, value in fields.items())])


def _video_fields(files: Mapping[str, Any]) -> dict[str, Any]:
    if "video" not in files:
        return {}
    video = files["video"]
    denoise, mask = video["denoise"], video.get("mask", {})
    return {
        "Denoising strength": max(denoise) if isinstance(denoise, list) else denoise,
        "Video": _quoted(video["name"]),
        "Video hash": video["sha256"][:_HASH_LENGTH],
        **({"Video mask": _quoted(mask["name"])} if "name" in mask else {}),
    }


def _ramp_fields(files: Mapping[str, Any]) -> dict[str, Any]:
    if "ramp" not in files:
        return {}
    ramp = files["ramp"]
    names = {"Init image": "image", "Last frame": "last_frame"}
    return {
        "Denoising strength": ramp["denoise"],
        **{field: _quoted(ramp[name]["name"]) for field, name in names.items() if name in ramp},
    }


def _hires_fields(second_pass: SecondPass, request: Request) -> dict[str, Any]:
    """The fields of the WebUI's hires fix, which has the denoising strength of a source video's place."""
    strength = {} if request.video or request.ramp else {"Denoising strength": second_pass.denoise}
    return {
        **strength,
        "Hires upscale": second_pass.scale,
        "Hires steps": second_pass.sampled(request.steps),
        "Hires upscaler": "Lanczos",
    }


def _quoted(text: str) -> str:
    """A value of an infotext that may contain a comma."""
    return json.dumps(text, ensure_ascii=False)
