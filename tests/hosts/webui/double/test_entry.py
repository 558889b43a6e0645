"""scripts/animatediff.py, which the WebUI runs anew each time it loads its scripts."""

from __future__ import annotations

import inspect
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.webui_double.components import Component
from support.webui_double.double import shared

REPOSITORY = Path(__file__).resolve().parents[4]
ENTRY = REPOSITORY / "scripts" / "animatediff.py"


@pytest.fixture
def load(webui, monkeypatch):
    """As modules/scripts.py: the extension's folder in front of the path, every Script of the namespace registered."""
    monkeypatch.syspath_prepend(str(REPOSITORY))

    def run():
        namespace = runpy.run_path(str(ENTRY), run_name=ENTRY.name)
        kind = webui.module("scripts").Script
        return [value for value in namespace.values() if inspect.isclass(value) and issubclass(value, kind)]

    return run


def test_exactly_one_script_is_registered(load):
    (kind,) = load()
    assert kind.__name__ == "AnimateDiffScript"
    assert Path(inspect.getfile(kind)) == REPOSITORY / "lib_animatediff" / "hosts" / "webui" / "hooks" / "script.py"


def test_a_reload_takes_the_code_of_now(load):
    (one,), (other,) = load(), load()
    assert one is not other
    assert sys.modules["lib_animatediff.hosts.webui.hooks.script"].AnimateDiffScript is other


@pytest.mark.parametrize("name", ["motion_module", "lib_animatediff"])
def test_a_package_of_that_name_from_another_extension_does_not_stand_in_the_way(load, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, f"{name}.left_over", ModuleType(f"{name}.left_over"))
    (kind,) = load()
    assert Path(sys.modules[name].__file__).is_relative_to(REPOSITORY)
    assert f"{name}.left_over" not in sys.modules
    assert kind().title() == "AnimateDiff"


def test_packages_with_longer_names_are_left_alone(load, monkeypatch):
    theirs = ModuleType("motion_module_tools")
    monkeypatch.setitem(sys.modules, "motion_module_tools", theirs)
    load()
    assert sys.modules["motion_module_tools"] is theirs


@pytest.mark.parametrize("absent", ["everything", "sd_unet", "script_callbacks.on_image_saved"])
def test_a_program_that_lacks_what_is_used_starts_undisturbed_with_one_line(webui, load, monkeypatch, absent):
    """The WebUI refuses an API request that names a script which it does not have."""
    needed = ["scripts", "script_callbacks"]
    theirs = [name.partition(".")[2] for name in sys.modules if name.startswith("modules.")]
    for name in [name for name in theirs if name not in needed] if absent == "everything" else [absent]:
        module, _, function = name.partition(".")
        place = sys.modules[f"modules.{module}" if function else "modules"]
        monkeypatch.delattr(place, function or module)
        if not function:
            monkeypatch.setitem(sys.modules, f"modules.{module}", None)
    registered = [*shared.cfg_denoiser_callbacks, *shared.app_started_callbacks]
    before = len(Component.created)

    (kind,) = load()
    script = kind()
    assert script.title() != "AnimateDiff"
    for is_img2img in (False, True):
        assert script.show(is_img2img) is webui.module("scripts").AlwaysVisible
        assert script.ui(is_img2img) == []
    lines = [str(component.value) for component in Component.created[before:]]
    assert len(lines) == 2
    assert all("AnimateDiff does not run here" in line and "AD-W27" in line for line in lines)
    assert registered == [*shared.cfg_denoiser_callbacks, *shared.app_started_callbacks]
