"""What is said before a clip is begun: counted where it is computed, and every change that is advised is the least."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from support import hosts
from support.matrix import every_once, in_matrix, only_at
from support.motions import shared_motion
from torch._subclasses.fake_tensor import FakeTensorMode

from lib_animatediff import ContextWindows, FeatureReuse, inject
from lib_animatediff.engine.reuse.layers import branch_of
from lib_animatediff.engine.reuse.schedule import MOST_BRANCH
from lib_animatediff.request.control.memory import CAMERA, I2V, SPARSE, Steering
from lib_animatediff.request.estimate import ClipEstimate, one_line
from lib_animatediff.sampling.guidance import GuidanceInterval
from tools.benchmarks.activation_memory import as_on_a_graphics_card, motion_of, peak_of_call, unet_of

GIB = 2**30
WINDOWS = ContextWindows()
VIEWS = ContextWindows(as_views=True)


def bytes_of(rows, rows_of_clip, width, height, chunks=1, base="sd15", number=2):
    """Literally, from what was measured."""
    per_pixel, per_token = {
        ("sd15", 2): (16649, 1552),
        ("sd15", 4): (32017, 3098),
        ("sdxl", 2): (10890, 4139),
        ("sdxl", 4): (19539, 8266),
    }[base, number]
    pixels, tokens, text = (width / 8) * (height / 8), 77 * chunks, {"sd15": 768, "sdxl": 2048}[base]
    in_the_call = rows * (pixels * per_pixel + tokens * per_token)
    latents, texts = 4 * pixels * 4, tokens * text * number
    return in_the_call + rows_of_clip * (4 * latents + 2 * texts)


# --------------------------------------------------------------------------------------------------------------------
# memory


@pytest.mark.parametrize(
    ("base", "dtype", "number"),
    only_at([(base, *dtype) for base in ("sd15", "sdxl") for dtype in ((torch.float32, 4), (torch.float16, 2))], 1, 2),
)
def test_the_estimate_is_what_a_call_takes(base, dtype, number):
    """At full widths, on shapes only; with 9 frames of a clip that is no square."""
    rows, height, width = 9, 40, 56
    with FakeTensorMode(), as_on_a_graphics_card():
        torch.set_default_dtype(dtype)
        try:
            unet, motion = unet_of(base), motion_of(base, rows)
        finally:
            torch.set_default_dtype(torch.float32)
        unet.dtype = dtype
        peak = peak_of_call(unet, motion, base, rows, height, width, 2 * 77, dtype)
    plan = ClipEstimate(base, rows, width=8 * width, height=8 * height, streams=1, tokens=100, number_bytes=number)
    held = bytes_of(0, rows, 8 * width, 8 * height, 2, base, number)
    assert plan.memory - held == pytest.approx(peak, rel=0.002)


@pytest.mark.parametrize(
    ("plan", "rows", "rows_of_clip"),
    [
        (ClipEstimate("sd15", 16), 32, 32),
        (ClipEstimate("sd15", 48, WINDOWS), 32, 96),
        (ClipEstimate("sd15", 48, WINDOWS, clips=3), 96, 288),
        (ClipEstimate("sd15", 48, WINDOWS, streams_per_call=1), 16, 96),
        (ClipEstimate("sd15", 48, WINDOWS, clips=3, streams=4, one_clip_per_call=True), 16, 576),
        (ClipEstimate("sd15", 48, VIEWS), 96, 96),
        (ClipEstimate("sd15", 12, WINDOWS), 24, 24),
        (ClipEstimate("sd15", 48, WINDOWS, streams=1), 16, 48),
    ],
)
def test_rows_and_memory_of_the_largest_call(plan, rows, rows_of_clip):
    assert plan.rows == rows
    assert plan.memory == pytest.approx(bytes_of(rows, rows_of_clip, 512, 512), rel=1e-9)


@pytest.mark.parametrize(("tokens", "chunks"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_prompts_count_in_whole_chunks(tokens, chunks):
    plan = ClipEstimate("sdxl", 16, width=1024, height=768, tokens=tokens, number_bytes=4)
    assert plan.padded_tokens == 75 * chunks
    assert plan.memory == pytest.approx(bytes_of(32, 32, 1024, 768, chunks, "sdxl", 4), rel=1e-9)


# --------------------------------------------------------------------------------------------------------------------
# calls


@pytest.mark.parametrize(
    ("windows", "frames", "clips", "streams", "per_call", "apart"),
    [
        (None, 3, 1, 2, 2, False),
        (None, 3, 2, 2, 1, False),
        (None, 3, 2, 3, 3, True),
        in_matrix(ContextWindows(length=3, overlap=1), 8, 1, 2, 2, False),
        (ContextWindows(length=3, overlap=1), 6, 2, 3, 2, False),
        (ContextWindows(length=3, overlap=1, kind="looped"), 6, 2, 2, 2, True),
        (ContextWindows(length=3, overlap=1, as_views=True), 6, 1, 2, 1, False),
        in_matrix(ContextWindows(length=3, overlap=1), 3, 1, 2, 2, False),
    ],
)
def test_the_calls_are_counted_as_they_are_made(ldm_unet, windows, frames, clips, streams, per_call, apart):
    """On a real UNet, which a host calls with as many streams at once as it likes."""
    unet, steps, rows_of_calls = ldm_unet, 2, []
    plan = ClipEstimate("sd15", frames, windows, 64, 64, steps, clips, streams, per_call, apart)
    with (
        torch.no_grad(),
        unet.input_blocks[0].register_forward_pre_hook(lambda _layer, args: rows_of_calls.append(len(args[0]))),
        inject(unet, shared_motion("v3")[0], frames=frames, windows=windows, one_clip_per_call=apart),
    ):
        for step, first in itertools.product(range(steps), range(0, streams, streams if apart else per_call)):
            rows = min(streams - first, streams if apart else per_call) * clips * frames
            hosts.call(unet, hosts.inputs(rows) | {"t": torch.full((rows,), 900 - step)})
    assert len(rows_of_calls) == plan.calls
    assert max(rows_of_calls) == plan.rows


def test_too_many_windows_to_count_are_counted_in_part():
    windows = ContextWindows(length=128, overlap=120)
    plan = ClipEstimate("sd15", 10_000, windows, steps=150)
    whole = sum(len(windows.plan(10_000, step)) for step in range(150))
    assert plan.calls == pytest.approx(whole, rel=0.01)


# --------------------------------------------------------------------------------------------------------------------
# what to change


def the_only(plan, begin):
    (found,) = [(way, then) for way, then in plan.suggestions() if way.startswith(begin)]
    return found


@pytest.mark.parametrize("free", [1.1, 1.2, 1.5, 2.0])
@pytest.mark.parametrize("windows", [None, WINDOWS, ContextWindows(overlap=15)])
def test_the_advised_context_is_the_longest_that_fits(free, windows):
    plan = ClipEstimate("sd15", 16 if windows is None else 48, windows, free=int(free * GIB))
    way, then = the_only(plan, "the context length")
    length = int(way.removeprefix("the context length to "))
    clip = plan.frames * 2
    assert then.windows.length == length < 16
    assert bytes_of(2 * length, clip, 512, 512) <= plan.free < bytes_of(2 * length + 2, clip, 512, 512)


@pytest.mark.parametrize(
    ("size", "free", "advised"),
    [
        ((512, 512), 2.0, (448, 448)),
        ((512, 512), 1.5, (384, 384)),
        ((512, 768), 1.8, (384, 576)),
        ((768, 512), 1.8, (576, 384)),
        ((1000, 1000), 2.7, (576, 576)),
    ],
)
def test_the_advised_size_is_the_largest_that_fits(size, free, advised):
    width, height = size
    plan = ClipEstimate("sd15", 48, WINDOWS, width, height, free=int(free * GIB))
    way, then = the_only(plan, "width and height")
    assert way == "width and height to {}x{}".format(*advised)
    assert (then.width, then.height) == advised
    larger = [round((side + 64 * side // max(advised)) / 64) * 64 for side in advised]
    assert bytes_of(32, 96, *advised) <= plan.free < bytes_of(32, 96, *larger)


@pytest.mark.parametrize(("free", "clips"), [(3, 1), (5, 2), (7.5, 3)])
def test_the_advised_batch_is_the_largest_that_fits(free, clips):
    plan = ClipEstimate("sd15", 16, clips=4, free=int(free * GIB))
    way, then = the_only(plan, "the batch")
    assert way == f"the batch size to {clips}"
    assert then.clips == clips
    assert bytes_of(32 * clips, 32 * clips, 512, 512) <= plan.free < bytes_of(32 * clips + 32, 32 * clips, 512, 512)


def test_views_are_switched_off_where_that_is_enough():
    plan = ClipEstimate("sd15", 48, VIEWS, free=3 * GIB)
    then = the_only(plan, "views")[1]
    assert then.windows == WINDOWS
    assert bytes_of(32, 96, 512, 512) <= plan.free < bytes_of(96, 96, 512, 512)
    assert not [way for way, _ in plan.suggestions() if "context" in way]  # that does not change the call


def test_nothing_is_advised_that_does_not_help():
    plan = ClipEstimate("sd15", 48, VIEWS, free=2 * GIB)
    assert not [way for way, _ in plan.suggestions() if way.startswith("views")]
    assert bytes_of(32, 96, 512, 512) > plan.free
    assert ClipEstimate("sd15", 16, free=GIB // 8).suggestions() == []


def test_no_window_is_advised_that_shows_little_motion():
    plan = ClipEstimate("sd15", 16, free=int(bytes_of(14, 32, 512, 512)))
    assert not [way for way, _ in plan.suggestions() if "context" in way]
    more = replace(plan, free=int(bytes_of(16, 32, 512, 512)) + 1)
    assert [way for way, _ in more.suggestions() if "context" in way] == ["the context length to 8"]


def test_what_fits_needs_no_change():
    exactly = ClipEstimate("sd15", 16).memory
    assert ClipEstimate("sd15", 16, free=exactly).fits
    assert not ClipEstimate("sd15", 16, free=exactly - 1).fits
    assert ClipEstimate("sd15", 16).fits


# --------------------------------------------------------------------------------------------------------------------
# the sentence


STATIC = ContextWindows(kind="static")


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            ClipEstimate("sd15", 48, STATIC, free=int(8.1 * GIB)),
            "AnimateDiff: 48 frames in 4 windows of 16 (20 steps: 80 UNet calls with up to 32 images), 512x512, "
            "prompts of 75 tokens, about 2.1 GB in addition to the models; 8.1 GB are free.",
        ),
        (
            ClipEstimate("sd15", 48, STATIC, free=int(1.5 * GIB)),
            "AnimateDiff: 48 frames in 4 windows of 16 (20 steps: 80 UNet calls with up to 32 images), 512x512, "
            "prompts of 75 tokens, about 2.1 GB in addition to the models; only 1.5 GB are free. Set the context "
            "length to 11, or width and height to 384x384.",
        ),
        (
            ClipEstimate("sd15", 16, steps=1, tokens=80, streams=1),
            "AnimateDiff: 16 frames at once (1 step: 1 UNet call with up to 16 images), 512x512, prompts of 150 tokens"
            ", about 1.0 GB in addition to the models.",
        ),
        (
            ClipEstimate("sd15", 48, replace(VIEWS, kind="static"), clips=2, free=GIB),
            "AnimateDiff: 2 clips of 48 frames at once, with 4 views of 16 (20 steps: 20 UNet calls with up to 192 "
            "images), 512x512, prompts of 75 tokens, about 12.3 GB in addition to the models; only 1.0 GB are free. No "
            "single change is enough: set views off, and lower width and height.",
        ),
        (
            ClipEstimate("sd15", 16, free=GIB // 4),
            "AnimateDiff: 16 frames at once (20 steps: 20 UNet calls with up to 32 images), 512x512, prompts of 75 "
            "tokens, about 2.1 GB in addition to the models; only 0.2 GB are free. No single change is enough: lower "
            "the context length, and lower width and height.",
        ),
    ],
)
def test_the_sentence(plan, said):
    assert one_line(plan) == said


def test_windows_that_vary_in_number_are_told_from_the_fewest_to_the_most():
    counts = {len(WINDOWS.plan(48, step)) for step in range(20)}
    assert f"in {min(counts)} to {max(counts)} windows of 16" in one_line(ClipEstimate("sd15", 48, WINDOWS))
    assert min(counts) < max(counts)
    monstrous = ContextWindows(length=1, overlap=0, stride=8)
    assert "10000 frames" in one_line(ClipEstimate("sd15", 10_000, monstrous, steps=150))


# Feature reuse and CFG in a part of the steps


@pytest.mark.parametrize(("base", "branch"), every_once(["sd15", "sdxl"], range(MOST_BRANCH + 1)))
def test_the_kept_features_are_those_of_the_unet(base, branch):
    """At a tenth of the widths, from what enters the first computed layer."""
    unet = {"sd15": hosts.ldm_unet, "sdxl": hosts.ldm_sdxl_unet}[base]()
    layers = branch_of(unet, FeatureReuse(2, branch))
    sizes = []
    with layers.below.register_forward_hook(lambda _layer, _inputs, output: sizes.append(output.shape)):
        hosts.call(unet, hosts.inputs(1, size=(8, 16)))
    plan = ClipEstimate(base, 16, width=16 * 8, height=8 * 8, number_bytes=2, reuse=FeatureReuse(2, branch))
    assert plan.kept_per_row == 10 * 2 * sizes[0].numel()


def test_kept_features_count_as_memory_unless_they_are_elsewhere():
    plain, reuse = ClipEstimate("sd15", 48, WINDOWS), FeatureReuse(2)
    kept = sum(map(len, WINDOWS.plan(48, 0))) * 2 * 320 * 64 * 64 * 2
    assert replace(plain, reuse=reuse).memory == plain.memory + kept
    assert replace(plain, reuse=replace(reuse, on_cpu=True)).memory == plain.memory
    assert "10 full steps, with features of 0.3 GB, 2.5 MB per image, kept in memory" in one_line(
        replace(plain, reuse=reuse)
    )
    assert replace(plain, reuse=reuse, free=plain.memory).suggestions()[0][0] == "reuse_on_cpu on"


def test_calls_without_uncond_are_counted():
    apart = ClipEstimate("sd15", 16, steps=20, streams_per_call=1)
    assert apart.calls == 40
    assert replace(apart, guidance=GuidanceInterval(end=0.6)).calls == 32
    assert replace(apart, guidance=GuidanceInterval(0.25, 0.6)).calls == 27


def test_windows_stand_still_between_full_steps():
    uniform = ContextWindows(length=16, overlap=4)
    plain = ClipEstimate("sd15", 29, uniform, steps=20)
    reused = replace(plain, reuse=FeatureReuse(4))
    parts = [FeatureReuse(4).part(step, 20) for step in range(20)]
    assert reused.window_counts == tuple(len(uniform.plan(29, part)) for part in parts)


def test_memory_of_sparse_ctrl_is_its_weights_and_what_it_adds():
    """The numbers that the skip connections of Stable Diffusion 1.5 have for a frame, counted one by one."""
    plain = ClipEstimate("sd15", 16, width=512, height=512)
    sides = [64, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8, 8]
    channels = [320, 320, 320, 320, 640, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280]
    added = sum(c * side * side for c, side in zip(channels, sides, strict=True))
    guided = replace(plain, steering=(Steering(SPARSE, 497_000_000),))
    assert guided.memory - plain.memory == 2 * (497_000_000 + 32 * added)
    both = replace(plain, steering=(Steering(SPARSE, 497_000_000), Steering(SPARSE, 10)))
    assert both.memory - guided.memory == 2 * (10 + 32 * added)
    assert "1.3 GB of it for SparseCtrl" in one_line(guided)
    assert "SparseCtrl" not in one_line(plain)


def test_memory_of_a_camera_and_of_an_image_is_their_features():
    """Of a frame at each resolution, once for all streams: a camera keeps those of eight windows, an image of one."""
    frame = 320 * 64 * 64 + 640 * 32 * 32 + 1280 * 16 * 16 + 1280 * 8 * 8
    plain = ClipEstimate("sd15", 16, width=512, height=512)
    for steering, numbers in ((Steering(CAMERA, 7), 7 + 16 * frame), (Steering(I2V, 0), 16 * frame)):
        assert replace(plain, steering=(steering,)).memory - plain.memory == 2 * numbers
        assert replace(plain, steering=(steering,), clips=3).memory - replace(plain, clips=3).memory == 2 * numbers
    for frames, windows in ((28, 2), (400, 8)):
        for as_views in (False, True):
            how = ContextWindows(16, 4, kind="static", as_views=as_views)
            long = ClipEstimate("sd15", frames, how, width=512, height=512)
            filmed, begun = (replace(long, steering=(Steering(kind, 0),)) for kind in (CAMERA, I2V))
            assert filmed.memory - long.memory == 2 * windows * 16 * frame
            assert begun.memory - long.memory == 2 * (frames if as_views else 16) * frame
    both = replace(plain, steering=(Steering(SPARSE, 497_000_000), Steering(CAMERA, 218_000_000)), free=20 * 2**30)
    assert "(1.3 GB of it for SparseCtrl, 0.5 GB of it for the camera)" in one_line(both)
