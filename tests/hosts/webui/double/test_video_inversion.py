"""DDIM inversion as the start of a clip from a video, in both tabs: the noise that image to image adds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.matrix import both_ends
from support.source_files import shades
from support.unchanged import Portrait
from support.webui_double import samplers
from support.webui_double.denoiser import conditions
from support.webui_double.double import SIDE, noise, shared

from lib_animatediff.sampling.inversion import inverted_noise
from lib_animatediff.video import read_recipe, write_clip

FRAMES = 5
VIDEO = {"model": "mm.safetensors", "video": "in/a.gif", "denoise": 0.5, "video_inversion": 1}
ALONE = {"effect": 0}  # as if there were no motion module
IMG2IMG = {"tab": "img2img", "init_images": [], "denoising_strength": 0.5}
TABS = pytest.mark.parametrize("fields", [{}, IMG2IMG], ids=["txt2img", "img2img"])
CLOSE = {"rtol": 0, "atol": 2e-4}


@pytest.fixture
def pictures(webui):
    """A video of five frames in the WebUI's folder."""
    folder = webui.outputs.parent / "in"
    folder.mkdir()
    made = shades(FRAMES, (SIDE, SIDE))
    write_clip(folder / "a.gif", made, fps=5)
    return made


def begun(webui, clip, **fields):
    """The latents, the noise that is added to them, and the levels of the sampler."""
    shared.samplings.clear()
    webui.paint(clip, **fields)
    met = shared.samplings[-1]
    return met.given.expand_as(met.noise), met.noise, met.table


def by_hand(given, table, first, prompt="a cat", begins=None):
    """The latents at the noisiest of the sampler's calls, without our package: DDIM backward."""
    levels = [1.0 * timestep for timestep in range(1, 1000, 50)][:first]
    latents, signal = given.clone(), torch.tensor(1.0)
    cond = conditions([prompt]).expand(len(given), -1, -1)
    at = [levels[0], *levels[:-1]]
    with torch.no_grad():
        for timestep, following in zip(at, levels, strict=True):
            rows = torch.full((len(given),), timestep)
            predicted = shared.sd_model.apply_model(latents, rows, {"c_crossattn": [cond]})
            clean = (latents - (1 - signal).sqrt() * predicted) / signal.sqrt()
            signal = table[int(following)]
            latents = signal.sqrt() * clean + (1 - signal).sqrt() * predicted
    return latents, float(signal)


@TABS
def test_the_sampler_begins_from_the_inversion_of_the_video(webui, pictures, fields):
    """20 steps at 0.5: timesteps 1 to 451. The WebUI's DDIM adds the noise of one step more, and begins at 451."""
    given, added, table = begun(webui, {**VIDEO, **ALONE}, **fields)
    wanted, signal = by_hand(given, table, 10)
    start = float(table[501])
    begins = start**0.5 * given + (1 - start) ** 0.5 * added
    torch.testing.assert_close(begins, wanted, **CLOSE)
    assert signal == float(table[451])
    assert not torch.allclose(added, noise(range(1, 6)), atol=0.1)


def test_with_the_motion_module_frames_see_each_other(webui, pictures):
    _given, moving, _table = begun(webui, VIDEO, steps=5)
    _, alone, _ = begun(webui, {**VIDEO, **ALONE}, steps=5)
    assert not torch.allclose(moving, alone, atol=1e-3)


def test_a_share_of_the_noise_is_inverted_and_the_rest_is_of_the_seeds(webui, pictures):
    given, whole, table = begun(webui, VIDEO)
    _, half, _ = begun(webui, {**VIDEO, "video_inversion": 0.25})
    _, none, _ = begun(webui, {**VIDEO, "video_inversion": 0})
    assert torch.equal(none, noise(range(1, 6)))
    level, start = table[451], table[501]

    def at_the_first_call(added):
        return start.sqrt() * given + (1 - start).sqrt() * added

    clean = level.sqrt() * given
    random = (1 - level).sqrt() * none
    expected = 0.25**0.5 * (at_the_first_call(whole) - clean) + 0.75**0.5 * random
    torch.testing.assert_close(at_the_first_call(half) - clean, expected, **CLOSE)


def test_at_full_strength_the_video_still_decides(webui, pictures):
    _given, added, _ = begun(webui, {**VIDEO, "denoise": 1}, steps=5)
    assert shared.samplings[-1].strength == 1
    assert not torch.allclose(added, noise(range(1, 6)), atol=0.1)
    shared.samplings.clear()
    webui.paint({**VIDEO, "denoise": 0})
    assert not shared.samplings


@pytest.mark.parametrize(
    ("fields", "more"),
    both_ends(
        [{}, IMG2IMG],
        [
            {"prompt": "a cat AND a dog AND a hat"},
            {"batch_size": 2},
            {"clip": {"context_length": 3, "overlap": 1}},
            {"clip": {"freeinit_enable": True, "freeinit_iters": 2}},
            {"clip": {"image": "in/0.png"}},
            {"clip": {"reuse": 2}},
            {"prompt": "0: a cat\n4: a dog"},
        ],
    ),
    ids=str,
)
def test_it_works_with_the_rest_and_leaves_the_model_as_it_was(webui, checkpoint, pictures, fields, more):
    pictures[0].save(webui.outputs.parent / "in" / "0.png")
    more = {"steps": 8, **more}  # the fewest for features that are reused
    clip, before, picture = {**VIDEO, **more.pop("clip", {})}, Portrait(checkpoint), webui.picture()
    _given, added, _ = begun(webui, clip, **{**fields, **more})
    before.assert_unchanged()
    assert webui.picture() == picture
    again = begun(webui, clip, **{**fields, **more})[1]
    assert torch.equal(added, again)
    plain = begun(webui, {**clip, "video_inversion": 0}, **{**fields, **more})[1]
    assert not torch.allclose(added, plain, atol=0.1)


def test_a_weaker_frame_has_the_noise_of_its_own_level(webui, pictures):
    given, whole, table = begun(webui, {**VIDEO, **ALONE, "denoise": "0: 0.5, 4: 0.25"})
    held = whole[4:]  # begins at 0.25 of 20 steps
    wanted, signal = by_hand(given[4:], table, 5)
    level, start = table[451], table[501]
    own = (start.sqrt() * given[4:] + (1 - start).sqrt() * held - level.sqrt() * given[4:]) / (1 - level).sqrt()
    torch.testing.assert_close(signal**0.5 * given[4:] + (1 - signal) ** 0.5 * own, wanted, **CLOSE)


def test_infotext_and_recipe_have_the_share(webui, pictures):
    webui.paint({**VIDEO, "format": ["GIF"], "video_inversion": 0.5}, steps=5)
    (made,) = webui.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    assert "video_inversion: 0.5" in recipe.infotext
    assert recipe.data["video"]["inversion"] == 0.5


def test_what_has_no_effect_is_said(webui, pictures):
    assert (
        "video_inversion has no effect, since there is no source video."
        in webui.paint({"model": "mm.safetensors", "frames": 2, "video_inversion": 1}).comments
    )


def test_an_interrupt_ends_the_inversion(webui, pictures, monkeypatch):
    calls = []
    unet = shared.sd_model.model.diffusion_model

    def interrupt(*_):
        calls.append(1)
        shared.state.interrupted = True

    with unet.register_forward_pre_hook(interrupt):
        begun(webui, VIDEO)
    assert len(calls) == 1


def test_levels_of_samplers_by_sigmas(webui):
    """The call at a sigma sees the image with a share of 1 / (1 + sigma^2), at the timestep of that share."""
    levels_of = webui.module("compat.denoiser")
    sigmas = torch.cat([samplers.SIGMAS[[999, 700, 400, 100]], torch.zeros(1)])
    p = SimpleNamespace(
        steps=4,
        denoising_strength=0.5,
        sampler=SimpleNamespace(get_sigmas=lambda _p, _steps: sigmas),
        sd_model=SimpleNamespace(alphas_cumprod=samplers.TABLE),
    )
    found = levels_of.levels_of_calls(p, None)
    assert [round(timestep, 1) for timestep, _ in found] == [700, 400, 100]
    assert [signal for _, signal in found] == pytest.approx(samplers.TABLE[[700, 400, 100]].tolist(), rel=1e-4)
    assert levels_of.signal_of_start(p, None) == pytest.approx(found[0][1])
    strengths = torch.tensor([0.5, 0.3, 0.0], dtype=torch.float64)
    assert levels_of.first_calls(p, strengths, None).tolist() == [0, 1, 2]
    noise_of = inverted_noise(torch.ones(1, 1, 1, 1), lambda x, _t: x, found)
    assert noise_of.isfinite().all()


@pytest.mark.parametrize("sampler", ["LCM", "Euler"])
def test_a_note_says_that_lcm_forgets_it(webui, pictures, sampler):
    """LCM draws all noise anew at each step, so that the clip is as far from the video as without inversion."""
    processed = webui.paint({**VIDEO, "video_inversion": 0.5}, sampler_name=sampler)
    notes = processed.extra_generation_params.get("AnimateDiff notes", [])
    assert any("video_inversion has next to no effect with LCM" in note for note in notes) == (sampler == "LCM")
