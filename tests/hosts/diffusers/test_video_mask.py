"""Strength per frame and per region, masks and inpainting checkpoints: what is held, what changes, what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.clip_files import write_film
from support.control_files import write_pocket_controlnet
from support.matrix import in_matrix
from support.pocket_clips import CFG, RED, SIZE, near, new_pipeline, pixels

from lib_animatediff import ClipError, ControlUnit
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS, new_sampler
from lib_animatediff.hosts.diffusers.start.held import HeldParts
from lib_animatediff.hosts.diffusers.start.video import StartLatents, check_video
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.choosing import choose_video
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.sampling.hold import feathered, first_steps, strengths_of
from lib_animatediff.video.mask import VideoMask
from lib_animatediff.video.source import Source, over_white, source_frames

FRAMES, STEPS, SEED = 4, 4, 3
COLOURS = [(230, 40, 40), (40, 200, 60), (50, 60, 220), (220, 210, 60)]
ALONE = {"effect": "0"}  # frames do not see each other
LEFT = (0, 0, 24, 64)  # the part of a mask that is white
FEW_SAMPLERS = [name if name in ("ddim", "dpm++2m") else in_matrix(name) for name in SAMPLERS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


@pytest.fixture(scope="module")
def source(folder):
    images = [Image.new("RGB", SIZE, colour) for colour in COLOURS]
    return Source(write_film(folder / "a.mkv", images, codec="ffv1", pix_fmt="bgr0"))


def rectangle(box=LEFT, level=255, size=SIZE):
    image = Image.new("L", size)
    image.paste(level, box)
    return image


@pytest.fixture(scope="module")
def half(folder):
    """One image, white on the left."""
    rectangle().save(folder / "half.png")
    return folder / "half.png"


def rendered(pipeline, motion, video, *, steps=STEPS, sampler="ddim", pins=None, controls=(), cfg=1.0, **settings):
    made = animate(
        pipeline,
        motion,
        prompt=RED,
        seed=SEED,
        settings=parse_settings({"frames": FRAMES} | settings),
        video=video,
        pins=pins,
        controls=controls,
        size=SIZE,
        steps=steps,
        cfg=cfg,
        sampler=sampler,
    )
    return pixels(made)


def originals(source, frames=FRAMES):
    return pixels([over_white(image) for image in source_frames(source, SIZE, frames)])


# --------------------------------------------------------------------------------------------------------------------
# strength per frame


@pytest.mark.parametrize("sampler", [name if name == "ddim" else in_matrix(name) for name in SAMPLERS])
def test_the_same_strength_in_all_frames_is_one_number_bit_for_bit(pipeline, motion, source, sampler):
    one = rendered(pipeline, motion, VideoStart(source, 0.6), sampler=sampler)
    assert near(rendered(pipeline, motion, VideoStart(source, (0.6,) * 3), sampler=sampler), one, 0)


@pytest.mark.parametrize("sampler", FEW_SAMPLERS)
def test_each_frame_begins_at_its_own_step(pipeline, motion, source, sampler):
    """At 0 a frame is its source as the VAE shows it. The strongest one is what it is without weaker ones beside it."""
    travelling = rendered(pipeline, motion, VideoStart(source, (0.8, 0.4, 0.0)), sampler=sampler, **ALONE)
    strong, none = (
        rendered(pipeline, motion, VideoStart(source, strength), sampler=sampler, **ALONE) for strength in (0.8, 0.0)
    )
    assert near(travelling[2:], none[2:], 0)
    assert near(travelling[:1], strong[:1])
    weak = rendered(pipeline, motion, VideoStart(source, 0.4), sampler=sampler, **ALONE)
    assert not near(travelling[1:2], none[1:2], 2)
    if sampler in ("ddim", "euler"):  # nothing is drawn on the way, and no step looks back
        assert near(travelling[1], weak[1])


def test_frames_that_see_each_other_still_keep_theirs(pipeline, motion, source):
    travelling = rendered(pipeline, motion, VideoStart(source, (0.8, 0.0)))
    none = rendered(pipeline, motion, VideoStart(source, 0.0))
    assert near(travelling[1:], none[1:], 0)
    assert not near(travelling[:1], none[:1], 20)
    windows = {"context_length": 3, "overlap": 1}
    assert near(rendered(pipeline, motion, VideoStart(source, (0.8, 0.0)), **windows)[1:], none[1:], 0)
    twice = {"freeinit_enable": True, "freeinit_iters": 2, "freeinit_coarse": True}
    assert near(rendered(pipeline, motion, VideoStart(source, (0.8, 0.0)), **twice)[1:], none[1:], 0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_what_a_sampler_gets_for_a_held_part_leads_to_the_image(pipeline, source, sampler, kind):
    """From noise alone, with a network that is all wrong, one step after the other."""
    scheduler = new_sampler(sampler, pipeline.scheduler, None)
    scheduler.register_to_config(prediction_type=kind)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 4, 8, 8, generator=generator)
    held = HeldParts(StartLatents(VideoStart(source, (1.0, 0.0)), image), scheduler)
    held.begin_run(6)
    scheduler.set_timesteps(6)
    latents = torch.randn(2, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    for held.step, timestep in enumerate(scheduler.timesteps):
        given = scheduler.scale_model_input(latents, timestep)
        wrong = torch.randn(2, 4, 8, 8, generator=generator)
        predicted = held.after(None, (given, timestep), (wrong,))[0]
        assert torch.equal(predicted[0], wrong[0])
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    assert (latents[1] - image[1]).abs().max() < 0.2  # TCD ends at a timestep of 0, which has some noise
    assert torch.equal(held.in_result(latents)[1], image[1])
    assert torch.equal(held.in_result(latents)[0], latents[0])


def test_first_steps_are_those_of_image_to_image(source):
    for steps in (1, 4, 10, 25):
        for strength in (0.0, 0.2, 0.35, 0.5, 0.99, 1.0):
            assert int(first_steps(strengths_of([strength]), steps)) == VideoStart(source, strength).skipped(steps)


# --------------------------------------------------------------------------------------------------------------------
# masks


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_exactly_pinned_frames_stay_and_others_keep_the_video(pipeline, motion, source, half, tmp_path, strength):
    Image.new("RGB", SIZE, (200, 30, 30)).save(tmp_path / "red.png")
    pins = PinnedFrames((Pin(1, tmp_path / "red.png"),), strength=strength)
    masked = rendered(pipeline, motion, VideoStart(source, 0.8, VideoMask(half, feather=0)), pins=pins)
    outside = pixels([Image.open(half)])[0, ..., 0] == 0
    kept = [torch.equal(frame[outside], own[outside]) for frame, own in zip(masked, originals(source), strict=True)]
    assert kept == [True, strength < 1, True, True]


@pytest.mark.parametrize(("feather", "strength"), [(0, 0.6), (4, 1.0)])
def test_outside_the_mask_every_pixel_is_the_sources(pipeline, motion, source, half, feather, strength):
    made = rendered(pipeline, motion, VideoStart(source, strength, VideoMask(half, feather=feather)))
    wanted = originals(source)
    assert torch.equal(made[:, :, 24:], wanted[:, :, 24:])
    plain = rendered(pipeline, motion, VideoStart(source, 0.0))
    inside = (made - plain)[:, :, feather : 24 - feather]
    assert (inside.abs().flatten(1).max(1).values > 20).all()
    if feather == 0:
        assert not torch.equal(made[:, :, 23], wanted[:, :, 23])
    else:  # the last column has a quarter of the change
        assert (made[:, :, 23] - wanted[:, :, 23]).abs().max() <= 0.26 * 255


def test_black_keeps_the_latents_while_white_is_made_as_without_a_mask(pipeline, motion, folder, source):
    """A mask that is white or black all over is none, or none of it is repainted."""
    rectangle((0, 0, 64, 64)).save(folder / "white.png")
    rectangle((0, 0, 0, 0)).save(folder / "black.png")
    plain = rendered(pipeline, motion, VideoStart(source, 0.6))
    white = rendered(pipeline, motion, VideoStart(source, 0.6, VideoMask(folder / "white.png", feather=0)))
    assert near(white, plain, 0)
    black = rendered(pipeline, motion, VideoStart(source, 0.6, VideoMask(folder / "black.png")))
    assert torch.equal(black, originals(source))
    inverted = rendered(
        pipeline, motion, VideoStart(source, 0.6, VideoMask(folder / "black.png", invert=True, feather=0))
    )
    assert near(inverted, plain, 0)


def test_grey_is_a_part_of_the_strength(pipeline, motion, folder, source):
    rectangle((0, 0, 64, 64), 128).save(folder / "grey.png")
    grey = rendered(pipeline, motion, VideoStart(source, 0.8, VideoMask(folder / "grey.png", feather=0)), **ALONE)
    assert near(grey, rendered(pipeline, motion, VideoStart(source, 0.4), **ALONE))


def test_a_video_of_masks_has_one_for_each_frame(pipeline, motion, folder, source):
    boxes = [LEFT, (0, 0, 0, 0), (40, 0, 64, 64), (0, 0, 64, 24)]
    masks = [rectangle(box).convert("RGB") for box in boxes]
    film = write_film(folder / "masks.mkv", masks, codec="ffv1", pix_fmt="bgr0")
    made = rendered(pipeline, motion, VideoStart(source, 0.8, VideoMask(film)))
    same = (made == originals(source)).all(-1)
    for frame, mask in enumerate(masks):
        outside = pixels([mask])[0, ..., 0] == 0
        assert same[frame][outside].all()
        assert (not same[frame][~outside].all()) == bool((~outside).any())
    part = Source(source.path, start=2)  # the masks of the chosen frames
    shown = rendered(pipeline, motion, VideoStart(part, 0.8, VideoMask(film)), frames=2)
    assert (shown == originals(part, 2)).all(-1)[0, :, :40].all()


def test_the_sources_transparency_is_a_mask(pipeline, motion, folder):
    for number in range(2):
        image = Image.new("RGBA", SIZE, (*COLOURS[number], 255))
        image.paste((0, 0, 0, 0), (0, 0, 16, 64))
        (folder / "clear").mkdir(exist_ok=True)
        image.save(folder / "clear" / f"{number}.png")
    clear = Source(folder / "clear")
    made = rendered(pipeline, motion, VideoStart(clear, 0.8, VideoMask()), frames=2)
    assert torch.equal(made[:, :, 16:], originals(clear, 2)[:, :, 16:])
    assert not (made[:, :, :16] == 255).all()
    opaque = rendered(pipeline, motion, VideoStart(clear, 0.8, VideoMask(invert=True)), frames=2)
    assert (opaque[:, :, :16] == 255).all()
    assert not torch.equal(opaque[:, :, 20:], originals(clear, 2)[:, :, 20:])


def test_a_mask_of_another_size_fits_as_the_video_does(pipeline, motion, folder):
    wide = [Image.new("RGB", (128, 64), colour) for colour in COLOURS[:2]]
    film = Source(write_film(folder / "wide.mkv", wide, codec="ffv1", pix_fmt="bgr0"), fit="pad")
    rectangle((0, 0, 128, 128), size=(256, 128)).save(folder / "wide.png")
    made = rendered(pipeline, motion, VideoStart(film, 0.8, VideoMask(folder / "wide.png", feather=0)), frames=2)
    wanted = originals(film, 2)
    same = (made == wanted).all(-1)
    assert same[:, :, 33:].all()  # one column is half white
    assert same[:, :16].all()  # the black edges
    assert same[:, 48:].all()
    assert not same[:, 16:48, :32].all()


def test_a_preview_and_a_pinned_frame_are_what_they_are_without_a_mask(pipeline, motion, folder, source, half):
    made = rendered(pipeline, motion, VideoStart(source, 0.8, VideoMask(half)), preview=True)
    assert torch.equal(made[:, :, 24:], originals(source)[:1, :, 24:])
    Image.new("RGB", SIZE, "white").save(folder / "pin.png")
    pins = PinnedFrames((Pin(1, folder / "pin.png"),))
    pinned = rendered(pipeline, motion, VideoStart(source, 0.8, VideoMask(half)), pins=pins)
    alone = rendered(pipeline, motion, None, pins=pins)
    assert near(pinned[1], alone[1], 0)
    assert torch.equal(pinned[2, :, 24:], originals(source)[2, :, 24:])


@pytest.mark.parametrize("width", [0, 1, 3])
def test_a_feather_lies_inside_the_mask(width):
    mask = torch.zeros(12, 12)
    mask[2:9, 2:] = 0.5
    shares = feathered(mask, width)
    assert (shares[mask == 0] == 0).all()
    row = [float(share) for share in shares[2:9, 8]]
    assert row == pytest.approx([min(1, (1 + min(place, 6 - place)) / max(width, 1)) for place in range(7)])
    assert float(shares[5, -1]) == 1  # the image's edge is none of the mask's


def test_what_a_mask_cannot_be_is_one_sentence_before_sampling(pipeline, motion, folder, source, half):
    calls = []
    Image.new("L", (64, 32)).save(folder / "flat.png")
    short = write_film(folder / "short.mkv", [rectangle().convert("RGB")] * 3, codec="ffv1", pix_fmt="bgr0")
    cases = [
        (VideoMask(folder / "no.png"), "There is no mask"),
        (VideoMask(folder / "flat.png"), "flat.png has 64x32 pixels, another shape than a.mkv with 64x64"),
        (VideoMask(short), "short.mkv has 3 masks for a clip of 4 frames"),
        (VideoMask(), "a.mkv has no transparent pixels in these frames"),
    ]
    with pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1)):
        for mask, words in cases:
            with pytest.raises(ClipError, match=words):
                rendered(pipeline, motion, VideoStart(source, 0.6, mask))
    assert not calls
    with pytest.raises(ClipError, match="feather of a mask must be 0 to 64 pixels, not 65"):
        VideoMask(half, feather=65)
    with pytest.raises(ClipError, match="is an address"):
        VideoMask(Path("https://example.com/a.png"))


def test_the_plan_holds_strengths_and_mask(source, half):
    plan = plan_clip(parse_settings({"frames": 2}), Sampling(steps=10))
    made = plan.with_video(VideoStart(source, (0.7, 0.2), VideoMask(half, invert=True, feather=9)))
    assert plan_from_json(made.to_json()).video == made.video
    assert made.sampled_steps == 7
    clear = plan.with_video(VideoStart(source, 0.5, VideoMask()))
    assert plan_from_json(clear.to_json()).video == clear.video
    ids = {made.id, clear.id, plan.with_video(VideoStart(source, 0.5)).id}
    assert len(ids) == 3
    for name, value in (("denoise", [0.5, "1"]), ("mask", 3), ("mask", {"invert": 1, "feather": 2})):
        damaged = made.to_json()
        damaged["video"][name] = value
        with pytest.raises(ClipError, match=r"The source video's \w+ is damaged"):
            plan_from_json(damaged)
    assert check_video(plan.with_video(VideoStart(source, 0.5, VideoMask(half)))).frames == 2


# --------------------------------------------------------------------------------------------------------------------
# inpainting checkpoints


@pytest.fixture(scope="module")
def inpainting_file(folder):
    """The built-in checkpoint with five more channels, whose weights are 0."""
    state = load_file(POCKET.folder / POCKET.checkpoint)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    state[name] = torch.cat([state[name], torch.zeros_like(state[name][:, :1]).expand(-1, 5, -1, -1)], dim=1)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "inpainting.safetensors")
    return folder / "inpainting.safetensors"


@pytest.fixture(scope="module")
def inpainting(inpainting_file):
    made = host.load_pipeline(inpainting_file, config=POCKET.folder / "config")
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def conditions(inpainting):
    """The further channels of each call."""
    seen = []
    with inpainting.unet.conv_in.register_forward_pre_hook(lambda _layer, args: seen.append(args[0][:, 4:].clone())):
        yield seen


def test_a_preview_of_strengths_knows_no_last_frame(source):
    settings = parse_settings({"video": str(source.path), "denoise": "0: 0.2, 20: 0.8", "preview": True})
    _, video = choose_video(settings, {"video"}, lambda text: (Path(text), text))
    assert video.start.denoise == 0.2


def test_a_control_net_sees_the_latents_alone(pipeline, inpainting, motion, source, half, tmp_path):
    """Its own first layer has four channels, that of the inpainting checkpoint nine."""
    write_pocket_controlnet(tmp_path / "net.safetensors")
    controls = [ControlUnit(tmp_path / "net.safetensors", Source(half))]
    given = {"video": VideoStart(source, 0.6), "controls": controls}
    assert near(rendered(inpainting, motion, **given), rendered(pipeline, motion, **given))


def test_an_inpainting_checkpoint_makes_clips_like_any_other(pipeline, inpainting, motion, source, half):
    """Its further channels have no weight here."""
    pins = PinnedFrames((Pin(0, half),))
    for given in (
        {"video": None},
        {"video": VideoStart(source, 0.6)},
        {"video": VideoStart(source, (0.8, 0.2), VideoMask(half))},
        {"video": None, "pins": pins, "context_length": 3, "overlap": 1},
    ):
        assert near(rendered(inpainting, motion, steps=2, **given), rendered(pipeline, motion, steps=2, **given))


def test_it_sees_the_mask_and_what_the_mask_keeps(inpainting, motion, source, half, conditions):
    rendered(
        inpainting, motion, VideoStart(source, 1.0, VideoMask(half)), steps=1, cfg=CFG, context_length=3, overlap=1
    )
    assert {rows.shape for rows in conditions} == {(6, 5, 8, 8)}  # two streams of three frames
    for rows in conditions:
        assert (rows[:, 0] == (torch.arange(8) < 3).float()).all()
        assert torch.equal(rows[:3], rows[3:])
    with torch.no_grad():
        frames = originals(source).permute(0, 3, 1, 2) / 127.5 - 1
        frames[:, :, :, :24] = 0
        kept = inpainting.vae.encode(frames).latent_dist.mode() * inpainting.vae.config.scaling_factor
    assert (conditions[0][:3, 1:] - kept[:3]).abs().max() < 1e-4
    conditions.clear()
    rendered(inpainting, motion, None, steps=1)
    assert (conditions[0][:, 0] == 1).all()
    assert (conditions[0][1:, 1:] == conditions[0][:1, 1:]).all()


def test_the_channels_are_gone_afterwards(inpainting):
    assert not inpainting.unet._forward_pre_hooks
    assert not inpainting.unet._forward_hooks
    assert new_pipeline().unet.config.in_channels == 4
