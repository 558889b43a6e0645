"""Noise of clips in the real WebUI: whose noise a frame begins with, and FreeInit."""

from __future__ import annotations

import json
import math
import threading

import numpy
import pytest
import torch
from support.webui_real.clicking import check, choose, fill, generate, pasted, prepare_clip, slide
from support.webui_real.clips import animate, clip_of, clip_payload
from support.webui_real.server import file_bytes
from support.webui_real.studio import (
    FLOAT_ORDER,
    counted,
    decoded,
    frames_of,
    hooks_in_the_unet,
    portrait,
    preview_of,
    refused,
    sent_back,
)

STILL = {"effect": 0}  # each frame is a picture of its own
FOUR = {"frames": 4}
SEEN = 1e-3  # of the range, for what changes a clip


def spread(frames: numpy.ndarray) -> float:
    """How far frames are from each other."""
    return float(frames.std(axis=0).mean())


# ---- whose noise


@pytest.mark.shows("Noise: a frame's noise is that of its seed, in any clip")
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE", "DDIM"])
def test_a_frames_noise_is_that_of_its_seed(studio, sampler):
    """Frame i is the picture of seed s + i, whatever the length, the number of clips, or the windows."""
    request = {"sampler_name": sampler}
    frames = frames_of(studio, STILL, **request)
    short = frames_of(studio, {**STILL, **FOUR}, **request)
    assert abs(frames[:4] - short).max() < FLOAT_ORDER
    two = frames_of(studio, {**STILL, **FOUR}, **request, batch_size=2)
    assert abs(frames - two).max() < FLOAT_ORDER
    windows = frames_of(studio, {**STILL, "frames": 12, "context_length": 8, "overlap": 3}, **request)
    assert abs(frames - windows[:8]).max() < FLOAT_ORDER
    for number in (0, 3, 7):
        assert abs(frames[number] - preview_of(studio, **request, seed=1 + number)).max() < FLOAT_ORDER
    assert abs(frames[0] - frames[1]).max() > 0.1


@pytest.mark.shows("Noise: random is the default, bit for bit")
def test_random_noise_said_aloud_is_the_default(studio):
    """noise: random, with the rest of the group at its default values, is the clip without them, bit for bit."""
    said = {"noise": "random", "noise_share": 0.5, "frame_seeds": "", "freeinit_enable": False, "freeinit_iters": 3}
    assert (frames_of(studio, {**FOUR, **said}) == frames_of(studio, FOUR)).all()


@pytest.mark.shows("Noise: constant")
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE"])
def test_constant_noise_is_one_for_all_frames(studio, sampler):
    """Without motion all frames are one picture, that of the seed; for each clip its own."""
    clip = {**STILL, **FOUR, "noise": "constant"}
    frames = frames_of(studio, clip, sampler_name=sampler, batch_size=2)
    for number, first in ((0, 0), (1, 4)):
        picture = preview_of(studio, sampler_name=sampler, seed=1 + first)
        assert abs(frames[4 * number : 4 * number + 4] - picture).max() < FLOAT_ORDER
    assert abs(frames[0] - frames[4]).max() > 0.1


@pytest.mark.shows("Noise: freenoise")
def test_free_noise_repeats_blocks_in_another_order(studio):
    """Without motion, a frame has the picture of its noise: that of another frame only where no window holds both."""
    length, count = 8, 24
    clip = {**STILL, "frames": count, "context_length": length, "overlap": 2, "noise": "freenoise"}
    answer = animate(studio, clip, steps=2)
    frames = decoded(studio)
    alike = numpy.abs(frames[:, None] - frames[None]).max(axis=(2, 3, 4)) < FLOAT_ORDER
    near = numpy.abs(numpy.subtract.outer(numpy.arange(count), numpy.arange(count))) < length
    assert numpy.triu(alike & near, 1).sum() == 0, "a window has one noise twice"
    sources = [int(row.argmax()) for row in alike]
    assert len(set(sources)) < count, "no noise is repeated"
    repeated = [source for frame, source in enumerate(sources) if source < frame]
    assert repeated != list(range(len(repeated))), "nothing is shuffled"
    shorter = frames_of(studio, {**clip, "frames": 13}, steps=2)
    assert abs(shorter - frames[:13]).max() < FLOAT_ORDER
    assert (sent_back(studio, answer) == frames).all()


@pytest.mark.shows("Noise: shared")
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE", "DDIM"])
def test_shared_noise_is_between_random_and_constant(studio, sampler):
    """The more noise frames share, the nearer they are; none is random noise bit for bit, all of it constant noise."""

    def frames(share: float) -> numpy.ndarray:
        clip = {**STILL, **FOUR, "noise": "shared", "noise_share": share}
        return frames_of(studio, clip, sampler_name=sampler)

    random, little, much, whole = frames(0), frames(0.3), frames(0.9), frames(1)
    assert (random == frames_of(studio, {**STILL, **FOUR}, sampler_name=sampler)).all()
    assert spread(random) > 1.05 * spread(little) > 1.05 * spread(much)
    assert spread(whole) < FLOAT_ORDER
    assert abs(whole[0] - random[0]).max() < FLOAT_ORDER
    assert abs(much[0] - random[0]).max() < FLOAT_ORDER


@pytest.mark.shows("Noise: seeds of frames")
def test_frames_have_the_seeds_that_are_given(studio):
    """Seeds 5, 6, 90, and on from there; a second clip has them so many frames later; the text gives it again."""
    clip = {**STILL, **FOUR, "frame_seeds": "5, 6, 90"}
    answer = animate(studio, clip, n_iter=2)
    frames, info = decoded(studio), json.loads(answer["info"])
    for number, seed in enumerate((5, 6, 90, 91, 9, 10, 94, 95)):
        assert abs(frames[number] - preview_of(studio, seed=seed)).max() < FLOAT_ORDER
    assert 'frame_seeds: \\"5, 6, 90\\"' in info["infotexts"][0]
    assert (sent_back(studio, answer) == frames[:4]).all()
    assert "Remove some" in refused(studio, {**FOUR, "frame_seeds": "1, 2, 3, 4, 5"})
    assert "'six'" in refused(studio, {**FOUR, "frame_seeds": "5, six"})


# ---- FreeInit

FREEINIT = {**FOUR, "freeinit_enable": True, "freeinit_iters": 2}


@pytest.mark.shows("Noise: FreeInit, coarse to fine, in img2img, not in the second pass")
@pytest.mark.parametrize("request_", [{}, {"sampler_name": "DDIM"}, {"sampler_name": "DPM++ SDE"}], ids=str)
def test_freeinit_samples_again_from_what_came_out(studio, request_):
    """Two iterations take twice the calls and give another clip; one iteration is the clip without, bit for bit."""
    plain, calls = counted(studio, FOUR, **request_)
    again, more = counted(studio, FREEINIT, **request_)
    assert more == 2 * calls
    assert abs(again - plain).max() > SEEN
    assert (frames_of(studio, {**FREEINIT, "freeinit_iters": 1}, **request_) == plain).all()
    answer = animate(studio, FREEINIT, n_iter=2, **request_)
    assert (decoded(studio)[:4] == again).all()
    second, info = decoded(studio)[4:], json.loads(answer["info"])
    sent = studio.from_infotext(info["infotexts"][1])
    assert (decoded(studio) == second).all()
    assert file_bytes(sent) == file_bytes(answer, 1)
    assert not hooks_in_the_unet(portrait(studio))


@pytest.mark.shows("Noise: FreeInit, coarse to fine, in img2img, not in the second pass")
def test_freeinit_coarse_to_fine_takes_fewer_steps_at_first(studio):
    """Three iterations of six steps, coarse to fine: fewer calls than 18, and six in the last one."""
    coarse = {**FREEINIT, "freeinit_iters": 3, "freeinit_coarse": True}
    _, calls = counted(studio, coarse, steps=6)
    assert calls == 2 + 4 + 6


@pytest.mark.shows("Noise: FreeInit's progress")
def test_freeinit_counts_its_iterations(studio):
    """The progress says which iteration runs, and goes on from one to the next."""
    seen, shares = set(), []

    def watch():
        progress = studio.api("GET", "/sdapi/v1/progress?skip_current_image=true").json()
        seen.add((progress["textinfo"] or "").split(",")[0])
        shares.append(progress["progress"])

    painting = threading.Thread(target=lambda: animate(studio, FREEINIT, steps=12))
    painting.start()
    while painting.is_alive():
        watch()
    assert {"Run 1/2", "Run 2/2"} <= seen
    assert max(shares) <= 1
    assert studio.api("GET", "/sdapi/v1/progress").json()["textinfo"] is None


@pytest.mark.shows("Noise: interrupted between iterations")
def test_an_interrupt_between_iterations_keeps_the_clip(studio):
    """Interrupted in the first iteration's last step: no second one begins, and that clip comes whole."""
    plain = frames_of(studio, FOUR)
    frames, calls = counted(studio, FREEINIT, interrupt_at=4)
    assert calls == 4
    assert (frames == plain).all()


@pytest.mark.shows("Noise: FreeInit, coarse to fine, in img2img, not in the second pass")
def test_freeinit_leaves_the_second_pass_alone_and_serves_img2img(studio):
    """Hires fix iterates its first pass only; img2img iterates from its picture."""
    hires = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "hr_second_pass_steps": 3}
    _, once = counted(studio, FOUR, **hires)
    _, twice = counted(studio, FREEINIT, **hires)
    assert twice == once + 4
    picture = studio.txt2img()["images"][0]
    made = []
    for clip in (FOUR, FREEINIT, {**FREEINIT, "freeinit_coarse": True}):
        scripts = clip_payload(clip)["alwayson_scripts"]
        request = {"init_images": [picture], "denoising_strength": 0.8, "alwayson_scripts": scripts}
        assert len(clip_of(studio.img2img(**request, steps=6)).frames) == 4
        made.append(decoded(studio))
    assert min(abs(one - other).max() for i, one in enumerate(made) for other in made[:i]) > SEEN


# ---- by clicking


@pytest.mark.shows("Noise: by clicking and by pasting")
def test_noise_and_freeinit_by_clicking(studio, page, screenshot):
    """All fields of the group: the API's clip; its text pasted, the same again."""
    clip = {
        **FOUR, "noise": "shared", "noise_share": 0.4, "frame_seeds": "7, 9", "freeinit_enable": True,
        "freeinit_filter": "gaussian", "freeinit_ds": 0.3, "freeinit_dt": 0.5, "freeinit_iters": 2,
        "freeinit_coarse": True,
    }  # fmt: skip
    answer = animate(studio, clip, sampler_name="DPM++ 2M")
    wanted, (text,) = decoded(studio), json.loads(answer["info"])["infotexts"]
    prepare_clip(page, studio, 4)
    choose(page, "noise", "shared")
    choose(page, "freeinit_filter", "gaussian")
    for name in ("noise_share", "freeinit_ds", "freeinit_dt", "freeinit_iters"):
        slide(page, name, clip[name])
    fill(page, {"animatediff_txt2img_frame_seeds": "7, 9"})
    for name in ("freeinit_enable", "freeinit_coarse"):
        check(page, name)
    screenshot(page, "noise")
    generate(page)
    assert (decoded(studio) == wanted).all()
    pasted(page, studio, text)
    assert (decoded(studio) == wanted).all()


def seen(server) -> dict:
    return server.api("GET", "/trouble/seen").json()


@pytest.mark.shows("Pains that people report: pain 4: clips are washed out")
def test_sampling_begins_at_the_motion_modules_own_level(studio):
    """Sampling starts at the sigma of the motion module's own (linear) schedule; a picture's is the checkpoint's."""

    def first_sigma(betas: torch.Tensor) -> float:
        left = float(torch.cumprod(1 - betas, 0)[-1])
        return math.sqrt((1 - left) / left)

    linear = first_sigma(torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64))
    scaled = first_sigma(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
    animate(studio, sampler_name="Euler", scheduler="Normal")
    assert seen(studio)["sigma"] == pytest.approx(linear, rel=1e-4)
    studio.txt2img(sampler_name="Euler", scheduler="Normal")
    assert seen(studio)["sigma"] == pytest.approx(scaled, rel=1e-4)


@pytest.mark.shows("Pains that people report: pain 22: the same seed gives another picture")
def test_frame_0_begins_with_the_noise_of_its_picture(studio):
    """Frame 0 starts from the very noise of the still picture with this seed, and with the panel closed it is that."""
    still = studio.txt2img()
    noise = seen(studio)["noise"]
    animate(studio)
    assert seen(studio)["noise"] == noise
    assert file_bytes(studio.txt2img()) == file_bytes(still)
