"""The harness itself: what the small models and the server must do before anything can be proven with them."""

from __future__ import annotations

import numpy
import pytest
from support.webui_real.server import file_bytes, pixels

CAT = "a photo of a cat"
VISIBLE = 4.0
"""Mean difference, in levels of 255, from which two pictures count as different ones."""


def difference(plain_webui, **payload) -> float:
    """Returns how far a picture is from the default one."""
    plain = pixels(plain_webui.txt2img(prompt=CAT)).astype(float)
    return float(numpy.abs(pixels(plain_webui.txt2img(**payload)) - plain).mean())


def test_same_request_gives_the_same_bytes(plain_webui):
    """Byte comparisons of pictures mean something only if nothing else changes them."""
    first = plain_webui.txt2img(prompt=CAT)
    second = plain_webui.txt2img(prompt=CAT)
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
    """Prompt, seed, extra networks, samplers and checkpoints are all visible in the small model's pictures."""
    assert difference(plain_webui, **payload) > VISIBLE
