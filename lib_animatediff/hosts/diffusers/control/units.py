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
from lib_animatediff.video.source import examine, over_white
from motion_module.limits import parse_json, read_limited

from .camera import LoadedCamera, check_cameras, load_camera
from .files import read_control_file
from .i2v import LoadedI2V, check_i2v, is_i2v, load_i2v
from .images import count_images, mask_order, unit_images, unit_masks
from .ip_adapter import LoadedIpAdapter, check_ip_adapter, ip_adapter_of, load_ip_adapter
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
        adapter = ip_adapter_of(unit)  # which refuses an image encoder beside any other model
        if any(encoder.unit is unit for encoder in encoders):
            continue
        if is_pia(unit):
            check_pia(unit, config)
            continue
        if is_i2v(unit):
            check_i2v(unit, config)
            continue
        if adapter is not None:
            check_ip_adapter(unit, adapter, config, plan.frames)
            continue
        file = read_control_file(unit.model)
        if config is not None:
            file.check_fits(config)
        check_preprocessor(unit.preprocessor)
        for key in unit.keys:
            examine(key.source(CROP), frames=1)
        unit.order(plan.frames, count_images(unit, plan.frames))
        mask_order(unit, plan.frames)


@dataclass(frozen=True)
class LoadedUnit:
    """A control model of a plan on the device, for passes of any size.

    Attributes:
        unit: its images and weights.
        network: its network.
        order: the number of the image for each rendered frame.
        weights: one for each rendered frame.
        masks: the number of the mask for each rendered frame; empty without masks.
        frames: of the clip.
    """

    unit: ControlUnit
    network: LoadedNetwork
    order: Sequence[int]
    weights: Sequence[float]
    masks: Sequence[int]
    frames: int

    def component(self, size: Size) -> ControlComponent:
        """A component of the UNet for one pass, of this width and height in pixels.

        Raises:
            AnimateDiffError: an image cannot be read.
        """
        hints = _hints(self.unit, self.order, size, is_grey=needs_grey(self.network))
        masks = unit_masks(self.unit, self.masks, size)
        return ControlComponent(self.network, hints, self.weights, *self.unit.parts(self.frames), masks)


Loaded = LoadedUnit | LoadedSparseCtrl | LoadedPia | LoadedI2V | LoadedIpAdapter | LoadedCamera
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
        if adapter := ip_adapter_of(unit):
            say_fewer(unit, plan.frames, say)
            loaded.append(load_ip_adapter(pipeline, plan, unit, adapter))
            continue
        file = read_control_file(unit.model)
        file.check_fits(pipeline.unet.config)
        network = load_network(file, pipeline.unet)
        count = say_fewer(unit, plan.frames, say)
        order, weights = unit.order(plan.frames, count), unit.weights(plan.frames)
        rendered = len(plan.rendered)
        masks = mask_order(unit, plan.frames)[:rendered]
        loaded.append(LoadedUnit(unit, network, order[:rendered], weights[:rendered], masks, plan.frames))
    return loaded


def memory_notes(controls: Iterable[Loaded], plan: ClipPlan, size: Size) -> list[str]:
    """A sentence about the memory of each unit that images or a camera steer the clip with, at this size in pixels."""
    steering = (LoadedSparseCtrl, LoadedI2V, LoadedCamera)
    return [each.memory(plan, size) for each in controls if isinstance(each, steering)]


def say_fewer(unit: ControlUnit, frames: int, say: Callable[[str], None]) -> int:
    """How many images a unit has for a number of frames, with a line about them if they are fewer."""
    count = count_images(unit, frames)
    if 1 < count < frames and unit.source is not None:
        say(f"{unit.source.name} has {count} images for {frames} frames: {_WITH_FEWER[unit.fill]}.")
    return count


def as_hints(images: Iterable[Image]) -> Tensor:
    """``n c H W`` with 8 bits, from images of one size, in colour or grey."""
    return torch.stack([levels_of(image).permute(2, 0, 1) for image in images])


def _config_in(folder: Path) -> Mapping[str, Any] | None:
    try:
        config = parse_json(read_limited(folder / "unet" / "config.json"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and {"block_out_channels", "cross_attention_dim"} <= set(config) else None


def _hints(unit: ControlUnit, order: Sequence[int], size: Size, *, is_grey: bool) -> FrameHints:
    """The hints of frames, of which each image is prepared once."""
    used = sorted(set(order))
    prepare = PREPROCESSORS[unit.preprocessor]
    images = (prepare(over_white(image)) for image in unit_images(unit, used, size))
    hints = as_hints(image.convert("L") if is_grey else image for image in images)
    return FrameHints(hints, [used.index(number) for number in order])
