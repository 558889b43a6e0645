"""Clips that people keep: every format out of the real WebUI, played in the page, and back into it by its recipe."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile
from pathlib import Path

import av
import numpy
import pytest
from PIL import Image
from support.webui_real.clicking import generate, open_accordion, prepare_clip
from support.webui_real.clips import FRAMES, animate, clip_payload
from support.webui_real.server import PAYLOAD, file_bytes, open_page
from support.webui_real.studio import decoded

from lib_animatediff.video import read_recipe

ANIMATED = {"GIF": ".gif", "WEBP": ".webp", "APNG": ".png", "MP4": ".mp4", "WEBM": ".webm", "AVIF": ".avif"}
OPENED_BY_PNG_INFO = ("GIF", "WEBP", "APNG")
PLAYED = ("MP4", "WEBM")


def told(answer: dict) -> list[dict]:
    """What the reply says of its clips."""
    return json.loads(answer["info"])["extra_generation_params"]["AnimateDiff clips"]


def files_of(answer: dict) -> list[Path]:
    return [Path(file) for file in told(answer)[0]["files"]]


def possible(server, name: str) -> None:
    """Skips a format that this WebUI's libraries cannot write, and says so."""
    response = server.api("POST", "/sdapi/v1/txt2img", {**PAYLOAD, **clip_payload({"format": name, "frames": 2})})
    error = json.loads(response.json()["info"])["extra_generation_params"].get("AnimateDiff error")
    if error:
        pytest.skip(f"{name} cannot be written here, nothing is proven: {error}")


@pytest.mark.shows("Files: GIF, WebP, APNG, MP4, WebM, AVIF")
@pytest.mark.parametrize("name", ANIMATED)
def test_each_format_comes_by_api_and_lies_on_the_disk(studio, name):
    """One file of the asked kind, with the asked frames, size and length, read by Pillow or PyAV."""
    possible(studio, name)
    answer = animate(studio, {"format": [name]})
    (path,) = files_of(answer)
    assert path.suffix == ANIMATED[name]
    assert path.read_bytes() == file_bytes(answer)
    assert len(answer["images"]) == 1
    if name in ("MP4", "WEBM", "AVIF"):
        with av.open(str(path)) as container:
            moving = container.streams.video[-1]  # an AVIF's first one is its still picture
            frames = [frame.to_image() for frame in container.decode(moving)]
            assert abs(container.duration / 1e6 - 1) < 0.13
    else:
        image = Image.open(path)
        frames = [image.seek(number) or image.convert("RGB") for number in range(image.n_frames)]
    assert (len(frames), frames[0].size) == (FRAMES, (64, 64))


@pytest.mark.shows("Files: frames and text")
def test_frames_and_text_on_the_disk(studio):
    """PNG is a folder of frames, each with its text; TXT is the text: both beside the clip, neither in the reply."""
    answer = animate(studio, {"format": ["GIF", "PNG", "TXT"]})
    gif, folder, text = files_of(answer)
    assert len(answer["images"]) == 1
    pictures = sorted(folder.iterdir())
    assert len(pictures) == FRAMES
    assert (numpy.asarray(Image.open(pictures[0]).convert("RGB")) == to_levels(decoded(studio))[0]).all()
    assert "AnimateDiff:" in Image.open(pictures[0]).info["parameters"]
    assert text.read_text(encoding="utf-8").strip() == read_recipe(gif).infotext


def to_levels(frames: numpy.ndarray) -> numpy.ndarray:
    """As the WebUI rounds: down, height by width by colour."""
    return (255.0 * frames.transpose(0, 2, 3, 1)).astype(numpy.uint8)


@pytest.mark.shows("Files: the recipe makes the clip again, by API")
@pytest.mark.parametrize("name", ANIMATED)
def test_the_recipe_gives_the_same_clip_again_by_api(studio, name):
    """The text inside each kind of file, sent back as infotext, makes the same frames, to the last bit."""
    possible(studio, name)
    answer = animate(studio, {"format": [name]}, seed=7)
    frames = decoded(studio)
    recipe = read_recipe(files_of(answer)[0])
    assert recipe.data["settings"]["frames"] == FRAMES
    again = studio.api("POST", "/sdapi/v1/txt2img", {"infotext": recipe.infotext})
    assert again.status_code == 200
    assert (decoded(studio) == frames).all()


@pytest.mark.shows("Files: the recipe by PNG Info")
@pytest.mark.parametrize("name", OPENED_BY_PNG_INFO)
def test_png_info_restores_the_settings_by_clicking(studio, page, tmp_path, name):
    """Dropped on PNG Info and sent to txt2img, the file brings all settings back: Generate makes the same frames."""
    possible(studio, name)
    answer = animate(studio, {"format": [name], "fps": 10}, seed=3)
    frames = decoded(studio)
    open_page(page, studio)
    page.locator("#tabs button", has_text="PNG Info").click()
    page.locator("#pnginfo_image input[type=file]").set_input_files(str(files_of(answer)[0]))
    page.get_by_text("AnimateDiff: ").first.wait_for()
    page.locator("#tab_pnginfo button", has_text="txt2img").first.click()
    page.locator("#animatediff_txt2img_frames").wait_for(state="visible")
    page.wait_for_function("document.querySelector('#animatediff_txt2img_fps input').value == '10'")
    generate(page)
    assert (decoded(studio) == frames).all()


@pytest.mark.shows("Files: the recipe by the drop zone")
@pytest.mark.parametrize("name", ANIMATED)
def test_the_drop_zone_restores_the_settings_by_clicking(studio, page, name):
    """Dropped on the panel, any kind of file brings all settings back: Generate makes the same frames."""
    possible(studio, name)
    answer = animate(studio, {"format": [name], "fps": 10}, seed=4)
    frames = decoded(studio)
    open_page(page, studio)
    open_accordion(page)
    page.locator("#animatediff_txt2img_drop input[type=file]").set_input_files(str(files_of(answer)[0]))
    page.wait_for_function("document.querySelector('#animatediff_txt2img_fps input').value == '10'")
    page.wait_for_function("document.querySelector('#txt2img_seed input').value == '4'")
    generate(page)
    assert (decoded(studio) == frames).all()


@pytest.mark.shows("Files: films play in the page")
@pytest.mark.parametrize("name", PLAYED)
def test_films_play_under_the_gallery(studio, page, screenshot, name):
    """MP4 and WebM play in Chromium: ready, moving on, frame by frame, with the meter's plot beneath."""
    possible(studio, name)
    prepare_clip(page, studio, FRAMES)
    page.locator("#animatediff_txt2img_formats label", has_text="GIF").click()
    page.locator("#animatediff_txt2img_formats label", has_text=name).click()
    generate(page)
    video = page.locator("#txt2img_results .animatediff-player video")
    video.wait_for()
    page.wait_for_function("document.querySelector('.animatediff-player video').readyState >= 3")
    page.wait_for_function("document.querySelector('.animatediff-player video').currentTime > 0.2")
    assert video.evaluate("v => v.error") is None
    assert video.evaluate("v => [v.videoWidth, v.videoHeight, v.loop]") == [64, 64, True]
    page.locator(".animatediff-step").first.click()
    page.wait_for_function("document.querySelector('.animatediff-player video').paused")
    before = page.locator(".animatediff-frame").inner_text()
    page.locator(".animatediff-step").nth(1).click()
    page.wait_for_function(f"document.querySelector('.animatediff-frame').textContent != '{before}'")
    page.locator(".animatediff-speed").select_option("2")
    assert video.evaluate("v => v.playbackRate") == 2
    assert page.locator(".animatediff-plot").evaluate("i => i.naturalWidth") > 100
    screenshot(page, f"player-{name.lower()}")


@pytest.mark.shows("Files: animated pictures in the gallery")
def test_the_gallery_shows_animated_pictures(studio, page):
    """GIF, WebP and APNG stand in the gallery as the files themselves."""
    for name in OPENED_BY_PNG_INFO:
        possible(studio, name)
    prepare_clip(page, studio, 4)
    page.locator("#animatediff_txt2img_formats label", has_text="GIF").click()
    for name in OPENED_BY_PNG_INFO:
        page.locator("#animatediff_txt2img_formats label").get_by_text(name, exact=True).click()
        generate(page)
        source = page.locator("#txt2img_gallery img").first.get_attribute("src")
        assert source.split("?")[0].endswith(ANIMATED[name])
        page.locator("#animatediff_txt2img_formats label").get_by_text(name, exact=True).click()


@pytest.mark.shows("Files: what cannot be written is told")
def test_what_cannot_be_written_is_told_and_no_frame_is_lost(studio):
    """The output folder cannot be written: the frames come as pictures, the reply says where they lie as PNG."""
    folder = studio.outputs_dir / "blocked"
    folder.write_text("a file where the folder should be", encoding="utf-8")
    former = studio.options()["outdir_txt2img_samples"]
    studio.post("/sdapi/v1/options", {"outdir_txt2img_samples": str(folder)})
    try:
        answer = animate(studio)
    finally:
        studio.post("/sdapi/v1/options", {"outdir_txt2img_samples": former})
    error = json.loads(answer["info"])["extra_generation_params"]["AnimateDiff error"]
    assert "The frames were saved in" in error
    assert len(answer["images"]) == FRAMES
    assert Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).size == (64, 64)


@pytest.mark.shows("Files: progress counts the parts")
def test_the_progress_counts_the_parts_of_a_long_clip(studio):
    """While a clip in windows is painted, the progress bar's text counts them."""
    seen = set()
    clip = {"frames": 24, "context_length": 8, "overlap": 2}
    painting = threading.Thread(target=lambda: animate(studio, clip))
    painting.start()
    while painting.is_alive():
        seen.add(studio.api("GET", "/sdapi/v1/progress?skip_current_image=true").json()["textinfo"])
    assert any(text and "AnimateDiff: part " in text for text in seen)
    assert studio.api("GET", "/sdapi/v1/progress").json()["textinfo"] is None


@pytest.mark.shows("Files: Save and Zip keep the whole clip")
@pytest.mark.parametrize("button", ["save", "save_zip"])
def test_save_and_zip_keep_the_whole_clip(studio, page, button):
    """The gallery's Save and Zip: an animated PNG of all frames, with its recipe, in the folder of saved pictures."""
    prepare_clip(page, studio, 4)
    generate(page)
    page.locator(".animatediff-files a").first.wait_for()
    folder = Path(studio.options()["outdir_save"])
    before = set(folder.rglob("*.png")) if folder.exists() else set()
    page.locator(f"#{button}_txt2img").click()
    page.locator("#html_log_txt2img", has_text="Saved").first.wait_for()
    (saved,) = set(folder.rglob("*.png")) - before
    assert Image.open(saved).n_frames == 4
    assert "AnimateDiff:" in read_recipe(saved).infotext
    if button == "save_zip":
        (archive,) = folder.glob("*.zip")
        with zipfile.ZipFile(archive) as held:
            assert Image.open(io.BytesIO(held.read(held.namelist()[0]))).n_frames == 4


@pytest.mark.shows("Files: Send to img2img sends the first frame")
def test_sending_a_clip_to_img2img_sends_its_first_frame(studio, page):
    """The gallery's button fills img2img's picture, of the clip's size."""
    prepare_clip(page, studio, 4)
    generate(page)
    page.locator("#txt2img_send_to_img2img").click()
    picture = page.locator("#img2img_image img").first
    picture.wait_for()
    assert picture.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [64, 64]


@pytest.mark.shows("Files: a chosen frame is saved")
def test_a_chosen_frame_of_a_film_is_saved(studio, page):
    """The player's button gives the frame that is shown, as a PNG."""
    prepare_clip(page, studio, 4)
    page.locator("#animatediff_txt2img_formats label", has_text="GIF").click()
    page.locator("#animatediff_txt2img_formats label", has_text="MP4").click()
    generate(page)
    page.wait_for_function("document.querySelector('.animatediff-player video')?.readyState >= 3")
    page.locator(".animatediff-step").nth(1).click()
    with page.expect_download() as download:
        page.locator(".animatediff-save-frame").click()
    assert "frame" in download.value.suggested_filename
    assert Image.open(download.value.path()).size == (64, 64)
