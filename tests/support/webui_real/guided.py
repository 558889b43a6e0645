"""SparseCtrl, PIA, AnimateLCM-I2V and CameraCtrl for the small checkpoint of the real WebUI, and what reaches them."""

from __future__ import annotations

import numpy
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from support.camera_ctrl import random_state as camera_state
from support.image_encoder import i2v_state
from support.pia import pia_state
from support.sparse_ctrl import random_state
from support.webui_real.clips import clip_payload
from support.webui_real.studio import arrays, trouble

RGB, SCRIBBLE, PIA = (
    "small_sparsectrl_rgb.safetensors",
    "small_sparsectrl_scribble.safetensors",
    "small_pia.safetensors",
)
CAMERA, I2V = "small_cameractrl.safetensors", "small_i2v.safetensors"
PARTS = ("features", "timesteps", "context", "residual", "own", "met")  # of each call, in this order
_GAIN = 0.1  # of the encoder's output, so that a few steps do not leave the numbers that the sampler is made for


def write_guides(folder) -> None:
    """An encoder of each kind and a model of each other one, beside the motion modules."""
    for name, kind in ((RGB, "rgb"), (SCRIBBLE, "scribble")):
        state = random_state(kind)
        outputs = ("controlnet_down_blocks", "controlnet_mid_block")
        save_file(
            {key: _GAIN * each if key.startswith(outputs) else each for key, each in state.items()}, folder / name
        )
    save_file(pia_state(gain=_GAIN), folder / PIA)
    save_file(camera_state(), folder / CAMERA)
    outputs = ".block2."
    save_file({key: _GAIN * each if outputs in key else each for key, each in i2v_state().items()}, folder / I2V)


def remove_guides(folder) -> None:
    """Without what `write_guides` has written."""
    for name in (RGB, SCRIBBLE, PIA, CAMERA, I2V):
        (folder / name).unlink()


def drawn(size: int = 64) -> Image.Image:
    """White lines on black."""
    page = Image.new("RGB", (size, size))
    ImageDraw.Draw(page).line((size // 8, size // 8, size // 2, size - size // 8), fill="white", width=3)
    return page


def guided_calls(server, clip, *, tab="txt2img", **payload) -> list[dict[str, numpy.ndarray]]:
    """What an encoder gave to each call of the UNet in which it acts, in a clip, see `PARTS`."""
    payload = clip_payload(clip, **payload, **trouble(guided=True))
    (server.txt2img if tab == "txt2img" else server.img2img)(**payload)
    seen = arrays(server, "guided")
    calls = []
    while seen:
        if len(seen) > 1 and seen[1].ndim == 1:  # the encoder's timesteps
            call, seen = seen[: len(PARTS)], seen[len(PARTS) :]
            calls.append(dict(zip(PARTS, call, strict=True)))
        else:  # a call without the encoder, whose skip connection stays
            own, met, *seen = seen
            assert (met[:, -own.shape[1] :] == own).all()
    return calls


def added(call: dict[str, numpy.ndarray]) -> numpy.ndarray:
    """What was added to a skip connection, row by row."""
    channels = call["own"].shape[1]
    return call["met"][:, -channels:] - call["own"]


def filmed_windows(server, clip, **payload) -> list[numpy.ndarray]:
    """The rays of each window that a camera's encoder is given in a clip, ``f 6 h w``."""
    server.txt2img(**clip_payload(clip, **payload, **trouble(guided=True)))
    return [each for each in arrays(server, "guided") if each.ndim == 4 and each.shape[1] == 6]
