"""An injected UNet computes what a UNet with really inserted, literal modules computes."""

from __future__ import annotations

import copy
import functools
import itertools

import pytest
import torch
from safetensors.torch import save_file
from support import hosts
from support.injected import injected
from support.matrix import every_once, in_matrix
from support.motion_files import SD15_WIDTHS, random_motion_state, write_motion_file
from support.motions import OFFICIAL, shared_motion
from support.oracle import INSERT, edited, literal_site, set_frames

from lib_animatediff import ClipError, inject
from motion_module import load_motion_module

BOUND = 1e-5
ALL = None  # as many frames as the kind was trained on


@pytest.fixture
def unet_for(unets):
    return lambda host, kind: unets[host, OFFICIAL[kind].levels]


@pytest.fixture(scope="module")
def literal_for(unets):
    """UNets with a literal module inside: only their number of frames changes from test to test."""

    @functools.cache
    def inserted(host, kind):
        return edited(unets[host, OFFICIAL[kind].levels], host, shared_motion(kind)[1], 1, **OFFICIAL[kind].norms)

    return lambda host, kind, frames: set_frames(inserted(host, kind), frames)


@pytest.fixture(scope="module")
def plain_for(unets):
    """What the UNets compute by themselves for so many rows of a size."""

    @functools.cache
    def plain(host, base, rows, size):
        return hosts.call(unets[host, {"sd15": 4, "sdxl": 3}[base]], hosts.inputs(rows, size))

    return plain


def clips_of_every_kind():
    """Streams, clips and frames, on both hosts; the kinds that differ least from others once only on diffusers."""
    for kind, host in itertools.product(OFFICIAL, hosts.HOSTS):
        for shape in ((2, 1, 16), (1, 2, 8), (3, 2, 1), (3, 1, 8), (1, 1, ALL)):
            if host == "ldm" or kind in ("v3", "sdxl") or shape == (1, 2, 8):
                case = (kind, host, *shape)
                on_one = host == ("ldm" if kind in ("v1", "v3", "lcm") else "diffusers")
                yield (
                    case
                    if (on_one and shape == (1, 2, 8)) or ((kind, host) == ("v1", "ldm") and shape != (3, 1, 8))
                    else in_matrix(*case)
                )


@pytest.mark.parametrize(("kind", "host", "streams", "clips", "frames"), list(clips_of_every_kind()))
def test_equals_the_literal_oracle(unet_for, literal_for, plain_for, kind, host, streams, clips, frames):
    unet, (motion, _) = unet_for(host, kind), shared_motion(kind)
    frames = frames or OFFICIAL[kind].length
    rows, size = streams * clips * frames, (16, 8) if frames <= 8 else (8, 8)
    given = hosts.inputs(rows, size)
    got = injected(unet, given, motion, frames=frames)
    wanted = hosts.call(literal_for(host, kind, frames), given)
    plain = plain_for(host, motion.base, rows, size)
    worst = (got - wanted).abs().max().item()
    print(f"{kind} {host}: {worst:.1e}")
    assert worst <= BOUND
    assert (plain - wanted).abs().max() > 1000 * BOUND  # the oracle is far from a UNet without motion


@pytest.mark.parametrize(("kind", "norms"), [("v1", "shared_resnet_norms"), ("sdxl", "shared_own_norm")])
def test_the_oracle_tells_norms_over_clips_from_norms_over_frames(unet_for, kind, norms):
    unet, (_, state) = unet_for("ldm", kind), shared_motion(kind)
    given = hosts.inputs(8)
    with_norms, without = (hosts.call(edited(unet, "ldm", state, 4, **{norms: on}), given) for on in (True, False))
    assert (with_norms - without).abs().max() > 1000 * BOUND


@pytest.fixture(scope="module")
def full_v2():
    return random_motion_state("v2", SD15_WIDTHS)


@pytest.mark.matrix  # widths change nothing of the rule, which the test above shows at small ones
@pytest.mark.parametrize(("host", "kind"), [("ldm", "v3"), ("diffusers", "v2")])  # the other pairs: at small widths
def test_equals_the_literal_oracle_at_full_width(tmp_path, full_v2, host, kind):
    unet = hosts.HOSTS[host](width=320, context=768)
    # A v3 module is a v2 module without a middle.
    state = {key: weight for key, weight in full_v2.items() if kind == "v2" or not key.startswith("mid_block")}
    save_file(state, tmp_path / "full.safetensors")
    given = hosts.inputs(4, (8, 8), context=768)
    got = injected(unet, given, load_motion_module(tmp_path / "full.safetensors"), frames=2)
    INSERT[host](unet, state, 2)
    worst = (got - hosts.call(unet, given)).abs().max().item()
    print(f"{host} {kind}: {worst:.2e} of {got.std():.2f}")
    assert worst <= BOUND


@pytest.mark.parametrize(
    ("host", "kind", "dtype"), every_once(hosts.HOSTS, ["v1", "v2", "sdxl"], [torch.bfloat16, torch.float16])
)
def test_follows_the_activations_dtype_and_leaves_the_motion_module_alone(unet_for, host, kind, dtype):
    exact_unet, (motion, _) = unet_for(host, kind), shared_motion(kind)
    before = {key: value.clone() for key, value in motion.state_dict().items()}
    # LDM lives in half precision under autocast only, as the WebUI runs it.
    unet = exact_unet if host == "ldm" else copy.deepcopy(exact_unet).to(dtype)
    given = hosts.inputs(8)
    low = {key: value.to(dtype) if value.is_floating_point() else value for key, value in given.items()}
    with torch.autocast("cpu", dtype=dtype, enabled=host == "ldm"):
        got = injected(unet, low, motion, frames=4)
    exact = injected(exact_unet, given, motion, frames=4)
    assert got.dtype == dtype
    error = (got.float() - exact).abs().mean() / exact.abs().mean()
    assert error < 40 * torch.finfo(dtype).eps
    assert all(torch.equal(before[key], value) for key, value in motion.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_file_of_mixed_precision_runs_in_any_unet(unets, tmp_path, dtype):
    state = random_motion_state("v3")
    mixed = {key: value.half() if value.dim() == 2 else value for key, value in state.items()}  # norms, biases in full
    save_file(mixed, tmp_path / "mixed.safetensors")
    save_file(
        {key: value.half().float() if value.dim() == 2 else value for key, value in state.items()}, tmp_path / "mm"
    )
    unet = copy.deepcopy(unets["diffusers", 4]).to(dtype)
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in hosts.inputs(4).items()}
    motions = [load_motion_module(tmp_path / name) for name in ("mixed.safetensors", "mm")]
    outputs = [injected(unet, given, motion, frames=4) for motion in motions]
    assert outputs[0].dtype == dtype
    assert torch.equal(*outputs)


@pytest.fixture
def motion(tmp_path):
    return load_motion_module(write_motion_file(tmp_path, "v3"))


def test_runs_under_autocast(unets, motion):
    given = hosts.inputs(8)
    with inject(unets["diffusers", 4], motion, frames=4):
        exact = hosts.call(unets["diffusers", 4], given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = hosts.call(unets["diffusers", 4], given)
    error = (got.float() - exact).abs().mean() / exact.abs().mean()
    assert 0 < error < 40 * torch.finfo(torch.bfloat16).eps


def test_gradients_reach_a_trainable_module_and_nothing_else(unets, motion):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = injected(unets["diffusers", 4], hosts.inputs(4), motion.requires_grad_(True), frames=4)
        out.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in motion.parameters())
    assert all(weight.grad is None for weight in unets["diffusers", 4].parameters())


@pytest.mark.parametrize(("limit", "value"), [("CUDA_GRID_LIMIT", 8 * 10), ("CPU_PIECE", 4000)])
@torch.no_grad()
def test_large_pictures_go_through_in_pieces(motion, monkeypatch, limit, value):
    name, transformer = next(motion.sites())
    x = torch.randn(4, 32, 8, 8)
    whole = transformer(x, 4)
    monkeypatch.setattr(f"motion_module.temporal_transformer.{limit}", value)
    seen = []
    with transformer.proj_in.register_forward_hook(lambda _layer, _inputs, out: seen.append(out.shape[2])):
        assert torch.allclose(transformer(x, 4), whole, atol=1e-6)
    assert len(seen) > 1
    assert sum(seen) == 64
    prefix = f"{name}.temporal_transformer."
    weights = {k.removeprefix(prefix): v for k, v in random_motion_state("v3").items() if k.startswith(prefix)}
    assert (whole - literal_site(weights, x, 4)).abs().max() <= BOUND


@pytest.mark.parametrize("frames", [0, -1])
def test_refuses_an_impossible_number_of_frames(unets, motion, frames):
    with pytest.raises(ClipError, match="at least one frame"), inject(unets["ldm", 4], motion, frames=frames):
        pass


def test_refuses_rows_that_are_not_whole_clips(unets, motion):
    with pytest.raises(ClipError, match="10 rows, which are not whole clips of 4"):
        injected(unets["ldm", 4], hosts.inputs(10), motion, frames=4)
