"""Every setting of a training once: Python, command line and the recipe in the written file derive from this table.

Defaults are those of the official recipe (arXiv 2307.04725 and the public training code) where it states one.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from motion_module import AnimateDiffError

NEW_KINDS = ("v2", "v3")  # the recipe's; others want other norms or another base
TARGETS = ("motion-module", "motion-lora", "adapter")
OFFICIAL_RANKS = {"motion-lora": 64, "adapter": 128}  # from the sizes of the official files
PIXELS_PER_STEP = 64  # three halvings of a latent that is an eighth of the image


class TrainingError(AnimateDiffError):
    """The training cannot begin or go on as asked."""


_KEY = "setting"


def _setting(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={_KEY: {"help": help, **more}})


@dataclass(frozen=True)
class Setting:
    """What is known about one setting.

    Attributes:
        name: its name in Python; the command line writes a dash for each underscore.
        type: ``bool``, ``int``, ``float``, ``str`` or ``tuple`` (of texts).
        default: value when nothing is said.
        help: what it changes.
        choices: the values allowed, if they are few.
        minimum, maximum: limits of a number, both included; ``above`` is one that is not.
        fixed: whether a run that goes on must have the value that it began with.
        path: whether it names a file or a folder, of which a recipe keeps the last part only.
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    fixed: bool = False
    path: bool = False


@dataclass(frozen=True)
class TrainingSettings:
    """What to train, on what, and how. Values are checked when one is made.

    Raises:
        TrainingError: a value is of a wrong type, out of range, or does not go with another.
    """

    # what
    target: str = _setting("motion-module", "What is trained; all else is frozen.", choices=TARGETS, fixed=True)
    kind: str = _setting(
        "v3", "Layout of a new motion module; v2 has one more site, in the middle.", choices=NEW_KINDS, fixed=True
    )
    motion: str = _setting(
        "", "Motion module to go on from; for a motion LoRA the one that it is made for.", path=True, fixed=True
    )
    rank: int = _setting(
        0, "Rank of a LoRA. 0 stands for the official one: 64 for motion, 128 for an adapter.", minimum=0, fixed=True
    )
    # the base model
    checkpoint: str = _setting("", "Base model: a Stable Diffusion 1.5 file, or a diffusers folder.", path=True)
    config: str = _setting("", "Folder with tokenizer and configs, for work without a network.", path=True)
    adapter: str = _setting("", "Domain adapter to keep in the base model while training.", path=True, fixed=True)
    adapter_strength: float = _setting(1.0, "How strongly that adapter acts.", fixed=True)
    # the clips
    data: str = _setting("", "WebVid CSV (videoid,name,page_dir), or a folder of videos with .txt captions.", path=True)
    videos: str = _setting("", "Folder of a CSV's videos. The CSV's own folder when empty.", path=True)
    caption: str = _setting("", "Caption of videos that have none beside them.")
    frames: int = _setting(16, "Frames of a clip. An adapter is trained on single frames.", minimum=1, fixed=True)
    stride: int = _setting(4, "Take every so many frames of a video. Short videos are squeezed.", minimum=1, fixed=True)
    size: int = _setting(256, "Side of the square, in pixels, a multiple of 64.", minimum=64, fixed=True)
    buckets: bool = _setting(
        False, "Keep each video's shape roughly, at the square's area, instead of cutting squares.", fixed=True
    )
    mirror: bool = _setting(False, "Mirror every second clip. Swaps left and right: captions lie then.", fixed=True)
    caption_dropout: float = _setting(
        0.1, "Share of clips trained with an empty caption.", minimum=0, maximum=1, fixed=True
    )
    cache: str = _setting("", "Folder for encoded videos, made once before the training.", path=True)
    workers: int = _setting(0, "Processes that read videos ahead.", minimum=0)
    # the optimisation
    steps: int = _setting(2000, "Optimiser steps in all; the paper's motion LoRAs took 2000.", minimum=1)
    batch: int = _setting(4, "Clips on each device at once.", minimum=1)
    accumulation: int = _setting(1, "Batches for each step. Same result as one large batch, in less memory.", minimum=1)
    lr: float = _setting(1e-4, "Learning rate.", above=0)
    lr_schedule: str = _setting("constant", "How it goes on after the warm-up.", choices=("constant", "cosine"))
    warmup: int = _setting(0, "Steps over which the learning rate rises.", minimum=0)
    beta1: float = _setting(0.9, "AdamW's memory of the gradient.", minimum=0, maximum=0.9999, fixed=True)
    beta2: float = _setting(0.999, "AdamW's memory of its square.", minimum=0, maximum=0.99999, fixed=True)
    weight_decay: float = _setting(1e-2, "AdamW's pull to zero.", minimum=0)
    clip_norm: float = _setting(1.0, "Longest gradient of a step.", above=0)
    ema: float = _setting(
        0.0, "Decay of a moving average of the weights, which is then what is written. 0: none, as officially.",
        minimum=0, maximum=0.99999, fixed=True,
    )  # fmt: skip
    largest_weight: float = _setting(
        1.0, "Weigh the loss by 1 + sigma^2, at most by this. 1 is the plain loss; 100 stresses coarse structure.",
        minimum=1, fixed=True,
    )  # fmt: skip
    timestep_power: float = _setting(
        1.0, "Timesteps are 1000 * u^power: 1 is uniform, less trains the noisy ones more.", above=0, fixed=True
    )
    seed: int = _setting(42, "Same seed, same training.", minimum=0, fixed=True)
    precision: str = _setting(
        "auto", "Mixed precision. auto: fp16 on CUDA, none elsewhere.", choices=("auto", "no", "fp16", "bf16")
    )
    checkpointing: bool = _setting(False, "Compute activations twice to save memory.")
    device: str = _setting("auto", "auto takes what accelerate finds.", choices=("auto", "cpu"))
    # what is written
    output: str = _setting("training", "Folder for the result, its states, samples and logs.", path=True)
    resume: bool = _setting(False, "Go on from the last state in the output folder.")
    half: bool = _setting(False, "Write the result in half precision.")
    save_every: int = _setting(500, "Steps between two saved states, each with the result so far.", minimum=1)
    log_every: int = _setting(10, "Steps between two records of the loss.", minimum=1)
    validation_every: int = _setting(500, "Steps between two validations.", minimum=1)
    validation_prompts: tuple[str, ...] = _setting((), "Prompts to make clips of at each validation.")
    validation_clips: int = _setting(
        4, "Clips held out for the error at each timestep; never more than a tenth.", minimum=0, fixed=True
    )

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        _check_together(self)

    @property
    def lora_rank(self) -> int:
        """Rank of the LoRA that is trained; 0 for a whole motion module."""
        return (self.rank or OFFICIAL_RANKS[self.target]) if self.target in OFFICIAL_RANKS else 0

    @property
    def clip_frames(self) -> int:
        """Frames of a training example."""
        return 1 if self.target == "adapter" else self.frames


def _described(f: Field[Any]) -> Setting:
    return Setting(f.name, type(f.default), f.default, **f.metadata[_KEY])


SETTINGS: dict[str, Setting] = {f.name: _described(f) for f in fields(TrainingSettings)}


def _checked(setting: Setting, value: Any) -> Any:
    if setting.type is tuple:
        if isinstance(value, str) or not all(isinstance(part, str) for part in value):
            raise TrainingError(f"{setting.name} must be a list of texts, not {reprlib.repr(value)}.")
        return tuple(value)
    if setting.type in (int, float):
        return _checked_number(setting, value)
    if setting.path:
        value = str(value)
    if not isinstance(value, setting.type):
        wanted = "true or false" if setting.type is bool else "a text"
        raise TrainingError(f"{setting.name} must be {wanted}, not {reprlib.repr(value)}.")
    if setting.choices and value not in setting.choices:
        raise TrainingError(f"{setting.name} must be one of {', '.join(setting.choices)}, not {reprlib.repr(value)}.")
    return value


def _checked_number(setting: Setting, value: Any) -> int | float:
    whole = setting.type is int
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not right or (whole and value % 1 != 0):
        raise TrainingError(f"{setting.name} must be a {'whole ' if whole else ''}number, not {reprlib.repr(value)}.")
    if setting.minimum is not None and value < setting.minimum:
        raise TrainingError(f"{setting.name} must be {setting.minimum:g} or more, not {value:g}.")
    if setting.maximum is not None and value > setting.maximum:
        raise TrainingError(f"{setting.name} must be {setting.maximum:g} or less, not {value:g}.")
    if setting.above is not None and value <= setting.above:
        raise TrainingError(f"{setting.name} must be more than {setting.above:g}, not {value:g}.")
    return setting.type(value)  # type: ignore[no-any-return]


def _check_together(settings: TrainingSettings) -> None:
    if settings.target == "motion-lora" and not settings.motion:
        raise TrainingError("A motion LoRA belongs to a motion module. Name its file with motion.")
    if settings.target == "adapter" and (settings.motion or settings.adapter):
        raise TrainingError("An adapter is trained on the base model alone. Leave out motion and adapter.")
    if settings.target == "motion-module" and settings.rank:
        raise TrainingError("A whole motion module has no rank. Leave out rank, or choose another target.")
    if settings.size % PIXELS_PER_STEP:
        raise TrainingError(f"size must be a multiple of {PIXELS_PER_STEP}, not {settings.size}.")


def recipe(settings: TrainingSettings) -> dict[str, Any]:
    """The settings as a result carries them: of a path only its last part, since the rest belongs to one machine."""
    values = {name: getattr(settings, name) for name in SETTINGS}
    return {
        name: Path(value).name if SETTINGS[name].path else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
