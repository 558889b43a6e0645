"""AnimateLCM-I2V models of a plan: a control unit with one image, whose weights are the strengths of the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.request.control.memory import I2V
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.preprocess import NONE
from lib_animatediff.video.source import examine
from motion_module import ClipError
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.image_encoder.header import check_image_encoder, has_image_encoder
from motion_module.image_encoder.load import load_image_encoder
from motion_module.image_encoder.network import ImageEncoder

from .images import latents_of_images, unit_images
from .memory import about_memory


def is_i2v(unit: ControlUnit) -> bool:
    """Whether the model of a unit is an AnimateLCM-I2V model; False for files that cannot be read."""
    return has_image_encoder(unit.model)


def check_i2v(unit: ControlUnit, config: Mapping[str, Any] | None) -> None:
    """Check a unit with an AnimateLCM-I2V model before anything is loaded.

    Args:
        config: of the checkpoint's UNet; None: unknown.

    Raises:
        MotionFileError: weights of the encoder are missing.
        NetworkError: the model was made for another base.
        ClipError: there is not one image at frame 0, or a value has no effect.
    """
    name = unit.model.name
    widths = check_image_encoder(name, read_header(find_source(unit.model).weights))
    if config is not None and list(widths) != list(config["block_out_channels"]):
        raise NetworkError(
            f"{name} was not made for this checkpoint's base. AnimateLCM-I2V exists for Stable Diffusion 1.5; choose a "
            "checkpoint of that base.",
            code="AD-QB8",
        )
    if unit.source is not None or [key.frame for key in unit.keys] != [0]:
        raise ClipError(
            f"{name} is an AnimateLCM-I2V model, whose clip begins with one image. Give one key image, at frame 0.",
            code="AD-QB9",
        )
    if unit.preprocessor != NONE or (unit.start, unit.end) != (0, 1) or unit.mask is not None:
        raise ClipError(
            f"{name} is an AnimateLCM-I2V model, which sees its image at all steps. Leave preprocessor, start, end "
            "and mask out.",
            code="AD-QC1",
        )
    examine(unit.keys[0].source(CROP), frames=1)


@dataclass(frozen=True)
class LoadedI2V:
    """The image encoder of an AnimateLCM-I2V model, for passes of any size.

    Attributes:
        unit: its image.
        encoder: on the device and in the dtype of the UNet.
        strengths: one for each rendered frame.
    """

    unit: ControlUnit
    encoder: ImageEncoder
    pipeline: Any
    strengths: Sequence[float]

    def component(self, size: Size) -> ImageEncoderComponent:
        """A component of the UNet for one pass, of this width and height in pixels.

        Raises:
            AnimateDiffError: the image cannot be read.
        """
        (latent,) = latents_of_images(self.pipeline, list(unit_images(self.unit, [0], size)), size)
        return ImageEncoderComponent(self.encoder, latent, self.strengths, self.unit.drift)

    def memory(self, plan: ClipPlan, size: Size) -> str:
        """A sentence about the memory that the encoder needs at this width and height in pixels."""
        return about_memory(I2V, self.unit.model.name, self.encoder, plan, size)


def load_i2v(pipeline: Any, plan: ClipPlan, unit: ControlUnit) -> LoadedI2V:
    """The image encoder of a unit.

    Raises:
        MotionFileError: the file is damaged.
    """
    unet = pipeline.unet
    encoder = load_image_encoder(unit.model).to(device=unet.device, dtype=unet.dtype)
    return LoadedI2V(unit, encoder, pipeline, unit.strengths(plan.frames)[: len(plan.rendered)])
