"""A part of a clip again in the real WebUI: all other frames keep their pixels."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, ImageSequence
from support.webui_real.clips import animate
from support.webui_real.server import base64_image, file_bytes
from support.webui_real.studio import left_as_it_was, texts_of

FRAMES, AGAIN = 6, [2, 3]


def pixels_of(data: bytes) -> list[bytes]:
    return [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]


@pytest.mark.shows("Re-render: the pixels of all other frames stay, in txt2img and img2img, by API")
def test_other_frames_stay(studio):
    first = file_bytes(animate(studio, {"frames": FRAMES, "format": ["APNG"]}, prompt="a cat", seed=40))
    path = studio.data_dir / "in" / "again.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(first)
    clip = {"model": "mm_small_v3.safetensors", "rerender_clip": "in/again.png", "rerender_frames": "2-3"}
    clip["format"] = ["APNG"]
    asked = {"alwayson_scripts": {"AnimateDiff": {"args": [clip]}}, "prompt": "a dog"}
    with left_as_it_was(studio):
        answer = studio.post("/sdapi/v1/txt2img", asked)
        made, before = pixels_of(file_bytes(answer)), pixels_of(first)
        assert [frame for frame in range(FRAMES) if made[frame] != before[frame]] == AGAIN
        (text,) = texts_of(answer)
        assert f"Seed: {40 + FRAMES}" in text
        assert 'Pinned frames: "0-1: again.png, 4-5: again.png"' in text
        assert json.loads(answer["info"])["extra_generation_params"]["AnimateDiff clips"][0]["frames"] == FRAMES
        init = {"init_images": [base64_image(Image.new("RGB", (64, 64)))], "denoising_strength": 0.3}
        answer = studio.post("/sdapi/v1/img2img", asked | init)
        made = pixels_of(file_bytes(answer))
        assert [frame for frame in range(FRAMES) if made[frame] != before[frame]] == AGAIN
