"""AnimateLCM-I2V in a UNet: as one with the literal encoder's features before four of its motion modules."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from support import hosts
from support.image_encoder import literal_features, literal_unet, shared_i2v
from support.injected import injected
from support.matrix import every_once, only_at
from support.oracle import literal_fusion
from support.unchanged import Portrait
from support.windows import WINDOWS

from lib_animatediff import AnimateDiffError, ContextWindows, inject
from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from motion_module.image_encoder.network import ImageEncoder
from motion_module.temporal_transformer import TemporalTransformer

FRAMES = 4
ONE = pytest.mark.parametrize("host", only_at(hosts.HOSTS, 1))  # the places of the hooks are shown on both


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def image():
    return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def motion():
    return shared_i2v()[0]


def component(image, **options):
    return ImageEncoderComponent(shared_i2v()[1], image, **options)


def literal(unet, host, image, scales, drift=0.8):
    state = shared_i2v()[2]
    return literal_unet(unet, host, state, literal_features(state, image, len(scales), drift), scales)


@pytest.mark.parametrize(("host", "streams", "clips"), every_once(hosts.HOSTS, (1, 2, 3), (1, 2)))
def test_a_call_is_that_of_a_unet_with_the_literal_features(unets, motion, image, host, streams, clips):
    unet, given = unets[host, 4], hosts.inputs(FRAMES * streams * clips)
    before = Portrait(unet)
    wanted = hosts.call(literal(unet, host, image, [1.0] * FRAMES), given)
    for components in ((motion, component(image)), (component(image), motion)):  # in any order
        got = injected(unet, given, *components, frames=FRAMES)
        assert (got - wanted).abs().max() <= 1e-5
    assert (got - injected(unet, given, motion, frames=FRAMES)).abs().max() > 1e-2
    before.assert_unchanged()


@ONE
def test_strengths_and_drift_are_factors_and_no_strength_changes_no_bit(unets, motion, image, host):
    unet, given = unets[host, 4], hosts.inputs(2 * FRAMES)
    plain = injected(unet, given, motion, frames=FRAMES)
    assert torch.equal(injected(unet, given, motion, component(image, strengths=(0.0,)), frames=FRAMES), plain)
    wanted = hosts.call(literal(unet, host, image, [1.0, 0.5, 0.0, 0.0], 0.3), given)
    got = injected(unet, given, motion, component(image, strengths=[1, 0.5, 0], drift=0.3), frames=FRAMES)
    assert (got - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize(("host", "windows"), only_at(product(hosts.HOSTS, WINDOWS), 0))
def test_windows_are_the_literal_average_with_positions_from_0(unets, motion, image, host, windows):
    unet, frames, windows = unets[host, 4], 7, WINDOWS[windows]
    given, strengths = hosts.inputs(2 * frames), [1, 0.5, 1, 1, 2, 1, 1.5]
    plan = windows.plan(frames, 0)
    made = [literal(unet, host, image, [float(strengths[frame]) for frame in window]) for window in plan]

    def call(part, number):
        return hosts.call(made[number], part)

    wanted = literal_fusion(call, given, frames, plan, [windows.weights(window, frames) for window in plan])
    with inject(unet, motion, component(image, strengths=strengths), frames=frames, windows=windows) as injection:
        injection.step = 0
        got = hosts.call(unet, given)
    assert (got - wanted).abs().max() <= 1e-5


def test_a_rolled_loop_begins_with_the_position_of_its_first_frame(ldm_unet, motion, image):
    given, closed = hosts.inputs(FRAMES), ContextWindows(length=4, overlap=1, kind="looped", closed=True)
    (window,) = closed.plan(FRAMES, 1)
    assert window[0] != 0
    with inject(ldm_unet, motion, component(image), frames=FRAMES, windows=closed) as injection:
        injection.step = 1
        got = hosts.call(ldm_unet, given)
    index = torch.tensor(window)
    part = {key: each[index] for key, each in given.items()}
    wanted = hosts.call(literal(ldm_unet, "ldm", image, [1.0] * FRAMES), part)
    assert (got[index] - wanted).abs().max() <= 1e-5


def test_the_features_are_made_once(ldm_unet, motion, image, monkeypatch):
    seen, forward = [], ImageEncoder.forward
    monkeypatch.setattr(ImageEncoder, "forward", lambda self, *args: seen.append(1) or forward(self, *args))
    with inject(ldm_unet, motion, component(image), frames=6, windows=ContextWindows(length=4, overlap=1)):
        for _ in range(2):
            hosts.call(ldm_unet, hosts.inputs(6))
    assert len(seen) == 1


@ONE
def test_the_unet_is_left_as_it_was_after_every_failure(unets, motion, image, host, monkeypatch):
    unet, given, own = unets[host, 4], hosts.inputs(FRAMES), component(image)
    before, plain = Portrait(unet), hosts.call(unet, given)
    for owner in (ImageEncoder, ImageEncoderComponent, TemporalTransformer):
        name = "added_to" if owner is ImageEncoderComponent else "forward"
        monkeypatch.setattr(owner, name, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            injected(unet, given, motion, own, frames=FRAMES)
        before.assert_same_objects()
        monkeypatch.undo()
    injected(unet, given, motion, own, frames=FRAMES)  # and the component may be used again
    before.assert_unchanged()
    assert torch.equal(hosts.call(unet, given), plain)


WRONG = {
    "no strength": ({"strengths": ()}, 4, "AD-QB3"),
    "no number": ({"drift": float("nan")}, 4, "AD-QB3"),
    "two images": ({"image": torch.zeros(2, 4, 8, 8)}, 4, "AD-QB4"),
    "another base": ({}, 3, "AD-QB5"),
    "another size": ({"image": torch.zeros(4, 16, 8)}, 4, "AD-QB6"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_right_is_refused(unets, image, what):
    options, levels, code = dict(WRONG[what][0]), *WRONG[what][1:]

    def attempt():
        own = component(options.pop("image", image), **options)
        injected(unets["ldm", levels], hosts.inputs(FRAMES), own, frames=FRAMES)

    with pytest.raises(AnimateDiffError) as caught:
        attempt()
    assert caught.value.code == code
