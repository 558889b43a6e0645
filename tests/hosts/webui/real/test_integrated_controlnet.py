"""The ControlNet that is built into Forge and reForge: each row of each call has the hint and the weight of its frame.

WEBUI_DIR names one of these programs; with another one everything here is skipped.
"""

from __future__ import annotations

import re
import shutil

import pytest
from PIL import Image
from support.motion_files import write_motion_file
from support.webui_real import contract, small_control
from support.webui_real.controlled import (
    FRAMES,
    SECOND,
    UNIT,
    WINDOWS,
    grey,
    listed_models,
    picture,
    watched,
    with_units,
    wrong_rows,
)
from support.webui_real.hosts import host_of
from support.webui_real.server import PAYLOAD, base64_image, file_bytes
from support.webui_real.studio import HIRES

BOTH = {"control_images": "0: in/greys, 1: in/back"}
WINDOW_KINDS = {
    "one window": {"context_length": FRAMES, "overlap": 0},
    "uniform": {**WINDOWS, "context_kind": "uniform"},
    "looped": {**WINDOWS, "context_kind": "looped"},
    "static": {**WINDOWS, "context_kind": "static"},
    "batched": {**WINDOWS, "context_kind": "batched"},
    "views": {**WINDOWS, "views": True},
    "closed loop": {**WINDOWS, "closed_loop": "A"},
}
BATCHING = {
    "cond and uncond": {},
    "CFG 1": {"cfg_scale": 1},
    "over 75 tokens": {"prompt": "a red cat " * 40},
    "AND of 2": {"prompt": "a cat AND a dog"},
    "AND of 3": {"prompt": "a cat AND a dog :0.5 AND a bird"},
    "2 clips": {"batch_size": 2},
    "2 batches": {"n_iter": 2},
    "hires fix": {**HIRES, "hr_scale": 1.5},
}


@pytest.fixture(scope="module")
def integrated(webui_dir, start_studio, tmp_path_factory):
    if not host_of(webui_dir).is_patched:
        pytest.skip("WEBUI_DIR names a WebUI without an integrated ControlNet")
    folder = tmp_path_factory.mktemp("control_models")  # they are listed at the start
    file = small_control.write_control_model(folder)
    shutil.copy(file, file.with_stem(f"{file.stem}{SECOND}"))
    server = start_studio("integrated", "v3", extra_args=["--controlnet-dir", str(folder)])
    for name, order in (("greys", 1), ("back", -1)):
        images = server.data_dir / "in" / name
        images.mkdir(parents=True)
        for frame in range(FRAMES):
            picture(range(FRAMES)[::order][frame]).save(images / f"{frame}.png")
    write_motion_file(server.motion_modules_dir, "v3")
    return server


@pytest.fixture(scope="module")
def units(integrated):
    listed = listed_models(integrated)
    given = {**UNIT, "module": "None", "resize_mode": "Just Resize"}
    return [{**given, "model": listed[name]} for name in (small_control.NAME, f"{small_control.NAME}{SECOND}")]


@pytest.fixture
def unchanged(integrated):
    before = file_bytes(integrated.txt2img())
    yield
    assert file_bytes(integrated.txt2img()) == before


def back(frame):
    return grey(FRAMES - 1 - frame)


def test_its_names_are_those_that_we_use(webui_dir):
    host = host_of(webui_dir)
    if not host.is_patched:
        pytest.skip("WEBUI_DIR names a WebUI without an integrated ControlNet")
    wanted = {**contract.INTEGRATED, **dict([contract.INTEGRATED_UNITS[host.name]])}
    for folder, names in wanted.items():
        texts = [path.read_text(encoding="utf-8") for path in (webui_dir / folder).rglob("*.py")]
        known = set(re.findall(r"\w+", "\n".join(texts)))
        absent = set(names.split()) - known - contract.NOT_IN_INTEGRATED.get(host.name, set())
        assert not absent, (folder, absent)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: two units, each kind of windows, each row has its frame's hint")
@pytest.mark.parametrize("windows", WINDOW_KINDS)
def test_every_row_has_its_frames_hint_in_windows(integrated, units, windows):
    _, calls = watched(integrated, units, {**BOTH, **WINDOW_KINDS[windows]})
    assert wrong_rows(calls) == wrong_rows(calls, back, unit=1) == 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: two units, cond and uncond, AND, several clips, hires fix")
@pytest.mark.parametrize("batching", BATCHING)
def test_every_row_has_its_frames_hint_in_batches(integrated, units, batching):
    _, calls = watched(integrated, units, {**BOTH, **WINDOWS}, **BATCHING[batching])
    assert wrong_rows(calls) == wrong_rows(calls, back, unit=1) == 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: weights, steps and masks per frame")
def test_a_unit_acts_by_its_weight_in_each_frame(integrated, units):
    _, calls = watched(integrated, units, {**BOTH, **WINDOWS, "control_weight": "0: 1, 7: 0"})
    assert wrong_rows(calls, lambda frame: grey(frame) * (1 - frame / (FRAMES - 1))) == 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: weights, steps and masks per frame")
def test_a_unit_acts_in_its_steps_in_each_frame(integrated, units):
    clip = {"control_images": "in/greys", "control_end": "0: 1, 4: 1, 5: 0.4", **WINDOW_KINDS["one window"]}
    _, calls = watched(integrated, units[:1], clip, steps=4)
    assert wrong_rows(calls[:1]) == 0
    assert wrong_rows(calls[-1:], lambda frame: grey(frame) if frame < 5 else 0) == 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: weights, steps and masks per frame")
def test_a_unit_acts_in_its_mask(integrated, units):
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    half.save(integrated.data_dir / "in" / "half.png")
    clip = {"control_images": "in/greys", "control_masks": "in/half.png", **WINDOWS}
    _, calls = watched(integrated, units[:1], clip)
    assert wrong_rows(calls, lambda frame: grey(frame) / 2) == 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: one image for all frames, a unit's own folder, a source video, init images")
@pytest.mark.parametrize("given", ["image", "folder", "gallery", "video", "init images"])
def test_where_a_units_images_come_from(integrated, units, given):
    payload, of_frame, tab, own, clip = {}, grey, "txt2img", {}, dict(WINDOWS)
    if given == "image":
        own, of_frame = {"image": base64_image(picture(3))}, lambda _frame: grey(3)
    elif given == "folder":
        own = {"input_mode": "batch", "batch_image_dir": str(integrated.data_dir / "in" / "greys")}
    elif given == "gallery":
        files = [str(integrated.data_dir / "in" / "greys" / f"{frame}.png") for frame in range(FRAMES)]
        own = {"input_mode": "merge", "batch_input_gallery": [[file, None] for file in files]}
    elif given == "video":
        clip["video"] = "in/greys"
    else:
        payload = {"init_images": [base64_image(picture(frame)) for frame in range(FRAMES)]}
        tab = "img2img"
    _, calls = watched(integrated, [{**units[0], **own}], clip, tab=tab, **payload)
    assert wrong_rows(calls, of_frame) == 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.shows("Integrated ControlNet: what it cannot do per frame, and units that failed, refuse the clip")
@pytest.mark.parametrize(
    ("changes", "clip", "code"),
    [
        ({"model": "not_there"}, {}, "AD-H58"),
        (
            {"module": "reference_only", "model": "None", "image": base64_image(picture(1))},
            {"control_weight": 0.5},
            "AD-H59",
        ),
    ],
    ids=["wrong model", "weight of a reference"],
)
def test_what_cannot_be_made_is_refused(integrated, units, changes, clip, code):
    own = {**units[0], "image": base64_image(picture(3)), **changes}
    request = {**PAYLOAD, **with_units([own], {"frames": 4, **clip})}
    reply = integrated.api("POST", "/sdapi/v1/txt2img", request)
    assert reply.status_code == 422, reply.text
    assert code in reply.json()["detail"]
