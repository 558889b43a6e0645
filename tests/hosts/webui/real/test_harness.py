"""The harness itself: what the small models and the server must do before anything can be proven with them."""

from __future__ import annotations

import pytest
from support.webui_real.clips import apart
from support.webui_real.server import PAYLOAD, file_bytes, pixels
from support.webui_real.studio import VISIBLE

CAT = PAYLOAD["prompt"]


def test_same_request_gives_the_same_bytes(plain_webui):
    """Byte comparisons of pictures mean something only if nothing else changes them."""
    first, second = plain_webui.txt2img(), plain_webui.txt2img()
    assert file_bytes(first) == file_bytes(second)
    assert pixels(first).shape == (64, 64, 3)
    assert 20 < pixels(first).std() < 120, "neither flat nor clipped to black and white"


@pytest.mark.parametrize(
    "payload",
    [
        {"prompt": "a photo of a dog"},
        {"prompt": CAT, "seed": 2},
        {"prompt": f"{CAT} <lora:small_lora:1>"},
        {"prompt": f"{CAT} smallembedding"},
        {"prompt": f"{CAT} <hypernet:small_hypernetwork:1>"},
        {"prompt": "a photo of a cat in the red picture, " * 20},
        {"prompt": f"{CAT} AND a blue dog"},
        {"prompt": CAT, "sampler_name": "DDIM"},
        {"prompt": CAT, "override_settings": {"sd_model_checkpoint": "other.safetensors"}},
        {"prompt": CAT, "override_settings": {"sd_model_checkpoint": "small.ckpt"}},
    ],
    ids=["prompt", "seed", "lora", "embedding", "hypernetwork", "long", "and", "ddim", "checkpoint", "same_module"],
)
def test_the_picture_depends_on(plain_webui, payload):
    assert apart(pixels(plain_webui.txt2img(**payload)), pixels(plain_webui.txt2img())) > VISIBLE
