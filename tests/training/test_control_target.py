"""A ControlNet as the trainer's target: it learns from hints, and its file is one of ControlNet 1.1's format."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import control_files, hosts
from training import parts

from lib_animatediff.engine.components.control import ControlInputs
from lib_animatediff.hosts.diffusers.control.files import CONTROLNET, read_control_file
from lib_animatediff.hosts.diffusers.control.networks import load_network
from lib_animatediff.training import MemorySource, TrainingError, train
from lib_animatediff.training.clips import Clip, Cut
from lib_animatediff.training.control import ControlObjective, hints_of, new_control_network, official_names
from lib_animatediff.training.loss import Objective
from lib_animatediff.video.preprocess import PREPROCESSORS

PIXELS = 8 * parts.SIDE


def clips(count=2, frames=3):
    """Latents with a hint for each frame."""
    generator = torch.Generator().manual_seed(3)
    return [
        (latents, caption, torch.rand(len(latents), 3, PIXELS, PIXELS, generator=generator))
        for latents, caption in parts.latent_clips(count, frames)
    ]


def settings(output, **more):
    return parts.settings(output, target="controlnet", **{"rank": 0, **more})


def test_a_new_one_changes_nothing_and_a_trained_one_reads_its_hints(tmp_path):
    base = parts.small_base(parts.small_unet())
    before = {name: weight.clone() for name, weight in base.unet.state_dict().items()}
    rows, text = torch.randn(2, 4, parts.SIDE, parts.SIDE), torch.randn(2, 3, parts.CONTEXT)
    hints = torch.rand(2, 3, PIXELS, PIXELS)
    inputs = ControlInputs(hints, rows, torch.tensor([300, 300]), text)
    fresh = new_control_network(base.unet, settings(tmp_path))
    added = fresh(rows, 300, encoder_hidden_states=text, controlnet_cond=hints, return_dict=False)
    assert not any(bool(part.any()) for part in (*added[0], added[1]))

    path = train(settings(tmp_path, steps=2, lr=1e-2), base=base, clips=MemorySource(clips(), latents=True))
    assert parts.equal(before, base.unet.state_dict())
    network = load_network(read_control_file(path), base.unet)
    one, two = network(inputs), network(ControlInputs(1 - hints, rows, inputs.timesteps, text))
    assert all(bool(part.any()) for part in (*one.skips, one.middle))
    assert not torch.equal(one.middle, two.middle)


def test_the_file_has_the_names_of_controlnet_1_1_and_every_weight_comes_back(tmp_path):
    base = parts.small_base(parts.small_unet(block_out_channels=(64, 64, 64, 64)))
    path = train(settings(tmp_path, steps=1), base=base, clips=MemorySource(clips(), latents=True))
    written = load_file(path)
    ldm = hosts.new_ldm_unet(64, parts.CONTEXT, **hosts.SD15 | {"channel_mult": [1, 1, 1, 1]})
    assert set(written) == {f"control_model.{name}" for name in control_files.controlnet_state(ldm)}
    assert read_control_file(path).kind == CONTROLNET
    loaded = load_network(read_control_file(path), base.unet)._network.state_dict()
    names = official_names(new_control_network(base.unet, settings(tmp_path)))
    assert {names[name]: weight for name, weight in loaded.items()}.keys() == written.keys()
    assert all(torch.equal(weight, written[names[name]]) for name, weight in loaded.items())


def test_the_loss_is_that_of_the_unet_with_what_the_network_adds(tmp_path):
    base = parts.small_base(parts.small_unet())
    network = new_control_network(base.unet, settings(tmp_path))
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn(weight.shape)
    alphas = torch.linspace(0.999, 0.01, 1000)
    group = {
        "latents": torch.randn(2, 1, 4, parts.SIDE, parts.SIDE),
        "noise": torch.randn(2, 1, 4, parts.SIDE, parts.SIDE),
        "timesteps": torch.tensor([100, 700]),
        "text": torch.randn(2, 3, parts.CONTEXT),
        "hints": torch.rand(2, 1, 3, PIXELS, PIXELS),
    }
    expected = []
    for clip in range(2):
        latents, noise, t, text, hints = (tensor[clip] for tensor in group.values())
        noisy = alphas[t].sqrt() * latents + (1 - alphas[t]).sqrt() * noise
        with torch.no_grad():
            skips, middle = network(
                noisy, t, encoder_hidden_states=text[None], controlnet_cond=hints, return_dict=False
            )
            found = base.unet(
                noisy,
                t,
                encoder_hidden_states=text[None],
                down_block_additional_residuals=skips,
                mid_block_additional_residual=middle,
            ).sample
        expected.append(float((found - noise).square().mean()))
    with torch.no_grad():
        found = ControlObjective(base.unet, network, alphas, 1.0).errors(group)
        without = Objective(base.unet, None, alphas, 1.0).errors(group)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert without.tolist() != pytest.approx(expected, rel=1e-2)


def test_hints_are_made_of_the_frames_or_come_with_the_clip_and_turn_with_it():
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 20:] = 1.0
    (made,) = hints_of(Clip("a", frames=picture * 2 - 1), "canny")
    image = Image.fromarray((picture[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    assert np.array_equal((made.permute(1, 2, 0).numpy() * 255).round(), np.array(PREPROCESSORS["canny"](image)))
    source = MemorySource(clips(), latents=True)
    clip, turned = (source.read(1, Cut(1, 1, 0.99, mirror=mirror)) for mirror in (False, True))
    assert torch.equal(clip.hints, clips()[1][2][2:3])
    assert torch.equal(turned.hints, clip.hints.flip(-1))
    assert hints_of(clip, "canny") is clip.hints


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="diffusers' UNet"):
        new_control_network(torch.nn.Linear(1, 1), settings(tmp_path))
    with pytest.raises(TrainingError, match="needs hints"):
        train(settings(tmp_path / "a"), base=parts.small_base(), clips=MemorySource(parts.latent_clips(), latents=True))
    latents, caption, hints = clips()[0]
    with pytest.raises(TrainingError, match="hints of the images' size"):
        MemorySource([(latents, caption, hints[..., :-8])], latents=True)
    for wrong, words in (
        ({"motion": "m.safetensors"}, "base model alone"),
        ({"cache": "c"}, "Leave out cache"),
        ({"validation_prompts": ("a",)}, "no images"),
        ({"rank": 4}, "Only a LoRA"),
        ({"local_heads": True}, "leaves them as they are"),
    ):
        with pytest.raises(TrainingError, match=words):
            settings(tmp_path, **wrong)
