"""`latent_power` and `latent_scale`: the shares of the first and the last image, as existing clients expect them."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff.sampling.image_start import LatentRamp, first_and_last_shares, image_start
from motion_module import ClipError

THIRD = 1 / 3


def close(found, wanted):
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("frames", "power", "scale", "shares"),
    [
        (16, 1, 32, [1 - frame / 32 for frame in range(16)]),
        (8, 2, 32, [1, 0.96875, 0.875, 0.71875, 0.5, 0.21875, 0, 0]),
        (8, 0, 32, [0.96875] * 8),  # 0 to the power of 0 is 1
        (8, 0.5, 2, [1, 0.5, 0.292893, 0.133975, 0, 0, 0, 0]),
    ],
)
def test_the_share_of_one_image(frames, power, scale, shares):
    close(LatentRamp(power, scale).shares(frames), shares)


@pytest.mark.parametrize(
    ("frames", "ramp", "last_ramp", "first", "last"),
    [
        (5, (1, 32), (1, 32), [1, 0.516667, 0.5, 0.483333, 0], [0, 0.483333, 0.5, 0.516667, 1]),
        (8, (1, 4), (1, 4), [1, 0.75, 0.5, 0.25, 0, 0, 0, 0], [0, 0, 0, 0, 0.25, 0.5, 0.75, 1]),
        (8, (2, 8), (1, 3), [1, 0.875, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, THIRD, 2 * THIRD, 1]),
    ],
)
def test_the_shares_of_a_first_and_a_last_image(frames, ramp, last_ramp, first, last):
    found = first_and_last_shares(frames, LatentRamp(*ramp), LatentRamp(*last_ramp))
    close(found[0], first)
    close(found[1], last)


def test_the_rest_is_noise():
    generator = torch.Generator().manual_seed(5)
    noise, image, last = (torch.randn(shape, generator=generator) for shape in ((8, 4, 3, 2), (4, 3, 2), (4, 3, 2)))
    quarter = LatentRamp(1, 4)
    found = image_start(noise, image, quarter)
    assert torch.equal(found[0], image)
    assert torch.allclose(found[1], 0.75 * image + 0.25 * noise[1], atol=1e-6)
    assert torch.equal(found[4:], noise[4:])
    both = image_start(noise, image, quarter, last, quarter)
    rests = torch.tensor([0, 0.25, 0.5, 0.75, 0.75, 0.5, 0.25, 0])
    assert torch.allclose(both[2], 0.5 * image + rests[2] * noise[2], atol=1e-6)
    assert torch.allclose(both[6], 0.75 * last + rests[6] * noise[6], atol=1e-6)
    assert torch.equal(both[7], last)
    half = image_start(noise.half(), image, quarter)
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), found, atol=2e-3)


def test_the_defaults_are_those_of_existing_clients():
    assert LatentRamp() == LatentRamp(1, 32)
    noise, image, last = torch.zeros(5, 1, 1, 1), torch.ones(1, 1, 1), torch.full((1, 1, 1), 2.0)
    close(image_start(noise, image, LatentRamp(), last).flatten(), [1, 1.483333, 1.5, 1.516667, 2])


@pytest.mark.parametrize("values", [(-1, 32), (1, 0), (float("nan"), 32), (1, float("inf"))])
def test_values_without_a_share_are_refused(values):
    with pytest.raises(ClipError, match="latent_power must be 0 or more and latent_scale above 0"):
        LatentRamp(*values)
