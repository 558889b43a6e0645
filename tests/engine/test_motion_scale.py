"""How much motion, among which frames: against a literal temporal transformer, and exactly nothing where it says so."""

from __future__ import annotations

import functools

import pytest
import torch
from support import hosts
from support.motions import shared_motion
from support.oracle import literal_site

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.engine.motion_scale import BlockScale, MotionScale
from motion_module.options import TemporalOptions
from motion_module.temporal_transformer import TemporalTransformer

FRAMES, CLIPS, CHANNELS, HEIGHT, WIDTH = 5, 2, 32, 3, 4
BOUND = 1e-5


@pytest.fixture
def site():
    torch.manual_seed(0)
    transformer = TemporalTransformer(CHANNELS, 16).eval().requires_grad_(False)
    for weight in transformer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    x = torch.randn(CLIPS * FRAMES, CHANNELS, HEIGHT, WIDTH)
    return transformer, x


close = functools.partial(torch.testing.assert_close, rtol=0, atol=BOUND)


def literal(transformer, x, **directed):
    return literal_site(dict(transformer.state_dict()), x, FRAMES, **directed)


def everywhere(amount):
    return torch.as_tensor(amount).expand(FRAMES, HEIGHT, WIDTH)


SPOTS = torch.rand(FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2
AMOUNTS = {"number": 1.7, "frames": torch.linspace(0, 2, FRAMES).reshape(-1, 1, 1), "spots": SPOTS}
VIEWS = [((0, 1, 2), [1.0, 2.0, 1.0]), ((2, 3, 4), [1.0, 2.0, 3.0]), ((4, 0), [0.5, 0.25])]


@pytest.mark.parametrize("amount", AMOUNTS.values(), ids=AMOUNTS)
@pytest.mark.parametrize("pieces", [1, 5])
def test_the_scale_is_a_factor_on_every_frames_keys(site, amount, pieces):
    transformer, x = site
    wanted = literal(transformer, x, scale=everywhere(amount))
    assert (wanted - transformer(x, FRAMES)).abs().max() > 1e-3
    close(transformer(x, FRAMES, TemporalOptions(scale=amount, pieces=pieces)), wanted)


@pytest.mark.parametrize("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_the_effect_mixes_the_picture_with_motion_into_the_one_without(site, amount):
    transformer, x = site
    wanted = literal(transformer, x, effect=everywhere(amount))
    close(transformer(x, FRAMES, TemporalOptions(effect=amount)), wanted)


@pytest.mark.parametrize("scale", [1.0, SPOTS], ids=["plain", "scaled"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_views_are_averaged_between_attention_and_feed_forward(site, scale, pieces):
    transformer, x = site
    wanted = literal(transformer, x, views=VIEWS, scale=everywhere(scale))
    assert (wanted - transformer(x, FRAMES, TemporalOptions(scale=scale))).abs().max() > 1e-3
    close(transformer(x, FRAMES, TemporalOptions(views=VIEWS, scale=scale, pieces=pieces)), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_precision(site, dtype):
    transformer, x = site
    half = transformer.to(dtype)
    out = half(x.to(dtype), FRAMES, TemporalOptions(scale=SPOTS, effect=SPOTS, views=VIEWS))
    assert out.dtype == dtype
    assert out.isfinite().all()


def test_no_effect_computes_nothing(site):
    transformer, x = site
    transformer.proj_in = None  # would raise
    assert transformer(x, FRAMES, TemporalOptions(effect=0.0)) is x


# In a UNet -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet(ldm_unet):
    return ldm_unet


@pytest.fixture(scope="module")
def given():
    return hosts.inputs(16)


@pytest.fixture(scope="module")
def as_trained(unet, given):
    return called(unet, given)


def called(unet, given, *, progress=None, amount=None, windows=None, frames=8, at=None):
    motion, _ = shared_motion("v3")
    timed = given if at is None else {**given, "t": torch.full((len(given["x"]),), at)}
    with torch.no_grad(), inject(unet, motion, frames=frames, windows=windows, amount=amount) as injection:
        injection.progress = progress
        return hosts.call(unet, timed)


def bare(unet, given):
    with torch.no_grad():
        return hosts.call(unet, given)


def differ(a, b):
    return (a - b).abs().max() > 1e-4


PLAIN = [
    (MotionScale(), 0.5),
    (MotionScale(scale=(1.0,) * 8, effect=(1.0, 1.0)), 0.5),
    (MotionScale(scale_steps=((0.0, 1.0), (0.5, 1.0))), 0.5),
    (MotionScale(blocks=[BlockScale("mid_block", effect=0.5)]), 0.5),  # v3 has no middle block
    (MotionScale(start=0.2, end=0.8), 0.5),
    (MotionScale(scale_mask=torch.rand(8, 8)), 0.5),  # of a scale of 1
    (MotionScale(end=1.0), 1.0),  # the last step has motion unless it ends before
]


@pytest.mark.parametrize(("amount", "progress"), PLAIN, ids=range(len(PLAIN)))
def test_an_amount_that_asks_for_nothing_changes_no_bit(unet, given, as_trained, amount, progress):
    assert torch.equal(called(unet, given, amount=amount, progress=progress), as_trained)


NOTHING = [
    (MotionScale(effect=(0.0,)), 0.5),
    (MotionScale(effect_mask=torch.zeros(4, 4)), None),
    (MotionScale(start=0.6), 0.5),
    (MotionScale(end=0.5), 0.5),
    (MotionScale(effect_steps=((0.0, 1.0), (0.5, 0.0))), 0.9),
    (MotionScale(blocks=[BlockScale("down_blocks", effect=0.0), BlockScale("up_blocks", effect=0.0)]), 0.5),
]


@pytest.mark.parametrize(("amount", "progress"), NOTHING, ids=range(len(NOTHING)))
def test_without_effect_the_unet_is_bare(unet, given, amount, progress):
    assert torch.equal(called(unet, given, amount=amount, progress=progress), bare(unet, given))


def test_timesteps_tell_how_far_the_sampling_is(unet, given):
    """From the noisiest, 999, to the cleanest, unless the host says better."""
    first_half = MotionScale(end=0.5)
    assert torch.equal(called(unet, given, amount=first_half, at=700), called(unet, given, at=700))
    assert torch.equal(
        called(unet, given, amount=first_half, at=300), bare(unet, {**given, "t": torch.full((16,), 300)})
    )
    assert torch.equal(called(unet, given, amount=first_half, at=300, progress=0.1), called(unet, given, at=300))


def test_one_block_is_changed_alone(unet, given):
    """Blocks are counted as in diffusers; a site is one module of one block."""
    amounts = [
        MotionScale(blocks=[BlockScale(site, effect=0.0)])
        for site in ("down_blocks", "down_blocks.1", "down_blocks.1.motion_modules.0", "up_blocks.3")
    ]
    results = [called(unet, given), bare(unet, given), *(called(unet, given, amount=amount) for amount in amounts)]
    assert all(differ(a, b) for i, a in enumerate(results) for b in results[:i])


@pytest.mark.parametrize("kind", ["uniform", "static", "looped"])
def test_windows_take_their_own_frames_amounts(unet, given, kind):
    """Frames without effect are those of the bare UNet, in whatever window they come."""
    windows = ContextWindows(length=4, overlap=1, kind=kind)
    effect = (1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0)
    out = called(unet, given, amount=MotionScale(effect=effect), windows=windows)
    plain = bare(unet, given)
    still = [row for row in range(16) if not effect[row % 8]]
    close(out[still], plain[still])
    moving = [row for row in range(16) if effect[row % 8]]
    assert differ(out[moving], plain[moving])


# Views ---------------------------------------------------------------------------------------------------------------


def views(**more):
    return ContextWindows(length=4, overlap=1, kind="static", as_views=True, **more)


def test_views_that_hold_the_whole_clip_are_none(unet, given):
    whole = ContextWindows(length=8, overlap=1, as_views=True)
    assert torch.equal(called(unet, given, windows=whole), called(unet, given))


def test_views_are_not_windows_of_the_unet(unet, given):
    static = ContextWindows(length=4, overlap=1, kind="static")
    results = [called(unet, given, windows=windows) for windows in (None, views(), static)]
    assert all(differ(a, b) for i, a in enumerate(results) for b in results[:i])


def test_a_frame_feels_only_those_that_share_a_view_with_it(unet, given):
    """Each site has views of its own, so that what is felt goes one overlap further with each of them."""
    alone = ContextWindows(length=4, overlap=0, kind="batched", as_views=True)
    changed = {**given, "x": given["x"].clone()}
    changed["x"][2] += 1  # frame 2 of the first stream
    before, after = (called(unet, inputs, windows=alone) for inputs in (given, changed))
    felt = [row for row in range(16) if not torch.equal(before[row], after[row])]
    assert felt == [0, 1, 2, 3]


def test_views_move_from_step_to_step(unet, given):
    motion, _ = shared_motion("v3")
    moving = ContextWindows(length=4, overlap=1, kind="uniform", as_views=True)
    with torch.no_grad(), inject(unet, motion, frames=8, windows=moving) as injection:
        outs = []
        for step in (0, 1, 0):
            injection.step = step
            outs.append(hosts.call(unet, given))
    assert differ(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


def test_views_let_a_clip_be_longer_than_was_trained(unet):
    frames = shared_motion("v3")[0].trained_length + 8
    windows = ContextWindows(length=16, as_views=True)
    assert called(unet, hosts.inputs(frames), frames=frames, windows=windows).isfinite().all()


def test_a_call_past_the_views_is_refused(unet, given):
    motion, _ = shared_motion("v3")
    with torch.no_grad(), inject(unet, motion, frames=8, windows=views()), pytest.raises(ClipError, match="ran past"):
        type(unet).forward(unet, given["x"], given["t"], context=given["context"])


# Memory --------------------------------------------------------------------------------------------------------------


class Short:
    """Lets a motion module have memory for so many positions of the picture at once."""

    def __init__(self, monkeypatch, most, error):
        self.tries, forward = [], TemporalTransformer._temporal_layers

        def limited(transformer, x, *more):
            self.tries.append(x.shape[-1])
            if x.shape[-1] > most:
                raise error
            return forward(transformer, x, *more)

        monkeypatch.setattr(TemporalTransformer, "_temporal_layers", limited)


ERRORS = {
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_where_memory_runs_out_it_goes_on_in_pieces(unet, given, monkeypatch, caplog, error):
    wanted = called(unet, given)
    short = Short(monkeypatch, 8, error)
    close(called(unet, given), wanted)
    assert "Memory ran out" in caplog.text
    assert short.tries[0] == 64
    assert max(short.tries[1:]) == 8  # never tried in one piece again


def test_pieces_have_their_own_positions_amounts(unet, given, monkeypatch):
    amount = MotionScale(scale=(1.5,), scale_mask=torch.rand(8, 8), effect_mask=torch.rand(8, 8))
    wanted = called(unet, given, amount=amount)
    Short(monkeypatch, 8, ERRORS["CUDA"])
    close(called(unet, given, amount=amount), wanted)


def test_where_pieces_do_not_fit_either_the_error_comes_through(unet, given, monkeypatch):
    Short(monkeypatch, 1, ERRORS["CUDA"])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        called(unet, given)


def test_another_error_is_not_tried_again(unet, given, monkeypatch):
    short = Short(monkeypatch, 1, RuntimeError("the weights are of another dtype"))
    with pytest.raises(RuntimeError, match="another dtype"):
        called(unet, given)
    assert len(short.tries) == 1


@pytest.mark.parametrize("views", [(), VIEWS])
@pytest.mark.parametrize("of", ["scale", "effect"])
@torch.no_grad()
def test_amounts_follow_the_picture_to_its_device(of, views):
    """They are made in main memory. Of a tensor that is nowhere, the shape at least: it refuses tensors elsewhere."""
    with torch.device("meta"):
        transformer, x = TemporalTransformer(CHANNELS, 16), torch.empty(CLIPS * FRAMES, CHANNELS, HEIGHT, WIDTH)
    for amount in (torch.ones(FRAMES, 1, 1), SPOTS):
        assert transformer(x, FRAMES, TemporalOptions(**{of: amount}, views=views)).shape == x.shape
