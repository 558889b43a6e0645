"""The second pass: the finished clip is enlarged, and sampled again like a video of that size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support.matrix import in_matrix
from support.pocket_clips import CFG, RED
from support.source_files import shades

from lib_animatediff import ClipError, Text2VideoZero
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.decode import decode_frames
from lib_animatediff.hosts.diffusers.networks import PathCatalog
from lib_animatediff.hosts.diffusers.start.video import encode_frames
from lib_animatediff.request.effects import notes_of
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.second_pass import SecondPass
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.video.mask import VideoMask
from lib_animatediff.video.source import Source

SIZE, LARGE = (48, 32), (72, 48)
FRAMES, STEPS, SEED = 4, 4, 3
LONG = {"frames": 7, "context_length": 4, "overlap": 1}
TRAVEL = f"0: {RED}\n3: a blue square"


def pixels(images):
    return np.stack([np.asarray(image.convert("RGB"), np.float32) for image in images])


def made(
    pipeline,
    motion,
    *,
    size=SIZE,
    video=None,
    pins=None,
    on_step=lambda: None,
    say=lambda _: None,
    prompt=RED,
    **settings,
):
    return animate(
        pipeline,
        motion,
        prompt=prompt,
        seed=SEED,
        settings=parse_settings({"frames": FRAMES} | settings),
        video=video,
        pins=pins,
        size=size,
        steps=STEPS,
        cfg=CFG,
        on_step=on_step,
        say=say,
    )


@pytest.fixture
def timesteps(pipeline):
    """Size and timestep of each call of the UNet."""
    seen = []

    def note(_unet, args, kwargs):
        seen.append((tuple(args[0].shape[2:]), int(args[1])))

    with pipeline.unet.register_forward_pre_hook(note, with_kwargs=True):
        yield seen


@pytest.mark.parametrize(
    "more", [{}, in_matrix(LONG | {"noise": "shared", "prompt": TRAVEL})], ids=["short", "in windows"]
)
def test_it_is_the_finished_clip_enlarged_and_then_video_to_video(pipeline, motion, tmp_path, more):
    first = made(pipeline, motion, **more)
    for number, frame in enumerate(first):
        frame.resize(LARGE, Image.Resampling.LANCZOS).save(tmp_path / f"{number:03}.png")
    again = made(pipeline, motion, size=LARGE, video=VideoStart(Source(tmp_path), 0.5), **more)
    second = made(pipeline, motion, upscale=1.5, upscale_denoise=0.5, **more)
    assert second[0].size == LARGE
    assert np.array_equal(pixels(second), pixels(again))


def test_its_steps_are_the_last_ones_and_are_counted(pipeline, motion, timesteps):
    done = []
    settings = {"upscale": 1.5, "upscale_denoise": 0.5, "freeinit_enable": True, "freeinit_iters": 2}
    made(pipeline, motion, on_step=lambda: done.append(1), **settings)
    plan = plan_clip(parse_settings({"frames": FRAMES} | settings), Sampling(RED, steps=STEPS))
    assert len(done) == len(timesteps) == plan.sampled_steps == 2 * STEPS + 2
    small, large = timesteps[: 2 * STEPS], timesteps[2 * STEPS :]
    assert {shape for shape, _ in small} == {(SIZE[1] // 8, SIZE[0] // 8)}
    assert [shape for shape, _ in large] == [(LARGE[1] // 8, LARGE[0] // 8)] * 2
    assert [time for _, time in large] == [time for _, time in small[STEPS // 2 : STEPS]]


def test_without_denoising_the_clip_is_enlarged_only(pipeline, motion, timesteps):
    """In a size whose pictures the VAE knows."""
    whole, large = (64, 48), (96, 72)
    first = made(pipeline, motion, size=whole)
    timesteps.clear()
    enlarged = pixels(made(pipeline, motion, size=whole, upscale=1.5, upscale_denoise=0))
    assert {shape for shape, _ in timesteps} == {(whole[1] // 8, whole[0] // 8)}
    wanted = pixels([frame.resize(large, Image.Resampling.LANCZOS) for frame in first])
    assert np.abs(enlarged - wanted).mean() < 6  # the error of the VAE


def test_sides_are_multiples_of_eight_and_few_steps_leave_one():
    assert SecondPass(1.5, 0.4).size((512, 320)) == (768, 480)
    assert SecondPass(1.3, 0.4).size((512, 8)) == (664, 8)
    assert [SecondPass(2, 0.4).sampled(steps) for steps in (1, 4, 20)] == [1, 1, 8]
    assert (SecondPass(2, 1).sampled(20), SecondPass(2, 0).skipped(20)) == (20, 20)


def test_a_pinned_frame_is_its_image_in_the_second_pass(pipeline, motion, tmp_path):
    image = Image.new("RGB", LARGE, (230, 40, 40))
    image.save(tmp_path / "a.png")
    found = pixels(made(pipeline, motion, pins=PinnedFrames((Pin(1, tmp_path / "a.png"),)), upscale=1.5))
    like = torch.empty(1, 4, LARGE[1] // 8, LARGE[0] // 8)
    wanted = pixels(decode_frames(pipeline, encode_frames(pipeline, [image], like)))[0]
    assert [np.array_equal(frame, wanted) for frame in found] == [False, True, False, False]


@pytest.fixture
def video(tmp_path):
    """Of as many frames as the clip has, and a white mask."""
    for number, image in enumerate(shades(FRAMES, SIZE)):
        image.save(tmp_path / f"{number}.png")
    (tmp_path / "mask").mkdir()
    Image.new("L", SIZE, 255).save(tmp_path / "mask" / "white.png")
    return tmp_path


def test_few_steps_leave_one_under_a_mask_too(pipeline, motion, video):
    source, mask = Source(video), VideoMask(video / "mask" / "white.png", feather=0)
    how = {"upscale": 1.5, "upscale_denoise": 0.2}
    plain = pixels(made(pipeline, motion, video=VideoStart(source, 0.6), **how))
    masked = pixels(made(pipeline, motion, video=VideoStart(source, 0.6, mask), **how))
    only_enlarged = pixels(made(pipeline, motion, video=VideoStart(source, 0.6), upscale=1.5, upscale_denoise=0))
    assert np.array_equal(masked, plain)
    assert not np.array_equal(plain, only_enlarged)


def test_frames_at_strength_0_stay_as_the_first_pass_left_them(pipeline, motion, video):
    start = VideoStart(Source(video), (0.0, 0.6))
    first = pixels(made(pipeline, motion, video=start, upscale=1.5, upscale_denoise=0))
    second = pixels(made(pipeline, motion, video=start, upscale=1.5, upscale_denoise=0.5))
    assert [np.array_equal(*pair) for pair in zip(first, second, strict=True)] == [True, False, False, False]


def test_the_pipeline_is_as_before_and_a_plan_gives_the_same_clip(pipeline, motion):
    former = pipeline.scheduler
    wanted = pixels(made(pipeline, motion, frames=2, upscale=1.5))
    assert pipeline.scheduler is former
    settings = parse_settings({"frames": 2, "upscale": 1.5, "model": str(POCKET.folder / POCKET.motion)})
    plan = plan_clip(settings, Sampling(RED, seed=SEED, steps=STEPS), PathCatalog())
    assert plan.second_pass == SecondPass(1.5, 0.4)
    again = plan_from_json(plan.to_json())
    assert np.array_equal(pixels(animate(pipeline, again, size=SIZE, cfg=CFG)), wanted)


def test_a_scale_that_enlarges_nothing_says_so_before_anything_is_sampled(pipeline, motion):
    said, steps = [], []
    made(
        pipeline,
        motion,
        upscale=1.01,
        say=lambda line: said.append((line, len(steps))),
        on_step=lambda: steps.append(1),
    )
    assert said == [
        (
            "upscale 1.01 leaves the size at 48x32, since its sides are multiples of 8: the clip is sampled again "
            "without being enlarged.",
            0,
        )
    ]
    assert SecondPass(1.1, 0.4).note(SIZE) is None


def test_text2video_zero_and_a_preview_have_none(pipeline):
    with pytest.raises(ClipError, match="upscale"):
        made(pipeline, Text2VideoZero(), upscale=2)
    settings = parse_settings({"preview": True, "upscale": 2})
    assert plan_clip(settings).second_pass is None
    assert [note.setting for note in notes_of(settings)] == ["upscale"]
