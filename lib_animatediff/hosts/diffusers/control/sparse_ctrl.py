"""SparseCtrl encoders of a plan as components for a clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lib_animatediff.engine.components.sparse_ctrl import (
    GivenFrames,
    ResidualCache,
    SparseCtrlComponent,
    room_for_cache,
)
from lib_animatediff.request.control.memory import SPARSE
from lib_animatediff.request.control.sparse_images import drawings_of
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.source import source_frames
from motion_module.sparse_ctrl.load import load_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB, SparseCtrl

from .images import latents_of_images
from .memory import about_memory


@dataclass(frozen=True)
class LoadedSparseCtrl:
    """A SparseCtrl encoder on the device, for passes of any size.

    Attributes:
        unit: its images and strengths.
        encoder: in the dtype of the UNet.
        frames: rendered frames of the clip.
        cache: keeps results for further runs of the sampler; None: each run differs.
    """

    unit: ControlUnit
    encoder: SparseCtrl
    pipeline: Any
    frames: int
    strengths: Sequence[float]
    cache: ResidualCache | None

    def component(self, size: Size) -> SparseCtrlComponent:
        """A component of the UNet for one pass, of this width and height in pixels.

        Raises:
            AnimateDiffError: an image cannot be read.
        """
        keys = [key for key in self.unit.keys if key.frame < self.frames]
        images = [image for key in keys for image in source_frames(key.source(CROP), size, 1)]
        is_rgb = self.encoder.kind == RGB
        conditions = latents_of_images(self.pipeline, images, size) if is_rgb else drawings_of(self.unit, images)
        given = GivenFrames([key.frame for key in keys], conditions)
        part = float(self.unit.start), float(self.unit.end)
        return SparseCtrlComponent(self.encoder, given, self.strengths, *part, self.unit.without_key, self.cache)

    def memory(self, plan: ClipPlan, size: Size) -> str:
        """A sentence about the memory that it needs at this width and height in pixels."""
        return about_memory(SPARSE, self.unit.model.name, self.encoder, plan, size)


def load_sparse_ctrl_unit(
    pipeline: Any, plan: ClipPlan, unit: ControlUnit, say: Callable[[str], None]
) -> LoadedSparseCtrl | None:
    """The encoder of a unit on the device; None if none of its images is at a rendered frame.

    Args:
        say: called with a line if none is.

    Raises:
        MotionFileError: the file is damaged.
    """
    rendered = len(plan.rendered)
    if unit.keys[0].frame >= rendered:
        say(f"{unit.model.name} has no image at a rendered frame, so that it does not act.")
        return None
    encoder = load_sparse_ctrl(unit.model).to(device=pipeline.unet.device, dtype=pipeline.unet.dtype)
    is_repeated = max(Counter(plan.runs).values()) > 1
    cache = ResidualCache(room_for_cache(pipeline.unet.device)) if is_repeated else None
    return LoadedSparseCtrl(unit, encoder, pipeline, rendered, unit.strengths(plan.frames)[:rendered], cache)
