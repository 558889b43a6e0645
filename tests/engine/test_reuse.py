"""Features of the deep layers are reused over the steps: what is computed, and what comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import hosts
from support.matrix import every_once, only_at
from support.motions import shared_motion
from support.reusing import (
    FRAMES,
    HALF,
    STREAMS,
    computed,
    entering,
    finished,
    is_full,
    outputs,
    skips_of,
    some,
    step_inputs,
)

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.reuse.layers import branch_of
from lib_animatediff.engine.reuse.schedule import FEWEST_STEPS, FeatureReuse

WINDOWS = ContextWindows(length=4, overlap=1)
ONE = pytest.mark.parametrize("host", only_at(hosts.HOSTS, 1))


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def motion():
    return shared_motion("v2")[0]


# --------------------------------------------------------------------------------------------------------------------
# the schedule


def full_steps(interval, steps, known=True):
    reuse = FeatureReuse(interval)
    return [step for step in range(steps) if reuse.is_full(step, steps if known else None)]


def test_the_first_and_the_last_step_are_full_and_no_more_than_the_interval_asks_for():
    assert full_steps(2, 20) == [*range(0, 17, 2), 19]
    assert full_steps(2, 21) == list(range(0, 21, 2))
    assert full_steps(3, 20) == [0, 3, 6, 9, 12, 15, 19]
    assert full_steps(2, 20, known=False) == list(range(0, 20, 2))
    for interval in (2, 3, 4, 5):
        for steps in range(FEWEST_STEPS, 60):
            full = full_steps(interval, steps)
            assert full[0] == 0
            assert full[-1] == steps - 1
            assert len(full) == -(-steps // interval)
    assert full_steps(3, FEWEST_STEPS - 1) == list(range(FEWEST_STEPS - 1))


def test_a_part_is_the_interval_of_a_step():
    assert [FeatureReuse(3).part(step, None) for step in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [FeatureReuse(2).part(step, 8) for step in range(8)] == [0, 0, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("wrong", [(1, 0), (6, 0), (2, -1), (2, 6)])
def test_what_no_reuse_can_be_is_refused(wrong):
    with pytest.raises(ClipError, match="intervals of 2 to 5"):
        FeatureReuse(*wrong)


# --------------------------------------------------------------------------------------------------------------------
# what is computed


@pytest.mark.parametrize(("host", "levels", "branch"), every_once(hosts.HOSTS, (4, 3), (0, 1, 2, 5)))
def test_at_a_step_in_between_only_the_branch_is_computed(unets, host, levels, branch):
    unet, motion = unets[host, levels], shared_motion("v2" if levels == 4 else "sdxl")[0]
    with inject(unet, motion, frames=FRAMES, reuse=FeatureReuse(2, branch)):
        every = computed(unet, step_inputs(0))
        within = computed(unet, step_inputs(1))
        assert computed(unet, step_inputs(2)) == every
    skipped = set(branch_of(unet, FeatureReuse(2, branch)).skipped)
    inside = {
        f"{name}{'.' * bool(name)}{inner}" if inner else name
        for name, layer in unet.named_modules()
        if layer in skipped
        for inner, _ in layer.named_modules()
    }
    assert within == [name for name in every if name not in inside]
    assert len(within) < len(every) * (branch + 1) / 6 + 4
    outermost = {"ldm": ["input_blocks.0.0", "out.2"], "diffusers": ["conv_in", "conv_out"]}[host]
    assert [within[0], within[-1]] == outermost
    assert sum(name.endswith(("in_layers.2", "conv1")) for name in within) == {0: 1, 1: 3, 2: 5, 5: 10}[branch]


@pytest.mark.parametrize(("host", "branch"), every_once(hosts.HOSTS, (0, 1)))
def test_only_the_sites_of_the_branch_have_motion(unets, motion, host, branch):
    unet, ran = unets[host, 4], []
    handles = [
        transformer.register_forward_hook(lambda _layer, _inputs, _output, name=name: ran.append(name))
        for name, transformer in motion.sites()
    ]
    outputs(unet, motion, [step_inputs(0), step_inputs(1)], FeatureReuse(2, branch))
    for handle in handles:
        handle.remove()
    outer, last = ["down_blocks.0.motion_modules.0"], [f"up_blocks.3.motion_modules.{place}" for place in (1, 2)]
    assert ran[len(handles) :] == (outer + last if branch else last[1:])


@pytest.mark.parametrize(("host", "branch"), every_once(hosts.HOSTS, (0, 1, 2)))
def test_the_output_is_that_of_the_blocks_by_hand(unets, motion, host, branch):
    """The kept features beside the skips of the new latents, through the last layers with their motion modules."""
    unet, count = unets[host, 4], branch + 1
    first, second = step_inputs(0), step_inputs(1)
    given = [first, second]
    got = outputs(unet, motion, given, FeatureReuse(2, branch))
    with inject(unet, motion, frames=FRAMES) as injection:
        kept = entering(unet, first, count)
        injection.call.begin((second["x"], second["t"]), {})
        wanted = finished(unet, second, kept, skips_of(unet, second, count))
        whole = hosts.call(unet, second)
    assert (got[1] - wanted).abs().max() <= 1e-6
    assert (got[1] - whole).abs().max() > 1e-3


@ONE
def test_full_steps_and_steps_without_reuse_are_bit_for_bit_the_same(unets, motion, host):
    unet, inputs = unets[host, 4], [step_inputs(step) for step in range(3)]
    plain, reused = outputs(unet, motion, inputs, None), outputs(unet, motion, inputs)
    assert torch.equal(reused[0], plain[0])
    assert torch.equal(reused[2], plain[2])
    assert not torch.equal(reused[1], plain[1])


@pytest.mark.parametrize(
    ("host", "kind", "windows"), every_once(hosts.HOSTS, ("v1", "v2", "sdxl"), ("windows", "views", "none"))
)
def test_an_input_that_stands_still_gives_exactly_the_full_output(unets, host, kind, windows):
    """In windows, too, which stay in place between full steps, and have their own features where they overlap."""
    unet, motion = unets[host, 3 if kind == "sdxl" else 4], shared_motion(kind)[0]
    given, windows = step_inputs(0), {"windows": WINDOWS, "views": replace(WINDOWS, as_views=True)}.get(windows)
    with inject(unet, motion, frames=FRAMES, windows=windows, reuse=FeatureReuse(3, 1)) as injection:
        got = []
        for step in range(5):
            injection.step = step
            got.append(hosts.call(unet, given))
    assert all(torch.equal(each, got[0]) for each in got[:3])
    assert torch.equal(got[4], got[3])


def test_features_in_main_memory_give_the_same(ldm_unet, motion):
    inputs = [step_inputs(step) for step in range(4)]
    for one, other in zip(
        outputs(ldm_unet, motion, inputs, windows=WINDOWS),
        outputs(ldm_unet, motion, inputs, FeatureReuse(2, on_cpu=True), windows=WINDOWS),
        strict=True,
    ):
        assert torch.equal(one, other)


# --------------------------------------------------------------------------------------------------------------------
# windows and streams


@pytest.mark.parametrize("views", [False, True])
def test_the_plan_of_windows_stands_inside_an_interval(ldm_unet, motion, views, monkeypatch):
    asked = []
    plan = ContextWindows.plan
    monkeypatch.setattr(ContextWindows, "plan", lambda self, *args: asked.append(args[1]) or plan(self, *args))
    windows = ContextWindows(length=4, overlap=1, as_views=views)
    outputs(ldm_unet, motion, [step_inputs(step) for step in range(6)], FeatureReuse(3), windows=windows)
    assert asked == [0, 1]  # a plan is made once for the steps that it serves


@pytest.mark.parametrize(("host", "windows", "calls_per_step"), every_once(hosts.HOSTS, (None, WINDOWS), (1, 2)))
def test_streams_in_calls_of_their_own_give_the_same_as_together(unets, motion, host, windows, calls_per_step):
    """Also where a sampler calls twice at one step, as Heun does: the number of calls tells them apart."""
    unet = unets[host, 4]
    half = FRAMES * STREAMS // 2
    steps = [step_inputs(step) for step in range(3) for _ in range(1 if step == 0 else calls_per_step)]
    together = outputs(unet, motion, steps, windows=windows)
    split = [some(given, rows) for given in steps for rows in (slice(0, half), slice(half, None))]
    apart = outputs(unet, motion, split, windows=windows)
    assert len(together) == len(apart) / 2
    for whole, *parts in zip(together, apart[::2], apart[1::2], strict=True):
        assert (whole - torch.cat(parts)).abs().max() <= 1e-5


def test_several_clips_in_calls_of_their_own_give_the_same(ldm_unet, motion):
    steps = [step_inputs(step, 4 * FRAMES) for step in range(2)]
    together = outputs(ldm_unet, motion, steps, windows=WINDOWS)
    for one, other in zip(
        together, outputs(ldm_unet, motion, steps, windows=WINDOWS, one_clip_per_call=True), strict=True
    ):
        assert (one - other).abs().max() <= 1e-5


def test_a_host_with_another_order_of_rows_gets_the_same(ldm_unet, motion):
    rows = FRAMES * STREAMS
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(3))
    steps = [step_inputs(step) for step in range(3)]
    mixed = [some(given, order.argsort()) for given in steps]
    plain = outputs(ldm_unet, motion, steps)
    got = outputs(ldm_unet, motion, mixed, row_order=lambda _: order.tolist())
    for one, other in zip(plain, got, strict=True):
        assert torch.allclose(one, other[order], atol=1e-6)


@pytest.mark.parametrize("calls", [[900, 800, 800, 700, 700, 600, 600], [900, 850, 800, 750, 700]])
def test_the_calls_of_a_sampler_of_second_order_are_counted_by_noise_level(ldm_unet, motion, calls):
    """Heun calls twice at a level. DPM2 has levels of its own in between."""
    levels = sorted(set(calls), reverse=True)
    with inject(ldm_unet, motion, frames=FRAMES, reuse=HALF) as injection:
        injection.begin_run(None)
        for level in calls:
            given = {**step_inputs(0), "t": torch.full((FRAMES * STREAMS,), level)}
            assert is_full(ldm_unet, given) == (levels.index(level) % 2 == 0), level


def test_the_windows_of_a_call_follow_the_step_unless_something_holds_them():
    from lib_animatediff.engine.call import planning_step

    call = UNetCall(4)
    call.place.set_host(7, None, None)
    assert planning_step(call) == 7
    call.hold = lambda step: step // 2
    assert planning_step(call) == 3
