"""The amount of motion in the real WebUI: scale, effect, steps, blocks and mask; views and the preview."""

from __future__ import annotations

import io
import json

import numpy
import pytest
from PIL import Image
from support.webui_real.clicking import check, choose, fill, generate, pasted, prepare_clip, slide
from support.webui_real.clips import FRAMES, animate, clip_of
from support.webui_real.plot import grid_of
from support.webui_real.server import base64_image, file_bytes
from support.webui_real.studio import (
    FLOAT_ORDER,
    decoded,
    frames_of,
    hooks_in_the_unet,
    made_from,
    portrait,
    preview_of,
    texts_of,
    with_text,
)

HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.7}
SEEN = 1e-3  # of the range, for what changes a clip
FOUR = {"frames": 4}


def half_black(width: int = 64) -> Image.Image:
    mask = Image.new("L", (width, 64), 255)
    mask.paste(0, (0, 0, width // 2, 64))
    return mask


MASK = base64_image(half_black())


@pytest.fixture(scope="module")
def plain(studio) -> numpy.ndarray:
    return frames_of(studio, FOUR)


@pytest.mark.shows("Amount of motion: 1 is the clip without it, bit for bit")
@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 1, "effect": 1},
        {"scale": [1, 1, 1, 1], "effect": "0: 1, -1: 1"},
        {"scale_steps": "0%: 1, 60%: 1", "effect_steps": 1, "effect_start": 0, "effect_end": 1},
        {"blocks": "up effect 1, mid scale 1", "mask_of": "both"},
    ],
    ids=["numbers", "lists", "steps", "blocks"],
)
def test_an_amount_of_one_is_the_clip_without_it(studio, plain, settings):
    assert (frames_of(studio, {**FOUR, **settings}) == plain).all()


@pytest.mark.shows("Amount of motion: effect 0 is no motion module, on its noise levels")
@pytest.mark.parametrize("request_", [{}, {"sampler_name": "DDIM"}], ids=["Euler a", "DDIM"])
def test_no_effect_is_no_motion_module_on_its_noise_levels(studio, request_):
    frames = frames_of(studio, {**FOUR, "effect": 0}, **request_)
    for number, frame in enumerate(frames):
        assert abs(frame - preview_of(studio, FOUR, seed=1 + number, **request_)).max() < FLOAT_ORDER
    assert abs(frames[0] - preview_of(studio, {**FOUR, "model": "mm_small_v2"}, **request_)).max() < FLOAT_ORDER


CHANGES = {
    "scale": {"scale": 0.5},
    "scale, list": {"scale": [0.5, 1, 2, 3]},
    "scale, keys": {"scale": "0: 0.5, 3: 3"},
    "scale over the steps": {"scale_steps": "0%: 0.5, 60%: 2"},
    "effect": {"effect": 0.5},
    "effect, list": {"effect": "1, 0.5"},
    "effect, keys": {"effect": "0: 1, -1: 0"},
    "effect over the steps": {"effect_steps": "0%: 1, 75%: 0.2"},
    "begins": {"effect_start": 0.5},
    "ends": {"effect_end": 0.25},
    "blocks": {"blocks": "up.1 effect 0.5"},
    "mask": {"motion_mask": MASK},
    "mask of the scale": {"scale": 3, "motion_mask": MASK, "mask_of": "scale"},
}


@pytest.mark.shows("Amount of motion: number, list, keys, steps, begin and end, blocks, mask")
@pytest.mark.parametrize("settings", CHANGES.values(), ids=CHANGES)
def test_every_amount_changes_the_clip_and_is_in_its_text(studio, plain, settings):
    frames, text = with_text(studio, {**FOUR, **settings})
    assert abs(frames - plain).max() > SEEN
    assert all(f"{name}: " in text for name in settings)
    assert (made_from(studio, text) == frames).all()
    assert not hooks_in_the_unet(portrait(studio))


@pytest.mark.shows(
    "Amount of motion: number, list, keys, steps, begin and end, blocks, mask",
    "Amount of motion: a mask says where there is motion",
)
@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"effect": "1, 0, 0, 0"}, {"effect": "0: 1, 1: 0"}),
        ({"effect": [0.5]}, {"blocks": "down effect 0.5, mid effect 0.5, up effect 0.5"}),
        ({"effect": 0.25}, {"effect_steps": 0.25}),
        ({"effect": 0.0}, {"effect_start": 1.0}),
        ({"effect": 0.0}, {"motion_mask": base64_image(Image.new("RGBA", (8, 8), (255, 255, 255, 0)))}),
        ({}, {"motion_mask": base64_image(Image.new("L", (200, 90), 255))}),
        ({"effect_end": 0.5}, {"effect_steps": "0%: 1, 49%: 1, 50%: 0"}),
    ],
    ids=["list, keys", "blocks", "steps", "begins at the end", "no mask", "white mask", "ends, steps"],
)
def test_two_ways_to_say_the_same_amount(studio, settings, same):
    one, other = (frames_of(studio, {**FOUR, **amount}) for amount in (settings, same))
    assert abs(one - other).max() < 1e-5


OTHERS = ("down", "mid", "up.0", "up.1", "up.2", "up.3.0", "up.3.1")


@pytest.mark.shows("Amount of motion: a mask says where there is motion")
def test_where_the_mask_is_black_a_frame_stands_as_without_effect(studio):
    """Nearer to it and not the same: behind the last block come norms over the whole picture, and the decoder."""
    once = {"steps": 1, "width": 128, "height": 64, "cfg_scale": 1}
    last = {**FOUR, "blocks": ", ".join(f"{block} effect 0" for block in OTHERS)}
    moving, still = (frames_of(studio, {**last, "effect": effect}, **once) for effect in (1, 0))
    masked = frames_of(studio, {**last, "motion_mask": base64_image(half_black(128))}, **once)

    def apart(columns: slice, other: numpy.ndarray) -> float:
        return float(numpy.abs(masked[..., columns] - other[..., columns]).mean())

    black, white = slice(0, 32), slice(96, 128)
    assert apart(black, still) < 0.5 * apart(black, moving)
    assert apart(white, moving) < 0.5 * apart(white, still)


@pytest.mark.shows("Amount of motion: axes of the X/Y/Z plot")
def test_a_grid_over_scale_and_effect(studio):
    x, y = ("[AnimateDiff] Motion scale", "1,3"), ("[AnimateDiff] Motion effect", "1,0.5")
    _, made = grid_of(studio, FOUR, x, y, steps=2)
    assert len({gif.frames.tobytes() for gif in made}) == 4
    assert (clip_of(animate(studio, FOUR, steps=2)).frames == made[0].frames).all()
    assert [("scale: 3" in gif.comment, "effect: 0.5" in gif.comment) for gif in made] == [
        (False, False), (True, False), (False, True), (True, True),
    ]  # fmt: skip


@pytest.mark.shows("Amount of motion: by clicking and by pasting")
def test_every_amount_by_clicking(studio, page, tmp_path):
    clip = {
        "frames": FRAMES, "scale": "0: 1, 7: 2", "effect": 0.8, "scale_steps": "0%: 1, 60%: 1.2",
        "effect_steps": "0.9", "effect_start": 0.1, "effect_end": 0.9, "blocks": "up.1 effect 0.5",
        "motion_mask": MASK, "mask_of": "both",
    }  # fmt: skip
    wanted, text = with_text(studio, clip, sampler_name="DPM++ 2M")
    half_black().save(tmp_path / "mask.png")
    prepare_clip(page, studio, FRAMES)
    texts = ("scale", "effect", "scale_steps", "effect_steps", "blocks")
    fill(page, {f"animatediff_txt2img_{name}": clip[name] for name in texts})
    slide(page, "effect_start", 0.1)
    slide(page, "effect_end", 0.9)
    choose(page, "mask_of", "both")
    page.locator("#animatediff_txt2img_motion_mask_picture input[type=file]").set_input_files(tmp_path / "mask.png")
    page.locator("#animatediff_txt2img_motion_mask_picture img").wait_for()
    page.wait_for_timeout(1500)  # the picture becomes the text that is sent
    generate(page)
    assert (decoded(studio) == wanted).all()
    pasted(page, studio, text)
    page.locator("#animatediff_txt2img_motion_mask_picture img").wait_for(state="attached")
    assert (decoded(studio) == wanted).all()


LONG = {"frames": 12, "context_length": 8, "overlap": 2}


@pytest.mark.shows("Views, preview, plan: views")
def test_views_differ_from_windows_in_a_long_clip_alone(studio):
    windows = frames_of(studio, LONG, steps=2)
    views, text = with_text(studio, {**LONG, "views": True}, steps=2)
    assert len(views) == 12
    assert abs(views - windows).max() > SEEN
    assert (made_from(studio, text) == views).all()
    assert (frames_of(studio, FOUR, steps=2) == frames_of(studio, {**FOUR, "views": True}, steps=2)).all()


@pytest.mark.shows("Views, preview, plan: a preview is one picture, saved as a picture")
@pytest.mark.parametrize("request_", [{}, HIRES], ids=["one pass", "hires fix"])
def test_a_preview_is_one_picture(studio, request_):
    clips, pictures = (set(studio.outputs_dir.rglob(kind)) for kind in ("*.gif", "*.png"))
    answer = animate(studio, {"frames": 100, "preview": True}, **request_)
    made, text = decoded(studio), texts_of(answer)[0]
    assert len(answer["images"]) == len(made) == 1
    assert Image.open(io.BytesIO(file_bytes(answer))).format == "PNG"
    assert "preview: True" in text
    assert set(studio.outputs_dir.rglob("*.gif")) == clips
    named = {"hr_sampler_name": "Euler a"} if request_ else {}  # the WebUI's own infotext stumbles over none
    assert (made_from(studio, text, **named) == made).all()
    animate(studio, {"frames": 100, "preview": True}, **request_, save_images=True)
    (saved,) = set(studio.outputs_dir.rglob("*.png")) - pictures
    assert "preview: True" in Image.open(saved).info["parameters"]
    assert "AnimateDiff" not in saved.parts


@pytest.mark.shows("Views, preview, plan: a preview is one picture, saved as a picture")
def test_a_preview_is_the_first_frame_of_what_is_asked(studio):
    travel = {"prompt": "2: a red cat\n7: a blue dog"}
    assert abs(preview_of(studio, **travel) - preview_of(studio, prompt="a red cat")).max() < FLOAT_ORDER
    answer = animate(studio, {"preview": True}, n_iter=2)
    assert json.loads(answer["info"])["all_seeds"] == [1, 1 + FRAMES]
    second = decoded(studio)[1]
    assert abs(second - preview_of(studio, seed=1 + FRAMES)).max() < FLOAT_ORDER


@pytest.mark.shows("Views, preview, plan: both by clicking")
def test_a_preview_and_views_by_clicking(studio, page):
    wanted = frames_of(studio, {**LONG, "views": True}, sampler_name="DPM++ 2M")
    prepare_clip(page, studio, LONG["frames"])
    check(page, "preview")
    before = set(studio.outputs_dir.rglob("*.gif"))
    generate(page)
    assert len(decoded(studio)) == 1
    assert set(studio.outputs_dir.rglob("*.gif")) == before
    check(page, "preview", on=False)
    slide(page, "context_length", LONG["context_length"])
    fill(page, {"animatediff_txt2img_overlap": LONG["overlap"]})
    check(page, "views")
    generate(page)
    assert (decoded(studio) == wanted).all()
