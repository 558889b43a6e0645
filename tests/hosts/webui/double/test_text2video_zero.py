"""Text2Video-Zero around a sampler's function: where frame 0 is taken, where all begin, and what stays behind."""

from __future__ import annotations

import inspect
from contextlib import suppress
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from support.matrix import every_once
from support.motion_lora_files import official, write_lora
from support.unchanged import Portrait
from support.webui_double import samplers
from support.webui_double.double import SIDE, shared
from support.webui_double.noises import ImageRNG
from support.webui_double.samplers import SHAPE, SIGMAS, STEPS, TABLE, Denoiser, begins_at, schedule
from support.webui_double.state import InterruptedException

from lib_animatediff.sampling.text2video_zero import Text2VideoZero, levels_of, motion_field
from motion_module import ClipError, IncompatibleModelError, MotionFileError

FRAMES, CLIPS = 3, 2
KINDS = [
    samplers.euler_a, samplers.heun_with_churn, samplers.ddim, samplers.unipc, samplers.dpm_fast,
    samplers.dpm_adaptive,
]  # fmt: skip
LISTED = "Text2Video-Zero [no file, any checkpoint]"
ZERO = {"model": "text2video-zero", "frames": 2}
IMG2IMG = {"tab": "img2img", "init_images": [Image.new("RGB", (SIDE, SIDE))]}
METHOD = Text2VideoZero(motion=(64.0, -64.0))
FORGETTING = [kind for kind in KINDS if kind not in (samplers.unipc, samplers.heun_with_churn)]


class Run:
    """One run of a sampler, with rows of two clips, as `Sampler.sample` makes it."""

    def __init__(self, glue, kind, *, method=METHOD, frames=FRAMES, steps=STEPS, seeds=None, **named):
        self.seeds = seeds or [5 + row for row in range(CLIPS * frames)]
        self.frames = frames
        self.told, self.first_only = [], []
        rng = ImageRNG(self.seeds)
        rng._drawn = lambda: torch.stack([torch.randn(SHAPE, generator=g) for g in rng.generators])
        self.p = SimpleNamespace(rng=rng, is_hr_pass=False, opts=shared.opts, orders=[])
        self.p.sd_model = SimpleNamespace(alphas_cumprod=TABLE)
        self.p.sampler = SimpleNamespace(func=kind(self.p))
        self.function = self.p.sampler.func
        self.noise = self.p.rng.next()
        self.denoiser = self.attention = Denoiser(frames)
        self.named = {**schedule(kind, steps), **named}
        self.x = self.noise * begins_at(kind, self.named)
        if method is not None:
            glue.with_motion_field(self.p, self.noise, method, frames, self.attention)

    def __call__(self):
        def callback(told):
            self.told.append(told["i"])
            self.first_only.append(self.denoiser.is_first_frame_only)

        return self.p.sampler.func(self.denoiser, self.x, extra_args={}, callback=callback, disable=False, **self.named)


@pytest.fixture
def glue(webui):
    shared.opts.uni_pc_order = 3
    return webui.module("clip.text2video_zero")


def alone(glue, kind, seed, **values):
    """A picture by the sampler as it is."""
    run = Run(glue, kind, method=None, frames=1, seeds=[seed], **values)
    return run(), run


@pytest.mark.parametrize("kind", FORGETTING)
def test_frame_0_is_what_it_is_alone(glue, kind):
    frames = Run(glue, kind)()
    for clip in range(CLIPS):
        picture, _ = alone(glue, kind, 5 + clip * FRAMES)
        torch.testing.assert_close(frames[clip * FRAMES], picture[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_all_frames_begin_at_the_motion_field(glue, kind, monkeypatch):
    """At the sampler's own levels next below the method's, with the rows' own noise."""
    field = Mock(side_effect=motion_field)
    monkeypatch.setattr(glue, "motion_field", field)
    run, seen = Run(glue, kind), []

    def look(denoiser, inputs):
        if not denoiser.is_first_frame_only:
            seen.append((inputs[0].clone(), float(inputs[1][0])))

    run.denoiser.register_forward_pre_hook(look)
    run()
    field.assert_called_once()
    first, own, noise, sigma_0, sigma_1, method = field.call_args.args
    begin, renoised = levels_of(TABLE, METHOD)
    assert sigma_0 <= begin * 1.001
    assert sigma_0 <= sigma_1 <= renoised * 1.001
    assert method is METHOD
    assert torch.equal(noise.flatten(0, 1), run.noise)
    x, level = seen[0]
    scale = 1.0
    if kind in (samplers.ddim, samplers.unipc):
        scale = float(samplers.share_left(torch.tensor(level)).sqrt())
        assert sigma_1 == pytest.approx((1 / scale**2 - 1) ** 0.5, rel=1e-4)
    elif kind is not samplers.heun_with_churn:
        assert sigma_1 == pytest.approx(level, rel=1e-5)
    wanted = motion_field(first, own, noise, sigma_0, sigma_1, METHOD) * scale
    if kind is not samplers.heun_with_churn:  # which puts noise on top
        torch.testing.assert_close(x, wanted, rtol=1e-4, atol=1e-4)


def test_the_levels_are_the_next_ones_of_the_schedule(glue, monkeypatch):
    field = Mock(side_effect=motion_field)
    monkeypatch.setattr(glue, "motion_field", field)
    for timesteps in (torch.tensor([1, 301, 601, 881, 941, 981]), torch.tensor([1, 301, 880, 942, 981])):
        Run(glue, samplers.ddim, timesteps=timesteps)()
    exact, between = (call.args[3:5] for call in field.call_args_list)
    assert exact == pytest.approx([float(SIGMAS[881]), float(SIGMAS[941])], rel=1e-4)
    assert between == pytest.approx([float(SIGMAS[880])] * 2, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_told_once_each_in_their_order_and_calls_are_counted_as_without(glue, kind):
    """Progress goes on, and does not go back; prompts that change over the steps go by the number of the call."""
    counted = []
    run = Run(glue, kind)
    run.denoiser.on_call = lambda _: counted.append((f"{run.denoiser.calls[-1]:.2g}", run.denoiser.step))
    run()
    _, picture = alone(glue, kind, 5)
    assert run.told == (list(range(len(run.told))) if kind is samplers.dpm_adaptive else picture.told)
    assert run.first_only == sorted(run.first_only, reverse=True)
    assert True in run.first_only
    wanted = [(f"{level:.2g}", step) for step, level in enumerate(picture.denoiser.calls)]
    if kind is not samplers.heun_with_churn:  # which puts noise on what it had put noise on
        assert set(counted) == set(wanted)
    assert counted[-STEPS // 2 :] == wanted[-STEPS // 2 :]


@pytest.mark.parametrize(("kind", "steps"), every_once(KINDS, [1, 2, 3]))
def test_few_steps_make_a_clip(glue, kind, steps):
    shared.opts.uni_pc_order = 1 if kind is samplers.unipc else 3
    frames = Run(glue, kind, steps=steps)()
    assert frames.shape == (CLIPS * FRAMES, *SHAPE)
    assert frames.isfinite().all()


def test_one_step_is_what_it_is_without(glue):
    run, plain = (Run(glue, samplers.euler_a, steps=1, method=method) for method in (METHOD, None))
    assert torch.equal(run(), plain())
    assert run.denoiser.step == plain.denoiser.step


def test_a_sampler_that_begins_low_is_not_run_ahead(glue):
    """There frame 0's noise itself is shifted."""
    run = Run(glue, samplers.euler_a, sigmas=torch.tensor([5.0, 2.0, 1.0, 0.0]))
    run()
    assert len(run.denoiser.calls) == 3
    assert not any(run.first_only)


def test_unipc_has_an_order_that_its_steps_allow(glue):
    """For one run: three steps, two of which are left."""
    run = Run(glue, samplers.unipc, steps=3)
    run.named["timesteps"] = run.named["timesteps"][:3]
    run()
    assert run.p.orders == [3, 2]
    assert shared.opts.uni_pc_order == 3


@pytest.mark.parametrize(("kind", "call"), every_once(KINDS, [1, 2, 9]))
def test_an_interrupt_passes_through_and_leaves_nothing(glue, kind, call):
    run = Run(glue, kind)
    run.denoiser.on_call = Mock(side_effect=[*[None] * (call - 1), InterruptedException])
    with pytest.raises(InterruptedException):
        run()
    assert len(run.denoiser.calls) == call
    assert not run.denoiser.is_first_frame_only
    assert not run.denoiser._forward_pre_hooks
    assert run.p.sampler.func is run.function
    assert shared.opts.uni_pc_order == 3


def test_a_function_is_replaced_for_one_run_and_looks_the_same(glue):
    """The WebUI reads which arguments a sampler's function takes."""
    run = Run(glue, samplers.euler_a)
    assert run.p.sampler.func is not run.function
    assert inspect.signature(run.p.sampler.func) == inspect.signature(run.function)
    run()
    assert run.p.sampler.func is run.function


def test_a_sampler_that_reports_no_levels_is_refused(glue):
    """Forge Neo's UniPC, known by its name."""
    run = Run(glue, samplers.euler_a)
    run.function.__name__ = "sample_unipc"
    with pytest.raises(ClipError, match="cannot begin in the middle"):
        run()


def test_an_unknown_sampler_is_refused(glue):
    run = Run(glue, samplers.euler_a)
    run.named = {"levels": run.named["sigmas"]}
    with pytest.raises(ClipError, match="cannot begin in the middle"):
        run()


@pytest.mark.parametrize("changes", [{"is_hr_pass": True}, {"init_latent": torch.zeros(1)}])
def test_passes_that_begin_with_pictures_are_left_alone(glue, changes):
    run = Run(glue, samplers.euler_a, method=None)
    vars(run.p).update(changes)
    glue.with_motion_field(run.p, run.noise, METHOD, FRAMES, run.attention)
    assert run.p.sampler.func is run.function


def test_hypertile_is_off_for_the_time_of_a_pass(glue):
    unet = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(3)))
    tiles = [SimpleNamespace(enabled=enabled) for enabled in (True, False)]
    for part, params in zip(unet, tiles, strict=False):
        setattr(part, "__webui_hypertile_params", params)
    with suppress(RuntimeError), glue.untiled(unet):
        assert not any(params.enabled for params in tiles)
        raise RuntimeError
    assert [params.enabled for params in tiles] == [True, False]


def test_img2img_is_a_clip_whose_text_has_the_name_and_no_hash(webui, checkpoint):
    before = Portrait(checkpoint)
    processed = webui.paint({**ZERO, "zero_x": 20}, **IMG2IMG)
    assert shared.samplings[0].rows == 2
    assert torch.equal(shared.samplings[0].table, checkpoint.alphas_cumprod_original)
    assert "model: Text2Video-Zero, frames: 2" in processed.infotexts[0]
    assert "zero_x: 20" in processed.infotexts[0]
    assert "hash" not in processed.infotexts[0]
    assert not any(part._forward_pre_hooks for part in checkpoint.modules())
    before.assert_unchanged()


def test_frame_0_is_the_plain_picture_and_others_look_at_it(webui):
    webui.paint({"enable": False}, batch_size=2, **IMG2IMG)
    webui.paint(ZERO, **IMG2IMG)
    plain, clip = shared.painted
    torch.testing.assert_close(clip[0], plain[0], rtol=1e-4, atol=1e-4)
    assert (clip[1] - plain[1]).abs().max() > 1e-3


def test_a_preview_is_the_plain_picture(webui, checkpoint):
    """Nothing is put in, so that what other extensions have put in stays, too."""
    picture, hooks = webui.picture(), []
    shared.during_sampling = lambda p: hooks.extend(part._forward_pre_hooks for part in checkpoint.modules())
    (preview,) = webui.paint({**ZERO, "preview": True}).images
    assert preview.tobytes() == picture
    assert not any(hooks)


@pytest.mark.parametrize(
    ("clip", "fields", "words"),
    [
        ({"scale": 2, "views": True}, {}, "cannot apply scale, views"),
        ({"zero_smoothing": 0.5}, {}, "needs a mask to smooth the background"),
        ({}, {"prompt": "a cat <lora:pan_left:0.5>"}, "pan_left"),
    ],
)
def test_what_needs_a_motion_module_is_refused(webui, clip, fields, words):
    write_lora(webui.models_folder / "pan_left.safetensors", official)
    with pytest.raises(ClipError) as refusal:
        webui.paint({**ZERO, **clip}, **fields)
    assert words in str(refusal.value)
    assert refusal.value.status_code == 422


def test_bases_without_motion_modules_are_animated_and_stable_diffusion_3_is_refused(webui, checkpoint, monkeypatch):
    for flag in ("is_sd2", "is_ssd"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, flag, True)
            webui.paint(ZERO, **IMG2IMG)
    assert [sampling.rows for sampling in shared.samplings] == [2, 2]
    monkeypatch.setattr(checkpoint, "is_sd3", True)
    with pytest.raises(IncompatibleModelError, match="no UNet for Text2Video-Zero to look into"):
        webui.paint(ZERO)


def test_it_is_found_however_it_is_written_and_by_clients_at_the_end_of_the_list(webui):
    models = webui.module("catalog.models")
    for name in ("Text2Video-Zero", "text2video-zero", "TEXT2VIDEO-ZERO", LISTED):
        assert models.method_without_file(name) == "Text2Video-Zero"
        assert models.canonical_name(name) == "Text2Video-Zero"
        assert models.choice(name) == LISTED
    for name in ("", "mm.safetensors", "text2video-zero.safetensors"):
        assert models.method_without_file(name) is None
    assert [model["name"] for model in webui.module("output.api").models()] == ["mm.safetensors", "Text2Video-Zero"]


def test_without_a_file_an_empty_name_does_not_mean_it(webui):
    (webui.models_folder / "mm.safetensors").unlink()
    with pytest.raises(MotionFileError, match=r"No motion module was found.*Or choose Text2Video-Zero"):
        webui.paint({"frames": 2})
    webui.paint(ZERO, **IMG2IMG)
    assert shared.samplings[-1].rows == 2


def test_the_panel_says_what_to_expect(webui):
    assert "shifts the whole image" in webui.module("ui.advice").advice("Text2Video-Zero")


def test_the_plan_counts_chunks_and_names_what_cannot_be(webui):
    clip, page = {"enable": True, "model": LISTED, "frames": 20}, {"steps": 10}
    view_plan = webui.module("ui.plan_view").view_plan
    told = view_plan({**clip, "context_length": 8}, page).windows
    assert "20 frames in 3 chunks of 8 (10 steps: 30 UNet calls with up to 16 images)" in told
    assert "<svg" not in told
    assert "20 frames at once (10 steps: 10 UNet calls" in view_plan({**clip, "context_length": 20}, page).windows
    assert "1 frame at once (10 steps: 10 UNet calls" in view_plan({**clip, "preview": True}, page).windows
    assert "cannot apply scale" in view_plan({**clip, "scale": 2}, page).summary
