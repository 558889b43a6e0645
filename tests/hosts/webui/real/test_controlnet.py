"""Beside the real ControlNet extension, which CONTROLNET_DIR names: its units act frame by frame.

What reached the control models is read where the UNet begins: the latents of each row tell its frame, and the grey of
its hint must be that frame's.
"""

from __future__ import annotations

import numpy
import pytest
from PIL import Image
from support.webui_real import small_control
from support.webui_real.clips import clip_of, clip_payload
from support.webui_real.controlled import (
    FEW,
    FRAMES,
    STRIPES,
    UNIT,
    WINDOWS,
    embeddings,
    grey,
    listed_models,
    picture,
    watched,
    with_units,
    wrong_rows,
)
from support.webui_real.plot import grid_of
from support.webui_real.server import base64_image, file_bytes
from support.webui_real.small_control import ADAPTER, IMAGE_PROMPT, LITE, NAME
from support.webui_real.studio import FLOAT_ORDER, HIRES, VISIBLE, decoded, texts_of

from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

LONG = "a photo of a cat, " + "very " * 80
SAME_PIXELS = 2e-3  # of the range, for other sums of the same numbers
CASES = {
    "one call": ({}, {}, 16),
    "cond apart": ({}, {"override_settings": {"batch_cond_uncond": False}}, 8),
    "over 75 tokens": ({}, {"prompt": LONG}, 8),
    "NGMS": ({}, {"override_settings": {"s_min_uncond": 4.0, "s_min_uncond_all": True}, "steps": 4}, None),
    "AND of 3": ({}, {"prompt": "a cat AND a dog AND a hat"}, 8),
    "uniform windows": (WINDOWS, {"steps": 4}, 8),
    "looped windows, over 75 tokens": ({**WINDOWS, "context_kind": "looped"}, {"prompt": LONG}, 4),
    "static windows": ({**WINDOWS, "context_kind": "static"}, {}, 8),
    "batched windows": ({**WINDOWS, "context_kind": "batched"}, {}, 8),
    "closed loop": ({**WINDOWS, "closed_loop": "A"}, {}, 8),
    "stride, AND of 2": ({**WINDOWS, "stride": 2}, {"prompt": "a cat AND a dog"}, 12),
    "views": ({**WINDOWS, "views": True}, {}, 16),
    "hires fix": (WINDOWS, HIRES, 8),
    "2 clips": (WINDOWS, {"batch_size": 2}, 16),
    "2 batches": (WINDOWS, {"n_iter": 2}, 8),
    "FreeInit": ({**WINDOWS, "freeinit_enable": True, "freeinit_iters": 2}, {}, 8),
    "reuse": ({"reuse": 2}, {"steps": 8}, 16),
    "Text2Video-Zero": ({"model": "Text2Video-Zero", "zero_x": 64, "zero_y": 64}, {}, 16),
    "preview": ({"preview": True}, {}, 2),
}


@pytest.mark.shows("ControlNet beside us: every row of every call of the UNet has the hint of its frame")
@pytest.mark.parametrize("kind", [NAME, ADAPTER])
@pytest.mark.parametrize("case", CASES)
def test_rows_and_hints(controlled, control_models, case, kind):
    clip, payload, rows = CASES[case]
    units = [{**UNIT, "model": control_models[kind]}]
    answer, calls = watched(controlled, units, {"control_images": "in/greys", **clip}, **payload)
    assert wrong_rows(calls) == 0
    shown = 1 if clip.get("preview") else FRAMES
    assert {int(place) for frames, _ in calls for place in frames % FRAMES} == set(range(shown))
    if rows:
        assert max(len(frames) for frames, _ in calls) == rows
    assert len(answer["images"]) == payload.get("batch_size", 1) * payload.get("n_iter", 1)


@pytest.mark.shows("ControlNet beside us: every row of every call of the UNet has the hint of its frame")
@pytest.mark.parametrize("mode", ["My prompt is more important", "ControlNet is more important"])
@pytest.mark.parametrize("low_vram", [False, True])
def test_rows_and_hints_of_two_units(controlled, control_models, mode, low_vram):
    units = [
        {**UNIT, "model": control_models[NAME], "control_mode": mode, "low_vram": low_vram},
        {**UNIT, "model": control_models[ADAPTER], "control_mode": mode},
        {**UNIT, "model": control_models[LITE]},
    ]
    images = {"control_images": "0: in/greys, 1: in/back, 2: in/greys"}
    _, calls = watched(controlled, units, {**WINDOWS, **images}, prompt="a cat")
    assert wrong_rows(calls) == wrong_rows(calls, unit=2) == 0
    assert wrong_rows(calls, lambda frame: grey(FRAMES - 1 - frame), unit=1) == 0


@pytest.mark.shows("ControlNet beside us: every row of every call of the UNet has the hint of its frame")
@pytest.mark.parametrize("case", ["over 75 tokens", "uniform windows", "2 clips"])
def test_rows_and_hints_of_a_lllite(controlled, control_models, case):
    clip, payload, _ = CASES[case]
    units = [{**UNIT, "model": control_models[LITE]}]
    _, calls = watched(controlled, units, {"control_images": "in/greys", **clip}, **payload)
    assert wrong_rows(calls) == 0


@pytest.mark.shows("ControlNet beside us: images of a unit's folder, of a list, of the source video, of init images")
def test_where_images_come_from(controlled, control_models):
    plain = {**UNIT, "model": control_models[NAME]}
    folder = str(controlled.data_dir / "in" / "greys")
    listed = [{"image": base64_image(picture(frame))} for frame in range(FRAMES)]
    images = [base64_image(picture(frame)) for frame in range(FRAMES)]
    for units, clip, payload in (
        ([{**plain, "input_mode": "batch", "batch_images": folder}], WINDOWS, {}),
        ([{**plain, "animatediff_batch": True, "batch_images": folder}], WINDOWS, {}),
        ([{**plain, "image": listed}], WINDOWS, {}),
        ([plain], {**WINDOWS, "video": "in/greys", "denoise": 0.9}, {}),
        ([plain], {**WINDOWS, "video": "in/greys"}, {"tab": "img2img", "init_images": [], "denoising_strength": 0.9}),
        ([plain], WINDOWS, {"tab": "img2img", "init_images": images, "denoising_strength": 0.9}),
    ):
        answer, calls = watched(controlled, units, clip, **payload)
        assert wrong_rows(calls) == 0, (units, clip, payload)
        assert len(answer["images"]) == 1
    _, calls = watched(controlled, [{**plain, "image": images[3]}], WINDOWS)
    assert wrong_rows(calls, lambda _frame: grey(3)) == 0


@pytest.mark.shows("ControlNet beside us: SDXL, and both load orders")
def test_sdxl(controlled_last):
    units = [{**UNIT, "model": listed_models(controlled_last)[small_control.SDXL_NAME]}]
    clip = {"model": "mm_small_hotshot", "control_images": "in/greys"}
    override = {"sd_model_checkpoint": "small_sdxl.safetensors"}
    for more, payload, rows in (({}, {}, 16), (WINDOWS, {"prompt": "a red cat " * 40}, 4)):
        _, calls = watched(controlled_last, units, {**clip, **more}, **payload, override_settings=override)
        assert wrong_rows(calls) == 0
        assert max(len(frames) for frames, _ in calls) == rows


@pytest.mark.shows("ControlNet beside us: SDXL, and both load orders")
def test_the_order_of_loading_changes_nothing(controlled, controlled_last):
    made = []
    for server in (controlled, controlled_last):
        units = [{**UNIT, "model": listed_models(server)[NAME]}]
        _, calls = watched(server, units, {**WINDOWS, "control_images": "in/greys"})
        assert wrong_rows(calls) == 0
        made.append(decoded(server))
    assert (made[0] == made[1]).all()


@pytest.mark.shows("ControlNet beside us: images at frames are inverted without control")
def test_pinned_images_beside_control(controlled, control_models):
    images = {"frames": FRAMES, "control_images": "in/greys", "image": "in/greys/3.png"}
    units = [{**UNIT, "model": control_models[NAME]}]
    controlled.txt2img(**with_units(units, {**images, **WINDOWS}, **FEW))
    assert numpy.isfinite(decoded(controlled)).all()


@pytest.mark.shows("ControlNet beside us: images at frames are inverted without control")
def test_pinned_images_in_a_second_run_of_the_same_request(controlled, control_models):
    """The cells of an X/Y/Z plot share the cached conditions of the prompt, which ControlNet has marked."""
    images = {"frames": FRAMES, "control_images": "in/greys", "image": "in/greys/3.png"}
    units = [{**UNIT, "model": control_models[NAME]}]
    scripts = {"ControlNet": {"args": units}}
    _, (first, second) = grid_of(controlled, images, ("CFG Scale", "7,7"), **FEW, alwayson_scripts=scripts)
    assert (first.frames == second.frames).all()


@pytest.mark.shows("ControlNet beside us: a source video is inverted within the units' own start and end")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE])
def test_an_inverted_video_beside_control(controlled, control_models, kind):
    """All noise is inverted, so that two batches are the same clip if units act at the same levels in both."""
    clip = {"frames": FRAMES, **WINDOWS, "video": "in/greys", "denoise": 0.8, "video_inversion": 1}
    made = []
    for end in (0.3, 1.0):
        units = [{**UNIT, "model": control_models[kind], "guidance_end": end, "control_mode": "Balanced"}]
        controlled.txt2img(**with_units(units, clip, sampler_name="DDIM", steps=8, n_iter=2))
        both = decoded(controlled)
        assert (both[:FRAMES] == both[FRAMES:]).all()
        made.append(both)
    assert abs(made[0] - made[1]).max() > FLOAT_ORDER


@pytest.mark.shows("ControlNet beside us: each frame looks as in a clip of its own image alone, for each kind")
@pytest.mark.parametrize("payload", [{}, {"override_settings": {"batch_cond_uncond": False}}, {"prompt": LONG}])
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE, IMAGE_PROMPT])
def test_a_mosaic_of_two_images(controlled, control_models, kind, payload):
    still = {"frames": FRAMES, "effect": 0, **WINDOWS, "context_kind": "static"}
    plain = {**UNIT, "model": control_models[kind]}
    if kind == IMAGE_PROMPT:
        adapter = {**plain, "module": "ip-adapter_clip_h"}
        one, other = ({**adapter, "ipadapter_input": embeddings(seed)} for seed in (1, 2))
        turns = {**adapter, "animatediff_batch": True, "ipadapter_input": embeddings(*[1, 2] * (FRAMES // 2))}
    else:
        stripes = [Image.fromarray(numpy.roll(stripes_of(), 8 * turn, axis=1)) for turn in (0, 1)]
        one, other = ({**plain, "image": base64_image(image)} for image in stripes)
        turns = {**plain, "image": [{"image": base64_image(image)} for image in stripes * (FRAMES // 2)]}
    made = []
    for units in ([one], [other], [turns], []):
        controlled.txt2img(**with_units(units, still, **FEW, **payload))
        made.append(decoded(controlled))
    first, second, mosaic, without = made
    for frame in range(FRAMES):
        own, others = (first, second) if frame % 2 == 0 else (second, first)
        assert abs(mosaic[frame] - own[frame]).max() < SAME_PIXELS, frame
        assert abs(mosaic[frame] - others[frame]).mean() * 255 > VISIBLE / 2, frame
        assert abs(mosaic[frame] - without[frame]).mean() * 255 > VISIBLE / 2, frame


def stripes_of():
    return numpy.tile(numpy.uint8([0, 255]).repeat(16), (64, 2))


@pytest.mark.shows("ControlNet beside us: weights over frames; at 0 a frame is as without control, to the bit")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE, IMAGE_PROMPT])
def test_weights_over_frames(controlled, control_models, kind):
    still = {"frames": FRAMES, "effect": 0, **WINDOWS}
    own = {"module": "ip-adapter_clip_h", "ipadapter_input": embeddings(1)} if kind == IMAGE_PROMPT else {}
    units = [{**UNIT, "model": control_models[kind], **(own or {"image": STRIPES})}]
    made = []
    for weight in ("1", "0, 0, 0, 0.5, 1", "0"):
        controlled.txt2img(**with_units(units, {**still, "control_weight": weight}, **FEW))
        made.append(decoded(controlled))
    full, part, none = made
    assert (part[:3] == none[:3]).all()
    assert (part[4:] == full[4:]).all()
    assert abs(part[3] - none[3]).max() > FLOAT_ORDER
    assert abs(part[3] - full[3]).max() > FLOAT_ORDER


@pytest.mark.shows("ControlNet beside us: images at frames fade with the distance")
def test_images_at_frames(controlled, control_models):
    still = {"frames": FRAMES, "effect": 0, "control_images": "0@1: in/greys/7.png", "control_reach": 2}
    units = [{**UNIT, "model": control_models[NAME]}]
    _, calls = watched(controlled, units, still)
    faded = decoded(controlled)
    assert wrong_rows(calls, lambda _frame: grey(7)) == 0
    controlled.txt2img(**with_units(units, {**still, "control_weight": 0}, **FEW))
    changed = abs(faded - decoded(controlled)).reshape(FRAMES, -1).max(axis=1) > 0
    assert list(changed) == [frame in (0, 1, 2) for frame in range(FRAMES)]


@pytest.mark.shows("ControlNet beside us: references and colour fix follow the frames in windows")
@pytest.mark.parametrize("module", ["reference_only", "tile_colorfix"])
def test_what_compares_latents(controlled, control_models, module):
    still = {"frames": FRAMES, **WINDOWS}
    model = {"model": "None"} if module == "reference_only" else {"model": control_models[NAME]}
    unit = {**UNIT, "module": module, **model}
    for units in ([unit], [{**unit, "image": STRIPES}]):
        for payload in ({}, {"prompt": LONG}):
            named = {} if "image" in units[0] else {"control_images": "in/greys"}
            answer = controlled.txt2img(**with_units(units, {**still, **named}, **FEW, **payload))
            assert numpy.isfinite(decoded(controlled)).all()
            assert len(answer["images"]) == 1 + ("image" in units[0])


@pytest.mark.shows("ControlNet beside us: the clip's text makes it again, and its recipe names the images by hash")
def test_text_and_recipe(controlled, control_models, tmp_path):
    clip = {"frames": 4, "effect": 0, "control_images": "in/greys"}
    units = [{**UNIT, "model": control_models[NAME]}]
    answer = controlled.txt2img(**with_units(units, clip, **FEW))
    frames, (text, *_) = decoded(controlled), texts_of(answer)
    digest = file_hash(controlled.data_dir / "in" / "greys")
    assert f"Control images: 0: greys, Control images hashes: greys: {digest[:10]}" in text.replace('"', "")
    made = tmp_path / "clip.gif"
    made.write_bytes(file_bytes(answer))
    (entry,) = read_recipe(made).data["control_images"]
    assert (entry["unit"], entry["source"]["sha256"]) == (0, digest)
    controlled.post("/sdapi/v1/txt2img", with_units(units, None, infotext=text))
    assert abs(decoded(controlled) - frames).max() < FLOAT_ORDER


@pytest.mark.shows("ControlNet beside us: one image acts on every frame")
def test_a_unit_acts_on_every_frame(controlled, controlled_unit):
    clip = {"frames": 4}
    with_it = clip_of(controlled.txt2img(**with_units([controlled_unit], clip))).frames.astype(float)
    without = clip_of(controlled.txt2img(**clip_payload(clip))).frames.astype(float)
    assert (numpy.abs(with_it - without).mean(axis=(1, 2, 3)) > 4).all()
