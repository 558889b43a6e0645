"""The models of a request that images and a camera steer: their files, their images in each pass, their components.

The images are encoded by the request's own VAE, on the WebUI's path. A pass of hires fix has images in its own size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_animatediff.engine.components.base import Component
from lib_animatediff.engine.components.camera_ctrl import CameraCtrlComponent
from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.engine.components.pia import PiaComponent
from lib_animatediff.engine.components.sparse_ctrl import (
    GivenFrames,
    ResidualCache,
    SparseCtrlComponent,
    room_for_cache,
)
from lib_animatediff.hosts.webui.catalog.encoders import EncoderCache
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.denoiser import encoded
from lib_animatediff.request.camera.unit import CameraUnit
from lib_animatediff.request.control.sparse_images import drawings_of
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, STEP, Size
from lib_animatediff.video.source import over_white, source_frames
from motion_module.camera_ctrl.load import load_camera_ctrl
from motion_module.camera_ctrl.network import CameraCtrl
from motion_module.image_encoder.header import has_image_encoder
from motion_module.image_encoder.load import load_image_encoder
from motion_module.image_encoder.network import ImageEncoder
from motion_module.image_input import has_image_input, load_image_input
from motion_module.sparse_ctrl.network import RGB, SparseCtrl

if TYPE_CHECKING:
    from PIL.Image import Image


class GuidedClip:
    """The models of one request that carry images to other frames, and its camera; nothing happens without any.

    Attributes:
        notes: about encoders that do not act.
    """

    def __init__(self, plan: ClipPlan, encoders: EncoderCache) -> None:
        self.notes: list[Note] = []
        self._plan = plan
        self._encoders = encoders
        self._given: dict[tuple[ControlUnit, Size], GivenFrames] = {}
        self._images: dict[tuple[ControlUnit, Size], Tensor] = {}
        self._inputs: dict[ControlUnit, Tensor] = {}  # the weights of PIA models for their images
        self._loaded: list[tuple[ControlUnit, SparseCtrl]] = []
        self._begun: list[tuple[ControlUnit, ImageEncoder]] = []
        self._cameras: list[tuple[CameraUnit, CameraCtrl]] = []
        self._cache: ResidualCache | None = None

    @property
    def keeps_residuals(self) -> bool:
        """Whether residuals of encoders are kept for further runs of the sampler, known by their timesteps."""
        return self._cache is not None

    def load(self, p: Any) -> None:
        """Load the files, or take them from the cache, after the request's checkpoint has been loaded.

        Raises:
            MotionFileError: a file is damaged, or was deleted.
        """
        self.notes, self._loaded, self._begun, self._cameras = [], [], [], []
        for unit in self._plan.controls:
            if isinstance(unit, CameraUnit):
                self._cameras.append((unit, self._encoders.load_by(load_camera_ctrl, unit.model)))
            elif unit in self._inputs:
                continue
            elif has_image_encoder(unit.model):
                self._begun.append((unit, self._encoders.load_by(load_image_encoder, unit.model)))
            elif has_image_input(unit.model):
                self._inputs[unit] = load_image_input(unit.model)
            elif unit.keys[0].frame < len(self._plan.rendered):
                self._loaded.append((unit, self._encoders.load(unit.model)))
            else:
                self.notes.append(Note(unit.model.name, "has no image at a rendered frame, so that it does not act."))
        if self._loaded and self._cache is None and self._is_repeated(p):
            self._cache = ResidualCache(room_for_cache(a1111.device()))

    @torch.no_grad()
    def components(self, p: Any, *, is_second_pass: bool) -> list[Component]:
        """The components of a pass, whose images are encoded with the checkpoint of ``p``.

        Raises:
            AnimateDiffError: an image cannot be read.
        """
        size = _second_size(p) if is_second_pass else _size(p)
        frames = len(self._plan.rendered)
        found: list[Component] = []
        for unit, encoder in self._loaded:
            given = self._given.get((unit, size))
            if given is None:
                given = self._given[unit, size] = self._given_frames(p, unit, encoder, size)
            strengths = unit.strengths(self._plan.frames)[:frames]
            part = float(unit.start), float(unit.end)
            found.append(SparseCtrlComponent(encoder, given, strengths, *part, unit.without_key, self._cache))
        for unit, weight in self._inputs.items():
            affinity = unit.strengths(self._plan.frames)[:frames]
            found.append(PiaComponent(unit.model.name, weight, self._image(p, unit, size), affinity))
        for unit, begun in self._begun:
            strengths = unit.strengths(self._plan.frames)[:frames]
            found.append(ImageEncoderComponent(begun, self._image(p, unit, size), strengths, unit.drift))
        return [*found, *(self._camera(unit, model) for unit, model in self._cameras)]

    def _camera(self, unit: CameraUnit, model: CameraCtrl) -> CameraCtrlComponent:
        plan = self._plan
        poses, strengths = unit.poses(plan.frames, plan.output.fps), unit.strengths(plan.frames)
        frames = len(plan.rendered)
        return CameraCtrlComponent(model, poses[:frames], strengths[:frames], unit.start, unit.end)

    def _image(self, p: Any, unit: ControlUnit, size: Size) -> Tensor:
        """The latent of a unit's only image, ``4 h w``."""
        image = self._images.get((unit, size))
        if image is None:
            image = self._images[unit, size] = _latents(p, _images(unit, frames=None, size=size))[0]
        return image

    def _given_frames(self, p: Any, unit: ControlUnit, encoder: SparseCtrl, size: Size) -> GivenFrames:
        images = _images(unit, len(self._plan.rendered), size)
        conditions = _latents(p, images) if encoder.kind == RGB else drawings_of(unit, images)
        return GivenFrames([key.frame for key in unit.keys][: len(images)], conditions)

    def _is_repeated(self, p: Any) -> bool:
        """Whether the same timesteps and texts come again: in FreeInit, or for further clips of a request."""
        return max(Counter(self._plan.runs_of(int(p.steps))).values()) > 1 or int(p.n_iter) > 1


def _images(unit: ControlUnit, frames: int | None, size: Size) -> list[Image]:
    """The images of a unit at the first frames of the clip, or all of them."""
    keys = [key for key in unit.keys if frames is None or key.frame < frames]
    return [image for key in keys for image in source_frames(key.source(CROP), size, 1)]


def _latents(p: Any, images: Sequence[Image]) -> Tensor:
    """The means of the VAE's distribution, so that nothing is random: ``n 4 h w``."""
    with a1111.encoding_means():
        return torch.cat([encoded(over_white(image), p.sd_model) for image in images])


def _size(p: Any) -> Size:
    """Width and height of the first pass."""
    return int(p.width) // STEP * STEP, int(p.height) // STEP * STEP


def _second_size(p: Any) -> Size:
    """Width and height of the second pass of hires fix, which cuts off what does not fit."""
    cut_x, cut_y = getattr(p, "truncate_x", 0), getattr(p, "truncate_y", 0)  # in latents
    return (int(p.hr_upscale_to_x) // STEP - cut_x) * STEP, (int(p.hr_upscale_to_y) // STEP - cut_y) * STEP
