"""The kinds of motion module, one row each: how it is recognised and how it wants to be run.

Numbers and norms are those of the official configurations and code: AnimateDiff v1 to v3 and its SDXL beta
(guoyww/AnimateDiff), HotShot-XL (hotshotco/Hotshot-XL) and AnimateLCM (G-U-N/AnimateLCM).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .schedules import LINEAR, SCALED_LINEAR, BetaSchedule

BASES = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}  # what a person calls them

# Motion modules follow every ResNet block of the UNet: so many at each resolution, on the way down and up.
SITES_DOWN = 2
SITES_UP = 3

LONGEST = 1024  # frames at a time; sixteen times what any motion module was trained on


@dataclass(frozen=True)
class Signs:
    """How a kind is told from the others of its layout.

    Attributes:
        formats: spellings that no other kind was published in.
        config_lengths: what a diffusers config says of its length.
        table_lengths: lengths of the positional tables in the file.
        file_name: pattern of names under which it is passed around.
        other_lengths: whether a fine-tune with tables of another length is of this kind.
        name_before_length: whether its name says more than a length, which others of its layout have, too.
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
        name: the public name, ``motion.kind``.
        mid_block: whether a transformer sits in the UNet's middle block.
        levels: resolutions of the UNet it was trained for (Stable Diffusion 1.5 has four).
        table_length: length of the positional table in the official file.
        schedule: noise levels of the training.
        shared_resnet_norms: whether the group norms of the UNet's ResBlocks and of its output take their statistics
            over all frames of a clip, as in that training; otherwise each frame has its own.
        shared_own_norm: the same for the norm that each temporal transformer begins with.
        base: the image model that it animates, a key of `BASES`.
        best_length: frames at a time that the training had, where the table is longer: with more, clips get worse.
        sampler: what to set in a sampler for good clips, for people; empty where the usual settings do.
        signs: how it is recognised.
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
    signs: Signs = field(default_factory=Signs)

    @property
    def hint(self) -> str:
        """What a person should know to get good clips; empty where the usual settings do."""
        trained = f"Trained on clips of {self.best_length} frames." if self.best_length else ""
        return " ".join(filter(None, (trained, self.sampler)))


# The version of a module, for which that of its base (v1.4, v1.5) is often taken: what stands behind goes first.
_SAYS_V2 = r"(?:(?<![a-z0-9])|(?<=v1[45]))v2(?![0-9])|v1[-_.]5[-_.]2(?![0-9])"
_SAYS_V3 = r"(?:(?<![a-z0-9])|(?<=v1[45]))v3(?![0-9])|v1[-_.]5[-_.]3(?![0-9])"
_SAYS_HOTSHOT = r"hot[-_ ]?shot|(?<![a-z])hsxl"


def _unless(other: str, pattern: str) -> str:
    return rf"^(?!.*(?:{other})).*(?:{pattern})"


V1 = Kind(
    "v1",
    mid_block=False,
    levels=4,
    table_length=24,
    schedule=LINEAR,
    shared_resnet_norms=True,
    signs=Signs(
        config_lengths=(24,),
        table_lengths=(24,),
        file_name=_unless(_SAYS_V3, r"(?<![a-z0-9])v1(?:[-_.]?[45])?(?![0-9])|temporal[-_ ]?diff|stabilized"),
    ),
)
V2 = Kind(
    "v2",
    mid_block=True,
    levels=4,
    table_length=32,
    schedule=LINEAR,
    signs=Signs(
        config_lengths=(32,),
        table_lengths=(32,),
        file_name=rf"{_SAYS_V2}|(?<![a-z])mm[-_]p[-_]?0|lightning|lt_long|long[-_ ]?animate",
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
    signs=Signs(
        config_lengths=(32,),
        table_lengths=(32,),
        file_name=_SAYS_V3,
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
    signs=Signs(config_lengths=(32,), table_lengths=(32,), file_name=_unless(_SAYS_HOTSHOT, "sdxl")),
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
    signs=Signs(formats=("HotShot-XL",), config_lengths=(24,), table_lengths=(24,), file_name=_SAYS_HOTSHOT),
)
LCM = Kind(
    "lcm",
    mid_block=True,
    levels=4,
    table_length=64,
    schedule=LINEAR,
    sampler="Use an LCM sampler with 4 to 8 steps and a CFG scale of 1 to 2.",
    # Made from v2: its files have no tables, or v2's, of v2's length even.
    signs=Signs(formats=("AnimateLCM",), config_lengths=(64,), file_name=r"lcm", name_before_length=True),
)

KINDS = {kind.name: kind for kind in (V1, V2, V3, SDXL, HOTSHOT, LCM)}


@dataclass(frozen=True)
class Evidence:
    """What a file, its config and its name say about its kind.

    Attributes:
        stated: the kind that the file's metadata names.
        format: the spelling of its keys.
        config_length: length by a diffusers config beside it.
        table_length: length of its positional tables.
        file_name: its name.
    """

    stated: str | None = None
    format: str = "official"
    config_length: int | None = None
    table_length: int | None = None
    file_name: str = ""


def kinds_of_layout(levels: int, mid_block: bool) -> tuple[Kind, ...]:
    """All kinds whose transformers sit at these places of a UNet; none for a UNet that no kind was made for."""
    return tuple(kind for kind in KINDS.values() if (kind.levels, kind.mid_block) == (levels, mid_block))


def detect_kind(candidates: Iterable[Kind], evidence: Evidence) -> Kind | None:
    """The kind that the evidence speaks for, the surest sign first; None where nothing decides."""
    file_name = evidence.file_name.lower()
    length_known = evidence.config_length is not None or evidence.table_length is not None

    def named(kind: Kind) -> bool:
        return re.search(kind.signs.file_name, file_name) is not None

    signs: tuple[Callable[[Kind], bool], ...] = (
        lambda kind: kind.name == evidence.stated,
        lambda kind: evidence.format in kind.signs.formats,
        lambda kind: kind.signs.name_before_length and named(kind),
        lambda kind: evidence.table_length in kind.signs.table_lengths,
        lambda kind: evidence.config_length in kind.signs.config_lengths,
        named,
        lambda kind: length_known and kind.signs.other_lengths,
    )
    left = list(candidates)
    for sign in signs:
        spoken_for = [kind for kind in left if sign(kind)]
        if len(spoken_for) == 1:
            return spoken_for[0]
    return None
