"""Group norms over a clip: which ones, over what, and how exactly."""

from __future__ import annotations

import pytest
import torch
from support import hosts
from support.injected import injected
from support.motions import shared_motion
from support.oracle import literal_clip_norm
from torch import nn

from lib_animatediff import ContextWindows, inject
from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.components.group_norms import FoldFramesHook, UnfoldFramesHook
from lib_animatediff.engine.motion_scale import BlockScale, MotionScale
from lib_animatediff.engine.unet import resnet_norms


def shared(norm, frames):
    call = UNetCall(frames)
    norm.register_forward_pre_hook(FoldFramesHook(call))
    norm.register_forward_hook(UnfoldFramesHook(call))
    return norm


@pytest.mark.parametrize(("levels", "count"), [(4, 45), (3, 35)])
@pytest.mark.parametrize("host", hosts.HOSTS)
def test_those_of_the_resblocks_and_the_output_and_no_others(unets, host, levels, count):
    """Two in each of 22 (SDXL: 17) ResBlocks, and one before the last convolution."""
    unet = unets[host, levels]
    found = list(resnet_norms(unet))
    names = {module: name for name, module in unet.named_modules()}
    assert len(found) == len(set(found)) == count
    left = {names[norm] for norm in unet.modules() if isinstance(norm, nn.GroupNorm)} - {names[norm] for norm in found}
    inside_transformers = {
        f"{name}.norm"
        for name, module in unet.named_modules()
        if type(module).__name__ in ("SpatialTransformer", "Transformer2DModel")
    }
    assert left == inside_transformers


def test_a_norm_over_clips_is_literally_that():
    norm = shared(nn.GroupNorm(32, 64), 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(12, 64, 4, 6) + torch.arange(12.0)[:, None, None, None]
    wanted = literal_clip_norm(x, 3, norm.weight, norm.bias, norm.eps)
    got = norm(x)
    assert (got - wanted).abs().max() < 1e-5
    assert got.is_contiguous()
    assert (norm(x[3:9]) - wanted[3:9]).abs().max() < 1e-5  # neither stream nor clip sees another


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("host", hosts.HOSTS)
def test_statistics_are_taken_in_float32(host, dtype):
    """65 thousand numbers around 50: neither their sum nor that of their squares fits into half precision."""
    norm = nn.GroupNorm(32, 64).to(dtype) if host == "diffusers" else next(resnet_norms(hosts.ldm_unet()))
    x = (torch.randn(16, norm.num_channels, 64, 32) + 50).to(dtype)
    got = shared(norm, 16)(x)
    exact = literal_clip_norm(x.float(), 16, norm.weight.float(), norm.bias.float(), norm.eps)
    assert got.dtype == dtype
    assert (got.float() - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max()


def test_other_unets_of_the_same_class_are_left_alone():
    unet, other, given = hosts.ldm_unet(), hosts.ldm_unet(), hosts.inputs(4)
    before = hosts.call(other, given)
    with inject(unet, shared_motion("v1")[0], frames=4):
        assert torch.equal(hosts.call(other, given), before)


def test_in_windows_a_clip_is_the_window(ldm_unet):
    seen, windows = [], ContextWindows(length=4, overlap=1, kind="batched")
    with ldm_unet.out[1].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0])):
        injected(ldm_unet, hosts.inputs(20), shared_motion("v1")[0], frames=10, windows=windows)
    bias = ldm_unet.out[0].bias[None, :]  # zero: what is normalised over a clip has no mean there
    assert [len(x) for x in seen] == [8, 8, 4]
    for x, frames in zip(seen, (4, 4, 2), strict=True):
        for clip in x.split(frames):
            assert (clip.mean(dim=(0, 2, 3)) - bias).abs().max() < 1e-3
            assert (x[0].mean(dim=(1, 2)) - bias).abs().max() > 1e-2  # a frame alone has one


STILL = {
    "effect": MotionScale(effect=(0.0,)),
    "steps": MotionScale(start=0.9),
    "mask": MotionScale(effect_mask=torch.zeros(4, 4)),
    "blocks": MotionScale(blocks=[BlockScale("down_blocks", effect=0.0), BlockScale("up_blocks", effect=0.0)]),
}


@pytest.mark.parametrize("amount", STILL.values(), ids=STILL)
@pytest.mark.parametrize("windows", [None, ContextWindows(length=4, overlap=0, kind="batched")], ids=["one", "windows"])
def test_without_motion_the_norms_do_not_see_the_clip_either(ldm_unet, amount, windows):
    """Those of v1 take their statistics over a clip's frames: that is a part of the motion module, too."""
    given = hosts.inputs(8)
    with inject(ldm_unet, shared_motion("v1")[0], frames=8, windows=windows, amount=amount) as injection:
        injection.progress = 0.5
        still = hosts.call(ldm_unet, given)
    bare = hosts.call(ldm_unet, given)
    torch.testing.assert_close(still, bare, rtol=0, atol=0 if windows is None else 1e-5)


def test_with_motion_somewhere_the_norms_see_it(ldm_unet):
    given = hosts.inputs(8)
    bare = hosts.call(ldm_unet, given)
    for amount in (MotionScale(blocks=[BlockScale("down_blocks.0", effect=0.5)]), MotionScale(effect=(0.0, 1.0))):
        out = injected(ldm_unet, given, shared_motion("v1")[0], frames=8, amount=amount)
        assert (out[0] - bare[0]).abs().max() > 1e-3  # frame 0, which has no effect of its own
