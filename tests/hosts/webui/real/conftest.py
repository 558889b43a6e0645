"""Fixtures of the end-to-end tests: the real WebUI with and without the extension, and a browser on its page.

Environment: WEBUI_DIR names a WebUI installation (without it everything here is skipped), WEBUI_PYTHON its Python,
CHROMIUM the browser, WEBUI_SCREENSHOTS a folder for screenshots.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.motion_files import write_motion_file
from support.webui_real.controlled import STRIPES, UNIT, controlled_webui, listed_models
from support.webui_real.hosts import chosen_host
from support.webui_real.places import NOT_STARTED, REPOSITORY, TROUBLE, webui_python
from support.webui_real.server import WebUI
from support.webui_real.small_control import NAME

from tools.webui_report import Report

HERE = Path(__file__).resolve().parent
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
BROWSER_FLAGS += ["--disable-background-networking", "--disable-component-update"]
BROWSER_TIMEOUT_MS = 30_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report-to", type=Path, help="write the end-to-end tests' outcomes to this Markdown file")
    parser.addoption("--report-renew", action="store_true", help="leave the file's lines about other tests as they are")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--report-to", default=None)
    if path:
        renew = config.getoption("--report-renew", default=False)
        config.pluginmanager.register(Report(path, renew=renew, program=chosen_host().name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    is_patched = chosen_host().is_patched
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.webui)
        for mark in item.iter_markers("of_a1111"):
            if is_patched:
                item.add_marker(pytest.mark.skip(reason=mark.args[0]))


@pytest.fixture(scope="session")
def webui_dir() -> Path:
    given = os.environ.get("WEBUI_DIR")
    if not given:
        pytest.skip(NOT_STARTED)
    return Path(given)


@pytest.fixture(scope="session")
def start_webui(webui_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Returns a function `(name, **arguments of WebUI) -> WebUI` whose servers run until the end of the session."""
    started = []

    def start(name: str, **arguments) -> WebUI:
        server = WebUI(webui_dir, webui_python(webui_dir), tmp_path_factory.mktemp(name), **arguments)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def webui(start_webui: Callable) -> WebUI:
    return start_webui("webui", extensions=[REPOSITORY])


@pytest.fixture(scope="session")
def start_studio(start_webui: Callable) -> Callable:
    """As `start_webui`, with AnimateDiff, motion modules of these kinds, and an extension that makes trouble."""

    def start(name: str, *kinds: str, **arguments) -> WebUI:
        server = start_webui(name, extensions=[REPOSITORY, TROUBLE], **arguments)
        for kind in kinds:
            write_motion_file(server.motion_modules_dir, kind)
        return server

    return start


@pytest.fixture(scope="session")
def studio(start_studio: Callable) -> WebUI:
    server = start_studio("studio", "v2", "v3")
    write_motion_file(server.motion_modules_dir, "v3", seed=1, name="folder/other v3.safetensors")
    (server.motion_modules_dir / "page.ckpt").write_text("<!DOCTYPE html>")
    return server


@pytest.fixture(scope="session")
def plain_webui(start_webui: Callable) -> WebUI:
    return start_webui("plain_webui")


@pytest.fixture(scope="session")
def controlled(start_webui: Callable, tmp_path_factory: pytest.TempPathFactory) -> WebUI:
    """With the real ControlNet extension, which is loaded first, and small control models for small checkpoints."""
    return controlled_webui(start_webui, tmp_path_factory.mktemp("extension"), "a-controlnet")


@pytest.fixture(scope="session")
def controlled_last(start_webui: Callable, tmp_path_factory: pytest.TempPathFactory) -> WebUI:
    """The same, but ControlNet is loaded last."""
    return controlled_webui(start_webui, tmp_path_factory.mktemp("extension"), "zz-controlnet")


@pytest.fixture(scope="session")
def control_models(controlled: WebUI) -> dict[str, str]:
    return listed_models(controlled)


@pytest.fixture(scope="session")
def controlled_unit(control_models: dict[str, str]) -> dict[str, Any]:
    """A unit with a ControlNet and an image, as a client sends it."""
    return {**UNIT, "image": STRIPES, "model": control_models[NAME]}


@pytest.fixture(scope="session")
def browser() -> Iterator:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not executable:
        pytest.skip("no chromium was found: the page was not opened, so nothing of it is proven")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: the page was not opened")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=executable, args=BROWSER_FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(browser) -> Iterator:
    """An empty page that can reach this machine only; a test opens `webui.url` or `plain_webui.url` with it."""
    context = browser.new_context(viewport={"width": 1400, "height": 1600})
    context.set_default_timeout(BROWSER_TIMEOUT_MS)
    # the WebUI's page asks for fonts and scripts of other hosts and would wait for them
    context.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())
    yield context.new_page()
    context.close()


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable:
    """Returns a function `(page, name)` that saves a picture of the whole page."""
    folder = Path(os.environ.get("WEBUI_SCREENSHOTS") or tmp_path)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png", full_page=True)
