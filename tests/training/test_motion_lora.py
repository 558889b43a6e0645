"""Motion LoRA files in every spelling that is about, and what they do to a motion module."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import official_sites, random_motion_state
from training import parts

from motion_module import (
    IncompatibleModelError,
    MotionFileError,
    apply_motion_lora,
    load_motion_lora,
    load_motion_module,
)

RANK = 2
PARTS = ("q", "k", "v", "out")


def low_rank(kind="v3", widths=parts.WIDTHS):
    """(site, attention, part) -> (down, up)."""
    generator = torch.Generator().manual_seed(3)
    return {
        (site, attention, part): (
            torch.randn(RANK, width, generator=generator),
            torch.randn(width, RANK, generator=generator),
        )
        for site, width in official_sites(kind, widths)
        for attention in range(2)
        for part in PARTS
    }


def official(site, attention, part):
    block = f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
    return f"{block}.processor.to_{part}_lora.down.weight", f"{block}.processor.to_{part}_lora.up.weight"


def flattened(site, attention, part):
    block = f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
    layer = f"{block}.to_{part}{'.0' if part == 'out' else ''}".replace(".", "_")
    return f"lora_unet_{layer}.lora_down.weight", f"lora_unet_{layer}.lora_up.weight"


def diffusers(site, attention, part):
    block = f"unet.{site}.transformer_blocks.0.attn{attention + 1}"
    return f"{block}.processor.to_{part}_lora.down.weight", f"{block}.processor.to_{part}_lora.up.weight"


def peft(site, attention, part):
    layer = f"unet.{site}.transformer_blocks.0.attn{attention + 1}.to_{part}{'.0' if part == 'out' else ''}"
    return f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"


SPELLINGS = [official, flattened, diffusers, peft]


def write_lora(path, spelling=official, more=None, **what):
    state = {}
    for place, (down, up) in low_rank(**what).items():
        names = spelling(*place)
        state |= {names[0]: down, names[1]: up}
    save_file(state | (more or {}), path)
    return path


@pytest.fixture
def motion(tmp_path):
    return load_motion_module(parts.written_motion(tmp_path))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_weights(tmp_path, motion, spelling):
    lora = load_motion_lora(write_lora(tmp_path / "lora.safetensors", spelling))
    merged = apply_motion_lora(motion, lora, 0.7).state_dict()
    before = random_motion_state("v3", parts.WIDTHS, tables=False)
    assert len(lora.deltas) == 160
    expected = dict(before)
    for (site, attention, part), (down, up) in low_rank().items():
        layer = f"to_{part}{'.0' if part == 'out' else ''}.weight"
        name = f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}.{layer}"
        expected[name] = before[name] + 0.7 * up @ down
    assert parts.largest_difference(merged, expected) < 1e-5


def test_a_pickle_of_the_first_days_loads(tmp_path, motion):
    state = {
        name: tensor for place, pair in low_rank().items() for name, tensor in zip(official(*place), pair, strict=True)
    }
    torch.save({"state_dict": state}, tmp_path / "lora.ckpt")
    assert len(load_motion_lora(tmp_path / "lora.ckpt").deltas) == 160


def test_alpha_scales(tmp_path, motion):
    name = flattened("down_blocks.0.motion_modules.0", 0, "q")[0].removesuffix(".lora_down.weight")
    path = write_lora(tmp_path / "lora.safetensors", flattened, {f"{name}.alpha": torch.tensor(1.0)})
    scales = [change.scale for change in load_motion_lora(path).deltas.values()]
    assert sorted(set(scales)) == [1 / RANK, 1.0]
    assert scales.count(1 / RANK) == 1


def test_an_alpha_that_is_no_number_is_told_so(tmp_path):
    name = flattened("down_blocks.0.motion_modules.0", 0, "q")[0].removesuffix(".lora_down.weight")
    path = write_lora(tmp_path / "lora.safetensors", flattened, {f"{name}.alpha": torch.ones(2)})
    with pytest.raises(MotionFileError, match="not a single number"):
        load_motion_lora(path)


def test_strength_zero_is_equal_and_the_original_untouched(tmp_path, motion):
    before = {name: t.clone() for name, t in motion.state_dict().items()}
    lora = load_motion_lora(write_lora(tmp_path / "lora.safetensors"))
    assert parts.equal(apply_motion_lora(motion, lora, 0).state_dict(), before)
    assert not parts.equal(apply_motion_lora(motion, lora, 1).state_dict(), before)
    assert parts.equal(motion.state_dict(), before)


def test_half_precision_stays_half(tmp_path, motion):
    lora = load_motion_lora(write_lora(tmp_path / "lora.safetensors"))
    half = apply_motion_lora(motion.half(), lora)
    assert {weight.dtype for weight in half.parameters()} == {torch.float16}


def test_a_v2_lora_goes_on_v3_and_says_how_much_matched(tmp_path, motion, caplog):
    lora = load_motion_lora(write_lora(tmp_path / "lora.safetensors", kind="v2"))
    with caplog.at_level("INFO"):
        merged = apply_motion_lora(motion, lora)
    assert "160 of its 168 weights match mm_v3.safetensors" in caplog.text
    assert merged.name == "mm_v3.safetensors with lora.safetensors"


def test_what_matches_nothing_is_refused(tmp_path, motion):
    names = official("down_blocks.7.motion_modules.0", 0, "q")
    save_file({names[0]: torch.ones(2, 32), names[1]: torch.ones(32, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(IncompatibleModelError, match=r"None of the 1 weights in lora\.safetensors"):
        apply_motion_lora(motion, load_motion_lora(tmp_path / "lora.safetensors"))


def test_other_widths_are_refused(tmp_path, motion):
    lora = load_motion_lora(write_lora(tmp_path / "lora.safetensors", widths=(32, 64, 64, 64)))
    with pytest.raises(IncompatibleModelError, match="of another size"):
        apply_motion_lora(motion, lora)


def test_spatial_weights_are_passed_over(tmp_path):
    spatial = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"
    path = write_lora(tmp_path / "lora.safetensors", more={spatial: torch.ones(2, 2)})
    assert len(load_motion_lora(path).deltas) == 160


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"something": torch.ones(1)}, "not a motion LoRA"),
        ({official("down_blocks.0.motion_modules.0", 0, "q")[0]: torch.ones(2, 32)}, "incomplete LoRA"),
        (random_motion_state("v3", (32,) * 4), "not a motion LoRA"),
    ],
)
def test_other_files_are_refused(tmp_path, state, message):
    save_file(state, tmp_path / "lora.safetensors")
    with pytest.raises(MotionFileError, match=message):
        load_motion_lora(tmp_path / "lora.safetensors")
