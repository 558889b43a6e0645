"""scripts/animatediff.py, which the WebUI runs anew each time it loads its scripts."""

from __future__ import annotations

import inspect
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

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
