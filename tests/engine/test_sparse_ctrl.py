"""SparseCtrl in a UNet: what the literal encoder returns is added where both hosts add residuals."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from engine.test_no_waiting import META, Transfers, norms_of_shapes  # noqa: F401 - a fixture
from support import hosts
from support.control_networks import with_residuals
from support.injected import injected
from support.matrix import both_ends, every_once, only_at
from support.motions import random_motion, shared_motion
from support.oracle import literal_fusion
from support.sparse_ctrl import literal_residuals, shared_encoder
from support.unchanged import Portrait
from support.windows import WINDOWS

from lib_animatediff import ClipError, ContextWindows, IncompatibleModelError, inject
from lib_animatediff.engine.components.control import Residuals
from lib_animatediff.engine.components.sparse_ctrl import (
    NONE,
    GivenFrames,
    ResidualCache,
    SparseCtrlComponent,
    place_keys,
)
from motion_module.sparse_ctrl.network import SparseCtrl
from motion_module.temporal_transformer import TemporalTransformer

FRAMES = 6
WIDE = 64
WIDTHS = {32: (32, 64, 128, 128), WIDE: (64, 128, 256, 256)}
KINDS = ("rgb", "scribble")
KEYS = (1, 4)
ONE = pytest.mark.parametrize("host", only_at(hosts.HOSTS, 1))  # where residuals go, others show on both


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def wide():
    """Both hosts' UNets with two channels in each group of the norms.

    With one, a frame without a condition, which has one value per channel, would be normalised to rounding errors.
    """
    torch.manual_seed(0)
    return {host: make(WIDE) for host, make in hosts.HOSTS.items()}


@cache
def motion_of(width):
    return random_motion("v3", width)[0]


def conditions_of(kind, frames=KEYS, size=(8, 8)):
    generator = torch.Generator().manual_seed(len(kind))
    shape = (4, *size) if kind == "rgb" else (3, 8 * size[0], 8 * size[1])
    return {frame: torch.rand(shape, generator=generator) for frame in frames}


def component(kind="rgb", frames=KEYS, width=32, **options):
    given = conditions_of(kind, frames)
    return SparseCtrlComponent(
        shared_encoder(kind, WIDTHS[width])[0], GivenFrames(list(given), torch.stack(list(given.values()))), **options
    )


def literal(kind, given, keys, frames):
    """Residuals of all rows, clip by clip. `keys` gives the condition's frame at some places."""
    state, conditions = shared_encoder(kind, WIDTHS[WIDE])[1], conditions_of(kind)
    placed = {place: conditions[frame] for place, frame in keys.items()}
    parts = [
        literal_residuals(state, placed, given["t"][at], given["context"][at], frames)
        for at in (slice(first, first + frames) for first in range(0, len(given["x"]), frames))
    ]
    skips = [torch.cat(each) for each in zip(*(skips for skips, _ in parts), strict=True)]
    return Residuals(skips, torch.cat([middle for _, middle in parts]))


def own(keys=KEYS):
    return {frame: frame for frame in keys}


# --------------------------------------------------------------------------------------------------------------------
# one call


@pytest.mark.parametrize(("host", "kind", "streams", "clips"), every_once(hosts.HOSTS, KINDS, (1, 2, 3), (1, 2)))
def test_a_call_has_the_residuals_of_the_literal_encoder(wide, host, kind, streams, clips):
    unet, given, motion = wide[host], hosts.inputs(FRAMES * streams * clips), motion_of(WIDE)
    residuals = literal(kind, given, own(), FRAMES)
    with inject(unet, motion, frames=FRAMES):
        wanted = with_residuals(unet, given, residuals)
    got = injected(unet, given, motion, component(kind, width=WIDE), frames=FRAMES)
    assert (got - wanted).abs().max() <= 1e-5
    assert (got - injected(unet, given, motion, frames=FRAMES)).abs().max() > 1e-2


def test_the_residuals_do_not_depend_on_the_latents_and_one_clip_per_call_gives_the_same(ldm_unet):
    given = hosts.inputs(2 * FRAMES)
    whole = injected(ldm_unet, given, component(), frames=FRAMES)
    apart = injected(ldm_unet, given, component(), frames=FRAMES, one_clip_per_call=True)
    assert (whole - apart).abs().max() <= 1e-5


@ONE
def test_images_and_scribbles_add_up(wide, host):
    unet, given = wide[host], hosts.inputs(FRAMES)
    one, other = (literal(kind, given, own(), FRAMES) for kind in KINDS)
    summed = Residuals([a + b for a, b in zip(one.skips, other.skips, strict=True)], one.middle + other.middle)
    got = injected(unet, given, *(component(kind, width=WIDE) for kind in KINDS), frames=FRAMES)
    assert (got - with_residuals(unet, given, summed)).abs().max() <= 1e-5


# --------------------------------------------------------------------------------------------------------------------
# strength, and the part of the sampling


@ONE
def test_strengths_multiply_the_residuals_of_their_frames_and_zero_changes_no_bit(wide, host):
    unet, given = wide[host], hosts.inputs(2 * FRAMES)
    plain = hosts.call(unet, given)
    assert torch.equal(injected(unet, given, component(strengths=(0.0,), width=WIDE), frames=FRAMES), plain)
    strengths = [1, 0.5, 0, 2, 0]
    got = injected(unet, given, component(strengths=strengths, width=WIDE), frames=FRAMES)
    residuals = literal("rgb", given, own(), FRAMES)
    for frame, strength in enumerate([*strengths, strengths[-1]]):
        rows = slice(frame, None, FRAMES)
        wanted = with_residuals(unet, given, residuals, strength)
        assert (got[rows] - wanted[rows]).abs().max() <= 1e-5, frame
        if not strength:
            assert torch.equal(got[rows], plain[rows])


def test_it_acts_in_its_part_of_the_sampling(ldm_unet):
    given = hosts.inputs(FRAMES)
    plain = hosts.call(ldm_unet, given)
    with inject(ldm_unet, component(start=0.25, end=0.75), frames=FRAMES) as injection:
        acted = []
        for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
            injection.progress = progress
            acted.append(not torch.equal(hosts.call(ldm_unet, given), plain))
    assert acted == [False, True, True, False, False]


# --------------------------------------------------------------------------------------------------------------------
# windows


@pytest.mark.parametrize(
    ("window", "keys", "places"),
    [
        ((0, 1, 2, 3), (1, 3), {1: 0, 3: 1}),
        ((4, 5, 6, 7), (1, 2), {0: 1}),  # the nearest one before
        ((0, 1, 2, 3), (9, 6), {3: 1}),  # the nearest one behind
        ((4, 5, 6, 7), (2, 9), {0: 0, 3: 1}),  # two equally near
        ((4, 6, 8, 10), (7,), {2: 0}),  # as far from both ends
        ((3,), (0, 6), {0: 0}),
    ],
)
def test_a_window_without_a_key_takes_the_nearest(window, keys, places):
    assert place_keys(window, keys) == places
    is_own = any(frame in keys for frame in window)
    assert place_keys(window, keys, NONE) == (places if is_own else {})


@pytest.mark.parametrize(
    ("host", "kind", "windows", "without_key"), both_ends(hosts.HOSTS, KINDS, WINDOWS, ("nearest", "none"))
)
def test_windows_are_the_literal_average(wide, host, kind, windows, without_key):
    unet, frames, streams = wide[host], 9, 2
    given, motion, windows = hosts.inputs(streams * frames), motion_of(WIDE), WINDOWS[windows]
    plan = windows.plan(frames, 0)
    strengths = [1, 0.5, 1, 1, 2, 1, 1, 1.5, 1]

    def call(part, number):
        window = plan[number]
        keys = {place: KEYS[key] for place, key in place_keys(window, KEYS, without_key).items()}
        with inject(unet, motion, frames=len(window)):
            if not keys:
                return hosts.call(unet, part)
            residuals = literal(kind, part, keys, len(window))
            weights = torch.tensor([strengths[frame] for frame in window]).view(-1, 1, 1, 1)
            scaled = Residuals([weights * each for each in residuals.skips], weights * residuals.middle)
            return with_residuals(unet, part, scaled)

    wanted = literal_fusion(call, given, frames, plan, [windows.weights(window, frames) for window in plan])
    own = component(kind, width=WIDE, strengths=strengths, without_key=without_key)
    with inject(unet, motion, own, frames=frames, windows=windows) as injection:
        injection.step = 0
        got = hosts.call(unet, given)
    assert (got - wanted).abs().max() <= 1e-5


def test_a_clip_of_more_frames_than_its_tables_is_computed_in_the_views_of_the_call(ldm_unet):
    """Views without overlap know nothing of one another, so that the first one is a clip by itself."""
    frames, motion, given = 36, shared_motion("v3")[0], hosts.inputs(36)
    views = ContextWindows(length=16, overlap=0, kind="batched", as_views=True)
    with inject(ldm_unet, motion, component(), frames=frames, windows=views) as injection:
        injection.step = 0
        got = hosts.call(ldm_unet, given)
    alone = injected(ldm_unet, {key: each[:16] for key, each in given.items()}, motion, component(), frames=16)
    assert (got[:16] - alone).abs().max() <= 2e-4  # see `wide`


# --------------------------------------------------------------------------------------------------------------------
# cache


def counting(monkeypatch):
    seen = []
    encoder = shared_encoder("rgb")[0]
    forward = type(encoder).forward
    monkeypatch.setattr(type(encoder), "forward", lambda self, *args: seen.append(1) or forward(self, *args))
    return seen


@ONE
def test_a_cache_serves_further_runs_and_seeds_and_no_other_text_or_timestep(unets, host, monkeypatch):
    unet, seen, cache = unets[host, 4], counting(monkeypatch), ResidualCache()
    given = hosts.inputs(2 * FRAMES)
    other_seed = {**given, "x": given["x"].flip(0)}
    other_text = {**given, "context": given["context"].flip(0)}
    other_step = {**given, "t": given["t"] - 100}
    plain = [injected(unet, one, component(), frames=FRAMES) for one in (given, other_seed, other_text, other_step)]
    own, windows = component(cache=cache), None
    seen.clear()
    with inject(unet, own, frames=FRAMES, windows=windows):
        got = [hosts.call(unet, one) for one in (given, other_seed, other_text, other_step, given)]
    assert len(seen) == 3
    assert cache.hits == 2
    for one, wanted in zip(got, [*plain, plain[0]], strict=True):
        assert torch.equal(one, wanted)


def test_a_cache_tells_encoders_and_images_apart(ldm_unet):
    """Also encoders that are given the same images, and images that were replaced at the same address."""
    cache, given, latents = ResidualCache(), hosts.inputs(FRAMES), torch.rand(2, 4, 8, 8)
    other = SparseCtrl(shared_encoder("rgb")[0].layout, "other.ckpt").requires_grad_(False).eval()
    wanted, got = [], []
    for encoder, factor in ((shared_encoder("rgb")[0], 1.0), (other, 1.0), (other, 0.5)):
        latents.mul_(factor)
        for results, of in ((wanted, None), (got, cache)):
            own = SparseCtrlComponent(encoder, GivenFrames(KEYS, latents), cache=of)
            results.append(injected(ldm_unet, given, own, frames=FRAMES))
    assert cache.hits == 0
    for one, expected in zip(got, wanted, strict=True):
        assert torch.equal(one, expected)


def test_windows_have_entries_of_their_own_and_a_full_cache_keeps_what_it_has(ldm_unet, monkeypatch):
    seen, given, windows = counting(monkeypatch), hosts.inputs(FRAMES), ContextWindows(length=4, overlap=2)
    count = len(windows.plan(FRAMES, 0))
    wanted = injected(ldm_unet, given, component(), frames=FRAMES, windows=windows)
    for size, computed in ((2**30, count), (0, 2 * count)):
        seen.clear()
        with inject(ldm_unet, component(cache=ResidualCache(size)), frames=FRAMES, windows=windows):
            assert torch.equal(hosts.call(ldm_unet, given), wanted)
            assert torch.equal(hosts.call(ldm_unet, given), wanted)
        assert len(seen) == computed


def test_without_a_cache_nothing_waits_for_the_device(ldm_unet, norms_of_shapes):  # noqa: F811
    unet, windows = deepcopy(ldm_unet).to("meta"), ContextWindows(length=4, overlap=1)
    given = {name: tensor.to(META) for name, tensor in hosts.inputs(2 * FRAMES).items()}
    found = []
    for strengths in ([0], [1, 0, 1, 0.5]):  # LDM itself copies the frequencies of the timesteps
        with inject(unet, component(strengths=strengths), frames=FRAMES, windows=windows) as injection:
            injection.timestep = 500.0
            hosts.call(unet, given)
            with Transfers() as seen:
                hosts.call(unet, given)
        found.append(seen.found)
    assert found[0] == found[1]


# --------------------------------------------------------------------------------------------------------------------
# precision, failures, refusals


def test_an_encoder_in_another_precision_follows_the_unet_and_stays_as_it_is(ldm_unet):
    encoder = deepcopy(shared_encoder("rgb")[0]).half()
    conditions = conditions_of("rgb")
    given = GivenFrames(list(conditions), torch.stack(list(conditions.values())))
    own = SparseCtrlComponent(encoder, given)
    got = injected(ldm_unet, hosts.inputs(FRAMES), own, frames=FRAMES)
    assert got.dtype is torch.float32
    assert (got - injected(ldm_unet, hosts.inputs(FRAMES), component(), frames=FRAMES)).abs().max() < 0.1
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float16}


@ONE
def test_the_unet_is_left_as_it_was_after_success_and_after_every_failure(unets, host, monkeypatch):
    unet, given, own = unets[host, 4], hosts.inputs(FRAMES), component()
    before, plain = Portrait(unet), hosts.call(unet, hosts.inputs(FRAMES))
    motion, windows = shared_motion("v3")[0], ContextWindows(length=4, overlap=1)
    injected(unet, given, motion, own, frames=FRAMES, windows=windows)
    before.assert_unchanged()
    forward, left = TemporalTransformer.forward, []

    def failing(self, *args, **kwargs):
        if not left:
            raise ValueError("here")
        left.pop()
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(TemporalTransformer, "forward", failing)
    for passed in (0, 7, 8):  # the encoder has eight, and then comes one of the motion module
        left[:] = range(passed)
        with pytest.raises(ValueError, match="here"):
            injected(unet, given, motion, own, frames=FRAMES, windows=windows)
        before.assert_same_objects()
    monkeypatch.undo()
    before.assert_unchanged()
    assert torch.equal(hosts.call(unet, given), plain)
    injected(unet, given, own, frames=FRAMES)  # and the component may be used again


def component_with(frames):
    return SparseCtrlComponent(shared_encoder("rgb")[0], GivenFrames(frames, torch.zeros(2, 4, 8, 8)))


@pytest.mark.parametrize(
    ("make", "frames", "error", "code"),
    [
        (lambda: [component(strengths=())], 6, ClipError, "AD-Q05"),
        (lambda: [component(strengths=(1, float("inf")))], 6, ClipError, "AD-Q05"),
        (lambda: [component(start=0.5, end=0.5)], 6, ClipError, "AD-Q06"),
        (lambda: [component(without_key="far")], 6, ClipError, "AD-Q07"),
        (lambda: [component_with([0, 0])], 6, ClipError, "AD-Q08"),
        (lambda: [component_with([-1, 0])], 6, ClipError, "AD-Q08"),
        (lambda: [component_with([])], 6, ClipError, "AD-Q08"),
        (lambda: [component()] * 2, 6, ClipError, "AD-Q02"),
        (lambda: [component()], 4, ClipError, "AD-Q03"),
        (lambda: [component()], 33, ClipError, "AD-G22"),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_what_cannot_be_right_is_refused(ldm_unet, make, frames, error, code):
    def attempt():
        components = make()
        injected(ldm_unet, hosts.inputs(frames), *components, frames=frames)

    with pytest.raises(error) as caught:
        attempt()
    assert caught.value.code == code


def test_conditions_of_another_size_and_unets_of_another_base_are_refused(unets):
    with pytest.raises(ClipError) as caught:
        injected(unets["ldm", 4], hosts.inputs(FRAMES, size=(8, 16)), component("scribble"), frames=FRAMES)
    assert caught.value.code == "AD-Q04"
    assert "needs 128x64" in str(caught.value)
    for host in hosts.SDXL_HOSTS:
        with pytest.raises(IncompatibleModelError) as caught:
            injected(unets[host, 3], hosts.inputs(FRAMES), component(), frames=FRAMES)
        assert caught.value.code == "AD-Q09"
