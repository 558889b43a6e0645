"""The noise that frames start from, and FreeInit: entries of the settings table."""

from __future__ import annotations

from lib_animatediff.sampling.frame_noise import NOISE_KINDS, parse_frame_seeds
from lib_animatediff.sampling.freeinit import FILTERS

from .setting import LONGEST_CLIP, NOISE, checked_by, further

NOISE_TYPE = further(
    NOISE_KINDS[0],
    "Noise type",
    "Noise that the frames start from.",
    NOISE,
    choices=NOISE_KINDS,
    meanings={
        "random": "another one in each frame",
        "freenoise": "repeated in another order in long clips",
        "shared": "partly the same in all frames",
        "constant": "the same in all frames",
    },
)
NOISE_SHARE = further(
    0.5,
    "Shared noise",
    "Fraction of the noise that is the same in all frames if the noise type is shared; more makes the clip calmer.",
    NOISE,
    minimum=0,
    maximum=1,
)
FRAME_SEEDS = further(
    "",
    "Frame seeds",
    "Seed of each frame's noise, such as 5, 6, 90; a shorter list counts on, and empty means seed + frame number.",
    NOISE,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_frame_seeds(text, LONGEST_CLIP)),
)
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
