"""DDIM inversion as the start of a clip from a video: it leads back to the video, and keeps its motion."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image
from support.clip_files import write_film
from support.matrix import in_matrix
from support.moving import as_bytes, placed
from support.pocket_clips import CFG, RED, SIZE, TINY, near, pixels
from support.unchanged import Portrait

from lib_animatediff import ClipError
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.video.mask import VideoMask
from lib_animatediff.video.source import Source
from tools.pocket.measure import read
from tools.pocket.world import Scene

FRAMES, SEED = 4, 5
LONG = 8  # frames, where the motion counts
SCENE = Scene("red", "disc", "right", "plain", 14.0, 32.0, 0.0)
STEP = 4.0  # pixels that the disc goes right in a frame


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A red disc that moves right, without loss."""
    images = [Image.fromarray(frame) for frame in as_bytes(placed(SCENE, STEP, 0.0))]
    path = tmp_path_factory.mktemp("source") / "a.mkv"
    return Source(write_film(path, images, codec="ffv1", pix_fmt="bgr0"))


def rendered(pipeline, motion, video, *, prompt=RED, steps=8, cfg=CFG, sampler="ddim", size=SIZE, **more):
    pins = more.pop("pins", None)
    made = animate(
        pipeline,
        motion,
        prompt=prompt,
        seed=SEED,
        settings=parse_settings({"frames": FRAMES} | more),
        video=video,
        pins=pins,
        size=size,
        steps=steps,
        cfg=cfg,
        sampler=sampler,
    )
    return pixels(made)


def apart(one, other):
    """Mean difference in levels of 8 bits."""
    return float((one - other).abs().float().mean())


@pytest.fixture(scope="module")
def shown(pipeline, motion, source):
    """The video as the VAE shows it."""
    return rendered(pipeline, motion, VideoStart(source, 0.0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        in_matrix({"context_length": 4, "overlap": 1, "frames": 8}),
        in_matrix({"reuse": 2}),
        in_matrix({"scale": "0: 0.8, 3: 1.2", "scale_steps": "0%: 1.2, 60%: 1"}),
    ],
    ids=lambda options: " ".join(options),
)
def test_sampling_with_the_same_prompt_and_without_cfg_leads_back_to_the_video(pipeline, motion, source, options):
    """At 16 steps, within 1.5 levels of 255 on average; at full strength random noise is more than 10 away."""
    plain = rendered(pipeline, motion, VideoStart(source, 0.0), **options)
    steps = 16
    back, away = (
        rendered(pipeline, motion, VideoStart(source, 1.0, inversion=share), steps=steps, cfg=1.0, **options)
        for share in (1.0, 0.0)
    )
    assert apart(back, plain) < (1.5 if "reuse" not in options else 3)
    assert apart(away, plain) > 10


def test_frames_of_several_strengths_lead_back_too(pipeline, motion, source, shown):
    """Each begins with the noise of its own level; one at 0 is the video's, bit for bit."""
    strengths = (1.0, 0.5, 0.75, 0.0)
    made = rendered(pipeline, motion, VideoStart(source, strengths, inversion=1.0), steps=12, cfg=1.0)
    assert apart(made, shown) < 3
    assert near(made[3:], shown[3:], 0)


def test_the_motion_of_the_video_is_kept_where_random_noise_loses_it(pipeline, motion, source):
    """The prompt asks for the opposite motion. Both clips show its cross, and one of them goes where the disc went."""
    distances = []
    for share in (0.0, 1.0):
        video = VideoStart(source, 0.9, inversion=share)
        made = rendered(pipeline, motion, video, prompt="a blue cross moving left", steps=8, frames=LONG)
        found = [read(frame) for frame in made.permute(0, 3, 1, 2) / 255]
        assert sum(each.concept[:2] == ("blue", "cross") for each in found) >= LONG - 2
        places = [SCENE.x + STEP * frame for frame in range(LONG)]
        distances.append(sum(abs(each.x - place) for each, place in zip(found, places, strict=True)) / LONG)
    assert distances[1] < 0.6 * distances[0]


def test_a_share_lies_between_random_and_inverted_noise(pipeline, motion, source):
    small = {"steps": 5, "size": TINY}
    some, all_of_it, none = (
        rendered(pipeline, motion, VideoStart(source, 0.8, inversion=share), **small) for share in (0.5, 1.0, 0.0)
    )
    assert not near(some, all_of_it, 4)
    assert not near(some, none, 4)
    assert near(none, rendered(pipeline, motion, VideoStart(source, 0.8), **small), 0)


def test_it_takes_a_call_on_one_stream_for_each_step_and_leaves_the_unet_as_it_was(pipeline, motion, source):
    rows, before = [], Portrait(pipeline.unet)
    with pipeline.unet.register_forward_pre_hook(lambda _unet, args: rows.append(len(args[0]))):
        rendered(pipeline, motion, VideoStart(source, 0.5, inversion=0.3), steps=6, size=TINY)
        assert rows == [FRAMES] * 3 + [2 * FRAMES] * 3
        rows.clear()
        freeinit = {"freeinit_enable": True, "freeinit_iters": 2}
        rendered(pipeline, motion, VideoStart(source, 0.5, inversion=0.3), steps=6, size=TINY, **freeinit)
        assert rows == [FRAMES] * 3 + [2 * FRAMES] * 6  # found once
        rows.clear()
        rendered(pipeline, motion, VideoStart(source, 0.0, inversion=1.0), size=TINY)
        assert not rows
        rendered(pipeline, motion, VideoStart(source, 0.5, inversion=1.0), steps=4, size=TINY, preview=True)
        assert rows == [1] * 2 + [2] * 2
    before.assert_unchanged()


def test_pins_and_masks_hold_beside_it(pipeline, motion, source, shown, tmp_path):
    Image.new("RGB", SIZE, (40, 200, 60)).save(tmp_path / "pin.png")
    half = Image.new("L", SIZE)
    half.paste(255, (0, 0, 24, 64))
    half.save(tmp_path / "half.png")
    pins = PinnedFrames((Pin(2, tmp_path / "pin.png"),))
    alone = rendered(pipeline, motion, VideoStart(source, 0.6), pins=pins, steps=5)
    video = VideoStart(source, 0.6, VideoMask(tmp_path / "half.png", feather=0), 1.0)
    made = rendered(pipeline, motion, video, pins=pins, steps=5)
    assert near(made[2], alone[2], 0)
    kept = [frame for frame in range(FRAMES) if frame != 2]
    exact = pixels([Image.fromarray(frame) for frame in as_bytes(placed(SCENE, STEP, 0.0))[:FRAMES]])
    assert near(made[kept, :, 24:], exact[kept, :, 24:], 0)
    assert not near(made[kept, :, :24], exact[kept, :, :24], 8)


@pytest.mark.matrix
@pytest.mark.parametrize("sampler", ["euler", "dpm++2m", "euler-a"])
def test_each_sampler_begins_from_the_same_noise(pipeline, motion, source, shown, sampler):
    """Without random noise of its own it also leads back. LCM draws all noise anew at each step, and a note says so."""
    made = rendered(pipeline, motion, VideoStart(source, 0.8, inversion=1.0), steps=25, cfg=1.0, sampler=sampler)
    assert apart(made, shown) < (1 if sampler in ("euler", "dpm++2m") else 12)


def test_the_plan_has_the_share(source):
    plan = plan_clip(parse_settings({"frames": 2}), Sampling(steps=4))
    video = VideoStart(source, 1.0, inversion=0.4)
    assert video.is_used
    assert plan_from_json(plan.with_video(video).to_json()).video == video
    assert "inversion" not in replace(video, inversion=0.0).to_json()
    damaged = plan.with_video(video).to_json()
    damaged["video"]["inversion"] = "1"
    with pytest.raises(ClipError, match="The source video's inversion is damaged"):
        plan_from_json(damaged)
    with pytest.raises(ClipError, match="inversion of a source video must be between 0 and 1"):
        replace(video, inversion=1.5)
