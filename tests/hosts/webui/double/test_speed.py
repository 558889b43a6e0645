"""Distilled files in the WebUI: which of its samplers, schedule types, steps and CFG scales fit, and who sets them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from support.webui_double import components
from support.webui_double.double import CLIP

from lib_animatediff.hosts.diffusers.pipeline import new_sampler
from lib_animatediff.request.distilled import DISTILLATIONS, TRAILING, DistilledFile, combined
from motion_module.schedules import LINEAR

NOTES = "AnimateDiff notes"
LIGHTNING = "animatediff_lightning_4step.safetensors"
LCM = "AnimateLCM_sd15_t2v.safetensors"
PLAIN = "mm.safetensors"
FITS = ("Euler", "Simple", 4, 1.0)  # Lightning


@pytest.fixture
def speed(webui):
    """Our module, with distilled files in the list."""
    for name in (LIGHTNING, LCM):
        (webui.models_folder / name).symlink_to((webui.models_folder / PLAIN).resolve())
    return webui.module("clip.speed")


def notes_on(speed, model, asked, prompt="a cat"):
    files = speed.files_of(model, prompt)
    return [str(note) for note in speed.sampling_notes(model, files, speed.HostSampling(*asked))]


LORA = "a cat <lora:lcm-lora-sdv1-5:0.8>"
MATRIX = [
    (LIGHTNING, FITS, "a cat", None),
    (LIGHTNING, ("Euler", "SGM Uniform", 4, 2.0), "a cat", None),
    (LIGHTNING, ("Euler", "sgm_uniform", 4, 1.0), "a cat", None),
    (LIGHTNING, ("Euler", "Simple", 25, 7.0), "a cat", "4 steps and CFG 1 to 2; you ask for 25 steps and CFG 7."),
    (
        LIGHTNING,
        ("Euler", "Automatic", 4, 1.0),
        "a cat",
        "Euler with schedule type Simple; you ask for Euler with schedule type Automatic.",
    ),
    (LIGHTNING, ("LCM", "Simple", 4, 1.0), "a cat", "Euler with schedule type Simple; you ask for LCM."),
    (LIGHTNING, ("DDIM", "Simple", 4, 1.0), "a cat", "Euler with schedule type Simple; you ask for DDIM."),
    (LIGHTNING, ("Euler a", "Simple", 4, 1.0), "a cat", "Euler with schedule type Simple; you ask for Euler a."),
    (LCM, ("LCM", "Automatic", 6, 1.0), "a cat", None),
    (LCM, ("LCM", "SGM Uniform", 8, 1.5), "a cat", None),
    (LCM, ("LCM", "Automatic", 20, 1.0), "a cat", "4 to 8 steps; you ask for 20 steps."),
    (LCM, ("DPM++ 2M", "Karras", 6, 1.0), "a cat", "LCM; you ask for DPM++ 2M."),
    (PLAIN, ("LCM", "Automatic", 8, 1.0), LORA, None),
    (PLAIN, ("Euler", "Automatic", 8, 1.5), LORA, "LCM; you ask for Euler with schedule type Automatic."),
    (PLAIN, ("Euler", "Automatic", 20, 7.0), "a cat <lora:lcm-lora-sdv1-5:0>", None),
    (PLAIN, ("Euler", "Automatic", 20, 7.0), "a cat", None),
    (PLAIN, ("Euler", "Simple", 4, 1.0), "a cat <lora:Hyper-SD15-4steps-lora:1>", None),
    ("Text2Video-Zero", ("LCM", "Automatic", 8, 1.0), LORA, None),
    ("Text2Video-Zero", ("Euler", "Automatic", 20, 7.0), "a cat", None),
]


def test_each_wrong_pair_is_named_and_right_ones_are_silent(speed):
    for model, asked, prompt, ending in MATRIX:
        name = "lcm-lora-sdv1-5" if model == PLAIN else model
        expected = [f"{name} was distilled for {ending}"] if ending else []
        assert notes_on(speed, model, asked, prompt) == expected, (model, asked, prompt)


def test_the_lcm_sampler_without_a_distilled_file_is_named(speed):
    (note,) = notes_on(speed, PLAIN, ("LCM", "Automatic", 8, 1.0))
    assert note.startswith("sampler LCM blurs clips of files that were not distilled for it, and mm.safetensors is not")


def test_two_files_that_do_not_go_together_are_named(speed):
    (note,) = notes_on(speed, LIGHTNING, FITS, LORA)
    assert note.startswith("lcm-lora-sdv1-5 was distilled for LCM, 2 to 8 steps and CFG 1 to 2, but ")
    assert note.endswith("Use only one of them.")


# --------------------------------------------------------------------------------------------------------------------
# the timesteps that the WebUI's schedule types select


def timesteps_of(sampler: str, schedule: str, steps: int) -> list[float]:
    """Simple: every (levels / steps)-th level from the noisiest. SGM Uniform: evenly spaced, without the last one.

    Euler has the 1000 levels of the training; LCM every 20th of them, to which it rounds.
    """
    stride = 20 if sampler == "LCM" else 1
    levels = torch.arange(stride - 1, 1000, stride)
    if schedule == "Simple":
        return [float(levels[-1 - int(step * len(levels) / steps)]) for step in range(steps)]
    return [float(at) for at in torch.linspace(999, float(levels[0]), steps + 1)[:-1]]


def test_the_chosen_fields_select_the_timesteps_of_the_training(speed):
    """Against diffusers' own scheduler; trailing timesteps that are no whole numbers are rounded there."""
    for row in DISTILLATIONS:
        check_timesteps(speed.best_sampling(row))


def check_timesteps(best):
    former = SimpleNamespace(config={})
    name = {"LCM": "lcm", "Euler": "euler"}[best.sampler_name]
    spacing = None if name == "lcm" else TRAILING
    scheduler = new_sampler(name, former, LINEAR, spacing)
    scheduler.set_timesteps(best.steps)
    trained = [float(timestep) for timestep in scheduler.timesteps]
    found = timesteps_of(best.sampler_name, best.scheduler, best.steps)
    exact = 1000 % best.steps == 0 or name == "lcm"
    assert all(abs(ours - theirs) <= (0 if exact else 1) for ours, theirs in zip(found, trained, strict=True))
    if name == "euler":  # what is accepted beside it
        other = timesteps_of("Euler", "SGM Uniform", best.steps)
        assert all(abs(ours - theirs) < 1.5 for ours, theirs in zip(other, trained, strict=True))


def test_the_chosen_fields_fit(speed):
    for row in DISTILLATIONS:
        files = (DistilledFile("a", row),)
        assert speed.sampling_notes(PLAIN, files, speed.best_sampling(combined(files))) == ()


# --------------------------------------------------------------------------------------------------------------------
# requests


def fields(p):
    return p.sampler_name, p.scheduler, p.steps, p.cfg_scale


def asked_by_client(speed, p, settings, *sent):
    """As the API's function calls: it has the client's request in a variable of this name."""
    txt2imgreq = SimpleNamespace(__fields_set__=set(sent), save_images=True)
    notes = speed.apply_speed(p, settings["model"], settings.get("speed", "as set"))
    assert txt2imgreq
    return [str(note) for note in notes]


def test_speed_fast_sets_what_a_client_has_not_sent(webui, speed):
    p = webui.request(CLIP, scheduler="Automatic")
    notes = asked_by_client(speed, p, {"model": LIGHTNING, "speed": "fast"}, "prompt", "alwayson_scripts")
    assert fields(p) == FITS
    assert notes == [f"speed fast, for {LIGHTNING}: Euler, schedule type Simple, 4 steps, CFG 1."]


def test_what_a_client_has_sent_stays_and_is_named_if_it_does_not_fit(webui, speed):
    p = webui.request(CLIP, scheduler="Automatic", steps=25, sampler_name="DPM++ 2M")
    notes = asked_by_client(speed, p, {"model": LIGHTNING, "speed": "fast"}, "steps", "sampler_name")
    assert fields(p) == ("DPM++ 2M", "Automatic", 25, 1.0)
    assert notes == [
        f"speed fast, for {LIGHTNING}: DPM++ 2M, schedule type Automatic, 25 steps, CFG 1.",
        f"{LIGHTNING} was distilled for Euler with schedule type Simple and 4 steps; you ask for DPM++ 2M and 25 "
        "steps.",
    ]


def test_as_set_changes_nothing(webui, speed):
    p = webui.request(CLIP, scheduler="Automatic")
    before = fields(p)
    (note,) = asked_by_client(speed, p, {"model": LIGHTNING})
    assert fields(p) == before
    assert note.endswith(
        "; you ask for Euler with schedule type Automatic, 20 steps and CFG 7. Send speed: fast for what fits."
    )


def test_speed_fast_without_a_distilled_file_says_so(webui, speed):
    p = webui.request(CLIP, scheduler="Automatic")
    before = fields(p)
    (note,) = asked_by_client(speed, p, {"model": PLAIN, "speed": "fast"})
    assert fields(p) == before
    assert note.startswith("speed fast changes nothing, since no file of this clip is known to be distilled")


def test_the_reply_and_the_log_have_the_notes(webui, speed, caplog):
    p = webui.request({**CLIP, "model": LIGHTNING, "speed": "fast"}, prompt=LORA)
    processed = webui.double.process_images(p)
    notes = processed.extra_generation_params[NOTES]
    assert notes[0].startswith(f"speed fast, for {LIGHTNING}: Euler")
    assert notes[1].startswith("lcm-lora-sdv1-5 was distilled for LCM")
    assert fields(p) == FITS
    assert all(f"AnimateDiff: {note}" in caplog.messages for note in notes)


# --------------------------------------------------------------------------------------------------------------------
# the panel

PAGE = {"prompt": "a cat", "steps": 25, "sampler_name": "Euler", "scheduler": "Automatic", "cfg_scale": 7}
BUTTON = "animatediff-set-sampling"


PLANS = [
    (LIGHTNING, {"sets_sampling": True}, True, True),
    (LIGHTNING, {}, True, False),
    (LIGHTNING, {"sets_sampling": True, "scheduler": "Simple", "steps": 4, "cfg_scale": 1}, False, False),
    (LIGHTNING, {"sets_sampling": True, "sampler_name": None}, False, False),
    (PLAIN, {"sets_sampling": True}, False, False),
    (PLAIN, {"sets_sampling": True, "prompt": LORA}, True, True),
]


def test_the_plan_says_what_does_not_fit_and_offers_to_set_it(webui, speed):
    for model, page, says, offers in PLANS:
        view = webui.module("ui.plan_view").view_plan({"enable": True, "model": model, "frames": 2}, {**PAGE, **page})
        assert (("was distilled for" in view.summary), (BUTTON in view.summary)) == (says, offers), (model, page)


def test_the_button_sets_the_webuis_own_fields(webui, speed, monkeypatch):
    names = ("sampling", "scheduler", "steps", "cfg_scale")
    host = {number: components.Textbox(elem_id=f"txt2img_{name}") for number, name in enumerate(names)}
    root = SimpleNamespace(blocks=host)
    context = SimpleNamespace(Context=SimpleNamespace(root_block=root))
    monkeypatch.setattr(sys.modules["gradio"], "context", context, raising=False)
    page, model = components.Textbox(), components.Textbox()
    components.Component.created.clear()
    offer = webui.module("ui.sampling_offer")
    offer.build_sampling_offer("txt2img", page, model)
    (button,) = components.Component.created
    assert button.elem_id == "animatediff_txt2img_set_sampling"
    ((pressed, given),) = button.listeners
    assert given["outputs"] == list(host.values())
    values = [update["value"] for update in pressed(json.dumps(PAGE), f"{LIGHTNING} [v3, SD 1.5]")]
    assert tuple(values) == FITS
    assert not any("value" in update for update in pressed(json.dumps(PAGE), PLAIN))
    components.Component.created.clear()
    offer.build_sampling_offer("img2img", page, model)  # whose fields come later, or are not there
    assert not components.Component.created


def test_the_advice_on_a_distilled_module_is_how_it_was_trained(webui, speed):
    advice = webui.module("ui.advice").advice
    assert advice(LIGHTNING) == "Distilled for Euler with schedule type Simple, 4 steps and CFG 1 to 2."
    assert not advice(PLAIN)
