"""DDIM inversion, and the share of inverted noise in the noise of a clip's frames."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff.sampling.inversion import invert, inverted_shares, share_inverted_noise


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
