"""The noise levels that reach the UNet are the motion module's: every sampler and schedule type, in every pass.

Text2Video-Zero has no module: its levels are the checkpoint's.
"""

from __future__ import annotations

import numpy
import pytest
from PIL import Image
from support.webui_real.clips import clip_payload
from support.webui_real.server import SHARED_CONFIG_CHECKPOINT, base64_image
from support.webui_real.studio import HIRES

from motion_module.schedules import LINEAR, SCALED_LINEAR
from tools.webui_report import LEVELS

FOUR = {"frames": 4}
ZERO = {**FOUR, "model": "Text2Video-Zero", "zero_x": 64}
BOUND = 0.5  # of a timestep
TIE = 1e-5  # likewise; float32 resolves no less. A program that takes the nearest level is off by a half at most
PASSES = {
    "txt2img": (FOUR, {}),
    "img2img": (FOUR, {"init_images": [base64_image(Image.new("RGB", (64, 64), "red"))], "denoising_strength": 0.8}),
    "hires": (FOUR, HIRES),
    "hires, another sampler": (FOUR, {**HIRES, "hr_sampler_name": "Euler a", "hr_scheduler": "Karras"}),
    "hires, another checkpoint": (FOUR, {**HIRES, "hr_checkpoint_name": SHARED_CONFIG_CHECKPOINT}),
    "Text2Video-Zero": (ZERO, {}),
    "FreeInit": ({**FOUR, "freeinit_enable": True, "freeinit_iters": 2}, {}),
}
FOR_OTHERS = "DPM++ 2S Ancestral Comfy RF"  # of reForge, for models of rectified flow; its "ODE" samplers are refused
LCM_LEVELS = range(19, 1000, 20)  # the timesteps that the LCM sampler knows


@pytest.fixture(scope="module")
def names(studio):
    samplers = [each["name"] for each in studio.api("GET", "/sdapi/v1/samplers").json()]
    schedulers = [each["label"] for each in studio.api("GET", "/sdapi/v1/schedulers").json()]
    return samplers, schedulers


def difference(levels, schedule, *, snaps: bool) -> float:
    """The largest one of a request's UNet calls, between the timestep and the sampler's noise level in the table.

    Args:
        snaps: whether the LCM sampler takes the nearest one of its own levels.
    """
    assert levels
    table = schedule.alphas_cumprod().double().numpy()
    sigmas = numpy.log((1 - table) / table) / 2  # their logarithms
    worst = 0.0
    for level in levels:
        assert level["begin"] == pytest.approx(table[0], abs=1e-6)
        assert level["end"] == pytest.approx(table[-1], abs=1e-6)
        wanted = level["said"]
        if not level["in_timesteps"]:
            wanted = numpy.interp(numpy.log(wanted), sigmas, numpy.arange(len(sigmas)))
        if level["lcm"] and snaps:  # by the logarithm of sigma
            wanted = LCM_LEVELS[int(numpy.abs(sigmas[list(LCM_LEVELS)] - numpy.log(level["said"])).argmin())]
        worst = max(worst, abs(level["timestep"] - wanted))
    return worst


def bound(studio):
    return BOUND + TIE * studio.host.is_patched


def check(studio, record_property, name, sampler, scheduler):
    clip, request_ = PASSES[name]
    render = studio.img2img if "init_images" in request_ else studio.txt2img
    given = {"sampler_name": sampler, "scheduler": scheduler, "steps": 4, **request_}
    render(**clip_payload(clip, **given, alwayson_scripts={"Trouble": {"args": [{"levels": True}]}}))
    schedule = SCALED_LINEAR if clip is ZERO else LINEAR  # that of the checkpoint, or of the motion module
    found = difference(studio.api("GET", "/trouble/levels").json(), schedule, snaps=not studio.host.is_patched)
    record_property(LEVELS, ((f"{sampler}, {scheduler}", name), found))
    return found


@pytest.mark.shows("Noise levels: every sampler in txt2img, img2img, hires fix, FreeInit and Text2Video-Zero")
@pytest.mark.parametrize("name", PASSES)
def test_every_sampler_gives_the_unet_the_motion_modules_noise_levels(studio, names, record_property, name):
    usable = [sampler for sampler in names[0] if sampler != FOR_OTHERS and not sampler.startswith("ODE ")]
    found = {sampler: check(studio, record_property, name, sampler, "Automatic") for sampler in usable}
    assert not {sampler: value for sampler, value in found.items() if value >= bound(studio)}


@pytest.mark.shows("Noise levels: every schedule type in txt2img, img2img and hires fix")
@pytest.mark.parametrize("name", ["txt2img", "img2img", "hires"])
def test_every_schedule_type_does(studio, names, record_property, name):
    found = {scheduler: check(studio, record_property, name, "Euler", scheduler) for scheduler in names[1]}
    assert not {scheduler: value for scheduler, value in found.items() if value >= bound(studio)}
