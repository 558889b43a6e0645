"""Small clips of the built-in model, a few steps each, for tests of what reaches a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers import animate as module
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import context_windows, parse_settings
from motion_module import MotionModule, load_motion_module

MOTION = POCKET.folder / POCKET.motion
RED, BLUE = "a red disc moving right", "a blue cross moving left"
STEPS, CFG = 2, 3.0
SIZE = (64, 64)
TINY = (32, 32)  # where it only counts whether clips are the same


def new_pipeline() -> Any:
    """Loading takes longer than these clips, so that a file of tests should do it once."""
    made = host.load_pipeline(POCKET.folder / POCKET.checkpoint)
    made.set_progress_bar_config(disable=True)
    return made


def new_motion() -> MotionModule:
    return load_motion_module(MOTION)


def read_once(path: Path, *, kind: str | None = None) -> MotionModule:
    """A file's motion module as a clip has it: in full precision, into which each clip would copy one in half of it."""
    return _read(path, path.stat().st_mtime_ns, kind) if path.is_file() else load_motion_module(path, kind=kind)


@lru_cache(maxsize=16)
def _read(path: Path, _changed: int, kind: str | None) -> MotionModule:
    return load_motion_module(path, kind=kind).float()


def clip_of(
    pipeline: Any,
    motion: MotionModule,
    prompt: str = RED,
    *,
    seed: int = 3,
    negative_prompt: str = "",
    sampler: str = "ddim",
    steps: int = STEPS,
    size: tuple[int, int] = SIZE,
    **settings: object,
) -> Tensor:
    """Frames as numbers, f h w c, of four frames unless more is said."""
    checked = parse_settings({"frames": 4} | settings)
    pictures = animate(
        pipeline,
        motion,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        frames=checked.frames,
        windows=context_windows(checked),
        settings=checked,
        size=size,
        steps=steps,
        cfg=CFG,
        sampler=sampler,
    )
    return pixels(pictures)


def latents_of(
    monkeypatch: Any, pipeline: Any, motion: Any, controls: Sequence[Any], settings: Mapping[str, object], **words: Any
) -> Tensor:
    """Latents of a clip, ``f c h w``, which is not decoded."""
    seen: list[Tensor] = []
    monkeypatch.setattr(module, "decode_frames", lambda _pipeline, latents, *_: seen.append(latents.clone()) or [])
    monkeypatch.setattr(module, "_finish", lambda images, _plan, _output: images)
    given = {"prompt": RED, "negative_prompt": "blue", "seed": 11, "size": SIZE, "steps": STEPS, "cfg": CFG} | words
    animate(pipeline, motion, settings=parse_settings(dict(settings)), controls=controls, **given)
    return seen[0]


def cells(latents: Tensor) -> Tensor:
    """Pictures of latents without a VAE, for tests of what reaches the UNet: each cell is a square in three colours."""
    return latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3).clamp(-1, 1)


def pixels(pictures: list[Any]) -> Tensor:
    rows = [torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8) for picture in pictures]
    return torch.stack(rows).reshape(len(rows), pictures[0].height, pictures[0].width, 3).int()


def near(one: Tensor, other: Tensor, levels: int = 1) -> bool:
    """Rows of batches of other sizes differ by rounding."""
    return one.shape == other.shape and bool((one - other).abs().max() <= levels)
