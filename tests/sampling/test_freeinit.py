"""FreeInit: filters against their published values and a literal oracle, and what holds for any mixture."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from support.matrix import every_once

from lib_animatediff import ClipError
from lib_animatediff.sampling.freeinit import FILTERS, fresh_noise, low_pass, mix, next_noise, renoise, steps_of
from motion_module.schedules import LINEAR

PUBLISHED = (16, 64, 64)
SHAPES = [(3, 5, 7), (4, 6, 6), (1, 4, 4), (5, 8, 3), (16, 9, 4)]
LAST = LINEAR.alphas_cumprod()[-1].item()


def literal_low_pass(kind, shape, spatial, temporal):
    """Frequency by frequency, as published."""
    frames, height, width = shape
    passes = torch.zeros(shape, dtype=torch.float64)
    for i, j, k in itertools.product(range(frames), range(height), range(width)):
        t, y, x = 2 * i / frames - 1, 2 * j / height - 1, 2 * k / width - 1
        distance = (spatial / temporal * t) ** 2 + y**2 + x**2
        if kind == "butterworth":
            passes[i, j, k] = 1 / (1 + (distance / spatial**2) ** 4)
        elif kind == "gaussian":
            passes[i, j, k] = math.exp(-distance / (2 * spatial**2))
        elif kind == "ideal":
            passes[i, j, k] = float(distance <= 2 * spatial)
        else:
            sizes, parts = (frames, height, width), (temporal, spatial, spatial)
            inside = [
                -round(size // 2 * part) <= at - size // 2 < round(size // 2 * part)
                for at, size, part in zip((i, j, k), sizes, parts, strict=True)
            ]
            passes[i, j, k] = float(all(inside))
    return passes


def white(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def settings(**changed):
    return {"frames": 4, "last_alpha_cumprod": LAST, "kind": "butterworth", "spatial": 0.25, "temporal": 0.25} | changed


# --------------------------------------------------------------------------------------------------------------------
# filters


@pytest.mark.parametrize(
    ("kind", "total", "at", "value"),
    [
        ("butterworth", 681.9333, (8, 32, 40), 0.5),
        ("butterworth", 681.9333, (10, 32, 32), 0.5),
        ("gaussian", 2015.5188, (8, 32, 40), 0.606531),
        ("ideal", 12147, (8, 32, 32), 1),
        ("box", 4 * 16 * 16, (8, 32, 32), 1),
    ],
)
def test_filters_have_the_published_values(kind, total, at, value):
    passes = low_pass(kind, PUBLISHED, 0.25, 0.25)
    assert passes.dtype == torch.float32
    assert passes.double().sum().item() == pytest.approx(total, rel=1e-6)
    assert passes[at].item() == pytest.approx(value, rel=1e-6)
    assert passes[8, 32, 32] == 1


WIDTHS = [(0.25, 0.25), (0.5, 0.25), (0.3, 0.7), (1.0, 1.0), (0.01, 0.02)]


@pytest.mark.parametrize(("kind", "shape", "widths"), every_once(FILTERS, SHAPES, WIDTHS))
def test_filters_are_those_of_the_definition(kind, shape, widths):
    spatial, temporal = widths
    expected = literal_low_pass(kind, shape, spatial, temporal)
    torch.testing.assert_close(low_pass(kind, shape, spatial, temporal).double(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize(("spatial", "temporal"), [(0, 0.25), (0.25, 0), (0, 0)])
def test_a_filter_of_no_width_passes_nothing(kind, spatial, temporal):
    assert not low_pass(kind, (4, 8, 8), spatial, temporal).any()


def test_an_unknown_filter_is_refused():
    with pytest.raises(ClipError, match=r"'brick'. Choose one of: butterworth, gaussian, box, ideal"):
        low_pass("brick", (4, 8, 8), 0.25, 0.25)


# --------------------------------------------------------------------------------------------------------------------
# mixing


@pytest.mark.parametrize("shape", [(1, 4, 3, 8, 8), (2, 5, 4, 7, 6), (1, 1, 4, 8, 8)])
def test_what_passes_comes_from_one_and_the_rest_from_the_other(shape):
    low, high = white(*shape), white(*shape, seed=1)
    frequencies = (shape[1], *shape[3:])
    assert torch.equal(mix(low, high, torch.zeros(frequencies)), high)
    torch.testing.assert_close(mix(low, high, torch.ones(frequencies)), low)
    torch.testing.assert_close(mix(low, high, torch.full(frequencies, 0.25)), 0.25 * low + 0.75 * high)


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("shape", [(2, 4, 3, 8, 8), (1, 5, 4, 7, 6)])
def test_mixing_is_two_filtered_transforms_in_the_middle_of_the_spectrum(kind, shape):
    low, high = white(*shape), white(*shape, seed=1)
    passes = low_pass(kind, (shape[1], *shape[3:]), 0.25, 0.3)
    axes = (1, 3, 4)
    weights = passes[:, None].double()
    spectra = [torch.fft.fftshift(torch.fft.fftn(x.double(), dim=axes), dim=axes) for x in (low, high)]
    together = weights * spectra[0] + (1 - weights) * spectra[1]
    expected = torch.fft.ifftn(torch.fft.ifftshift(together, dim=axes), dim=axes).real
    torch.testing.assert_close(mix(low, high, passes), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", FILTERS)
def test_what_does_not_change_over_clip_and_picture_passes(kind):
    high = white(1, 8, 4, 8, 8)
    got = mix(torch.full_like(high, 3.0), high, low_pass(kind, (8, 8, 8), 0.25, 0.25))
    torch.testing.assert_close(got.mean((1, 3, 4)), torch.full((1, 4), 3.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixing_is_computed_in_float32(dtype):
    low, high = white(1, 4, 3, 8, 8).to(dtype), white(1, 4, 3, 8, 8, seed=1).to(dtype)
    passes = low_pass("gaussian", (4, 8, 8), 0.25, 0.25)
    got = mix(low, high, passes)
    assert got.dtype == dtype
    assert torch.equal(got, mix(low.float(), high.float(), passes).to(dtype))


def test_mixing_changes_neither():
    low, high = white(1, 4, 3, 8, 8), white(1, 4, 3, 8, 8, seed=1)
    mix(low, high, torch.zeros(4, 8, 8)).zero_()
    assert torch.equal(low, white(1, 4, 3, 8, 8))
    assert torch.equal(high, white(1, 4, 3, 8, 8, seed=1))


# --------------------------------------------------------------------------------------------------------------------
# from one iteration to the next


def test_latents_are_noised_at_the_last_level():
    x0, noise = white(4, 3, 8, 8), white(4, 3, 8, 8, seed=1)
    torch.testing.assert_close(renoise(x0, noise, 0.36), 0.6 * x0 + 0.8 * noise)
    assert renoise(x0.half(), noise.half(), 0.36).dtype == torch.float16


def test_clips_of_a_batch_stay_apart():
    x0, initial, fresh = (white(8, 3, 6, 6, seed=seed) for seed in range(3))
    together = next_noise(x0, initial, fresh, **settings())
    apart = [next_noise(x0[at], initial[at], fresh[at], **settings()) for at in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(together, torch.cat(apart))


def test_the_next_noise_has_the_latents_slow_parts_and_the_fresh_noises_quick_ones():
    x0, initial, fresh = (white(4, 3, 6, 6, seed=seed) for seed in range(3))
    everything, nothing = settings(kind="ideal", spatial=50.0, temporal=50.0), settings(spatial=0)
    torch.testing.assert_close(next_noise(x0, initial, fresh, **everything), renoise(x0, initial, LAST))
    assert torch.equal(next_noise(x0, initial, fresh, **nothing), fresh)  # and not the initial noise


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("iterations", [2, 5])
def test_the_next_noise_is_as_strong_as_noise(kind, iterations):
    x0, initial = white(16, 4, 32, 32), white(16, 4, 32, 32, seed=1)
    wide = settings(frames=16, kind=kind, spatial=0.5, temporal=0.5)
    for iteration in range(1, iterations):
        noise = next_noise(x0, initial, fresh_noise((4, 32, 32), range(16), iteration), **wide)
        # Where a filter is neither 0 nor 1, two independent noises are averaged.
        passes = low_pass(kind, (16, 32, 32), 0.5, 0.5)
        opposite = torch.fft.fftshift(torch.fft.ifftshift(passes).flip((0, 1, 2)).roll((1, 1, 1), (0, 1, 2)))
        mirrored = (passes + opposite) / 2  # what the real part keeps
        expected = (mirrored**2 + (1 - mirrored) ** 2).mean().item()
        assert noise.var().item() == pytest.approx(expected, abs=0.02)
        assert 0.7 < expected <= 1


@pytest.mark.parametrize(
    ("given", "coarse", "steps"), [(20, False, [20, 20, 20]), (20, True, [6, 13, 20]), (2, True, [1, 1, 1, 1, 2])]
)
def test_coarse_to_fine_takes_more_steps_each_time_and_at_least_one(given, coarse, steps):
    assert [steps_of(iteration, len(steps), given, coarse) for iteration in range(len(steps))] == steps


def test_fresh_noise_is_new_in_each_iteration_and_for_each_frame():
    seeds = range(10, 14)
    initial = torch.stack([white(4, 16, 16, seed=seed) for seed in seeds])
    rows = torch.cat([initial, *(fresh_noise((4, 16, 16), seeds, iteration) for iteration in range(1, 4))])
    assert rows.flatten(1).corrcoef().fill_diagonal_(0).abs().max() < 0.15  # so no row is another's noise
    assert rows.var().item() == pytest.approx(1, abs=0.05)


def test_fresh_noise_is_the_same_each_time_and_touches_no_global_generator():
    before = torch.get_rng_state()
    assert torch.equal(fresh_noise((4, 8, 8), [1, 2], 1), fresh_noise((4, 8, 8), [1, 2], 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_fresh_noise_tells_frames_apart_by_several_numbers():
    rows = fresh_noise((4, 8, 8), [(1, 1), (1, 2), (1, 1), 1], 1)
    assert [torch.equal(rows[0], row) for row in rows[1:]] == [False, True, False]
