"""CameraCtrl models of a plan: checked before anything is loaded, and as components for a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_animatediff.engine.components.camera_ctrl import CameraCtrlComponent
from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.request.camera.unit import CameraUnit
from lib_animatediff.request.control.memory import CAMERA
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import Size
from motion_module import ClipError
from motion_module.camera_ctrl.load import load_camera_ctrl, read_camera_ctrl
from motion_module.camera_ctrl.network import CameraCtrl
from motion_module.camera_ctrl.poses import CameraPose
from motion_module.kinds import V3

from .memory import about_memory


def check_cameras(units: Sequence[CameraUnit], plan: ClipPlan, config: Mapping[str, Any] | None) -> None:
    """Check the cameras of a plan, and read their poses, before anything is loaded.

    Args:
        config: of the checkpoint's UNet; None: unknown.

    Raises:
        MotionFileError: a model cannot be read, or is another one.
        NetworkError: a model was made for another base.
        ClipError: there are two cameras, or a file has no poses.
    """
    if len(units) > 1:
        raise ClipError(
            "A clip has one camera, and there are several. Write their moves together, such as pan-left 0.5, zoom-in.",
            code="AD-Q97",
        )
    for unit in units:
        file = read_camera_ctrl(unit.model)
        if config is not None and list(file.layout.widths) != list(config["block_out_channels"]):
            raise NetworkError(
                f"{file.name} was not made for this checkpoint's base. CameraCtrl exists for Stable Diffusion 1.5; "
                "choose a checkpoint of that base.",
                code="AD-Q98",
            )
        unit.poses(plan.frames, plan.output.fps)


@dataclass(frozen=True)
class LoadedCamera:
    """A CameraCtrl model on the device, for passes of any size.

    Attributes:
        unit: its part of the sampling.
        model: in the dtype of the UNet.
        poses: one for each rendered frame.
        strengths: likewise.
    """

    unit: CameraUnit
    model: CameraCtrl
    poses: Sequence[CameraPose]
    strengths: Sequence[float]

    def component(self, _size: Size) -> CameraCtrlComponent:
        """A component of the UNet for one pass; the rays follow from the latents' own size."""
        return CameraCtrlComponent(self.model, self.poses, self.strengths, self.unit.start, self.unit.end)

    def memory(self, plan: ClipPlan, size: Size) -> str:
        """A sentence about the memory that it needs at this width and height in pixels."""
        return about_memory(CAMERA, self.model.name, self.model, plan, size)


def load_camera(pipeline: Any, plan: ClipPlan, unit: CameraUnit) -> LoadedCamera:
    """The model and the path of a unit.

    Raises:
        AnimateDiffError: a file is damaged.
    """
    rendered, unet = len(plan.rendered), pipeline.unet
    model = load_camera_ctrl(unit.model).to(device=unet.device, dtype=unet.dtype)
    poses = unit.poses(plan.frames, plan.output.fps)[:rendered]
    return LoadedCamera(unit, model, poses, unit.strengths(plan.frames)[:rendered])


def camera_notes(controls: Sequence[Any], modules: Sequence[Any]) -> list[str]:
    """A sentence about a camera beside a motion module of another kind than that of its training.

    Args:
        controls: loaded units of a plan.
        modules: motion modules, the first of which follows the camera.
    """
    cameras = [each.model.name for each in controls if isinstance(each, LoadedCamera)]
    first = modules[0] if modules else None
    if not cameras or first is None or first.kind == V3.name:
        return []
    return [f"{cameras[0]} was trained with the v3 motion module, and {first.name} is of kind {first.kind}."]
