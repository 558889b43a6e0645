"""SparseCtrl encoders of a plan: what their files and images must be, and drawings as an encoder reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_animatediff.video.fitting import CROP
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.preprocess import NONE, PREPROCESSORS
from lib_animatediff.video.source import examine, source_frames
from motion_module import ClipError, IncompatibleModelError, MotionFileError
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.sparse_ctrl.load import EncoderFile, is_sparse_ctrl, read_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB, SCRIBBLE

from .unit import ControlUnit

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = 255
_COLOURED = 32  # levels between the channels of a pixel that is in colour
_MOST_COLOURED = 0.01  # of the pixels of a drawing, such as of a signature
_LIGHT, _MOST_LIGHT = 128, 0.5  # a drawing has white lines, so that most of it is dark


@dataclass(frozen=True)
class SparseCtrlUnit:
    """A SparseCtrl encoder of a plan, by its header.

    Attributes:
        unit: its images.
        file: its kind and widths.
    """

    unit: ControlUnit
    file: EncoderFile

    def check(self, config: Mapping[str, Any] | None) -> None:
        """Check the unit before anything is loaded.

        Args:
            config: of the checkpoint's UNet; None: unknown.

        Raises:
            IncompatibleModelError: the encoder was made for another base.
            ClipError: its images are not at frames, or it reads others.
        """
        layout = self.file.layout
        if config is not None and (list(layout.widths), layout.context) != (
            list(config["block_out_channels"]),
            config["cross_attention_dim"],
        ):
            raise IncompatibleModelError(
                f"{self.file.name} was not made for this checkpoint's base. SparseCtrl encoders exist for Stable "
                "Diffusion 1.5; choose a checkpoint of that base.",
                code="AD-Q20",
            )
        if self.unit.source is not None:
            raise ClipError(
                f"{self.file.name} is a SparseCtrl encoder, which reads images at single frames. Give key images "
                "instead of a source.",
                code="AD-Q21",
            )
        if self.unit.travels or self.unit.mask is not None:
            raise ClipError(
                f"{self.file.name} is a SparseCtrl encoder, which has one start and one end, and no masks. Give "
                "numbers, and let its strength change over the frames.",
                code="AD-Q28",
            )
        if layout.kind == RGB and self.unit.preprocessor != NONE:
            raise ClipError(
                f"{self.file.name} reads images as they are. Leave the preprocessor {self.unit.preprocessor} out.",
                code="AD-Q22",
            )
        for key in self.unit.keys:
            facts = examine(key.source(CROP), frames=1)
            if layout.kind == SCRIBBLE and self.unit.preprocessor == NONE:
                for image in source_frames(key.source(CROP), facts.size, 1):
                    check_drawing(key.path, image, self.file.name)


def sparse_ctrl_of(unit: ControlUnit) -> SparseCtrlUnit | None:
    """The unit, if its model is a SparseCtrl encoder; None for other models, and for files that cannot be read.

    Raises:
        MotionFileError: it is an encoder that is not complete.
    """
    try:
        is_encoder = is_sparse_ctrl(read_header(find_source(unit.model).weights).tensors)
    except MotionFileError:
        return None
    return SparseCtrlUnit(unit, read_sparse_ctrl(unit.model)) if is_encoder else None


def check_kinds(units: Sequence[SparseCtrlUnit]) -> None:
    """Refuse two encoders of one kind.

    Raises:
        ClipError: there are two.
    """
    for kind in (RGB, SCRIBBLE):
        same = [each.file.name for each in units if each.file.layout.kind == kind]
        if len(same) > 1:
            raise ClipError(
                f"{same[0]} and {same[1]} are SparseCtrl encoders of one kind ({kind}). Give one of each kind at most.",
                code="AD-Q23",
            )


def check_images(units: Iterable[ControlUnit]) -> None:
    """Check the images of the SparseCtrl encoders among units, whose checkpoint is not known.

    Raises:
        AnimateDiffError: an image cannot be read, or is none that the encoder reads.
    """
    for unit in units:
        if (encoder := sparse_ctrl_of(unit)) is not None:
            encoder.check(None)


def drawings_of(unit: ControlUnit, images: Iterable[Image]) -> Tensor:
    """Drawings as an encoder for scribbles reads them: ``n 3 H W``, RGB from 0 to 1."""
    prepare = PREPROCESSORS[unit.preprocessor]
    drawings = (prepare(over_black(image)).convert("RGB") for image in images)
    return torch.stack([levels_of(drawing).permute(2, 0, 1).float() / _WHITE for drawing in drawings])


def over_black(image: Image) -> Image:
    """A drawing without transparency: its lines on black."""
    from PIL import Image as PillowImage

    if image.mode != "RGBA":
        return image
    page = PillowImage.new("RGBA", image.size, "black")
    return PillowImage.alpha_composite(page, image).convert("RGB")


def check_drawing(path: Path, image: Image, encoder: str) -> None:
    """Check that an image is a drawing that an encoder for scribbles reads.

    Raises:
        ClipError: it is in colour, or has lines on a light page.
    """
    from PIL import ImageChops

    drawing = over_black(image).convert("RGB")
    red, green, blue = drawing.split()
    spread = ImageChops.lighter(ImageChops.difference(red, green), ImageChops.difference(green, blue))
    pixels = image.width * image.height
    coloured = sum(spread.histogram()[_COLOURED:]) / pixels
    light = sum(drawing.convert("L").histogram()[_LIGHT:]) / pixels
    if coloured > _MOST_COLOURED:
        raise ClipError(
            f"{path.name} is in colour, and {encoder} reads white lines on black. Give a drawing, or an encoder for "
            "images such as v3_sd15_sparsectrl_rgb.ckpt.",
            code="AD-Q24",
        )
    if light > _MOST_LIGHT:
        raise ClipError(
            f"{path.name} has lines on a light page, and {encoder} reads white lines on black. Invert the drawing.",
            code="AD-Q25",
        )
