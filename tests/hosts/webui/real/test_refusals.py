"""What cannot become a clip is a 422 with one clear reason and what to do, never a row of unrelated pictures."""

from __future__ import annotations

import pytest
from support.webui_real.server import LORA, OTHER_CHECKPOINT
from support.webui_real.studio import HIRES, portrait, refused, same_picture_after

ZERO = {"model": "Text2Video-Zero", "frames": 3, "zero_x": 64}
SETTINGS = [
    ({"model": "mm_smal_v3"}, ["mm_small_v3"]),
    ({"model": "page.ckpt"}, ["web page"]),
    ({"frame": 8}, ["frame", "Did you mean frames?"]),
    ({"video_lenght": 8}, ["Did you mean video_length?"]),
    ({"frames": -1}, ["frames must be between 0 and 10000"]),
    ({"frames": 64000}, ["frames must be between 0 and 10000"]),
    ({"frames": 40, "context_length": 36}, ["Lower the context length to 32"]),
    ({"overlap": 16}, ["Set it below 16"]),
    ({"fps": 0}, ["fps", "between 1 and 120"]),
    ({"context_kind": "round"}, ["context_kind", "uniform, looped, static, batched"]),
    ({"format": ["GIV"]}, ["formats", "GIF", "'GIV'"]),
    ({"reverse": "perhaps"}, ["reverse", "true or false"]),
    ({"interp": "RIFE"}, ["interp='RIFE' is not supported"]),
    ({"interpolate": "x11"}, ["interpolate", "x2 to x10"]),
    ({"key_images": "in/a.png"}, ["is not a frame with an image", "8: in/a.png"]),
]
PATHS = [
    ({"model": "../../config.json"}, ["There is no motion module"]),
    ({"model": "../../secrets.safetensors"}, ["no motion module '../../secrets.safetensors'"]),
    ({"model": "/etc/passwd"}, ["no motion module '/etc/passwd'"]),
    ({"video_path": "/etc"}, ["AD-W32"]),
]
AMOUNTS = [
    ({"scale": 11}, ["scale must be between 0 and 10"]),
    ({"effect": "0: 1, 9: 1"}, ["effect", "the clip has no frame 9", "0 to 3"]),
    ({"effect": [1, 1, 1, 1, 1]}, ["effect has 5 numbers", "4 frames"]),
    ({"effect_start": 0.6, "effect_end": 0.5}, ["effect_start=0.6 is later than effect_end=0.5"]),
    ({"blocks": "left effect 1"}, ["blocks: 'left effect 1' is not a block"]),
    ({"motion_mask": "nothing"}, ["The motion mask is not an image"]),
]
WITHOUT_MODULE = [
    ({"scale": 2}, ["scale"]),
    ({"effect": "0: 1, 2: 0.5", "views": True}, ["effect", "views"]),
    ({"motion_loras": "Pan:1"}, ["motion_loras"]),
    ({"freeinit_enable": True}, ["freeinit_enable"]),
    ({"closed_loop": "A"}, ["closed_loop"]),
    ({"zero_x": 65}, ["zero_x must be between -64 and 64"]),
]
LINES = [
    ({"prompt": "a photo\n0: a cat\n8: a dog"}, ["Line 3 of the prompt", '"8: a dog"', "no frame 8"]),
    ({"negative_prompt": "0: a cat\n4: "}, ["Line 2 of the negative prompt", "no text after the colon"]),
    ({"prompt": "0: a\n0: b"}, ["Line 2 of the prompt", "Write one line per frame"]),
    ({"prompt": f"0: a cat\n4: <lora:{LORA}:1> a dog"}, ["Line 2 of the prompt", "whole clip"]),
    ({"prompt": "0: a cat\n4: a dog AND a cat"}, ["Line 2 of the prompt", "2 parts joined with AND"]),
    ({"hr_prompt": "0: a\n90: b", **HIRES}, ["Line 2 of the hires prompt", "no frame 90"]),
]
WHEN = ({}, {"refiner_switch_at": 0}, {"refiner_switch_at": 0.5})
REFINERS = [({"refiner_checkpoint": OTHER_CHECKPOINT, **when}, ["refiner"]) for when in WHEN]


def cases(promise: pytest.MarkDecorator, table: list, clip: dict | None = None) -> list:
    """Of settings of a clip that is described so far, or of a request without one."""
    described = [({**clip, **given}, {}) if clip is not None else ({}, given) for given, _ in table]
    return [pytest.param(*each, words, marks=promise) for each, (_, words) in zip(described, table, strict=True)]


@pytest.mark.shows("Pains that people report: pain 2: a failure still renders unrelated pictures")
@pytest.mark.parametrize(
    ("clip", "payload", "words"),
    [
        *cases(pytest.mark.shows("API: 422 with field, range and nearest name"), SETTINGS, {}),
        *cases(pytest.mark.shows("API: no path or address is opened"), PATHS, {}),
        *cases(pytest.mark.shows("Amount of motion: what cannot be is refused"), AMOUNTS, {"frames": 4}),
        *cases(pytest.mark.shows("Text2Video-Zero: what needs a motion module is refused"), WITHOUT_MODULE, ZERO),
        *cases(pytest.mark.shows("Prompt travel: a wrong line is refused with its number"), LINES),
        *cases(pytest.mark.shows("Passes: the refiner refused before sampling"), REFINERS),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(studio, clip, payload, words):
    with same_picture_after(studio):
        before = portrait(studio)
        reason = refused(studio, clip, **payload)
    assert portrait(studio) == before  # not at once: a LoRA of the prompt stays in the model until the next request
    assert all(word in reason for word in words), reason
