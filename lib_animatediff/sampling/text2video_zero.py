"""Text2Video-Zero: a clip from an image model alone, without a motion module and without training.

Frame 0 is denoised a little. What it is then, shifted a bit further for each frame, is noised anew: that is where the
other frames begin. From there all of them are denoised together, and in every self-attention each frame looks at
frame 0 instead of at itself, which keeps what is shown the same. So the whole image glides; nothing in it moves by
itself. Khachatryan and others, arXiv 2303.13439.

Everything here is arithmetic on latents, in coordinates that do not depend on the sampler: z = x / sqrt(abar), a clean
image plus sigma times unit noise, with sigma = sqrt((1 - abar) / abar). Hosts that sample so (k-diffusion's, Euler in
diffusers) hold z itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from motion_module import ClipError
from motion_module.schedules import TRAINING_STEPS

NAME = "Text2Video-Zero"

_SIDE = 512  # what the official code's flow is measured on, whatever the image's size
_OFFICIAL_SHIFT = 12.0

Shift = tuple[float, float]
"""Pixels to the right and down, of an image whose sides count as 512."""


@dataclass(frozen=True)
class Text2VideoZero:
    """How Text2Video-Zero makes a clip. `inject` takes one in place of a motion module.

    Attributes:
        motion: where each frame looks, further than the frame before: pixels to the right and down, of an image whose
            sides count as 512. So what is shown goes the other way, to the left and up.
        smoothing: weight of frame 0's background, shifted along, in the background of the other frames; 0 is none of
            it, the official code has 0.6 (which it calls 1 - 0.4).
        mask: ``h w``, 0 to 1, of any size: where the foreground is, which smoothing leaves alone.
        begin: training timestep at whose noise level frame 0 is shifted (T' in the paper).
        renoised: training timestep from which all frames are denoised together (T).

    Raises:
        ClipError: smoothing or a timestep is out of range, there is no mask to smooth by, or a number is not finite.
    """

    motion: Shift = (_OFFICIAL_SHIFT, _OFFICIAL_SHIFT)
    smoothing: float = 0.0
    mask: Tensor | None = None
    begin: int = 881
    renoised: int = 941

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.motion)):
            raise ClipError(f"The motion of {NAME} must be two numbers, not {self.motion}.")
        if not 0 <= self.begin <= self.renoised < TRAINING_STEPS:
            raise ClipError(
                f"{NAME} begins at a timestep from 0 to {TRAINING_STEPS - 1} and goes on from the same or a later one, "
                f"not at {self.begin} and {self.renoised}."
            )
        if not 0 <= self.smoothing <= 1:
            raise ClipError(f"The smoothing of {NAME} must be between 0 and 1, not {self.smoothing}.")
        if self.smoothing and self.mask is None:
            raise ClipError(
                f"{NAME} can smooth the background only if it is told where that is. Give a motion_mask that is white "
                "where the foreground is, or set zero_smoothing to 0."
            )

    @property
    def name(self) -> str:
        """What people know it by, as a motion module's name."""
        return NAME


def levels_of(alphas_cumprod: Tensor, method: Text2VideoZero) -> tuple[float, float]:
    """The noise levels (sigmas) at which frame 0 is shifted, and from which all frames are denoised.

    Args:
        alphas_cumprod: ``(steps,)``, the checkpoint's own.
    """
    sigmas = sigmas_of(alphas_cumprod)
    return float(sigmas[method.begin]), float(sigmas[method.renoised])


def sigmas_of(alphas_cumprod: Tensor) -> Tensor:
    """Noise in units of the clean image, for each share of it that is left; infinite where none is."""
    left = alphas_cumprod.detach().cpu().double()  # a table; MPS has no such numbers
    return ((1 - left) / left).sqrt()


def warp(latents: Tensor, motion: Shift | Sequence[Shift]) -> Tensor:
    """Latents looked at further right and down, so that what they show goes left and up; the rest is mirrored.

    Each cell takes the nearest one, which keeps noise what it was. The numbers are those of the official code, but
    where two cells are equally near: there all of the image goes the same way.

    Args:
        latents: ``n c h w``.
        motion: one shift, or one for each row.

    Returns:
        A new tensor like ``latents``.
    """
    shifts = [motion] * len(latents) if _is_one(motion) else motion
    return torch.stack([_warped(row, *shift) for row, shift in zip(latents, shifts, strict=True)])  # type: ignore[misc]


def motion_field(
    first: Tensor, own: Tensor, noise: Tensor, sigma_0: float, sigma_1: float, method: Text2VideoZero
) -> Tensor:
    """Where the frames of clips begin to be denoised together.

    Frame 0 is its ``own``. Frame k is ``first`` shifted by k times the motion, with noise of its own up to ``sigma_1``:
    the paper's x^k = sqrt(P) w^k + sqrt(1 - P) eps^k with P = abar(sigma_1) / abar(sigma_0), divided by sqrt(abar).

    Args:
        first: ``b c h w``, frame 0 of each clip at ``sigma_0``.
        own: ``b c h w``, frame 0 of each clip at ``sigma_1``.
        noise: ``b f c h w``, unit noise of each frame; frame 0's is not used.
        sigma_0, sigma_1: noise levels, the first at most the second; if they are the same, no noise is added.

    Returns:
        ``(b f) c h w`` at ``sigma_1``, in the dtype and on the device of ``noise``.
    """
    clips, frames = noise.shape[:2]
    added = math.sqrt(max(sigma_1**2 - sigma_0**2, 0.0))
    shifts = [(method.motion[0] * frame, method.motion[1] * frame) for frame in range(frames)]
    exact = torch.promote_types(noise.dtype, torch.float32)
    made = torch.empty_like(noise)
    for clip in range(clips):
        moved = warp(first[clip].to(noise).expand_as(noise[clip]), shifts).to(exact) + added * noise[clip].to(exact)
        moved[0] = own[clip]
        made[clip] = _smoothed(moved, shifts, method)
    return made.flatten(0, 1)


def _smoothed(frames: Tensor, shifts: Sequence[Shift], method: Text2VideoZero) -> Tensor:
    """Frames of one clip, ``f c h w``: some of frame 0 where both it, shifted along, and they show the background."""
    if not method.smoothing or method.mask is None:
        return frames
    mask = method.mask[None, None].float().cpu()  # not every device can scale down well
    fitted = F.interpolate(mask, size=frames.shape[-2:], mode="bilinear", antialias=True).to(frames)
    background = (1 - fitted) * (1 - warp(fitted.expand(len(frames), -1, -1, -1), shifts))
    return frames.lerp(warp(frames[:1].expand_as(frames), shifts), method.smoothing * background)


def _is_one(motion: Shift | Sequence[Shift]) -> bool:
    return all(isinstance(number, (int, float)) for number in motion)


def _warped(row: Tensor, right: float, down: float) -> Tensor:
    lines, columns = _sources(row.shape[-2], down), _sources(row.shape[-1], right)
    return row[..., lines.to(row.device), :][..., columns.to(row.device)]


def _sources(cells: int, pixels: float) -> Tensor:
    """From which cell each cell of a side takes its value.

    The official code puts pixel p of a grid of 512 at 2 p / 512 - 1, scales that grid down to the latents, and hands
    it to `grid_sample`, for which pixel p is at (2 p + 1) / 512 - 1: half a pixel less than meant. Kept, since it
    decides where shifts of a cell and a half, as its defaults are, go.
    """
    shift = math.ceil((pixels - 0.5) * cells / _SIDE - 0.5) if pixels else 0
    place = (torch.arange(cells) + shift) % (2 * cells)
    return torch.where(place < cells, place, 2 * cells - 1 - place)
