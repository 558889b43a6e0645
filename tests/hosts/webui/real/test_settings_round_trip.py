"""Every setting that directs a clip: from the API into the clip's text, and from there into the API and the panel."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from support.motion_lora_files import write_lora
from support.webui_real.clicking import PANEL, generate, paste, prose, read_prompt
from support.webui_real.guided import CAMERA, SCRIBBLE, drawn, remove_guides, write_guides
from support.webui_real.server import base64_image
from support.webui_real.studio import decoded, texts_of, with_text

from lib_animatediff.request.settings import SETTINGS

NEW = {
    "views": True,
    "travel_interpolation": "linear",
    "travel_easing": "ease-in-out",
    "travel_hold": 0.25,
    "scale": "0: 1, 1: 1.5",
    "effect": "0.75, 0.5",
    "scale_steps": "0%: 1, 60%: 1.25",
    "effect_steps": "0%: 0.5, 100%: 1",
    "effect_start": 0.1,
    "effect_end": 0.9,
    "blocks": "up.1 effect 0.5, mid scale 1.2",
    "motion_mask": base64_image(Image.linear_gradient("L").resize((16, 16))),
    "mask_of": "both",
    "motion_loras": "swing:0.5, folder swing:-0.3",
    "noise": "shared",
    "noise_share": 0.4,
    "frame_seeds": "5, 90",
    "freeinit_enable": True,
    "freeinit_filter": "gaussian",
    "freeinit_ds": 0.3,
    "freeinit_dt": 0.5,
    "freeinit_iters": 2,
    "freeinit_coarse": True,
    "zero_x": 24.5,
    "zero_y": -8.5,
    "zero_smoothing": 0.6,
    "preview": True,
    "reuse": 2,
    "reuse_branch": 1,
    "reuse_on_cpu": True,
    "guidance_start": 0.25,
    "guidance_end": 0.75,
    "interpolate": "x2",
    "interpolator": "dis",
    "video": "drift.gif",
    "denoise": "0: 0.5, 1: 0.75",
    "video_inversion": 0.5,
    "video_start": 1,
    "video_end": 9,
    "video_every": 2,
    "video_fps": 4.5,
    "video_fit": "pad",
    "video_mute": True,
    "mask": "drift_mask.png",
    "mask_invert": True,
    "mask_feather": 9,
    "image": "drift.gif",
    "last_image": "drift.gif",
    "key_images": "1: drift.gif",
    "pin_init": True,
    "image_fit": "pad",
    "pin_strength": 0.5,
    "pin_inversion": 0.5,
    "source_size": "shape",
    "latent_power": 2.5,
    "latent_scale": 16.5,
    "last_frame": "drift.gif",
    "latent_power_last": 1.5,
    "latent_scale_last": 8.5,
    "image_method": "pins",
    "sparse_ctrl": SCRIBBLE,
    "scribbles": "1: drawing.png",
    "sparse_strength": "0: 1, 1: 0.5",
    "sparse_start": 0.1,
    "sparse_end": 0.9,
    "sparse_without_key": "none",
    "sparse_colour_match": 0.5,
    "pia_motion": "large",
    "i2v_drift": 0.4,
    "i2v_strength": "0: 1, 1: 0.5",
    "camera": "pan-left 0.5, zoom-in; 2: static",
    "camera_model": CAMERA,
    "camera_strength": "0: 1, 1: 0.5",
    "camera_start": 0.1,
    "camera_end": 0.9,
    "camera_every": 2,
    "control_images": "0: drift.gif",
    "control_weight": "0: 0.5, 1: 1",
    "control_fill": "loop",
    "control_reach": 4,
    "control_start": "0.25",
    "control_end": "0.75",
    "control_masks": "0: drift.gif",
}
BESIDE = {  # one needs the other
    "sparse_ctrl": {"scribbles": NEW["scribbles"]},
    "scribbles": {"sparse_ctrl": SCRIBBLE},
    "camera": {"camera_model": CAMERA},
}
SHORT = {"frames": 3}
FAST, ENOUGH = {"steps": 2}, {"steps": 8}  # feature reuse needs more
# Those of the panel: the text has the sampler and the steps that speed chose, and hires fix stands for the second pass.
# An earlier clip as the start has tests of its own, and to go on with an unfinished one is no property of a clip.
OWN = {"continue_clip", "keep_frames", "rerender_clip", "rerender_frames", "rerender_strength", "resume"}
QUIET = [name for name, setting in SETTINGS.items() if setting.omit_default and setting.in_panel and name not in OWN]


@pytest.fixture(scope="module", autouse=True)
def a_video(studio):
    frames = [Image.linear_gradient("L").rotate(9 * number) for number in range(12)]
    path = studio.data_dir / NEW["video"]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=120)
    mask = studio.data_dir / NEW["mask"]
    Image.linear_gradient("L").save(mask)
    yield
    path.unlink()
    mask.unlink()


@pytest.fixture(scope="module", autouse=True)
def an_encoder(studio):
    write_guides(studio.motion_modules_dir)
    drawing = studio.data_dir / "drawing.png"
    drawn().save(drawing)
    yield
    remove_guides(studio.motion_modules_dir)
    drawing.unlink()


@pytest.fixture(scope="module", autouse=True)
def two_loras(studio):
    files = [write_lora(studio.motion_modules_dir / f"{name}.safetensors") for name in ("swing", "folder swing")]
    yield
    for file in files:
        file.unlink()


def line_of(text: str) -> str:
    """Our field of a clip's text."""
    return json.loads(re.search(r'AnimateDiff: ("(?:[^"\\]|\\.)*")', text)[1])


def test_every_new_setting_has_a_value_here():
    assert list(NEW) == QUIET
    assert not [name for name in QUIET if NEW[name] == SETTINGS[name].default]


@pytest.mark.shows("Views, preview, plan: every setting into the text and out of it, by API and by panel")
@pytest.mark.parametrize("name", QUIET)
def test_a_setting_comes_back_from_the_clips_text(studio, name):
    clip = {**SHORT, **BESIDE.get(name, {}), name: NEW[name]}
    frames, text = with_text(studio, clip, **(ENOUGH if name == "reuse" else FAST))
    assert f"{name}: " in line_of(text)
    assert str(NEW[name]) in line_of(text)
    again = studio.from_infotext(text)
    assert line_of(texts_of(again)[0]) == line_of(text)
    assert (decoded(studio) == frames).all()


def shown(page, name: str) -> object:
    setting = SETTINGS[name]
    if setting.type is bool:
        return page.locator(f"{PANEL}_{name} input").evaluate("e => e.checked")
    kind = "[type=number]" if setting.type in (int, float) else ""
    text = page.locator(f"{PANEL}_{name} input{kind}, {PANEL}_{name} textarea").first.evaluate("e => e.value")
    return setting.type(text)


@pytest.mark.shows("Views, preview, plan: every setting into the text and out of it, by API and by panel")
def test_all_settings_come_into_the_panel_and_out_of_it(studio, page):
    wanted, full = with_text(studio, {**SHORT, **NEW}, **FAST)
    _, empty = with_text(studio, SHORT, **FAST, seed=2)
    assert not [name for name in QUIET if re.search(rf"\b{name}: ", line_of(empty))]
    fields = [name for name in QUIET if not SETTINGS[name].image]
    paste(page, studio, full)
    page.locator(f"{PANEL} .label-wrap.open").first.wait_for()
    assert {name: shown(page, name) for name in fields} == {name: NEW[name] for name in fields}
    generate(page)
    assert line_of(page.locator(prose("#html_info_txt2img")).text_content()) == line_of(full)
    assert (decoded(studio) == wanted).all()
    read_prompt(page, empty)
    assert {name: shown(page, name) for name in fields} == {name: SETTINGS[name].default for name in fields}
    generate(page)
    assert line_of(page.locator(prose("#html_info_txt2img")).text_content()) == line_of(empty)
