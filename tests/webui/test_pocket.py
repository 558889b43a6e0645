"""The built-in model in the WebUI: a checkpoint and a motion module that we trained."""

from __future__ import annotations

import pytest
import torch
from webui.clips import animate, clip_of
from webui.conftest import REPOSITORY

from lib_animatediff.standalone import pocket
from pocket.measure import track

FRAMES = 16
PAINTED = {"width": 64, "height": 64, "steps": 25, "cfg_scale": pocket.CFG, "sampler_name": "DDIM", "seed": 4}


@pytest.fixture(scope="module")
def small_world(start_webui):
    """A WebUI into which the built-in model was copied as a person would, by `pocket-to-webui`."""
    server = start_webui("pocket", extensions=[REPOSITORY])
    pocket.copy_to_webui(server.data_dir)
    server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
    return server


def made(server, prompt: str, heading: str):
    clip = {"model": pocket.MOTION, "frames": FRAMES}
    override = {"sd_model_checkpoint": pocket.CHECKPOINT}
    answer = animate(server, clip, prompt=prompt, override_settings=override, **PAINTED)
    return track(torch.from_numpy(clip_of(answer).frames).permute(0, 3, 1, 2) / 255, heading)


@pytest.mark.parametrize("heading", ["left", "right", "up", "down"])
def test_the_built_in_model_paints_what_the_prompt_says_in_every_frame(small_world, heading):
    """Checkpoint and motion module that we trained: nearly every frame shows the disc with its nose as asked."""
    assert made(small_world, f"a red disc moving {heading}", heading).share(("red", "disc", heading)) >= 0.8
