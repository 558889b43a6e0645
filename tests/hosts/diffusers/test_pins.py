"""Pinned frames: they equal their images within the VAE's error, the frames between them move, and the clip joins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.matrix import in_matrix
from support.pocket_clips import CFG, RED, SIZE, near, pixels
from support.unchanged import Portrait

from lib_animatediff import ClipError
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS
from lib_animatediff.hosts.diffusers.start.pins import check_images
from lib_animatediff.hosts.diffusers.start.video import encode_frames
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.sampling.hold import NoiseLevels
from lib_animatediff.sampling.pinned_frames import V_PREDICTION, HeldFrames, PinnedLatents
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.motion_meter import measure
from lib_animatediff.video.source import Source

FRAMES, SEED = 6, 11
MOVING = 4e-4  # mean change of luminance in linear light, 0 to 1: four times what counts as still


def rendered(pipeline, motion, pins, *, steps=4, sampler="ddim", prompt=RED, cfg=CFG, video=None, **settings):
    return animate(
        pipeline,
        motion,
        prompt=prompt,
        seed=settings.pop("seed", SEED),
        settings=parse_settings({"frames": FRAMES} | settings),
        pins=pins,
        video=video,
        size=SIZE,
        steps=steps,
        cfg=cfg,
        sampler=sampler,
    )


@pytest.fixture(scope="module")
def images(pipeline, motion, tmp_path_factory):
    """Frames of a clip of another seed, which the model could have made."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for index, image in enumerate(rendered(pipeline, motion, None, steps=8, seed=3)):
        paths.append(folder / f"{index}.png")
        image.save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def ends(images):
    return PinnedFrames((Pin(0, images[0]), Pin(FRAMES - 1, images[-1])))


@torch.no_grad()
def as_the_vae_shows(pipeline, paths):
    like = torch.empty(len(paths), 4, SIZE[1] // 8, SIZE[0] // 8, dtype=pipeline.dtype)
    latents = encode_frames(pipeline, map(Image.open, paths), like)
    shown = [pipeline.vae.decode(row[None] / pipeline.vae.config.scaling_factor).sample for row in latents]
    return pixels(pipeline.image_processor.postprocess(torch.cat(shown), output_type="pil"))


def assert_pinned_and_moving(pipeline, made, pins):
    found = pixels(made)
    assert near(found[pins.frames], as_the_vae_shows(pipeline, [pin.path for pin in pins.pins]), 0)
    changes = measure(made).changes
    between = [change for frame, change in enumerate(changes) if not {frame, frame + 1} <= set(pins.frames)]
    assert len(between) >= 3  # at least two other frames
    assert min(between) > MOVING


@pytest.mark.parametrize(
    "sampler",
    [name if name == "ddim" else pytest.param(name, marks=pytest.mark.matrix) for name in SAMPLERS],
)
def test_a_pinned_frame_equals_its_image_and_the_others_move(pipeline, motion, ends, sampler):
    before = Portrait(pipeline.unet)
    made = rendered(pipeline, motion, ends, sampler=sampler)
    before.assert_unchanged()
    assert_pinned_and_moving(pipeline, made, ends)
    assert near(pixels(made), pixels(rendered(pipeline, motion, ends, sampler=sampler)), 0)
    alone = pixels(rendered(pipeline, motion, None, sampler=sampler))
    assert not near(pixels(made)[2:4], alone[2:4], 8)  # the others follow the images


@pytest.mark.parametrize(
    "options",
    [
        in_matrix({"cfg": 1.0}),
        {"guidance_end": 0.5},
        {"freeinit_enable": True, "freeinit_iters": 2},
        in_matrix({"frames": 10, "context_length": 4, "overlap": 1}),
        {"frames": 10, "context_length": 4, "overlap": 1, "closed_loop": "A"},
        {"prompt": f"0: {RED}\n5: a blue cross moving left"},
        {"reuse": 2, "steps": 8},
    ],
    ids=lambda options: " ".join(options),
)
def test_pins_hold_under_every_other_feature(pipeline, motion, images, options):
    pins = PinnedFrames((Pin(0, images[0]), Pin(4, images[4])))
    before = Portrait(pipeline.unet)
    made = rendered(pipeline, motion, pins, **options)
    before.assert_same_objects()
    assert_pinned_and_moving(pipeline, made, pins)


def test_the_unet_sees_images_without_noise_at_timestep_0(pipeline, motion, ends, images):
    seen = []

    def note(_module, args):
        seen.append(args)

    with pipeline.unet.time_proj.register_forward_pre_hook(note):
        rendered(pipeline, motion, replace(ends, inversion=0.0), steps=3)
    rows = [args[0].tolist() for args in seen]
    assert [row[0] for row in rows] == [0, 0, 0]
    assert all(row[:FRAMES] == row[FRAMES:] for row in rows)
    steps = [row[1] for row in rows]
    assert steps == sorted(steps, reverse=True)
    assert all(row[:FRAMES] == [0, *[step] * (FRAMES - 2), 0] for row, step in zip(rows, steps, strict=True))
    seen.clear()
    with pipeline.unet.conv_in.register_forward_pre_hook(note):
        rendered(pipeline, motion, replace(ends, inversion=0.0), steps=3)
    like = torch.empty(2, 4, 8, 8)
    clean = encode_frames(pipeline, map(Image.open, (images[0], images[-1])), like)
    assert all(torch.equal(args[0][[0, FRAMES - 1, FRAMES, -1]], clean.repeat(2, 1, 1, 1)) for args in seen)


def test_no_feature_of_a_held_frame_is_reused_when_it_is_free(pipeline, motion, images):
    """Ten steps with every second one full: 0, 2, 4, 6, 8 and the last; and 3, the first one without the pin."""
    full, step = [], [-1]
    with (
        pipeline.unet.conv_in.register_forward_pre_hook(lambda *_: step.__setitem__(0, step[0] + 1)),
        pipeline.unet.mid_block.resnets[0].conv1.register_forward_pre_hook(lambda *_: full.append(step[0])),
    ):
        pins = PinnedFrames((Pin(0, images[0]),), strength=0.3, inversion=0.0)
        rendered(pipeline, motion, pins, steps=10, reuse=2)
    assert 3 in full
    assert 1 not in full
    assert len(full) < 10


def test_a_soft_pin_guides_its_frame(pipeline, motion, images):
    exact, soft = (PinnedFrames((Pin(0, images[0]),), strength=strength) for strength in (1.0, 0.5))
    seen = []
    with pipeline.unet.time_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0][0].item())):
        made = pixels(rendered(pipeline, motion, soft))
    assert [step > 0 for step in seen[-4:]] == [False, False, True, True]
    held, alone = pixels(rendered(pipeline, motion, exact)), pixels(rendered(pipeline, motion, None))
    assert not near(made[:1], held[:1], 2)
    distances = [(made[0] - other[0]).float().pow(2).mean() for other in (held, alone)]
    assert distances[0] < distances[1] / 4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_what_the_sampler_gets_leads_to_the_image(prediction):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 4, 2, 2, generator=generator)
    levels = torch.linspace(0.999, 0.01, 1000)
    held = HeldFrames()
    pinned = PinnedLatents(PinnedFrames((Pin(1, None),)), image, 3, None)
    held.begin(pinned, NoiseLevels(levels), predicts_velocity=prediction == V_PREDICTION)
    x, output = (torch.randn(6, 4, 2, 2, generator=generator) for _ in range(2))
    (rows, timesteps), _ = held.before(None, (x, torch.tensor(700)), {})
    assert timesteps.tolist() == [700, 0, 700, 700, 0, 700]
    assert torch.equal(rows[[1, 4]], image.repeat(2, 1, 1, 1))
    (found,) = held.after(None, (), (output,))
    signal = levels[700]
    clean = (
        (x - (1 - signal).sqrt() * found) / signal.sqrt()
        if prediction == "epsilon"
        else signal.sqrt() * x - (1 - signal).sqrt() * found
    )
    assert torch.allclose(clean[[1, 4]], image.repeat(2, 1, 1, 1), atol=1e-4)
    assert torch.equal(found[[0, 2, 3, 5]], output[[0, 2, 3, 5]])


def test_a_preview_has_the_pins_of_its_frame(pipeline, motion, images):
    pins = PinnedFrames((Pin(0, images[2]),))
    assert near(pixels(rendered(pipeline, motion, pins, preview=True)), as_the_vae_shows(pipeline, [images[2]]), 0)
    later = PinnedFrames((Pin(3, images[2]),))
    made = rendered(pipeline, motion, later, preview=True)
    assert near(pixels(made), pixels(rendered(pipeline, motion, None, preview=True)), 0)


def test_a_video_is_restyled_with_pinned_frames(pipeline, motion, images):
    video = VideoStart(Source(images[0].parent), 0.5)
    pins = PinnedFrames((Pin(0, images[3]),))
    made = pixels(rendered(pipeline, motion, pins, video=video))
    assert near(made[:1], as_the_vae_shows(pipeline, [images[3]]), 0)
    assert not near(made[1:], pixels(rendered(pipeline, motion, None, video=video))[1:], 2)


def seams(pipeline, motion, pins, **options):
    made = rendered(pipeline, motion, pins, frames=16, steps=25, **options)
    return measure(made, pins.borders(16)).worst_seam


@pytest.mark.matrix
@pytest.mark.parametrize("seed", [2, 3])
def test_inverted_noise_joins_the_clip_to_its_image(pipeline, motion, tmp_path, seed):
    """The change beside the image: 1.4 and 4.0 times the usual one with it, 3.1 and 7.5 times without."""
    first, *_ = rendered(pipeline, motion, None, frames=16, steps=25, seed=seed)
    first.save(tmp_path / "a.png")
    pins = PinnedFrames((Pin(0, tmp_path / "a.png"),))
    smooth, plain = (seams(pipeline, motion, replace(pins, inversion=share), seed=seed + 100) for share in (0.7, 0.0))
    assert smooth < 0.7 * plain


@pytest.mark.matrix
def test_a_continued_clip_joins_better_than_one_that_begins_anew(pipeline, motion, tmp_path):
    """The first half of a clip goes on. The bar of 1.5 is missed where the subject hardly moves: 4.4 with seed 4."""
    continued, anew = [], []
    for seed in range(2, 8):
        earlier = list(rendered(pipeline, motion, None, frames=16, steps=25, seed=seed))[:8]
        for index, image in enumerate(earlier):
            image.save(tmp_path / f"{index}.png")
        pins = PinnedFrames(tuple(Pin(index, tmp_path / f"{4 + index}.png") for index in range(4)))
        for found, given in ((continued, pins), (anew, None)):
            made = rendered(pipeline, motion, given, frames=16, steps=25, seed=seed + 100)
            found.append(measure([*earlier, *list(made)[4:]], [8]).worst_seam)
    assert all(one < other for one, other in zip(continued, anew, strict=True))
    assert sum(one < 1.5 for one in continued) >= len(continued) / 2


def test_what_cannot_be_pinned_is_refused_before_sampling(pipeline, motion, images, tmp_path):
    pin = PinnedFrames((Pin(0, images[0]),))
    with pytest.raises(ClipError, match="cannot apply pinned frames"):
        rendered(pipeline, Text2VideoZero(), pin)
    with pytest.raises(ClipError, match=r"There is no frame 40 for 0.png: the clip has 16 frames, 0 to 15"):
        rendered(pipeline, motion, PinnedFrames((Pin(40, images[0]),)), frames=16)
    with pytest.raises(ClipError, match="Frame 2 has two images"):
        PinnedFrames((Pin(2, images[0]), Pin(2, images[1])))
    for options, message in (
        ({"strength": 0.0}, "strength of pinned frames must be above 0"),
        ({"inversion": 1.0}, "inversion of pinned frames must be from 0 to below 1"),
        ({"fit": "tile"}, "fit must be one of crop, pad, scale"),
        ({"pins": ()}, "need at least one image"),
    ):
        with pytest.raises(ClipError, match=message):
            replace(pin, **options)
    (tmp_path / "b.png").write_bytes(images[0].read_bytes()[:90])
    with pytest.raises(ClipError, match=r"b\.png"):
        rendered(pipeline, motion, PinnedFrames((Pin(0, tmp_path / "b.png"),)))
    plan = plan_clip(parse_settings({"frames": 2}), Sampling())
    with pytest.raises(ClipError, match="pins would have no effect together with a plan"):
        animate(pipeline, plan, pins=pin)


def test_the_plan_is_the_job_with_its_pins(images):
    plan = plan_clip(parse_settings({"frames": 8}), Sampling(steps=4))
    pins = PinnedFrames((Pin(7, images[1], 0), Pin(0, images[0])), 0.5, 0.6, "pad")
    assert pins.frames == [0, 7]
    pinned = plan.with_pins(pins)
    assert plan_from_json(pinned.to_json()).pins == pins
    assert plan_from_json(plan.to_json()).pins is None
    assert len({plan.id, pinned.id, plan.with_pins(replace(pins, inversion=0.5)).id}) == 3
    check_images(plan)
    for path, value in ((("frames", 0, "frame"), "0"), (("strength",), None), (("frames",), {}), (("fit",), 3)):
        damaged = pinned.to_json()
        *inner, last = path
        place = damaged["pins"]
        for key in inner:
            place = place[key]
        place[last] = value
        with pytest.raises(ClipError, match="The pinned frames are damaged"):
            plan_from_json(damaged)
