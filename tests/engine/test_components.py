"""What a UNet carries: components of one's own, several motion modules in the order given, domain adapters."""

from __future__ import annotations

import copy
import functools
import itertools

import pytest
import torch
from support import hosts
from support.adapter_files import diffusers_layers, random_adapter, write_adapter
from support.injected import injected
from support.matrix import every_once, in_matrix, only_at
from support.motion_files import random_motion_state
from support.motions import OFFICIAL, random_motion, shared_motion
from support.oracle import INSERT, SHARE_NORMS
from support.unchanged import Portrait
from torch.nn import GroupNorm

from lib_animatediff import ClipError, ContextWindows, IncompatibleModelError, MotionScale, Text2VideoZero, inject
from lib_animatediff.engine.components.domain_adapter import DomainAdapterComponent, apply_domain_adapters
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.engine.unet import find_sites
from motion_module import load_domain_adapter

FRAMES = 3
GIVEN = hosts.inputs(2 * FRAMES)
BOUND = 1e-5
NO_EFFECT = MotionScale(effect=(0.0,))


@pytest.fixture
def unet(unets, host):
    return unets[host, 4]


@pytest.fixture(params=hosts.HOSTS)
def host(request):
    return request.param


# What does not depend on the host.
ON_ONE = pytest.mark.parametrize("host", only_at(hosts.HOSTS, 0), indirect=True)


@functools.cache
def module(kind, seed=0):
    """A motion module of a kind, and its state dict; other seeds have other weights."""
    if seed == 0:
        return shared_motion(kind)
    motion, _ = random_motion(kind)
    state = random_motion_state("v2" if OFFICIAL[kind].mid else "v3", seed=seed, tables=False)
    motion.load_state_dict(state, strict=False)
    return motion, state


def second(kind="v3"):
    return module(kind, 1)[0]


def first(kind="v3"):
    return module(kind)[0]


def run(unet, *components, frames=FRAMES, **options):
    return injected(unet, GIVEN, *components, frames=frames, **options)


# --------------------------------------------------------------------------------------------------------------------
# a component of one's own


class FrameLight:
    """Adds a number for each frame of the clip to the output of the first convolution."""

    name = "frame light"

    def __init__(self, values, frames_at_once=None):
        self.frames_at_once = frames_at_once
        self.values = torch.tensor(values)
        self.seen = []
        self.undone = 0

    def attach(self, unet, call, undo):
        def add(_layer, _inputs, output):
            self.seen.append(tuple(call.frames))
            return output + call.for_frames(self.values)[:, None, None, None]

        undo.callback(unet.first_convolution.register_forward_hook(add).remove)
        undo.callback(self._note)

    def _note(self):
        self.undone += 1


class MisfitError(Exception):
    pass


class Misfit:
    name = "misfit"
    frames_at_once = None

    def attach(self, unet, call, undo):
        undo.callback(unet.first_convolution.register_forward_hook(lambda *_: None).remove)
        raise MisfitError


def test_a_component_is_attached_sees_the_call_and_is_undone(unet):
    before, light, given = Portrait(unet), FrameLight([0.0, 0.0, 2.0, 0.0]), hosts.inputs(4)
    dark = hosts.call(unet, given)
    found = injected(unet, given, light, frames=4, windows=ContextWindows(length=2, overlap=0, kind="batched"))
    changed = [not torch.allclose(*rows, atol=1e-4) for rows in zip(found, dark, strict=True)]
    assert changed == [False, False, True, False]
    assert light.seen == [(0, 1), (2, 3)]
    assert light.undone == 1
    before.assert_unchanged()


@ON_ONE
def test_it_acts_beside_a_motion_module(unet):
    light = FrameLight([0.5] * FRAMES)
    both = run(unet, first(), light)
    assert not torch.allclose(both, run(unet, first()), atol=1e-3)
    assert not torch.allclose(both, run(unet, light), atol=1e-3)


PARTS = [{"windows": ContextWindows(length=2, overlap=1)}, {"one_clip_per_call": True}]


@pytest.mark.parametrize(("host", "options"), every_once(hosts.HOSTS, [{}, *PARTS]), indirect=["host"])
def test_all_is_undone_when_a_later_component_does_not_attach(unet, options):
    before, light = Portrait(unet), FrameLight([0.0] * FRAMES)
    with pytest.raises(MisfitError):
        run(unet, first("v1"), light, Misfit(), **options)
    assert light.undone == 1
    before.assert_unchanged()
    run(unet, light)  # the UNet is free again


@ON_ONE
def test_it_says_how_many_frames_it_serves_at_once(unet):
    short = FrameLight([0.0] * FRAMES, frames_at_once=2)
    with pytest.raises(ClipError, match="frame light was trained on clips of 2 frames; 3 are too many"):
        run(unet, first(), short)
    with pytest.raises(ClipError, match=r"frame light.*context windows of 3"):
        run(unet, FrameLight([], 2), frames=6, windows=ContextWindows(length=3, overlap=1))
    run(unet, short, windows=ContextWindows(length=2, overlap=1))


@ON_ONE
def test_nothing_and_what_is_none_are_refused(unet):
    before = Portrait(unet)
    with pytest.raises(ClipError, match="nothing to inject"):
        run(unet)
    for component, scale in ((MotionComponent(first()), MotionScale(scale=(2.0,))), (Text2VideoZero(), MotionScale())):
        with pytest.raises(ClipError, match="scale needs a motion module"):
            run(unet, component, scale=scale)
    for wrong, beside in itertools.product((object(), "v3.ckpt", torch.nn.Linear(1, 1), None), ((), (first(),))):
        with pytest.raises(IncompatibleModelError, match=f"{type(wrong).__name__} is not a motion module"):
            run(unet, *beside, wrong)
    before.assert_unchanged()


@ON_ONE
def test_the_earlier_keywords_mean_the_same(unet):
    scale = MotionScale(scale=(1.4,), effect=(0.6,))
    wanted = run(unet, first(), scale=scale)
    assert torch.equal(run(unet, motion=first(), amount=scale), wanted)
    assert torch.equal(run(unet, MotionComponent(first(), scale)), wanted)
    assert not torch.equal(run(unet, first()), wanted)
    with pytest.raises(IncompatibleModelError, match="is not a motion module"):
        run(unet, motion="v3.ckpt")


# --------------------------------------------------------------------------------------------------------------------
# several motion modules


def literal(unet, host, *modules, norms=False):
    """What a copy of the UNet computes with the literal modules inserted, one behind the other."""
    unet = copy.deepcopy(unet)
    if norms:
        SHARE_NORMS[host](unet, FRAMES)
    for _, state in modules:
        INSERT[host](unet, state, FRAMES)
    return hosts.call(unet, GIVEN)


@pytest.mark.parametrize(
    ("host", "kinds"),
    every_once(hosts.HOSTS, [("v3", "v3"), ("v2", "v3")]) + [in_matrix(host, ("v3", "v2")) for host in hosts.HOSTS],
    indirect=["host"],
)
def test_modules_act_one_after_the_other_in_the_order_given(unet, host, kinds):
    a, b = module(kinds[0]), module(kinds[1], 1)
    orders = [(a, b), (b, a), (a, a)]  # the same one may act twice
    made = [run(unet, *(motion for motion, _ in order)) for order in orders]
    for found, order in zip(made, orders, strict=True):
        assert (found - literal(unet, host, *order)).abs().max() <= BOUND
    assert (made[0] - made[1]).abs().max() > 1000 * BOUND


@ON_ONE
def test_each_module_has_a_scale_of_its_own(unet):
    strong, weak = MotionScale(scale=(1.5,)), MotionScale(effect=(0.3,))

    def both(one, other):
        return run(unet, MotionComponent(first(), one), MotionComponent(second(), other))

    made = [both(strong, weak), both(strong, None), both(None, weak), both(None, None), both(weak, strong)]
    for number, clip in enumerate(made):
        assert all(not torch.allclose(clip, other, atol=1e-4) for other in made[:number])
    # The keyword is for those that have none: the first here, both below.
    assert torch.equal(run(unet, first(), MotionComponent(second(), weak), scale=strong), made[0])
    assert torch.equal(run(unet, first(), second(), scale=weak), both(weak, weak))


@pytest.mark.parametrize(("host", "options"), every_once(hosts.HOSTS, [{}, *PARTS]), indirect=["host"])
def test_a_module_without_effect_leaves_the_other_bit_for_bit_and_the_order_counts(unet, options):
    alone, silent = run(unet, first(), **options), MotionComponent(second(), NO_EFFECT)
    assert torch.equal(run(unet, first(), silent, **options), alone)
    assert torch.equal(run(unet, silent, first(), **options), alone)
    made = [run(unet, first(), second(), **options), run(unet, second(), first(), **options)]
    assert not torch.equal(made[0], alone)
    assert not torch.allclose(*made, atol=1e-3)


def test_two_modules_with_norms_over_clips_fold_them_once(unet, host):
    before, counts = Portrait(unet), []
    for modules in ((first("v1"),), (first("v1"), second("v1"))):
        with inject(unet, *modules, frames=FRAMES):
            counts.append([len(layer._forward_pre_hooks) for layer in unet.modules() if isinstance(layer, GroupNorm)])
            found = hosts.call(unet, GIVEN)
    assert counts[0] == counts[1]
    assert set(counts[0]) == {0, 1}
    assert (found - literal(unet, host, module("v1"), module("v1", 1), norms=True)).abs().max() <= BOUND
    before.assert_unchanged()


def test_modules_of_kinds_with_and_without_norms_over_clips(unet, host):
    wanted = literal(unet, host, module("v3", 1), module("v1"), norms=True)
    assert (run(unet, second(), first("v1")) - wanted).abs().max() <= BOUND
    assert (run(unet, first("v1"), second()) - wanted).abs().max() > 1000 * BOUND


@ON_ONE
def test_norms_are_those_of_clips_while_any_module_that_needs_it_has_motion(unet):
    silent = [MotionComponent(one, NO_EFFECT) for one in (first("v1"), second("v1"))]
    assert torch.equal(run(unet, *silent), hosts.call(unet, GIVEN))
    assert torch.equal(run(unet, silent[0], first()), run(unet, first()))  # v3 does without
    for moving in ((silent[0], second("v1")), (second("v1"), silent[0])):
        assert torch.equal(run(unet, *moving), run(unet, second("v1")))


@ON_ONE
def test_the_shortest_module_says_how_long_a_clip_can_be(unet):
    with pytest.raises(ClipError, match=r"v1.safetensors was trained on clips of 24 frames; 25 are too many"):
        run(unet, first("v2"), first("v1"), frames=25)


@ON_ONE
def test_a_second_module_of_another_base_is_refused_and_the_first_comes_off(unet):
    before = Portrait(unet)
    with pytest.raises(IncompatibleModelError):
        run(unet, first(), shared_motion("sdxl")[0])
    before.assert_unchanged()


# --------------------------------------------------------------------------------------------------------------------
# domain adapters


def test_a_domain_adapter_as_a_component_is_that_around_the_block(unets, host, tmp_path):
    unet, motion = unets[host, 4], first()
    path = write_adapter(tmp_path / "domain.safetensors", random_adapter(diffusers_layers(unets["diffusers", 4])))
    adapter = load_domain_adapter(path)
    with apply_domain_adapters(unet, [(adapter, 0.7)]) as matches:
        around, alone = run(unet, motion), hosts.call(unet, GIVEN)
    before = Portrait(unet)
    component = DomainAdapterComponent([(adapter, 0.7)])
    assert torch.equal(run(unet, component, motion), around)
    assert torch.equal(run(unet, motion, component), around)
    assert torch.equal(run(unet, component), alone)
    assert [str(match) for match in component.matches] == [str(match) for match in matches]
    assert not torch.equal(around, run(unet, motion))
    assert torch.equal(run(unet, motion, DomainAdapterComponent([(adapter, 0.0)])), run(unet, motion))
    before.assert_unchanged()
    assert len(find_sites(unet)) == len(find_sites(copy.deepcopy(unet)))
