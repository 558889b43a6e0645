"""Every kind is recognised in every format that its files are passed around in, under names that say nothing."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from safetensors.torch import save_file
from support import motion_files
from support.matrix import every_once
from support.motion_files import (
    SDXL_KINDS,
    TABLE_LENGTHS,
    adapter_config,
    as_adapter,
    in_whole_unet,
    random_motion_state,
)
from support.motion_states import FORMATS, KINDS, WIDTHS, assert_holds, official, refusal

from motion_module import inspect_motion_file, load_motion_module


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mm.file"


def state_of(kind):
    """Official; AnimateLCM alone names its tables otherwise."""
    return motion_files.as_animatelcm(official(kind)) if kind == "lcm" else official(kind)


def prefixed(state, prefix):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def adapter_folder(folder, kind, state, *, name="diffusion_pytorch_model.safetensors", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**adapter_config(kind, WIDTHS), **changes}))
    (save_file if name.endswith("safetensors") else torch.save)(state, folder / name)
    return folder


def stored(container, change=lambda state: state):
    def write(folder, kind):
        FORMATS[container](change(state_of(kind)), folder / "mm.file")
        return folder / "mm.file"

    return write


def adapter(*, tables, name="diffusion_pytorch_model.safetensors", inside=False):
    def write(folder, kind):
        state = as_adapter(official(kind), tables=tables)
        made = adapter_folder(folder / "mm", kind, state, name=name)
        return made / name if inside else made

    return write


WRITTEN = {
    **{container: stored(container) for container in FORMATS},
    "zip in state_dict": stored("zip", lambda state: {"state_dict": state, "global_step": 7}),
    "legacy in module": stored("legacy", lambda state: {"module": state, "optimizer": {"m": torch.ones(2)}}),
    "in model": stored("zip", lambda state: {"model": state, "ema": {"decay": torch.ones(1)}}),
    "in controlnet": stored("zip", lambda state: {"controlnet": state, "args": {"seed": torch.ones(1)}}),
    "in unet": stored("zip", lambda state: {"unet": state, "step": 3}),
    "in two wrappers": stored("zip", lambda state: {"state_dict": {"module": state}}),
    "parameters": stored("legacy", lambda state: {key: torch.nn.Parameter(tensor) for key, tensor in state.items()}),
    **{
        prefix: stored("safetensors", functools.partial(prefixed, prefix=prefix))
        for prefix in ("module.", "unet.", "model.diffusion_model.", "animatediff.")
    },
    "whole UNet": stored("safetensors", in_whole_unet),
    "whole UNet of a training": stored("zip", lambda state: {"state_dict": prefixed(in_whole_unet(state), "module.")}),
    "adapter folder": adapter(tables=False),
    "adapter folder with tables": adapter(tables=True),
    "adapter folder with bin": adapter(tables=False, name="diffusion_pytorch_model.bin"),
    "adapter folder in half": adapter(tables=True, name="diffusion_pytorch_model.fp16.safetensors"),
    "adapter file beside its config": adapter(tables=False, inside=True),
    "adapter file of another name": adapter(tables=False, inside=True, name="mm.safetensors"),
}


@pytest.mark.parametrize(("kind", "written"), every_once(KINDS, WRITTEN))
def test_every_kind_is_known_in_every_format(tmp_path, kind, written):
    path = WRITTEN[written](tmp_path, kind)
    info = inspect_motion_file(path)
    assert info.problem is None
    assert (info.kind, info.trained_length) == (kind, TABLE_LENGTHS[kind])
    assert info.base == ("sdxl" if kind in SDXL_KINDS else "sd15")
    motion = load_motion_module(path)
    assert (motion.kind, motion.base, motion.trained_length) == (info.kind, info.base, info.trained_length)
    assert motion.schedule == info.schedule
    assert sum(weight.numel() for weight in motion.parameters()) == info.parameters
    assert_holds(motion, official(kind))


def test_hotshots_own_spelling_tells_the_kind(path):
    for tables in (False, True):
        save_file(motion_files.as_hotshot(official("hotshot", tables=tables)), path)
        motion = load_motion_module(path)
        assert (motion.kind, motion.trained_length) == ("hotshot", 24)
        assert_holds(motion, official("hotshot"))
        assert inspect_motion_file(path).format == "HotShot-XL"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lcm"])
def test_tables_of_an_adapter_file_suffice(path, kind):
    """As in HelloMeme's files and those of today's diffusers: no config beside them."""
    save_file(as_adapter(official(kind)), path)
    motion = load_motion_module(path)
    assert (motion.kind, motion.trained_length) == (kind, TABLE_LENGTHS[kind])
    assert_holds(motion, official(kind))


def test_a_config_beside_an_official_file_says_nothing_about_it(tmp_path):
    adapter_folder(tmp_path, "v1", official(tables=False), name="mm.safetensors")
    assert "its kind is ambiguous" in refusal(tmp_path / "mm.safetensors")


LENGTHS = ["32", True, -1, 0, None, [32]]  # none of them sensible
CONFIGS = [json.dumps(adapter_config("v3", WIDTHS) | {"motion_max_seq_length": length}) for length in LENGTHS]
CONFIGS += ["{", "[]", '{"_class_name": "UNetMotionModel", "motion_max_seq_length": 32}', '"v3"', "[" * 100_000]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config[-60:])
def test_a_config_of_something_else_or_without_a_sensible_length_is_none(tmp_path, config):
    folder = adapter_folder(tmp_path / "mm", "v3", as_adapter(official(), tables=False))
    (folder / "config.json").write_text(config)
    assert "its kind is ambiguous" in refusal(folder)


def test_lengths_beyond_all_motion_modules_are_refused(tmp_path, path):
    state = as_adapter(official(), tables=False)
    folder = adapter_folder(tmp_path / "mm", "v3", state, motion_max_seq_length=10**9)
    assert "according to its config.json it was trained on clips of more than 1024 frames" in refusal(folder)
    save_file(random_motion_state("v3", WIDTHS, length=1025), path)
    assert "according to its positional tables it was trained" in refusal(path)


@pytest.mark.parametrize("tables", [True, False])
def test_an_animatelcm_adapter_of_v2s_length_is_told_by_its_name(tmp_path, tables):
    """v2, of which it is made, left it its length of 32."""
    state = as_adapter(random_motion_state("lcm", WIDTHS, length=32, tables=tables), tables=tables)
    for name, kind in {"AnimateLCM": "lcm", "mm": "v2", "animatediff-motion-adapter-v1-5-2": "v2"}.items():
        folder = adapter_folder(tmp_path / name, "lcm", state, motion_max_seq_length=32)
        assert (inspect_motion_file(folder).kind, inspect_motion_file(folder).trained_length) == (kind, 32)


@pytest.mark.parametrize(
    ("key", "value"),
    [("motion_num_attention_heads", 4), ("motion_num_attention_heads", [8, 8, 8, 16]), ("motion_norm_num_groups", 16)],
)
def test_a_config_of_another_network_is_refused(tmp_path, key, value):
    folder = adapter_folder(tmp_path / "mm", "v3", as_adapter(official()), **{key: value})
    assert f"has {key} {value}" in refusal(folder)


def test_a_folder_that_is_no_adapter_is_told_so(tmp_path):
    (tmp_path / "mm").mkdir()
    assert "mm is a folder" in refusal(tmp_path / "mm")


def test_a_weight_that_is_there_twice_or_too_many_in_a_whole_unet_is_named(path):
    key = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.bias"
    save_file({**official(), f"module.{key}": torch.zeros(32)}, path)
    assert f"{key} is stored twice" in refusal(path)
    key = "down_blocks.0.motion_modules.2.temporal_transformer.proj_in.bias"
    save_file(in_whole_unet({**official(), key: torch.zeros(32)}), path)
    assert f"{key} is unexpected" in refusal(path)


@pytest.mark.parametrize("end", [".pos_embed.pe", ".norm1.weight"])
def test_what_an_adapter_lacks_is_named(path, end):
    state = as_adapter(official())
    del state[f"up_blocks.1.motion_modules.2.transformer_blocks.0{end}"]
    save_file(state, path)
    assert "up_blocks.1.motion_modules.2" in refusal(path)


FP8 = [dtype for name in ("float8_e4m3fn", "float8_e5m2") if (dtype := getattr(torch, name, None))]


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *FP8], ids=str)
def test_each_precision_is_kept_as_far_as_it_can_compute(path, dtype, written):
    state = {key: tensor.to(dtype) for key, tensor in official().items()}
    if written == "legacy" and dtype in FP8:
        pytest.skip("torch writes no such file")
    FORMATS[written](state, path)
    assert inspect_motion_file(path).dtype == str(dtype).removeprefix("torch.")
    motion = load_motion_module(path)
    loaded = motion.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float16 if dtype in FP8 else dtype}
    assert all(torch.equal(tensor.double(), state[key].double()) for key, tensor in loaded.items())
    for table in motion.buffers():
        torch.testing.assert_close(table, motion_files.literal_positions(32, table.shape[2]))
