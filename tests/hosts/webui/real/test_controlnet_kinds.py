"""Beside the real ControlNet extension: further kinds of models, and units that share a file.

A union ControlNet, a control-LoRA, and IP-Adapters of other shapes than the plain one.
"""

from __future__ import annotations

import functools

import numpy
import pytest
from PIL import Image
from support.webui_real.controlled import (
    FRAMES,
    SECOND,
    STRIPES,
    UNIT,
    WINDOWS,
    embeddings,
    grey,
    watched,
    with_units,
    wrong_rows,
)
from support.webui_real.server import PAYLOAD, base64_image
from support.webui_real.small_control import ADAPTER, IMAGE_PROMPT, LITE, NAME
from support.webui_real.small_control_kinds import (
    FACE,
    FACE_PLUS,
    FULL,
    INSTANT,
    INSTANT_FACE,
    LORA,
    PLUS,
    UNION,
    image_prompts,
)
from support.webui_real.studio import FLOAT_ORDER, HIRES, VISIBLE, decoded

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

LONG = "a photo of a cat, " + "very " * 80
STILL = {"frames": FRAMES, "effect": 0, **WINDOWS, "context_kind": "static"}
FEW = {"steps": 2}
APART = 1.1  # of numbers that tell embeddings apart; rows may be 1 off
PROMPTS = (PLUS, FULL, FACE, FACE_PLUS)
CASES = {
    "over 75 tokens": ({**WINDOWS, "context_kind": "looped"}, {"prompt": LONG}),
    "hires fix, 2 clips": (WINDOWS, {**HIRES, "batch_size": 2}),
}


def own_fields(kind):
    return {"union_control_type": "Depth"} if kind == UNION else {}


@pytest.mark.shows(
    "ControlNet beside us: union ControlNet, control-LoRA, and IP-Adapters of the shapes Plus, full face and FaceID"
)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [UNION, LORA])
def test_rows_and_hints_of_further_kinds(controlled, control_models, kind, case):
    clip, payload = CASES[case]
    units = [
        {**UNIT, **own_fields(kind), "model": control_models[f"{kind}{end}"], "control_mode": mode}
        for end, mode in (("", "Balanced"), (SECOND, "ControlNet is more important"))
    ]
    images = {"control_images": "0: in/greys, 1: in/back"}
    answer, calls = watched(controlled, units, {**images, **clip}, **payload)
    assert wrong_rows(calls) == 0
    assert wrong_rows(calls, lambda frame: grey(FRAMES - 1 - frame), unit=1) == 0
    assert len(answer["images"]) == payload.get("batch_size", 1)


@functools.cache
def numbers_of(server, model, kind):
    """What an IP-Adapter makes of each frame's embedding: a number, on the scale of `wrong_rows`."""
    numbers = []
    for frame in range(FRAMES):
        unit = {**UNIT, "model": model, **image_prompts(kind, frame)}
        _, ((_, ((number, *_),)), *_) = watched(server, [unit], {"frames": 1}, steps=1)
        numbers.append(float(number) * 255)
    assert min(abs(one - other) for place, one in enumerate(numbers) for other in numbers[:place]) > APART
    return numbers


@pytest.mark.shows(
    "ControlNet beside us: union ControlNet, control-LoRA, and IP-Adapters of the shapes Plus, full face and FaceID"
)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", PROMPTS)
def test_rows_and_embeddings_of_further_kinds(controlled, control_models, kind, case):
    """The numbers of each frame are those that a clip of its embedding alone has in every row."""
    clip, payload = CASES[case]
    unit = {**UNIT, "model": control_models[kind]}
    numbers = numbers_of(controlled, control_models[kind], kind)
    every = {**unit, "animatediff_batch": True, **image_prompts(kind, *range(FRAMES))}
    _, calls = watched(controlled, [every], clip, **payload)
    assert wrong_rows(calls, lambda frame: numbers[frame]) == 0


@pytest.mark.shows(
    "ControlNet beside us: union ControlNet, control-LoRA, and IP-Adapters of the shapes Plus, full face and FaceID"
)
@pytest.mark.parametrize("kind", [UNION, LORA, *PROMPTS])
def test_frames_of_further_kinds(controlled, control_models, kind):
    """Each frame is the one of a clip of its own image alone; at a weight of 0 it is as without control."""
    plain = {**UNIT, **own_fields(kind), "model": control_models[kind]}
    if kind in PROMPTS:
        one, other = ({**plain, **image_prompts(kind, seed)} for seed in (1, 2))
        turns = {**plain, "animatediff_batch": True, **image_prompts(kind, *[1, 2] * (FRAMES // 2))}
    else:
        stripes = numpy.tile(numpy.uint8([0, 255]).repeat(16), (64, 2))
        images = [base64_image(Image.fromarray(numpy.roll(stripes, 8 * turn, axis=1))) for turn in (0, 1)]
        one, other = ({**plain, "image": image} for image in images)
        turns = {**plain, "image": [{"image": image} for image in images * (FRAMES // 2)]}
    made = []
    for units, clip in (([one], {}), ([other], {}), ([turns], {"control_weight": "1, 1, 1, 1, 0"}), ([], {})):
        controlled.txt2img(**with_units(units, {**STILL, **clip}, **FEW))
        made.append(decoded(controlled))
    first, second, mosaic, without = made
    for frame in range(4):
        own, others = (first, second) if frame % 2 == 0 else (second, first)
        assert abs(mosaic[frame] - own[frame]).max() < FLOAT_ORDER, frame
        assert abs(mosaic[frame] - others[frame]).mean() * 255 > VISIBLE / 4, frame
        assert abs(mosaic[frame] - without[frame]).mean() * 255 > VISIBLE / 4, frame
    assert abs(mosaic[4:] - without[4:]).max() < FLOAT_ORDER


@pytest.mark.shows(
    "ControlNet beside us: union ControlNet, control-LoRA, and IP-Adapters of the shapes Plus, full face and FaceID"
)
def test_types_of_a_union(controlled, control_models):
    """Two units with one union file have their own control types."""
    both = []
    for second in ("", SECOND):
        units = [
            {**UNIT, "model": control_models[f"{UNION}{end}"], "union_control_type": kind, "image": STRIPES}
            for end, kind in (("", "Depth"), (second, "Tile"))
        ]
        controlled.txt2img(**with_units(units, {**STILL, "control_weight": "1, 0.5; 0.5, 1"}, **FEW))
        both.append(decoded(controlled))
    assert (both[0] == both[1]).all()
    alike = [{**unit, "union_control_type": "Depth"} for unit in units]
    controlled.txt2img(**with_units(alike, {**STILL, "control_weight": "1, 0.5; 0.5, 1"}, **FEW))
    assert abs(both[0] - decoded(controlled)).max() > 5 * FLOAT_ORDER


@pytest.mark.shows("ControlNet beside us: two units with one file keep their own images, weights, steps and processing")
@pytest.mark.parametrize("kind", [NAME, ADAPTER, LITE, IMAGE_PROMPT, UNION, LORA, FACE])
def test_two_units_with_one_file(controlled, control_models, kind):
    """The clip is the one of a unit with the file and a unit with a copy of it."""
    mixed = {"control_weight": "0: 1, 7: 0.5; 0: 0.2, 7: 1", "control_end": "1; 0.3"}
    made = []
    for second in ("", SECOND):
        units = [
            {**UNIT, **own_fields(kind), "model": control_models[f"{kind}{end}"], "weight": weight, **own}
            for end, weight, own in (
                ("", 0.7, {"module": "none", "control_mode": "My prompt is more important"}),
                (second, 1.2, {"module": "invert", "control_mode": "ControlNet is more important"}),
            )
        ]
        clip = {**WINDOWS, "frames": FRAMES, **mixed}
        if kind in (IMAGE_PROMPT, FACE):
            for unit, seeds in zip(units, (range(FRAMES), range(FRAMES, 0, -1)), strict=True):
                given = image_prompts(kind, *seeds) if kind == FACE else {"ipadapter_input": embeddings(*seeds)}
                unit |= {"animatediff_batch": True, "module": "ip-adapter_clip_h", **given}
        else:
            clip["control_images"] = "0: in/greys, 1: in/back"
        controlled.txt2img(**with_units(units, clip, steps=4))
        made.append(decoded(controlled))
    assert (made[0] == made[1]).all()
    controlled.txt2img(**with_units(units, {**clip, "control_weight": "1; 0"}, steps=4))
    assert abs(decoded(controlled) - made[0]).max() > 5 * FLOAT_ORDER


@pytest.mark.shows("ControlNet beside us: both models of an InstantID have the face of each frame")
def test_the_faces_of_an_instant_id(controlled, control_models):
    """Its ControlNet sees the face in place of the text, so a frame is the one of a clip of its own face alone."""
    net = {**UNIT, "model": control_models[INSTANT]}
    face = {**UNIT, "model": control_models[INSTANT_FACE]}
    turns = [1, 2] * (FRAMES // 2)
    made = []
    for seeds in ([1], [2], turns):
        units = [{**face, "animatediff_batch": len(seeds) > 1, **image_prompts(INSTANT_FACE, *seeds)}, net]
        _, calls = watched(controlled, units, {**STILL, "control_images": "1: in/greys"})
        assert wrong_rows(calls, unit=1) == 0
        made.append(decoded(controlled))
    first, second, mosaic = made
    numbers = numbers_of(controlled, control_models[INSTANT_FACE], INSTANT_FACE)
    assert wrong_rows(calls, lambda frame: numbers[turns[frame]]) == 0
    for frame in range(FRAMES):
        own, others = (first, second) if frame % 2 == 0 else (second, first)
        assert abs(mosaic[frame] - own[frame]).max() < FLOAT_ORDER, frame
        assert abs(mosaic[frame] - others[frame]).mean() * 255 > VISIBLE / 4, frame


@pytest.mark.shows(
    "ControlNet beside us: union ControlNet, control-LoRA, and IP-Adapters of the shapes Plus, full face and FaceID"
)
def test_an_unknown_type_of_a_union_is_refused(controlled, control_models):
    unit = {**UNIT, "model": control_models[UNION], "image": STRIPES, "union_control_type": "NoSuchType"}
    request = {**PAYLOAD, **with_units([unit], {"frames": 4})}
    reply = controlled.api("POST", "/sdapi/v1/txt2img", request)
    assert reply.status_code == 422, reply.text
    assert "AD-H46" in reply.json()["detail"]
