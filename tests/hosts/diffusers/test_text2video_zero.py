"""Text2Video-Zero makes clips on a diffusers pipeline: of the built-in model, whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from support.matrix import every_once, in_matrix
from support.pocket_clips import BLUE, CFG, RED, SIZE, TINY, near, new_motion, pixels
from support.unchanged import Portrait
from torch import Tensor

from lib_animatediff import ClipError, ContextWindows, Text2VideoZero
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.sampling.frame_noise import shared_noise
from lib_animatediff.sampling.text2video_zero import sigmas_of, warp
from motion_module.schedules import SCALED_LINEAR

STILL = "a red disc standing still"
SIGMAS = sigmas_of(SCALED_LINEAR.alphas_cumprod())
# The paper's levels are for 64 x 64 cells. A picture of 8 x 8 takes shape at much lower ones.
GLIDING = Text2VideoZero(motion=(24.0, 0.0), begin=450, renoised=550)
SEED, FRAMES = 3, 4


@pytest.fixture
def clip(pipeline):
    """Frames as numbers, f h w c."""

    def clip(motion=GLIDING, *, prompt=STILL, steps=12, sampler="ddim", frames=FRAMES, **more):
        settings = parse_settings(more.pop("settings", {}) | {"frames": frames})
        given = {"seed": SEED, "size": SIZE, "cfg": CFG, "settings": settings} | more
        return pixels(animate(pipeline, motion, prompt=prompt, steps=steps, sampler=sampler, frames=frames, **given))

    return clip


@dataclass
class Call:
    timestep: int
    latents: Tensor
    condition: Tensor
    scheduler: object

    @property
    def sigma(self) -> float:
        return float(SIGMAS[self.timestep])

    @property
    def as_z(self) -> Tensor:
        """One stream's latents as z; every sampler gives the UNet the same x."""
        return self.latents[: len(self.latents) // 2].double() * math.hypot(1, self.sigma)


@pytest.fixture
def calls(pipeline):
    """Every call of the UNet, as its own layers see it."""
    seen = []

    def keep(_unet, args, kwargs):
        seen.append(Call(int(args[1]), args[0].clone(), kwargs["encoder_hidden_states"].clone(), pipeline.scheduler))

    with pipeline.unet.register_forward_pre_hook(keep, with_kwargs=True):
        yield seen


def drawn(frames):
    rows = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(SEED + k)) for k in range(frames)]
    return torch.cat(rows)


# --------------------------------------------------------------------------------------------------------------------
# what it makes


def middles(frames: Tensor) -> list[tuple[float, float]]:
    """Where the disc is in each frame: everything that is not background."""
    found = []
    for frame in frames:
        lines, columns = ((frame - frame[-1, -1]).abs().sum(-1) > 90).nonzero(as_tuple=True)
        found.append((float(columns.float().mean()), float(lines.float().mean())))
    return found


def test_the_picture_glides_as_it_is_told(clip):
    left = middles(clip(frames=8))
    for frame, (x, y) in enumerate(left):
        assert x - left[0][0] == pytest.approx(-3 * frame, abs=5.5)  # 24 of 512 pixels are 3 of 64, in cells of 8
        assert y == pytest.approx(left[0][1], abs=2)
    down = middles(clip(Text2VideoZero((0.0, -24.0), begin=450, renoised=550), frames=8))
    assert down[-1][1] - down[0][1] == pytest.approx(21, abs=4)
    assert down[-1][0] == pytest.approx(down[0][0], abs=2)


@pytest.mark.parametrize(
    "sampler", [in_matrix("ddim"), in_matrix("euler"), "euler-a", in_matrix("lcm"), in_matrix("tcd")]
)
def test_frame_0_is_the_checkpoints_own_picture(clip, sampler):
    alone = clip(sampler=sampler, settings={"preview": True})
    assert len(alone) == 1
    assert near(clip(sampler=sampler)[:1], alone, 2)
    assert near(clip(sampler=sampler, frames=1), alone, 0)


def test_a_preview_is_what_the_pipeline_makes_by_itself(pipeline, clip, monkeypatch):
    found = clip(settings={"preview": True})
    monkeypatch.setattr(pipeline, "scheduler", host.new_sampler("ddim", pipeline.scheduler, SCALED_LINEAR))
    more = {"width": 64, "height": 64, "num_inference_steps": 12, "guidance_scale": CFG}
    alone = pipeline(STILL, generator=torch.Generator().manual_seed(SEED), **more).images
    assert near(found, pixels(alone), 0)


# --------------------------------------------------------------------------------------------------------------------
# where the frames begin


class EnoughError(Exception):
    pass


@pytest.fixture
def until(clip, calls):
    """A clip until a step after which there has been enough."""

    def until(is_enough, *motion, **more):
        def look():
            if is_enough():
                raise EnoughError

        calls.clear()
        with pytest.raises(EnoughError):
            clip(*motion, on_step=look, **more)

    return until


@pytest.fixture
def alone(until, calls):
    """Frame 0 by itself, as z by the timestep, down to the levels of the paper."""

    def alone(**more):
        until(lambda: calls[-1].timestep <= 881, settings={"preview": True}, **more)
        return {call.timestep: call.as_z for call in calls}

    return alone


@pytest.fixture
def begun(until, calls):
    """The first call on all frames."""

    def begun(*motion, **more):
        until(lambda: joint(calls), *motion, **more)
        return joint(calls)[0]

    return begun


def joint(calls):
    """Calls on all frames; before them are those on frame 0 alone."""
    return [call for call in calls if len(call.latents) == 2 * FRAMES]


@pytest.mark.parametrize("steps", [in_matrix(12), 50])
@pytest.mark.parametrize(
    "sampler", [name if name in ("ddim", "euler-a", "dpm++2m", "lcm") else in_matrix(name) for name in host.SAMPLERS]
)
def test_the_frames_begin_with_the_papers_formula(alone, begun, sampler, steps):
    """In the paper's coordinates, from what frame 0 alone comes by at these two steps."""
    passed = alone(sampler=sampler, steps=steps)
    to_shift = max(timestep for timestep in passed if timestep <= 881)
    to_join = max(timestep for timestep in passed if timestep <= 941)
    assert to_join > to_shift
    abar_0, abar_1 = (float(SCALED_LINEAR.alphas_cumprod()[timestep]) for timestep in (to_shift, to_join))
    left = abar_1 / abar_0
    x_0, x_1, fresh = passed[to_shift] * abar_0**0.5, passed[to_join] * abar_1**0.5, drawn(FRAMES).double()
    shifted = [warp(x_0, (12.0 * k, 12.0 * k))[0] for k in range(1, FRAMES)]
    formula = [left**0.5 * w + (1 - left) ** 0.5 * eps for w, eps in zip(shifted, fresh[1:], strict=True)]
    found = begun(Text2VideoZero(), sampler=sampler, steps=steps)
    assert found.timestep == to_join
    assert torch.allclose(found.latents[:FRAMES].double(), torch.stack([x_1[0], *formula]), atol=2e-5)


@pytest.mark.parametrize(("sampler", "steps"), every_once(host.SAMPLERS, [1, 2, 3, 10]))
def test_few_steps_are_enough(clip, calls, sampler, steps):
    counted = []
    frames = clip(Text2VideoZero(), sampler=sampler, steps=steps, on_step=lambda: counted.append(None), size=TINY)
    assert len(counted) == steps
    assert frames.float().std() > 1
    planned = [call.timestep for call in joint(calls)]
    assert planned == sorted(planned, reverse=True)
    assert planned[-1] == calls[-1].timestep
    assert planned[0] <= 941 or steps == 1  # the only step of LCM and TCD is at 999


def test_frame_0_is_computed_alone_no_further_than_it_is_needed(clip, calls):
    clip(GLIDING)
    alone = [call.timestep for call in calls if len(call.latents) == 2]
    planned = joint(calls)[0].scheduler.timesteps.tolist()  # from where all frames are denoised
    assert alone
    assert min(alone) == min(timestep for timestep in planned if timestep > 450)


def test_a_multistep_sampler_begins_a_history_of_its_own(clip, calls, pipeline):
    """The joint pass is that of a sampler that has no other steps."""
    clip(sampler="dpm++2m")
    begun = joint(calls)
    fresh, found, steps = host.new_sampler("dpm++2m", pipeline.scheduler, None), begun[0].scheduler, len(begun)
    fresh.set_timesteps(12)
    assert torch.equal(found.timesteps.cpu(), fresh.timesteps[-steps:])
    assert torch.equal(found.sigmas, fresh.sigmas[-steps - 1 :])
    assert found.step_index == steps


def test_it_samples_on_the_checkpoints_own_noise_levels(clip, calls, pipeline, monkeypatch):
    former = pipeline.scheduler
    clip(steps=2)
    assert torch.allclose(calls[-1].scheduler.alphas_cumprod, SCALED_LINEAR.alphas_cumprod(), rtol=1e-4, atol=0)
    assert pipeline.scheduler is former
    own = type(former).from_config(former.config, trained_betas=[0.004] * 1000, prediction_type="v_prediction")
    monkeypatch.setattr(pipeline, "scheduler", own)
    clip(steps=2)
    assert calls[-1].scheduler.config.trained_betas == [0.004] * 1000
    assert calls[-1].scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler is own


# --------------------------------------------------------------------------------------------------------------------
# what is directed


@pytest.mark.parametrize("kind", ["random", "shared", "constant"])
def test_the_kinds_of_noise_are_those_of_the_frames_fresh_noise(alone, begun, kind):
    passed = alone(steps=50)
    own = drawn(FRAMES)
    noise = {"random": own, "shared": shared_noise(own, None, 0.3), "constant": own[:1].expand_as(own)}[kind].double()
    found = begun(Text2VideoZero(), steps=50, settings={"noise": kind, "noise_share": 0.3})
    added = math.sqrt(float(SIGMAS[941]) ** 2 - float(SIGMAS[881]) ** 2)
    fresh = (found.as_z[2] - warp(passed[881], (24.0, 24.0))[0]) / added
    assert torch.allclose(fresh, noise[2], atol=1e-4)


def test_prompts_travel(begun, calls):
    conditions = begun(Text2VideoZero(), prompt=f"0: {RED}\n3: {BLUE}").condition[FRAMES:]
    assert len({row.sum().item() for row in conditions}) == FRAMES
    assert len(calls[0].condition) == 2
    assert torch.equal(calls[0].condition[1], conditions[0])


def test_a_long_clip_goes_in_chunks_and_is_the_same(pipeline, clip):
    rows = []
    with pipeline.unet.conv_in.register_forward_pre_hook(lambda _layer, args: rows.append(len(args[0]))):
        whole = clip(frames=6, steps=6)
        assert set(rows) == {2, 12}
        rows.clear()
        assert near(clip(frames=6, steps=6, windows=ContextWindows(length=3, overlap=1)), whole, 2)
        assert set(rows) == {2, 4, 6}  # frame 0 alone, then 0 1 2, 0 3 4 and 0 5


def test_the_background_is_smoothed_by_the_mask(begun):
    mask = torch.zeros(8, 8)
    mask[:, :4] = 1
    rough = begun(GLIDING).as_z
    smooth = begun(Text2VideoZero((24.0, 0.0), 0.6, mask, begin=450, renoised=550)).as_z
    assert torch.allclose(smooth[1, :, :, :4], rough[1, :, :, :4], atol=1e-5)
    assert torch.allclose(smooth[1, :, :, 4:], 0.4 * rough[1, :, :, 4:] + 0.6 * rough[0, :, :, 4:], atol=1e-4)


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 8])
def test_the_pipeline_is_afterwards_what_it_was(pipeline, clip, at):
    before, scheduler, counted = Portrait(pipeline.unet), pipeline.scheduler, []

    def breaks():
        counted.append(None)
        if len(counted) == at:
            raise BrokenError

    with pytest.raises(BrokenError):
        clip(on_step=breaks)
    before.assert_unchanged()
    assert pipeline.scheduler is scheduler


def test_what_only_a_motion_module_does_is_refused(clip):
    with pytest.raises(ClipError, match="freeinit_enable"):
        clip(settings={"freeinit_enable": True})


@pytest.mark.parametrize("setting", [{"zero_x": 60}, {"zero_y": -3}, {"zero_smoothing": 0.5}], ids=str)
@pytest.mark.parametrize("motion", [new_motion, lambda: GLIDING], ids=["a motion module", "Text2VideoZero"])
def test_its_settings_are_refused_by_name_where_they_would_have_no_effect(clip, motion, setting):
    """A motion module has no use for them, and a `Text2VideoZero` has values of its own."""
    with pytest.raises(ClipError, match=f"^{next(iter(setting))} would have no effect in this call"):
        clip(motion(), steps=2, prompt=RED, settings=setting)
