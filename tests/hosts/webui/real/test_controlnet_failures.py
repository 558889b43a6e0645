"""Beside the real ControlNet extension, which CONTROLNET_DIR names: what fails says why, and leaves nothing behind."""

from __future__ import annotations

import numpy
import pytest
from PIL import Image
from support.webui_real.clips import apart
from support.webui_real.controlled import UNIT, WINDOWS, embeddings, with_units
from support.webui_real.server import PAYLOAD, base64_image, pixels
from support.webui_real.small_control import ADAPTER, IMAGE_PROMPT, LITE, NAME

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

PLAIN = {"init_images": [base64_image(Image.new("RGB", (64, 64), "red"))], "denoising_strength": 0.8}
UNSEEDED = 25  # levels; a unit moves a picture by 40


def plain(server):
    return pixels(server.img2img(**PLAIN)), pixels(server.txt2img())


def same(one, other):
    """Whether img2img is as it was, but for the noise of its encoder, which has no seed; and txt2img to the bit."""
    return apart(one[0], other[0]) < UNSEEDED and numpy.array_equal(one[1], other[1])


BAD = {
    "no image": ({"image": None}, {}, "AD-H48", "no input image is given"),
    "wrong model": ({"model": "not_there"}, {}, "AD-H48", "unit 0: not_there). model not found"),
    "wrong preprocessor": ({"module": "not_there"}, {}, "AD-H46", "not found in supported modules"),
    "model of another base": ({"model": "control-lora-xl"}, {}, "AD-H48", ""),
    "refused by us": ({}, {"context_length": 64, "frames": 64}, "AD-", "64"),
    "path elsewhere": ({}, {"control_images": "/etc"}, "AD-W32", "outside"),
    "weight of a reference": ({"module": "reference_only", "model": "None"}, {"control_weight": 0.5}, "AD-H52", ""),
}


@pytest.mark.shows("ControlNet beside us: after a refusal or a failure of ours other requests are as before")
@pytest.mark.shows("ControlNet beside us: a unit that controls nothing refuses the clip with its reason")
@pytest.mark.parametrize("case", BAD)
def test_a_refusal_says_why_and_leaves_nothing(controlled, controlled_unit, case):
    changes, clip, code, words = BAD[case]
    before = plain(controlled)
    request = {**PAYLOAD, **with_units([{**controlled_unit, **changes}], {"frames": 4, **clip})}
    reply = controlled.api("POST", "/sdapi/v1/txt2img", request)
    assert reply.status_code == 422, reply.text
    assert code in reply.json()["detail"]
    assert words in reply.json()["detail"]
    assert same(plain(controlled), before)
    controlled.img2img(
        **with_units([controlled_unit], **PLAIN)
    )  # a unit in the other tab would have kept the former one for good
    assert same(plain(controlled), before)


@pytest.mark.shows("ControlNet beside us: after a refusal or a failure of ours other requests are as before")
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        pytest.param({"raise_at": {"layer": "model.diffusion_model", "call": 1}}, NAME, id="failed in the UNet"),
        pytest.param({"raise_at": {"layer": "model.diffusion_model", "call": 1}}, IMAGE_PROMPT, id="with IP-Adapter"),
        pytest.param({"raise_at": {"layer": "first_stage_model.decoder", "call": 1}}, LITE, id="failed in decoding"),
        pytest.param({"interrupt_at": {"layer": "model.diffusion_model", "call": 1}}, ADAPTER, id="interrupted"),
    ],
)
def test_a_failure_leaves_nothing(controlled, control_models, controlled_unit, command, kind):
    before = plain(controlled)
    own = {"module": "ip-adapter_clip_h", "ipadapter_input": embeddings(1)} if kind == IMAGE_PROMPT else {}
    failing = {**UNIT, "model": control_models[kind], **own}
    named = {} if own else {"control_images": "in/greys", "control_weight": "1, 0.5"}
    request = with_units([failing], {**WINDOWS, **named}, alwayson_scripts={"Trouble": {"args": [command]}})
    reply = controlled.api("POST", "/sdapi/v1/txt2img", {**PAYLOAD, **request})
    assert reply.status_code == (200 if "interrupt_at" in command else 500), reply.text
    assert same(plain(controlled), before)
    controlled.img2img(**with_units([controlled_unit], **PLAIN))
    assert same(plain(controlled), before)
