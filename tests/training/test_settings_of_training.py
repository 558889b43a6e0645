"""The settings table of the trainer: defaults of the recipe, clear refusals, one option for each row."""

from __future__ import annotations

import re

import pytest
from training import parts

from lib_animatediff.cli.train import train_command
from lib_animatediff.training import Base, TrainingError, TrainingSettings
from lib_animatediff.training.loop import learning_rate
from lib_animatediff.training.settings import SETTINGS


def test_defaults_are_the_official_recipe():
    s = TrainingSettings()
    assert (s.frames, s.stride, s.size, s.batch, s.mirror) == (16, 4, 256, 4, False)
    assert (s.lr, s.beta1, s.beta2, s.weight_decay, s.clip_norm) == (1e-4, 0.9, 0.999, 1e-2, 1.0)
    assert (s.lr_schedule, s.warmup, s.accumulation, s.ema, s.largest_weight) == ("constant", 0, 1, 0.0, 1.0)
    assert (s.caption_dropout, s.timestep_power, s.seed, s.checkpointing) == (0.1, 1.0, 42, False)
    assert TrainingSettings(target="motion-lora", motion="a").lora_rank == 64
    assert TrainingSettings(target="adapter").lora_rank == 128


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "everything"}, "adapter, controlnet, sparsectrl, pia, cameractrl, not 'everything'"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"lr": 0}, "lr must be more than 0"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"caption_dropout": 1.1}, "caption_dropout must be 1 or less"),
        ({"mirror": "yes"}, "mirror must be true or false"),
        ({"size": 100}, "size must be a multiple of 64"),
        ({"validation_prompts": "one"}, "validation_prompts must be a list of strings"),
        ({"target": "motion-lora"}, "Set motion to its file"),
        ({"target": "adapter", "motion": "a"}, "Leave motion and adapter empty"),
        ({"rank": 4}, "Only a LoRA has a rank"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(TrainingError, match=message):
        TrainingSettings(**values)


def test_every_setting_is_an_option_with_its_default_and_help():
    options = {option.name: option for option in train_command.params}
    assert options.keys() == SETTINGS.keys()
    for name, setting in SETTINGS.items():
        assert options[name].default == setting.default
        assert options[name].help == setting.help
        assert setting.help.endswith(".")


def test_the_page_names_options_that_exist():
    page = (parts.ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    commands = re.findall(r"lib_animatediff train((?:.|\\\n)*?)\n(?:\n|```)", page)
    named = {name.replace("-", "_") for command in commands for name in re.findall(r"--([a-z0-9-]+)", command)}
    assert {"checkpoint", "data", "motion", "output"} <= named
    assert named <= SETTINGS.keys()
    code = re.findall(r"`([a-z_0-9]+)`", page.partition("## Settings")[2])
    assert set(code) & SETTINGS.keys()


def test_the_learning_rate_rises_and_falls(tmp_path):
    s = parts.settings(tmp_path, steps=100, warmup=10, lr=1.0, lr_schedule="cosine")
    rates = [learning_rate(s, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.505)
    assert rates[100] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"validation_prompts": ("a",)}, "need a base model with a pipeline"),
        ({"precision": "fp16"}, "fp16 needs a CUDA device"),
    ],
)
def test_what_a_base_or_device_cannot_do_is_refused(tmp_path, more, message):
    with pytest.raises(TrainingError, match=message):
        parts.trained(tmp_path, **more)
    with pytest.raises(TrainingError, match="predicts v_prediction"):
        Base(parts.tiny_unet(), parts.Encoder(), prediction="v_prediction")


def test_missing_packages_are_named(tmp_path, monkeypatch):
    from lib_animatediff.training import run

    monkeypatch.setattr(run, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"Training needs accelerate, tqdm, peft\. Install it: pip install"):
        parts.trained(tmp_path, target="adapter")
