"""Noise of frames: whose noise a frame takes, what frames share, and that neither depends on batch or length."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff import ClipError, ContextWindows
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.sampling.frame_noise import NOISE_KINDS, SEED_LIMIT, noise_sources, parse_frame_seeds, shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise

SHAPE = (4, 8, 8)
SEED = 123
WINDOWS = ContextWindows()


class ImageRng:
    """The WebUI's generator of noise, where nothing is resized or varied: a generator for each row's seed."""

    def __init__(self, seeds):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self):
        return torch.stack([torch.randn(SHAPE, generator=generator) for generator in self.generators])


class OfTheCommandLine(ImageRng):
    """diffusers' way with a list of generators."""

    def next(self):
        from diffusers.utils.torch_utils import randn_tensor

        return randn_tensor((len(self.generators), *SHAPE), generator=self.generators)


def seeds_of(kind, frames, seed=SEED):
    return [seed + source for source in noise_sources(kind, frames, WINDOWS, seed)]


def test_frames_have_their_own_noise_or_the_first_frames():
    # FreeNoise of a clip that fits into a window has nothing to repeat.
    for kind, frames in (("random", 20), ("shared", 20), ("freenoise", 1), ("freenoise", 8), ("freenoise", 16)):
        assert noise_sources(kind, frames, WINDOWS, SEED) == list(range(frames))
    assert noise_sources("constant", 20, WINDOWS, SEED) == [0] * 20


def test_freenoise_repeats_groups_of_noise_in_another_order():
    sources = noise_sources("freenoise", 60, WINDOWS, SEED)
    assert sources[:20] == list(range(20))
    for begin in (20, 40):
        block = sources[begin : begin + 20]
        assert block != list(range(20))
        assert all(sorted(block[at : at + 5]) == list(range(at, at + 5)) for at in (0, 5, 10, 15))
    assert sources[20:40] != sources[40:]


def test_freenoise_of_a_loop_ends_where_the_loop_ends():
    sources = noise_sources("freenoise", 62, ContextWindows(kind="looped"), SEED)
    assert sources[:21] == list(range(21))
    assert (sorted(sources[21:42]), sorted(sources[42:])) == (list(range(21)), list(range(20)))


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize(("length", "stride"), [(16, 1), (16, 2), (8, 1), (5, 1), (1, 1)])
def test_a_frame_has_the_same_source_in_a_clip_of_any_length(kind, length, stride):
    windows = ContextWindows(length=length, overlap=0, stride=stride)
    longest = noise_sources(kind, 70, windows, SEED)
    for frames in range(1, 70):
        assert noise_sources(kind, frames, windows, SEED) == longest[:frames]


def test_the_order_of_freenoise_is_the_seeds_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    assert seeds_of("freenoise", 28, 1) == seeds_of("freenoise", 28, 1)
    assert noise_sources("freenoise", 28, WINDOWS, 1) != noise_sources("freenoise", 28, WINDOWS, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ClipError, match=r"'perlin'. Choose one of: random, freenoise, shared, constant"):
        noise_sources("perlin", 16, WINDOWS, SEED)


# --------------------------------------------------------------------------------------------------------------------
# the same frame, whatever the batch and the length


@pytest.mark.parametrize("rng", [ImageRng, OfTheCommandLine])
@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_initial_and_ancestral_noise_of_a_frame_do_not_depend_on_the_length(rng, kind):
    """Must-bar: a longer clip begins as the shorter one does."""
    short, long = rng(seeds_of(kind, 21)), rng(seeds_of(kind, 40))
    for _draw in range(3):
        wanted, got = short.next(), long.next()
        share = 0.3 if kind == "shared" else 0
        assert torch.equal(shared_noise(got, None, share)[:21], shared_noise(wanted, None, share))


@pytest.mark.parametrize("rng", [ImageRng, OfTheCommandLine])
@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("cuts", [(1,), (7, 20), (16,), tuple(range(1, 28))])
def test_initial_and_ancestral_noise_of_a_frame_do_not_depend_on_the_batch(rng, kind, cuts):
    """Must-bar: a batch of several clips, or a clip in several batches."""
    seeds, share = seeds_of(kind, 28), 0.3 if kind == "shared" else 0
    bounds = list(zip((0, *cuts), (*cuts, 28), strict=True))
    whole, parts = rng(seeds), [rng(seeds[begin:end]) for begin, end in bounds]
    for _draw in range(3):
        drawn = [part.next() for part in parts]
        got = [shared_noise(noise, drawn[0][0] if n else None, share) for n, noise in enumerate(drawn)]
        assert torch.equal(torch.cat(got), shared_noise(whole.next(), None, share))


def test_freeinits_noise_of_a_frame_does_not_depend_on_batch_and_length():
    seeds = seeds_of("freenoise", 40)
    whole = fresh_noise(SHAPE, seeds, 1)
    assert torch.equal(fresh_noise(SHAPE, seeds[:21], 1), whole[:21])
    assert torch.equal(torch.cat([fresh_noise(SHAPE, seeds[at : at + 8], 1) for at in range(0, 40, 8)]), whole)


# --------------------------------------------------------------------------------------------------------------------
# shared noise


def noise_of(frames, side=64):
    return torch.randn(frames, 4, side, side, generator=torch.Generator().manual_seed(0))


def test_without_a_share_noise_is_as_it_was_and_all_of_it_shared_is_the_first_frames():
    noise = noise_of(4)
    assert torch.equal(shared_noise(noise, None, 0.0), noise)
    assert torch.equal(shared_noise(noise, None, 1.0), noise[:1].expand_as(noise))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_shared_noise_is_as_strong_as_before_and_correlates_by_its_share(share):
    noise = noise_of(4)
    got = shared_noise(noise, None, share)
    assert torch.equal(got[0], noise[0])
    for frame in got[1:]:
        assert frame.var() == pytest.approx(1, abs=0.04)
        assert (frame * noise[0]).mean() == pytest.approx(share**0.5, abs=0.03)
    assert (got[1] * got[2]).mean() == pytest.approx(share, abs=0.03)
    torch.testing.assert_close(got[1], share**0.5 * noise[0] + (1 - share) ** 0.5 * noise[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shared_noise_is_computed_in_float32(dtype):
    noise = noise_of(3).to(dtype)
    got = shared_noise(noise, None, 0.3)
    assert got.dtype == dtype
    assert torch.equal(got, shared_noise(noise.float(), None, 0.3).to(dtype))


def test_sharing_does_not_change_the_noise_it_is_given():
    noise = noise_of(3)
    shared_noise(noise, None, 0.5).zero_()
    assert torch.equal(noise, noise_of(3))


# --------------------------------------------------------------------------------------------------------------------
# seeds of frames


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("5, 6, 7", [5, 6, 7]),
        ("5 9\n2", [5, 9, 2]),
        ("5", [5, 6, 7]),
        ("7, 3", [7, 3, 4]),
        ("1,1,1,", [1, 1, 1]),
        (f"{SEED_LIMIT - 1}", [SEED_LIMIT - 1, 0, 1]),
        ("", None),
        ("  ", None),
    ],
)
def test_seeds_of_frames_are_read_and_counted_on(text, seeds):
    assert parse_frame_seeds(text, 3) == seeds


@pytest.mark.parametrize("word", ["-1", "five", "1.5", "1_0", "0x1", str(SEED_LIMIT), "9" * 5000, "٣", "5;6"])
def test_what_is_no_seed_is_refused(word):
    with pytest.raises(ClipError, match=r"frame_seeds contains .*Write whole numbers from 0 to"):
        parse_frame_seeds(f"1, {word}", 3)


def test_more_seeds_than_frames_are_refused():
    with pytest.raises(ClipError, match=r"4 seeds for 3 frames. Remove some, or render more frames"):
        parse_frame_seeds("1, 2, 3, 4", 3)


def test_seeds_may_be_a_list():
    assert parse_settings({"frame_seeds": [5, 6, 7]}).frame_seeds == "5, 6, 7"
