"""What cannot become a clip is refused from p.sample, where the user hears of it, and leaves everything as it was."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from support.unchanged import Portrait, own_values
from support.webui_double import double
from support.webui_double.double import CLIP, shared

FLOW = SimpleNamespace(unet=SimpleNamespace(model=SimpleNamespace(predictor="of Flux")))


@pytest.fixture
def refused(webui, checkpoint):
    """Asks for a clip that cannot be, and gives the reason."""

    def ask(clip, **fields):
        picture, before = webui.picture(), Portrait(checkpoint)
        shared.samplings.clear()
        p = webui.request(clip, **fields)
        own = own_values(p)
        with pytest.raises(Exception) as refusal:  # noqa: PT011 - the API looks at the attributes alone
            double.process_images(p)
        assert refusal.value.status_code == 422
        assert refusal.value.detail == str(refusal.value)
        assert not shared.samplings
        assert not p.extra_generation_params or "AnimateDiff" in p.extra_generation_params
        assert own_values(p) == own
        before.assert_unchanged()
        return refusal.value.detail, picture

    return ask


@pytest.mark.parametrize(
    ("clip", "fields", "words"),
    [
        ({"frame": 8}, {}, "Did you mean frames?"),
        ({"frames": 65000}, {}, "between 0 and 10000"),
        ({"fps": "fast"}, {}, "fps must be a number"),
        ({"enable": "perhaps"}, {}, "enable must be true or false"),
        ({"frames": 33, "context_length": 33}, {}, "Lower the number of frames to 32 or less."),
        ({"model": "nm"}, {}, "Choose one of the list, for example mm"),
        ({}, {"refiner_checkpoint_info": "other", "refiner_switch_at": 0.8}, "refiner"),
        ({}, {"refiner_checkpoint_info": "other", "refiner_switch_at": 0}, "refiner"),
        ({}, {"refiner_checkpoint_info": "other", "refiner_switch_at": None}, "refiner"),
        ({}, {"sampler_name": "ODE (Bosh3)"}, "makes each image by itself"),
        ({}, {"enable_hr": True, "hr_sampler_name": "ODE Custom"}, "makes each image by itself"),
    ],
)
def test_a_request_that_cannot_be(webui, refused, clip, fields, words):
    reason, picture = refused({**CLIP, **clip}, **fields)
    assert words in reason
    assert webui.picture() == picture


def test_a_refiner_that_switches_at_a_noise_level_is_refused_wherever_it_does(webui, refused):
    """An option of Forge Neo: there the number is none of the steps, and 1 is no end."""
    refiner = {"refiner_checkpoint_info": "other", "refiner_switch_at": 2.0}
    assert len(webui.paint(CLIP, **refiner).images) == 1
    shared.opts.refiner_use_steps = False
    assert "refiner" in refused(CLIP, **refiner)[0]


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("is_ssd", True, "SSD-1B"),
        ("is_sd2", True, "Diffusion 2"),
        ("is_sd3", True, "Diffusion 3"),
        ("cond_stage_key", "edit", "InstructPix2Pix"),
        ("forge_objects", object(), "Forge or reForge"),
        ("forge_objects", FLOW, "without a table of noise levels"),
    ],
)
def test_a_checkpoint_that_is_not_the_webuis_sd15(refused, checkpoint, monkeypatch, field, value, name):
    monkeypatch.setattr(checkpoint, field, value, raising=False)
    assert name in refused(CLIP)[0]


def test_a_unet_that_is_replaced(webui, refused, monkeypatch):
    tensorrt = SimpleNamespace(option=SimpleNamespace(label="[TRT] small"))
    monkeypatch.setattr(webui.module("sd_unet"), "current_unet", tensorrt)
    assert "[TRT] small" in refused(CLIP)[0]


def test_without_a_motion_module_the_refusal_says_where_to_put_one(webui, refused):
    (webui.models_folder / "mm.safetensors").unlink()
    assert f"put it into {webui.models_folder}." in refused(CLIP)[0]


def test_a_file_that_is_no_motion_module(webui, refused, monkeypatch):
    from motion_module import load_motion_module

    monkeypatch.setattr(webui.module("catalog.models"), "load_motion_module", load_motion_module)
    (webui.models_folder / "page.ckpt").write_text("<!DOCTYPE html>")
    assert "web page" in refused({"model": "page"})[0]


def test_another_error_is_not_made_the_clients_fault(webui):
    shared.during_sampling = Mock(side_effect=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug") as error:
        webui.paint(CLIP)
    assert not hasattr(error.value, "status_code")


def test_where_memory_runs_out_it_is_said_what_it_took_and_what_to_lower(webui):
    shared.during_sampling = Mock(side_effect=RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(Exception, match="Lower the context length") as error:
        webui.paint(CLIP)
    assert "2 frames at once" in str(error.value)
    assert error.value.status_code == 422


@pytest.mark.parametrize(
    "fields",
    [
        {"negative_prompt": "a cat AND a dog"},
        {"prompt": "SAND and LAND"},
        {"refiner_checkpoint_info": "other", "refiner_switch_at": 1.0},
        {"refiner_switch_at": 0.8},
        {"enable_hr": False, "hr_sampler_name": "ODE Custom"},
    ],
)
def test_what_only_looks_like_and_a_refiner_or_a_refused_sampler_runs(webui, fields):
    webui.paint(CLIP, **fields)
    assert [sampling.rows for sampling in shared.samplings] == [2]
