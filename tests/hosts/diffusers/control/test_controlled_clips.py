"""Clips that control models steer: as diffusers' own pipeline makes them, frame by frame, whatever else is on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.control_files import t2i_state, write, write_pocket_controlnet
from support.matrix import in_matrix
from support.pocket_clips import CFG, RED, SIZE, TINY, new_motion, new_pipeline
from support.source_files import shades
from support.unchanged import Portrait

from lib_animatediff import ClipError, ControlUnit, Pin
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers import animate as module
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.control.files import read_control_file
from lib_animatediff.hosts.diffusers.control.networks import load_network
from lib_animatediff.hosts.diffusers.pipeline import new_sampler
from lib_animatediff.request.plan import Sampling, add_controls, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.preprocess import canny
from lib_animatediff.video.source import Source
from motion_module import convert_motion_file
from motion_module.temporal_transformer import positional_table

FRAMES, STEPS, SEED = 4, 2, 11
BOUND = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A ControlNet and a T2I adapter for the built-in model, and a folder of images."""
    folder = tmp_path_factory.mktemp("control")
    write_pocket_controlnet(folder / "net.safetensors")
    write(folder / "t2i.pth", t2i_state((64, 64, 64, 64), colours=1))
    (folder / "images").mkdir()
    for number, image in enumerate(shades(FRAMES, SIZE)):
        patterned = image.copy()
        patterned.paste((255, 255, 255), (8 * number, 16, 8 * number + 24, 40))
        patterned.save(folder / "images" / f"{number}.png")
    return folder


def unit(files, model="net.safetensors", **options):
    options.setdefault("source", None if "keys" in options else Source(files / "images"))
    return ControlUnit(files / model, **options)


@pytest.fixture
def latents(pipeline, motion, monkeypatch):
    """Makes a clip: a function `(*units, **settings) -> latents f c h w`."""

    def sampled(
        *units,
        steps=STEPS,
        size=TINY,
        pipeline=pipeline,
        motion=motion,
        say=lambda _line: None,
        prompt=RED,
        **settings,
    ):
        seen = []

        def note(pipeline, latents, *_others):
            seen.append(latents.clone())
            return []

        monkeypatch.setattr(module, "decode_frames", note)
        monkeypatch.setattr(module, "_finish", lambda images, plan, output: images)
        animate(
            pipeline,
            motion,
            prompt=prompt,
            negative_prompt="blue",
            seed=SEED,
            settings=parse_settings({"frames": FRAMES} | settings),
            controls=units,
            size=size,
            steps=steps,
            cfg=CFG,
            say=say,
        )
        return seen[0]

    return sampled


@pytest.fixture(scope="module")
def exact():
    """The pipeline in double precision, so that random weights amplify no rounding."""
    return new_pipeline().to(torch.float64)


@pytest.mark.parametrize(("weight", "start", "end"), [in_matrix(1.0, 0.0, 1.0), (0.7, 0.25, 0.75)])
def test_one_window_is_the_clip_of_diffusers_own_pipeline(exact, files, latents, tmp_path, weight, start, end):
    """With the norm of the motion module over all frames, as diffusers has it for every module."""
    pipeline = exact
    from diffusers import AnimateDiffControlNetPipeline, MotionAdapter

    motion = new_motion()
    for _, transformer in motion.sites():
        transformer.shared_norm = True
    convert_motion_file(POCKET.folder / POCKET.motion, tmp_path / "adapter", to="adapter")
    seeds = (torch.Generator().manual_seed(SEED + frame) for frame in range(FRAMES))
    noise = [torch.randn(1, 4, 8, 8, generator=seed, dtype=torch.float64) for seed in seeds]
    own = unit(files, preprocessor="canny", weight=str(weight), start=start, end=end)
    before = Portrait(pipeline.unet)
    exactly = {"pipeline": pipeline, "motion": motion, "steps": 4, "size": SIZE}
    got = latents(own, **exactly)
    before.assert_unchanged()
    theirs = AnimateDiffControlNetPipeline(
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        unet=pipeline.unet,
        motion_adapter=MotionAdapter.from_pretrained(tmp_path / "adapter"),
        controlnet=load_network(read_control_file(files / "net.safetensors"), pipeline.unet)._network,
        scheduler=new_sampler("ddim", pipeline.scheduler, motion.schedule),
    )
    theirs.set_progress_bar_config(disable=True)
    for layer in theirs.unet.modules():
        if type(layer).__name__ == "SinusoidalPositionalEmbedding":  # made in single precision
            layer.pe.copy_(positional_table(*layer.pe.shape[1:]))
    shown = [canny(Image.open(files / "images" / f"{number}.png")) for number in range(FRAMES)]
    wanted = theirs(
        prompt=RED,
        negative_prompt="blue",
        num_frames=FRAMES,
        width=SIZE[0],
        height=SIZE[1],
        num_inference_steps=4,
        guidance_scale=CFG,
        latents=torch.stack(noise, 2),
        conditioning_frames=shown,
        controlnet_conditioning_scale=weight,
        control_guidance_start=start,
        control_guidance_end=end,
        output_type="latent",
    ).frames[0]
    wanted = wanted.transpose(0, 1)  # they have c f h w
    assert got.dtype is torch.float64
    assert (got - wanted).abs().max() <= 1e-8
    assert (got - latents(**exactly)).abs().max() > 0.05


@pytest.mark.parametrize("model", ["net.safetensors", "t2i.pth"])
def test_frames_without_weight_are_those_of_no_control(files, latents, model):
    """Where the motion effect is 0, so that frames do not see each other."""
    plain = latents(effect="0")
    got = latents(unit(files, model, weight="0, 0, 1"), effect="0")
    assert torch.equal(got[:2], plain[:2])
    assert all((got[frame] - plain[frame]).abs().max() > 1e-3 for frame in (2, 3))
    everywhere = latents(unit(files, model), effect="0")
    assert (got[2:] - everywhere[2:]).abs().max() <= BOUND


@pytest.mark.parametrize("model", ["net.safetensors", "t2i.pth"])
def test_each_frame_follows_its_own_image_in_windows(files, latents, model):
    settings = {"effect": "0", "frames": 6, "context_length": 3, "overlap": 1}
    both = latents(unit(files, model, fill="loop"), **settings)
    for number in (0, 3):
        alone = latents(unit(files, model, source=Source(files / "images" / f"{number}.png")), **settings)
        places = [frame for frame in range(6) if frame % FRAMES == number]
        others = [frame for frame in range(6) if frame % FRAMES != number]
        assert (both[places] - alone[places]).abs().max() <= 1e-4
        assert min((both[frame] - alone[frame]).abs().max() for frame in others) > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_end": 0.5},
        {"freeinit_enable": True, "freeinit_iters": 2},
        {"frames": 6, "context_length": 4, "overlap": 1, "closed_loop": "A"},
        {"prompt": f"0: {RED}\n3: a blue cross"},
        {"reuse": 2, "steps": 8},
        {"preview": True},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_control_acts_beside_every_other_feature(pipeline, files, latents, settings):
    before = Portrait(pipeline.unet)
    plain = latents(**settings)
    got = latents(unit(files, weight="0: 1, -1: 0.5", end=0.75), unit(files, "t2i.pth"), **settings)
    before.assert_same_objects()
    assert got.shape == plain.shape
    assert (got - plain).abs().max() > 1e-2


def test_key_images_hold_around_their_frames(files, latents):
    """At a key the weight is 1, beside it the half, and nothing from the reach on."""
    images = [files / "images" / f"{number}.png" for number in (1, 3)]
    settings = {"effect": "0", "frames": 9}
    got = latents(unit(files, keys=(Pin(1, images[0]), Pin(6, images[1])), reach=2), **settings)
    plain = latents(**settings)
    for key, image in ((1, images[0]), (6, images[1])):
        for weight, frames in (("1", (key,)), ("0.5", (key - 1, key + 1))):
            alone = latents(unit(files, source=Source(image), weight=weight), **settings)
            assert all((got[frame] - alone[frame]).abs().max() <= BOUND for frame in frames)
    assert torch.equal(got[[3, 4, 8]], plain[[3, 4, 8]])


def test_a_line_says_what_happens_to_frames_beyond_the_images(files, latents):
    said = []
    latents(unit(files), unit(files, source=Source(files / "images" / "0.png")), frames=5, say=said.append)
    assert "images has 4 images for 5 frames: the last one stays to the end." in said
    assert len([line for line in said if "images for" in line]) == 1  # nothing about one image for all frames


def test_the_plan_holds_the_units_and_comes_back_from_json(files):
    units = (
        unit(files, weight="0: 1, 3: 0.4", preprocessor="canny", end=0.5),
        unit(files, keys=(Pin(2, files / "a.png"),)),
    )
    plan = add_controls(plan_clip(parse_settings({"frames": FRAMES}), Sampling("a disc")), units)
    again = plan_from_json(plan.to_json())
    assert again.controls == units
    assert again.id == plan.id != replace(plan, controls=()).id


def test_what_cannot_be_right_is_refused_before_sampling(pipeline, motion, files, latents):
    with pytest.raises(ClipError, match="has 4 images for a clip of 6 frames"):
        latents(unit(files, fill="refuse"), frames=6)
    with pytest.raises(ClipError, match="There is no frame 4 for the key image"):
        latents(unit(files, keys=(Pin(4, files / "images" / "0.png"),)))
    with pytest.raises(ClipError, match="motion module"):
        animate(pipeline, Text2VideoZero(), controls=[unit(files)], size=SIZE, steps=2)
    plan = add_controls(plan_clip(parse_settings({"frames": FRAMES}), Sampling("a disc")), [unit(files)])
    with pytest.raises(ClipError, match="controls would have no effect together with a plan"):
        animate(pipeline, plan, controls=[unit(files)], size=SIZE)
