"""UNets that a motion module goes into, as their hosts call them; and those that it does not go into."""

from __future__ import annotations

import copy
import logging
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from support import hosts
from support.injected import injected
from support.matrix import every_once, only_at
from support.motion_files import random_motion_state
from support.motions import OFFICIAL, random_motion, shared_motion
from support.oracle import edited
from support.unchanged import Portrait
from torch import nn

from lib_animatediff import ClipError, ContextWindows, IncompatibleModelError, inject
from lib_animatediff.engine.inject import check_frames
from lib_animatediff.engine.unet import find_sites

BOUND = 1e-5
WINDOWS = ContextWindows(length=4, overlap=1, kind="static")


def names_of(kind, widths):
    keys = random_motion_state(kind, widths, tables=False)
    return {key.partition(".temporal_transformer")[0] for key in keys}


@pytest.mark.parametrize("host", hosts.HOSTS)
def test_sites_of_both_bases(unets, host):
    assert {site.name for site in find_sites(unets[host, 4])} == names_of("v2", (32, 64, 128, 128))
    sdxl = {site.name for site in find_sites(unets[host, 3])} - {"mid_block.motion_modules.0"}
    assert sdxl == names_of("v3", (32, 64, 128))
    assert len(sdxl) == 6 + 9


# --------------------------------------------------------------------------------------------------------------------
# diffusers' ways


KINDS = ["v1", "sdxl", "hotshot"]


@pytest.fixture(params=KINDS)
def on_diffusers(request, unets):
    return request.param, unets["diffusers", OFFICIAL[request.param].levels], *random_motion(request.param)


def options(unet, given):
    conditions = {"text_embeds": given["pooled"], "time_ids": given["sizes"]}
    return {
        "encoder_hidden_states": given["context"],
        **({"added_cond_kwargs": conditions} if unet.config.addition_embed_type else {}),
    }


@pytest.mark.parametrize(("on_diffusers", "windows"), every_once(KINDS, [None, WINDOWS]), indirect=["on_diffusers"])
def test_tuple_outputs_are_those_of_the_output_object(on_diffusers, windows):
    _, unet, motion, _ = on_diffusers
    given = hosts.inputs(12)
    with inject(unet, motion, frames=6, windows=windows):
        wanted = unet(given["x"], 500, **options(unet, given))
        got = unet(sample=given["x"], timestep=torch.tensor(500), return_dict=False, **options(unet, given))
    assert type(wanted).__name__ == "UNet2DConditionOutput"
    assert isinstance(got, tuple)
    assert torch.equal(got[0], wanted.sample)
    assert torch.equal(wanted[0], wanted.sample)


@pytest.mark.parametrize("on_diffusers", only_at(KINDS, 0, 1), indirect=True)
def test_freeu(on_diffusers):
    kind, unet, motion, state = on_diffusers
    unet, given = copy.deepcopy(unet), hosts.inputs(8)
    plain = injected(unet, given, motion, frames=4)
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    got = injected(unet, given, motion, frames=4)
    wanted = hosts.call(edited(unet, "diffusers", state, 4, **OFFICIAL[kind].norms), given)
    assert (got - wanted).abs().max() <= BOUND
    assert not torch.equal(got, plain)


@pytest.mark.parametrize("on_diffusers", only_at(KINDS, 0, 1), indirect=True)
def test_gradient_checkpointing_gives_the_same_gradients(on_diffusers):
    _, unet, motion, _ = on_diffusers
    unet, given, gradients = copy.deepcopy(unet).train(), hosts.inputs(4), []
    motion = motion.requires_grad_(True)
    for switch in (unet.disable_gradient_checkpointing, unet.enable_gradient_checkpointing):
        switch()
        with inject(unet, motion, frames=4):
            hosts.call(unet, given).square().mean().backward()
        gradients.append([weight.grad.clone() for weight in motion.parameters()])
        motion.zero_grad()
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)


@pytest.mark.parametrize(
    ("on_diffusers", "how"),
    every_once(KINDS, [{"windows": WINDOWS}, {"one_clip_per_call": True}]),
    indirect=["on_diffusers"],
)
def test_gradient_checkpointing_in_parts(on_diffusers, how):
    """It computes again when the windows are over: refused, where it would matter, before any gradient is wanted."""
    _, unet, motion, _ = on_diffusers
    unet, given = copy.deepcopy(unet).train(), hosts.inputs(12)
    unet.enable_gradient_checkpointing()
    with inject(unet, motion.requires_grad_(True), frames=6, **how):
        if "windows" in how:
            with pytest.raises(ClipError, match=r"Gradient checkpointing .* Disable it"):
                hosts.call(unet, given)
            with torch.no_grad():
                hosts.call(unet, given)
            unet.disable_gradient_checkpointing()
        hosts.call(unet, given).square().mean().backward()
    assert all(weight.grad is not None for weight in motion.parameters())


def test_residuals_of_a_controlnet_go_with_their_frames(unets):
    unet, (motion, _) = unets["diffusers", 4], shared_motion("v2")
    given = hosts.inputs(6)
    sizes = [(32, 8)] * 3 + [(32, 4)] + [(64, 4)] * 2 + [(64, 2)] + [(128, 2)] * 2 + [(128, 1)] * 3
    down = [torch.randn(6, width, size, size) for width, size in sizes]
    mid = torch.randn(6, 128, 1, 1)

    def call(rows, windows, frames):
        own = {"down_block_additional_residuals": tuple(one[rows] for one in down)}
        own["mid_block_additional_residual"] = mid[rows]
        with inject(unet, motion, frames=frames, windows=windows):
            return unet(given["x"][rows], 500, encoder_hidden_states=given["context"][rows], **own).sample

    batched = ContextWindows(length=3, overlap=0, kind="batched")
    apart = torch.cat([call(slice(0, 3), None, 3), call(slice(3, 6), None, 3)])
    assert (call(slice(0, 6), batched, 6) - apart).abs().max() <= BOUND


def test_a_pipelines_offloading_may_wrap_the_forward(unets):
    """As accelerate does: an attribute on the object that calls the former forward."""
    accelerate = pytest.importorskip("accelerate")
    unet, (motion, _) = copy.deepcopy(unets["diffusers", 4]), shared_motion("v3")
    given = hosts.inputs(6)
    wanted = injected(unet, given, motion, frames=6, windows=WINDOWS)
    accelerate.hooks.add_hook_to_module(unet, accelerate.hooks.AlignDevicesHook("cpu", io_same_device=True))
    assert torch.equal(injected(unet, given, motion, frames=6, windows=WINDOWS), wanted)
    accelerate.hooks.remove_hook_from_module(unet)
    assert "forward" not in vars(unet) or unet.forward.__func__ is type(unet).forward


# --------------------------------------------------------------------------------------------------------------------
# refusals


def ldm(**changes):
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    settings = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": 2}
    settings |= {"attention_resolutions": [4, 2, 1], "channel_mult": [1, 2, 4, 4], "num_heads": 8}
    return UNetModel(**settings | {"use_spatial_transformer": True, "context_dim": 64} | changes)


def ldm_without_middle_attention():
    unet = hosts.ldm_sdxl_unet()
    del unet.middle_block[1]  # as the WebUI does for SSD-1B
    return unet


def diffusers_unet(**changes):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 64} | changes)


SD3_OF_THE_WEBUI = {"joint_blocks": nn.ModuleList()}
DOWN, CROSS_DOWN, UP, CROSS_UP = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
REFINER = {
    "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN, DOWN),
    "up_block_types": (UP, CROSS_UP, CROSS_UP, UP),
}
SDXL = {
    "block_out_channels": (32, 64, 128),
    "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, CROSS_UP, UP),
}


def sd3():
    from diffusers import SD3Transformer2DModel

    widths = {"joint_attention_dim": 16, "caption_projection_dim": 16, "pooled_projection_dim": 16}
    return SD3Transformer2DModel(sample_size=8, num_layers=1, attention_head_dim=8, num_attention_heads=2, **widths)


def compiled(how):
    unet = hosts.ldm_unet()
    if how == "in place":
        unet.compile()
    elif how == "a block":
        unet.middle_block.compile()
    elif how == "forward":
        unet.forward = torch.compile(unet.forward)
    return torch.compile(unet) if how == "wrapped" else unet


class Unpatchable(nn.Module):
    """Passes for its UNet in all but this."""

    def __init__(self, unet):
        super().__init__()
        self.__dict__.update(vars(unet))

    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: nn.Linear(1, 1), "v3", "not a known Stable Diffusion UNet. Pass the UNet itself"),
        (lambda: ldm(context_dim=1024), "v2", "Stable Diffusion 2 model"),
        (lambda: diffusers_unet(cross_attention_dim=1024), "v2", "Stable Diffusion 2 model"),
        (sd3, "v3", "SD3Transformer2DModel is not a UNet"),
        (lambda: nn.ModuleDict(SD3_OF_THE_WEBUI), "v3", "is not a UNet .models such as Stable Diffusion 3"),
        (lambda: ldm(attention_resolutions=[4, 2]), "sdxl", "SDXL refiner"),
        (lambda: diffusers_unet(**REFINER), "sdxl", "SDXL refiner"),
        (ldm_without_middle_attention, "sdxl", "without some of its attention layers, as in SSD-1B"),
        (lambda: diffusers_unet(**SDXL, mid_block_type="UNetMidBlock2D"), "sdxl", "as in SSD-1B"),
        (lambda: diffusers_unet(**SDXL, mid_block_type=None), "sdxl", "as in SSD-1B"),
        (lambda: diffusers_unet(layers_per_block=1), "v3", "v3.safetensors has 20 sites, this UNet has 13"),
        (
            partial(ldm, channel_mult=[1, 2], attention_resolutions=[1, 2]),
            "v3",
            "20 sites, this UNet has 11: they belong",
        ),
        (lambda: ldm(model_channels=64), "v3", "32 channels wide at down_blocks.0.motion_modules.0, this UNet 64"),
        (hosts.ldm_sdxl_unet, "v3", "v3.safetensors is made for Stable Diffusion 1.5, the checkpoint is SDXL"),
        (
            hosts.diffusers_unet,
            "hotshot",
            "hotshot.safetensors is made for SDXL, the checkpoint is Stable Diffusion 1.5",
        ),
        *((partial(compiled, how), "v3", "compiled") for how in ("in place", "a block", "forward", "wrapped")),
        (lambda: Unpatchable(hosts.ldm_unet()), "v1", "forward method of this Unpatchable cannot be replaced"),
    ],
)
def test_is_refused_before_any_change(make, kind, words):
    unet, (motion, _) = make(), shared_motion(kind)
    before = Portrait(unet)
    with pytest.raises(IncompatibleModelError, match=words), inject(unet, motion, frames=6, windows=WINDOWS):
        pytest.fail("it was injected")
    before.assert_unchanged()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SimpleNamespace(unet=nn.Linear(1, 1)), r"Pass the UNet itself: .* pipeline\.unet"),
        (lambda: None, r"Pass the UNet itself: .* pipeline\.unet"),
        (lambda: "unet", r"Pass the UNet itself: .* pipeline\.unet"),
        (lambda: torch.jit.script(nn.Linear(1, 1)), "compiled"),
    ],
)
def test_what_is_no_network_is_told_what_to_pass(make, words):
    with pytest.raises(IncompatibleModelError, match=words), inject(make(), shared_motion("v3")[0], frames=6):
        pytest.fail("it was injected")


@pytest.mark.parametrize("kind", OFFICIAL)
def test_frames_are_held_against_the_trained_length(kind):
    motion, length = shared_motion(kind)[0], OFFICIAL[kind].length
    check_frames(motion, length)
    check_frames(motion, 500, ContextWindows(length=length))
    check_frames(motion, length, ContextWindows(length=length + 9))  # fits into one window
    with pytest.raises(ClipError, match=f"{length + 1} are too many. Lower the number of frames to {length} or less"):
        check_frames(motion, length + 1)
    with pytest.raises(ClipError, match=f"{length + 1} are too many"):
        check_frames(motion, length + 1, ContextWindows(length=length + 1))
    with pytest.raises(ClipError, match=f"windows of {length + 1} are too long. Lower the context length to {length}"):
        check_frames(motion, length + 2, ContextWindows(length=length + 1))


@pytest.mark.parametrize(
    ("kind", "frames", "windows", "words"),
    [
        ("hotshot", 16, None, "hotshot.safetensors is at its best with 8 frames at a time, not 16"),
        ("hotshot", 40, ContextWindows(), "8 frames at a time, not 16"),
        ("hotshot", 8, None, None),
        ("v3", 32, None, None),
        ("v3", 9, WINDOWS, "windows of 4 frames are short"),
        ("v3", 4, WINDOWS, None),
    ],
)
def test_what_is_a_matter_of_quality_is_a_warning(kind, frames, windows, words, caplog):
    with caplog.at_level(logging.WARNING, "lib_animatediff"):
        check_frames(shared_motion(kind)[0], frames, windows)
    assert (words in caplog.text) if words else not caplog.text
