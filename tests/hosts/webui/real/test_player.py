"""The player in the gallery's place: every format plays and steps, at its size, once, beside the gallery's images."""

from __future__ import annotations

import numpy
import pytest
from PIL import Image
from support.webui_real.accessibility import violations
from support.webui_real.clicking import fill, generate, shown_gif
from support.webui_real.player import (
    FRAME,
    PLAYER,
    choose_formats,
    contrast,
    file_of,
    frames_of_file,
    go_to,
    play,
    press,
    stage,
    stop,
)

FRAMES = 8
# format: the element that shows it, and how many levels of 255 another decoder may differ on average. AVIF and films
# store colours at half the size, and each decoder enlarges those of noise in its own way.
SHOWN_BY = {
    "GIF": ("canvas", 0.0),
    "APNG": ("canvas", 0.0),
    "WEBP": ("canvas", 3.0),
    "AVIF": ("canvas", 8.0),
    "MP4": ("video", 8.0),
    "WEBM": ("video", 8.0),
}
PICTURES = "#txt2img_results_panel :is(img, video, canvas)"
THUMBNAIL = "#txt2img_gallery .thumbnail-small"


def differences(frame: numpy.ndarray, frames: list[numpy.ndarray]) -> list[float]:
    return [float(numpy.abs(frame - other).mean()) for other in frames]


@pytest.mark.shows("Files: films play in the page", "Files: a chosen frame is saved")
@pytest.mark.parametrize("name", SHOWN_BY)
def test_each_format_plays_and_steps_frame_by_frame(studio, page, screenshot, name):
    tag, tolerance = SHOWN_BY[name]
    play(page, studio, name, frames=FRAMES)
    assert page.locator(f"{PLAYER} {tag}").count() == 1
    first = page.locator(FRAME).inner_text()
    page.wait_for_function(f"document.querySelector('{FRAME}').textContent != '{first}'")  # it plays by itself
    stop(page)
    frames = frames_of_file(file_of(page))
    assert len(frames) == FRAMES
    for number in (1, 2, 3, FRAMES, 1):
        go_to(page, number)
        apart = differences(stage(page), frames)
        assert apart[number - 1] <= tolerance
        assert apart[number - 1] == min(apart)
    press(page, "previous")  # from the first frame to the last
    page.locator(FRAME, has_text=f"frame {FRAMES} of {FRAMES}").wait_for()
    page.locator(f"{PLAYER} .animatediff-slider").fill("4")
    page.locator(FRAME, has_text=f"frame 4 of {FRAMES}").wait_for()
    with page.expect_download() as download:
        page.locator(".animatediff-save-frame").click()
    assert download.value.suggested_filename.endswith("-frame4.png")
    saved = numpy.asarray(Image.open(download.value.path()).convert("RGB"))
    assert (saved == stage(page)).all()
    screenshot(page, f"player-{name.lower()}")


@pytest.mark.shows("Player: speed, loop, keys")
@pytest.mark.parametrize("name", ["GIF", "MP4"])
def test_speed_and_loop(studio, page, name):
    play(page, studio, name, frames=FRAMES)
    page.locator(".animatediff-speed").select_option("2")
    page.locator(".animatediff-loop input").uncheck()
    page.locator(f"{PLAYER} .animatediff-play[title=Play]").wait_for()  # it has reached the end, and stops
    page.locator(FRAME, has_text=f"frame {FRAMES} of {FRAMES}").wait_for()
    seconds = """async (name) => {
        const start = performance.now();
        document.querySelector('.animatediff-play').click();
        const button = () => document.querySelector('.animatediff-play').title;
        for (const state of ['Pause', 'Play']) while (button() !== state) await new Promise(requestAnimationFrame);
        return (performance.now() - start) / 1000;
    }"""
    assert 0.3 < page.evaluate(seconds) < 0.9  # 8 frames at 8 per second, twice as fast
    page.locator(".animatediff-speed").select_option("0.5")
    assert 1.6 < page.evaluate(seconds) < 3


@pytest.mark.shows("Player: speed, loop, keys")
def test_keys_play_and_step(studio, page):
    play(page, studio, "GIF", frames=FRAMES)
    stop(page)
    go_to(page, 1)
    page.locator(PLAYER).focus()
    page.keyboard.press("ArrowRight")
    page.locator(FRAME, has_text="frame 2 of").wait_for()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.locator(FRAME, has_text=f"frame {FRAMES} of").wait_for()
    page.keyboard.press(" ")
    page.locator(f"{PLAYER} .animatediff-play[title=Pause]").wait_for()
    page.keyboard.press("Tab")  # a button keeps its own space key
    page.keyboard.press(" ")
    page.locator(f"{PLAYER} .animatediff-play[title=Play]").wait_for()
    outline = "e => getComputedStyle(e).outlineStyle"
    assert page.locator(f"{PLAYER} .animatediff-previous").evaluate(outline) == "solid"


def box(page) -> tuple[float, float]:
    found = page.locator(f"{PLAYER} :is(video, canvas)").bounding_box()
    return found["width"], found["height"]


@pytest.mark.shows("Player: no clip twice, as large as the clip")
def test_the_clip_is_shown_once_as_large_as_it_is(studio, page):
    play(page, studio, "GIF", "MP4", width=384, height=256, frames=3)
    assert box(page) == (384, 256)
    seen = [one for one in page.locator(PICTURES).all() if one.is_visible()]
    assert len(seen) == 1
    assert page.evaluate("[selected_gallery_index(), all_gallery_buttons().length]") == [0, 1]
    page.set_viewport_size({"width": 1400, "height": 200})
    assert box(page) == pytest.approx((210, 140), abs=1)  # 70 % of the window's height
    page.set_viewport_size({"width": 360, "height": 800})
    inside = (
        "(() => { const e = document.querySelector('.animatediff-player'); return e.scrollWidth <= e.clientWidth; })()"
    )
    page.wait_for_function(inside)  # the WebUI lays its columns out anew some time after the window has changed
    width, height = box(page)
    assert width < 340
    assert width / height == pytest.approx(384 / 256, abs=0.02)


def test_a_small_clip_is_shown_twice_as_large(studio, page):
    play(page, studio, "GIF", frames=2)
    assert box(page) == (128, 128)


@pytest.mark.shows("Player: several clips, and what else the gallery has")
def test_several_clips_and_single_frames_stay_reachable(studio, page):
    play(page, studio, "GIF", "Frame", frames=2)
    assert page.locator(THUMBNAIL).count() == 3
    fill(page, {"txt2img_batch_count": 2})
    generate(page)
    page.wait_for_function(f"document.querySelectorAll('{THUMBNAIL}').length == 6")
    page.locator(f"{PLAYER} canvas").wait_for()
    files = []
    for number in (0, 1):
        page.locator(THUMBNAIL).nth(number).click()
        name = shown_gif_name(page)
        page.wait_for_function(f"document.querySelector('.animatediff-files a')?.title == '{name}'")
        assert page.locator(PLAYER).count() == 1
        assert page.locator("#txt2img_gallery img[data-testid=detailed-image]").is_hidden()
        files.append(file_of(page))
    assert files[0] != files[1]
    page.locator(THUMBNAIL).nth(2).click()
    page.locator(PLAYER).wait_for(state="detached")
    assert page.locator("#txt2img_gallery img[data-testid=detailed-image]").is_visible()
    assert page.locator(".animatediff-about").count() == 0
    page.locator(THUMBNAIL).first.click()
    page.locator(f"{PLAYER} canvas").wait_for()
    assert shown_gif(page) == files[0].read_bytes()


def shown_gif_name(page) -> str:
    source = page.locator("#txt2img_gallery img[data-testid=detailed-image]").get_attribute("src")
    return source.split("?")[0].rpartition("/")[2]


@pytest.mark.shows("Player: gives way to the live preview")
def test_while_rendering_the_old_player_gives_way_to_the_live_preview(studio, page):
    former = studio.options()["show_progress_every_n_steps"]
    studio.post("/sdapi/v1/options", {"show_progress_every_n_steps": 1})
    try:
        play(page, studio, "GIF", frames=16)
        before = file_of(page)
        fill(page, {"txt2img_steps": 60})
        page.locator("#txt2img_generate").click()
        page.locator(PLAYER).wait_for(state="detached")
        page.locator("#txt2img_gallery .livePreview img").first.wait_for(state="visible")
        assert page.locator(PLAYER).count() == 0
        page.locator("#txt2img_interrupt").wait_for(state="hidden", timeout=60_000)
        page.locator(f"{PLAYER} canvas").wait_for()
        assert file_of(page) != before
    finally:
        studio.post("/sdapi/v1/options", {"show_progress_every_n_steps": former})


def test_another_tab_pauses_the_clip_and_a_plain_picture_replaces_it(studio, page):
    play(page, studio, "GIF", frames=FRAMES)
    page.locator("#tabs button", has_text="img2img").first.click()
    page.wait_for_function("document.querySelector('.animatediff-play').title == 'Play'")
    page.locator("#tabs button", has_text="txt2img").first.click()
    page.locator(f"{PLAYER} .animatediff-play[title=Pause]").wait_for()
    page.locator("#animatediff_txt2img .label-wrap").first.click()  # closed: a plain picture
    generate(page)
    page.locator("#txt2img_gallery img[data-testid=detailed-image]").wait_for(state="visible")
    assert page.locator(f"{PLAYER}, .animatediff-about, .animatediff-plays").count() == 0


def test_a_deleted_file_is_reported(studio, page):
    play(page, studio, "GIF", frames=2, batch_count=2)
    page.locator(THUMBNAIL).nth(1).click()
    name = shown_gif_name(page)
    page.wait_for_function(f"document.querySelector('.animatediff-files a')?.title == '{name}'")
    file_of(page).unlink()
    page.locator(THUMBNAIL).first.click()
    page.wait_for_function(f"document.querySelector('.animatediff-files a')?.title != '{name}'")
    page.locator(THUMBNAIL).nth(1).click()
    page.locator(".animatediff-message", has_text="was moved or deleted").wait_for()
    page.locator(".animatediff-files span", has_text="(missing)").wait_for()
    assert page.locator(".animatediff-save-frame, .animatediff-send-frame").count() == 0


def test_a_browser_that_cannot_decode_frames_shows_the_picture_and_says_so(studio, page):
    page.add_init_script("delete window.ImageDecoder")
    play(page, studio, "GIF", frames=2)
    page.locator(f"{PLAYER} img").wait_for()
    assert "needs an MP4" in page.locator(".animatediff-message").inner_text()
    page.locator(".animatediff-copy").wait_for()
    assert page.locator(f"{PLAYER} button, .animatediff-save-frame, .animatediff-send-frame").count() == 0


@pytest.mark.shows("Player: both themes, no violation of WCAG A or AA")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_in_both_themes(studio, page, screenshot, theme):
    page.add_init_script(f"if (!location.search) location.search = '?__theme={theme}'")
    play(page, studio, "GIF", frames=FRAMES)
    assert page.locator("body.dark").count() == (theme == "dark")
    page.locator(".animatediff-motion summary").click()
    for part in ("frame", "speed", "loop", "button", "files a", "motion p", "legend span", "copy", "motion summary"):
        assert contrast(page, f"#txt2img_results .animatediff-{part}") >= 4.5, part
    legend = page.locator(".animatediff-legend").inner_text()
    assert "loop point" in legend
    assert "times a usual change between frames" in page.locator(".animatediff-motion p").inner_text()
    assert page.locator(".animatediff-motion rect").count() == FRAMES
    assert violations(page, "#txt2img_results") == []
    screenshot(page, f"player-{theme}")


def test_frames_on_the_disk_alone_are_listed_below_the_gallerys_picture(studio, page):
    play_nothing = ("PNG", "TXT")
    play(page, studio, "GIF", frames=2)
    choose_formats(page, *play_nothing)
    generate(page)
    page.locator(".animatediff-files", has_text="PNG frames").wait_for()
    assert page.locator(PLAYER).count() == 0
    assert page.locator("#txt2img_gallery img[data-testid=detailed-image]").is_visible()
