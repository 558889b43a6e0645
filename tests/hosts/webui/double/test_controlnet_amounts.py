"""How much units of the ControlNet extension act on each frame, beside their weight: its steps, and a mask."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.webui_double.controlled import (
    CLIP_OF_5,
    FRAMES,
    WINDOWS,
    acted,
    has_rows,
    hint,
    picture,
    unit,
    wrong_rows,
)
from support.webui_double.double import SIDE, shared

from lib_animatediff.video.hashing import file_hash
from motion_module import AnimateDiffError


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


@pytest.fixture
def masks(walk):
    """A folder with a mask for each frame, white from the left over a fifth more in each."""
    folder = walk.parent / "masks"
    folder.mkdir()
    for frame in range(FRAMES):
        mask = Image.new("L", (SIDE, SIDE))
        mask.paste(255, (0, 0, SIDE * frame // FRAMES, SIDE))
        mask.save(folder / f"{frame}.png")
    return [SIDE * frame // FRAMES / SIDE for frame in range(FRAMES)]


@pytest.mark.parametrize("source", ["video", "named", "folder", "list"])
def test_units_that_inpaint_have_the_masks_of_existing_clients(controlled, walk, masks, source):
    clip = {**CLIP_OF_5, **WINDOWS, "mask_path": "in/masks"}
    given = {"module": "inpaint_only" if source == "named" else "inpaint"}
    if source == "video":
        clip |= {"video_path": "in/walk", "denoise": 1}
    elif source == "named":
        clip["control_images"] = "in/walk"
    elif source == "folder":
        given |= {"animatediff_batch": True, "batch_images": str(walk)}
    else:
        given["image"] = [{"image": picture(frame)} for frame in range(FRAMES)]
    processed = controlled(unit(**given), clip=clip)
    assert wrong_rows(lambda frame, _clip: hint(frame) * (1 - masks[frame])) == 0
    assert "mask has no effect" not in processed.comments


def test_its_own_masks_go_first_and_too_few_are_refused(controlled, walk, masks):
    own = unit(module="inpaint", batch_mask_dir=str(walk))
    controlled(own, clip={**CLIP_OF_5, "control_images": "in/walk", "mask_path": "in/masks"})
    assert wrong_rows(lambda frame, _clip: hint(frame) * (1 - hint(frame))) == 0
    (walk.parent / "masks" / "4.png").unlink()
    with pytest.raises(AnimateDiffError, match="AD-V73"):
        controlled(unit(module="inpaint"), clip={**CLIP_OF_5, "control_images": "in/walk", "mask_path": "in/masks"})


@pytest.mark.parametrize("model", ["net", "adapter", "lite"])
def test_a_video_is_inverted_within_the_steps_and_masks_of_each_frame(controlled, walk, masks, model):
    shares = {"control_start": "0, 0, 0.3", "control_end": "0.5, 0.5, 0.5, 1"}
    clip = {**CLIP_OF_5, **shares, "control_masks": "in/masks", "video": "in/walk", "denoise": 0.5}
    controlled(unit(model=model), clip={**clip, "video_inversion": 1})
    calls = [(x, values) for x, (values,) in shared.controlled if not any(has_rows(base, x) for base in shared.base)]
    steps = [9, *range(9, 0, -1)]  # 10 levels, from the least noisy one
    assert len(calls) == len(steps)
    parts = [(0, 0.5), (0, 0.5), (0.3, 0.5), (0.3, 1), (0.3, 1)]
    for step, (_, values) in zip(steps, calls, strict=True):
        wanted = [
            (2 * hint(frame) - 1 if model == "lite" else hint(frame)) * masks[frame] * (start <= (step - 1) / 10 <= end)
            for frame, (start, end) in enumerate(parts)
        ]
        torch.testing.assert_close(values, torch.tensor(wanted))
