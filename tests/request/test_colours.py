"""Colours of frames, matched to those of key images: statistics, the way between two images, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from lib_animatediff.request.control.colours import ColourMatch, colour_match
from lib_animatediff.request.control.unit import ControlUnit, control_from_json
from lib_animatediff.request.plan import add_controls, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import Pin
from lib_animatediff.video.pixels import levels_of
from motion_module import ClipError


def noisy(seed, mean, deviation, size=(32, 24)):
    drawn = torch.randn(size[1], size[0], 3, generator=torch.Generator().manual_seed(seed))
    levels = (drawn * deviation + torch.tensor(mean)).round().clamp(0, 255).to(torch.uint8)
    return Image.frombytes("RGB", size, levels.numpy().tobytes())


def statistics(image):
    levels = levels_of(image).double().flatten(0, 1)
    return torch.stack([levels.mean(0), levels.std(0, unbiased=False)])


@pytest.fixture
def keys(tmp_path):
    dark, bright = noisy(1, [60.0, 80.0, 100.0], 10), noisy(2, [140.0, 120.0, 160.0], 20)
    for name, image in (("dark", dark), ("bright", bright)):
        image.save(tmp_path / f"{name}.png")
    return [Pin(0, tmp_path / "dark.png"), Pin(4, tmp_path / "bright.png")], statistics(dark), statistics(bright)


def test_mean_and_deviation_become_those_of_the_images_and_lie_between_them(keys):
    pins, dark, bright = keys
    frame = noisy(3, [90.0, 90.0, 90.0], 12)
    match = ColourMatch(pins, 1.0)
    for number, wanted in ((0, dark), (1, dark * 0.75 + bright * 0.25), (4, bright), (9, bright)):
        torch.testing.assert_close(statistics(match.matched(frame, number)), wanted, rtol=0, atol=0.5)
    half = statistics(ColourMatch(pins, 0.5).matched(frame, 0))
    torch.testing.assert_close(half, (statistics(frame) + dark) / 2, rtol=0, atol=0.5)


def test_an_image_stays_as_it_is_and_a_plain_frame_does_not_become_noise(keys):
    pins, dark, _ = keys
    match = ColourMatch(pins, 1.0)
    own = Image.open(pins[0].path)
    assert match.matched(own, 0).tobytes() == own.tobytes()
    plain = match.matched(Image.new("RGB", own.size, (9, 9, 9)), 0)
    assert levels_of(plain).flatten(0, 1).unique(dim=0).shape == (1, 3)
    calm = match.matched(noisy(4, [90.0, 90.0, 90.0], 2), 0)
    assert statistics(calm)[1].max() < 5  # at most twice the own contrast, 2, where the image has 10
    assert dark[1].min() > 9


def test_a_plan_matches_the_colours_of_the_units_that_ask_for_it(keys):
    pins, _, _ = keys
    unit = ControlUnit(Path("rgb.safetensors"), keys=tuple(pins), colour_match=0.25)
    plan = plan_clip(parse_settings({"frames": 8}))
    assert colour_match(plan) is None
    assert colour_match(add_controls(plan, [ControlUnit(Path("rgb.safetensors"), keys=tuple(pins))])) is None
    assert colour_match(add_controls(plan, [unit])) is not None
    again = control_from_json(unit.to_json(), lambda entry: Path(entry["path"]))
    assert again == unit
    assert "colour_match" not in ControlUnit(Path("a"), keys=tuple(pins)).to_json()
    with pytest.raises(ClipError, match="AD-Q27"):
        ControlUnit(Path("a"), keys=tuple(pins), colour_match=1.5)
