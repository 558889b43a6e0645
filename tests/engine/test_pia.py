"""PIA in a UNet: as a UNet whose first convolution has nine channels and whose norms go over all frames."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from support import hosts
from support.injected import injected
from support.matrix import every_once, only_at
from support.oracle import literal_fusion
from support.pia import literal_unet, pia_motion, pia_state, with_image
from support.unchanged import Portrait
from support.windows import WINDOWS

from lib_animatediff import AnimateDiffError, inject
from lib_animatediff.engine.components.pia import PiaComponent

FRAMES = 5
AFFINITY = [1.0, 0.9, 0.5, 0.25, 0.0]


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def state():
    return pia_state()


@pytest.fixture(scope="module")
def image():
    return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3))


def component(state, image, affinity=AFFINITY):
    return PiaComponent("pia.ckpt", state["conv_in.weight"][:, 4:], image, affinity)


@pytest.mark.parametrize(("host", "streams", "clips"), every_once(hosts.HOSTS, (1, 2, 3), (1, 2)))
def test_a_call_is_that_of_a_unet_with_nine_channels(unets, state, image, host, streams, clips):
    unet, given = unets[host, 4], hosts.inputs(FRAMES * streams * clips)
    before = Portrait(unet)
    wanted = hosts.call(literal_unet(unet, host, state, FRAMES), with_image(given, image, AFFINITY))
    got = injected(unet, given, pia_motion(state), component(state, image), frames=FRAMES)
    assert (got - wanted).abs().max() <= 1e-5
    without = injected(unet, given, pia_motion(state), frames=FRAMES)
    assert (got - without).abs().max() > 1e-2
    before.assert_unchanged()


@pytest.mark.parametrize(("host", "windows"), only_at(itertools.product(hosts.HOSTS, WINDOWS), 0))
def test_windows_are_the_literal_average_with_the_affinity_of_the_clips_frames(unets, state, image, host, windows):
    unet, frames, windows = unets[host, 4], 7, WINDOWS[windows]
    given, affinity = hosts.inputs(2 * frames), [1, 0.9, 0.8, 0.6, 0.4, 0.3, 0.2]
    plan = windows.plan(frames, 0)
    literal = cache(lambda length: literal_unet(unet, host, state, length))

    def call(part, number):
        window = plan[number]
        return hosts.call(literal(len(window)), with_image(part, image, [affinity[frame] for frame in window]))

    wanted = literal_fusion(call, given, frames, plan, [windows.weights(window, frames) for window in plan])
    own = component(state, image, affinity)
    with inject(unet, pia_motion(state), own, frames=frames, windows=windows) as injection:
        injection.step = 0
        got = hosts.call(unet, given)
    assert (got - wanted).abs().max() <= 1e-5


def test_the_unet_is_left_as_it_was_after_a_failure(unets, state, image, monkeypatch):
    for host in hosts.HOSTS:
        unet, given = unets[host, 4], hosts.inputs(FRAMES)
        before, own = Portrait(unet), component(state, image)
        monkeypatch.setattr(PiaComponent, "added", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            injected(unet, given, pia_motion(state), own, frames=FRAMES)
        before.assert_unchanged()
        monkeypatch.undo()
        injected(unet, given, pia_motion(state), own, frames=FRAMES)
        before.assert_unchanged()


WRONG = {
    "above one": ({"affinity": [1.5] * FRAMES}, "AD-Q42"),
    "not a number": ({"affinity": [float("nan")] * FRAMES}, "AD-Q42"),
    "two images": ({"image": torch.zeros(2, 4, 8, 8)}, "AD-Q43"),
    "too few": ({"affinity": [1.0]}, "AD-Q44"),
    "another base": ({"width": 64}, "AD-Q45"),
    "another size": ({"image": torch.zeros(4, 16, 8)}, "AD-Q46"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_right_is_refused(ldm_unet, state, image, what):
    options, code = WRONG[what]
    weight = state["conv_in.weight"][:, 4:]
    weight = weight.repeat(2, 1, 1, 1) if "width" in options else weight

    def attempt():
        own = PiaComponent("pia.ckpt", weight, options.get("image", image), options.get("affinity", AFFINITY))
        injected(ldm_unet, hosts.inputs(FRAMES), own, frames=FRAMES)

    with pytest.raises(AnimateDiffError) as caught:
        attempt()
    assert caught.value.code == code
