"""Table of all training settings, from which Python API, command line and the recipe in the result derive.

Defaults follow the official recipe (arXiv 2307.04725 and the public training code) where it states a value.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from lib_animatediff.video.preprocess import CANNY, PREPROCESSORS
from motion_module import AnimateDiffError
from motion_module.sparse_ctrl.network import CHANNELS, RGB

NEW_KINDS = ("v2", "v3")  # those of the official recipe; others need other norms or another base model
CAMERA = "cameractrl"
TARGETS = ("motion-module", "motion-lora", "adapter", "controlnet", "sparsectrl", "pia", CAMERA)
WITH_NEW_MOTION = ("motion-module", "pia")  # targets that train all weights of a motion module
GUIDED = {  # by images or a camera
    "controlnet": "A ControlNet",
    "sparsectrl": "A SparseCtrl encoder",
    "pia": "A PIA model",
    CAMERA: "A CameraCtrl model",
}
FOR_MOTION = ("sparsectrl", CAMERA)  # targets that are trained for a frozen motion module
OF_IMAGES = ("adapter", "controlnet")  # targets that are trained on single frames
OPTIMIZERS = ("adamw", "muon")
OFFICIAL_RANKS = {"motion-lora": 64, "adapter": 128}  # from the sizes of the official files
PIXELS_PER_STEP = 64  # latents are an eighth of the image and are halved three times


class TrainingError(AnimateDiffError):
    """The training cannot start or continue with these settings."""


_KEY = "setting"


def _setting(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={_KEY: {"help": help, **more}})


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        name: name in Python; the command line uses dashes instead of underscores.
        type: ``bool``, ``int``, ``float``, ``str`` or ``tuple`` (of strings).
        default: default value.
        help: what it changes.
        choices: allowed values, if limited.
        minimum, maximum: inclusive limits of a number; ``above`` is an exclusive one.
        fixed: whether a resumed run must keep the original value.
        path: whether it is a path, of which a recipe keeps only the last component.
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
    """What to train, on which data, and how. Values are checked on construction.

    Raises:
        TrainingError: a value has a wrong type, is out of range, or conflicts with another one.
    """

    # what
    target: str = _setting("motion-module", "What to train; everything else stays frozen.", choices=TARGETS, fixed=True)
    kind: str = _setting(
        "v3",
        "Kind of a new motion module; v2 has an additional site in the middle block.",
        choices=NEW_KINDS,
        fixed=True,
    )
    motion: str = _setting(
        "",
        "Motion module to continue from, or the one that a motion LoRA, a SparseCtrl encoder or a CameraCtrl model is "
        "trained for.",
        path=True,
        fixed=True,
    )
    rank: int = _setting(
        0, "Rank of a LoRA. 0 selects the official rank: 64 for motion LoRAs, 128 for adapters.", minimum=0, fixed=True
    )
    # the base model
    checkpoint: str = _setting("", "Base model: a Stable Diffusion 1.5 file, or a diffusers folder.", path=True)
    config: str = _setting("", "Folder with tokenizer and configs, for use without a network.", path=True)
    adapter: str = _setting("", "Domain adapter to merge into the base model during training.", path=True, fixed=True)
    adapter_strength: float = _setting(1.0, "Strength of the domain adapter.", fixed=True)
    # the clips
    data: str = _setting("", "WebVid CSV (videoid,name,page_dir), or a folder of videos with .txt captions.", path=True)
    videos: str = _setting("", "Folder with the videos of a CSV. Default: the folder of the CSV.", path=True)
    caption: str = _setting("", "Caption of videos without a text file.")
    frames: int = _setting(
        16, "Frames per clip. Adapters and ControlNets are trained on single frames.", minimum=1, fixed=True
    )
    stride: int = _setting(
        4, "Use every nth frame of a video. Short videos are sampled more densely.", minimum=1, fixed=True
    )
    size: int = _setting(256, "Side of the square training frames in pixels, a multiple of 64.", minimum=64, fixed=True)
    buckets: bool = _setting(
        False,
        "Approximately keep each video's aspect ratio, at the area of the square, instead of cropping.",
        fixed=True,
    )
    mirror: bool = _setting(
        False, "Flip half of the clips horizontally. Captions with left or right become wrong.", fixed=True
    )
    caption_dropout: float = _setting(
        0.1, "Share of clips that are trained with an empty caption.", minimum=0, maximum=1, fixed=True
    )
    condition: str = _setting(
        RGB,
        "What a SparseCtrl encoder reads: images (rgb), or drawings that hints makes of the frames (scribble).",
        choices=tuple(CHANNELS),
        fixed=True,
    )
    hints: str = _setting(
        CANNY,
        "Preprocessor that makes the hints of a ControlNet, or the drawings of a SparseCtrl encoder, from the frames.",
        choices=tuple(PREPROCESSORS),
        fixed=True,
    )
    cache: str = _setting("", "Folder for encoded videos, which are encoded once before the training.", path=True)
    workers: int = _setting(0, "Processes that load videos in the background.", minimum=0)
    # the optimisation
    steps: int = _setting(2000, "Total optimiser steps; the paper's motion LoRAs took 2000.", minimum=1)
    batch: int = _setting(4, "Clips per device and batch.", minimum=1)
    accumulation: int = _setting(1, "Batches per step: the result of a larger batch in less memory.", minimum=1)
    lr: float = _setting(1e-4, "Learning rate.", above=0)
    lr_schedule: str = _setting("constant", "Learning rate after the warmup.", choices=("constant", "cosine"))
    warmup: int = _setting(0, "Steps over which the learning rate rises linearly from 0.", minimum=0)
    optimizer: str = _setting(
        "adamw", "Optimizer. muon updates matrices by Muon, the rest by AdamW.",
        choices=OPTIMIZERS, fixed=True,
    )  # fmt: skip
    beta1: float = _setting(0.9, "AdamW's beta1, decay of the gradient's mean.", minimum=0, maximum=0.9999, fixed=True)
    beta2: float = _setting(
        0.999, "AdamW's beta2, decay of the squared gradient's mean.", minimum=0, maximum=0.99999, fixed=True
    )
    weight_decay: float = _setting(1e-2, "AdamW's weight decay.", minimum=0)
    clip_norm: float = _setting(1.0, "Maximum norm of a step's gradient.", above=0)
    ema: float = _setting(
        0.0, "Decay of an exponential moving average of the weights, which is then saved. 0 disables it (official).",
        minimum=0, maximum=0.99999, fixed=True,
    )  # fmt: skip
    largest_weight: float = _setting(
        1.0, "Upper bound of the loss weight 1 + sigma^2. 1 disables weighting; 100 emphasises coarse structure.",
        minimum=1, fixed=True,
    )  # fmt: skip
    moving_weight: float = _setting(
        1.0, "How much more the part of a clip that changes most weighs in the loss than one that stands still. 1 "
        "disables weighting (official). Without effect on distillation.",
        minimum=1, fixed=True,
    )  # fmt: skip
    local_heads: bool = _setting(
        False, "Start with attention heads that look at neighbouring frames, not at all frames alike (official). "
        "Motion appears in far fewer steps.",
        fixed=True,
    )  # fmt: skip
    spread_positions: bool = _setting(
        False, "Number the frames of a clip as in the video (0, stride, twice stride, ...), not 0, 1, 2 (official). A "
        "motion module learns long movements from few frames, and makes the frames between them, too.",
        fixed=True,
    )  # fmt: skip
    timestep_power: float = _setting(
        1.0, "Timesteps are 1000 * u^power: 1 is uniform, lower values favour noisy timesteps.", above=0, fixed=True
    )
    distill_cfg: float = _setting(
        0.0, "Distil the motion module for few steps without CFG (LCM): the CFG scale that it takes over. 0 trains on "
        "the clips as usual.",
        minimum=0, fixed=True,
    )  # fmt: skip
    seed: int = _setting(42, "Seed of the training. The same seed gives the same result.", minimum=0, fixed=True)
    precision: str = _setting(
        "auto", "Mixed precision. auto: fp16 on CUDA, none elsewhere.", choices=("auto", "no", "fp16", "bf16")
    )
    checkpointing: bool = _setting(False, "Recompute activations in the backward pass, to save memory.")
    device: str = _setting("auto", "auto lets accelerate choose.", choices=("auto", "cpu"))
    # what is written
    output: str = _setting("training", "Folder for the result, states, samples and logs.", path=True)
    resume: bool = _setting(False, "Resume from the last state in the output folder.")
    half: bool = _setting(False, "Save the result in half precision.")
    save_every: int = _setting(500, "Steps between saved states, each with the result so far.", minimum=1)
    log_every: int = _setting(10, "Steps between log entries of the loss.", minimum=1)
    validation_every: int = _setting(500, "Steps between validations.", minimum=1)
    validation_prompts: tuple[str, ...] = _setting((), "Prompts to render at each validation.")
    validation_clips: int = _setting(
        4, "Clips held out to measure the error per timestep, at most a tenth of all.", minimum=0, fixed=True
    )

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        _check_together(self)

    @property
    def lora_rank(self) -> int:
        """Rank of the trained LoRA; 0 for a whole motion module."""
        return (self.rank or OFFICIAL_RANKS[self.target]) if self.target in OFFICIAL_RANKS else 0

    @property
    def clip_frames(self) -> int:
        """Number of frames of a training example."""
        return 1 if self.target in OF_IMAGES else self.frames


def _described(f: Field[Any]) -> Setting:
    return Setting(f.name, type(f.default), f.default, **f.metadata[_KEY])


SETTINGS: dict[str, Setting] = {f.name: _described(f) for f in fields(TrainingSettings)}


def _checked(setting: Setting, value: Any) -> Any:
    if setting.type is tuple:
        if isinstance(value, str) or not all(isinstance(part, str) for part in value):
            raise TrainingError(f"{setting.name} must be a list of strings, not {reprlib.repr(value)}.", code="AD-T13")
        return tuple(value)
    if setting.type in (int, float):
        return _checked_number(setting, value)
    if setting.path:
        value = str(value)
    if not isinstance(value, setting.type):
        expected = "true or false" if setting.type is bool else "a string"
        raise TrainingError(f"{setting.name} must be {expected}, not {reprlib.repr(value)}.", code="AD-T14")
    if setting.choices and value not in setting.choices:
        raise TrainingError(
            f"{setting.name} must be one of {', '.join(setting.choices)}, not {reprlib.repr(value)}.", code="AD-T15"
        )
    return value


def _checked_number(setting: Setting, value: Any) -> int | float:
    whole = setting.type is int
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf
    if not right or (whole and value % 1 != 0):
        raise TrainingError(
            f"{setting.name} must be a {'whole ' if whole else ''}number, not {reprlib.repr(value)}.", code="AD-T16"
        )
    if setting.minimum is not None and value < setting.minimum:
        raise TrainingError(f"{setting.name} must be {setting.minimum:g} or more, not {value:g}.", code="AD-T17")
    if setting.maximum is not None and value > setting.maximum:
        raise TrainingError(f"{setting.name} must be {setting.maximum:g} or less, not {value:g}.", code="AD-T18")
    if setting.above is not None and value <= setting.above:
        raise TrainingError(f"{setting.name} must be more than {setting.above:g}, not {value:g}.", code="AD-T19")
    return setting.type(value)  # type: ignore[no-any-return]


def _check_together(settings: TrainingSettings) -> None:
    if settings.target == "motion-lora" and not settings.motion:
        raise TrainingError("A motion LoRA is trained for a motion module. Set motion to its file.", code="AD-T20")
    if settings.target in FOR_MOTION and not settings.motion:
        raise TrainingError(
            f"{GUIDED[settings.target]} is trained for a motion module. Set motion to its file.", code="AD-T47"
        )
    if settings.distill_cfg and (settings.target in (*OF_IMAGES, *GUIDED) or not settings.motion):
        raise TrainingError(
            "A motion module is distilled from one that is trained already. Set motion to its file, or distill_cfg to "
            "0.",
            code="AD-T38",
        )
    if settings.target == "adapter" and (settings.motion or settings.adapter):
        raise TrainingError(
            "An adapter is trained on the base model alone. Leave motion and adapter empty.", code="AD-T21"
        )
    if settings.target == "controlnet" and (settings.motion or settings.adapter):
        raise TrainingError(
            "A ControlNet is trained on the base model alone. Leave motion and adapter empty.", code="AD-T42"
        )
    if settings.target in GUIDED:
        _check_guided(settings)
    if settings.target not in OFFICIAL_RANKS and settings.rank:
        raise TrainingError("Only a LoRA has a rank. Leave out rank, or choose another target.", code="AD-T22")
    if settings.local_heads and settings.target not in WITH_NEW_MOTION:
        raise TrainingError(
            "local_heads changes the weights of a motion module, and this target leaves them as they are. Leave it "
            "out.",
            code="AD-T39",
        )
    if settings.spread_positions:
        _check_spread(settings)
    if settings.size % PIXELS_PER_STEP:
        raise TrainingError(f"size must be a multiple of {PIXELS_PER_STEP}, not {settings.size}.", code="AD-T23")


def _check_spread(settings: TrainingSettings) -> None:
    if settings.target not in WITH_NEW_MOTION:
        raise TrainingError(
            "spread_positions changes what a motion module learns, and this target leaves it as it is. Leave it out.",
            code="AD-T51",
        )
    if settings.stride == 1 or settings.frames == 1:
        raise TrainingError(
            "spread_positions has no effect without frames that are left out. Set stride to 2 or more and frames to 2 "
            "or more, or leave it out.",
            code="AD-T52",
        )


def _check_guided(settings: TrainingSettings) -> None:
    name = GUIDED[settings.target]
    has_hints = settings.target == "controlnet" or (settings.target == "sparsectrl" and settings.condition != RGB)
    if settings.cache and has_hints:
        raise TrainingError(
            f"{name} reads hints, which are made from frames, and a cache holds only latents. Leave out cache.",
            code="AD-T43",
        )
    if settings.validation_prompts:
        raise TrainingError(
            f"{name} cannot draw validation prompts, which have no images and no camera. Leave out validation_prompts.",
            code="AD-T44",
        )


def recipe(settings: TrainingSettings) -> dict[str, Any]:
    """The settings for the metadata of a result. Of paths only the last component, as the rest is private."""
    values = {name: getattr(settings, name) for name in SETTINGS}
    return {
        name: Path(value).name if SETTINGS[name].path else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
