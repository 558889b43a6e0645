"""What `install.py` asks of the WebUI's pip helper, for which a recorder stands here."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def install(monkeypatch):
    """Returns a function `(names that are installed) -> pip commands`."""

    def run(installed: set[str]) -> list[str]:
        commands: list[str] = []
        helper = SimpleNamespace(
            is_installed=installed.__contains__, run_pip=lambda command, _description: commands.append(command)
        )
        monkeypatch.setitem(sys.modules, "launch", helper)
        runpy.run_path(str(REPOSITORY / "install.py"))
        return commands

    return run


def test_only_what_is_missing_is_installed(install):
    assert install({"einops", "safetensors", "PIL", "av"}) == []
    assert install({"safetensors", "PIL", "av"}) == ['install "einops>=0.4.1"']


def test_it_asks_for_what_the_package_needs_but_never_for_torch(install):
    """The WebUI's torch is built for the user's graphics card; pip would put another one in its place."""
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = re.search(r"^dependencies = \[(.*)\]$", project, re.MULTILINE)[1]
    needed = {requirement.strip(' "') for requirement in dependencies.split(",")}
    asked = {command.removeprefix('install "').rstrip('"') for command in install(set())}
    assert asked == {requirement for requirement in needed if not requirement.startswith("torch")}
