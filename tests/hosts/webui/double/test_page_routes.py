"""The routes of our own: which there are with and without the API, the page of error codes, and folders to open."""

from __future__ import annotations

import builtins
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
from support.webui_double.double import shared

PREFIX = "/animatediff/v1"
API_ROUTE = SimpleNamespace(path="/sdapi/v1/txt2img", dependencies=["a password"])


@pytest.fixture
def api(webui):
    return webui.module("output.api")


@pytest.fixture
def page(webui):
    return webui.module("output.help_page")


@pytest.fixture
def without_markdown(monkeypatch):
    real = builtins.__import__

    def without(name, *given, **more):
        if name == "markdown_it":
            raise ImportError(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)


def added(api, *existing):
    """The dependencies of each of our routes."""
    found = {}

    def add_api_route(path, endpoint, *, methods, dependencies=(), include_in_schema=True):
        found[path.removeprefix(PREFIX)] = list(dependencies)

    api.add_routes(None, SimpleNamespace(routes=list(existing), add_api_route=add_api_route))
    return found


def test_the_clients_routes_have_the_apis_password_and_the_pages_none(api):
    found = added(api, SimpleNamespace(path="/"), API_ROUTE)
    of_the_page = {"/troubleshooting": [], "/open-folder": []}
    assert found == {
        **{route: ["a password"] for route in ("/models", "/schema", "/unfinished", "/version")},
        **of_the_page,
    }
    assert added(api) == of_the_page


def codes(text):
    return re.findall(r'id="(AD-[A-Z]+\d+)"', text)


@pytest.mark.parametrize("library", ["with", "without"])
def test_the_page_has_one_anchor_for_each_code(page, library, request):
    if library == "without":
        request.getfixturevalue("without_markdown")
    shown = page.help_page()
    assert ("<table>" in shown) == (library == "with")
    listed = set(re.findall(r"^\| (AD-[A-Z]+\d+) \|", page.SOURCE.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(listed) > 200
    assert sorted(codes(shown)) == sorted(listed)


def test_links_inside_the_page_lead_somewhere_and_others_are_text(page):
    shown = page.help_page()
    targets = re.findall(r'href="(.*?)"', shown)
    assert targets
    assert all(target.startswith("#") and f'id="{target[1:]}"' in shown for target in targets)


@pytest.mark.parametrize("library", ["with", "without"])
def test_the_text_is_escaped(page, library, request, tmp_path):
    if library == "without":
        request.getfixturevalue("without_markdown")
    source = tmp_path / "page.md"
    source.write_text("| Code | <script>alert(1)</script> |\n|---|---|\n| AD-X01 | `<b>` & [a](javascript:alert) |\n")
    shown = page.help_page(source)
    assert codes(shown) == ["AD-X01"]
    assert "<script" not in shown
    assert "&lt;b&gt;" in shown
    assert 'href="javascript' not in shown


def test_without_the_file_the_page_says_so(page, tmp_path):
    assert "is missing" in page.help_page(tmp_path / "none.md")


def test_the_route_answers_with_the_page(api, page, monkeypatch):
    responses = ModuleType("fastapi.responses")
    responses.HTMLResponse = lambda text: ("html", text)
    monkeypatch.setitem(sys.modules, "fastapi", ModuleType("fastapi"))
    monkeypatch.setitem(sys.modules, "fastapi.responses", responses)
    assert api.troubleshooting() == ("html", page.help_page())


def test_the_folder_of_a_shown_file_is_opened_and_no_other(api, tmp_path):
    shown, other = tmp_path / "shown" / "clip.gif", tmp_path / "other" / "clip.gif"
    for file in (shown, other):
        file.parent.mkdir()
        file.touch()
    shared.may_be_read.append(str(shown))
    assert api.open_folder({"file": str(other)}) == {"opened": False}
    assert api.open_folder({"file": str(tmp_path)}) == {"opened": False}
    assert api.open_folder({}) == {"opened": False}
    assert shared.opened_folders == []
    assert api.open_folder({"file": str(shown)}) == {"opened": True}
    assert shared.opened_folders == [str(shown.parent)]


def test_no_folder_is_opened_where_the_user_forbade_it_or_the_system_cannot(api, webui, tmp_path):
    shown = tmp_path / "clip.gif"
    shared.may_be_read.append(str(shown))
    shared.cmd_opts.hide_ui_dir_config = True
    assert api.open_folder({"file": str(shown)}) == {"opened": False}
    shared.cmd_opts.hide_ui_dir_config = False

    def fail(path):
        raise FileNotFoundError(path)

    webui.module("util").open_folder = fail
    assert api.open_folder({"file": str(shown)}) == {"opened": False}
    assert shared.opened_folders == []
