"""The control models of a plan: checked before anything is loaded, and as components for a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_animatediff.engine.components.control import ControlComponent, FrameHints
from lib_animatediff.request.camera.unit import CameraUnit
from lib_animatediff.request.control.sparse_images import check_kinds, sparse_ctrl_of
from lib_animatediff.request.control.unit import HOLD, LOOP, STRETCH, ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.preprocess import PREPROCESSORS, check_preprocessor
from lib_animatediff.video.source import count_frames, examine, over_white, source_frames
from motion_module.limits import VIDEO_FRAMES, parse_json, read_limited

from .camera import LoadedCamera, check_cameras, load_camera
from .files import read_control_file
from .i2v import LoadedI2V, check_i2v, is_i2v, load_i2v
from .networks import LoadedNetwork, load_network, needs_grey
from .pia import LoadedPia, check_pia, is_pia, load_pia
from .sparse_ctrl import LoadedSparseCtrl, load_sparse_ctrl_unit

if TYPE_CHECKING:
    from PIL.Image import Image

_WITH_FEWER = {
    HOLD: "the last one stays to the end",
    LOOP: "they start again",
    STRETCH: "each one serves several frames",
}


def check_controls(plan: ClipPlan, unet: Mapping[str, Any] | Path) -> None:
    """Check the control models of a plan, and read their images once, before anything is loaded.

    Args:
        unet: configuration of the checkpoint's UNet, or the folder of the configurations; `load_controls` compares the
            widths again, so that a folder without the UNet's is no error here.

    Raises:
        AnimateDiffError: a file is missing or damaged, is no control model, or was made for another base; there are
            too few images.
    """
    if not plan.controls:
        return
    config = _config_in(unet) if isinstance(unet, Path) else unet
    cameras = [unit for unit in plan.controls if isinstance(unit, CameraUnit)]
    units = [unit for unit in plan.controls if not isinstance(unit, CameraUnit)]
    check_cameras(cameras, plan, config)
    encoders = list(filter(None, map(sparse_ctrl_of, units)))
    check_kinds(encoders)
    for encoder in encoders:
        encoder.check(config)
    for unit in units:
        if any(encoder.unit is unit for encoder in encoders):
            continue
        if is_pia(unit):
            check_pia(unit, config)
            continue
        if is_i2v(unit):
            check_i2v(unit, config)
            continue
        file = read_control_file(unit.model)
        if config is not None:
            file.check_fits(config)
        check_preprocessor(unit.preprocessor)
        for key in unit.keys:
            examine(key.source(CROP), frames=1)
        unit.order(plan.frames, _count(unit, plan.frames))


@dataclass(frozen=True)
class LoadedUnit:
    """A control model of a plan on the device, for passes of any size.

    Attributes:
        unit: its images and weights.
        network: its network.
        order: the number of the image for each rendered frame.
        weights: one for each rendered frame.
    """

    unit: ControlUnit
    network: LoadedNetwork
    order: Sequence[int]
    weights: Sequence[float]

    def component(self, size: Size) -> ControlComponent:
        """A component of the UNet for one pass, of this width and height in pixels.

        Raises:
            AnimateDiffError: an image cannot be read.
        """
        hints = _hints(self.unit, self.order, size, is_grey=needs_grey(self.network))
        return ControlComponent(self.network, hints, self.weights, self.unit.start, self.unit.end)


Loaded = LoadedUnit | LoadedSparseCtrl | LoadedPia | LoadedI2V | LoadedCamera
"""A unit on the device, whose ``component(size)`` is for one pass."""


def load_controls(pipeline: Any, plan: ClipPlan, say: Callable[[str], None] = lambda _line: None) -> list[Loaded]:
    """The control models of a plan.

    Args:
        say: called with a line about each unit whose images are fewer than the frames, or that does not act.

    Raises:
        AnimateDiffError: a file is damaged or does not fit.
    """
    loaded: list[Loaded] = []
    for unit in plan.controls:
        if isinstance(unit, CameraUnit):
            loaded.append(load_camera(pipeline, plan, unit))
            continue
        if sparse_ctrl_of(unit) is not None:
            encoder = load_sparse_ctrl_unit(pipeline, plan, unit, say)
            loaded += [] if encoder is None else [encoder]
            continue
        if is_pia(unit):
            loaded.append(load_pia(pipeline, plan, unit))
            continue
        if is_i2v(unit):
            loaded.append(load_i2v(pipeline, plan, unit))
            continue
        file = read_control_file(unit.model)
        file.check_fits(pipeline.unet.config)
        network = load_network(file, pipeline.unet)
        count = _count(unit, plan.frames)
        if 1 < count < plan.frames and unit.source is not None:
            say(f"{unit.source.name} has {count} images for {plan.frames} frames: {_WITH_FEWER[unit.fill]}.")
        order, weights = unit.order(plan.frames, count), unit.weights(plan.frames)
        rendered = len(plan.rendered)
        loaded.append(LoadedUnit(unit, network, order[:rendered], weights[:rendered]))
    return loaded


def as_hints(images: Iterable[Image]) -> Tensor:
    """``n c H W`` with 8 bits, from images of one size, in colour or grey."""
    return torch.stack([levels_of(image).permute(2, 0, 1) for image in images])


def _config_in(folder: Path) -> Mapping[str, Any] | None:
    try:
        config = parse_json(read_limited(folder / "unet" / "config.json"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and {"block_out_channels", "cross_attention_dim"} <= set(config) else None


def _count(unit: ControlUnit, frames: int) -> int:
    """How many images the source of a unit has, counted as far as they matter; 0 for key images."""
    if unit.source is None:
        return 0
    return count_frames(unit.source, VIDEO_FRAMES if unit.fill == STRETCH else frames)


def _hints(unit: ControlUnit, order: Sequence[int], size: Size, *, is_grey: bool) -> FrameHints:
    """The hints of frames, of which each image is prepared once."""
    used = sorted(set(order))
    prepare = PREPROCESSORS[unit.preprocessor]
    images = (prepare(over_white(image)) for image in _images(unit, used, size))
    hints = as_hints(image.convert("L") if is_grey else image for image in images)
    return FrameHints(hints, [used.index(number) for number in order])


def _images(unit: ControlUnit, numbers: Sequence[int], size: Size) -> Iterable[Image]:
    if unit.source is None:
        for number in numbers:
            yield from source_frames(unit.keys[number].source(CROP), size, 1)
        return
    for number, image in enumerate(source_frames(unit.source, size, numbers[-1] + 1)):
        if number in numbers:
            yield image
