"""A UNet call in context windows is the weighted average of calls on the windows, row by row."""

from __future__ import annotations

import functools
import itertools
import threading
from collections import namedtuple

import pytest
import torch
from support import hosts
from support.injected import injected
from support.matrix import every_once, in_matrix
from support.motions import OFFICIAL, SD15_KINDS, shared_motion
from support.oracle import edited, literal_fusion, literal_weights, set_frames
from torch import nn

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.context_windows import FUSIONS, WINDOW_KINDS
from lib_animatediff.engine.patching import patch_forward
from lib_animatediff.engine.windowed_forward import WindowedForward

BOUND = 1e-5
FRAMES = 8
WINDOWS = ContextWindows(length=4, overlap=1)
STATIC = ContextWindows(length=4, overlap=1, kind="static")
Pair = namedtuple("Pair", "first second")


class Reference:
    """Calls of a literal UNet on one clip's window; a window that came before is not computed again."""

    def __init__(self, unet, host, kind, state):
        self.unet, self.seen = edited(unet, host, state, 1, **OFFICIAL[kind].norms), {}

    def __call__(self, given, _):
        leading = [given[name].reshape(len(given["x"]), -1)[:, 0] for name in ("x", "context", "t")]
        key = tuple(torch.cat(leading).tolist())
        if key not in self.seen:
            self.seen[key] = hosts.call(set_frames(self.unet, len(given["x"])), given)
        return self.seen[key]


def fused(reference, given, windows, frames, step=0):
    plan = windows.plan(frames, step)
    has_ends = windows.kind != "looped"
    weights = [literal_weights(windows.fusion, w, frames, windows.overlap, has_ends=has_ends) for w in plan]
    return literal_fusion(reference, given, frames, plan, weights)


@pytest.fixture(scope="module")
def on_ldm(unets):
    """By the motion module's kind: LDM's UNet, the module, and the reference that remembers."""

    @functools.cache
    def made(module):
        unet, (motion, state) = unets["ldm", OFFICIAL[module].levels], shared_motion(module)
        return unet, motion, Reference(unet, "ldm", module, state)

    return made


@pytest.fixture(scope="module")
def v1(on_ldm):
    return on_ldm("v1")


EVERY = list(itertools.product(WINDOW_KINDS, (1, 2, 3), FUSIONS))
ONCE = every_once(["v1"], WINDOW_KINDS, (1, 2, 3), FUSIONS)
# Each way to take norms with everything; kinds that share one with another's with a part of it.
PLANS = ONCE + [(module, *EVERY[2]) for module in ("v3", "sdxl", "hotshot")]
PLANS += [in_matrix(module, *plan) for module in ("v3", "sdxl") for plan in EVERY[:2] + EVERY[3:]]
PLANS += [in_matrix(module, *plan) for module in ("v2", "hotshot", "lcm") for plan in EVERY[1::7]]


@pytest.mark.parametrize(("module", "kind", "stride", "fusion"), PLANS)
def test_equals_the_average_of_literal_calls(on_ldm, module, kind, stride, fusion):
    unet, motion, reference = on_ldm(module)
    windows = ContextWindows(length=3, overlap=1, stride=stride, kind=kind, fusion=fusion)
    given = hosts.inputs(7)  # three levels of strides fit into it
    got = injected(unet, given, motion, frames=7, windows=windows)
    assert (got - fused(reference, given, windows, 7)).abs().max() <= BOUND


@pytest.mark.parametrize(("host", "kind"), every_once(hosts.HOSTS, [kind for kind in OFFICIAL if kind != "v1"]))
def test_every_motion_module_on_every_host(unets, host, kind):
    (motion, state), unet = shared_motion(kind), unets[host, OFFICIAL[kind].levels]
    given = hosts.inputs(12)
    got = injected(unet, given, motion, frames=6, windows=STATIC)
    wanted = fused(Reference(unet, host, kind, state), given, STATIC, 6)
    assert (got - wanted).abs().max() <= BOUND


def test_the_windows_of_a_long_clip_at_the_trained_length(on_ldm):
    unet, motion, reference = on_ldm("v3")
    windows = ContextWindows(length=32, overlap=8, kind="looped", closed=True)
    given = hosts.inputs(40)
    got = injected(unet, given, motion, frames=40, windows=windows)
    assert (got - fused(reference, given, windows, 40)).abs().max() <= BOUND


@pytest.mark.parametrize(("kind", "fusion"), every_once(SD15_KINDS, FUSIONS))
def test_one_window_is_no_window_bit_for_bit(unets, kind, fusion):
    motion, unet = shared_motion(kind)[0], unets["ldm", 4]
    given = hosts.inputs(12)
    plain = injected(unet, given, motion, frames=6)
    for length in (6, 16):
        windows = ContextWindows(length=length, fusion=fusion)
        assert torch.equal(injected(unet, given, motion, frames=6, windows=windows), plain)


def test_a_frame_reaches_only_those_that_share_a_window_with_it(v1):
    unet, motion, _ = v1
    given = hosts.inputs(2 * FRAMES)
    with inject(unet, motion, frames=FRAMES, windows=STATIC):  # 0-3, 3-6, 4-7
        before = hosts.call(unet, given)
        for frame in (0, 3, 4, 7):
            changed = dict(given, x=given["x"].clone())
            changed["x"][frame] += 1
            difference = (hosts.call(unet, changed) - before).abs().amax(dim=(1, 2, 3))
            reached = {other for window in STATIC.plan(FRAMES, 0) if frame in window for other in window}
            assert all((difference[other] > 1e-4) == (other in reached) for other in range(FRAMES))
            assert not difference[FRAMES:].any()  # the other stream


@pytest.mark.parametrize("streams", [1, 2, in_matrix(3)])
def test_streams_together_or_apart_are_the_same(v1, streams):
    unet, motion, _ = v1
    given = hosts.inputs(streams * FRAMES)
    with inject(unet, motion, frames=FRAMES, windows=WINDOWS):
        together = hosts.call(unet, given)
        calls = [slice(i * FRAMES, (i + 1) * FRAMES) for i in range(streams)]
        apart = torch.cat([hosts.call(unet, {k: v[own] for k, v in given.items()}) for own in calls])
    split = injected(unet, given, motion, frames=FRAMES, windows=WINDOWS, one_clip_per_call=True)
    assert (together - apart).abs().max() <= BOUND
    assert (together - split).abs().max() <= BOUND


def test_clips_apart_without_windows(v1):
    unet, motion, _ = v1
    given, seen = hosts.inputs(12), []
    with inject(unet, motion, frames=4):
        together = hosts.call(unet, given)
        apart = torch.cat([hosts.call(unet, {k: v[i : i + 4] for k, v in given.items()}) for i in (0, 4, 8)])
    with unet.input_blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0]))):
        got = injected(unet, given, motion, frames=4, one_clip_per_call=True)
    assert seen == [4, 4, 4]
    assert torch.equal(got, apart)
    assert (got - together).abs().max() <= BOUND


@pytest.mark.parametrize("on_cpu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_outputs_keep_their_dtype_and_are_summed_in_more(dtype, on_cpu):
    unet = Toy(lambda x: x + 1000)
    x = torch.randn(20, 4, 8, 8).to(dtype)
    windows = ContextWindows(length=6, overlap=5, fuse_on_cpu=on_cpu)
    with parted(unet, 20, windows):
        got = unet(x, 0)
    assert got.dtype == dtype
    assert torch.equal(got, x + 1000)  # averaging what is equal rounds nothing


# --------------------------------------------------------------------------------------------------------------------
# the plan follows the timestep


def test_the_plan_changes_with_the_timestep_and_not_with_the_call(v1):
    unet, motion, reference = v1
    cond, uncond = hosts.inputs(FRAMES), hosts.inputs(FRAMES, seed=1)
    with inject(unet, motion, frames=FRAMES, windows=WINDOWS):
        for step, timestep in enumerate((900, 600)):
            for given in (cond, uncond, cond)[: 3 - step]:
                timed = {**given, "t": torch.full((FRAMES,), timestep)}
                # The reference knows a window by its latents: each timestep has its own.
                timed["x"] = timed["x"] + step
                got = hosts.call(unet, timed)
                assert (got - fused(reference, timed, WINDOWS, FRAMES, step)).abs().max() <= BOUND


def test_a_host_can_say_the_step_itself(v1):
    unet, motion, reference = v1
    given = hosts.inputs(FRAMES)
    with inject(unet, motion, frames=FRAMES, windows=WINDOWS) as injection:
        first = hosts.call(unet, given)
        injection.step = 1
        second = hosts.call(unet, given)
        injection.step = None
        assert torch.equal(hosts.call(unet, given), first)
    assert WINDOWS.plan(FRAMES, 0) != WINDOWS.plan(FRAMES, 1)
    assert (second - fused(reference, given, WINDOWS, FRAMES, 1)).abs().max() <= BOUND


# --------------------------------------------------------------------------------------------------------------------
# what goes in and out of a call


class Toy(nn.Module):
    """As much of a UNet as the calls in parts touch; remembers what it is called with."""

    def __init__(self, compute=lambda x: x):
        super().__init__()
        self.compute, self.calls = compute, []

    def forward(self, x, timesteps=None, context=None, **more):
        self.calls.append((x, timesteps, context, more))
        return self.compute(x)


def parted(unet, frames, windows):
    call = UNetCall(frames, windowed=True)
    return patch_forward(unet, WindowedForward(call, windows, one_clip_per_call=False, between=None))


def test_everything_that_leads_with_the_rows_is_cut_and_nothing_else():
    unet, windows = Toy(), ContextWindows(length=4, overlap=0, kind="static")
    rows = torch.arange(16.0)
    given = {
        "context": [rows[:, None], torch.zeros(1, 3)],
        "y": rows,
        "control": (rows[:, None, None], [rows]),
        "added": {"ids": rows, "names": ["a", "b"], "scale": 0.5, "empty": None},
        "pair": Pair(rows, torch.ones(())),
    }
    with parted(unet, 8, windows):
        unet(rows[:, None], torch.tensor([7]), **given)
    assert len(unet.calls) == 2
    for (x, timestep, context, more), own in zip(unet.calls, ([0, 1, 2, 3], [4, 5, 6, 7]), strict=True):
        own = torch.tensor(own + [frame + 8 for frame in own], dtype=torch.float32)
        assert torch.equal(x[:, 0], own)
        assert torch.equal(timestep, torch.tensor([7]))
        assert torch.equal(context[0][:, 0], own)
        assert context[1] is given["context"][1]
        assert torch.equal(more["y"], own)
        assert torch.equal(more["control"][0][:, 0, 0], own)
        assert torch.equal(more["control"][1][0], own)
        assert isinstance(more["control"], tuple)
        assert torch.equal(more["added"]["ids"], own)
        assert more["added"] | {"ids": rows} == given["added"] | {"ids": rows}
        assert torch.equal(more["pair"].first, own)
        assert more["pair"].second is given["pair"].second
    assert torch.equal(given["added"]["ids"], rows)  # the caller's containers are as they were


def test_the_arguments_may_come_by_name():
    unet = Toy()
    x = torch.randn(8, 1)
    with parted(unet, 8, ContextWindows(length=4, overlap=0)):
        assert torch.equal(unet(x=x, timesteps=5), x)
        with pytest.raises(ClipError, match="without its argument 'timesteps'"):
            unet(x=x)


def test_outputs_may_be_nested():
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    x = torch.randn(8, 1)
    for wrap, unwrap in (
        (lambda out: (out,), lambda out: out[0]),
        (lambda out: [out, "more"], lambda out: out[0]),
        (lambda out: {"sample": out}, lambda out: out["sample"]),
        (lambda out: Pair(out, 1), lambda out: out.first),
        (lambda out: UNet2DConditionOutput(sample=out), lambda out: out.sample),
    ):
        unet = Toy(lambda x, wrap=wrap: wrap(2 * x))
        with parted(unet, 8, ContextWindows(length=4, overlap=0)):
            out = unet(x, 0)
        assert type(out) is type(wrap(x))
        assert torch.equal(unwrap(out), 2 * x)


def test_rows_that_are_not_whole_clips_are_refused(v1):
    with pytest.raises(ClipError, match="13 rows, which are not whole clips of 8"):
        injected(v1[0], hosts.inputs(13), v1[1], frames=FRAMES, windows=WINDOWS)


# --------------------------------------------------------------------------------------------------------------------
# between windows


def test_progress_is_told_after_each_window(v1):
    (unet, motion, _), told = v1, []
    options = {"windows": WINDOWS, "between_windows": lambda *args: told.append(args)}
    injected(unet, hosts.inputs(FRAMES), motion, frames=FRAMES, **options)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_is_raised_between_windows_ends_the_call_and_the_next_one_is_clean(v1):
    unet, motion, _ = v1
    given, calls = hosts.inputs(FRAMES), itertools.count()

    def interrupt(done, total):
        if next(calls) == 1:
            raise InterruptedError

    with inject(unet, motion, frames=FRAMES, windows=WINDOWS, between_windows=interrupt):
        with pytest.raises(InterruptedError):
            hosts.call(unet, given)
        again = hosts.call(unet, given)
    assert torch.equal(injected(unet, given, motion, frames=FRAMES, windows=WINDOWS), again)


def test_a_second_call_during_a_call_is_refused(v1):
    unet, motion, _ = v1
    given, outcomes, threads = hosts.inputs(FRAMES), [], []

    def call():
        try:
            hosts.call(unet, given)
            outcomes.append("computed")
        except ClipError as refusal:
            outcomes.append(str(refusal))

    def call_from_another_thread(done, total):
        if not threads:
            threads.append(threading.Thread(target=call))
            threads[0].start()
            threads[0].join()

    options = {"windows": WINDOWS, "between_windows": call_from_another_thread}
    injected(unet, given, motion, frames=FRAMES, **options)
    assert [outcome.partition(":")[0] for outcome in outcomes] == ["This UNet is already running a call"]
