"""A program that lacks a name which the extension uses: it starts undisturbed, and its page says so in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.webui_real.clicking import open_tab
from support.webui_real.clips import clip_payload
from support.webui_real.places import REPOSITORY
from support.webui_real.server import WebUI, open_page

HIDES = "from modules import script_callbacks\ndel script_callbacks.on_image_saved\n"  # nothing else here uses it


@pytest.fixture(scope="module")
def lacking(start_webui, tmp_path_factory) -> WebUI:
    """A WebUI where an extension that loads before ours hides a function."""
    folder = tmp_path_factory.mktemp("extensions") / "0-hides-a-function"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "hides.py").write_text(HIDES, encoding="utf-8")
    return start_webui("lacking", extensions=[folder, Path(REPOSITORY)])


@pytest.mark.shows("Install, update, disable, uninstall: a program that lacks what is used says so in one line")
def test_a_program_that_lacks_what_is_used_starts_with_one_line(lacking, page):
    assert len(lacking.txt2img()["images"]) == 1
    refused = lacking.api("POST", "/sdapi/v1/txt2img", clip_payload())
    assert refused.status_code == 422
    assert "AnimateDiff" in refused.text
    open_page(page, lacking)
    for tab in ("txt2img", "img2img"):
        open_tab(page, tab)
        line = page.locator(f"#tab_{tab} .animatediff-clash")
        line.wait_for(state="visible")
        assert "AnimateDiff does not run here: " in line.inner_text()
        assert "on_image_saved" in line.inner_text()
        assert not page.locator(f"#animatediff_{tab}").count()
