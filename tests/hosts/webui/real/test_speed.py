"""Distilled files in a real WebUI: the note about what does not fit, and the button that sets the fields."""

from __future__ import annotations

import re
import shutil

import pytest
from support.webui_real.clicking import PANEL, prepare_clip, prose
from support.webui_real.clips import animate

NAME = "animatediff_lightning_4step.safetensors"


@pytest.fixture
def distilled(studio):
    """A motion module with a distilled one's name."""
    folder = studio.motion_modules_dir
    shutil.copyfile(folder / "mm_small_v3.safetensors", folder / NAME)
    yield NAME
    (folder / NAME).unlink()


@pytest.mark.shows("Distilled modules: a note, and a button that sets sampler, schedule type, steps and CFG scale")
def test_the_button_sets_the_fields_that_fit(studio, page, distilled):
    prepare_clip(page, studio, 8, distilled)
    plan = page.locator(prose(f"{PANEL}_plan"))
    plan.get_by_text("was distilled for Euler with schedule type Simple and CFG 1 to 2").wait_for()
    plan.locator(".animatediff-set-sampling").click()
    page.wait_for_function("document.querySelector('#txt2img_cfg_scale input').value == '1'")
    values = [page.locator(f"#txt2img_{name} input").first.input_value() for name in ("sampling", "scheduler", "steps")]
    assert values == ["Euler", "Simple", "4"]
    plan.get_by_text("was distilled for").wait_for(state="detached")


@pytest.mark.shows("Distilled modules by API: notes, and speed fast")
def test_a_client_gets_a_note_or_what_fits(studio, distilled):
    plain = animate(studio, {"model": distilled}, steps=5, cfg_scale=7)
    assert re.search(r"was distilled for Euler with schedule type Simple, 4 steps", str(plain["info"]))
    fast = animate(studio, {"model": distilled, "speed": "fast"})
    assert f"fast, for {distilled}" in str(fast["info"])  # which says what it has set; the client's own fields stay
