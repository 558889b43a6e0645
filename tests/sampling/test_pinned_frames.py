"""Pinned frames at the UNet of any host: which rows, channels and timesteps are replaced, and where that leads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lib_animatediff.sampling.hold import NoiseLevels
from lib_animatediff.sampling.inversion import share_inverted_noise
from lib_animatediff.sampling.pinned_frames import HeldFrames, PinnedLatents, hold

FRAMES = 3
LEVELS = torch.linspace(0.999, 0.004, 1000)


def pinned(*frames, strength=1.0, inverted=None, order=None):
    pins = SimpleNamespace(frames=list(frames), strength=strength, inversion=0.7)
    latents = torch.arange(1.0, len(frames) + 1).view(-1, 1, 1, 1).expand(-1, 4, 2, 2)
    return PinnedLatents(pins, latents, FRAMES, inverted, order=order)


class UNet(nn.Module):
    """Notes what it is called with, and predicts 0."""

    def forward(self, x, timesteps=None, **more):
        self.seen = (x, timesteps)
        return torch.zeros_like(x[:, :4])


def called(held, x, *args, **kwargs):
    unet, hooks = UNet(), HeldFrames()
    hooks.begin(held, NoiseLevels(LEVELS, in_logarithms=True), predicts_velocity=False)
    with hold(unet, hooks):
        output = unet(x, *args, **kwargs)
    assert not unet._forward_hooks
    assert not unet._forward_pre_hooks
    return (*unet.seen, output)


@pytest.mark.parametrize("named", [False, True])
def test_rows_of_two_clips_and_two_streams(named):
    x, steps = torch.randn(12, 4, 2, 2), torch.full((12,), 700.5)
    seen, timesteps, _ = called(pinned(0, 2), x, **{"timesteps": steps}) if named else called(pinned(0, 2), x, steps)
    rows = [0, 2, 3, 5, 6, 8, 9, 11]
    assert [place for place, step in enumerate(timesteps) if step == 0] == rows
    assert seen[rows, 0, 0, 0].tolist() == [1, 2] * 4
    others = [1, 4, 7, 10]
    assert torch.equal(seen[others], x[others])


def test_rows_in_the_hosts_own_order():
    """Two parts of a prompt beside each other, then uncond."""
    order = [0, 2, 4, 1, 3, 5, 6, 7, 8]
    x = torch.randn(9, 4, 2, 2)
    held = pinned(1, order=lambda rows: order if rows == 9 else None)
    _, timesteps, _ = called(held, x, torch.full((9,), 500.0))
    assert [place for place, step in enumerate(timesteps) if step == 0] == [2, 3, 7]


def test_an_inpainting_checkpoint_keeps_its_other_channels():
    x = torch.randn(3, 9, 2, 2)
    seen, _, output = called(pinned(1), x, torch.full((3,), 500.0))
    assert torch.equal(seen[1, :4], torch.ones(4, 2, 2))
    assert torch.equal(seen[:, 4:], x[:, 4:])
    assert output.shape == (3, 4, 2, 2)


@pytest.mark.parametrize("timestep", [0.0, 120.25, 999.0])
def test_what_is_predicted_leads_to_the_image_at_any_timestep(timestep):
    """Between whole timesteps the noise level is k-diffusion's, which is linear in log sigma."""
    below = min(int(timestep), 998)
    sigmas = ((1 - LEVELS.double()) / LEVELS.double()).sqrt().log()
    sigma = torch.lerp(sigmas[below], sigmas[below + 1], torch.tensor(timestep - below).double()).exp()
    signal = 1 / (1 + sigma**2)
    x = torch.randn(3, 4, 2, 2)
    _, _, output = called(pinned(1), x, torch.full((3,), timestep))
    clean = (x[1] - (1 - signal).sqrt() * output[1]) / signal.sqrt()
    assert torch.allclose(clean, torch.ones_like(clean), atol=1e-4)
    assert not output[[0, 2]].any()


def test_a_soft_pin_is_left_alone_from_its_strength_on():
    unet, hooks = UNet(), HeldFrames()
    hooks.begin(pinned(0, strength=0.5), NoiseLevels(LEVELS), predicts_velocity=False)
    with hold(unet, hooks):
        for progress, is_held in ((0.0, True), (0.49, True), (0.5, False)):
            hooks.progress = progress
            unet(torch.zeros(3, 4, 2, 2), torch.full((3,), 9.0))
            assert (unet.seen[1][0] == 0) == is_held


def test_each_clip_of_a_batch_has_its_own_inverted_noise():
    noise, inverted = torch.randn(6, 4, 2, 2), torch.randn(2, 1, 4, 2, 2)
    mixed = pinned(0, inverted=inverted).in_noise(noise)
    for clip, own in zip(mixed.split(FRAMES), inverted, strict=True):
        assert torch.allclose(clip[0], own[0], atol=1e-5)
    alone = share_inverted_noise(noise[FRAMES:], inverted[1], [0], 0.7)
    assert torch.equal(mixed[FRAMES:], alone)
    for_all = pinned(0, inverted=inverted[1]).in_noise(noise)
    assert torch.equal(for_all[FRAMES:], alone)


def movement(*frames, latents, leads_on=True, frames_of_clip=8):
    pins = SimpleNamespace(frames=list(frames), strength=1.0, inversion=0.7)
    values = torch.tensor(latents).view(-1, 1, 1, 1).expand(-1, 4, 2, 2)
    return PinnedLatents(pins, values, frames_of_clip, None, leads_on=leads_on)


def led_to(held, progress):
    """By frame, the image that the prediction of its row leads to, where it is not the UNet's own."""
    unet, hooks = UNet(), HeldFrames()
    hooks.begin(held, NoiseLevels(LEVELS), predicts_velocity=False)
    hooks.progress = progress
    x, signal = torch.randn(16, 4, 2, 2), LEVELS[400]
    with hold(unet, hooks):
        output = unet(x, torch.full((16,), 400.0))
    clean = (x - (1 - signal).sqrt() * output) / signal.sqrt()
    assert torch.equal(unet.seen[0][5:8], x[5:8])  # what is led keeps its noise and its timestep
    assert unet.seen[1][5:8].tolist() == [400] * 3
    found = {frame: clean[[frame, frame + 8]] for frame in range(8) if output[frame].any()}
    assert all(torch.allclose(image, image[:1, :1, :1, :1], atol=1e-4) for image in found.values())
    return {frame: pytest.approx(float(image[0, 0, 0, 0]), abs=1e-3) for frame, image in found.items()}


@pytest.mark.parametrize(
    ("progress", "led"),
    [(0.0, {3: 6, 4: 8, 5: 10}), (0.2, {3: 6, 4: 8}), (0.3, {3: 6}), (0.49, {3: 6}), (0.5, {})],
)
def test_movement_goes_on_behind_the_first_pinned_frames(progress, led):
    """It is the mean of the last two differences, for half, 0.3 and 0.15 of the steps."""
    held = movement(0, 1, 2, latents=[0.0, 1.0, 4.0])
    assert led_to(held, progress) == {0: 0, 1: 1, 2: 4, **led}


@pytest.mark.parametrize(
    ("held", "led"),
    [
        (movement(0, 1, 4, latents=[1.0, 2.0, 9.0]), {2: 3, 3: 4}),  # a pinned frame keeps its own image
        (movement(0, latents=[1.0]), {}),
        (movement(1, 2, latents=[1.0, 2.0]), {}),
        (movement(0, 1, latents=[1.0, 2.0], leads_on=False), {}),
    ],
    ids=["others pinned", "one frame", "not from the first frame on", "not asked for"],
)
def test_what_shows_no_movement_is_not_led(held, led):
    found = led_to(held, 0.0)
    assert {frame: image for frame, image in found.items() if frame not in held.pins.frames} == led
