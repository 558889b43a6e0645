"""The built-in model in the WebUI: learned motion, on the checkpoint it was learned on and in another style."""

from __future__ import annotations

import pytest
import torch
from webui.clips import animate, clip_of
from webui.conftest import REPOSITORY

from lib_animatediff.standalone import pocket
from pocket.evaluate import went
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


def moved(server, prompt: str, heading: str, **payload):
    clip = {"model": pocket.MOTION, "frames": FRAMES}
    answer = animate(
        server, clip, prompt=prompt, override_settings={"sd_model_checkpoint": pocket.CHECKPOINT}, **PAINTED, **payload
    )
    return track(torch.from_numpy(clip_of(answer).frames).permute(0, 3, 1, 2) / 255, heading)


@pytest.mark.parametrize("heading", ["left", "right", "up", "down"])
def test_the_built_in_model_moves_where_the_prompt_says(small_world, heading):
    """Checkpoint and motion module that we trained: the disc goes where the prompt says, on most of the steps."""
    path = moved(small_world, f"a red disc moving {heading}", heading)
    assert went(path) == heading
    assert path.monotone >= 0.8


def test_the_built_in_model_moves_in_another_style(small_world):
    """With the style LoRA, which the motion module never saw, the sprite moves and the style stays."""
    lora = f"<lora:{pocket.STYLE_LORA.rpartition('.')[0]}:1>"
    path = moved(small_world, f"a green square moving right {lora}", "right")
    assert went(path) == "right"
    assert sum(reading.style == "dusk" for reading in path.readings) >= 15
