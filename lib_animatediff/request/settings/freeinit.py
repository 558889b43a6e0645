"""FreeInit: entries of the settings table."""

from __future__ import annotations

from lib_animatediff.sampling.freeinit import FILTERS

from .setting import NOISE, further

FREEINIT_ENABLE = further(
    False,
    "FreeInit",
    "Samples the clip several times and keeps only its slow changes in between, which makes it steadier but "
    "several times slower.",
    NOISE,
)
FREEINIT_FILTER = further(
    next(iter(FILTERS)),
    "FreeInit filter",
    "Shape of the low-pass filter that separates slow changes from fast ones.",
    NOISE,
    choices=tuple(FILTERS),
)
FREEINIT_SPATIAL = further(
    0.25,
    "Spatial cutoff",
    "Share of the spatial frequencies that FreeInit keeps from one iteration to the next.",
    NOISE,
    minimum=0,
    maximum=1,
)
FREEINIT_TEMPORAL = further(
    0.25,
    "Temporal cutoff",
    "Share of the temporal frequencies that FreeInit keeps from one iteration to the next.",
    NOISE,
    minimum=0,
    maximum=1,
)
FREEINIT_ITERS = further(
    3, "FreeInit iterations", "Number of times that FreeInit samples the clip.", NOISE, minimum=1, maximum=10
)
FREEINIT_COARSE = further(
    False,
    "FreeInit coarse to fine",
    "Runs the first FreeInit iterations with fewer sampling steps, which is faster.",
    NOISE,
)
