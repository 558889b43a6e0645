"""For every setting a value that is accepted and is not its default."""

from __future__ import annotations

from typing import Any

from lib_animatediff.request.settings import Setting

# A picture of a black and a white pixel.
MASK = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR4nGNg+A8AAQIBAEK+vGgAAAAASUVORK5CYII="
TEXTS = {  # with a grammar
    "scale": "1, 1.1, 1.2",
    "effect": "0: 1, -1: 0.5",
    "scale_steps": "0%: 1, 60%: 1.5",
    "effect_steps": "0.5",
    "blocks": "up.1 effect 0.5, mid scale 1.2",
    "motion_mask": MASK,
    "motion_loras": "pan_left:0.8, zoom",
    "frame_seeds": "5, 6, 7",
    "interpolate": "x2",
    "interpolator": "dis",
    "denoise": "0: 0.8, -1: 0.3",
    "rerender_frames": "3, 8-15",
    "key_images": "3: a.png, -1: b.png",
    "scribbles": "3: a.png, -1: b.png",
    "sparse_strength": "0: 1, -1: 0.5",
    "pia_motion": "large",
    "i2v_strength": "0: 1, -1: 0.5",
    "camera": "pan-left 0.5, zoom-in; 3: static",
    "camera_strength": "0: 1, -1: 0.5",
    "control_images": "0: walk.mp4, 1@3: a.png",
    "control_weight": "0: 1, -1: 0.5",
    "control_start": "0: 0, -1: 0.5",
    "control_end": "0: 1, -1: 0.5",
    "control_masks": "0: masks, 1: a.png",
}


def other_than_default(setting: Setting) -> object:
    if setting.type is tuple:
        return setting.choices[::-1]
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    if setting.name in TEXTS:
        return TEXTS[setting.name]
    # The most leaves no room in a window or the steps, or is the default.
    small = {"overlap": 3} | dict.fromkeys(
        (
            "effect_start",
            "effect_end",
            "guidance_end",
            "pin_strength",
            "sparse_start",
            "sparse_end",
            "camera_start",
            "camera_end",
            "rerender_strength",
        ),
        0.5,
    )
    return {bool: not setting.default, str: "mm.ckpt"}.get(setting.type, small.get(setting.name, setting.maximum))


def fitting(values: dict[str, Any]) -> dict[str, Any]:
    """Values that fit each other. To draw until they do would take ten times as long."""
    length = values["context_length"] or 16
    values["overlap"] = min(values["overlap"], length - 1)
    if (values["frames"] or length) < 3:  # as many as there are numbers in the texts
        values["frames"] = 3
    for part in ("effect", "guidance"):
        ends = [f"{part}_start", f"{part}_end"]
        values |= dict(zip(ends, sorted(values[end] for end in ends), strict=True))
    if values["context_kind"] not in ("uniform", "looped"):
        values["closed_loop"] = "N"
    return values
