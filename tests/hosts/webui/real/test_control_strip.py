"""The panel shows which unit gets which images, over the frames of the clip, before it is made."""

from __future__ import annotations

import pytest
from PIL import Image
from support.webui_real.clicking import PANEL, fill, open_accordion
from support.webui_real.server import open_page

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

LEVELS = [20 + 60 * number for number in range(4)]


@pytest.fixture
def greys(studio):
    folder = studio.data_dir / "in" / "strip"
    folder.mkdir(parents=True)
    for number, level in enumerate(LEVELS):
        Image.new("RGB", (80, 60), (level,) * 3).save(folder / f"{number}.png")
    return "in/strip"


def strips(page):
    """Of each strip its title, and of each frame its number, the image's number and brightness, and the weight."""
    return page.locator(f"{PANEL}_plan_controls .animatediff-strip").evaluate_all(
        """strips => Promise.all(strips.map(async strip => [strip.querySelector("b").textContent,
            await Promise.all([...strip.querySelectorAll("figure")].map(async cell => {
                const image = cell.querySelector("img"), canvas = document.createElement("canvas")
                await image.decode()
                canvas.width = canvas.height = 1
                const context = canvas.getContext("2d")
                context.drawImage(image, 0, 0, 1, 1)
                return [+cell.dataset.frame, +cell.dataset.image, context.getImageData(0, 0, 1, 1).data[0],
                        +cell.dataset.weight]
            }))]))"""
    )


@pytest.mark.shows("ControlNet beside us: the panel shows the images of each unit over the frames")
def test_the_panel_shows_which_unit_gets_which_images(studio, page, greys):
    open_page(page, studio)
    open_accordion(page)
    field = "animatediff_txt2img"
    fill(page, {f"{field}_frames": 6, f"{field}_control_images": f"0: {greys}, 2@4: {greys}/1.png"})
    page.wait_for_function(f"document.querySelectorAll('{PANEL}_plan_controls .animatediff-strip').length === 2")
    (first, whole), (second, keyed) = strips(page)
    assert (first, second) == ("Unit 0: strip", "Unit 2: 1.png")
    assert [(frame, image, weight) for frame, image, _, weight in whole] == [
        (frame, min(frame, 3), 1) for frame in range(6)
    ]
    assert all(abs(level - LEVELS[image]) < 4 for _, image, level, _ in whole)
    assert [weight for *_, weight in keyed] == [0.5, 0.625, 0.75, 0.875, 1, 0.875]
    assert all(abs(level - LEVELS[1]) < 4 for _, _, level, _ in keyed)
    fill(page, {f"{field}_control_images": "0: in/none.mp4"})
    page.locator(f"{PANEL}_plan_controls .animatediff-advice").wait_for()
    fill(page, {f"{field}_control_images": ""})
    page.wait_for_function(f"!document.querySelector('{PANEL}_plan_controls').textContent.trim()")
