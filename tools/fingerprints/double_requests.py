"""The requests to the double of the WebUI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from support.webui_double.double import SIDE

from lib_animatediff.request.masks import pack_mask

OTHER = "other"  # stands for the second checkpoint


@dataclass(frozen=True)
class Asked:
    """A whole request, from hook to hook.

    Attributes:
        clip: the script's argument; a tuple has the panel's values, in their order.
        fields: of the processing object.
        options: of the WebUI.
    """

    clip: dict[str, Any] | tuple[Any, ...] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def _image(level: int) -> Image.Image:
    return Image.new("RGB", (SIDE + level, SIDE), (level, 2 * level, 50))


def _mask() -> str:
    mask = Image.new("L", (SIDE, SIDE), 30)
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    return pack_mask(mask)


_LONG = {"frames": 10, "context_length": 5, "overlap": 2}
_HIRES = {"enable_hr": True}
_PARTS = "a cat AND a dog AND a bird"
_TRAVEL = "a photo\n0: cat\n3: dog\nin the garden"
_KINDS = ("uniform", "looped", "static", "batched")
_IMG2IMG = {"tab": "img2img", "init_images": [_image(8)]}
_ZERO = {"model": "Text2Video-Zero", "zero_x": 64, "zero_y": -64}

WHOLE: dict[str, Asked] = {
    "switched off": Asked({"enable": False}, {"batch_size": 2}),
    "txt2img": Asked(),
    "the panel's values": Asked((True, "mm.safetensors", 3, 12, 1)),
    "two batches of two clips": Asked({}, {"batch_size": 2, "n_iter": 2}),
    "img2img": Asked({}, _IMG2IMG),
    "img2img of two pictures": Asked({}, {"tab": "img2img", "init_images": [_image(0), _image(8)], "batch_size": 2}),
    "hires": Asked({}, _HIRES),
    "hires with its own prompts": Asked({}, {**_HIRES, "prompt": ["a", "b"], "hr_prompt": ["c", "d"], "batch_size": 2}),
    "hires on another checkpoint": Asked({}, {**_HIRES, "hr_checkpoint": OTHER}),
    "lists": Asked({}, {"seed": [5, 50], "subseed": [1, 2], "prompt": ["a", "b"], "negative_prompt": ["", "x"],
                        "batch_size": 2}),
    "variation": Asked({}, {"subseed_strength": 0.4, "batch_size": 2}),
    # Parts of prompts
    "AND": Asked({}, {"prompt": _PARTS}),
    "AND, calls split": Asked({}, {"prompt": _PARTS}, {"batch_cond_uncond": False}),
    "AND, parts of another length": Asked({}, {"prompt": f"{_PARTS} long"}),
    "AND, padded": Asked({}, {"prompt": f"{_PARTS} long"}, {"pad_cond_uncond": True}),
    "AND without uncond": Asked({}, {"prompt": _PARTS}, {"skip_early_cond": 1.0}),
    "AND in windows": Asked(_LONG, {"prompt": _PARTS}),
    "AND in one of two clips": Asked({}, {"prompt": ["a cat", _PARTS], "negative_prompt": ["", ""], "batch_size": 2}),
    # Windows
    **{f"windows {kind}": Asked({**_LONG, "context_kind": kind}) for kind in _KINDS},
    **{f"fusion {fusion}": Asked({**_LONG, "fusion": fusion}) for fusion in ("flat", "overlap-linear")},
    "windows, stride 2": Asked({**_LONG, "stride": 2}),
    "windows, closed loop": Asked({**_LONG, "closed_loop": "A", "reverse": True}),
    "windows, hires, two clips": Asked(_LONG, {**_HIRES, "batch_size": 2}),
    "views": Asked({**_LONG, "views": True}),
    # Prompts that travel
    **{f"travel {how}": Asked({"frames": 5, "travel_interpolation": how}, {"prompt": _TRAVEL})
       for how in ("slerp", "linear", "step")},
    "travel eased and held": Asked(
        {"frames": 5, "travel_easing": "ease-in-out", "travel_hold": 0.3}, {"prompt": _TRAVEL, "batch_size": 2}),
    "travel of the negative prompt": Asked({"frames": 5}, {"negative_prompt": "0: red\n4: blue"}),
    "travel with AND": Asked({"frames": 5}, {"prompt": "0: a AND b\n4: c AND d"}),
    "travel in a closed loop": Asked({**_LONG, "closed_loop": "R+P"}, {"prompt": _TRAVEL}),
    "travel in hires": Asked({"frames": 5}, {**_HIRES, "prompt": _TRAVEL, "hr_prompt": "1: big\n3: small"}),
    # Amounts
    "scale and effect": Asked({"scale": "1, 1.5", "effect": "0: 1, 1: 0.5"}),
    "by steps and blocks": Asked(
        {"scale_steps": "0%: 1.2", "effect_steps": 0.8, "blocks": "up.1 effect 0.5, mid scale 2"}),
    "mask": Asked({"scale": 1.5, "motion_mask": _mask(), "mask_of": "both"}),
    # LoRAs
    "motion LoRA in the prompt": Asked({}, {"prompt": "a cat <lora:pan:0.8>"}),
    "motion LoRA in the panel": Asked({"motion_loras": "pan:-1, v3:0.5"}, _HIRES),
    "motion LoRA in the hires prompt": Asked({}, {**_HIRES, "prompt": "a", "hr_prompt": "b <lora:pan:1>"}),
    # Noise
    "noise freenoise": Asked({**_LONG, "noise": "freenoise"}, {"batch_size": 2}),
    "noise constant": Asked({"noise": "constant"}, {"n_iter": 2}),
    "seeds of frames": Asked({"frame_seeds": "70, 90"}, {"n_iter": 2}),
    # Text2Video-Zero, whose first pass a sampler of one step leaves out, see `ZERO_RUNS`
    "zero in img2img": Asked({**_ZERO, "frames": 3}, _IMG2IMG),
    "zero in chunks": Asked({**_ZERO, "frames": 9, "context_length": 4}, {**_IMG2IMG, "prompt": _PARTS}),
    "zero, poster": Asked({**_ZERO, "poster": True}),
    # Posters
    "poster": Asked({"poster": True}, {"batch_size": 2, "n_iter": 2}),
    "poster of a travel": Asked({"poster": True, "frames": 5, "frame_seeds": "70, 80"}, {"prompt": _TRAVEL}),
    # Files
    "every format": Asked({"formats": ["GIF", "WEBP", "APNG", "MP4", "WEBM", "AVIF", "PNG", "TXT", "Frame"]}),
    "reply of the API": Asked({"formats": ["WEBP", "Frame"], "fps": 12.5, "request_id": "mine"}, {"is_api": True}),
    "settings of the encoders": Asked(
        {"formats": ["GIF", "WEBP"], "loop_count": 2},
        {},
        {"animatediff_gif_palette_per_frame": True, "animatediff_webp_lossless": True},
    ),
    # The WebUI's noise levels
    "zero terminal SNR": Asked({}, {}, {"sd_noise_schedule": "Zero Terminal SNR"}),
    "downcast levels": Asked({}, {}, {"use_downcasted_alpha_bar": True}),
}  # fmt: skip

_FREEINIT = {"freeinit_enable": True}

NOISE: dict[str, dict[str, Any]] = {
    "noise": {},
    "noise shared": {"noise": "shared", "noise_share": 0.4},
    "FreeInit": _FREEINIT,
    **{f"FreeInit {kind}": {**_FREEINIT, "freeinit_filter": kind} for kind in ("gaussian", "box", "ideal")},
    "FreeInit coarse": {**_FREEINIT, "freeinit_coarse": True, "freeinit_ds": 0.5, "freeinit_dt": 0.4},
    "FreeInit, shared noise": {**_FREEINIT, "noise": "shared"},
    "FreeInit, constant noise": {**_FREEINIT, "noise": "constant", "freeinit_iters": 2},
}
