"""Clips whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from tools.pocket.world import FRAMES, Scene, render

SIDE = 128


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """Grain that is coarse enough to be followed, ``h w 3``."""
    grain = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(grain, (0, 0), 2.5)
    return np.clip((smooth - smooth.mean()) / smooth.std() * 50 + 128, 0, 255).astype(np.uint8)


def gliding(right: float, down: float, frames: int = 8, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """A texture that as a whole moves by so many pixels per frame."""
    margin = int(max(abs(right), abs(down)) * frames) + 4
    whole = texture(seed, side + 2 * margin, side + 2 * margin)
    clips = []
    for frame in range(frames):
        matrix = np.float32([[1, 0, right * frame - margin], [0, 1, down * frame - margin]])
        clips.append(cv2.warpAffine(whole, matrix, (side, side), flags=cv2.INTER_LINEAR))
    return np.stack(clips)


def with_thing(ground: np.ndarray, right: float, down: float, size: int = 32, seed: int = 99) -> np.ndarray:
    """A patch of another texture that starts in the middle and moves over a clip."""
    frames = ground.copy()
    thing = texture(seed, size, size)
    start = (ground.shape[1] - size) // 2
    for number, frame in enumerate(frames):
        top, left = round(start + down * number), round(start + right * number)
        frame[top : top + size, left : left + size] = thing
    return frames


def placed(scene: Scene, across: float, down: float) -> torch.Tensor:
    """A scene of the pocket world whose sprite goes elsewhere than its nose says, ``f c h w``."""
    return render([scene] * FRAMES, [(scene.x + across * k, scene.y + down * k) for k in range(FRAMES)])


def as_bytes(frames: torch.Tensor) -> np.ndarray:
    """``f c h w`` from 0 to 1 as ``f h w c`` in bytes."""
    return (frames.permute(0, 2, 3, 1).numpy().clip(0, 1) * 255).round().astype(np.uint8)
