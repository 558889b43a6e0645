"""Context windows that another UNet computes give the same bits as here, in whatever order they are computed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support import hosts
from support.injected import injected
from support.motions import shared_motion

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.engine.reuse.schedule import FeatureReuse

FRAMES = 8
WINDOWS = ContextWindows(length=4, overlap=1)
SCALE = MotionScale(effect=(0.0, 1.0), effect_steps=((0.0, 1.0), (1.0, 0.5)))  # over frames and over the sampling


@pytest.fixture
def both(unets):
    """A UNet, another one with the same weights, and a motion component for each."""
    unet, motion = unets["ldm", 4], shared_motion("v3")[0]
    return unet, copy.deepcopy(unet), [MotionComponent(copy.deepcopy(motion), SCALE) for _ in range(2)]


def test_windows_of_another_unet_have_the_same_bits_whenever_they_are_computed(both):
    unet, other, (here, there) = both
    given = hosts.inputs(2 * FRAMES)
    wanted = injected(unet, given, here, frames=FRAMES, windows=WINDOWS)
    sent = []
    with inject(other, there, frames=FRAMES, windows=WINDOWS) as injection:

        def evaluate(calls):
            sent.extend(pickle.loads(pickle.dumps(call)) for call in calls)
            outputs = [call.run(other, injection.call) for call in reversed(sent)]
            return iter(outputs[::-1])

        got = injected(unet, given, here, frames=FRAMES, windows=WINDOWS, evaluate_windows=evaluate)
    assert torch.equal(got, wanted)
    assert [call.frames for call in sent] == WINDOWS.plan(FRAMES, 0)
    assert {call.whole_rows for call in sent} == {2 * FRAMES}


def test_the_place_in_the_sampling_goes_with_each_window(both):
    unet, other, (here, there) = both
    seen = []
    with inject(other, there, frames=FRAMES, windows=WINDOWS) as injection:

        def evaluate(calls):
            for call in calls:
                yield call.run(other, injection.call)
                seen.append((injection.call.step, injection.call.progress, injection.call.timesteps.tolist()))

        with inject(unet, here, frames=FRAMES, windows=WINDOWS, evaluate_windows=evaluate) as sampling:
            sampling.step, sampling.progress = 3, 0.75
            hosts.call(unet, hosts.inputs(FRAMES))
    assert {(step, progress) for step, progress, _ in seen} == {(3, 0.75)}


def test_a_worker_that_leaves_windows_out_is_an_error_and_not_another_clip(both):
    unet, _, (here, _) = both
    with pytest.raises(ValueError, match="shorter"):
        injected(unet, hosts.inputs(FRAMES), here, frames=FRAMES, windows=WINDOWS, evaluate_windows=lambda _calls: [])


def test_a_clip_of_one_window_is_computed_here(both):
    unet, _, (here, _) = both
    injected(unet, hosts.inputs(4), here, frames=4, windows=WINDOWS, evaluate_windows=lambda _: pytest.fail("sent"))


def test_features_are_not_reused_elsewhere(both):
    unet, _, (here, _) = both
    with (
        pytest.raises(ClipError) as refused,
        inject(unet, here, frames=FRAMES, windows=WINDOWS, reuse=FeatureReuse(2), evaluate_windows=lambda _: []),
    ):
        pass
    assert refused.value.code == "AD-G45"
