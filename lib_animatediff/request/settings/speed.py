"""The fields of the table that make a clip cheaper."""

from __future__ import annotations

from lib_animatediff.engine.reuse.schedule import MOST_BRANCH, MOST_INTERVAL

from .setting import AS_SET, SPEED, SPEEDS, further

PREVIEW = further(
    False,
    "Preview (first frame only)",
    "Renders only the first frame, without motion but on the clip's noise levels: a quick look before a long clip.",
    SPEED,
)
REUSE = further(
    1,
    "Feature reuse",
    "Computes most of the UNet at every 2nd, 3rd, ... step only, and reuses its features in between: faster and less "
    "exact. 1 is off; try 2.",
    SPEED,
    minimum=1,
    maximum=MOST_INTERVAL,
)
REUSE_BRANCH = further(
    0,
    "Reuse branch",
    "Skip connection up to which layers run at every step with feature reuse: 0 is fastest, more is closer to the clip "
    "without reuse.",
    SPEED,
    minimum=0,
    maximum=MOST_BRANCH,
)
REUSE_ON_CPU = further(
    False,
    "Reused features in main memory",
    "Keeps the features of feature reuse in main memory, for long clips on graphics cards with little memory.",
    SPEED,
)
GUIDANCE_START = further(
    0.0,
    "CFG start",
    "Fraction of the sampling steps that run without CFG at the beginning. They ignore the negative prompt and take "
    "half the time.",
    SPEED,
    minimum=0,
    maximum=1,
)
GUIDANCE_END = further(
    1.0,
    "CFG end",
    "Fraction of the sampling steps after which CFG is off; try 0.6. Later steps ignore the negative prompt and take "
    "half the time.",
    SPEED,
    minimum=0,
    maximum=1,
)
SPEED_CHOICE = further(
    AS_SET,
    "Speed",
    "Samples distilled files, such as AnimateLCM, as they were trained where you do not say otherwise.",
    SPEED,
    choices=SPEEDS,
    in_panel=False,
)
