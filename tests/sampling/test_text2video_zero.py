"""Text2Video-Zero's arithmetic against literal computations, and its settings."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from support.setting_values import MASK, other_than_default
from torch import Tensor

from lib_animatediff import ClipError, Text2VideoZero
from lib_animatediff.request.methods import name_without_file
from lib_animatediff.request.settings import SETTINGS, parse_settings, refuse_with_text2video_zero, text2video_zero
from lib_animatediff.sampling.text2video_zero import NAME, levels_of, motion_field, sigmas_of, warp
from motion_module.schedules import SCALED_LINEAR

BETAS = SCALED_LINEAR.betas()  # Stable Diffusion's own, in double precision
LEFT = torch.cumprod(1 - BETAS, 0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --------------------------------------------------------------------------------------------------------------------
# the shift


def official_grid(cells: tuple[int, int], shift: tuple[float, float]) -> Tensor:
    """``h w 2``: a constant flow on a grid of 512 x 512, 2 p / 512 - 1, scaled down to the latents."""
    line = torch.arange(512, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(line + shift[0], line + shift[1], indexing="xy")) / 512 * 2 - 1
    return F.interpolate(places[None], size=cells, mode="bilinear")[0].permute(1, 2, 0)


SHIFTS = [(12.0, 12.0), (24.0, 0.0), (-12.0, 36.0), (0.0, 0.0), (7.3, -130.0), (660.0, -1500.0)]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("cells", [(8, 8), (24, 40), (64, 64)])
def test_a_shift_is_what_grid_sample_makes_of_the_official_grid(cells, shift):
    latents = noise(2, 4, *cells)
    grid = official_grid(cells, shift).expand(2, -1, -1, -1)
    sampled = F.grid_sample(latents, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    assert torch.equal(warp(latents, shift), sampled)


def test_12_pixels_are_a_cell_and_a_half_and_the_picture_goes_left_and_up():
    latents = noise(1, 4, 64, 64)
    for times, cells in ((1, 1), (2, 3), (3, 4), (4, 6)):  # 1.5, 3, 4.5, 6 cells, less a sixteenth
        moved = warp(latents, (12.0 * times, 12.0 * times))
        assert torch.equal(moved[..., :-cells, :-cells], latents[..., cells:, cells:])


def test_a_shift_between_two_cells_takes_the_whole_picture_the_same_way():
    latents = noise(1, 4, 64, 64)  # 4.5 pixels are exactly half a cell, as the official code counts
    assert torch.equal(warp(latents, (4.5, 0.0)), latents)


def test_each_row_has_a_shift_of_its_own_and_keeps_its_dtype():
    latents = noise(2, 4, 16, 16).half()
    moved = warp(latents, [(64.0, 0.0), (0.0, -64.0)])
    assert moved.dtype == torch.float16
    assert torch.equal(moved[0], latents[0][..., [*range(2, 16), 15, 14]])
    assert torch.equal(moved[1], latents[1][:, [1, 0, *range(14)]])


# --------------------------------------------------------------------------------------------------------------------
# where the frames begin


def test_the_levels_are_those_of_the_paper():
    sigma_0, sigma_1 = levels_of(SCALED_LINEAR.alphas_cumprod(), Text2VideoZero())
    assert (sigma_0, sigma_1) == pytest.approx((7.56, 10.43), abs=0.01)
    assert levels_of(LEFT, Text2VideoZero(begin=9, renoised=99)) == pytest.approx(
        [math.sqrt((1 - LEFT[t]) / LEFT[t]) for t in (9, 99)]
    )


# By the levels of the two timesteps; and with the factors that the official code multiplies, which are one off.
@pytest.mark.parametrize("factors", [slice(882, 942), slice(881, 941)], ids=["paper", "official code"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_latents_are_those_of_the_papers_formula(factors, dtype):
    """In the paper's own coordinates: x^k = sqrt(P) w^k + sqrt(1 - P) eps^k."""
    x_0, x_1, fresh = noise(2, 4, 64, 64), noise(2, 4, 64, 64, seed=1), noise(2, 5, 4, 64, 64, seed=2)
    left = float((1 - BETAS)[factors].prod())
    wanted = []
    for clip in range(2):
        moved = [warp(x_0[clip : clip + 1], (12.0 * k, 12.0 * k))[0] for k in range(1, 5)]
        wanted += [x_1[clip]]
        wanted += [left**0.5 * w + (1 - left) ** 0.5 * eps for w, eps in zip(moved, fresh[clip, 1:], strict=True)]
    abar_0 = float(LEFT[881])
    abar_1 = abar_0 * left
    sigmas = [math.sqrt((1 - abar) / abar) for abar in (abar_0, abar_1)]
    given = [(x_0 / abar_0**0.5).to(dtype), (x_1 / abar_1**0.5).to(dtype), fresh.to(dtype)]
    made = motion_field(*given, *sigmas, Text2VideoZero())
    assert made.dtype == dtype
    assert (made.double() * abar_1**0.5 - torch.stack(wanted)).abs().max() < 1e-6
    if factors.start == 882:
        assert sigmas == pytest.approx(levels_of(LEFT, Text2VideoZero()))


def frames_of(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frame 0's latents at two levels, and the frames' fresh noise."""
    return noise(1, 4, 8, 8), noise(1, 4, 8, 8, seed=1), noise(1, count, 4, 8, 8, seed=2)


def test_equal_levels_add_no_noise():
    first, own, fresh = frames_of(3)
    made = motion_field(first, own, fresh, 5.0, 5.0, Text2VideoZero(motion=(64.0, 0.0)))
    assert torch.equal(made, torch.cat([own, warp(first, (64.0, 0.0)), warp(first, (128.0, 0.0))]))


def test_half_precision_is_rounded_once():
    given = [part.half() for part in frames_of(3)]
    made = motion_field(*given, 7.56, 10.43, Text2VideoZero())
    exact = motion_field(*(part.double() for part in given), 7.56, 10.43, Text2VideoZero())
    assert made.dtype == torch.float16
    assert (made.double() - exact).abs().max() <= exact.abs().max() * 2**-11


def test_no_signal_left_is_an_infinite_level():
    assert sigmas_of(torch.tensor([0.5, 0.0])).tolist() == [1.0, math.inf]


# --------------------------------------------------------------------------------------------------------------------
# the background


def test_the_background_is_smoothed_where_both_frames_show_it():
    """Cell by cell, with a mask of hard edges in the latents' size."""
    mask = torch.zeros(8, 8)
    mask[2:5, 3:6] = 1
    method = Text2VideoZero(motion=(64.0, 0.0), smoothing=0.6, mask=mask)  # a cell each frame
    _, own, _ = given = frames_of(3)
    rough = motion_field(*given, 5.0, 7.0, Text2VideoZero(motion=(64.0, 0.0)))
    made = motion_field(*given, 5.0, 7.0, method)
    assert torch.equal(made[0], own[0])
    mixed = 0
    for k, y, x in itertools.product((1, 2), range(8), range(8)):
        source = x + k if x + k < 8 else 15 - x - k
        wanted = rough[k, :, y, x]
        if not mask[y, x] and not mask[y, source]:
            wanted = 0.4 * wanted + 0.6 * own[0, :, y, source]
            mixed += 1
        assert torch.allclose(made[k, :, y, x], wanted, atol=1e-12)
    assert 0 < mixed < 128


def test_a_mask_of_another_size_is_fitted():
    coarse = torch.zeros(2, 2)
    coarse[:, 0] = 1
    _, own, _ = given = frames_of(2)
    made = motion_field(*given, 5.0, 7.0, Text2VideoZero(motion=(0.0, 0.0), smoothing=1.0, mask=coarse))[1]
    rough = motion_field(*given, 5.0, 7.0, Text2VideoZero(motion=(0.0, 0.0)))[1]
    assert torch.equal(made[..., 0], rough[..., 0])
    assert torch.allclose(made[..., 7], own[0, ..., 7])


LEVELS = [(941, 881), (-1, 941), (881, 1000)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"smoothing": 0.5}, "set the smoothing to 0"),
        ({"smoothing": 1.5, "mask": torch.ones(2, 2)}, "between 0 and 1"),
        ({"motion": (math.nan, 0.0)}, "two finite numbers"),
        *(({"begin": begin, "renoised": level}, "in ascending order") for begin, level in LEVELS),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ClipError, match=said):
        Text2VideoZero(**wrong)


# --------------------------------------------------------------------------------------------------------------------
# settings


def test_its_name_is_known_however_it_is_written_and_other_names_are_files():
    assert all(map(name_without_file, [NAME, Text2VideoZero().name, "text2video-zero", " TEXT2VIDEO-ZERO "]))
    assert not any(map(name_without_file, ["", "v3.safetensors", "folder/text2video-zero", "text2video"]))


def test_the_settings_say_how_it_moves():
    assert text2video_zero(parse_settings({})) == Text2VideoZero()
    assert text2video_zero(parse_settings({"zero_x": -3, "zero_y": 0.5})).motion == (-3.0, 0.5)
    method = text2video_zero(parse_settings({"zero_smoothing": 0.6, "motion_mask": MASK}))
    assert method.smoothing == 0.6
    assert method.mask.shape == (1, 2)


def test_a_mask_without_smoothing_and_smoothing_without_a_mask_are_refused():
    with pytest.raises(ClipError, match="zero_smoothing"):
        text2video_zero(parse_settings({"motion_mask": MASK}))
    with pytest.raises(ClipError, match="needs a mask"):
        text2video_zero(parse_settings({"zero_smoothing": 0.6}))


ONLY_OF_MODULES = "scale effect scale_steps effect_steps effect_start effect_end blocks mask_of motion_loras"


@pytest.mark.parametrize("name", f"{ONLY_OF_MODULES} freeinit_enable views closed_loop".split())
def test_what_only_a_motion_module_does_is_refused_by_name(name):
    with pytest.raises(ClipError, match=rf"cannot apply {name}"):
        refuse_with_text2video_zero(parse_settings({name: other_than_default(SETTINGS[name])}))


def test_everything_else_goes_with_it():
    refuse_with_text2video_zero(parse_settings({}))
    clip = {"frames": 40, "fps": 12, "reverse": True, "poster": True, "context_length": 8, "overlap": 2, "stride": 2}
    noise = {"noise": "shared", "noise_share": 0.3, "frame_seeds": "5, 6", "travel_hold": 0.5, "freeinit_iters": 2}
    refuse_with_text2video_zero(parse_settings({**clip, **noise, "motion_mask": MASK, "zero_x": 3}))


@pytest.mark.parametrize("cells", [8, 64, 511, 512, 600])
def test_no_motion_is_none_at_any_size(cells):
    latents = torch.arange(float(cells)).expand(1, 1, 2, cells)
    assert torch.equal(warp(latents, (0.0, 0.0)), latents)
