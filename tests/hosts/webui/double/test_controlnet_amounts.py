"""How much units of the ControlNet extension act on each frame, beside their weight: its steps, and a mask."""

from __future__ import annotations

import pytest
from PIL import Image
from support.webui_double.controlled import CLIP_OF_5, WINDOWS, acted, hint, unit, wrong_rows
from support.webui_double.double import SIDE, shared

from lib_animatediff.video.hashing import file_hash


@pytest.mark.parametrize("model", ["net", "adapter", "lite"])
def test_start_and_end_over_frames(controlled, walk, model):
    shared.steps = 4  # of which 0, 0, 0.25 and 0.5 are done before the calls, as the WebUI counts
    shares = {"control_start": "0, 0, 0.25", "control_end": "0: 1, 2: 1, 3: 0.3"}
    controlled(unit(model=model), clip={**CLIP_OF_5, **WINDOWS, **shares, "control_images": "in/walk"})
    scaled = {"lite": lambda frame: 2 * hint(frame) - 1}.get(model, hint)
    for frame, values in acted().items():
        ways = [abs(round(value / scaled(frame), 3)) for value in values]
        assert (ways[0], ways[-1]) == ((1, 1), (1, 1), (0, 1), (0, 0), (0, 0))[frame]
        assert set(ways) == ({1} if frame < 2 else {0, 1})


@pytest.mark.parametrize(("model", "module"), [("net", "none"), ("adapter", "none"), ("lite", "none")])
def test_a_mask_for_each_frame(webui, controlled, walk, model, module):
    folder = walk.parent / "masks"
    folder.mkdir()
    for frame, share in enumerate((1, 0.5, 0)):
        mask = Image.new("L", (SIDE, SIDE))
        mask.paste(255, (0, 0, int(SIDE * share), SIDE))
        mask.save(folder / f"{frame}.png")
    clip = {**CLIP_OF_5, **WINDOWS, "control_images": "in/walk", "control_masks": "in/masks"}
    fields = controlled(unit(model=model, module=module), clip=clip).extra_generation_params
    digest = file_hash(folder)
    assert (fields["Control masks"], fields["Control masks hashes"]) == ("0: masks", f"masks: {digest[:10]}")
    scaled = {"lite": lambda frame: 2 * hint(frame) - 1}.get(model, hint)
    assert wrong_rows(lambda frame, _clip: scaled(frame) * (1, 0.5, 0, 0, 0)[frame]) == 0
