"""PIA's image input in a UNet (arXiv 2312.13964): a given image, and how closely each frame follows it.

PIA widens the first convolution to nine channels. A convolution is linear, so what the five further channels add is a
constant for each frame, and a forward hook adds it to the output of the checkpoint's own convolution. PIA's motion
module is a `MotionComponent` of its own, which also folds the group norms over the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.host_tensor import HostTensor, Kept, copied
from lib_animatediff.engine.unet import UNetView
from motion_module import ClipError, IncompatibleModelError
from motion_module.image_input import CHANNELS, LATENT_CHANNELS


class PiaComponent:
    """The image input of a PIA model in a UNet.

    Args:
        name: for messages.
        weight: of the convolution for mask and image, ``c 5 3 3``, see `load_image_input`.
        image: the latent of the image, ``4 h w``, scaled as the UNet's.
        affinity: for each frame of the clip, how closely it follows the image, 0 to 1.

    Raises:
        ClipError: an affinity is out of range, or a shape is wrong.
    """

    frames_at_once: int | None = None

    def __init__(self, name: str, weight: Tensor, image: Tensor, affinity: Sequence[float]) -> None:
        if not affinity or not all(0 <= value <= 1 for value in affinity):
            raise ClipError(f"{name}: the affinity of each frame is a number from 0 to 1.", code="AD-Q42")
        if weight.shape[1:2] != (CHANNELS - LATENT_CHANNELS,) or image.dim() != 3 or len(image) != LATENT_CHANNELS:
            raise ClipError(
                f"{name} needs weights for {CHANNELS - LATENT_CHANNELS} channels and the latent of one image.",
                code="AD-Q43",
            )
        self.name = name
        self._weight = weight
        self._image = image
        self._affinity = HostTensor(list(affinity))
        self._parts: Kept[tuple[Tensor, Tensor]] = Kept(most=2)

    def acts_at(self, _progress: float) -> bool:
        """Whether it acts at a completed share of the sampling: always."""
        return True

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the hook on the first convolution.

        Raises:
            ClipError: the clip has another number of frames.
            IncompatibleModelError: the UNet is of another base, or an inpainting one.
        """
        if len(self._affinity) != call.clip_frames:
            raise ClipError(
                f"{self.name} has an affinity for {len(self._affinity)} frames, and the clip has {call.clip_frames}. "
                "Give one for each frame.",
                code="AD-Q44",
            )
        convolution = unet.first_convolution
        wanted = (len(self._weight), LATENT_CHANNELS)
        if (getattr(convolution, "out_channels", 0), getattr(convolution, "in_channels", 0)) != wanted:
            raise IncompatibleModelError(
                f"{self.name} was made for a UNet whose first convolution has {wanted[1]} channels in and {wanted[0]} "
                "out. Choose a Stable Diffusion 1.5 checkpoint that is not for inpainting.",
                code="AD-Q45",
            )
        undo.callback(convolution.register_forward_hook(ImageInputHook(self, call)).remove)
        undo.callback(self._parts.clear)

    def added(self, call: UNetCall, output: Tensor) -> Tensor:
        """What the mask and the image add to an output of the convolution, ``(k b f) c h w``.

        Raises:
            ClipError: the image has another size than the latents.
        """
        if self._image.shape[1:] != output.shape[2:]:
            raise ClipError(
                f"{self.name} is given an image of {tuple(self._image.shape[1:])} latents, and the clip has "
                f"{tuple(output.shape[2:])}. Prepare it for the size of the clip.",
                code="AD-Q46",
            )
        mask, image = self._parts.get_or((output.device, output.dtype), lambda: self._placed(output))
        affinity = self._affinity.on(output.device).to(output.dtype).view(-1, 1, 1, 1)
        return call.for_frames(affinity) * mask + image

    def _placed(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The output for a mask of ones, and that for the image, ``1 c h w`` each: the mask of a frame is constant."""
        weight, image = (copied(each, like.device).to(like.dtype) for each in (self._weight, self._image))
        ones = torch.ones_like(image[:1])
        return F.conv2d(ones[None], weight[:, :1], padding=1), F.conv2d(image[None], weight[:, 1:], padding=1)


class ImageInputHook:
    """Forward hook of the first convolution: adds what the mask and the image make of it."""

    def __init__(self, component: PiaComponent, call: UNetCall) -> None:
        self._component = component
        self._call = call

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output + self._component.added(self._call, output)
