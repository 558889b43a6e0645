"""Domain adapters: every spelling of a file, and the numbers of weights that the adapter was merged into by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file
from support import hosts
from support.adapter_files import SPELLINGS, diffusers_layers, kohya, ldm_name, official, random_adapter, write_adapter
from support.injected import injected
from support.motion_files import PICKLES, random_motion_state
from support.motions import shared_motion
from support.unchanged import Portrait

from lib_animatediff import IncompatibleModelError
from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from motion_module import MotionFileError, is_domain_adapter, load_domain_adapter

GIVEN = hosts.inputs(2)
GIVEN |= {name: GIVEN[name].double() for name in ("x", "context")}
STRENGTH = 0.7
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
ABSENT = Q.replace("0", "7", 1)
ONES = (torch.ones(2, 32), torch.ones(32, 2))
ALL = {**hosts.HOSTS, **{f"{name} sdxl": make for name, make in hosts.SDXL_HOSTS.items()}}


@pytest.fixture(scope="module")
def unets():
    from ldm.modules import attention

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_ATTN_PRECISION", "as it comes")
        yield {name: precise(make()) for name, make in ALL.items()}


def precise(unet):
    """In double precision, so that roundings do not add up from layer to layer; LDM's norms insist on single."""
    unet = unet.double()
    for name, layer in unet.named_modules() if hasattr(unet, "input_blocks") else ():
        if type(layer).__name__ == "GroupNorm32" or name.endswith(("time_embed", "label_emb", "emb_layers")):
            layer.float()
    if hasattr(unet, "input_blocks"):
        unet.dtype = torch.float64
    return unet


@pytest.fixture(scope="module")
def layers(unets):
    """Names and sizes of what an adapter changes, as diffusers' own UNet has them."""
    return diffusers_layers(unets["diffusers"])


@pytest.fixture
def unet(unets, request):
    return unets[getattr(request, "param", "ldm")]


@pytest.fixture
def adapter(layers, tmp_path):
    return load_domain_adapter(write_adapter(tmp_path / "v3_sd15_adapter.safetensors", random_adapter(layers)))


def merged(unet, changes, strength):
    """A copy whose weights have the change added by hand."""
    changed = copy.deepcopy(unet)
    weights = dict(changed.named_parameters())
    for name, (down, up) in changes.items():
        own = name if hasattr(unet, "down_blocks") else ldm_name(name, unet)
        weights[f"{own}.weight"] += strength * up.double() @ down.double()
    return changed


def close(found, expected):
    return (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("host", list(ALL))
def test_an_adapted_unet_computes_what_merged_weights_do(unets, host, tmp_path):
    unet = unets[host]
    layers = diffusers_layers(unets[host.replace("ldm", "diffusers")])
    if host == "ldm sdxl":  # this one's transformers have one block each
        layers = {name: size for name, size in layers.items() if ".transformer_blocks.0." in name}
    changes = random_adapter(layers)
    adapter = load_domain_adapter(write_adapter(tmp_path / "adapter.safetensors", changes))
    plain, before = hosts.call(unet, GIVEN), Portrait(unet)
    with apply_domain_adapters(unet, [(adapter, STRENGTH)]) as (match,):
        found = hosts.call(unet, GIVEN)
    assert match.matched == match.total == len(changes)
    assert close(found, hosts.call(merged(unet, changes, STRENGTH), GIVEN))
    assert not close(found, plain)
    before.assert_unchanged()
    assert torch.equal(hosts.call(unet, GIVEN), plain)


@pytest.mark.parametrize("unet", hosts.HOSTS, indirect=True)
def test_several_adapters_add_up(unet, layers, tmp_path):
    made = [random_adapter(layers, seed=seed, rank=seed + 1) for seed in (1, 2)]
    files = [write_adapter(tmp_path / f"{i}.safetensors", changes) for i, changes in enumerate(made)]
    adapters = [(load_domain_adapter(path), strength) for path, strength in zip(files, (0.5, -1), strict=True)]
    with apply_domain_adapters(unet, adapters):
        found = hosts.call(unet, GIVEN)
    assert close(found, hosts.call(merged(merged(unet, made[0], 0.5), made[1], -1), GIVEN))


@pytest.mark.parametrize("unet", hosts.HOSTS, indirect=True)
def test_with_a_motion_module_both_act(unet, layers, adapter):
    motion = shared_motion("v3")[0]
    with apply_domain_adapters(unet, [(adapter, STRENGTH)]):
        found = injected(unet, GIVEN, motion, frames=2)
    assert close(found, injected(merged(unet, random_adapter(layers), STRENGTH), GIVEN, motion, frames=2))


@pytest.mark.parametrize("unet", hosts.HOSTS, indirect=True)
def test_strength_zero_and_no_adapter_leave_no_trace(unet, adapter):
    before, plain = Portrait(unet), hosts.call(unet, GIVEN)
    for adapters in ([(adapter, 0)], []):
        with apply_domain_adapters(unet, adapters) as matches:
            before.assert_unchanged()
            assert torch.equal(hosts.call(unet, GIVEN), plain)
        assert len(matches) == len(adapters)


def test_half_precision_stays_half(unets, adapter):
    unet = copy.deepcopy(unets["diffusers"]).bfloat16()
    given = {name: value.bfloat16() if value.is_floating_point() else value for name, value in GIVEN.items()}
    with apply_domain_adapters(unet, [(adapter, STRENGTH)]):
        assert hosts.call(unet, given).dtype == torch.bfloat16


def test_after_an_exception_nothing_is_left(unet, adapter):
    before = Portrait(unet)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), apply_domain_adapters(unet, [(adapter, 1)]):
            raise error
        before.assert_unchanged()


def test_how_much_matched_is_said(unet, layers, tmp_path):
    path = write_adapter(tmp_path / "adapter.safetensors", random_adapter(layers) | {ABSENT: ONES})
    with apply_domain_adapters(unet, [(load_domain_adapter(path), 1)]) as (match,):
        assert str(match) == "adapter.safetensors: 128 of its 129 layers match the checkpoint."


@pytest.mark.parametrize(
    ("name", "width", "strength", "words"),
    [
        (ABSENT, 32, 0, r"None of the 1 layers of adapter\.safetensors"),
        (ABSENT, 32, 1, r"None of the 1 layers of adapter\.safetensors"),
        (Q, 64, 1, r"another width: .* is \(32, 32\) in .* and \(64, 64\)"),
    ],
)
def test_what_does_not_fit_is_refused(unet, tmp_path, name, width, strength, words):
    path = write_adapter(tmp_path / "adapter.safetensors", {name: (torch.ones(2, width), torch.ones(width, 2))})
    before = Portrait(unet)
    with pytest.raises(IncompatibleModelError, match=words):
        apply_domain_adapters(unet, [(load_domain_adapter(path), strength)]).__enter__()
    before.assert_unchanged()
    with pytest.raises(IncompatibleModelError, match="Linear"):
        apply_domain_adapters(torch.nn.Linear(1, 1), [(load_domain_adapter(path), strength)]).__enter__()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_holds_the_same_and_only_the_official_one_is_told_for_an_adapter(layers, spelling, tmp_path):
    made = random_adapter(layers)
    path = write_adapter(tmp_path / "adapter.safetensors", made, spelling)
    assert is_domain_adapter(path) == (spelling is official)
    loaded = load_domain_adapter(path)
    assert set(loaded.deltas) == set(made)
    for name, (down, up) in made.items():
        assert torch.equal(loaded.deltas[name].delta_weight(), up @ down)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("prefix", ["", "module.", "unet."])
@pytest.mark.parametrize("save", PICKLES.values(), ids=PICKLES)
def test_the_official_pickle_loads(layers, save, prefix, wrapped, tmp_path):
    path = tmp_path / "v3_sd15_adapter.ckpt"
    pairs = ((official(layer), pair) for layer, pair in random_adapter(layers).items())
    state = {f"{prefix}{name}": t for names, pair in pairs for name, t in zip(names, pair, strict=True)}
    save({"state_dict": state, "animatediff_config": {}} if wrapped else state, path)
    assert is_domain_adapter(path)
    assert set(load_domain_adapter(path).deltas) == set(layers)


def test_alpha_scales(layers, tmp_path):
    made = random_adapter(layers, rank=4)
    path = tmp_path / "adapter.safetensors"
    alphas = {f"{kohya(name)[0].partition('.')[0]}.alpha": torch.tensor(2.0) for name in made}
    write_adapter(path, made, kohya, alphas)
    assert {change.scale for change in load_domain_adapter(path).deltas.values()} == {0.5}


def test_other_layers_of_an_image_lora_are_counted(tmp_path, unet):
    more = {
        f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2.lora_{part}.weight": torch.ones(2, 2)
        for part in ("down", "up")
    }
    path = write_adapter(tmp_path / "a.safetensors", {Q: ONES}, kohya, more)
    with apply_domain_adapters(unet, [(load_domain_adapter(path), 1)]) as (match,):
        assert str(match).endswith("; not used, because it is not spatial attention: 1.")


def test_a_motion_lora_with_spatial_weights_or_a_broken_or_missing_file_is_no_adapter(tmp_path):
    motion = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
    more = {f"{motion}.processor.to_q_lora.down.weight": torch.ones(2, 32)}
    write_adapter(tmp_path / "a.safetensors", {Q: ONES}, official, more)
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html>")
    assert not any(is_domain_adapter(tmp_path / name) for name in ("a.safetensors", "page.ckpt", "missing.ckpt"))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"something": torch.ones(1)}, "is not a domain adapter. Choose a file such as"),
        (random_motion_state("v3", (32,) * 4), "is not a domain adapter"),
        ({official(Q)[0]: ONES[0]}, f"an incomplete LoRA for {Q}"),
        ({kohya(Q)[0]: ONES[0].clone(), official(Q)[0]: ONES[0]}, "two LoRAs"),
        ({f"{kohya(Q)[0].partition('.')[0]}.hada_w1_a": ONES[0]}, "unsupported method"),
    ],
)
def test_other_files_are_refused(tmp_path, state, message):
    save_file(state, tmp_path / "file.safetensors")
    with pytest.raises(MotionFileError, match=message):
        load_domain_adapter(tmp_path / "file.safetensors")
