"""Beside the real ControlNet extension: how much units act on each frame, by steps and by masks.

The extension's own start, end and region of a unit, which are those of all frames, say how each frame has to look.
"""

from __future__ import annotations

import numpy
import pytest
from PIL import Image
from support.webui_real.controlled import (
    FRAMES,
    STRIPES,
    UNIT,
    WINDOWS,
    embeddings,
    grey,
    picture,
    watched,
    with_units,
    wrong_rows,
)
from support.webui_real.server import base64_image
from support.webui_real.small_control import ADAPTER, IMAGE_PROMPT, LITE, NAME
from support.webui_real.studio import FLOAT_ORDER, arrays, decoded

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

STILL = {"frames": FRAMES, "effect": 0, **WINDOWS, "context_kind": "static"}  # frames do not see each other
STEPS = {"steps": 4, "sampler_name": "Euler"}
REACHED = (0, 0, 0.25, 0.5)  # the share of the steps in each, as the extension counts
SHARES = {"control_start": "0, 0, 0, 0, 0.2", "control_end": "0.1, 0.1, 1"}
PARTS = {range(2): (0, 0.1), range(2, 4): (0, 1), range(4, FRAMES): (0.2, 1)}
DIFFERENT = 1e-4  # of the range, where frames that should be the same are so to the bit
MASKS = {"white": (0, 0, 64, 64), "black": (0, 0, 0, 0), "left": (0, 0, 32, 64), "right": (32, 0, 64, 64)}


def unit_of(control_models, kind, **own):
    """A unit with one image for all frames."""
    image = {"module": "ip-adapter_clip_h", "ipadapter_input": embeddings(1)} if kind == IMAGE_PROMPT else {}
    return {**UNIT, "model": control_models[kind], **(image or {"image": STRIPES}), **own}


def frames_of(server, units, clip, **payload):
    server.txt2img(**with_units(units, clip, **{**STEPS, **payload}))
    return decoded(server)


def parts_of(frame):
    return next(part for frames, part in PARTS.items() if frame in frames)


@pytest.fixture(scope="module")
def masks(controlled):
    """A folder with a mask for each of the first frames; the last one holds."""
    folder = controlled.data_dir / "in" / "masks"
    folder.mkdir()
    for number, box in enumerate(MASKS.values()):
        drawn(box).save(folder / f"{number}.png")
    return "in/masks"


def drawn(box):
    image = Image.new("L", (64, 64))
    image.paste(255, box)
    return image


@pytest.mark.shows("ControlNet beside us: start, end and masks of each frame are those that the extension has for all")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, IMAGE_PROMPT])
def test_rows_hints_and_amounts(controlled, control_models, masks, kind):
    """In each call each row has the hint of its frame, in the steps of its frame, where its frame's mask is white."""
    units = [{**UNIT, "model": control_models[kind]}]
    clip = {**STILL, **SHARES, "control_masks": f"0: {masks}"}
    if kind == IMAGE_PROMPT:
        units = [{**units[0], "module": "ip-adapter_clip_h", "ipadapter_input": embeddings(1)}]
    else:
        clip["control_images"] = "in/greys"
    _, calls = watched(controlled, units, clip, **STEPS)
    assert kind == IMAGE_PROMPT or wrong_rows(calls) == 0
    acting = arrays(controlled, "acting")
    assert len(acting) == len(calls)
    white = (1, 0, *[0.5] * (FRAMES - 2))
    for number, ((frames, _), (shares,)) in enumerate(zip(calls, acting, strict=True)):
        reached = REACHED[number * len(REACHED) // len(calls)]
        starts, ends = zip(*(parts_of(frame % FRAMES) for frame in frames), strict=True)
        wanted = [
            white[frame % FRAMES] * (start <= reached <= end)
            for frame, start, end in zip(frames, starts, ends, strict=True)
        ]
        assert list(shares) == pytest.approx(wanted, abs=1e-6), (number, frames)


@pytest.mark.shows("ControlNet beside us: start, end and masks of each frame are those that the extension has for all")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE, IMAGE_PROMPT])
def test_steps_of_each_frame(controlled, control_models, kind):
    mixed = frames_of(controlled, [unit_of(control_models, kind)], {**STILL, **SHARES})
    made = {}
    for frames, (start, end) in PARTS.items():
        unit = unit_of(control_models, kind, guidance_start=start, guidance_end=end)
        made[frames] = frames_of(controlled, [unit], STILL)
        assert (mixed[list(frames)] == made[frames][list(frames)]).all(), (frames, start, end)
    first, whole, last = made.values()
    for one, other in ((first, whole), (whole, last), (first, last)):
        assert abs(one - other).reshape(FRAMES, -1).max(axis=1).min() > DIFFERENT


@pytest.mark.shows("ControlNet beside us: start, end and masks of each frame are those that the extension has for all")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE, IMAGE_PROMPT])
def test_masks_of_each_frame(controlled, control_models, masks, kind):
    masked = frames_of(controlled, [unit_of(control_models, kind)], {**STILL, "control_masks": masks})
    whole = frames_of(controlled, [unit_of(control_models, kind)], STILL)
    none = frames_of(controlled, [unit_of(control_models, kind)], {**STILL, "control_weight": 0})
    assert (masked[0] == whole[0]).all()
    assert (masked[1] == none[1]).all()
    for part, frames in (("left", [2]), ("right", list(range(3, FRAMES)))):
        for other in (whole, none):
            assert abs(masked[frames] - other[frames]).max() > 5 * FLOAT_ORDER
        if kind != LITE:  # the extension has no regions for it
            region = base64_image(drawn(MASKS[part]).convert("RGB"))
            native = frames_of(controlled, [unit_of(control_models, kind, effective_region_mask=region)], STILL)
            assert abs(masked[frames] - native[frames]).max() < FLOAT_ORDER, part


@pytest.mark.shows("ControlNet beside us: a source video is inverted within the units' own start and end")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE])
def test_an_inverted_video_beside_steps_and_masks_of_each_frame(controlled, control_models, masks, kind):
    """All noise is inverted: each frame is that of a clip in which the unit has its steps, and its mask, for all."""
    clip = {**STILL, "video": "in/greys", "denoise": 0.8, "video_inversion": 1}
    how = {"sampler_name": "DDIM", "steps": 8}
    unit = {**UNIT, "model": control_models[kind]}
    mixed = frames_of(controlled, [unit], {**clip, **SHARES}, **how)
    for frames, (start, end) in PARTS.items():
        own = frames_of(controlled, [{**unit, "guidance_start": start, "guidance_end": end}], clip, **how)
        assert (mixed[list(frames)] == own[list(frames)]).all(), (start, end)
    masked = frames_of(controlled, [unit], {**clip, "control_masks": masks}, **how)
    whole, none = (frames_of(controlled, [unit], {**clip, "control_weight": each}, **how) for each in (1, 0))
    assert abs(masked[0] - whole[0]).max() < FLOAT_ORDER
    assert abs(masked[1] - none[1]).max() < FLOAT_ORDER
    for other in (whole, none):
        assert abs(masked[2] - other[2]).max() > 5 * FLOAT_ORDER
    both = frames_of(controlled, [unit], {**clip, **SHARES, "control_masks": masks}, n_iter=2, **how)
    assert (both[:FRAMES] == both[FRAMES:]).all()
    assert abs(both[0] - mixed[0]).max() < FLOAT_ORDER


@pytest.mark.shows("ControlNet beside us: units that inpaint have the masks of existing clients (mask_path)")
@pytest.mark.parametrize("source", ["video_path", "folder", "list"])
def test_masks_of_existing_clients(controlled, control_models, masks, source):
    """The extension shows a ControlNet -1 where a mask is white: the mean tells the share and the grey."""
    unit = {**UNIT, "model": control_models[NAME], "module": "inpaint_global_harmonious"}
    clip = {**WINDOWS, "mask_path": "in/frames"}
    folder = controlled.data_dir / "in" / "frames"
    folder.mkdir(exist_ok=True)
    for frame in range(FRAMES):
        drawn((0, 0, 8 * frame, 64)).save(folder / f"{frame}.png")
    if source == "video_path":
        clip |= {"video_path": "in/greys", "denoise": 0.9}
    elif source == "folder":
        unit |= {"input_mode": "batch", "batch_images": str(controlled.data_dir / "in" / "greys")}
    else:
        unit["image"] = [{"image": base64_image(picture(frame))} for frame in range(FRAMES)]
    answer, calls = watched(controlled, [unit], clip)

    def seen(frame):
        share = frame / FRAMES
        return grey(frame) * (1 - share) - 255 * share

    assert wrong_rows(calls, seen) == 0
    assert len(answer["images"]) == 1
    assert "mask has no effect" not in answer["info"]
    assert not numpy.isnan(decoded(controlled)).any()
