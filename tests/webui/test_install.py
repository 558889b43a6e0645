"""The installer and the sources, in the WebUI's own Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from webui.conftest import NOT_STARTED, REPOSITORY, webui_python

NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "HTTP_PROXY": "", "PIP_NO_INDEX": "1"}


@pytest.fixture
def run_in_webui():
    """Returns a function that runs Python code in the WebUI's folder with its Python, without a network for pip."""
    given = os.environ.get("WEBUI_DIR")
    if not given:
        pytest.skip(NOT_STARTED)

    def run(code: str) -> subprocess.CompletedProcess:
        command = [str(webui_python(Path(given))), "-c", code]
        return subprocess.run(
            command, cwd=given, env={**os.environ, **NOWHERE}, capture_output=True, text=True, timeout=300, check=True
        )

    return run


def test_the_installer_adds_nothing_to_a_complete_webui(run_in_webui):
    """The WebUI runs install.py without a network and without an error, and its packages stay as they are."""
    freeze = "import importlib.metadata as m; print(sorted((d.name, d.version) for d in m.distributions()))"
    before = run_in_webui(freeze).stdout
    told = run_in_webui(f"from modules import launch_utils; launch_utils.run_extension_installer({str(REPOSITORY)!r})")
    assert run_in_webui(freeze).stdout == before
    assert (told.stdout + told.stderr).strip() == ""
