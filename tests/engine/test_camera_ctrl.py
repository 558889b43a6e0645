"""CameraCtrl in a UNet: as one whose motion module has the literal encoder's features in its first attentions."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from support import hosts
from support.camera_ctrl import MERGE, literal_features, literal_rays, literal_unet, poses_of, shared_camera
from support.injected import injected
from support.matrix import every_once, only_at
from support.motions import shared_motion
from support.oracle import literal_fusion
from support.unchanged import Portrait
from support.windows import WINDOWS

from lib_animatediff import AnimateDiffError, ContextWindows, inject
from lib_animatediff.engine.components.camera_ctrl import CameraCtrlComponent
from motion_module import MotionModule
from motion_module.camera_ctrl.network import CameraCtrl
from motion_module.camera_ctrl.poses import CameraPose
from motion_module.camera_ctrl.rays import pluecker_rays
from motion_module.temporal_transformer import TemporalTransformer

FRAMES = 4
POSES = poses_of(9)
ONE = pytest.mark.parametrize("host", only_at(hosts.HOSTS, 0))  # the places of the hooks are shown on both


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def motion():
    return shared_motion("v3")


def component(frames=FRAMES, length=16, **options):
    return CameraCtrlComponent(shared_camera(length=length)[0], options.pop("poses", POSES[:frames]), **options)


def features_of(window, size=(64, 64), views=None):
    """Of one window, relative to its first frame; the rays themselves are tested elsewhere."""
    rays = pluecker_rays([POSES[frame] for frame in window], size)
    return literal_features(shared_camera()[1], rays, views)


def literal(unet, host, motion, window, scales=None):
    scales = scales or [1.0] * len(window)
    return literal_unet(unet, host, motion[1], shared_camera()[1], features_of(window), scales)


@pytest.mark.parametrize(("host", "streams", "clips"), every_once(hosts.HOSTS, (1, 2, 3), (1, 2)))
def test_a_call_is_that_of_a_unet_with_the_literal_features(unets, motion, host, streams, clips):
    unet, given = unets[host, 4], hosts.inputs(FRAMES * streams * clips)
    before = Portrait(unet)
    wanted = hosts.call(literal(unet, host, motion, range(FRAMES)), given)
    got = injected(unet, given, motion[0], component(), frames=FRAMES)
    assert (got - wanted).abs().max() <= 1e-5
    assert (got - injected(unet, given, motion[0], frames=FRAMES)).abs().max() > 1e-2
    before.assert_unchanged()


@ONE
def test_strengths_multiply_the_merge_of_their_frames_and_zero_changes_no_bit(unets, motion, host):
    unet, given = unets[host, 4], hosts.inputs(2 * FRAMES)
    plain = injected(unet, given, motion[0], frames=FRAMES)
    assert torch.equal(injected(unet, given, motion[0], component(strengths=(0.0,)), frames=FRAMES), plain)
    wanted = hosts.call(literal(unet, host, motion, range(FRAMES), [1.0, 0.5, 0.0, 0.0]), given)
    got = injected(unet, given, motion[0], component(strengths=[1, 0.5, 0]), frames=FRAMES)
    assert (got - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize(("host", "windows"), only_at(product(hosts.HOSTS, WINDOWS), 0))
def test_windows_are_the_literal_average_with_poses_from_their_first_frame(unets, motion, host, windows):
    unet, frames, windows = unets[host, 4], 7, WINDOWS[windows]
    given, strengths = hosts.inputs(2 * frames), [1, 0.5, 1, 1, 2, 1, 1.5]
    plan = windows.plan(frames, 0)
    made = [literal(unet, host, motion, window, [float(strengths[frame]) for frame in window]) for window in plan]

    def call(part, number):
        return hosts.call(made[number], part)

    wanted = literal_fusion(call, given, frames, plan, [windows.weights(window, frames) for window in plan])
    own = component(frames, strengths=strengths)
    with inject(unet, motion[0], own, frames=frames, windows=windows) as injection:
        injection.step = 0
        got = hosts.call(unet, given)
    assert (got - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize("host", only_at(hosts.HOSTS, 0))
def test_views_have_features_of_their_own(unets, motion, host):
    """Views without overlap know nothing of one another in the attention; so the first is as a window by itself."""
    unet, frames, given = unets[host, 4], 8, hosts.inputs(8)
    views = ContextWindows(length=4, overlap=0, kind="batched", as_views=True)
    with inject(unet, motion[0], component(frames), frames=frames, windows=views) as injection:
        injection.step = 0
        got = hosts.call(unet, given)
    for window in (range(4), range(4, 8)):
        part = {key: each[window.start : window.stop] for key, each in given.items()}
        alone = hosts.call(literal(unet, host, motion, window), part)
        assert (got[window.start : window.stop] - alone).abs().max() <= 1e-5


def test_a_rolled_loop_begins_with_the_pose_of_its_first_frame(ldm_unet, motion):
    """The only window of a closed loop begins at another frame at each step: as the frames in that order."""
    given, closed = hosts.inputs(FRAMES), ContextWindows(length=4, overlap=1, kind="looped", closed=True)
    (window,) = closed.plan(FRAMES, 1)
    assert window[0] != 0
    with inject(ldm_unet, motion[0], component(strengths=[1, 2, 0.5, 1]), frames=FRAMES, windows=closed) as injection:
        injection.step = 1
        got = hosts.call(ldm_unet, given)
    index = torch.tensor(window)
    part = {key: each[index] for key, each in given.items()}
    scales = [[1.0, 2.0, 0.5, 1.0][frame] for frame in window]
    wanted = hosts.call(literal(ldm_unet, "ldm", motion, window, scales), part)
    assert (got[index] - wanted).abs().max() <= 1e-5


def test_more_frames_than_the_encoders_tables_are_encoded_in_views_that_overlap_by_half(ldm_unet, motion):
    given, frames = hosts.inputs(6), 6
    features = features_of(range(frames), views=[range(4), range(2, 6)])
    made = literal_unet(ldm_unet, "ldm", motion[1], shared_camera()[1], features, [1.0] * frames)
    got = injected(ldm_unet, given, motion[0], component(frames, length=4), frames=frames)
    assert (got - hosts.call(made, given)).abs().max() <= 1e-5


def test_sides_that_are_no_multiples_of_64_have_features_of_the_next_ones_resized(unets, motion):
    """Diffusers' UNet takes them; LDM's does not."""
    host, size = "diffusers", (6, 10)
    unet, given = unets[host, 4], hosts.inputs(FRAMES, size=size)
    rays = literal_rays(POSES[:FRAMES], 32, 16, 10 / 6)  # a quarter of each side: the camera is the same
    assert (pluecker_rays(POSES[:FRAMES], (32, 16), 10 / 6) - rays).abs().max() <= 1e-6
    rays = pluecker_rays(POSES[:FRAMES], (128, 64), 10 / 6)
    features, sides = [], (6, 10)
    for feature in literal_features(shared_camera()[1], rays):
        features.append(torch.nn.functional.interpolate(feature, sides, mode="bilinear"))
        sides = tuple(-(-side // 2) for side in sides)
    made = literal_unet(unet, host, motion[1], shared_camera()[1], features, [1.0] * FRAMES)
    got = injected(unet, given, motion[0], component(), frames=FRAMES)
    assert (got - hosts.call(made, given)).abs().max() <= 1e-5


def test_the_features_are_made_once_for_a_window(ldm_unet, motion, monkeypatch):
    seen, encode = [], CameraCtrl.encode
    monkeypatch.setattr(CameraCtrl, "encode", lambda self, *args: seen.append(1) or encode(self, *args))
    windows = ContextWindows(length=4, overlap=1, kind="static")
    with inject(ldm_unet, motion[0], component(7), frames=7, windows=windows):
        for _ in range(3):
            hosts.call(ldm_unet, hosts.inputs(7))
    assert len(seen) == len(windows.plan(7, 0))


def test_it_acts_in_its_part_of_the_sampling(ldm_unet, motion):
    given = hosts.inputs(FRAMES)
    plain = injected(ldm_unet, given, motion[0], frames=FRAMES)
    with inject(ldm_unet, motion[0], component(start=0.25, end=0.75), frames=FRAMES) as injection:
        acted = []
        for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
            injection.progress = progress
            acted.append(not torch.equal(hosts.call(ldm_unet, given), plain))
    assert acted == [False, True, True, False, False]


def test_only_the_first_motion_module_follows_the_camera(ldm_unet, motion):
    given, second = hosts.inputs(FRAMES), shared_motion("v2")[0]
    idle = {name: torch.zeros_like(tensor) for name, tensor in second.state_dict().items()}
    idle = MotionModule.from_state_dict(idle, second.layout, second._kind, "idle")
    one = injected(ldm_unet, given, motion[0], component(), frames=FRAMES)
    for order, is_same in (((motion[0], idle), True), ((idle, motion[0]), False)):
        got = injected(ldm_unet, given, *order, component(), frames=FRAMES)
        assert torch.equal(got, one) is is_same


@ONE
def test_the_unet_is_left_as_it_was_after_every_failure(unets, motion, host, monkeypatch):
    unet, given, own = unets[host, 4], hosts.inputs(FRAMES), component()
    before, plain = Portrait(unet), hosts.call(unet, given)
    for owner, name in ((CameraCtrl, "encode"), (CameraCtrl, "merge"), (TemporalTransformer, "forward")):
        monkeypatch.setattr(owner, name, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            injected(unet, given, motion[0], own, frames=FRAMES)
        before.assert_same_objects()
        monkeypatch.undo()
    injected(unet, given, motion[0], own, frames=FRAMES)  # and the component may be used again
    before.assert_unchanged()
    assert torch.equal(hosts.call(unet, given), plain)


WRONG = {
    "no strength": (lambda motion: [motion, component(strengths=())], "AD-Q77"),
    "not a number": (lambda motion: [motion, component(strengths=(float("nan"),))], "AD-Q77"),
    "no part": (lambda motion: [motion, component(start=0.5, end=0.5)], "AD-Q78"),
    "twice": (lambda motion: [motion, *[component()] * 2], "AD-Q79"),
    "no motion module": (lambda motion: [component()], "AD-Q80"),
    "before it": (lambda motion: [component(), motion], "AD-Q80"),
    "too few": (lambda motion: [motion, component(poses=[CameraPose()])], "AD-Q81"),
    "two cameras": (lambda motion: [motion, component(), component()], "AD-Q83"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_right_is_refused(ldm_unet, motion, what):
    make, code = WRONG[what]

    def attempt():
        injected(ldm_unet, hosts.inputs(FRAMES), *make(motion[0]), frames=FRAMES)

    with pytest.raises(AnimateDiffError) as caught:
        attempt()
    assert caught.value.code == code


def test_a_model_of_another_base_is_refused(unets):
    from support.motions import shared_motion as shared

    with pytest.raises(AnimateDiffError) as caught:
        injected(unets["ldm", 3], hosts.inputs(FRAMES), shared("sdxl")[0], component(), frames=FRAMES)
    assert caught.value.code == "AD-Q82"


def test_the_merges_have_their_official_names():
    names = [MERGE.format(site, "weight") for site in shared_camera()[0].widths]
    assert len(names) == 20
    assert set(names) < set(shared_camera()[1])
