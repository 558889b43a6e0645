"""The tokenizer and configs of Stable Diffusion 1.5 that are shipped describe that model and no other."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lib_animatediff.builtin_model import STABLE_DIFFUSION_15
from lib_animatediff.hosts.diffusers.pipeline import find_config

PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}  # of the published model


@pytest.mark.parametrize("part", PARAMETERS)
def test_the_configs_give_the_published_models(part):
    folder, host = STABLE_DIFFUSION_15 / part, UNet2DConditionModel if part == "unet" else AutoencoderKL
    with torch.device("meta"):
        if part == "text_encoder":
            model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
        else:
            model = host.from_config(host.load_config(folder))
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[part]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a photo of an astronaut riding a horse on mars", [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496]),
        ("", []),
        ("Hello,   WORLD!", [3306, 267, 1002, 256]),
    ],
)
def test_the_tokenizer_is_clips(text, tokens):
    tokenizer = CLIPTokenizer.from_pretrained(STABLE_DIFFUSION_15 / "tokenizer")
    assert tokenizer(text).input_ids == [49406, *tokens, 49407]
    assert tokenizer.model_max_length == 77


def test_a_checkpoint_alone_is_taken_for_stable_diffusion_15(tmp_path):
    assert find_config(tmp_path / "model.safetensors") == STABLE_DIFFUSION_15
