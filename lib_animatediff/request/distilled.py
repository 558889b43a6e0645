"""Distilled motion modules and LoRAs: how each was trained to be sampled, in few steps and at a low CFG scale.

A distilled file that is sampled in another way gives blurred or burnt clips. `combined` tells what a clip's files need,
`sampling_for` chooses it, and `misfits` names what does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from .effects import Note

LEADING, TRAILING, LINSPACE = "leading", "trailing", "linspace"
SPACINGS = (LEADING, TRAILING, LINSPACE)  # diffusers' names of the timesteps that a number of steps selects

Pair = tuple[str, str | None]
"""A sampler of the command line, and the spacing of its timesteps; None: that of the sampler's own training."""

# LCM and TCD denoise completely at each step and add noise again, at 50 timesteps of the training or at any.
_CONSISTENCY: tuple[Pair, ...] = (("lcm", None), ("lcm", TRAILING), ("tcd", None), ("tcd", TRAILING))
# Euler and DDIM without noise take the same steps. Trailing timesteps begin at the last one, as the distillation does.
_ODE: tuple[Pair, ...] = (("euler", TRAILING), ("ddim", TRAILING))


@dataclass(frozen=True)
class Distillation:
    """How a distilled file was trained to be sampled.

    Attributes:
        name: of the training.
        pairs: samplers with spacings that fit, the best first.
        steps: the fewest and the most sampling steps.
        cfg: the lowest and the highest CFG scale; at 1 only the prompt is computed, not the negative prompt.
        best_steps, best_cfg: what `sampling_for` chooses.
        source: of the numbers.
        file_name: pattern of file names, in small letters.
        is_module: whether the file is a motion module; otherwise it is a LoRA for the checkpoint.
        kind: the motion module's kind, if that identifies it under any name.
    """

    name: str
    pairs: tuple[Pair, ...]
    steps: tuple[int, int]
    cfg: tuple[float, float]
    best_steps: int
    best_cfg: float
    source: str
    file_name: str
    is_module: bool = False
    kind: str | None = None

    def describes(self, file_name: str, *, is_module: bool, kind: str | None = None) -> bool:
        """Whether a file is of this training, by its kind or by its name."""
        if is_module and self.is_module and kind is not None and kind == self.kind:
            return True
        return self.is_module == is_module and re.search(self.file_name, file_name.lower()) is not None

    def shared_with(self, other: Distillation) -> Distillation | None:
        """What fits two files of one clip; None if nothing fits both."""
        pairs = tuple(pair for pair in self.pairs if pair in other.pairs)
        fewest, most = max(self.steps[0], other.steps[0]), min(self.steps[1], other.steps[1])
        lowest, highest = max(self.cfg[0], other.cfg[0]), min(self.cfg[1], other.cfg[1])
        if not pairs or fewest > most or lowest > highest:
            return None
        return replace(
            self,
            pairs=pairs,
            steps=(fewest, most),
            cfg=(lowest, highest),
            best_steps=min(max(self.best_steps, fewest), most),
            best_cfg=min(max(self.best_cfg, lowest), highest),
        )


def _lightning(steps: int, most: int | None = None) -> Distillation:
    return Distillation(
        f"AnimateDiff-Lightning, {steps} step{'s' * (steps > 1)}",
        _ODE,
        (steps, most or steps),
        (1.0, 2.0),
        steps,
        1.0,
        "model card of ByteDance/AnimateDiff-Lightning, arXiv 2403.12706",
        rf"lightning.*?(?<![0-9]){steps}[-_ ]?step|(?<![0-9]){steps}[-_ ]?steps?.*lightning",
        is_module=True,
    )


def _hyper(steps: int) -> Distillation:
    return Distillation(
        f"Hyper-SD LoRA, {steps} steps",
        _ODE[::-1],
        (steps, steps),
        (1.0, 1.0),
        steps,
        1.0,
        "model card of ByteDance/Hyper-SD, arXiv 2404.13686",
        rf"hyper(?!.*cfg).*?(?<![0-9]){steps}[-_ ]?step",
    )


def _hyper_cfg(steps: int) -> Distillation:
    return replace(
        _hyper(steps),
        name=f"Hyper-SD CFG LoRA, {steps} steps",
        cfg=(5.0, 8.0),
        best_cfg=5.0,
        file_name=rf"hyper.*?(?<![0-9]){steps}[-_ ]?steps?[-_ ]?cfg",
    )


def _sdxl_lightning(steps: int) -> Distillation:
    return Distillation(
        f"SDXL-Lightning LoRA, {steps} steps",
        _ODE,
        (steps, steps),
        (1.0, 1.0),
        steps,
        1.0,
        "model card of ByteDance/SDXL-Lightning, arXiv 2402.13929",
        rf"lightning.*?(?<![0-9]){steps}[-_ ]?step",
    )


_OF_LCM_LORA = "model card of latent-consistency/lcm-lora-sdv1-5, arXiv 2311.05556"

DISTILLATIONS = (
    Distillation(  # the demo takes every fifth of 1000 timesteps, so that its first ones are the trailing ones
        "AnimateLCM-I2V",
        _CONSISTENCY[1::2] + _CONSISTENCY[::2],
        (4, 25),
        (1.0, 2.0),
        6,
        1.0,
        "demo of wangfuyun/AnimateLCM-I2V, arXiv 2402.00769",
        r"animate[-_ ]?lcm.*i2v",
        is_module=True,
        kind="i2v",
    ),
    Distillation(
        "the built-in pocket model",
        (("lcm", None), ("lcm", TRAILING)),
        (4, 8),
        (1.0, 1.0),
        4,
        1.0,
        "docs/pocket.md",
        r"^pocket-fast-motion",
        is_module=True,
    ),
    Distillation(
        "AnimateLCM",
        _CONSISTENCY,
        (4, 8),
        (1.0, 2.0),
        6,
        1.0,
        "model card of wangfuyun/AnimateLCM, arXiv 2402.00769",
        r"animate[-_ ]?lcm",
        is_module=True,
        kind="lcm",
    ),
    _lightning(1),
    _lightning(2, most=3),
    _lightning(4),
    _lightning(8),
    Distillation(
        "AnimateLCM LoRA",
        _CONSISTENCY,
        (4, 8),
        (1.0, 2.0),
        6,
        1.0,
        "model card of wangfuyun/AnimateLCM, arXiv 2402.00769",
        r"animate[-_ ]?lcm|sd15_(?:t2v_)?(?:beta_lora|lora_beta)",
    ),
    # The motion module beside it is not distilled, so the most of its steps.
    Distillation("LCM LoRA", _CONSISTENCY, (2, 8), (1.0, 2.0), 8, 1.0, _OF_LCM_LORA, r"(?<![a-z])lcm(?![a-z])"),
    _hyper_cfg(8),
    _hyper_cfg(12),
    Distillation(
        "Hyper-SD LoRA, 1 step (any number of steps)",
        (("tcd", None), ("tcd", TRAILING), ("lcm", None), ("lcm", TRAILING)),
        (1, 8),
        (1.0, 1.0),
        8,
        1.0,
        "model card of ByteDance/Hyper-SD, arXiv 2404.13686",
        r"hyper(?!.*cfg).*?(?<![0-9])1[-_ ]?step",
    ),
    _hyper(2),
    _hyper(4),
    _hyper(8),
    # Trained at timesteps 999, 749, 499 and 249, which are trailing ones.
    Distillation(
        "DMD2 LoRA",
        (("lcm", TRAILING), ("lcm", None)),
        (4, 4),
        (1.0, 1.0),
        4,
        1.0,
        "model card of tianweiy/DMD2, arXiv 2405.14867",
        r"(?<![a-z])dmd2?(?![a-z])",
    ),
    Distillation(
        "TCD LoRA",
        (("tcd", None), ("tcd", TRAILING), ("lcm", None), ("lcm", TRAILING)),
        (2, 20),
        (1.0, 1.0),
        8,
        1.0,
        "arXiv 2402.19159, figure of steps from 2 to 20",
        r"(?<![a-z])tcd(?![a-z])",
    ),
    _sdxl_lightning(2),
    _sdxl_lightning(4),
    _sdxl_lightning(8),
)
"""All trainings whose files are known, the narrower names first."""

_DISTILLED_CHECKPOINT = re.compile(r"lcm|turbo|lightning|hyper|dmd|tcd")


@dataclass(frozen=True)
class DistilledFile:
    """A distilled file of a clip.

    Attributes:
        name: of the file, or of a LoRA's tag.
    """

    name: str
    distillation: Distillation


@dataclass(frozen=True)
class SamplerSettings:
    """How a clip is sampled, in the command line's names; None: not given.

    Attributes:
        sampler: such as ``"lcm"``.
        spacing: one of `SPACINGS`, or None also for the sampler's own.
    """

    sampler: str | None = None
    spacing: str | None = None
    steps: int | None = None
    cfg: float | None = None


@dataclass(frozen=True)
class HostWords:
    """How a host calls samplers.

    Attributes:
        pair: a fitting sampler with its spacing.
        asked: the sampler of the request.
        advice: the end of the sentence about what does not fit: how to set what fits.
    """

    pair: Callable[[Pair], str]
    asked: str
    advice: str = ""


def described(row: Distillation, pair: Callable[[Pair], str]) -> str:
    """The sampling of a training in words, such as ``the lcm sampler, 4 to 8 steps and CFG 1 to 2``."""
    return _listed([pair(row.pairs[0]), steps_in_words(*row.steps), cfg_in_words(*row.cfg)])


def distillation_of(file_name: str, *, is_module: bool, kind: str | None = None) -> Distillation | None:
    """The training of a file; None for a file that is not known to be distilled.

    Args:
        kind: the motion module's kind, if it is known.
    """
    rows = (row for row in DISTILLATIONS if row.describes(file_name, is_module=is_module, kind=kind))
    return next(rows, None)


def distilled_files(
    modules: Iterable[tuple[str, str | None]], loras: Iterable[tuple[str, float]]
) -> tuple[DistilledFile, ...]:
    """The distilled ones among a clip's files, motion modules first.

    Args:
        modules: names and kinds.
        loras: names and strengths; a LoRA of strength 0 changes nothing.
    """
    found = [(name, distillation_of(name, is_module=True, kind=kind)) for name, kind in modules]
    found += [(name, distillation_of(name, is_module=False)) for name, strength in loras if strength]
    return tuple(DistilledFile(name, row) for name, row in found if row is not None)


def combined(files: Sequence[DistilledFile]) -> Distillation | None:
    """What fits the files; that of the first where nothing fits all. None without files."""
    if not files:
        return None
    first, *others = (file.distillation for file in files)
    for other in others:
        first = first.shared_with(other) or first
    return first


def sampling_for(needed: Distillation, given: SamplerSettings) -> SamplerSettings:
    """The sampling of a distilled file, in which everything that the user has given stays."""
    fitting = (pair for pair in needed.pairs if given.sampler in (None, pair[0]) and given.spacing in (None, pair[1]))
    sampler, spacing = next(fitting, (given.sampler, given.spacing))
    return SamplerSettings(
        sampler,
        spacing,
        needed.best_steps if given.steps is None else given.steps,
        needed.best_cfg if given.cfg is None else given.cfg,
    )


def misfits(files: Sequence[DistilledFile], asked: SamplerSettings, words: HostWords) -> tuple[Note, ...]:
    """A note about each file whose training does not fit the sampling or the files before it.

    Args:
        asked: complete.
    """
    needed = combined(files)
    if needed is None:
        return ()
    conflicts = tuple(
        Note(
            file.name,
            f"was distilled for {described(file.distillation, words.pair)}, but {files[0].name} for "
            f"{described(files[0].distillation, words.pair)}. Use only one of them.",
        )
        for file in files[1:]
        if file.distillation.shared_with(files[0].distillation) is None
    )
    wanted, given = _differences(needed, asked, words)
    if not wanted:
        return conflicts
    text = f"was distilled for {_listed(wanted)}; you ask for {_listed(given)}."
    return Note(files[0].name, f"{text} {words.advice}".strip()), *conflicts


def undistilled(modules: Sequence[str], checkpoint: str, asked: SamplerSettings, words: HostWords) -> tuple[Note, ...]:
    """A note about a sampler for distilled files in a clip that has none.

    Args:
        modules: names of the motion modules.
        checkpoint: its name, which says whether it is itself distilled.
    """
    if asked.sampler not in ("lcm", "tcd") or _DISTILLED_CHECKPOINT.search(checkpoint.lower()):
        return ()
    what = modules[0] if modules else "this clip"
    return (
        Note(
            "sampler",
            f"{words.asked} blurs clips of files that were not distilled for it, and {what} is not known to be. Use "
            "another sampler, AnimateLCM, or an LCM LoRA.",
        ),
    )


def _differences(needed: Distillation, asked: SamplerSettings, words: HostWords) -> tuple[list[str], list[str]]:
    """What the training needs and what is asked for, where they differ."""
    assert asked.steps is not None
    assert asked.cfg is not None
    wanted, given = [], []
    if (asked.sampler, asked.spacing) not in needed.pairs:
        wanted.append(words.pair(needed.pairs[0]))
        given.append(words.asked)
    if not needed.steps[0] <= asked.steps <= needed.steps[1]:
        wanted.append(steps_in_words(*needed.steps))
        given.append(steps_in_words(asked.steps, asked.steps))
    if not needed.cfg[0] <= max(asked.cfg, 1.0) <= needed.cfg[1]:  # below 1 is as 1
        wanted.append(cfg_in_words(*needed.cfg))
        given.append(cfg_in_words(asked.cfg, asked.cfg))
    return wanted, given


def steps_in_words(fewest: int, most: int) -> str:
    """A range of steps, such as ``4 to 8 steps``."""
    if fewest < most:
        return f"{fewest} to {most} steps"
    return f"{most} step{'s' * (most != 1)}"


def cfg_in_words(lowest: float, highest: float) -> str:
    """A range of CFG scales, such as ``CFG 1 to 2``."""
    return f"CFG {lowest:g}" if lowest == highest else f"CFG {lowest:g} to {highest:g}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
