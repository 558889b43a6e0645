"""The kinds of motion module, one row each: how files are detected and which settings they need.

Numbers and norms are those of the official configurations and code: AnimateDiff v1 to v3 and its SDXL beta
(guoyww/AnimateDiff), HotShot-XL (hotshotco/Hotshot-XL), AnimateLCM (G-U-N/AnimateLCM) and PIA (open-mmlab/PIA).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .schedules import LINEAR, SCALED_LINEAR, BetaSchedule

BASES = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}  # names for messages

# A site follows every ResNet block of the UNet: this many per resolution, in the encoder and in the decoder.
SITES_DOWN = 2
SITES_UP = 3

MAX_LENGTH = 1024  # frames in a positional table: sixteen times the longest published one


@dataclass(frozen=True)
class Detection:
    """How a kind is told apart from the others with the same layout.

    Attributes:
        formats: key formats that only this kind was published in.
        config_lengths: values of ``motion_max_seq_length`` in a diffusers config.
        table_lengths: lengths of the positional tables in the file.
        file_name: pattern of common file names.
        other_lengths: whether fine-tunes with tables of another length belong to this kind.
        name_before_length: whether to trust the file name more than the table length, which several kinds share.
    """

    formats: tuple[str, ...] = ()
    config_lengths: tuple[int, ...] = ()
    table_lengths: tuple[int, ...] = ()
    file_name: str = r"(?!)"
    other_lengths: bool = False
    name_before_length: bool = False


@dataclass(frozen=True)
class Kind:
    """What all files of one official training have in common.

    Attributes:
        name: public name, as in ``motion.kind``.
        mid_block: whether the UNet's middle block has a site.
        levels: number of resolutions of the UNet (Stable Diffusion 1.5 has four).
        table_length: length of the positional table in the official file.
        schedule: noise levels of the training.
        shared_resnet_norms: whether the group norms of the UNet's ResNet blocks and of its output take their statistics
            over all frames of a clip, as in that training; otherwise per frame.
        shared_own_norm: the same for the first norm of each temporal transformer.
        base: the image model that it animates, a key of `BASES`.
        best_length: number of frames in the training clips, if the table is longer; longer windows look worse.
        sampler: advice on sampler settings, a sentence; empty if the usual settings work.
        detection: how files are detected.
    """

    name: str
    mid_block: bool
    levels: int
    table_length: int
    schedule: BetaSchedule
    shared_resnet_norms: bool = False
    shared_own_norm: bool = False
    base: str = "sd15"
    best_length: int | None = None
    sampler: str = ""
    detection: Detection = field(default_factory=Detection)

    @property
    def hint(self) -> str:
        """Advice on settings, as sentences; empty if the usual settings work."""
        trained = f"Trained on clips of {self.best_length} frames." if self.best_length else ""
        return " ".join(filter(None, (trained, self.sampler)))


# File names often contain the version of the base model (v1.4, v1.5) as well; the version that follows it wins.
_NAMED_V2 = r"(?:(?<![a-z0-9])|(?<=v1[45]))v2(?![0-9])|v1[-_.]5[-_.]2(?![0-9])"
_NAMED_V3 = r"(?:(?<![a-z0-9])|(?<=v1[45]))v3(?![0-9])|v1[-_.]5[-_.]3(?![0-9])"
_NAMED_HOTSHOT = r"hot[-_ ]?shot|(?<![a-z])hsxl"


def _unless(other: str, pattern: str) -> str:
    return rf"^(?!.*(?:{other})).*(?:{pattern})"


V1 = Kind(
    "v1",
    mid_block=False,
    levels=4,
    table_length=24,
    schedule=LINEAR,
    shared_resnet_norms=True,
    detection=Detection(
        config_lengths=(24,),
        table_lengths=(24,),
        file_name=_unless(_NAMED_V3, r"(?<![a-z0-9])v1(?:[-_.]?[45])?(?![0-9])|temporal[-_ ]?diff|stabilized"),
    ),
)
V2 = Kind(
    "v2",
    mid_block=True,
    levels=4,
    table_length=32,
    schedule=LINEAR,
    detection=Detection(
        config_lengths=(32,),
        table_lengths=(32,),
        file_name=rf"{_NAMED_V2}|(?<![a-z])mm[-_]p[-_]?0|lightning|lt_long|long[-_ ]?animate",
        other_lengths=True,
        name_before_length=True,
    ),
)
V3 = Kind(
    "v3",
    mid_block=False,
    levels=4,
    table_length=32,
    schedule=LINEAR,
    detection=Detection(
        config_lengths=(32,),
        table_lengths=(32,),
        file_name=_NAMED_V3,
        other_lengths=True,
    ),
)
SDXL = Kind(
    "sdxl",
    mid_block=False,
    levels=3,
    table_length=32,
    schedule=BetaSchedule("scaled_linear", beta_end=0.020),
    shared_own_norm=True,
    base="sdxl",
    detection=Detection(config_lengths=(32,), table_lengths=(32,), file_name=_unless(_NAMED_HOTSHOT, "sdxl")),
)
HOTSHOT = Kind(
    "hotshot",
    mid_block=False,
    levels=3,
    table_length=24,
    schedule=SCALED_LINEAR,
    shared_resnet_norms=True,
    base="sdxl",
    best_length=8,
    detection=Detection(formats=("HotShot-XL",), config_lengths=(24,), table_lengths=(24,), file_name=_NAMED_HOTSHOT),
)
LCM = Kind(
    "lcm",
    mid_block=True,
    levels=4,
    table_length=64,
    schedule=LINEAR,
    sampler="Use an LCM sampler with 4 to 8 steps and a CFG scale of 1 to 2.",
    # A fine-tune of v2: its files have no tables, or those of v2 with the same length.
    detection=Detection(formats=("AnimateLCM",), config_lengths=(64,), file_name=r"lcm", name_before_length=True),
)

# They belong to an image, see `image_input` and `image_encoder`: a file of them is never detected, and loads where it
# is asked for.
PIA = Kind("pia", mid_block=False, levels=4, table_length=32, schedule=LINEAR, shared_resnet_norms=True)
I2V = Kind(
    "i2v",
    mid_block=True,
    levels=4,
    table_length=64,
    schedule=BetaSchedule("linear", beta_end=0.014),  # of the demo; with 0.012, its issue 40 shows noise
    sampler="Use an LCM sampler with 4 to 25 steps, a CFG scale of 1 to 2, and its LoRA at 0.8.",
)
OF_IMAGES = {kind.name: kind for kind in (PIA, I2V)}

KINDS = {kind.name: kind for kind in (V1, V2, V3, SDXL, HOTSHOT, LCM)}


@dataclass(frozen=True)
class FileClues:
    """What a file, its config and its name reveal about its kind.

    Attributes:
        stated: kind in the file's metadata.
        format: key format, see `files.key_formats`.
        config_length: length in a diffusers config next to the file.
        table_length: length of its positional tables.
        file_name: its name.
    """

    stated: str | None = None
    format: str = "official"
    config_length: int | None = None
    table_length: int | None = None
    file_name: str = ""


def kinds_of_layout(levels: int, mid_block: bool) -> tuple[Kind, ...]:
    """All kinds with this UNet layout; empty if no kind has it."""
    return tuple(kind for kind in KINDS.values() if (kind.levels, kind.mid_block) == (levels, mid_block))


def detect_kind(candidates: Iterable[Kind], clues: FileClues) -> Kind | None:
    """The kind that the clues identify, by the most reliable rule that decides; None if no rule does."""
    file_name = clues.file_name.lower()
    length_known = clues.config_length is not None or clues.table_length is not None

    def named(kind: Kind) -> bool:
        return re.search(kind.detection.file_name, file_name) is not None

    rules: tuple[Callable[[Kind], bool], ...] = (
        lambda kind: kind.name == clues.stated,
        lambda kind: clues.format in kind.detection.formats,
        lambda kind: kind.detection.name_before_length and named(kind),
        lambda kind: clues.table_length in kind.detection.table_lengths,
        lambda kind: clues.config_length in kind.detection.config_lengths,
        named,
        lambda kind: length_known and kind.detection.other_lengths,
    )
    left = list(candidates)
    for rule in rules:
        matching = [kind for kind in left if rule(kind)]
        if len(matching) == 1:
            return matching[0]
    return None
