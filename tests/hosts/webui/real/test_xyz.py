"""The X/Y/Z plot of the real WebUI with AnimateDiff's settings as its axes, by API and by clicking."""

from __future__ import annotations

import pytest
from support.webui_real.clicking import fill, generate, item, prepare_clip
from support.webui_real.clips import read_gif
from support.webui_real.plot import PLOT, axes, files, grid_of
from support.webui_real.server import pixels

from lib_animatediff.request.settings import SETTINGS


@pytest.mark.shows("Passes: X/Y/Z plot with axes from the settings table")
def test_every_setting_is_an_axis(studio):
    ours = [label for label in axes(studio) if label.startswith("[AnimateDiff]")]
    assert ours == [f"[AnimateDiff] {setting.label}" for setting in SETTINGS.values()]


@pytest.mark.shows("Passes: X/Y/Z plot with axes from the settings table")
def test_a_grid_over_two_settings(studio):
    x, y = ("[AnimateDiff] Frames", "4,6"), ("[AnimateDiff] Motion module", "mm_small_v2,mm_small_v3")
    answer, made = grid_of(studio, {}, x, y)
    assert [len(gif.frames) for gif in made] == [4, 6, 4, 6]
    grid, *cells = [pixels(answer, number) for number in range(len(answer["images"]))]
    assert min(grid.shape[:2]) > 2 * 64
    assert [cell.shape for cell in cells] == [(64, 64, 3)] * 4


@pytest.mark.shows("Passes: X/Y/Z plot with axes from the settings table")
def test_a_grid_by_clicking(studio, page):
    before = len(files(studio))
    prepare_clip(page, studio, 4)
    page.locator("#txt2img_script_container #script_list input").click()
    page.locator(f"#txt2img_script_container #script_list {item(f'={PLOT!r}')}").click()
    page.locator("#script_txt2img_xyz_plot_x_type input").click()
    frames = item('="[AnimateDiff] Frames"')
    page.locator(f"#script_txt2img_xyz_plot_x_type {frames}").click()
    page.wait_for_timeout(2000)  # the choice of an axis empties its values, some time later
    fill(page, {"script_txt2img_xyz_plot_x_values": "4,5"})
    generate(page)
    page.locator("#txt2img_gallery img").first.wait_for()
    assert [len(read_gif(path.read_bytes()).frames) for path in files(studio)[before:]] == [4, 5]
