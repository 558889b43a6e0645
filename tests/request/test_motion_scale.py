"""How amounts of motion are written, and what they are at a frame, a step and a place of the picture."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image

from lib_animatediff import ClipError
from lib_animatediff.engine.motion_scale import MotionScale, PlacedScale, between
from lib_animatediff.request.masks import LONGEST_SIDE, pack_mask, packed_mask, unpacked_mask
from lib_animatediff.request.motion_scale import parse_blocks, parse_frames, parse_steps
from lib_animatediff.request.settings import motion_scale, parse_settings

SITE = "up_blocks.1.motion_modules.2"


def frames_of(text, frames=9):
    return parse_frames("scale", text, frames, 10)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1.2", [1.2]),
        ("1, 2, 3", [1, 2, 3]),
        ("0: 1, 8: 3", [1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3]),
        ("0: 1, -1: 3", [1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3]),
        ("2: 1, 50%: 2, .75: 0", [1, 1, 1, 1.5, 2, 1, 0, 0, 0]),
        ("4: 2\n6: 1", [2, 2, 2, 2, 2, 1.5, 1, 1, 1]),
    ],
)
def test_a_number_for_each_frame(text, wanted):
    assert list(frames_of(text)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "empty entry"),
        ("1,,2", "empty entry"),
        ("much", "needs a number, not 'much'"),
        ("nan", "between 0 and 10"),
        ("-1", "between 0 and 10"),
        ("11", "between 0 and 10"),
        ("9: 1", "the clip has no frame 9"),
        ("150%: 1", "outside the clip"),
        ("0: 1, 2", "Write frames and numbers"),
        ("x: 1", "Write frames and numbers"),
        (", ".join("1" * 10), "10 numbers for a clip of 9 frames"),
        ("9" * 5000, "between 0 and 10"),
    ],
)
def test_what_is_no_number_for_each_frame_is_refused(text, remedy):
    with pytest.raises(ClipError) as caught:
        frames_of(text)
    assert remedy in str(caught.value)
    assert "scale" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "at", "wanted"),
    [
        ("", 0.3, 1.0),
        ("0.5", 0.3, 0.5),
        ("0%: 1, 60%: 0.4", 0.3, 0.7),
        ("0%: 1, 60%: 0.4", 0.9, 0.4),
        ("50%: 2", 0.1, 2.0),
        ("0%: 1, 50%: 1, 50.1%: 0", 0.7, 0.0),
    ],
)
def test_an_amount_over_the_steps(text, at, wanted):
    assert between(parse_steps("scale_steps", text, 10), at) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["1, 2", "8: 1", "110%: 1", "0%", "50%: x", "0%: 1,", "-1%: 1", "0%: 20"])
def test_what_is_no_amount_over_the_steps_is_refused(text):
    with pytest.raises(ClipError, match="effect_steps"):
        parse_steps("effect_steps", text, 10)


def test_blocks_are_those_of_diffusers_names():
    found = parse_blocks("blocks", "up effect 0.5, down.1 scale 2, down.0.1 effect 0, mid scale 1.2")
    assert [(block.site, block.scale, block.effect) for block in found] == [
        ("up_blocks", 1, 0.5),
        ("down_blocks.1", 2, 1),
        ("down_blocks.0.motion_modules.1", 1, 0),
        ("mid_block", 1.2, 1),
    ]


@pytest.mark.parametrize(
    "text", ["up", "up 0.5", "side effect 1", "mid.0 effect 1", "up effect", "up effect x", "up cfg 1", "up.7 effect 1"]
)
def test_what_is_no_block_is_refused(text):
    with pytest.raises(ClipError, match="blocks"):
        parse_blocks("blocks", text)


def scale_at(amount, progress, window, size):
    return PlacedScale(amount, 16).scale_at(SITE, progress, window, size, torch.device("cpu"))


def effect_at(amount, progress, window, size):
    return PlacedScale(amount, 16).effect_at(SITE, progress, window, size, torch.device("cpu"))


def test_factors_are_multiplied():
    amount = MotionScale(
        scale=(1, 2),
        scale_steps=((0.0, 1.0), (1.0, 3.0)),
        blocks=parse_blocks("blocks", "up scale 0.5, up.1 scale 3, up.2 scale 7, down scale 5"),
    )
    got = scale_at(amount, 0.5, [0, 1, 5], (2, 2))  # frames beyond the list have its last
    assert got.flatten().tolist() == pytest.approx([1 * 2 * 1.5, 2 * 2 * 1.5, 2 * 2 * 1.5])
    assert effect_at(amount, 0.5, [0, 1], (2, 2)) == 1.0


def test_a_mask_is_as_large_as_the_block():
    mask = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    amount = MotionScale(effect=(1, 0.5), effect_mask=mask, scale=(3.0,), scale_mask=mask)
    effect = effect_at(amount, 0, [0, 1], (4, 4))
    assert effect.shape == (2, 4, 4)
    assert effect[0, :, 0].tolist() == [0] * 4
    assert effect[0, :, 3].tolist() == [1] * 4
    assert torch.equal(effect[1], effect[0] * 0.5)
    scale = scale_at(amount, 0, [0, 1], (2, 2))  # black moves as trained
    assert scale[0].tolist() == [[1, 3], [1, 3]]


def test_a_mask_shrinks_without_losing_what_is_thin():
    mask = torch.zeros(64, 64)
    mask[:, 7] = 1
    effect = effect_at(MotionScale(effect_mask=mask), 0, [0], (8, 8))
    assert effect.sum() == pytest.approx(8 / 8, rel=0.1)


# As pictures ---------------------------------------------------------------------------------------------------------


def encoded(picture, kind="PNG", **more):
    written = io.BytesIO()
    picture.save(written, kind, **more)
    return base64.b64encode(written.getvalue()).decode()


def test_a_small_grey_png_stays_the_text_that_it_is():
    text = encoded(Image.new("L", (8, 4), 128))
    assert packed_mask(text) == packed_mask(f"data:image/png;base64,{text}") == text
    assert torch.equal(unpacked_mask(text), torch.full((4, 8), 128 / 255))


def test_any_picture_becomes_one():
    picture = Image.new("RGB", (512, 256))
    picture.paste((255, 255, 255), (256, 0, 512, 256))
    text = packed_mask(encoded(picture, "JPEG"))
    mask = unpacked_mask(text)
    assert mask.shape == (LONGEST_SIDE // 2, LONGEST_SIDE)
    assert mask[:, 0].max() < 0.05
    assert mask[:, -1].min() > 0.95
    assert len(text) < 1500
    assert packed_mask(text) == text


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n"  # a program
NO_PICTURES = ["no picture", "/etc/passwd", encoded(Image.new("L", (2, 2)))[:40], "aGVsbG8="]


@pytest.mark.parametrize("text", [*NO_PICTURES, base64.b64encode(EPS).decode()])
def test_what_is_no_picture_is_refused(text):
    with pytest.raises(ClipError, match="not an image"):
        packed_mask(text)


def test_a_picture_too_large_to_open_is_refused():
    with pytest.raises(ClipError, match="motion mask"):
        packed_mask(encoded(Image.new("1", (30_000, 30_000))))


def test_a_mask_of_16_bits_keeps_its_levels():
    mask = unpacked_mask(packed_mask(encoded(Image.new("I;16", (2, 2), 20_000))))
    assert mask.mean().item() == pytest.approx(20_000 / 65_535, abs=0.01)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_what_is_transparent_is_black_with_a_band_and_without(mode):
    assert unpacked_mask(pack_mask(Image.new("RGBA", (2, 2), (255, 255, 255, 0)))).max() == 0
    colour = {"P": 0, "L": 255, "RGB": (255, 255, 255)}[mode]
    picture = Image.new(mode, (4, 4), colour)
    if mode == "P":
        picture.putpalette([255, 255, 255] * 256)
    assert unpacked_mask(packed_mask(encoded(picture, transparency=colour))).max() == 0


def test_base64_may_have_line_breaks():
    text = encoded(Image.new("L", (64, 64), 200))
    assert packed_mask(base64.encodebytes(base64.b64decode(text)).decode()) == text


# From the settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{}, {"scale": 1, "effect": [1, 1.0]}, {"effect": "0: 1, -1: 1"}, {"scale": "", "effect_steps": "1"}]
)
def test_settings_that_ask_for_nothing_change_nothing(values):
    amount = motion_scale(parse_settings(values)) or MotionScale()
    assert scale_at(amount, 0.5, range(16), (2, 2)) == effect_at(amount, 0.5, range(16), (2, 2)) == 1


def test_each_setting_has_its_place():
    given = {"frames": 4, "scale": [1, 2], "effect": 0.5, "scale_steps": "0%: 2", "effect_steps": "100%: 0.25"}
    given |= {"effect_start": 0.1, "effect_end": 0.9, "blocks": "mid effect 0", "mask_of": "both"}
    amount = motion_scale(parse_settings(given | {"motion_mask": encoded(Image.new("L", (2, 2), 51))}))
    assert (amount.scale, amount.effect, amount.start, amount.end) == ((1, 2), (0.5,), 0.1, 0.9)
    assert (amount.scale_steps, amount.effect_steps) == (((0, 2),), ((1, 0.25),))
    assert [block.site for block in amount.blocks] == ["mid_block"]
    assert amount.scale_mask.tolist() == amount.effect_mask.tolist() == [[pytest.approx(0.2)] * 2] * 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale": "0: 1, 20: 2"}, "no frame 20"),
        ({"effect": [1] * 17}, "17 numbers for a clip of 16"),
        ({"effect": 3}, "between 0 and 2"),
        ({"scale": [True]}, "scale must be a string"),
        ({"effect_start": 0.6, "effect_end": 0.5}, "Lower effect_start"),
        ({"frame_seeds": "1 2 3", "frames": 2}, "frame"),
        ({"motion_mask": "x"}, "not an image"),
        ({"scale": 10**400}, "between 0 and 10"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_cannot_be_is_refused_at_the_door(values, words):
    with pytest.raises(ClipError) as caught:
        parse_settings(values)
    assert words in str(caught.value)


def test_numbers_of_a_client_are_kept_to_the_last_digit():
    assert parse_settings({"scale": 1.23456789}).scale == "1.23456789"
    assert parse_settings({"scale": [1, 0.1 + 0.2]}).scale == f"1, {0.1 + 0.2!r}"


def test_many_amounts_are_read():
    assert parse_settings({"frames": 10_000, "scale": ", ".join(f"{i}: 1" for i in range(5_000))})
