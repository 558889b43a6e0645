"""Distilled motion modules and LoRAs in the WebUI: which of its samplers, schedule types, steps and CFG scales fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lib_animatediff.hosts.webui.catalog.models import find_model, inspected, method_without_file
from lib_animatediff.hosts.webui.compat import a1111, client
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.prompts.tags import LORA_TAG, tags_in
from lib_animatediff.request.distilled import (
    TRAILING,
    Distillation,
    DistilledFile,
    HostWords,
    Pair,
    SamplerSettings,
    cfg_in_words,
    combined,
    distilled_files,
    misfits,
    steps_in_words,
    undistilled,
)
from lib_animatediff.request.effects import Note
from lib_animatediff.request.loras import NamedLora, lora_of
from lib_animatediff.request.settings.setting import FAST
from motion_module import ClipError, MotionFileError

LCM, EULER = "LCM", "Euler"
# The WebUI has neither TCD, whose training LCM fits, nor trailing timesteps for DDIM, whose steps are those of Euler.
_SAMPLERS = {"lcm": LCM, "euler": EULER}
SIMPLE = "Simple"
"""The schedule type with diffusers' timesteps: trailing ones with Euler, those of the consistency training with LCM."""
_TRAILING = ("simple", "sgm uniform", "sgm_uniform", "sgmuniform")  # SGM Uniform is about one timestep beside them
_ADVICE_TO_CLIENT = "Send speed: fast for what fits."


@dataclass(frozen=True)
class HostSampling:
    """The WebUI's own fields that determine the sampling.

    Attributes:
        scheduler: the schedule type.
    """

    sampler_name: str
    scheduler: str
    steps: int
    cfg_scale: float


def best_sampling(needed: Distillation) -> HostSampling:
    """The fields that fit a training."""
    sampler = next(_SAMPLERS[name] for name, _ in needed.pairs if name in _SAMPLERS)
    return HostSampling(sampler, SIMPLE, needed.best_steps, needed.best_cfg)


def files_of(model: str, prompt: str) -> tuple[DistilledFile, ...]:
    """The distilled files of a clip: its motion module, and LoRAs in the prompt, by the names in their tags."""
    return distilled_files(_modules(model), ((lora.name, lora.strength) for lora in _loras(prompt)))


def sampling_notes(
    model: str, files: Sequence[DistilledFile], asked: HostSampling, advice: str = ""
) -> tuple[Note, ...]:
    """Notes about what does not fit, see `misfits` and `undistilled`.

    Args:
        advice: how to set what fits.
    """
    given = _in_own_names(asked)
    words = HostWords(in_words, _asked_in_words(asked), advice)
    if files:
        return misfits(files, given, words)
    info = a1111.checkpoint_info() if a1111.loaded_model() is not None else None
    return undistilled([name for name, _ in _modules(model)], str(getattr(info, "name", "")), given, words)


def apply_speed(p: Processing, model: str, speed: str) -> tuple[Note, ...]:
    """Set the fields of a request for the speed fast, and note what was set and what does not fit.

    The fields that a client of the API has sent stay as they are. The panel sends no ``speed``, so that a request from
    the page that has it comes from an axis of the X/Y/Z plot, which wants all fields set.
    """
    files = files_of(model, _prompt_of(p))
    notes: tuple[Note, ...] = ()
    needed = combined(files)
    if speed == FAST and needed is None:
        notes = (
            Note(
                "speed",
                "fast changes nothing, since no file of this clip is known to be distilled for few steps. Use "
                "AnimateLCM or AnimateDiff-Lightning, or a LoRA such as LCM or Hyper-SD.",
            ),
        )
    elif speed == FAST and needed is not None:
        notes = (Note("speed", f"fast, for {files[0].name}: {_set_fields(p, best_sampling(needed))}."),)
    advice = "" if speed == FAST else _ADVICE_TO_CLIENT
    return *notes, *sampling_notes(model, files, sampling_of(p), advice)


def sampling_of(p: Processing) -> HostSampling:
    """The fields of a request."""
    scheduler = getattr(p, "scheduler", None) or "Automatic"
    return HostSampling(str(p.sampler_name), str(scheduler), int(p.steps), float(p.cfg_scale))


def in_words(pair: Pair) -> str:
    """The WebUI's sampler for a sampler of the command line, such as ``Euler with schedule type Simple``."""
    sampler = _SAMPLERS["lcm" if pair[0] in ("lcm", "tcd") else "euler"]
    return sampler if sampler == LCM else f"{sampler} with schedule type {SIMPLE}"


def _set_fields(p: Any, best: HostSampling) -> str:
    """Set what no client has sent; returns the fields in words."""
    sent = client.fields_of_client() or frozenset()
    sampler_sent = not sent.isdisjoint(("sampler_name", "sampler_index"))
    if not sampler_sent:
        p.sampler_name = best.sampler_name
    if "scheduler" not in sent and p.sampler_name == best.sampler_name:
        p.scheduler = best.scheduler
    if "steps" not in sent:
        p.steps = best.steps
    if "cfg_scale" not in sent:
        p.cfg_scale = best.cfg_scale
    now = sampling_of(p)
    steps, cfg = steps_in_words(now.steps, now.steps), cfg_in_words(now.cfg_scale, now.cfg_scale)
    return f"{now.sampler_name}, schedule type {now.scheduler}, {steps}, {cfg}"


def _in_own_names(asked: HostSampling) -> SamplerSettings:
    names = {label: name for name, label in _SAMPLERS.items()}
    sampler = names.get(asked.sampler_name, asked.sampler_name)
    spacing: str | None = TRAILING if asked.scheduler.lower() in _TRAILING else asked.scheduler
    return SamplerSettings(sampler, None if sampler == "lcm" else spacing, asked.steps, asked.cfg_scale)


def _asked_in_words(asked: HostSampling) -> str:
    if asked.sampler_name != EULER:
        return asked.sampler_name
    return f"{EULER} with schedule type {asked.scheduler}"


def _modules(model: str) -> list[tuple[str, str | None]]:
    if method_without_file(model):
        return []
    try:
        path = find_model(model)
        return [(path.name, inspected(path).kind)]
    except (MotionFileError, OSError):
        return []  # the panel and the run report the error


def _loras(prompt: str) -> Iterator[NamedLora]:
    """The LoRAs in the tags of a prompt; the WebUI itself reports a tag that is wrong."""
    for tag in dict.fromkeys(tags_in(prompt, LORA_TAG)):
        with suppress(ClipError):
            yield lora_of(tag.split(":"), tag)


def _prompt_of(p: Processing) -> str:
    """The prompt of the first row, with the user's styles."""
    text = str(p.prompt[0] if isinstance(p.prompt, list) and p.prompt else p.prompt)
    return a1111.apply_styles(text, p.styles, is_negative=False) if p.styles else text
