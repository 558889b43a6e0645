"""Gates of what moves: the motion module and the camera's LoRAs, measured on clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib_animatediff.hosts.diffusers.networks import LoraFile, with_motion_loras
from motion_module import load_motion_module
from tools.pocket.export import load_pipeline
from tools.pocket.gates import GATE_SEED, Gate
from tools.village.scene import TRAINED, Scene

from . import cameras
from .evaluate import Make, animated, mean, score
from .export import VILLAGE
from .fast import RESULT as FAST
from .gates import fresh
from .layers import ways
from .motion import RESULT as MOTION
from .probe import Judge
from .recipe import Recipe

GATE_CLIPS = 32
MOTION_RIGHT, WAY, MONOTONE, CLOSED_RIGHT, SUBJECT = 0.9, 0.6, 0.85, 0.7, 0.85
CAMERA_CLIPS = 6
FAST_STEPS, FAST_RIGHT = 4, 0.9
STRENGTHS = (0.0, 0.5, 1.0)
PARALLAX = 1.5  # near layers move at least so many times as far as far ones


def gate_motion(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check clips of some captions: they go where they should, steadily, and the frames agree."""
    del recipe
    make = animated(load_pipeline(folder, VILLAGE.name), load_motion_module(folder / MOTION))
    return motion_gates("motion", make, Judge(folder), fresh(GATE_CLIPS, TRAINED))


def gate_fast(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check clips of few steps without CFG beside those of the motion module that was distilled."""
    del recipe
    pipeline, judge, scenes = load_pipeline(folder, VILLAGE.name), Judge(folder), fresh(GATE_CLIPS, TRAINED)
    full = score("motion", animated(pipeline, load_motion_module(folder / MOTION)), judge, scenes)
    make = animated(pipeline, load_motion_module(folder / FAST), sampler="lcm", steps=FAST_STEPS, cfg=1.0)
    found = score("fast", make, judge, scenes)
    return [
        Gate(f"fast: motion right in {found.clips} clips", found.motion, FAST_RIGHT * full.motion),
        Gate("fast: frames with subject and colour", found.subject, FAST_RIGHT * full.subject),
        Gate("fast: way along the heading, of the world's", found.displacement, 0.0),
        Gate("fast: change of neighbouring frames", found.change, 0.0),
    ]


def motion_gates(name: str, make: Make, judge: Judge, scenes: Sequence[Scene]) -> list[Gate]:
    """Figures of clips with their bounds."""
    found = score(name, make, judge, scenes)
    return [
        Gate(f"{name}: motion right in {found.clips} clips", found.motion, MOTION_RIGHT),
        Gate(f"{name}: way along the heading, of the world's", found.displacement, WAY),
        Gate(f"{name}: steps along the heading", found.monotone, MONOTONE),
        Gate(f"{name}: closed motions closed", found.closed, CLOSED_RIGHT),
        Gate(f"{name}: frames with subject and colour", found.subject, SUBJECT),
        Gate(f"{name}: change of neighbouring frames", found.change, 0.0),
    ]


def gate_camera(recipe: Recipe, folder: Path, move: str) -> list[Gate]:
    """Check that the layers move, near ones further than far ones, the further the stronger the LoRA is."""
    del recipe
    pipeline, motion = load_pipeline(folder, VILLAGE.name), load_motion_module(folder / MOTION)
    judge, scenes = Judge(folder), fresh(CAMERA_CLIPS, cameras.STAYING)
    near, far = [], []
    for strength in STRENGTHS:
        moving = with_motion_loras(motion, [LoraFile(folder / cameras.result(move), strength)]).motion
        make = animated(pipeline, moving)
        found = [ways(judge, make(each, GATE_SEED + number), move) for number, each in enumerate(scenes)]
        near.append(mean(way.near for way in found))
        far.append(mean(way.far for way in found))
    return [
        Gate(f"{move}: near layers, in times of far ones", near[2] / max(abs(far[2]), 1e-3), PARALLAX),
        Gate(f"{move}: way of near layers from none to half, in pixels", near[1] - near[0], 0.5),
        Gate(f"{move}: way of near layers from half to full, in pixels", near[2] - near[1], 0.5),
    ]
