"""Requests with SparseCtrl encoders and a PIA model on the double, and what their clips have to be."""

from __future__ import annotations

from functools import cache

import torch
from safetensors.torch import save_file
from support.camera_ctrl import random_state as camera_state
from support.image_encoder import i2v_state
from support.pia import pia_state
from support.sparse_ctrl import random_state

from .double import CLIP

RGB, SCRIBBLE, PIA = "rgb.safetensors", "scribble.safetensors", "pia.safetensors"
FRAMES = 4
GUIDED = {**CLIP, "frames": FRAMES, "image": "in/a.png", "last_image": "in/b.png", "sparse_ctrl": RGB}
CAMERA, I2V, POSES = "CameraCtrl.safetensors", "i2v.safetensors", "path.txt"
MOVED = {"model": PIA, "frames": FRAMES, "image": "in/a.png"}

MOVES = "pan-left 2, zoom-in; 2: roll-clockwise 3/s"
FILMED = {**CLIP, "frames": FRAMES, "camera": MOVES, "camera_model": CAMERA}
BEGUN = {"model": I2V, "frames": FRAMES, "image": "in/a.png"}


@cache
def weights(kind: str) -> dict[str, torch.Tensor]:
    """Random weights of an encoder."""
    return random_state(kind)


def write_guides(folder) -> None:
    """An encoder of each kind and a PIA model, beside the motion modules."""
    for name, kind in ((RGB, "rgb"), (SCRIBBLE, "scribble")):
        save_file(weights(kind), folder / name)
    save_file(pia_state(), folder / PIA)


def write_filmed(folder) -> None:
    """A CameraCtrl model and an AnimateLCM-I2V model, beside the motion modules."""
    save_file(camera_state(), folder / CAMERA)
    save_file(i2v_state(), folder / I2V)
