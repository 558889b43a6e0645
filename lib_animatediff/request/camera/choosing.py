"""From the settings of a request to its camera: named moves or a file of poses, and a CameraCtrl model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lib_animatediff.request.settings import ClipSettings, clip_frames
from motion_module import ClipError
from motion_module.camera_ctrl.load import read_camera_ctrl
from motion_module.camera_ctrl.poses import CameraPose
from motion_module.kinds import V3

from .moves import is_pose_file
from .unit import CameraUnit

Find = Callable[[str], tuple[Path, str]]
Model = TypeVar("Model", str, Path)  # as a host names it


def choose_camera(settings: ClipSettings, find: Find, find_camera: Find) -> tuple[ClipSettings, CameraUnit | None]:
    """The camera of a request, None without one, and the settings with paths and names as infotexts have them.

    Args:
        find: the file of poses for a path of the request.
        find_camera: the file of a CameraCtrl model, and its name.

    Raises:
        AnimateDiffError: a file is missing or another one, or a value is malformed or out of range.
    """
    if not settings.camera.strip():
        return settings, None
    asked = settings.camera_model.strip()
    needed_model(asked or None, "camera", "camera_model")
    model, name = find_camera(asked)
    read_camera_ctrl(model)
    unit, text = _unit(settings, model, find)
    unit.poses(clip_frames(settings), settings.fps)
    return replace(settings, camera=text, camera_model=name), unit


def poses_shown(settings: ClipSettings, find: Find) -> list[CameraPose]:
    """The poses of the frames, for a drawing; none without a camera. No model is needed.

    Raises:
        AnimateDiffError: the file is missing or has no poses, or a value is malformed.
    """
    if not settings.camera.strip():
        return []
    return _unit(settings, Path("camera"), find)[0].poses(clip_frames(settings), settings.fps)


def _unit(settings: ClipSettings, model: Path, find: Find) -> tuple[CameraUnit, str]:
    """The camera, and its text with the path as infotexts have it."""
    text, file = settings.camera.strip(), None
    if is_pose_file(text):
        file, text = find(text)
    unit = CameraUnit(
        model,
        moves="" if file else text,
        file=file,
        every=settings.camera_every,
        weight=settings.camera_strength,
        start=settings.camera_start,
        end=settings.camera_end,
    )
    return unit, text


def needed_model(model: Model | None, camera: str, camera_model: str) -> Model:
    """The model of a camera, which is refused without one.

    Args:
        camera, camera_model: what a host calls the settings.

    Raises:
        ClipError: there is none.
    """
    if model is None:
        raise ClipError(f"{camera} needs a CameraCtrl model. Give one with {camera_model}.", code="AD-QA1")
    return model


def note_of_kind(kind: str | None) -> str | None:
    """A sentence about a motion module of another kind than that of the camera's training, without the name in front.

    Args:
        kind: of the motion module.
    """
    if kind in (None, V3.name):
        return None
    return f"was trained with the v3 motion module, and this one is of kind {kind}."
