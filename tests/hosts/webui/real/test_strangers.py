"""Hostile files dropped on the page, and hostile JSON posted to it: the WebUI answers, and no foreign file leaves."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
import requests
from PIL import Image
from support.webui_real.clicking import open_panel
from support.webui_real.server import base64_image

from lib_animatediff.video import write_clip

RATES = ["1e100000000", "Infinity", "0", "-1", "9" * 5000, "1/0"]
SOON = 10  # seconds, in which the server answered nothing while it computed such a rate


def png_with_rate(rate: str) -> bytes:
    """A small PNG whose recipe states this rate."""
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "PNG")
    block = json.dumps({"animatediff_recipe": 1, "fps": rate, "loop_count": 0, "data": {}}).encode()
    chunk = struct.pack(">I", len(block)) + b"adJs" + block + struct.pack(">I", zlib.crc32(b"adJs" + block))
    data = written.getvalue()
    return data[:33] + chunk + data[33:]


@pytest.mark.shows("Strangers: a hostile image on the page does not stop the WebUI")
def test_the_webui_answers_while_a_hostile_image_is_dropped(studio, page, tmp_path):
    open_panel(page, studio)
    page.locator("#animatediff_txt2img .animatediff-fold > .label-wrap", has_text="Settings of a clip").click()
    drop = page.locator("#animatediff_txt2img_drop")
    for number, rate in enumerate(RATES):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png_with_rate(rate))
        drop.locator("input[type=file]").set_input_files(path)
        assert studio.api("GET", "/sdapi/v1/options", timeout=SOON).status_code == 200
        page.locator(
            "#animatediff_txt2img_dropped_message", has_text="This file contains no parameters."
        ).first.wait_for()
        drop.locator("button[aria-label=Clear]").click()
        image = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        assert studio.api("POST", "/sdapi/v1/png-info", {"image": image}, timeout=SOON).status_code == 200


def image_for_page(server, page: dict, image: Image.Image):
    """As a page of gradio 3 or 4 sends an image in a gallery."""
    if page["version"].startswith("3."):
        return f"data:image/png;base64,{base64_image(image)}"
    written = io.BytesIO()
    image.save(written, "PNG")
    answer = requests.post(f"{server.url}/upload", files={"files": ("a.png", written.getvalue())}, timeout=60)
    return {"image": {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}, "caption": None}


def post_to_save(server, clip: dict) -> Path:
    """Press Save on a plain image as anyone can, with this clip in the page's JSON; returns the image that it wrote."""
    page = server.api("GET", "/config").json()
    ids = {each["props"].get("elem_id"): each["id"] for each in page["components"]}
    number, save = next(
        (number, each)
        for number, each in enumerate(page["dependencies"])
        if each["targets"] in ([ids["save_txt2img"]], [[ids["save_txt2img"], "click"]]) and len(each["inputs"]) > 1
    )
    image = image_for_page(server, page, Image.new("RGB", (8, 8)))
    text = "a cat\nSteps: 1, Seed: 1, Size: 8x8"
    told = {"index_of_first_image": 0, "infotexts": [text], "extra_generation_params": {"AnimateDiff clips": [clip]}}
    told |= dict.fromkeys(("width", "height", "sampler_name", "cfg_scale", "steps"), 1)
    told |= dict.fromkeys(("sd_model_name", "sd_model_hash", "prompt"), "")
    data = [json.dumps(told), [image], False, -1][: len(save["inputs"])]
    folder = Path(server.options()["outdir_save"])
    before = set(folder.rglob("*.png"))
    answer = server.api("POST", "/run/predict", {"fn_index": number, "data": data, "session_hash": "stranger"})
    assert answer.status_code == 200, answer.text[:300]
    (saved,) = set(folder.rglob("*.png")) - before
    return saved


@pytest.mark.shows("Strangers: Save never reads a file that the page was not shown")
def test_no_foreign_file_leaves(studio, tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    (secret,) = write_clip(tmp_path / "secret.gif", frames)
    for named in (str(secret), f"{studio.outputs_dir}/../../secret.gif", "/etc/passwd"):
        saved = Image.open(post_to_save(studio, {"files": [named], "fps": 8}))
        assert getattr(saved, "n_frames", 1) == 1, named
        assert saved.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
