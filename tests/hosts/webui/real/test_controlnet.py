"""Beside the real ControlNet extension, which CONTROLNET_DIR names: our failures leave nothing in the UNet."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy
import pytest
from PIL import Image
from support.webui_real.clips import apart, clip_of, clip_payload
from support.webui_real.places import REPOSITORY, TROUBLE
from support.webui_real.server import PAYLOAD, base64_image, pixels

STRIPES = base64_image(Image.fromarray(numpy.tile(numpy.uint8([0, 255]).repeat(8), (64, 4))))
PLAIN = {"init_images": [base64_image(Image.new("RGB", (64, 64), "red"))], "denoising_strength": 0.8}
UNSEEDED = 25  # levels; a unit moves a picture by 40
UNIT = {"enabled": True, "module": "none", "image": STRIPES, "pixel_perfect": False}


@pytest.fixture(scope="module")
def controlled(start_webui):
    """The WebUI with AnimateDiff and ControlNet, with one model for it."""
    folder = os.environ.get("CONTROLNET_DIR")
    if not folder:
        pytest.skip("CONTROLNET_DIR is not set: the ControlNet extension was not started")
    from support.motion_files import write_motion_file
    from support.webui_real.small_control import write_control_model

    server = start_webui("controlled", extensions=[REPOSITORY, TROUBLE, Path(folder)])
    write_motion_file(server.motion_modules_dir, "v3")
    write_control_model(server.models_dir / "ControlNet")
    return server


@pytest.fixture(scope="module")
def unit(controlled):
    """A unit with the model, as a client sends it."""
    models = controlled.api("GET", "/controlnet/model_list?update=true").json()["model_list"]
    return {**UNIT, "model": models[0]}


def with_unit(unit, clip=None, **payload):
    scripts = {**payload.pop("alwayson_scripts", {}), "ControlNet": {"args": [unit]}}
    if clip is None:
        return {**payload, "alwayson_scripts": scripts}
    return clip_payload(clip, **payload, alwayson_scripts=scripts)


def plain(server):
    return pixels(server.img2img(**PLAIN)), pixels(server.txt2img())


def same(one, other):
    """Whether img2img is as it was, but for the noise of its encoder, which has no seed; and txt2img to the bit."""
    return apart(one[0], other[0]) < UNSEEDED and numpy.array_equal(one[1], other[1])


@pytest.mark.shows("ControlNet beside us: one image acts on every frame")
def test_a_unit_acts_on_every_frame(controlled, unit):
    clip = {"frames": 4}
    with_it = clip_of(controlled.txt2img(**with_unit(unit, clip))).frames.astype(float)
    without = clip_of(controlled.txt2img(**clip_payload(clip))).frames.astype(float)
    assert (numpy.abs(with_it - without).mean(axis=(1, 2, 3)) > 4).all()


@pytest.mark.shows("ControlNet beside us: after a refusal or a failure of ours other requests are as before")
@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(({"context_length": 64, "frames": 64}, {}), id="refused before sampling"),
        pytest.param(({"frames": 4}, {"layer": "model.diffusion_model", "call": 1}), id="failed in the UNet"),
    ],
)
def test_nothing_stays_in_the_unet(controlled, unit, failing):
    before = plain(controlled)
    clip, raises = failing
    scripts = {"Trouble": {"args": [{"raise_at": raises}]}} if raises else {}
    request = {**PAYLOAD, **with_unit(unit, clip, alwayson_scripts=scripts)}
    assert controlled.api("POST", "/sdapi/v1/txt2img", request).status_code >= 400
    assert same(plain(controlled), before)
    # with a unit in the other tab, the former one would have stayed for good
    controlled.img2img(**with_unit(unit, **PLAIN))
    assert same(plain(controlled), before)


@pytest.mark.shows("ControlNet beside us: a unit that controls nothing is reported")
def test_a_unit_without_an_image_is_reported(controlled, unit):
    request = with_unit({**unit, "image": None}, {"frames": 4})
    notes = json.loads(controlled.txt2img(**request)["info"])["extra_generation_params"]["AnimateDiff notes"]
    assert any("ControlNet has a unit that does not control this clip" in note for note in notes)
