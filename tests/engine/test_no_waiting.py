"""Nothing in a UNet call waits for the device: not in a window, and not for what earlier calls have made.

On a processor there is nothing to wait for. So the calls run on the meta device, which computes shapes only: whatever
reads a value there fails, and whatever goes from main memory to it is a copy that a graphics card would wait for.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from support import hosts
from support.matrix import in_matrix
from support.motions import shared_motion
from torch.utils._python_dispatch import TorchDispatchMode

from lib_animatediff import ContextWindows, ControlComponent, FrameHints, MotionScale, Text2VideoZero, inject
from lib_animatediff.engine.components.control import Residuals
from lib_animatediff.engine.context_windows import Chunks
from lib_animatediff.engine.motion_scale import BlockScale

FRAMES, STEPS = 6, 2
META = torch.device("meta")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "bincount", "item")
pytestmark = pytest.mark.usefixtures("norms_of_shapes")
INDEXES = ("index", "index_put", "index_put_")  # by lists, which are copied to the device unseen, and by masks


class Transfers(TorchDispatchMode):
    """Counts what reads values, what makes tensors from numbers of the host, and what crosses devices."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name.partition("::")[2]
        out = func(*args, **(kwargs or {}))
        given = {tensor.device for tensor in tensors([args, kwargs]) if tensor.dim()}
        made = {tensor.device for tensor in tensors(out)}
        if name in WAITS or name.startswith(("unique", "_unique")):
            self.found["waits"] += 1
        elif name == "lift_fresh":
            self.found["from numbers"] += 1
        elif name in INDEXES:
            self.found["indexes"] += 1
        elif (META in made and torch.device("cpu") in given) or (META in given and torch.device("cpu") in made):
            self.found["crosses"] += 1
        return out


@pytest.fixture
def norms_of_shapes(monkeypatch):
    """On the meta device torch writes norms out, in twenty steps each, which would take half of the time."""
    for name in ("group_norm", "layer_norm"):
        written = getattr(torch.nn.functional, name)

        def norm(x, *given, written=written, **named):
            return torch.empty_like(x) if x.is_meta else written(x, *given, **named)

        monkeypatch.setattr(torch.nn.functional, name, norm)


def tensors(tree):
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from tensors(item)
    elif isinstance(tree, dict):
        yield from tensors(list(tree.values()))


def test_the_meter_sees_what_a_card_would_wait_for():
    host, there = torch.ones(3), torch.ones(3, device="meta")
    with Transfers() as seen:
        host.sum().item()
        host[host > 0]
        there + there[0]
        torch.tensor([1, 2])
        host.to("meta")
        there[[0, 1]]
    assert seen.found == {"waits": 1, "indexes": 2, "from numbers": 1, "crosses": 1}


@pytest.fixture(scope="module")
def unet(unets):
    return deepcopy(unets["ldm", 4]).to("meta")


@pytest.fixture(scope="module")
def motion():
    return deepcopy(shared_motion("v1")[0]).to("meta")  # which also folds norms


def given_on_meta(timestep):
    given = {name: value.to("meta") for name, value in hosts.inputs(2 * FRAMES).items()}
    return {**given, "t": torch.full((2 * FRAMES,), timestep, device="meta")}


SCALE = MotionScale(
    scale=tuple(0.9 + frame / 50 for frame in range(FRAMES)),
    effect=tuple(1 - frame / 50 for frame in range(FRAMES)),
    scale_mask=torch.eye(8),
    effect_mask=torch.eye(8),
    blocks=(BlockScale("down_blocks.1", 0.5, 0.5),),
)
MOVING = MotionScale(scale=SCALE.scale, effect_steps=((0.0, 1.0), (1.0, 0.2)), start=0.0, end=0.9)
WINDOWS = {
    "uniform": ContextWindows(length=4, overlap=1),
    "static": ContextWindows(length=4, overlap=1, kind="static"),
    "looped": ContextWindows(length=4, overlap=1, kind="looped", closed=True, stride=2),
    "views": ContextWindows(length=4, overlap=1, as_views=True),
    "rolled": ContextWindows(length=16, kind="looped", closed=True),
}


def own_transfers(unet):
    """What a call of the UNet does by itself: LDM makes the frequencies of the timestep in main memory."""
    given = given_on_meta(500)
    with torch.no_grad(), Transfers() as seen:
        hosts.call(unet, given)
    return seen.found


def order(rows):
    return [*range(1, rows), 0]


@pytest.mark.parametrize(
    ("windows", "scale"),
    [
        in_matrix("uniform", SCALE),  # whose calls the tests below count as well
        ("views", MOVING),
        in_matrix("looped", MOVING),
        in_matrix("rolled", None),
        in_matrix("static", MOVING),
    ],
)
def test_a_host_that_says_the_timestep_never_waits_and_a_second_run_copies_nothing(unet, motion, windows, scale):
    windows, found = WINDOWS[windows], Counter()
    own, calls = own_transfers(unet), 0

    def count(_layer, _inputs):
        nonlocal calls
        calls += 1

    with (
        torch.no_grad(),
        unet.input_blocks[0].register_forward_pre_hook(count),
        inject(unet, motion, frames=FRAMES, windows=windows, scale=scale, row_order=order) as injection,
    ):
        for is_second in (False, True):
            calls = 0
            for step in range(STEPS):
                injection.timestep, injection.progress = 900 - 200 * step, step / STEPS
                given = given_on_meta(900 - 200 * step)
                with Transfers() if is_second else nullcontext() as seen:  # reading a value fails here in either run
                    hosts.call(unet, given)
                found += seen.found if seen else Counter()
    assert found == Counter({kind: count * calls for kind, count in own.items()})


def test_control_copies_the_hints_of_each_window_and_nothing_else(unet):
    def network(inputs):
        return Residuals([], inputs.latents.new_zeros(len(inputs.latents), 128, 1, 1))

    network.name = "control"
    hints = FrameHints(torch.zeros(FRAMES, 3, 64, 64, dtype=torch.uint8))
    control = ControlComponent(network, hints, [1, 0.5, 0, 1, 1, 0.25], end=0.9)
    own, found, calls = own_transfers(unet), Counter(), 0
    with torch.no_grad(), inject(unet, control, frames=FRAMES, windows=WINDOWS["uniform"]) as injection:
        for is_second in (False, True):
            for step in range(STEPS):
                injection.timestep, injection.progress = 900 - 200 * step, step / STEPS
                given = given_on_meta(900 - 200 * step)
                calls += len(WINDOWS["uniform"].plan(FRAMES, step)) * is_second
                with Transfers() if is_second else nullcontext() as seen:
                    hosts.call(unet, given)
                found += seen.found if seen else Counter()
    assert found == Counter({kind: count * calls for kind, count in own.items()}) + Counter(crosses=calls)


@pytest.mark.parametrize("windows", ["uniform", in_matrix("looped")])
def test_a_new_plan_takes_a_fixed_number_of_copies_however_many_windows_it_has(unet, motion, windows):
    def copies(frames):
        given = {name: value.to("meta") for name, value in hosts.inputs(frames).items()}
        with torch.no_grad(), inject(unet, motion, frames=frames, windows=WINDOWS[windows]) as injection:
            found = []
            for step in (0, 1):
                injection.step = step
                with Transfers() as seen:
                    hosts.call(unet, given)
                found.append(seen.found["crosses"] - own * len(WINDOWS[windows].plan(frames, step)))
        return found[1:]

    own = own_transfers(unet)["crosses"]
    assert len(WINDOWS[windows].plan(5, 1)) < len(WINDOWS[windows].plan(8, 1))
    assert copies(5) == copies(8) == [3]  # rows, weights, sums of weights


def test_without_the_host_the_timestep_is_read_once_for_all_calls_that_share_it(unets):
    """On the processor, where values can be read: cond and uncond apart, with a scale that follows the steps."""
    unet, motion = unets["ldm", 4], shared_motion("v1")[0]
    given = hosts.inputs(FRAMES)
    with torch.no_grad(), inject(unet, motion, frames=FRAMES, windows=WINDOWS["uniform"], scale=MOVING) as injection:
        for step in range(2):
            injection.share_timestep()
            timed = {**given, "t": torch.full((FRAMES,), 900 - step)}
            with Transfers() as seen:
                hosts.call(unet, timed)
                hosts.call(unet, timed)
            assert seen.found["waits"] <= FRAMES  # `tolist` reads each row
            assert injection.call.step == step


def test_static_windows_read_no_timestep(unets):
    unet, motion = unets["ldm", 4], shared_motion("v1")[0]
    with (
        torch.no_grad(),
        inject(unet, motion, frames=FRAMES, windows=WINDOWS["static"], scale=SCALE),
        Transfers() as seen,
    ):
        hosts.call(unet, hosts.inputs(FRAMES))
    assert seen.found["waits"] == 0


def test_text2video_zero_does_not_wait(unet):
    found = []
    with torch.no_grad(), inject(unet, Text2VideoZero(), frames=FRAMES, windows=ContextWindows(length=4, overlap=1)):
        for _ in range(2):
            given = given_on_meta(500)
            with Transfers() as seen:
                hosts.call(unet, given)
            found.append(seen.found)
    own = own_transfers(unet)["crosses"] * len(Chunks(4).plan(FRAMES, 0))
    assert not found[0]["waits"]
    assert found[1] == Counter(crosses=own)
