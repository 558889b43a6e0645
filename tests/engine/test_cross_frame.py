"""Cross-frame attention in the real UNets: every frame of a clip looks at its first, and at no other."""

from __future__ import annotations

import copy
import itertools
from contextlib import ExitStack, nullcontext

import pytest
import torch
import torch.nn.functional as F
from support import hosts
from support.matrix import every_once, in_matrix
from support.unchanged import Portrait
from torch import nn

from lib_animatediff import ClipError, ContextWindows, IncompatibleModelError, MotionScale, Text2VideoZero, inject
from lib_animatediff.engine.components.cross_frame import CrossFrameAttention
from lib_animatediff.engine.unet import UNetView, self_attentions

FRAMES, STREAMS = 3, 2
ROWS = FRAMES * STREAMS
METHOD = Text2VideoZero()
BOUND = 1e-5


@pytest.fixture(params=itertools.product(hosts.HOSTS, (4, 3)), ids=str)
def any_unet(request, unets):
    return unets[request.param]


@pytest.fixture(params=hosts.HOSTS)
def unet(request, unets):
    return unets[request.param, 4]


def animated(unet, given, frames=FRAMES, **options):
    with torch.no_grad(), inject(unet, METHOD, frames=frames, **options):
        return hosts.call(unet, given)


def plain(unet, given):
    with torch.no_grad():
        return hosts.call(unet, given)


def changed_rows(one, other):
    return [row for row in range(len(one)) if not torch.allclose(one[row], other[row], atol=1e-6)]


@pytest.mark.parametrize("row", [0, in_matrix(1), in_matrix(2), in_matrix(3), 4, in_matrix(5)])
def test_frame_0_reaches_every_frame_of_its_clip_and_stream_the_others_only_themselves(any_unet, row):
    given = hosts.inputs(ROWS)
    before = animated(any_unet, given)
    given["x"][row] += 0.1 * torch.randn(given["x"][row].shape, generator=torch.Generator().manual_seed(row))
    reached = [row, row + 1, row + 2] if row % FRAMES == 0 else [row]
    assert changed_rows(animated(any_unet, given), before) == reached


def literally(attention, x):
    """Softmax attention of each row's queries over frame 0's keys and values, head by head."""
    head = attention.to_q.out_features // attention.heads
    made = torch.empty_like(x)
    for row, queries in enumerate(x):
        first = x[row - row % FRAMES]
        split = (
            part.split(head, -1) for part in (attention.to_q(queries), attention.to_k(first), attention.to_v(first))
        )
        heads = [F.softmax(q @ k.T / head**0.5, dim=-1) @ v for q, k, v in zip(*split, strict=True)]
        made[row] = attention.to_out[0](torch.cat(heads, -1))
    return made


def test_each_attention_is_a_literal_one_over_frame_0(any_unet):
    seen, attentions = [], self_attentions(any_unet)
    with ExitStack() as watching:
        for each in attentions:
            note = each.register_forward_hook(lambda layer, args, output: seen.append((layer, args[0].clone(), output)))
            watching.enter_context(note)
        animated(any_unet, hosts.inputs(ROWS))
    assert {id(layer) for layer, _, _ in seen} == {id(attention) for attention in attentions}
    for layer, x, output in seen:
        with torch.no_grad():
            assert torch.allclose(output, literally(layer, x), atol=BOUND)


def test_all_self_attentions_are_found_and_no_other(any_unet):
    named = [module for name, module in any_unet.named_modules() if name.endswith("attn1")]
    assert [id(layer) for layer in self_attentions(any_unet)] == [id(layer) for layer in named]
    assert len(named) in (16, 11, 22)  # of Stable Diffusion 1.5; of these tests' SDXL in LDM and in diffusers


def test_transformers_over_time_are_left_alone():
    from diffusers import MotionAdapter, UNetMotionModel

    torch.manual_seed(0)
    image = hosts.diffusers_unet()
    adapter = MotionAdapter(block_out_channels=image.config.block_out_channels, motion_num_attention_heads=4)
    unet = UNetMotionModel.from_unet2d(image, adapter)
    assert len(self_attentions(unet)) == 16


# --------------------------------------------------------------------------------------------------------------------
# given contexts, precision, layouts


def test_an_attention_that_is_told_where_to_look_looks_there(unet):
    attention = self_attentions(unet)[0]
    width = attention.to_k.in_features
    x = torch.randn(ROWS, 9, width, generator=torch.Generator().manual_seed(0))
    context = torch.randn(ROWS, 5, width, generator=torch.Generator().manual_seed(1))
    keyword = "context" if hasattr(unet, "input_blocks") else "encoder_hidden_states"
    with torch.no_grad():
        told, alone = attention(x, **{keyword: context}), attention(x)
        with inject(unet, METHOD, frames=FRAMES):
            assert torch.equal(attention(x, **{keyword: context}), told)
            assert torch.equal(attention(x, context), told)
            crossed, *same = attention(x), attention(x, None), attention(x, **{keyword: None})
    assert not torch.allclose(crossed, alone)
    assert all(torch.equal(each, crossed) for each in same)


def test_blocks_without_self_attention_stay_so():
    """diffusers' only_cross_attention: what stands where self-attention would is told to look at the text."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    widths = {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 64}
    unet = hosts.no_zero_weights(UNet2DConditionModel(**widths, only_cross_attention=True, mid_block_type=None))
    given = hosts.inputs(ROWS)
    assert torch.equal(animated(unet, given), plain(unet, given))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(unet, dtype):
    given = hosts.inputs(ROWS)
    exact = animated(unet, given)
    low = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
    # LDM lives in half precision under autocast only, as the WebUI runs it.
    is_ldm = hasattr(unet, "input_blocks")
    with torch.autocast("cpu", dtype=dtype, enabled=is_ldm):
        found = animated(unet if is_ldm else copy.deepcopy(unet).to(dtype), low)
    assert found.dtype == dtype
    assert (found.float() - exact).abs().mean() < 40 * torch.finfo(dtype).eps * exact.abs().mean()


def test_the_rows_of_a_host_with_another_layout(unet):
    """As the WebUI's denoiser has them where cond and uncond lie in one call, but not side by side."""
    given, order = hosts.inputs(ROWS), [0, 2, 4, 1, 3, 5]
    mixed = {name: torch.empty_like(value) for name, value in given.items()}
    for name, value in given.items():
        mixed[name][order] = value
    found = animated(unet, mixed, row_order=lambda rows: order)
    assert torch.allclose(found[order], animated(unet, given), atol=BOUND)


# --------------------------------------------------------------------------------------------------------------------
# long clips, and frame 0 alone

LONG = 7


@pytest.fixture
def rows_of(unet):
    """How many rows each call of the UNet's layers has had."""
    seen = []
    with UNetView(unet).first_convolution.register_forward_pre_hook(lambda _layer, args: seen.append(len(args[0]))):
        yield seen


CHUNKS = {1: [4] * 6, 2: [4] * 6, 4: [8, 8], 6: [12, 4], 7: [14]}


@pytest.mark.parametrize(("unet", "length"), every_once(hosts.HOSTS, CHUNKS), indirect=["unet"])
def test_chunks_give_what_one_call_gives(unet, rows_of, length):
    calls = CHUNKS[length]
    given = hosts.inputs(LONG * STREAMS)
    whole, told = animated(unet, given, LONG), []
    rows_of.clear()
    windows = ContextWindows(length=length, overlap=0)
    found = animated(unet, given, LONG, windows=windows, between_windows=lambda *done: told.append(done))
    assert rows_of == calls
    assert told == ([(number, len(calls)) for number in range(1, len(calls) + 1)] if len(calls) > 1 else [])
    assert torch.allclose(found, whole, atol=BOUND)


def test_frame_0_is_that_of_the_first_chunk(unet):
    """Its others count for nothing: a ControlNet may act on one call and not on the next."""
    given, calls = hosts.inputs(LONG), []

    def louder(_unet, _args, output):
        calls.append(None)
        grown = (output if torch.is_tensor(output) else output.sample) + len(calls)
        return grown if torch.is_tensor(output) else type(output)(sample=grown)

    layer = unet.out[-1] if hasattr(unet, "out") else unet.conv_out
    whole = animated(unet, given, LONG)
    with layer.register_forward_hook(louder):
        found = animated(unet, given, LONG, windows=ContextWindows(length=4, overlap=0))
    assert torch.allclose(found[:4], whole[:4] + 1, atol=BOUND)
    assert torch.allclose(found[4:], whole[4:] + 2, atol=BOUND)


def test_windows_inside_the_attention_are_one_call(unet, rows_of):
    animated(unet, hosts.inputs(LONG), LONG, windows=ContextWindows(length=4, overlap=0, as_views=True))
    assert rows_of == [LONG]


def test_each_clip_of_each_stream_in_calls_of_its_own(unet, rows_of):
    given = hosts.inputs(ROWS)
    whole = animated(unet, given)
    rows_of.clear()
    assert torch.allclose(animated(unet, given, one_clip_per_call=True), whole, atol=BOUND)
    assert rows_of == [FRAMES] * STREAMS


@pytest.mark.parametrize("length", [None, 2])
def test_the_first_frame_alone(unet, rows_of, length):
    given = hosts.inputs(ROWS)
    windows = None if length is None else ContextWindows(length=length, overlap=0)
    attention = METHOD.component()
    with torch.no_grad(), inject(unet, attention, frames=FRAMES, windows=windows):
        assert not attention.is_first_frame_only
        whole = hosts.call(unet, given)
        rows_of.clear()
        with attention.first_frame_only():
            assert attention.is_first_frame_only
            first = hosts.call(unet, given)
        assert rows_of == [STREAMS]
        assert not attention.is_first_frame_only
        assert torch.equal(hosts.call(unet, given), whole)
    for row in range(ROWS):
        assert torch.allclose(first[row], whole[row - row % FRAMES], atol=BOUND)


def test_one_component_serves_one_injection_at_a_time(unet):
    attention = CrossFrameAttention()
    with pytest.raises(ClipError, match="inside the inject block"), attention.first_frame_only():
        pass
    with inject(unet, attention, frames=FRAMES):
        other = hosts.ldm_unet()
        with pytest.raises(ClipError, match="in use by another injection"), inject(other, attention, frames=FRAMES):
            pass
    with inject(unet, attention, frames=FRAMES):
        pass


# --------------------------------------------------------------------------------------------------------------------
# what it leaves behind, and what it refuses


class BrokenError(Exception):
    pass


@pytest.mark.parametrize(
    ("unet", "windows", "failing"),
    every_once(
        hosts.HOSTS, [None, ContextWindows(length=2, overlap=0)], [None, 0, -1], more=lambda at: at == (1, 0, 2)
    ),
    indirect=["unet"],
)
def test_the_unet_is_afterwards_what_it_was(unet, windows, failing):
    given = hosts.inputs(ROWS)
    alone, before = plain(unet, given), Portrait(unet)

    def breaks(*_args):
        raise BrokenError

    if failing is None:
        animated(unet, given, windows=windows)
    else:
        with self_attentions(unet)[failing].to_v.register_forward_hook(breaks), pytest.raises(BrokenError):
            animated(unet, given, windows=windows)
    before.assert_unchanged()
    assert torch.equal(plain(unet, given), alone)


@pytest.mark.parametrize("windows", [None, ContextWindows(length=2, overlap=0)])
@pytest.mark.parametrize("first_only", [False, True])
def test_rows_that_are_not_whole_clips_are_refused(unet, windows, first_only):
    attention = METHOD.component()
    with torch.no_grad(), inject(unet, attention, frames=FRAMES, windows=windows):
        alone = attention.first_frame_only() if first_only else nullcontext()
        with alone, pytest.raises(ClipError, match="4 rows, which are not whole clips of 3 frames"):
            hosts.call(unet, hosts.inputs(4))


def test_no_frame_at_all_and_an_amount_of_motion_are_refused(unet):
    before = Portrait(unet)
    with pytest.raises(ClipError, match="at least one frame"), inject(unet, METHOD, frames=0):
        pass
    with pytest.raises(ClipError, match="needs a motion module"), inject(unet, METHOD, frames=2, amount=MotionScale()):
        pass
    before.assert_unchanged()


def test_what_has_no_self_attentions_is_refused():
    from diffusers import UNet2DConditionModel

    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "mid_block_type": None}
    blind = UNet2DConditionModel(block_out_channels=(32, 64), cross_attention_dim=64, **blocks)
    with pytest.raises(IncompatibleModelError, match="no self-attention"), inject(blind, METHOD, frames=2):
        pass
    for what in (nn.Linear(2, 2), object()):
        with pytest.raises(IncompatibleModelError, match="UNet"), inject(what, METHOD, frames=2):
            pass


def test_fused_projections_are_refused():
    torch.manual_seed(0)
    unet = hosts.diffusers_unet()
    unet.fuse_qkv_projections()
    with pytest.raises(IncompatibleModelError, match="unfuse_qkv_projections"), inject(unet, METHOD, frames=2):
        pass
    unet.unfuse_qkv_projections()
    given = hosts.inputs(ROWS)
    assert changed_rows(animated(unet, given), plain(unet, given)) == [1, 2, 4, 5]
