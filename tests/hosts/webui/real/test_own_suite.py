"""The WebUI's own tests, on a server with the extension and on one without."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.webui_real.server import WebUI

TOOLS = ("pytest", "pytest-base-url")  # as in the WebUI's requirements-test.txt
RUN_TESTS = "import sys; arguments, sys.argv[1:] = sys.argv[1:], []; import pytest; sys.exit(pytest.main(arguments))"
PASSING = 30  # of 33: the two of the face restorers want models that are nowhere offline, and reForge fails one more
SECONDS = 900


def own_suite(server: WebUI, workdir: Path) -> dict[str, str]:
    """Runs the WebUI's `test` folder against a server, as its own CI does; returns each test's outcome."""
    root = workdir / "suite"
    shutil.copytree(server.webui_dir / "test", root / "test")  # it writes beside itself
    shutil.copy(server.webui_dir / "pyproject.toml", root)
    results = root / "results.xml"
    arguments = ["-q", "-p", "pytest_base_url.plugin", "--base-url", server.url, f"--junitxml={results}", "test"]
    done = subprocess.run(
        [str(server.python), "-B", "-c", RUN_TESTS, *arguments],
        cwd=root,
        env=environment(server, linked_tools(workdir / "tools")),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert results.exists(), done.stdout + done.stderr
    endings = ("failure", "error", "skipped")
    return {
        f"{case.get('classname')}.{case.get('name')}": next((it.tag for it in case if it.tag in endings), "passed")
        for case in ElementTree.parse(results).iter("testcase")
    }


def environment(server: WebUI, tools: Path) -> dict[str, str]:
    """Some of the tests import the WebUI: they get the server's data folder and flags, and no network either."""
    flags = [*server.host.flags, "--data-dir", str(server.data_dir)]
    return {
        **server._environment(),
        "PYTHONPATH": os.pathsep.join([str(server.webui_dir), str(tools)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "COMMANDLINE_ARGS": shlex.join(flags),
    }


def linked_tools(folder: Path) -> Path:
    """A folder with pytest and what it needs, so that nothing is installed into the WebUI's Python."""
    folder.mkdir()
    for name in needed(TOOLS):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            (folder / top).symlink_to(distribution(name).locate_file(top))
    return folder


def needed(names) -> set[str]:
    """These distributions and those that they need, but for `requests`, which the WebUI has in a version of its own."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name == "requests":
            continue
        found.add(name)
        required = [line for line in distribution(name).requires or () if ";" not in line]
        waiting += [re.match(r"[\w.-]+", line)[0].lower() for line in required]
    return found


@pytest.mark.shows("Install, update, disable, uninstall: the WebUI's own tests pass and fail alike")
def test_the_webuis_own_tests_pass_and_fail_alike_with_and_without_the_extension(
    webui_dir, request, tmp_path_factory: pytest.TempPathFactory
):
    if not (webui_dir / "test").is_dir():
        pytest.skip("Forge has no tests of its own")
    plain_webui, webui = (request.getfixturevalue(name) for name in ("plain_webui", "webui"))
    without = own_suite(plain_webui, tmp_path_factory.mktemp("without"))
    with_extension = own_suite(webui, tmp_path_factory.mktemp("with"))
    print(*(f"{result:8} {name}" for name, result in with_extension.items()), sep="\n")
    assert with_extension == without
    passed = [name for name, result in with_extension.items() if result == "passed"]
    assert len(passed) >= PASSING, f"the comparison says little: only {len(passed)} of {len(without)} tests passed"
