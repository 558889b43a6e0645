"""What is trained changes, and nothing else does; what is written is official, for the loader and for other tools."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support import adapter_files, hosts
from support.matrix import only_at
from support.motion_files import random_motion_state, write_motion_file
from training import parts

from lib_animatediff import IncompatibleModelError, inject
from lib_animatediff.training import MemorySource, TrainingError, train
from lib_animatediff.training.export import read_recipe, write
from lib_animatediff.training.settings import NEW_KINDS
from lib_animatediff.training.trainables import adapter_in, layout_for, target_of
from motion_module import AnimateDiffError, MotionModule, apply_motion_lora, load_motion_lora, load_motion_module
from motion_module.kinds import KINDS

TARGETS = ["motion-module", "motion-lora", "adapter"]
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def snapshot(*models):
    return {f"{i}.{name}": t.clone() for i, model in enumerate(models) for name, t in model.state_dict().items()}


def left_in(unet):
    """What a training could have left behind."""
    hooks = [name for name, m in unet.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    loras = [name for name, _ in unet.named_modules() if "lora" in name]
    return hooks or loras or hasattr(unet, "peft_config")


@pytest.mark.parametrize("target", only_at(TARGETS, 0, 2))
def test_everything_else_is_unchanged_bit_for_bit(tmp_path, target):
    vae = parts.small_vae()
    base = parts.small_base(parts.small_unet(), vae=vae)
    clips = [(torch.rand(4, 3, 64, 128) * 2 - 1, "a clip")]
    given = parts.motion_for(target, tmp_path)
    file = next(iter(tmp_path.glob("*.safetensors")), None)
    before, bytes_before = snapshot(base.unet, vae), file and file.read_bytes()
    asked = parts.settings(tmp_path / "out", target=target, steps=2, checkpointing=True, **given)
    train(asked, base=base, clips=clips)
    assert parts.equal(before, snapshot(base.unet, vae))
    assert not left_in(base.unet)
    assert not base.unet.training
    assert not any(getattr(layer, "gradient_checkpointing", False) for layer in base.unet.modules())
    assert not any(weight.requires_grad for weight in (*base.unet.parameters(), *vae.parameters()))
    assert file is None or file.read_bytes() == bytes_before


@pytest.mark.parametrize("target", only_at(TARGETS, 0, 2))
def test_all_of_the_target_is_trained(tmp_path, target):
    more = {"target": target, "lr": 1e-2, **parts.motion_for(target, tmp_path)}
    one, two = (parts.trained(tmp_path / str(steps), steps=steps, **more) for steps in (1, 3))
    still = [name for name in one if torch.equal(one[name], two[name])]
    assert [name for name in still if not name.endswith("pos_encoder.pe")] == []


@pytest.mark.parametrize("kind", NEW_KINDS)
def test_a_fresh_module_leaves_the_unet_as_it_is(kind):
    unet = parts.small_unet()
    motion = MotionModule.fresh(layout_for(unet, KINDS[kind], 16), KINDS[kind])
    given = hosts.inputs(4, (16, 16), parts.CONTEXT)
    with torch.no_grad():
        plain = hosts.call(unet, given)
        with inject(unet, motion, frames=4):
            assert torch.equal(hosts.call(unet, given), plain)


def test_the_same_seed_makes_the_same_fresh_module(tmp_path):
    a, b, c = (parts.trained(tmp_path / n, steps=1, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert parts.equal(a, b)
    assert not parts.equal(a, c)


def test_the_loss_falls_on_a_toy(tmp_path):
    """Two kinds of drift, learned by heart."""
    clips = [(latents[:, :, :8, :8], "a drift") for latents, _ in parts.latent_clips(2)] * 5
    clips = MemorySource(clips, latents=True)
    more = {"frames": 2, "steps": 30, "lr": 3e-3, "timestep_power": 0.3, "validation_clips": 1}
    parts.trained(tmp_path, clips=clips, **more)
    told = parts.records(tmp_path)
    losses = [line["loss"] for line in told if "loss" in line]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    first, last = (line["validation/noise_error/900"] for line in told if "validation/noise_error/900" in line)
    assert last < 0.8 * first


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    with pytest.raises(TrainingError, match="The loss is not finite at step 2"):
        parts.trained(tmp_path, lr=1e30)


def test_an_existing_module_is_gone_on_from(tmp_path):
    path = parts.written_motion(tmp_path, "v2")
    found = parts.trained(tmp_path / "out", motion=str(path), steps=1, lr=1e-6)
    start = parts.load_file(path)
    assert 0 < parts.largest_difference(found, start) < 1e-4


def test_a_module_for_another_base_is_refused(tmp_path):
    with pytest.raises(IncompatibleModelError, match="wide"):
        parts.trained(tmp_path, motion=str(write_motion_file(tmp_path)))


def random_lora(target):
    """Give a LoRA's second factor values: it begins as zero."""
    generator = torch.Generator().manual_seed(5)
    for weight in target.weights.values():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.2


def test_a_written_motion_lora_gives_what_was_trained(tmp_path):
    unet = parts.small_unet()
    path = parts.written_motion(tmp_path)
    settings = parts.settings(tmp_path, target="motion-lora", motion=str(path))
    given = hosts.inputs(4, (16, 16), parts.CONTEXT)
    with target_of(settings, unet) as target, torch.no_grad():
        random_lora(target)
        with target.inside(unet, 4):
            trained = hosts.call(unet, given)
        write(tmp_path / "lora.safetensors", target, {})

    plain = load_motion_module(path)
    outputs = {}
    for strength in (0.0, 0.5, 1.0):
        motion = apply_motion_lora(plain, load_motion_lora(tmp_path / "lora.safetensors"), strength)
        with inject(unet, motion, frames=4), torch.no_grad():
            outputs[strength] = hosts.call(unet, given)
    with inject(unet, plain, frames=4), torch.no_grad():
        assert torch.equal(outputs[0.0], hosts.call(unet, given))
    assert torch.allclose(outputs[1.0], trained, atol=1e-5)
    assert (outputs[0.0] - trained).abs().max() > 1e-2
    assert (outputs[0.5] - trained).abs().mean() < (outputs[0.0] - trained).abs().mean()


def test_a_written_adapter_gives_what_was_trained(tmp_path):
    unet = parts.tiny_unet()
    given = hosts.inputs(2, (16, 16), parts.CONTEXT)
    before = snapshot(unet)
    path = tmp_path / "adapter.safetensors"
    with target_of(parts.settings(tmp_path, target="adapter"), unet) as target, torch.no_grad():
        random_lora(target)
        trained = hosts.call(unet, given)
        write(path, target, {})
    assert parts.equal(snapshot(unet), before)
    assert all(".attn1.processor.to_" in name or ".attn2.processor.to_" in name for name in parts.load_file(path))

    with adapter_in(unet, parts.settings(tmp_path, adapter=str(path))), torch.no_grad():
        assert torch.allclose(hosts.call(unet, given), trained, atol=1e-5)
    assert parts.equal(snapshot(unet), before)


@pytest.mark.parametrize("spelled", adapter_files.SPELLINGS)
def test_an_adapter_is_merged_in_any_key_format(tmp_path, spelled):
    unet = parts.tiny_unet()
    before = snapshot(unet)
    changes = adapter_files.random_adapter(adapter_files.diffusers_layers(unet))
    path = adapter_files.write_adapter(tmp_path / "adapter.safetensors", changes, spelled)
    with adapter_in(unet, parts.settings(tmp_path, adapter=str(path), adapter_strength=0.5)):
        for layer, (down, up) in changes.items():
            merged = before[f"0.{layer}.weight"] + 0.5 * (up @ down)
            torch.testing.assert_close(unet.get_parameter(f"{layer}.weight").detach(), merged)
    assert parts.equal(snapshot(unet), before)


def test_an_adapter_stays_in_while_training_and_leaves_afterwards(tmp_path):
    unet = parts.tiny_unet()
    with target_of(parts.settings(tmp_path, target="adapter"), unet) as target:
        random_lora(target)
        write(tmp_path / "adapter.safetensors", target, {})
    before = snapshot(unet)
    adapter = str(tmp_path / "adapter.safetensors")
    with_it = parts.trained(tmp_path / "a", base=parts.small_base(unet), steps=1, adapter=adapter)
    without = parts.trained(tmp_path / "b", base=parts.small_base(unet), steps=1)
    assert not parts.equal(with_it, without)
    assert parts.equal(snapshot(unet), before)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"something.weight": torch.ones(2)}, "is not a domain adapter"),
        ({name: torch.ones(2, 2) for name in adapter_files.official(Q)}, r"not fit this base model at down_blocks\.0"),
    ],
)
def test_another_adapter_is_refused(tmp_path, state, message):
    save_file(state, tmp_path / "adapter.safetensors")
    with pytest.raises(AnimateDiffError, match=message):
        parts.trained(tmp_path / "out", adapter=str(tmp_path / "adapter.safetensors"))


@pytest.mark.parametrize("kind", NEW_KINDS)
def test_a_written_module_has_official_names_and_is_what_was_trained(tmp_path, kind):
    path = tmp_path / "mm.safetensors"
    with target_of(parts.settings(tmp_path, kind=kind), parts.small_unet()) as target:
        write(path, target, {})
        trained = {name: weight.detach().clone() for name, weight in target.weights.items()}
    official = random_motion_state(kind, parts.WIDTHS)
    written = parts.load_file(path)
    assert {name: t.shape for name, t in written.items()} == {name: t.shape for name, t in official.items()}
    tables = [name for name in official if name.endswith("pos_encoder.pe")]
    assert all(torch.allclose(written[name], official[name], atol=1e-6) for name in tables)

    loaded = load_motion_module(path)
    assert (loaded.kind, loaded.trained_length) == (kind, 32)
    assert parts.equal(dict(loaded.named_parameters()), trained)


def test_longer_clips_make_a_longer_table(tmp_path):
    with target_of(parts.settings(tmp_path, frames=40), parts.small_unet()) as target:
        write(tmp_path / "mm.safetensors", target, {})
    assert load_motion_module(tmp_path / "mm.safetensors").trained_length == 40


def test_half_precision_is_half_the_size(tmp_path):
    whole, half = (parts.trained(tmp_path / str(half), steps=1, half=half) for half in (False, True))
    assert {t.dtype for t in half.values()} == {torch.float16}
    assert parts.equal({name: t.half() for name, t in whole.items()}, half)


def test_the_average_is_what_is_written(tmp_path):
    """A young average forgets faster: (1 + step) / (10 + step), up to the decay asked for."""
    with target_of(parts.settings(tmp_path), parts.tiny_unet()) as target:
        expected = {name: weight.detach().clone() for name, weight in target.weights.items()}
    for step, decay in enumerate((1 / 10, 2 / 11, 0.2)):
        after = parts.trained(tmp_path / str(step), steps=step + 1, lr=1e-2)
        expected = {name: decay * value + (1 - decay) * after[name] for name, value in expected.items()}
    written = parts.trained(tmp_path / "average", steps=3, lr=1e-2, ema=0.2)
    assert parts.largest_difference({name: written[name] for name in expected}, expected) < 1e-6


def test_a_result_carries_its_recipe_and_no_path_of_a_machine(tmp_path):
    parts.trained(tmp_path / "deep" / "out", steps=2, seed=7)
    recipe = read_recipe(tmp_path / "deep" / "out" / "motion-module.safetensors")
    assert (recipe["steps_done"], recipe["settings"]["seed"], recipe["kind"]) == (2, 7, "v3")
    assert recipe["clips"] == {"trained_on": 4, "held_out": 0, "broken": []}
    assert "/" not in str(recipe)
    assert recipe["settings"]["output"] == "out"
