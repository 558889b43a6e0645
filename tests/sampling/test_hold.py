"""Noise levels between those of the training, and the first step of parts of latents."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff.sampling.hold import NoiseLevels, first_steps, prediction_of, strengths_of

LEVELS = torch.linspace(0.999, 0.01, 1000)


@pytest.mark.parametrize("in_logarithms", [False, True])
def test_between_whole_timesteps_sigma_or_its_logarithm_is_linear(in_logarithms):
    sigmas = ((1 - LEVELS.double()) / LEVELS.double()).sqrt()
    points = sigmas.log() if in_logarithms else sigmas
    point = torch.lerp(points[120], points[121], torch.tensor(0.25).double())
    sigma = point.exp() if in_logarithms else point
    found = NoiseLevels(LEVELS, in_logarithms=in_logarithms).signal_at(torch.tensor([120.25, 120.0, 999.0]))
    expected = torch.tensor([float(1 / (1 + sigma**2)), float(LEVELS[120]), float(LEVELS[999])])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("in_logarithms", [False, True])
def test_a_share_of_the_image_has_its_timestep(in_logarithms):
    levels, timesteps = NoiseLevels(LEVELS, in_logarithms=in_logarithms), torch.tensor([0.0, 120.25, 998.5, 999.0])
    torch.testing.assert_close(levels.timesteps_at(levels.signal_at(timesteps)), timesteps, rtol=0, atol=0.02)
    assert levels.timesteps_at(torch.tensor([1.0, 1e-6])).tolist() == [0, 999]


@pytest.mark.parametrize("in_logarithms", [False, True])
def test_a_schedule_that_ends_in_noise_alone_has_finite_predictions(in_logarithms):
    levels = NoiseLevels(torch.cat([LEVELS[:-1], torch.zeros(1)]), in_logarithms=in_logarithms)
    signal = levels.signal_at(torch.tensor([998.0, 998.5, 999.0])).view(-1, 1, 1, 1)
    image, noised = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert prediction_of(image, noised, signal, predicts_velocity=False).isfinite().all()


def test_a_part_of_any_strength_may_have_a_step_at_least():
    strengths = strengths_of([0.0, 0.1, 0.6, 1.0])
    assert first_steps(strengths, 4).flatten().tolist() == [4, 4, 2, 0]
    assert first_steps(strengths, 4, 1).flatten().tolist() == [4, 3, 2, 0]
