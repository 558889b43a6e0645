"""The built-in model in the WebUI: checkpoint, style LoRA and motion module that we trained, with motion to be seen."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from support.webui_real.clips import Gif, animate, apart, clip_of, clip_payload
from support.webui_real.places import REPOSITORY
from support.webui_real.server import pixels

from lib_animatediff.builtin_model import POCKET, copy_to_webui
from tools.pocket.evaluate import went
from tools.pocket.measure import Track, track
from tools.pocket.recipe import StyleRecipe
from tools.pocket.world import HEADINGS, TRAVEL

FRAMES = 16
PAINTED = {"width": 64, "height": 64, "steps": 25, "cfg_scale": POCKET.cfg, "sampler_name": "DDIM", "seed": 1}
PAINTED["override_settings"] = {"sd_model_checkpoint": POCKET.checkpoint}
LORA = f"<lora:{Path(POCKET.style_lora).stem}:1>"
STYLE = StyleRecipe().name
MOVING = [heading for heading in HEADINGS if heading != "still"]


@pytest.fixture(scope="module")
def small_world(start_webui):
    """A WebUI into which the built-in model was copied as a person would, by `pocket-to-webui`."""
    server = start_webui("pocket", extensions=[REPOSITORY])
    copy_to_webui(server.data_dir, POCKET)
    server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
    server.api("POST", "/sdapi/v1/refresh-loras").raise_for_status()
    return server


def made(server, prompt: str) -> Gif:
    return clip_of(animate(server, {"model": POCKET.motion, "frames": FRAMES}, prompt=prompt, **PAINTED))


def tracked(frames: numpy.ndarray, heading: str) -> Track:
    return track(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, heading)


@pytest.mark.parametrize("heading", MOVING)
def test_the_built_in_model_moves_as_the_prompt_says(small_world, heading):
    seen = tracked(made(small_world, f"a red disc moving {heading}").frames, heading)
    assert went(seen) == heading
    assert seen.displacement >= TRAVEL[0] / 2
    assert seen.share(("red", "disc", heading)) >= 0.8


def test_the_same_module_moves_a_style_that_it_never_saw(small_world):
    """With the style LoRA in the prompt, every frame has the style, and nine clips of ten go right (docs/pocket.md)."""
    clips = {heading: made(small_world, f"a red disc moving {heading} {LORA}").frames for heading in MOVING}
    seen = {heading: tracked(frames, heading) for heading, frames in clips.items()}
    styles = [reading.style == STYLE for path in seen.values() for reading in path.readings]
    assert sum(styles) >= 0.95 * len(styles)
    assert sum(went(path) == heading for heading, path in seen.items()) >= 3


@pytest.mark.shows("Passes: img2img with the init image for every frame")
def test_the_init_image_is_that_of_every_frame(small_world):
    picture = small_world.txt2img(**{**PAINTED, "prompt": "a red disc"})
    clip = {"model": POCKET.motion, "frames": 8}

    def farthest(denoising: float) -> float:
        asked = {**PAINTED, "prompt": "a red disc moving right", "denoising_strength": denoising}
        answer = small_world.img2img(**clip_payload(clip, init_images=picture["images"], **asked))
        return max(apart(frame, pixels(picture)) for frame in clip_of(answer).frames)

    assert farthest(0.05) < 6  # levels of 255
    assert farthest(0.95) > 12


@pytest.mark.shows("Pains that people report: pain 6: seams between windows")
def test_windows_that_overlap_leave_no_seams(small_world):

    def worst_jump(kind: str, overlap: int) -> float:
        clip = {"model": POCKET.motion, "frames": 32, "context_length": 16, "context_kind": kind, "overlap": overlap}
        asked = {**PAINTED, "prompt": "a red disc moving right"}
        frames = clip_of(animate(small_world, clip, **asked)).frames.astype(float)
        changes = abs(frames[1:] - frames[:-1]).mean((1, 2, 3))
        return float(changes.max() / numpy.median(changes))

    assert worst_jump("static", 8) < worst_jump("batched", 0)
