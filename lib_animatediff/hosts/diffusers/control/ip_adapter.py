"""IP-Adapters of a plan: checked before anything is loaded, and as components for a clip."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.components.image_prompt import FrameTokens, ImagePromptComponent
from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.preprocess import NONE
from lib_animatediff.video.source import examine, over_white
from motion_module import ClipError, MotionFileError
from motion_module.files.load import read_checked
from motion_module.files.weights import FileHeader, read_header

from .image_encoder import EncoderFolder, load_encoder, read_encoder
from .images import count_images, mask_order, unit_images, unit_masks

_PROJECTION, _ATTENTION = "image_proj.", "ip_adapter."
_KEY = re.compile(r"ip_adapter\.(\d+)\.to_k_ip\.weight")
# How each kind turns an embedding into tokens, by a weight that it has alone; the first match counts. Those that read
# faces need the embedding of another network.
_FACE = "an IP-Adapter FaceID, which reads the embeddings of InsightFace"
_PLAIN, _FULL, _PLUS = "proj.weight", "proj.3.weight", "latents"
_KINDS = {
    _PLAIN: "",
    _FULL: "",
    "perceiver_resampler.proj_in.weight": _FACE,
    "norm.weight": _FACE,
    _PLUS: "",
}
_READS = {_PLAIN: "proj.weight", _FULL: "proj.0.weight", _PLUS: "proj_in.weight"}  # the first weight of each


@dataclass(frozen=True)
class AdapterFile:
    """An IP-Adapter by its header.

    Attributes:
        name: for messages.
        path: of the file.
        header: of the file.
        kind: the weight that tells how an embedding becomes tokens.
    """

    name: str
    path: Path
    header: FileHeader
    kind: str

    @property
    def in_parts(self) -> bool:
        """Whether it reads an image in parts."""
        return self.kind != _PLAIN

    @property
    def layers(self) -> list[tuple[str, str]]:
        """Names of the projections to keys and values of each cross-attention, in their order."""
        numbers = sorted(int(match[1]) for name in self.header.tensors if (match := _KEY.fullmatch(name)))
        return [(f"ip_adapter.{n}.to_k_ip.weight", f"ip_adapter.{n}.to_v_ip.weight") for n in numbers]

    def check_fits(self, unet: Mapping[str, Any]) -> None:
        """Check that the widths are those of a UNet.

        Args:
            unet: the configuration of a ``UNet2DConditionModel``.

        Raises:
            NetworkError: the adapter was made for another base.
        """
        shapes = [self.header.tensors[key].shape for key, _ in self.layers]
        widths, contexts = {shape[0] for shape in shapes}, {shape[-1] for shape in shapes}
        if not widths <= set(unet["block_out_channels"]) or contexts != {unet["cross_attention_dim"]}:
            raise NetworkError(
                f"{self.name} was not made for this checkpoint's base: it reads conditions of "
                f"{', '.join(map(str, sorted(contexts)))} numbers, and the checkpoint has conditions of "
                f"{unet['cross_attention_dim']}. Choose an IP-Adapter for Stable Diffusion 1.5.",
                code="AD-H68",
            )

    def check_encoder(self, encoder: EncoderFolder) -> None:
        """Check that an image encoder makes what the adapter reads.

        Raises:
            NetworkError: it makes something else.
        """
        reads = self.header.tensors[_PROJECTION + _READS[self.kind]].shape[-1]
        made = encoder.width if self.in_parts else encoder.projected
        if reads != made:
            raise NetworkError(
                f"{self.name} reads {reads} numbers of an image, and the image encoder {encoder.name} makes {made}. "
                "Give the encoder that the IP-Adapter was published with.",
                code="AD-H69",
            )


def ip_adapter_of(unit: ControlUnit) -> AdapterFile | None:
    """The model of a unit, if it is an IP-Adapter; None for other models, and for files that cannot be read.

    Raises:
        ClipError: another model is given an image encoder.
        NetworkError: it reads faces instead of images, or is not complete.
    """
    try:
        header = read_header(unit.model)
    except MotionFileError:
        return None
    name, tensors = unit.model.name, header.tensors
    if not any(key.startswith((_PROJECTION, _ATTENTION)) for key in tensors):
        if unit.encoder is not None:
            raise ClipError(
                f"{name} is no IP-Adapter, and the image encoder {unit.encoder.name} is for those. Leave it out.",
                code="AD-H70",
            )
        return None
    kind = next((kind for kind in _KINDS if _PROJECTION + kind in tensors), None)
    if kind is not None and _KINDS[kind]:
        raise NetworkError(f"{name} is {_KINDS[kind]}. Choose one that reads images.", code="AD-H71")
    file = AdapterFile(name, unit.model, header, kind or "")
    layers = file.layers
    if kind is None or not layers or any(value not in tensors for _, value in layers):
        raise NetworkError(
            f"{name} is an IP-Adapter that lacks weights, or of an unknown kind. Download it again.", code="AD-H72"
        )
    return file


def check_ip_adapter(unit: ControlUnit, file: AdapterFile, config: Mapping[str, Any] | None, frames: int) -> None:
    """Check a unit with an IP-Adapter before anything is loaded.

    Args:
        config: of the checkpoint's UNet; None: unknown.
        frames: of the clip.

    Raises:
        AnimateDiffError: there is no encoder, or it or the adapter is for another model; an image is missing.
    """
    if unit.encoder is None:
        raise ClipError(
            f"{file.name} is an IP-Adapter, which needs the image encoder that it was published with. Give its folder.",
            code="AD-H73",
        )
    if unit.preprocessor != NONE:
        raise ClipError(
            f"{file.name} reads images as they are. Leave the preprocessor {unit.preprocessor} out.", code="AD-H74"
        )
    if config is not None:
        file.check_fits(config)
    file.check_encoder(read_encoder(unit.encoder))
    for key in unit.keys:
        examine(key.source(CROP), frames=1)
    unit.mixtures(frames, count_images(unit, frames))
    mask_order(unit, frames)


@dataclass(frozen=True)
class LoadedIpAdapter:
    """An IP-Adapter with the tokens of its images, for passes of any size.

    Attributes:
        unit: its images and weights.
        layers: the projections of each cross-attention.
        images, nothing: tokens of each image, ``n t c``, and of none, ``t c``.
        mixtures: one for each rendered frame.
        strengths: one for each rendered frame.
        masks: the number of the mask for each rendered frame; empty without masks.
        frames: of the clip.
    """

    unit: ControlUnit
    layers: Sequence[tuple[Tensor, Tensor]]
    images: Tensor
    nothing: Tensor
    mixtures: Sequence[tuple[int, int, float]]
    strengths: Sequence[float]
    masks: Sequence[int]
    frames: int

    def component(self, size: Size) -> ImagePromptComponent:
        """A component of the UNet for one pass, of this width and height in pixels.

        Raises:
            AnimateDiffError: a mask cannot be read.
        """
        unit, tokens = self.unit, FrameTokens(self.images, self.nothing, self.mixtures)
        masks = unit_masks(unit, self.masks, size)
        parts = unit.parts(self.frames)
        return ImagePromptComponent(unit.model.name, self.layers, tokens, self.strengths, *parts, masks)


def load_ip_adapter(pipeline: Any, plan: ClipPlan, unit: ControlUnit, file: AdapterFile) -> LoadedIpAdapter:
    """The adapter of a unit. The image encoder is in memory until its images are encoded.

    Raises:
        AnimateDiffError: a file is damaged, or an image cannot be read.
    """
    assert unit.encoder is not None
    unet, rendered = pipeline.unet, len(plan.rendered)
    file.check_fits(unet.config)
    mixtures = unit.mixtures(plan.frames, count_images(unit, plan.frames))[:rendered]
    used = sorted({number for first, second, _ in mixtures for number in (first, second)})
    encoder = load_encoder(read_encoder(unit.encoder), unet.device, unet.dtype)
    images = [over_white(image) for image in unit_images(unit, used, (encoder.side, encoder.side))]
    made, nothing = encoder.embed(images, in_parts=file.in_parts)
    del encoder  # it is larger than the adapter
    project, layers = load_layers(file, unet)
    with torch.no_grad():
        tokens, none = project(made), project(nothing)[0]
    numbered = [(used.index(first), used.index(second), share) for first, second, share in mixtures]
    strengths, masks = unit.strengths(plan.frames)[:rendered], mask_order(unit, plan.frames)[:rendered]
    return LoadedIpAdapter(unit, layers, tokens, none, numbered, strengths, masks, plan.frames)


def load_layers(file: AdapterFile, unet: Any) -> tuple[Callable[[Tensor], Tensor], list[tuple[Tensor, Tensor]]]:
    """What makes tokens of embeddings, and the projections to keys and values, in the dtype of a UNet.

    Args:
        unet: diffusers' ``UNet2DConditionModel``.

    Raises:
        MotionFileError: the file is damaged.
        NetworkError: weights are missing.
    """
    names = [name for name in file.header.tensors if name.startswith((_PROJECTION, _ATTENTION))]
    tensors = read_checked(file.path, file.header, names)
    own = {name.removeprefix(_PROJECTION): each for name, each in tensors.items() if name.startswith(_PROJECTION)}
    try:
        project = unet._convert_ip_adapter_image_proj_to_diffusers(own, low_cpu_mem_usage=False)
    except Exception as error:  # diffusers raises errors of any type
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise NetworkError(
            f"{file.name} could not be used as an IP-Adapter: {reason:.200}. Check that it is complete.", code="AD-H75"
        ) from error
    project = project.to(device=unet.device, dtype=unet.dtype).eval().requires_grad_(False)
    on_device = {
        name: each.to(device=unet.device, dtype=unet.dtype)
        for name, each in tensors.items()
        if name.startswith(_ATTENTION)
    }
    return project, [(on_device[key], on_device[value]) for key, value in file.layers]
