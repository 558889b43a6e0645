"""Errors of our own inside the WebUI's callbacks: the host goes on, and a clip that was requested is refused."""

from __future__ import annotations

import gc
import weakref
from types import ModuleType
from unittest.mock import Mock

import pytest
from support.webui_double.components import Component
from support.webui_double.double import CLIP, shared

fail = Mock(side_effect=OverflowError("something of ours"))


def test_without_a_panel_the_page_has_the_reason_and_images_and_the_api_work(webui, monkeypatch):
    """As in a host whose gradio lacks what the panel needs."""
    for runner in webui.tabs.values():
        runner.alwayson_scripts.clear()
        del runner.inputs[1:]
    monkeypatch.setattr(webui.module("compat.a1111"), "input_accordion", fail)
    webui.load_script(webui.module("hooks.script").AnimateDiffScript)
    assert any("something of ours" in str(component.value) for component in Component.created)
    assert len(webui.paint().images) == 1
    assert not [sampling for sampling in shared.samplings if sampling.hooks]
    assert webui.paint(CLIP, is_api=True).images[0].startswith("R0lGOD")


@pytest.mark.parametrize(
    "name",
    [
        "hooks.session.clip_method",
        "hooks.script.parse_settings",
        "hooks.script.plan_clip",
        "hooks.layout.check_prompts",
        "hooks.layout.arrange_seeds",
        "hooks.layout.styled",
        "clip.loras.ClipLoras.take_tags",
        "hooks.layout.RequestLayout.share_first_prompts",
        "clip.prompts.ClipPrompts.write_frame_prompts",
    ],
)
def test_a_clip_is_refused_with_the_reason(webui, monkeypatch, name):
    """The WebUI swallows what a hook raises, and would paint a picture that nobody asked for."""
    monkeypatch.setattr(f"lib_animatediff.hosts.webui.{name}", fail)
    with pytest.raises(OverflowError, match="something of ours"):
        webui.paint(CLIP)
    assert not shared.samplings
    monkeypatch.undo()
    assert len(webui.paint(CLIP).images) == 1


def test_frames_without_a_clip_are_returned_with_the_reason(webui, monkeypatch):
    monkeypatch.setattr(webui.module("hooks.deliveries"), "deliver_clips", fail)
    processed = webui.paint({**CLIP, "frames": 3})
    assert len(processed.images) >= 3
    assert "something of ours" in processed.comments


def failing(words):
    """Unlike a mock it keeps no arguments."""

    def fail(*_args, **_kwargs):
        raise RuntimeError(words)

    return fail


@pytest.mark.parametrize(
    ("name", "overtaking", "words"),
    [
        ("clip.prompts.ClipPrompts.blend", None, "no more conditions"),
        ("hooks.denoiser.share_noise", failing("second"), "second"),
    ],
)
def test_a_failure_while_sampling_is_raised_and_keeps_nothing(webui, monkeypatch, name, overtaking, words):
    """Also where another failure overtakes the first."""
    monkeypatch.setattr(f"lib_animatediff.hosts.webui.{name}", failing("no more conditions"))
    shared.during_sampling = overtaking
    p = webui.request(CLIP, enable_hr=True)
    kept = weakref.ref(p)
    with pytest.raises(RuntimeError, match=words):
        webui.double.process_images(p)
    del p
    gc.collect()
    assert kept() is None


TASK = """
class Task:
    result = None

    def __init__(self, function):
        self.function = function

    def work(self):
        self.result = self.function()
"""


class OursError(Exception):
    pass


def fail_once(*_args, **_kwargs):
    raise OursError("something of ours")


@pytest.fixture
def task(webui):
    """What the thread of reForge for the page's requests works on."""
    thread = ModuleType("modules_forge.main_thread")
    exec(TASK, vars(thread))
    return thread.Task(lambda: webui.paint(CLIP).images)


def test_the_page_of_reforge_reads_why_its_request_ended(task, monkeypatch):
    """Its thread drops what a request raises, so that the page reads a result that is None."""
    monkeypatch.setattr("lib_animatediff.hosts.webui.hooks.session.clip_method", fail_once)
    with pytest.raises(OursError) as raised:
        task.work()
    error = weakref.ref(raised.value)
    del raised
    gc.collect()
    assert error() is None  # with its traceback it would hold the request
    with pytest.raises(Exception, match=r"^something of ours$") as shown:
        list(task.result)
    assert type(shown.value).__name__ == "OursError"
    monkeypatch.undo()
    task.work()
    assert len(list(task.result)) == 1


def test_the_task_of_forge_keeps_the_error_itself(task, monkeypatch):
    monkeypatch.setattr("lib_animatediff.hosts.webui.hooks.session.clip_method", fail_once)
    task.exception = None
    with pytest.raises(OursError):
        task.work()
    assert task.result is None
