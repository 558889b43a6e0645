"""The kinds of motion module, one row each: how it is recognised and how it wants to be run."""

from __future__ import annotations

from dataclasses import dataclass

from .schedules import LINEAR, BetaSchedule


@dataclass(frozen=True)
class Kind:
    """What all files of one official training have in common.

    Attributes:
        name: the public name, ``motion.kind``.
        mid_block: whether a transformer sits in the UNet's middle block.
        levels: resolutions of the UNet it was trained for (Stable Diffusion 1.5 has four).
        table_length: length of the positional table in the official file.
        schedule: noise levels of the training.
    """

    name: str
    mid_block: bool
    levels: int
    table_length: int
    schedule: BetaSchedule


V2 = Kind("v2", mid_block=True, levels=4, table_length=32, schedule=LINEAR)
V3 = Kind("v3", mid_block=False, levels=4, table_length=32, schedule=LINEAR)

KINDS = {kind.name: kind for kind in (V2, V3)}

# Motion modules follow every ResNet block of the UNet: so many at each resolution, on the way down and up.
SITES_DOWN = 2
SITES_UP = 3

# Recognised so that the message can name them; other tables or norms would be needed to run them.
V1_TABLE_LENGTH = 24
SDXL_LEVELS = 3
