"""The existing AnimateDiff extension beside ours, loaded before and after it."""

from __future__ import annotations

import shutil

import pytest
from support.webui_real.clicking import open_panel
from support.webui_real.places import REPOSITORY

EXISTING = REPOSITORY / "tests" / "support" / "webui_real" / "existing_extension"


@pytest.mark.shows("Mixing: the existing extension beside ours, both load orders", "Panel: says: extension clash")
@pytest.mark.parametrize("folder", ["a-sd-webui-animatediff", "z-sd-webui-animatediff"], ids=["before us", "after us"])
def test_the_existing_extension_is_named_in_the_panel(start_webui, page, tmp_path, folder):
    shutil.copytree(EXISTING, tmp_path / folder)
    server = start_webui(f"beside_{folder[0]}", extensions=[REPOSITORY, tmp_path / folder])
    open_panel(page, server)
    told = page.locator("#animatediff_txt2img .animatediff-clash")
    told.wait_for(state="visible")
    assert folder in told.inner_text()
    assert "under Extensions" in told.inner_text()
