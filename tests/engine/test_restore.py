"""Whatever happens inside, the UNet and the model are afterwards what they were, object by object."""

from __future__ import annotations

import gc
import inspect
import threading
import weakref

import pytest
import torch
from support import hosts
from support.injected import injected
from support.matrix import every_once, in_matrix, only_at
from support.motions import random_motion, shared_motion
from support.unchanged import Portrait
from torch import nn

from lib_animatediff import ClipError, ContextWindows, IncompatibleModelError, inject, use_schedule
from lib_animatediff.engine.patching import patch_forward
from lib_animatediff.engine.unet import find_sites
from motion_module.temporal_transformer import GEGLU, TemporalAttention

FRAMES = 3
GIVEN = hosts.inputs(FRAMES)
WINDOWS = ContextWindows(length=2, overlap=1)
REGISTRATIONS = ("register_forward_hook", "register_forward_pre_hook")


class Model(nn.Module):
    """As much of LDM's LatentDiffusion as an injection touches."""

    def __init__(self, unet: nn.Module, windows: ContextWindows | None) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet
        self.windows = windows
        self.register_buffer("alphas_cumprod", torch.linspace(1, 0.01, 1000))

    def sample(self, motion):
        with use_schedule(self, motion.schedule), self.injected(motion):
            return hosts.call(self.model.diffusion_model, GIVEN)

    def injected(self, motion):
        return inject(self.model.diffusion_model, motion, frames=FRAMES, windows=self.windows)


@pytest.fixture(params=only_at(hosts.HOSTS, 1))
def unet(request):
    """One of its own, since a failure must not reach other tests."""
    torch.manual_seed(0)
    return hosts.HOSTS[request.param]()


KINDS = ["v2", "v3 in windows", "v1 in windows"]
ONCE = pytest.mark.parametrize(("unet", "kind"), every_once(hosts.HOSTS, KINDS), indirect=True)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(unet, kind):
    return Model(unet, WINDOWS if "windows" in kind else None)


@pytest.fixture
def motion(kind):
    return shared_motion(kind[:2])[0]


@pytest.fixture
def before(request):
    """The model, or the UNet alone, as it was before the test and has to be after it."""
    portrait = Portrait(request.getfixturevalue("model" if "model" in request.fixturenames else "unet"))
    yield portrait
    portrait.assert_unchanged()


@pytest.fixture(params=["a few of LDM's", pytest.param("all", marks=pytest.mark.matrix)])
def some(request):
    """All places in diffusers' UNet; in LDM's the first, one in the middle and the last, and in the matrix all."""

    def chosen(places, model):
        is_few = request.param != "all" and hasattr(model.model.diffusion_model, "input_blocks")
        return [places[0], places[len(places) // 2], places[-1]] if is_few else places

    return chosen


@ONCE
def test_after_success(before, model, motion):
    plain = hosts.call(model.model.diffusion_model, GIVEN)
    assert not torch.equal(model.sample(motion), plain)
    assert torch.equal(hosts.call(model.model.diffusion_model, GIVEN), plain)


@pytest.mark.parametrize(
    ("unet", "kind", "error"),
    every_once(hosts.HOSTS, KINDS, [RuntimeError, KeyboardInterrupt]),
    indirect=["unet", "kind"],
)
def test_after_an_exception_at_every_site(before, some, model, motion, error, monkeypatch):
    for name, transformer in some(list(motion.sites()), model):

        def fails(*_given, name=name):
            raise error(name)

        monkeypatch.setattr(transformer, "forward", fails)
        with pytest.raises(error, match=name.replace(".", r"\.")):
            model.sample(motion)
        monkeypatch.undo()
        before.assert_same_objects()


@ONCE
@pytest.mark.parametrize("inner", [TemporalAttention, in_matrix(GEGLU), in_matrix(nn.GroupNorm)])
def test_after_an_exception_inside_the_motion_module(before, model, motion, inner, monkeypatch):
    part = [module for module in motion.modules() if isinstance(module, inner)][-1]

    def fails(*args):
        raise MemoryError("inside")

    monkeypatch.setattr(part, "forward", fails)
    with pytest.raises(MemoryError, match="inside"):
        model.sample(motion)


@ONCE
def test_after_an_exception_in_every_layer_of_the_unet_that_is_a_site(before, some, model, motion):
    """The host's own failure: it raises before our hook has run."""

    for site in some(list(find_sites(model.model.diffusion_model)), model):
        handle = site.layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("host")))
        with pytest.raises(RuntimeError, match="host"):
            model.sample(motion)
        handle.remove()
        before.assert_same_objects()


@ONCE
def test_after_a_failure_at_every_hook_registration(before, some, model, motion, monkeypatch):
    real = {name: getattr(nn.Module, name) for name in REGISTRATIONS}

    def sample(failing):
        """Fails at so many registrations from the first; says how many there were."""
        made = []

        def registering(name):
            def register(self, hook, **kwargs):
                if len(made) == failing:
                    raise KeyboardInterrupt
                made.append(name)
                return real[name](self, hook, **kwargs)

            return register

        with monkeypatch.context() as patches:
            for name in REGISTRATIONS:
                patches.setattr(nn.Module, name, registering(name))
            model.sample(motion)
        return len(made)

    total = sample(-1)
    before.assert_unchanged()
    for failing in some(range(total), model):
        with pytest.raises(KeyboardInterrupt):
            sample(failing)
        before.assert_same_objects()


@ONCE
def test_after_an_interruption_in_every_window(before, unet, motion):
    for last in (1, 2, 3):

        def interrupt(done, total, last=last):
            assert total == 3
            if done == last:
                raise KeyboardInterrupt

        windows = ContextWindows(length=2, overlap=0, kind="batched")
        with pytest.raises(KeyboardInterrupt):
            injected(unet, hosts.inputs(6), motion, frames=6, windows=windows, between_windows=interrupt)
        before.assert_unchanged()


@ONCE
def test_other_peoples_hooks_stay_where_they_were(model, motion):
    site = next(m for m in model.modules() if type(m).__name__ in ("SpatialTransformer", "Transformer2DModel"))
    seen = []
    site.register_forward_hook(lambda *_: seen.append("before"))
    with model.injected(motion):
        site.register_forward_hook(lambda *_: seen.append("inside"))
    hosts.call(model.model.diffusion_model, GIVEN)
    assert seen == ["before", "inside"]
    assert len(site._forward_hooks) == 2


@ONCE
def test_a_model_that_was_moved_to_meta_is_left_without_a_touch(model, motion):
    """The WebUI may unload the model inside: restoring must read no weight."""
    with use_schedule(model, motion.schedule), model.injected(motion):
        model.to("meta")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --------------------------------------------------------------------------------------------------------------------
# other people's patches of the forward


def patched(unet):
    """Someone's forward around the one that is there; counts its calls. And how they take it off again."""
    former, was_set, calls = unet.forward, "forward" in vars(unet), []

    def forward(*args, **kwargs):
        calls.append(len(args[0]))
        return former(*args, **kwargs)

    def restore():
        if was_set:
            unet.forward = former
        else:
            del unet.forward

    unet.forward = forward
    return calls, restore


@pytest.fixture
def motion_v1():
    return shared_motion("v1")[0]


def windowed(unet, motion):
    return inject(unet, motion, frames=FRAMES, windows=WINDOWS)


def test_a_patch_from_before_is_there_afterwards_and_sees_each_window(unet, motion_v1):
    wanted = injected(unet, GIVEN, motion_v1, frames=FRAMES, windows=WINDOWS)
    calls, _ = patched(unet)
    before = Portrait(unet)
    with windowed(unet, motion_v1):
        assert torch.equal(hosts.call(unet, GIVEN), wanted)
    before.assert_unchanged()
    assert calls == [2, 2]


def test_a_patch_that_comes_and_goes_inside(before, unet, motion_v1):
    with windowed(unet, motion_v1):
        wanted = hosts.call(unet, GIVEN)
        calls, restore = patched(unet)
        assert torch.equal(hosts.call(unet, GIVEN), wanted)
        restore()
        assert torch.equal(hosts.call(unet, GIVEN), wanted)
    assert calls == [FRAMES]


def test_a_patch_from_inside_that_stays_holds_one_of_ours_that_does_nothing(before, unet, motion_v1):
    plain = hosts.call(unet, GIVEN)
    with windowed(unet, motion_v1):
        calls, restore = patched(unet)
    theirs = unet.forward
    assert torch.equal(hosts.call(unet, GIVEN), plain)
    assert calls == [FRAMES]
    assert unet.forward is theirs
    restore()  # puts ours back, which takes itself off as soon as it is called
    assert torch.equal(hosts.call(unet, GIVEN), plain)


def test_what_is_left_of_ours_keeps_no_motion_module(unet):
    motion = random_motion("v3")[0]
    with windowed(unet, motion):
        patched(unet)
    gone = weakref.ref(motion)
    del motion
    gc.collect()
    assert gone() is None


def test_a_patch_from_before_that_is_taken_off_inside_takes_ours_along(before, unet, motion_v1):
    """No clip comes out then that would have seen only a part of the windows' work."""
    _, restore = patched(unet)
    with windowed(unet, motion_v1):
        restore()
        with pytest.raises(ClipError, match="other code has replaced the forward"):
            hosts.call(unet, GIVEN)


def test_an_injection_into_a_unet_that_still_holds_one_of_ours(before, unet, motion_v1):
    plain = hosts.call(unet, GIVEN)
    with windowed(unet, motion_v1):
        wanted = hosts.call(unet, GIVEN)
        _, restore = patched(unet)
    restore()
    with windowed(unet, motion_v1):
        assert torch.equal(hosts.call(unet, GIVEN), wanted)
    assert torch.equal(hosts.call(unet, GIVEN), plain)


def test_a_patch_over_ours_does_not_lose_the_signature(unet, motion_v1):
    """diffusers reads which arguments a UNet takes."""
    wanted = inspect.signature(unet.forward)
    with windowed(unet, motion_v1):
        assert inspect.signature(unet.forward) == wanted


def test_without_windows_the_forward_is_not_touched(unet, motion_v1):
    forward = patched(unet) and unet.forward
    with inject(unet, motion_v1, frames=FRAMES, windows=ContextWindows()):
        assert unet.forward is forward


# --------------------------------------------------------------------------------------------------------------------
# two at once


def test_of_two_threads_one_gets_the_unet(before, unet, motion_v1):
    start, refused = threading.Barrier(8), []
    inside, leave = [], threading.Event()

    def work():
        start.wait()
        try:
            with windowed(unet, motion_v1):
                inside.append(hosts.call(unet, GIVEN))
                leave.wait(60)
        except IncompatibleModelError as refusal:
            refused.append(str(refusal))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(refused) < 7 and any(thread.is_alive() for thread in threads):
        threads[0].join(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    assert len(inside) == 1
    assert refused == ["This UNet already has a motion module. Leave the other inject block first. [AD-G24]"] * 7


def test_a_nested_injection_is_refused_and_leaves_the_outer_one_as_it_was(before, unet, motion_v1):
    with windowed(unet, motion_v1):
        within, wanted = Portrait(unet), hosts.call(unet, GIVEN)
        with pytest.raises(IncompatibleModelError, match="already"), windowed(unet, motion_v1):
            pytest.fail("it was injected twice")
        within.assert_unchanged()
        assert torch.equal(hosts.call(unet, GIVEN), wanted)


def test_two_unets_at_once_do_not_know_of_each_other(motion_v1):
    torch.manual_seed(0)
    first, second = hosts.ldm_unet(), hosts.ldm_unet()
    wanted = [injected(unet, GIVEN, motion_v1, frames=FRAMES, windows=WINDOWS) for unet in (first, second)]
    with windowed(first, motion_v1), windowed(second, motion_v1):
        assert torch.equal(hosts.call(second, GIVEN), wanted[1])
        assert torch.equal(hosts.call(first, GIVEN), wanted[0])


def test_a_forward_is_put_back_even_if_setting_it_failed_halfway():
    class Stubborn(nn.Linear):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "forward":
                raise TypeError("set, but not liked")

    layer = Stubborn(1, 1)
    with pytest.raises(IncompatibleModelError), patch_forward(layer, print):
        pytest.fail("it was replaced")
    assert "forward" not in vars(layer)
