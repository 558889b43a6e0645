"""The sampler, steps and CFG scale of a clip: as given, or as its distilled files were trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lib_animatediff.request.distilled import (
    HostWords,
    Pair,
    SamplerSettings,
    cfg_in_words,
    combined,
    distilled_files,
    misfits,
    sampling_for,
    steps_in_words,
    undistilled,
)
from lib_animatediff.request.loras import LoraFile
from lib_animatediff.request.methods import ModuleFile, name_without_file
from lib_animatediff.request.settings.setting import FAST
from motion_module import inspect_motion_file

from .pipeline import CFG, SAMPLER, STEPS, check_sampler, spacing_of

_ADVICE = "Set speed to fast for what fits."
_NO_DISTILLED_FILE = (
    "speed fast changes nothing, since {names} not known to be distilled for few steps. Use AnimateLCM or "
    "AnimateDiff-Lightning, or add a LoRA such as LCM, Hyper-SD or TCD. docs/features.md lists them under Fast modules."
)


@dataclass(frozen=True)
class ClipFiles:
    """The files of a clip that may be distilled.

    Attributes:
        modules: names and kinds of the motion modules.
        loras: LoRAs for the checkpoint.
        checkpoint: its name; empty if unknown.
    """

    modules: Sequence[tuple[str, str | None]]
    loras: Sequence[LoraFile] = ()
    checkpoint: str = ""


@dataclass(frozen=True)
class ChosenSampling:
    """How a clip is sampled.

    Attributes:
        lines: what was chosen, and what does not fit the files.
    """

    sampler: str
    spacing: str | None
    steps: int
    cfg: float
    lines: tuple[str, ...] = field(default=())


def clip_files(modules: Sequence[ModuleFile], loras: Sequence[LoraFile] = (), checkpoint: str = "") -> ClipFiles:
    """The files by their paths. Only headers of motion modules are read; a damaged one has no kind."""
    named = [
        (file.path.name, file.kind or inspect_motion_file(file.path).kind)
        for file in modules
        if name_without_file(str(file.path)) is None
    ]
    return ClipFiles(named, loras, checkpoint)


def choose_sampling(
    files: ClipFiles,
    speed: str,
    given: SamplerSettings,
    *,
    negative_prompt: str = "",
    default_cfg: float = CFG,
) -> ChosenSampling:
    """The sampling of a clip: what is given, then what the speed chooses, then the official configurations.

    Args:
        speed: the setting.
        given: the user's own choice.
        negative_prompt: has no effect at a CFG scale of 1, which a line says.
        default_cfg: the CFG scale that is neither given nor chosen.

    Raises:
        ClipError: there is no such sampler, or it has no such timesteps.
    """
    distilled = distilled_files(files.modules, ((lora.path.name, lora.strength) for lora in files.loras))
    needed = combined(distilled)
    wants_speed = speed == FAST
    chosen = sampling_for(needed, given) if wants_speed and needed else given
    sampler, steps = chosen.sampler or SAMPLER, STEPS if chosen.steps is None else chosen.steps
    cfg = default_cfg if chosen.cfg is None else chosen.cfg
    check_sampler(sampler, chosen.spacing, steps)
    asked = SamplerSettings(sampler, spacing_of(sampler, chosen.spacing), steps, cfg)
    words = HostWords(in_words, in_words((sampler, asked.spacing)), "" if wants_speed else _ADVICE)
    lines = [*map(str, misfits(distilled, asked, words))]
    if needed is None:
        lines += map(str, undistilled([name for name, _ in files.modules], files.checkpoint, asked, words))
        lines += [_NO_DISTILLED_FILE.format(names=_names(files))] * wants_speed
    elif wants_speed:
        lines.insert(0, f"speed fast, for {distilled[0].name}: {_in_words(asked)}.")
    if distilled and negative_prompt and cfg <= 1:
        lines.append(f"negative_prompt has no effect at CFG {cfg:g}.")
    return ChosenSampling(sampler, chosen.spacing, steps, cfg, tuple(lines))


def _in_words(how: SamplerSettings) -> str:
    assert how.sampler is not None
    assert how.steps is not None
    assert how.cfg is not None
    pair = in_words((how.sampler, how.spacing))
    return f"{pair}, {steps_in_words(how.steps, how.steps)}, {cfg_in_words(how.cfg, how.cfg)}"


def in_words(pair: Pair) -> str:
    """A sampler and its spacing, such as ``euler with trailing timesteps``."""
    sampler, spacing = pair
    return sampler if spacing is None else f"{sampler} with {spacing} timesteps"


def _names(files: ClipFiles) -> str:
    names = [*(name for name, _ in files.modules), *(lora.path.name for lora in files.loras)] or ["this clip"]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
