"""Clips for a viewer who does not see their captions, and what they should show."""

from __future__ import annotations

import json
from pathlib import Path

from motion_module import load_motion_module
from tools.pocket.evaluate import SEEDS_APART
from tools.pocket.export import load_pipeline
from tools.pocket.gates import GATE_SEED
from tools.pocket.pictures import sheet
from tools.village.scene import CONCEPTS

from .evaluate import animated, plain_caption, shows_subject
from .export import VILLAGE
from .gates import fresh
from .measure import track
from .motion import RESULT as MOTION
from .probe import Judge

CLIPS = 40
COLUMNS = 4
FOLDER, ANSWERS = "shown", "answers.json"


def write_clips(build: Path, clips: int = CLIPS) -> Path:
    """Write all frames of each clip as one numbered image, and captions and the judge's readings as JSON.

    Args:
        build: folder of a finished build.
        clips: how many, of trained and held-out captions.

    Returns:
        The folder.
    """
    make = animated(load_pipeline(build, VILLAGE.name), load_motion_module(build / MOTION))
    judge, folder, answers = Judge(build), build / FOLDER, []
    folder.mkdir(exist_ok=True)
    for number, wanted in enumerate(fresh(clips, CONCEPTS)):
        frames = make(wanted, GATE_SEED + number * SEEDS_APART)
        found = track(judge, frames)
        sheet(frames.view(-1, COLUMNS, *frames.shape[1:]), folder / f"{number:02}.png")
        answers.append(
            {
                "caption": plain_caption(wanted),
                "motion": found.motion,
                "subject": shows_subject(wanted, found),
                "scenery": found.share("scenery", wanted.scenery),
            }
        )
    (folder / ANSWERS).write_text(json.dumps(answers, indent=1), encoding="utf-8")
    return folder
