"""The player in the gallery's place: what it shows, as pixels, and what its colours are."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import unquote

import av
import numpy
from PIL import Image
from support.webui_real.clicking import PANEL, fill, generate, prepare_clip, show_all_formats

PLAYER = "#txt2img_results .animatediff-player"
FRAME = f"{PLAYER} .animatediff-frame"

# The stage's pixels as RGB, through a canvas of the clip's size.
_SHOWN = """(stage) => {
    const node = stage.querySelector('video, canvas');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [node.videoWidth || node.width, node.videoHeight || node.height];
    canvas.getContext('2d').drawImage(node, 0, 0);
    return canvas.toDataURL('image/png');
}"""

# Contrast of an element's text with the nearest opaque background behind it, as WCAG 2 computes it.
_CONTRAST = """(element) => {
    const parts = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (text) => {
        const [r, g, b] = parts(text).slice(0, 3).map((v) => v / 255);
        const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    };
    let behind = element;
    const isClear = (node) => (parts(getComputedStyle(node).backgroundColor)[3] ?? 1) < 1;
    const image = (node) => getComputedStyle(node).backgroundImage.match(/rgba?\\([^)]*\\)/g);
    while (isClear(behind) && !image(behind) && behind.parentElement) behind = behind.parentElement;
    const grounds = image(behind) || [getComputedStyle(behind).backgroundColor];
    const text = light(getComputedStyle(element).color);
    return Math.min(...grounds.map(light).map((ground) =>
        (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05)));
}"""


def choose_formats(page, *names: str) -> None:
    show_all_formats(page)
    for label in page.locator(f"{PANEL}_formats label").all():
        box = label.locator("input")
        box.set_checked(label.inner_text().strip() in names)


def play(page, server, *formats: str, frames: int = 8, **sizes: int) -> None:
    """Makes a clip by clicking, and waits for its player."""
    prepare_clip(page, server, frames)
    fill(page, {f"txt2img_{side}": size for side, size in sizes.items()})
    choose_formats(page, *formats)
    generate(page)
    page.locator(f"{PLAYER} :is(video, canvas, img)").first.wait_for()


def press(page, name: str) -> None:
    page.locator(f"{PLAYER} .animatediff-{name}").click()


def stop(page) -> None:
    page.locator(f"{PLAYER} .animatediff-play[title=Pause]").click()
    page.locator(f"{PLAYER} .animatediff-play[title=Play]").wait_for()


def go_to(page, frame: int) -> None:
    """Steps to a frame, counted from 1."""
    for _ in range(64):
        shown = page.locator(FRAME).inner_text()
        if shown.startswith(f"frame {frame} of "):
            return
        press(page, "next")
        page.wait_for_function(f"document.querySelector('{FRAME}').textContent != '{shown}'")
    raise AssertionError(f"frame {frame} is never shown")


def stage(page) -> numpy.ndarray:
    """The shown frame, h w c."""
    return opened(page.locator(f"{PLAYER} .animatediff-stage").evaluate(_SHOWN))


def opened(address: str) -> numpy.ndarray:
    """The picture of a data address."""
    data = base64.b64decode(address.partition(",")[2])
    return numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)


def file_of(page, number: int = 0) -> Path:
    link = page.locator("#txt2img_results .animatediff-files a").nth(number).get_attribute("href")
    return Path(unquote(link.removeprefix("file=")))


def frames_of_file(path: Path) -> list[numpy.ndarray]:
    """The frames as Pillow or PyAV read them."""
    if path.suffix in (".mp4", ".webm"):
        with av.open(str(path)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    else:
        image = Image.open(path)
        frames = [image.seek(number) or image.convert("RGB") for number in range(image.n_frames)]
    return [numpy.asarray(frame).astype(float) for frame in frames]


def contrast(page, selector: str) -> float:
    return page.locator(selector).first.evaluate(_CONTRAST)
