"""DDIM inversion, and the share of inverted noise in the noise of a clip's frames."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff.sampling.inversion import (
    invert,
    inverted_noise,
    inverted_shares,
    mix_noise,
    share_inverted_noise,
)


def levels():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def noise_of(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gaussian(variance):
    """The noise in latents whose data are Gaussian, which is known exactly."""
    alphas, seen = levels(), []

    def predict(noised, timestep):
        seen.append(timestep)
        signal = alphas[round(timestep)]
        return noised * (1 - signal).sqrt() / (variance * signal + 1 - signal)

    return predict, alphas, seen


def test_inversion_gives_unit_noise_with_the_pattern_of_the_image():
    predict, alphas, _ = gaussian(0.25)
    image = 0.5 * noise_of(2, 4, 16, 16)
    inverted = invert(image, predict, [float(step) for step in range(999, 0, -5)], alphas)
    assert float(inverted.std()) == pytest.approx(1, abs=0.03)
    assert torch.allclose(inverted / inverted.std(), image / image.std(), atol=1e-3)


def test_ddim_sampling_leads_back_to_the_image():
    predict, alphas, seen = gaussian(0.25)
    image, timesteps = 0.5 * noise_of(1, 4, 8, 8), [float(step) for step in range(981, 0, -20)]
    sampled = invert(image, predict, timesteps, alphas)
    assert seen == [1.0, *reversed(timesteps[1:])]
    for at, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        noise, signal = predict(sampled, at), alphas[round(at)]
        after = torch.tensor(1.0) if following is None else alphas[round(following)]
        sampled = after.sqrt() * (sampled - (1 - signal).sqrt() * noise) / signal.sqrt() + (1 - after).sqrt() * noise
    assert torch.allclose(sampled, image, rtol=0.1, atol=1e-3)


def levels_of(alphas, timesteps):
    return [(timestep, float(alphas[round(timestep)])) for timestep in timesteps]


def test_latents_with_their_inverted_noise_are_those_of_the_inversion():
    predict, alphas, seen = gaussian(0.25)
    image, timesteps = 0.5 * noise_of(2, 4, 8, 8), [float(step) for step in range(601, 0, -50)]
    wanted = invert(image, predict, timesteps, alphas)
    calls, seen[:] = list(seen), []
    found = inverted_noise(image, predict, levels_of(alphas, timesteps))
    assert seen == calls
    signal = alphas[601]
    assert torch.allclose(signal.sqrt() * image + (1 - signal).sqrt() * found, wanted, atol=1e-5)
    assert not torch.allclose(found, wanted, atol=0.1)


def test_velocities_are_inverted_to_the_same_noise():
    predict, alphas, _ = gaussian(0.25)
    image, levels = 0.5 * noise_of(1, 4, 8, 8), levels_of(alphas, [801.0, 401.0, 1.0])

    def velocity(noised, timestep):
        signal, noise = alphas[round(timestep)], predict(noised, timestep)
        return (noise - (1 - signal).sqrt() * noised) / signal.sqrt()

    found = inverted_noise(image, velocity, levels, predicts_velocity=True)
    assert torch.allclose(found, inverted_noise(image, predict, levels), atol=1e-4)


def test_a_part_that_begins_later_has_the_noise_of_its_own_level():
    predict, alphas, _ = gaussian(0.25)
    image, levels = 0.5 * noise_of(4, 4, 8, 8), levels_of(alphas, [801.0, 601.0, 401.0, 201.0, 1.0])
    begins = torch.tensor([0, 2, 4, 5]).view(4, 1, 1, 1)
    found = inverted_noise(image, predict, levels, begins)
    for row, first in enumerate([0, 2, 4, 0]):  # the last one never changes
        alone = inverted_noise(image[row : row + 1], predict, levels[first:])
        assert torch.allclose(found[row : row + 1], alone, atol=1e-6), row
    assert not torch.allclose(found[1], inverted_noise(image, predict, levels)[1], atol=1e-2)


def test_noise_is_mixed_by_its_share_of_the_variance():
    noise, inverted = noise_of(2, 4, 32, 32), noise_of(2, 4, 32, 32, seed=1)
    assert torch.equal(mix_noise(noise, inverted, 0.0), noise)
    assert torch.equal(mix_noise(noise, inverted, 1.0), inverted)
    mixed = mix_noise(noise.half(), inverted, 0.25)
    assert mixed.dtype == torch.float16
    assert float((mixed.float() * inverted).mean()) == pytest.approx(0.5, abs=0.05)
    assert float(mixed.float().std()) == pytest.approx(1, abs=0.03)


def test_the_share_fades_from_the_nearest_pin_on_each_side():
    assert inverted_shares(4, [0], 0.5).flatten().tolist() == [1, 0.5, 0.25, 0.125]
    assert inverted_shares(3, [2], 0.5).flatten().tolist() == [0.25, 0.5, 1]
    both = inverted_shares(5, [0, 4], 0.5)
    assert both.tolist() == [[1, 0], [0.5, 0.125], [0.25, 0.25], [0.125, 0.5], [0, 1]]
    near = inverted_shares(3, [0, 2], 0.7)
    assert near[1].tolist() == pytest.approx([0.5, 0.5])  # 0.7 + 0.7 is above 1
    kept = inverted_shares(6, [0, 1, 2], 0.5)
    assert kept[3:].tolist() == [[0, 0, 0.5], [0, 0, 0.25], [0, 0, 0.125]]
    loop = inverted_shares(4, [0], 0.5, is_loop=True)
    assert loop.flatten().tolist() == [1, 0.5 + 0.125, 0.5, 0.5 + 0.125]


def test_a_pinned_frame_has_its_inverted_noise_and_far_ones_their_own():
    noise, inverted = noise_of(40, 4, 8, 8), noise_of(1, 4, 8, 8, seed=1)
    mixed = share_inverted_noise(noise, inverted, [0], 0.5)
    assert torch.allclose(mixed[0], inverted[0], atol=1e-6)
    assert torch.allclose(mixed[1], 0.5**0.5 * (inverted[0] + noise[1]), atol=1e-6)
    assert torch.allclose(mixed[39], noise[39], atol=1e-4)
    assert torch.equal(share_inverted_noise(noise, inverted, [0], 0.0)[1:], noise[1:])
    assert share_inverted_noise(noise.half(), inverted, [0], 0.5).dtype == torch.float16


@pytest.mark.parametrize("likeness", [0.0, 0.9, 1.0])
def test_two_images_that_resemble_each_other_keep_the_variance(likeness):
    noise, first, other = noise_of(5, 4, 32, 32), noise_of(4, 32, 32, seed=1), noise_of(4, 32, 32, seed=2)
    last = likeness * first + (1 - likeness**2) ** 0.5 * other
    mixed = share_inverted_noise(noise, torch.stack([first, last]), [0, 4], 0.8)
    assert mixed.std(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 5, abs=0.03)


def test_each_of_two_images_has_its_share_of_the_variance():
    noise, inverted = noise_of(5, 4, 32, 32), noise_of(2, 4, 32, 32, seed=1)
    mixed = share_inverted_noise(noise, inverted, [0, 4], 0.5)
    found = [float((mixed[1] * one).mean()) for one in (*inverted, noise[1])]
    assert found == pytest.approx([0.5**0.5, 0.125**0.5, 0.375**0.5], abs=0.05)
