"""Faults that a review of directed motion found, each with the smallest clip that showed it."""

from __future__ import annotations

import base64
import io

import hosts
import pytest
import torch
from motions import shared_motion
from PIL import Image

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.engine.motion_scale import BlockScale, MotionScale
from lib_animatediff.hosts.diffusers.networks import NetworkError, parse_added
from lib_animatediff.prompts.travel import read_travel
from lib_animatediff.request.estimate import ClipEstimate, one_line
from lib_animatediff.request.masks import packed_mask, unpacked_mask
from lib_animatediff.request.settings import parse_settings


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return hosts.ldm_unet()


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(1)
    return {"x": torch.randn(8, 4, 8, 8), "t": torch.full((8,), 500), "context": torch.randn(8, 5, 64)}


STILL = {
    "effect": MotionScale(effect=(0.0,)),
    "steps": MotionScale(start=0.9),
    "mask": MotionScale(effect_mask=torch.zeros(4, 4)),
    "blocks": MotionScale(blocks=[BlockScale("down_blocks", effect=0.0), BlockScale("up_blocks", effect=0.0)]),
}


@pytest.mark.parametrize("amount", STILL.values(), ids=STILL)
@pytest.mark.parametrize("windows", [None, ContextWindows(length=4, overlap=0, kind="batched")], ids=["one", "windows"])
def test_without_motion_the_norms_do_not_see_the_clip_either(unet, given, amount, windows):
    """Those of v1 take their statistics over a clip's frames: that is a part of the motion module, too."""
    motion, _ = shared_motion("v1")
    with torch.no_grad():
        with inject(unet, motion, frames=8, windows=windows, amount=amount) as injection:
            injection.progress = 0.5
            still = hosts.call(unet, given)
        bare = hosts.call(unet, given)
    torch.testing.assert_close(still, bare, rtol=0, atol=0 if windows is None else 1e-5)


def test_with_motion_somewhere_the_norms_see_it(unet, given):
    motion, _ = shared_motion("v1")
    amounts = [MotionScale(blocks=[BlockScale("down_blocks.0", effect=0.5)]), MotionScale(effect=(0.0, 1.0))]
    outs = []
    for amount in amounts:
        with torch.no_grad(), inject(unet, motion, frames=8, amount=amount):
            outs.append(hosts.call(unet, given))
    with torch.no_grad():
        bare = hosts.call(unet, given)
    assert all((out[0] - bare[0]).abs().max() > 1e-3 for out in outs)  # frame 0, which has no effect of its own


def test_numbers_of_a_client_are_kept_to_the_last_digit():
    assert parse_settings({"scale": 1.23456789}).scale == "1.23456789"
    assert parse_settings({"scale": [1, 0.1 + 0.2]}).scale == f"1, {0.1 + 0.2!r}"


def test_a_number_of_hundreds_of_digits_is_refused():
    with pytest.raises(ClipError, match="between 0 and 10"):
        parse_settings({"scale": 10**400})


def test_seeds_may_be_a_list():
    assert parse_settings({"frame_seeds": [5, 6, 7]}).frame_seeds == "5, 6, 7"


@pytest.mark.parametrize("prompt", ["0: a cat\n8:2 cats", "0: a\nfoo\n4:3 dogs"])
def test_a_line_that_may_be_a_frame_or_a_ratio_is_asked_about(prompt):
    with pytest.raises(ClipError, match="this may be a frame or a ratio"):
        read_travel(prompt, 16)


# These took seconds to minutes: there is no bound on the time here, but nobody would wait for them.


def test_a_long_number_is_read():
    assert read_travel(f"0:{'1' * 100_000}a\n4: b", 16).prompts()[4] == "b"


def test_many_amounts_are_read():
    assert parse_settings({"frames": 10_000, "scale": ", ".join(f"{i}: 1" for i in range(5_000))})


def test_an_estimate_of_a_monstrous_clip_is_made():
    windows = ContextWindows(length=1, overlap=0, stride=8)
    assert "10000 frames" in one_line(ClipEstimate(base="sd15", frames=10_000, windows=windows, steps=150))


def encoded(picture, **more):
    written = io.BytesIO()
    picture.save(written, "PNG", **more)
    return written.getvalue()


def test_a_mask_of_16_bits_keeps_its_levels():
    deep = Image.new("I;16", (2, 2), 20_000)
    mask = unpacked_mask(packed_mask(base64.b64encode(encoded(deep)).decode()))
    assert mask.mean().item() == pytest.approx(20_000 / 65_535, abs=0.01)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparency_without_a_band_is_black_too(mode):
    colour = {"P": 0, "L": 255, "RGB": (255, 255, 255)}[mode]
    picture = Image.new(mode, (4, 4), colour)
    if mode == "P":
        picture.putpalette([255, 255, 255] * 256)
    data = encoded(picture, transparency=colour)
    assert unpacked_mask(packed_mask(base64.b64encode(data).decode())).max() == 0


def test_base64_may_have_line_breaks():
    data = encoded(Image.new("L", (64, 64), 200))
    assert packed_mask(base64.encodebytes(data).decode()) == base64.b64encode(data).decode()


def test_formats_that_run_programs_are_no_pictures():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n"
    with pytest.raises(ClipError, match="no picture"):
        packed_mask(base64.b64encode(eps).decode())


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf"])
def test_a_strength_is_a_number(tmp_path, strength):
    (tmp_path / "pan.ckpt").touch()
    with pytest.raises(NetworkError):
        parse_added(f"{tmp_path / 'pan.ckpt'}:{strength}")
