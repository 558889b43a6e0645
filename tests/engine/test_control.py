"""Control networks in a UNet: each row has the hint of its frame, and residuals go where both hosts add them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import hosts
from support.control_networks import Loud, literal_residuals, with_residuals
from support.injected import injected
from support.matrix import every_once, only_at
from support.motions import shared_motion
from support.oracle import literal_fusion
from support.reusing import entering, finished, skips_of
from support.unchanged import Portrait

from lib_animatediff import ClipError, ContextWindows, ControlComponent, FrameHints, IncompatibleModelError, inject
from lib_animatediff.engine.components.control import Residuals
from lib_animatediff.engine.reuse.schedule import FeatureReuse

FRAMES, STREAMS = 6, 2
ROWS = FRAMES * STREAMS
ONE = pytest.mark.parametrize("host", only_at(hosts.HOSTS, 1))  # where residuals go, others show on both
BOUND = 5e-6
WINDOWS = ContextWindows(length=4, overlap=1, fusion="pyramid")


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def images(frames=FRAMES):
    """One grey for each frame: the number of the frame, in 8 bits."""
    return torch.arange(frames, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 64, 64).contiguous()


def hints_of_rows(rows=ROWS, frames=FRAMES):
    return images(frames).float().div(255).repeat(rows // frames, 1, 1, 1)


def control(network=None, **options):
    return ControlComponent(network or Loud(), FrameHints(images()), **options)


# --------------------------------------------------------------------------------------------------------------------
# one call


@pytest.mark.parametrize(("host", "kind"), [(host, kind) for host in hosts.HOSTS for kind in ("skips", "down")])
def test_residuals_are_added_where_the_host_itself_adds_them(unets, host, kind):
    unet, given = unets[host, 4], hosts.inputs(ROWS)
    residuals = literal_residuals(Loud(kind), given, hints_of_rows())
    got = injected(unet, given, control(Loud(kind)), frames=FRAMES)
    assert (got - with_residuals(unet, given, residuals)).abs().max() <= BOUND
    assert (got - hosts.call(unet, given)).abs().max() > 1e-2


@ONE
def test_several_units_add_up(unets, host):
    unet, given = unets[host, 4], hosts.inputs(ROWS)
    networks = [Loud(), Loud("down", seed=1), Loud(seed=2)]
    one, other, third = (literal_residuals(network, given, hints_of_rows()) for network in networks)
    summed = Residuals(
        [a + b for a, b in zip(one.skips, third.skips, strict=True)], one.middle + third.middle, other.down
    )
    got = injected(unet, given, *map(control, networks), frames=FRAMES)
    assert (got - with_residuals(unet, given, summed)).abs().max() <= BOUND


@ONE
def test_a_residual_after_a_motion_module_and_a_residual_of_one_number_per_channel(unets, host):
    """A T2I adapter adds to what the motion module made of the layer; shuffle's ControlNet has means over the image."""
    unet, given, motion = unets[host, 4], hosts.inputs(ROWS), shared_motion("v2")[0]
    loud = literal_residuals(Loud("down"), given, hints_of_rows())
    with inject(unet, motion, frames=FRAMES):
        wanted = with_residuals(unet, given, loud)
    assert (injected(unet, given, motion, control(Loud("down")), frames=FRAMES) - wanted).abs().max() <= BOUND

    def pooled(inputs):
        full = Loud()(inputs)
        means = [each.mean((2, 3), keepdim=True) for each in (*full.skips, full.middle)]
        return Residuals(means[:-1], means[-1])

    pooled.name = "pooled"
    made = pooled(_Given(given))
    weights = [1, 0, 1, 1, 1, 1]
    for each in (*made.skips, made.middle):
        each[1::FRAMES] = 0
    got = injected(unet, given, control(pooled, weights=weights), frames=FRAMES)
    assert (got - with_residuals(unet, given, made)).abs().max() <= BOUND


class _Given:
    """What a network receives for whole clips."""

    def __init__(self, given):
        self.latents, self.timesteps, self.context = given["x"], given["t"], given["context"]
        self.hints = images().float().div(255)

    def for_rows(self, full):
        return full.repeat(len(self.latents) // len(full), 1, 1, 1)


def test_sdxls_conditions_reach_the_network(unets):
    seen = []

    def network(inputs):
        seen.append(inputs.added)
        return Residuals()

    network.name = "watching"
    given = hosts.inputs(ROWS)
    for host in hosts.SDXL_HOSTS:
        injected(unets[host, 3], given, control(network, weights=[0, 1, 1, 1, 1, 1]), frames=FRAMES)
    sgm, diffusers = seen
    rows = [row for row in range(ROWS) if row % FRAMES]
    assert torch.equal(diffusers["text_embeds"], given["pooled"][rows])
    assert torch.equal(sgm[:, : hosts.POOLED], given["pooled"][rows])


# --------------------------------------------------------------------------------------------------------------------
# weights, and the part of the sampling


@pytest.mark.parametrize(("host", "kind"), every_once(hosts.HOSTS, ("skips", "down")))
def test_frames_without_weight_are_bit_for_bit_as_without_control(unets, host, kind):
    unet, given, network = unets[host, 4], hosts.inputs(ROWS), Loud(kind)
    plain = hosts.call(unet, given)
    got = injected(unet, given, control(network, weights=[0, 0, 0, 1]), frames=FRAMES)
    rows = torch.arange(ROWS) % FRAMES
    assert torch.equal(got[rows < 3], plain[rows < 3])
    assert network.rows == [3 * STREAMS]  # and nothing is computed for them
    full = with_residuals(unet, given, literal_residuals(Loud(kind), given, hints_of_rows()))
    assert (got[rows >= 3] - full[rows >= 3]).abs().max() <= BOUND
    network.rows.clear()
    assert torch.equal(injected(unet, given, control(network, weights=[0]), frames=FRAMES), plain)
    assert network.rows == []


@ONE
def test_weights_multiply_the_residuals_of_their_frames(unets, host):
    unet, given = unets[host, 4], hosts.inputs(ROWS)
    residuals = literal_residuals(Loud(), given, hints_of_rows())
    weights = [1, 0.5, 0, 2, 0.25]
    got = injected(unet, given, control(weights=weights), frames=FRAMES)
    for frame, weight in enumerate([*weights, weights[-1]]):
        wanted = with_residuals(unet, given, residuals, weight)
        assert (got[frame::FRAMES] - wanted[frame::FRAMES]).abs().max() <= BOUND, frame
    even = injected(unet, given, control(weights=[0.5]), frames=FRAMES)
    assert (even - with_residuals(unet, given, residuals, 0.5)).abs().max() <= BOUND


def test_it_acts_in_its_part_of_the_sampling(ldm_unet):
    given, network = hosts.inputs(ROWS), Loud()
    plain = hosts.call(ldm_unet, given)
    with inject(ldm_unet, control(network, start=0.25, end=0.75), frames=FRAMES) as injection:
        acted = []
        for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
            injection.progress = progress
            acted.append(not torch.equal(hosts.call(ldm_unet, given), plain))
    assert acted == [False, True, True, False, False]
    assert len(network.rows) == 2


def test_each_frame_has_its_own_part_of_the_sampling(ldm_unet):
    given, network = hosts.inputs(ROWS), Loud()
    plain = hosts.call(ldm_unet, given)
    full = injected(ldm_unet, given, control(), frames=FRAMES)
    steered = control(network, start=[0, 0.5], end=[1, 1, 0.75])
    with inject(ldm_unet, steered, frames=FRAMES, windows=WINDOWS) as injection:
        for progress, acting in ((0.0, (0,)), (0.5, (0, 1, 2, 3, 4, 5)), (0.8, (0, 1))):
            injection.progress = progress
            got = hosts.call(ldm_unet, given)
            for frame in range(FRAMES):
                wanted = full if frame in acting else plain
                assert (got[frame::FRAMES] - wanted[frame::FRAMES]).abs().max() <= BOUND, (progress, frame)
    assert steered.acts_at(0.0) != steered.acts_at(0.5)
    with pytest.raises(ClipError, match=r"from 0\.5 to 0\.5"):
        control(start=[0, 0.5], end=[1, 0.5])


@pytest.mark.parametrize("kind", ["skips", "down"])
def test_masks_multiply_the_residuals_where_they_are(unets, kind):
    """At the size of each feature by the mean of its part of the mask; black masks leave rows as they are."""
    unet, given = unets["ldm", 4], hosts.inputs(ROWS)
    masks = torch.zeros(FRAMES, 1, 64, 64, dtype=torch.uint8)
    masks[0], masks[1, :, :, :24] = 255, 255
    loud = literal_residuals(Loud(kind), given, hints_of_rows())

    def masked(residual):
        shares = torch.nn.functional.adaptive_avg_pool2d(masks.float() / 255, residual.shape[2:])
        return residual * shares.repeat(STREAMS, 1, 1, 1)

    wanted = Residuals(
        [masked(each) for each in loud.skips],
        None if loud.middle is None else masked(loud.middle),
        {number: masked(each) for number, each in loud.down.items()},
    )
    got = injected(unet, given, control(Loud(kind), masks=FrameHints(masks)), frames=FRAMES)
    assert (got - with_residuals(unet, given, wanted)).abs().max() <= BOUND
    plain = hosts.call(unet, given)
    assert (got[2::FRAMES] - plain[2::FRAMES]).abs().max() <= BOUND
    assert (got[1] - plain[1]).abs().max() > 1e-3


def test_a_control_that_acts_at_all_steps_does_not_read_the_progress(ldm_unet, monkeypatch):
    monkeypatch.setattr("lib_animatediff.engine.call.SamplingPlace._read", lambda _self: pytest.fail("it was read"))
    injected(ldm_unet, hosts.inputs(ROWS), control(), frames=FRAMES)


# --------------------------------------------------------------------------------------------------------------------
# rows


def watched():
    """A network that notes the frame of each row, from latents and from hints that tell their numbers."""
    seen = []

    def network(inputs):
        frames = inputs.latents[:, 0, 0, 0] % 100
        hints = (inputs.for_rows(inputs.hints)[:, 0, 0, 0] * 255).round()
        seen.append((frames.tolist(), hints.tolist(), inputs.timesteps.tolist(), inputs.context[:, 0, 0].tolist()))
        return Residuals()

    network.name = "watching"
    return network, seen


def telling(clips, frames, order=None):
    """Inputs whose rows tell frame, clip and timestep."""
    given = hosts.inputs(clips * frames)
    numbers = torch.tensor([100 * clip + frame for clip in range(clips) for frame in range(frames)])
    numbers = numbers if order is None else numbers[order]
    given["x"] = numbers.float().view(-1, 1, 1, 1).expand_as(given["x"]).contiguous()
    given["t"] = numbers % 100
    given["context"] = (numbers % 100).float().view(-1, 1, 1).expand_as(given["context"]).contiguous()
    return given


PLANS = {
    "uniform": WINDOWS,
    "stride": ContextWindows(length=4, overlap=1, stride=2),
    "looped": ContextWindows(length=4, overlap=1, kind="looped"),
    "closed": ContextWindows(length=4, overlap=1, kind="looped", closed=True),
    "static": ContextWindows(length=4, overlap=2, kind="static"),
    "batched": ContextWindows(length=4, kind="batched", overlap=0),
    "views": ContextWindows(length=4, overlap=1, as_views=True),
    "rolled": ContextWindows(length=16, kind="looped", closed=True),
    "none": None,
}


CALLS = {
    "together": (2, {}),
    "apart": (1, {}),
    "one clip per call": (2, {"one_clip_per_call": True}),
    "frame by frame": (2, {"row_order": True}),  # a host whose rows are (f k): all streams of a frame side by side
}


@pytest.mark.parametrize(("plan", "calls"), every_once(PLANS, CALLS))
def test_each_row_of_each_call_has_the_hint_of_its_frame(ldm_unet, plan, calls):
    (clips, options), frames, (network, seen) = CALLS[calls], 9, watched()
    order = None
    if "row_order" in options:
        order = [clip * frames + frame for frame in range(frames) for clip in range(clips)]
        own = sorted(range(clips * frames), key=order.__getitem__)
        options = {"row_order": lambda rows: own}
    weights = [1, 0, 1, 1, 0, 1, 1, 1, 1]
    component = ControlComponent(network, FrameHints(images(frames)), weights)
    windows = PLANS[plan]
    motion = shared_motion("v2")[0]
    given = telling(clips, frames, order)
    with inject(ldm_unet, motion, component, frames=frames, windows=windows, **options) as injection:
        injection.step = 1  # whose windows begin elsewhere than those of step 0
        hosts.call(ldm_unet, given)
    computed = [frame for call in seen for frame in call[0]]
    assert set(computed) == {float(frame) for frame in range(frames) if weights[frame]}
    for told, hints, timesteps, contexts in seen:
        assert told == hints == timesteps == contexts


# --------------------------------------------------------------------------------------------------------------------
# windows and reuse


@pytest.mark.parametrize(("host", "kind"), every_once(hosts.HOSTS, ("skips", "down")))
def test_windows_are_the_literal_average(unets, host, kind):
    unet, given = unets[host, 4], hosts.inputs(ROWS)
    motion, network = shared_motion("v2")[0], Loud(kind)
    plan = WINDOWS.plan(FRAMES, 0)
    weights = [1, 0.5, 1, 1, 2, 1]

    def call(part, number):
        window = plan[number]
        own = ControlComponent(network, FrameHints(images()[list(window)]), [weights[frame] for frame in window])
        return injected(unet, part, motion, own, frames=len(window))

    wanted = literal_fusion(call, given, FRAMES, plan, [WINDOWS.weights(window, FRAMES) for window in plan])
    got = injected(unet, given, motion, control(network, weights=weights), frames=FRAMES, windows=WINDOWS)
    assert (got - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize(("host", "branch"), every_once(hosts.HOSTS, (0, 2)))
def test_where_features_are_reused_the_computed_skips_have_the_residuals_of_the_step(unets, host, branch):
    """And the kept features those of the last full step, as everything else in them."""
    unet, count = unets[host, 4], branch + 1
    first, second = ({**hosts.inputs(ROWS, seed=step), "t": torch.full((ROWS,), 900 - 40 * step)} for step in (0, 1))
    with inject(unet, control(), frames=FRAMES, reuse=FeatureReuse(2, branch)):
        got = [hosts.call(unet, given) for given in (first, second)]
    whole = [
        with_residuals(unet, given, literal_residuals(Loud(), given, hints_of_rows())) for given in (first, second)
    ]
    assert (got[0] - whole[0]).abs().max() <= BOUND
    with inject(unet, control(), frames=FRAMES):
        kept = entering(unet, first, count)
    residuals = literal_residuals(Loud(), second, hints_of_rows())
    skips = [skip + residual for skip, residual in zip(skips_of(unet, second, count), residuals.skips, strict=False)]
    wanted = finished(unet, second, kept, skips)
    assert (got[1] - wanted).abs().max() <= 1e-5
    assert (got[1] - whole[1]).abs().max() > 1e-3


# --------------------------------------------------------------------------------------------------------------------
# hints, and what is refused


def test_hints_stay_where_they_are_and_the_last_ones_are_kept():
    hints, like = FrameHints(images(4), [0, 1, 1, 3]), torch.empty(0, dtype=torch.float16)
    assert len(hints) == 4
    one = hints.of((2, 3), like)
    assert one.dtype is torch.float16
    assert torch.equal(one, (torch.tensor([1, 3]) / 255).half().view(2, 1, 1, 1).expand(-1, 3, 64, 64))
    assert hints.of((2, 3), like) is one
    assert hints.of((3, 2), like) is not one
    assert torch.equal(FrameHints(images(2).float() / 255).of((1,), like), FrameHints(images(2)).of((1,), like))


@ONE
def test_the_unet_is_left_as_it_was(unets, host):
    unet = unets[host, 4]
    before = Portrait(unet)
    given, component = hosts.inputs(ROWS), control()
    plain = hosts.call(unet, given)
    injected(unet, given, component, frames=FRAMES, windows=replace(WINDOWS, length=3))
    before.assert_unchanged()
    assert torch.equal(hosts.call(unet, given), plain)

    def failing(_inputs):
        raise ValueError("no residuals")

    failing.name = "failing"
    with pytest.raises(ValueError, match="no residuals"):
        injected(unet, given, component, control(failing), frames=FRAMES, reuse=FeatureReuse(2))
    before.assert_unchanged()


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"weights": ()}, ClipError, "AD-H01"),
        ({"weights": (1, float("nan"))}, ClipError, "AD-H01"),
        ({"start": 0.5, "end": 0.5}, ClipError, "AD-H02"),
        ({"end": 1.5}, ClipError, "AD-H02"),
        ({"twice": True}, ClipError, "AD-H03"),
        ({"frames": 5}, ClipError, "AD-H04"),
        ({"network": True}, IncompatibleModelError, "AD-H05"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused(ldm_unet, options, error, code):
    def short(_inputs):
        return Residuals([torch.zeros(1)] * 9)

    short.name = "sdxl.safetensors"
    twice, frames, network = options.pop("twice", False), options.pop("frames", FRAMES), options.pop("network", None)

    def attempt():
        component = control(short if network else None, **options)
        injected(ldm_unet, hosts.inputs(frames), component, *[component] * twice, frames=frames)

    with pytest.raises(error) as caught:
        attempt()
    assert caught.value.code == code
