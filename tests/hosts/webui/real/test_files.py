"""Clips that people keep: every format out of the real WebUI, played in the page, and back into it by its recipe."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import av
import numpy
import pytest
from PIL import Image
from support.webui_real.clicking import PANEL, generate, open_accordion, open_tab, prepare_clip, show_all_formats
from support.webui_real.clips import FRAMES, animate, clip_of, clip_payload
from support.webui_real.server import file_bytes, open_page
from support.webui_real.studio import decoded, made_from, watched

from lib_animatediff.video import read_recipe

ANIMATED = {"GIF": ".gif", "WEBP": ".webp", "APNG": ".png", "MP4": ".mp4", "WEBM": ".webm", "AVIF": ".avif"}
OPENED_BY_PNG_INFO = ("GIF", "WEBP", "APNG")


def extra(answer: dict) -> dict:
    return json.loads(answer["info"])["extra_generation_params"]


def files_of(answer: dict) -> list[Path]:
    return [Path(file) for file in extra(answer)["AnimateDiff clips"][0]["files"]]


def possible(server, name: str) -> None:
    """Skips a format that this WebUI's libraries cannot write, and says so."""
    answer = server.txt2img(**clip_payload({"format": name, "frames": 2}))
    error = extra(answer).get("AnimateDiff error")
    if error:
        pytest.skip(f"{name} cannot be written here, nothing is proven: {error}")


@pytest.mark.shows("Files: GIF, WebP, APNG, MP4, WebM, AVIF", "Files: the recipe makes the clip again, by API")
@pytest.mark.parametrize("name", ANIMATED)
def test_each_format_comes_by_api_lies_on_the_disk_and_makes_the_clip_again(studio, name):
    possible(studio, name)
    answer = animate(studio, {"format": [name]}, seed=7)
    made = decoded(studio)
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
    recipe = read_recipe(path)
    assert recipe.data["settings"]["frames"] == FRAMES
    assert (made_from(studio, recipe.infotext) == made).all()


@pytest.mark.shows("Files: frames and text")
def test_frames_and_text_on_the_disk(studio):
    """PNG is a folder of frames, each with its text; TXT is the text: both beside the clip, neither in the reply."""
    answer = animate(studio, {"format": ["GIF", "PNG", "TXT"]})
    gif, folder, text = files_of(answer)
    assert len(answer["images"]) == 1
    pictures = sorted(folder.iterdir())
    assert len(pictures) == FRAMES
    levels = (255.0 * decoded(studio)[0].transpose(1, 2, 0)).astype(numpy.uint8)  # as the WebUI rounds: down
    assert (numpy.asarray(Image.open(pictures[0]).convert("RGB")) == levels).all()
    assert "AnimateDiff:" in Image.open(pictures[0]).info["parameters"]
    assert text.read_text(encoding="utf-8").strip() == read_recipe(gif).infotext


@pytest.mark.shows("Files: the recipe by PNG Info", "Files: the recipe by the drop zone")
@pytest.mark.parametrize(
    ("way", "name"),
    [*(("PNG Info", name) for name in OPENED_BY_PNG_INFO), *(("drop zone", name) for name in ANIMATED)],
)
def test_a_file_restores_the_settings_by_clicking(studio, page, way, name):
    possible(studio, name)
    answer = animate(studio, {"format": [name], "fps": 10}, seed=4)
    frames = decoded(studio)
    open_page(page, studio)
    if way == "PNG Info":
        open_tab(page, "PNG Info")
        page.locator("#pnginfo_image input[type=file]").set_input_files(files_of(answer)[0])
        page.get_by_text("AnimateDiff: ").first.wait_for()
        page.locator("#tab_pnginfo button", has_text="txt2img").first.click()
        page.locator("#animatediff_txt2img_frames").wait_for(state="visible")
    else:
        open_accordion(page)
        page.locator(f"{PANEL} .animatediff-fold > .label-wrap", has_text="Settings of a clip").click()
        page.locator(f"{PANEL}_drop input[type=file]").set_input_files(files_of(answer)[0])
        page.locator(f"{PANEL}_dropped_message", has_text="are now those of the clip").first.wait_for()
    page.wait_for_function("document.querySelector('#animatediff_txt2img_fps input').value == '10'")
    page.wait_for_function("document.querySelector('#txt2img_seed input').value == '4'")
    generate(page)
    assert (decoded(studio) == frames).all()


def choose_format(page, name: str) -> None:
    show_all_formats(page)
    page.locator("#animatediff_txt2img_formats label").get_by_text(name, exact=True).click()


@pytest.mark.shows("Files: animated pictures in the gallery")
def test_the_gallery_shows_animated_pictures(studio, page):
    for name in OPENED_BY_PNG_INFO:
        possible(studio, name)
    prepare_clip(page, studio, 4)
    choose_format(page, "GIF")
    for name in OPENED_BY_PNG_INFO:
        choose_format(page, name)
        generate(page)
        source = page.locator("#txt2img_gallery img").first.get_attribute("src")
        assert source.split("?")[0].endswith(ANIMATED[name])
        choose_format(page, name)


@pytest.mark.shows("Files: what cannot be written is told")
def test_what_cannot_be_written_is_told_and_no_frame_is_lost(studio):
    folder = studio.outputs_dir / "blocked"
    folder.write_text("a file where the folder should be", encoding="utf-8")
    former = studio.options()["outdir_txt2img_samples"]
    studio.post("/sdapi/v1/options", {"outdir_txt2img_samples": str(folder)})
    try:
        answer = animate(studio, save_images=True)
    finally:
        studio.post("/sdapi/v1/options", {"outdir_txt2img_samples": former})
    assert "The frames were saved in" in extra(answer)["AnimateDiff error"]
    assert len(answer["images"]) == FRAMES
    assert Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).size == (64, 64)


@pytest.mark.shows("Files: without save_images the reply alone has the clip")
def test_without_save_images_nothing_is_kept(studio):
    before = set(studio.outputs_dir.rglob("*"))
    assert clip_of(animate(studio, {"frames": 4}, save_images=False)).frames.shape[0] == 4
    assert set(studio.outputs_dir.rglob("*")) == before


@pytest.mark.shows("Files: progress counts the parts")
def test_the_progress_counts_the_parts_of_a_long_clip(studio):

    def said() -> str | None:
        return studio.api("GET", "/sdapi/v1/progress?skip_current_image=true").json()["textinfo"]

    seen = watched(studio, said, {"frames": 24, "context_length": 8, "overlap": 2})
    assert any(text and ", window " in text for text in seen)
    assert said() is None


@pytest.mark.shows("Files: Save and Zip keep the whole clip", "Files: Send to img2img sends the first frame")
@pytest.mark.parametrize("button", ["save", "save_zip"])
def test_the_gallerys_buttons(studio, page, button):
    prepare_clip(page, studio, 4)
    generate(page)
    page.locator(".animatediff-files a").first.wait_for()
    folder = Path(studio.options()["outdir_save"])
    before = set(folder.rglob("*.png"))
    page.locator(f"#{button}_txt2img").click()
    page.locator("#html_log_txt2img", has_text="Saved").first.wait_for()
    (saved,) = set(folder.rglob("*.png")) - before
    assert Image.open(saved).n_frames == 4
    assert "AnimateDiff:" in read_recipe(saved).infotext
    if button == "save_zip":
        (archive,) = folder.glob("*.zip")
        with zipfile.ZipFile(archive) as held:
            assert Image.open(io.BytesIO(held.read(held.namelist()[0]))).n_frames == 4
    page.locator("#txt2img_send_to_img2img").click()
    picture = page.locator("#img2img_image img").first
    picture.wait_for()
    assert picture.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [64, 64]
