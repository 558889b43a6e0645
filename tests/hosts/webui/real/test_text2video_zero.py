"""Text2Video-Zero in the real WebUI: clips without a motion module, by every sampler, on every base, in every pass."""

from __future__ import annotations

from itertools import pairwise

import numpy
import pytest
from PIL import Image
from support.webui_real.clips import clip_payload
from support.webui_real.hosts import chosen_host
from support.webui_real.server import LORA, base64_image
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    arrays,
    counted,
    decoded,
    frames_of,
    hooks_in_the_unet,
    painted,
    portrait,
    preview_of,
    same_picture_after,
    trouble,
    watched,
)

from lib_animatediff.request.masks import pack_mask

ZERO = {"model": "Text2Video-Zero"}
SHORT = {**ZERO, "frames": 3, "zero_x": 64}  # a whole cell of the small latents, where the default is less
STEPS = {"steps": 8}
# Those that forget their former steps: frame 0 is what it is alone, since it looks at itself.
FORGETTING = [
    "Euler", "Euler a", "Heun", "DPM2", "DPM2 a", "DPM++ SDE", "DPM++ 2S a", "Restart", "LCM", "DDIM", "DDIM CFG++",
    "DPM fast",
]  # fmt: skip
# Those that learn from them begin to do so anew, where all frames do.
LEARNING = ["DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "LMS", "PLMS", "UniPC", "DPM adaptive"]
BEGIN, RENOISED = 881, 941
NEARLY = 2e-4  # of the range: a frame among others is computed in other matrix products than alone
HYPERTILE = pytest.mark.of_a1111("HyperTile of Forge and reForge is a script, without these options")
ROUNDED = pytest.mark.of_a1111("Forge and reForge round the timesteps of this sampler, from which the test computes")


def picture_of(server, **payload) -> numpy.ndarray:
    return preview_of(server, ZERO, **payload)


@pytest.mark.shows("Text2Video-Zero: every sampler of the list makes a clip")
@pytest.mark.parametrize("sampler", [name for name in (*FORGETTING, *LEARNING) if name not in chosen_host().without])
def test_every_sampler_makes_a_clip(studio, sampler):
    """Frame 0 is the picture of its seed where that can be; the others are others, none like the picture of theirs."""
    request = {"sampler_name": sampler, **STEPS}
    frames = frames_of(studio, SHORT, **request)
    assert numpy.isfinite(frames).all()
    picture, other = (picture_of(studio, **request, seed=seed) for seed in (1, 2))
    if sampler in FORGETTING:
        assert abs(frames[0] - picture).max() < NEARLY
    assert abs(frames[0] - picture).mean() < 0.5 * abs(other - picture).mean()
    assert min(abs(a - b).mean() for a, b in pairwise(frames)) > 5e-3
    assert abs(frames[1] - other).mean() > 5e-3


@pytest.mark.shows(
    "Text2Video-Zero: frame 0 is the picture of its seed, whatever the sampler draws, with AND, "
    "long and changing prompts"
)
@pytest.mark.parametrize(
    "options",
    [
        {"sampler_name": "Euler a", "override_settings": {"sgm_noise_multiplier": True}},
        {"sampler_name": "DDIM", "eta": 0.7},
        {"sampler_name": "Euler", "scheduler": "Karras"},
        {"sampler_name": "DDIM", "override_settings": {"sd_noise_schedule": "Zero Terminal SNR"}},
        {"sampler_name": "DPM++ 2S a", "override_settings": {"eta_noise_seed_delta": 31337}},
        {"sampler_name": "Euler a", "subseed": 9, "subseed_strength": 0.4},
        {"prompt": "a [red cat:blue dog:4] in [the sun|rain]"},
        {"prompt": "a cat AND a dog", "override_settings": {"batch_cond_uncond": False}},
        {"prompt": "a cat AND a dog AND a house " + "red garden " * 40},
        {"prompt": "red garden " * 40},
        {"s_min_uncond": 5.0},
        {"cfg_scale": 1},
        {"prompt": f"a cat <lora:{LORA}:1>"},
    ],
    ids=lambda options: " ".join(map(str, options.values()))[:60],
)  # fmt: skip
def test_frame_0_is_the_picture_of_its_seed(studio, options):
    request = {"sampler_name": "Euler a", **STEPS, **options}
    frames = frames_of(studio, SHORT, **request)
    assert abs(frames[0] - picture_of(studio, **request)).max() < FLOAT_ORDER
    assert abs(frames[1] - frames[0]).mean() > 5e-3


@pytest.mark.shows("Text2Video-Zero: frames begin where the paper says")
@pytest.mark.parametrize("sampler", ["DDIM", *(pytest.param(name, marks=ROUNDED) for name in ("Euler", "Euler a"))])
def test_frames_begin_where_the_paper_says(studio, sampler):
    """x^k = sqrt(P) Warp(x^0, k * shift) + sqrt(1 - P) eps^k, in what the UNet is given, which is the paper's x."""
    clip = {**SHORT, "zero_x": -64, "zero_y": 64}
    request = {"sampler_name": sampler, "steps": 50}  # so many that levels are met
    alone = dict(inputs(studio, {**ZERO, "preview": True}, **request)[0])
    calls, abar = inputs(studio, clip, **request)
    restart = next(place for place in range(1, len(calls)) if calls[place][0] > calls[place - 1][0])
    level, begun = calls[restart]
    lower = max(timestep for timestep in alone if timestep <= BEGIN)
    assert level == max(timestep for timestep in alone if timestep <= RENOISED)
    assert calls[restart - 1][0] >= lower
    assert abs(begun[0] - alone[level][0]).max() < NEARLY
    share = left(abar, level) / left(abar, lower)
    for number in (1, 2):
        ((_, noise), *_), _ = inputs(studio, {**ZERO, "preview": True}, sampler_name="DDIM", steps=2, seed=1 + number)
        mirrored = numpy.pad(alone[lower][0], ((0, 0), (0, number), (number, 0)), mode="symmetric")
        moved = mirrored[:, number:, :8]
        assert abs(begun[number] - (numpy.sqrt(share) * moved + numpy.sqrt(1 - share) * noise[0])).max() < NEARLY


def inputs(server, clip: dict, **payload) -> tuple[list[tuple[float, numpy.ndarray]], numpy.ndarray]:
    """Timestep and cond's latents of each call of the UNet for a clip, and the noise levels of all timesteps."""
    frames = len(frames_of(server, clip, **payload, **trouble(conditions=True)))
    *calls, abar = arrays(server, "inputs")
    return [(float(step[0]), x[:frames]) for x, step in zip(calls[::2], calls[1::2], strict=True)], abar


def left(abar: numpy.ndarray, timestep: float) -> float:
    return float(numpy.exp(numpy.interp(timestep, range(len(abar)), numpy.log(abar))))


@pytest.mark.shows("Text2Video-Zero: frame 0 reaches all frames, others reach themselves")
def test_others_do_not_reach_frame_0(studio):
    frames = frames_of(studio, SHORT, **STEPS)
    others = frames_of(studio, {**SHORT, "frame_seeds": "1, 50, 3"}, **STEPS)
    assert abs(others[[0, 2]] - frames[[0, 2]]).max() < NEARLY
    assert abs(others[1] - frames[1]).mean() > 1e-3
    first = frames_of(studio, {**SHORT, "frame_seeds": "50, 2, 3"}, **STEPS)
    assert abs(first - frames).mean(axis=(1, 2, 3)).min() > 1e-3


@pytest.mark.shows("Text2Video-Zero: long clips in chunks, batches")
def test_a_long_clip_in_chunks_is_that_of_one_piece(studio):
    clip = {**ZERO, "frames": 10}
    whole = frames_of(studio, clip, **STEPS)
    assert abs(frames_of(studio, {**clip, "context_length": 4}, **STEPS) - whole).max() < FLOAT_ORDER
    two = frames_of(studio, clip, **STEPS, batch_size=2)
    assert abs(two[:10] - whole).max() < FLOAT_ORDER
    second = frames_of(studio, clip, **STEPS, seed=11)
    assert abs(two[10:] - second).max() < FLOAT_ORDER


@pytest.mark.shows("Text2Video-Zero: its settings")
def test_every_setting_of_it_changes_the_clip(studio):
    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (0, 0, 4, 8))
    ways = [
        {}, {"zero_x": -64}, {"zero_y": 64}, {"zero_x": 20}, {"noise": "constant"},
        {"zero_smoothing": 0.6, "motion_mask": pack_mask(mask)},
    ]  # fmt: skip
    steps = {"steps": 20}  # of which some lie between the two levels
    clips = [frames_of(studio, {**SHORT, **way}, **steps) for way in ways]
    for clip in clips:
        assert abs(clip[0] - clips[0][0]).max() < FLOAT_ORDER
    clips.append(frames_of(studio, SHORT, **steps, prompt="a cat\n0: red\n2: blue"))
    assert min(abs(one - other).max() for i, one in enumerate(clips) for other in clips[:i]) > 1e-3


@pytest.mark.shows("Text2Video-Zero: interrupts and failures in both passes, progress")
@pytest.mark.parametrize("call", [1, 2, 4, 6])
def test_an_interrupt_is_heeded_in_both_passes(studio, call):
    whole = frames_of(studio, SHORT, **STEPS)
    frames, calls = counted(studio, SHORT, interrupt_at=call, **STEPS)
    assert calls == call
    assert len(frames) == 3
    assert not hooks_in_the_unet(portrait(studio))
    assert (frames_of(studio, SHORT, **STEPS) == whole).all()


@pytest.mark.shows("Text2Video-Zero: interrupts and failures in both passes, progress")
def test_the_progress_does_not_run_back(studio):
    steps = 30

    def state() -> dict:
        return studio.api("GET", "/sdapi/v1/progress?skip_current_image=true").json()["state"]

    told = watched(studio, state, {**ZERO, "frames": 8}, steps=steps)
    seen = [now for now in told if now["job_count"] and now["sampling_steps"] == steps]
    assert {now["job_count"] for now in seen} == {1}
    done = [now["sampling_step"] for now in seen if now["job_no"] == 0]
    assert done == sorted(done)
    assert len(set(done)) > 5


@pytest.mark.shows("Text2Video-Zero: hires fix and img2img look at frame 0")
@pytest.mark.parametrize(
    "hires", [{"hr_upscaler": "Latent"}, {"hr_upscaler": "Latent (nearest)", "hr_sampler_name": "DDIM"}]
)
def test_hires_fix_looks_at_frame_0(studio, hires):
    request = {"sampler_name": "Euler a", **HIRES, **hires}
    frames = frames_of(studio, SHORT, **request)
    assert frames.shape[-2:] == (128, 128)
    assert abs(frames[0] - picture_of(studio, **request)).max() < FLOAT_ORDER
    assert abs(frames[1] - frames[0]).mean() > 5e-3
    assert not hooks_in_the_unet(portrait(studio))


@pytest.mark.shows("Text2Video-Zero: hires fix and img2img look at frame 0")
def test_img2img_looks_at_frame_0(studio):
    """All frames begin with the picture, each with noise of its own: frame 0 is img2img's own, which others keep to."""
    made = {}
    for name, clip in (("clip", SHORT), ("preview", {**ZERO, "preview": True}), ("alone", {**SHORT, "frames": 1})):
        studio.txt2img(steps=1)  # the VAE encodes with noise from a generator that the request before has left behind
        request = {"init_images": [base64_image(painted())], "denoising_strength": 0.8, "sampler_name": "DDIM"}
        studio.img2img(**clip_payload(clip, **request))
        made[name] = decoded(studio)
    assert len(made["clip"]) == 3
    assert abs(made["clip"][0] - made["preview"][0]).max() < FLOAT_ORDER
    assert abs(made["alone"][0] - made["preview"][0]).max() < FLOAT_ORDER
    assert abs(made["clip"][1] - made["clip"][0]).mean() > 1e-3


@pytest.mark.shows("Text2Video-Zero: token merging, Hypertile")
@pytest.mark.parametrize(
    "settings",
    [
        {"token_merging_ratio": 0.5},
        pytest.param({"hypertile_enable_unet": True, "hypertile_max_tile_unet": 128}, marks=HYPERTILE),
        pytest.param({"hypertile_enable_unet_secondpass": True, "hypertile_max_tile_unet": 128}, marks=HYPERTILE),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_patches_of_self_attention(studio, settings):
    """Token merging works on all frames alike; Hypertile is left out of a clip. Both are gone afterwards."""
    size = {"width": 256, "height": 256, "steps": 3, "sampler_name": "Euler a"}
    if "hypertile_enable_unet_secondpass" in settings:
        size = {**size, "width": 128, "height": 128, **HIRES}
    with same_picture_after(studio, **size):
        plain = frames_of(studio, SHORT, **size)
        patched = frames_of(studio, SHORT, **size, override_settings=settings)
        if "token_merging_ratio" in settings:
            assert abs(patched - plain).max() > 1e-3
            # Forge and reForge draw other tokens at each call of the UNet, and a clip has other calls than an image.
            if not studio.host.is_patched:
                wanted = picture_of(studio, **size, override_settings=settings)
                assert abs(patched[0] - wanted).max() < FLOAT_ORDER
            again = frames_of(studio, SHORT, **size, override_settings=settings)
            assert abs(again - patched).max() < FLOAT_ORDER
        else:
            assert abs(patched - plain).max() < FLOAT_ORDER
