"""SparseCtrl encoders of a plan: checked before anything is loaded, and as components for a clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_animatediff.engine.components.sparse_ctrl import CACHE_BYTES, GivenFrames, ResidualCache, SparseCtrlComponent
from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT
from lib_animatediff.hosts.diffusers.start.video import encode_frames
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.preprocess import NONE, PREPROCESSORS
from lib_animatediff.video.source import examine, source_frames
from motion_module import ClipError, MotionFileError
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.sparse_ctrl.load import EncoderFile, is_sparse_ctrl, load_sparse_ctrl, read_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB, SCRIBBLE, SparseCtrl

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = 255
_COLOURED = 32  # levels between the channels of a pixel that is in colour
_MOST_COLOURED = 0.01  # of the pixels of a drawing, such as of a signature
_SHARE_OF_FREE = 4
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
            NetworkError: the encoder was made for another base.
            ClipError: its images are not at frames, or it reads others.
        """
        layout = self.file.layout
        if config is not None and (list(layout.widths), layout.context) != (
            list(config["block_out_channels"]),
            config["cross_attention_dim"],
        ):
            raise NetworkError(
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
                code="AD-Q27",
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
                    _check_drawing(key.path, image, self.file.name)


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
        conditions = self._latents(images, size) if self.encoder.kind == RGB else self._drawings(images)
        given = GivenFrames([key.frame for key in keys], conditions)
        part = float(self.unit.start), float(self.unit.end)
        return SparseCtrlComponent(self.encoder, given, self.strengths, *part, self.unit.without_key, self.cache)

    def _latents(self, images: Sequence[Image], size: Size) -> Tensor:
        """The means of the VAE's distribution, where the official code draws from it, so that nothing is random."""
        sides = (pixels // PIXELS_PER_LATENT for pixels in reversed(size))
        unet, channels = self.pipeline.unet, self.pipeline.vae.config.latent_channels
        like = torch.empty(len(images), channels, *sides, dtype=unet.dtype, device=unet.device)
        return encode_frames(self.pipeline, images, like)

    def _drawings(self, images: Sequence[Image]) -> Tensor:
        prepare = PREPROCESSORS[self.unit.preprocessor]
        drawings = (prepare(_over_black(image)).convert("RGB") for image in images)
        return torch.stack([levels_of(drawing).permute(2, 0, 1).float() / _WHITE for drawing in drawings])


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
    cache = ResidualCache(_room_for_cache(pipeline.unet.device)) if is_repeated else None
    return LoadedSparseCtrl(unit, encoder, pipeline, rendered, unit.strengths(plan.frames)[:rendered], cache)


def _room_for_cache(device: torch.device) -> int:
    """Bytes for a cache: on a graphics card at most a quarter of what is free, so that the clip fits as without it."""
    if device.type != "cuda":
        return CACHE_BYTES
    free, _total = torch.cuda.mem_get_info(device)
    return min(CACHE_BYTES, free // _SHARE_OF_FREE)


def _over_black(image: Image) -> Image:
    """A drawing without transparency: its lines on black."""
    from PIL import Image as PillowImage

    if image.mode != "RGBA":
        return image
    page = PillowImage.new("RGBA", image.size, "black")
    return PillowImage.alpha_composite(page, image).convert("RGB")


def _check_drawing(path: Path, image: Image, encoder: str) -> None:
    from PIL import ImageChops

    drawing = _over_black(image).convert("RGB")
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
