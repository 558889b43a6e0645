"""PIA models of a plan: a control unit with one image, whose weights are the affinities of the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lib_animatediff.engine.components.pia import PiaComponent
from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.preprocess import NONE
from lib_animatediff.video.source import examine
from motion_module import ClipError
from motion_module.image_input import LATENT_CHANNELS, has_image_input, image_input_width, load_image_input

from .images import latents_of_images, unit_images


def is_pia(unit: ControlUnit) -> bool:
    """Whether the model of a unit is a PIA model; False for files that cannot be read."""
    return has_image_input(unit.model)


def check_pia(unit: ControlUnit, config: Mapping[str, Any] | None) -> None:
    """Check a unit with a PIA model before anything is loaded.

    Args:
        config: of the checkpoint's UNet; None: unknown.

    Raises:
        NetworkError: the checkpoint is for inpainting, or of another base than the model.
        ClipError: there is not one image at a frame, or a value has no effect.
    """
    name = unit.model.name
    if unit.source is not None or len(unit.keys) != 1:
        raise ClipError(f"{name} is a PIA model, which takes one image at a frame. Give one key image.", code="AD-Q50")
    if unit.preprocessor != NONE or (unit.start, unit.end) != (0, 1) or unit.mask is not None:
        raise ClipError(
            f"{name} is a PIA model, which sees its image at all steps. Leave preprocessor, start, end and mask out.",
            code="AD-Q51",
        )
    if config is not None and config.get("in_channels", LATENT_CHANNELS) != LATENT_CHANNELS:
        raise NetworkError(
            f"{name} is a PIA model, and the checkpoint is for inpainting. Choose a plain checkpoint.", code="AD-Q52"
        )
    if config is not None and image_input_width(unit.model) != config["block_out_channels"][0]:
        raise NetworkError(
            f"{name} was not made for this checkpoint's base. PIA exists for Stable Diffusion 1.5; choose a checkpoint "
            "of that base.",
            code="AD-Q54",
        )
    examine(unit.keys[0].source(CROP), frames=1)


@dataclass(frozen=True)
class LoadedPia:
    """The image input of a PIA model, for passes of any size.

    Attributes:
        unit: its image.
        weight: of the convolution for mask and image.
        affinity: one for each rendered frame.
    """

    unit: ControlUnit
    weight: Tensor
    pipeline: Any
    affinity: Sequence[float]

    def component(self, size: Size) -> PiaComponent:
        """A component of the UNet for one pass, of this width and height in pixels.

        Raises:
            AnimateDiffError: the image cannot be read.
        """
        (latent,) = latents_of_images(self.pipeline, list(unit_images(self.unit, [0], size)), size)
        return PiaComponent(self.unit.model.name, self.weight, latent, self.affinity)


def load_pia(pipeline: Any, plan: ClipPlan, unit: ControlUnit) -> LoadedPia:
    """The image input of a unit.

    Raises:
        MotionFileError: the file is damaged.
    """
    affinity = unit.strengths(plan.frames)[: len(plan.rendered)]
    return LoadedPia(unit, load_image_input(unit.model), pipeline, affinity)
