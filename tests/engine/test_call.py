"""The UNet call under way: what a component or a host can read of it, and when."""

from __future__ import annotations

import pytest
import torch
from support import hosts
from support.matrix import every_once, only_at
from support.motions import shared_motion

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.unet import UNetView

FRAMES, CLIPS, STREAMS = 6, 2, 2
ROWS = FRAMES * CLIPS * STREAMS
WINDOWS = ContextWindows(length=4, overlap=1, kind="batched")  # 0 1 2 3 and 4 5


def begun(call: UNetCall, rows: int, timestep: object = 500) -> UNetCall:
    call.begin((torch.zeros(rows, 4, 2, 2), timestep), {})
    return call


# --------------------------------------------------------------------------------------------------------------------
# rows, frames, timesteps


def test_without_windows_the_rows_hold_the_whole_clip():
    call = begun(UNetCall(4), 8)
    assert list(call.frames) == [0, 1, 2, 3]
    assert (call.clip_frames, call.rows) == (4, 8)
    assert call.frames_of(12) == 4
    with pytest.raises(ClipError, match="10 rows, which are not whole clips of 4 frames"):
        call.frames_of(10)


def test_in_windows_frames_are_known_inside_a_window_only():
    call = begun(UNetCall(8, windowed=True), 16)
    with pytest.raises(ClipError, match="ran past the context windows"):
        call.frames  # noqa: B018
    with call.window((4, 5, 6), (torch.zeros(6, 4, 2, 2), 500), {}):
        assert (tuple(call.frames), call.rows, call.in_window) == ((4, 5, 6), 6, True)
    assert (call.rows, call.in_window) == (16, False)
    with pytest.raises(ClipError, match="ran past the context windows"):
        call.frames_of(16)


GIVEN = {
    "a number": (500, [500.0] * 4),
    "a broken number": (499.5, [499.5] * 4),
    "a tensor without dimensions": (torch.tensor(7), [7.0] * 4),
    "one value": (torch.tensor([7]), [7.0] * 4),
    "one for each row": (torch.tensor([9, 8, 7, 6]), [9.0, 8.0, 7.0, 6.0]),
}


@pytest.mark.parametrize(("given", "wanted"), GIVEN.values(), ids=GIVEN)
def test_each_row_has_a_timestep(given, wanted):
    assert begun(UNetCall(2), 4, given).timesteps.tolist() == wanted


@pytest.mark.parametrize(("sample", "timestep"), [("x", "timesteps"), ("sample", "timestep"), ("x", "t")])
def test_arguments_may_come_by_name(sample, timestep):
    call = UNetCall(2)
    call.begin((), {sample: torch.zeros(4, 4, 2, 2), timestep: torch.tensor([1, 2, 3, 4])})
    assert (call.rows, call.timesteps.tolist()) == (4, [1, 2, 3, 4])


def test_without_a_timestep_or_a_call_what_needs_one_is_refused():
    call = UNetCall(2)
    call.begin((torch.zeros(4, 4, 2, 2),), {})
    for name in ("timesteps", "step", "progress"):
        with pytest.raises(ClipError, match="without its argument 'timesteps'"):
            getattr(call, name)
    begun(call, 2).end()
    for name in ("step", "progress"):
        with pytest.raises(ClipError):
            getattr(call, name)


# --------------------------------------------------------------------------------------------------------------------
# step and progress


def test_timesteps_are_numbered_in_the_order_of_their_first_use():
    """A host may call for each stream by itself, with any number of rows."""
    call = UNetCall(2)
    calls = [(4, 900.5), (2, torch.tensor([900.5])), (2, torch.tensor(900.5)), (2, torch.full((2,), 600)), (2, 600)]
    calls += [(4, 300), (2, 900.5)]  # back at a timestep, as samplers of a higher order are
    assert [begun(call, rows, timestep).step for rows, timestep in calls] == [0, 0, 0, 1, 1, 2, 0]


def test_timesteps_of_rows_that_differ_are_a_step_of_their_own():
    call = UNetCall(2)
    assert begun(call, 4, torch.tensor([900, 800, 900, 800])).step == 0
    assert begun(call, 2, torch.tensor([900, 800])).step == 0
    assert begun(call, 2, torch.tensor([800, 700])).step == 1
    assert begun(call, 2, 900).step == 2


def test_progress_is_that_of_the_noisiest_row():
    call = UNetCall(2)
    for timestep, wanted in ((999, 0.0), (0, 1.0), (torch.tensor([0, 333]), 2 / 3), (2000, 0.0)):
        assert begun(call, 2, timestep).progress == pytest.approx(wanted)


def test_a_host_may_count_by_itself():
    call = begun(UNetCall(2), 2, 999)
    call.place.set_host(7, 0.25, None)
    assert (call.step, call.progress) == (7, 0.25)
    call.place.set_host(None, 0.5, None)
    assert (call.step, call.progress) == (0, 0.5)
    call.place.set_host(3, None, None)
    assert (call.step, call.progress) == (3, 0.0)


def test_a_window_has_its_rows_timesteps_and_the_calls_step_and_progress():
    """Frames may have noise levels of their own; a plan of windows must not change from window to window."""
    call = UNetCall(4, windowed=True)
    begun(call, 4, torch.tensor([999, 999, 999, 999]))
    assert call.step == 0
    begun(call, 4, torch.tensor([0, 333, 666, 999]))
    progress = call.progress
    with call.window((0, 1), (torch.zeros(2, 4, 2, 2), torch.tensor([0, 333])), {}):
        assert call.timesteps.tolist() == [0, 333]
        assert (call.step, call.progress) == (1, progress) == (1, 0.0)
    assert call.timesteps.tolist() == [0, 333, 666, 999]


def test_a_window_ends_with_an_exception_too():
    call, given = begun(UNetCall(4), 8, torch.arange(8)), (torch.zeros(1, 4, 2, 2), torch.tensor([3]))
    with pytest.raises(KeyboardInterrupt), call.window((1,), given, {}, clips=[1]):
        raise KeyboardInterrupt
    assert (call.rows, call.timesteps.tolist(), call.in_window) == (8, list(range(8)), False)
    assert call.for_frames(torch.arange(8)).tolist() == list(range(8))  # of both clips again


# --------------------------------------------------------------------------------------------------------------------
# a tensor with an entry for each frame


def test_a_tensor_of_one_or_of_each_clip_is_repeated_over_clips_and_streams():
    full = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert torch.equal(begun(UNetCall(3), 3).for_frames(full), full)
    assert begun(UNetCall(3), 12).for_frames(full)[:, 0].tolist() == [1, 2, 3] * 4
    call = begun(UNetCall(3), 12)
    assert call.for_frames(torch.arange(6)).tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert call.for_frames(torch.arange(12)).tolist() == list(range(12))


def test_a_window_gets_its_frames_in_its_order():
    call = begun(UNetCall(4, windowed=True), 16)
    with call.window((3, 0, 1), (torch.zeros(12, 4, 2, 2), 500), {}):
        assert call.for_frames(torch.arange(4)).tolist() == [3, 0, 1] * 4
        assert call.for_frames(torch.arange(8)).tolist() == [3, 0, 1, 7, 4, 5] * 2


def test_a_part_of_the_clips_gets_its_own_entries():
    call = begun(UNetCall(4, windowed=True), 16)  # two streams of two clips
    for clip, wanted in ((0, [1, 2]), (1, [5, 6]), (2, [1, 2]), (3, [5, 6])):
        with call.window((1, 2), (torch.zeros(2, 4, 2, 2), 500), {}, clips=[clip]):
            assert call.for_frames(torch.arange(8)).tolist() == wanted
            assert call.for_frames(torch.arange(4)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (5, "5 rows, which are not whole clips of 4"),
        (0, "0 rows"),
        (12, "for 3 clips cannot be distributed over the 4 clips"),
        (32, "for 8 clips cannot be distributed"),
    ],
)
def test_a_tensor_of_another_length_is_refused(length, words):
    call = begun(UNetCall(4, windowed=True), 16)
    for clips, rows in ((None, 8), ([3], 2)):
        window = call.window((1, 2), (torch.zeros(rows, 4, 2, 2), 500), {}, clips=clips)
        with window, pytest.raises(ClipError, match=words):
            call.for_frames(torch.zeros(length, 1))


# --------------------------------------------------------------------------------------------------------------------
# inside a UNet


@pytest.fixture(params=only_at(hosts.HOSTS, 0))
def unet(unets, request):
    return unets[request.param, 4]


def tags() -> torch.Tensor:
    """Each row's clip and frame as one number, in the order of the engine."""
    return torch.tensor([float(10 * clip + frame) for clip in range(CLIPS) for frame in range(FRAMES)])


def mixed(rows: int) -> list[int]:
    """Rows of a host that has all streams and clips of a frame side by side, as the engine orders them."""
    others = rows // FRAMES
    return [frame * others + other for other in range(others) for frame in range(FRAMES)]


WHOLE = tuple(range(FRAMES))
MODES = {
    "a call": ({}, [(WHOLE, ROWS)]),
    "windows": ({"windows": WINDOWS}, [((0, 1, 2, 3), 16), ((4, 5), 8)]),
    "views": ({"windows": ContextWindows(length=4, overlap=1, as_views=True)}, [(WHOLE, ROWS)]),
    "clip by clip": ({"one_clip_per_call": True}, [(WHOLE, FRAMES)] * 4),
    "clip by clip in windows": ({"one_clip_per_call": True, "windows": WINDOWS}, [((0, 1, 2, 3), 4), ((4, 5), 2)] * 4),
    "another order": ({"row_order": mixed}, [(WHOLE, ROWS)]),
    "another order in windows": ({"row_order": mixed, "windows": WINDOWS}, [((0, 1, 2, 3), 16), ((4, 5), 8)]),
}


@pytest.mark.parametrize(("unet", "mode"), every_once(hosts.HOSTS, MODES), indirect=["unet"])
@torch.no_grad()
def test_what_a_hook_reads_is_what_the_rows_hold(unet, mode):
    """The latents say of each row which frame of which clip it is, the timesteps likewise."""
    options, calls = MODES[mode]
    given = hosts.inputs(ROWS)
    of_rows = tags().repeat(STREAMS)
    given["x"] = of_rows[:, None, None, None].expand(-1, 4, 8, 8).clone()
    given["t"] = 100 + of_rows.long()
    if "row_order" in options:
        back = torch.tensor(mixed(ROWS)).argsort()
        given = {name: rows[back] for name, rows in given.items()}
    seen = []

    def read(_layer, inputs):
        call, found = injection.call, inputs[0][:, 0, 0, 0]
        assert torch.equal(call.for_frames(tags()), found)
        assert torch.equal(call.for_frames(torch.arange(FRAMES)).float(), found % 10)
        assert torch.equal(call.timesteps.float(), 100 + found)
        assert call.step == 0
        assert call.progress == pytest.approx(1 - 115 / 999)
        assert call.rows == len(found)
        seen.append((tuple(call.frames), call.rows))

    reading = UNetView(unet).first_convolution.register_forward_pre_hook(read)
    with inject(unet, shared_motion("v3")[0], frames=FRAMES, **options) as injection, reading:
        hosts.call(unet, given)
    assert seen == calls


@torch.no_grad()
def test_steps_are_counted_over_calls_and_a_host_may_set_them(unet):
    seen, given = [], hosts.inputs(2)

    def read(*_given):
        seen.append((injection.call.step, round(injection.call.progress, 3)))

    reading = UNetView(unet).first_convolution.register_forward_pre_hook(read)
    with inject(unet, shared_motion("v3")[0], frames=2) as injection, reading:
        for timestep in (999, 499, 499):
            hosts.call(unet, given | {"t": torch.full((2,), timestep)})
        injection.step, injection.progress = 4, 0.75
        hosts.call(unet, given)
        injection.step = injection.progress = None
        hosts.call(unet, given | {"t": torch.full((2,), 499)})
    assert seen == [(0, 0.0), (1, 0.501), (1, 0.501), (4, 0.75), (1, 0.501)]
