"""Text2Video-Zero: clips from an image model without a motion module or training (arXiv 2303.13439).

Frame 0 is denoised for a few steps. The result, shifted further for each frame, gets new noise and becomes the starting
point of the other frames. Then all frames are denoised together, and in every self-attention each frame attends to
frame 0 instead of itself, which keeps the content consistent. The image moves as a whole; nothing moves within it.

The functions work on latents in coordinates independent of the sampler: z = x / sqrt(abar), which is the clean image
plus sigma times unit noise, with sigma = sqrt((1 - abar) / abar). Some samplers use z itself (k-diffusion, Euler).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lib_animatediff.engine.components.cross_frame import CrossFrameAttention
from motion_module import ClipError
from motion_module.schedules import TRAINING_STEPS

NAME = "Text2Video-Zero"

_SIDE = 512  # pixels: reference size of the official code's flow, whatever the image size
_OFFICIAL_SHIFT = 12.0

Shift = tuple[float, float]
"""Shift to the right and down, in pixels of an image with sides of 512."""


@dataclass(frozen=True)
class Text2VideoZero:
    """Parameters of Text2Video-Zero. `inject` accepts it in place of a motion module.

    Attributes:
        motion: shift of each frame's viewpoint relative to the previous frame, to the right and down, in pixels of an
            image with sides of 512. The content moves in the opposite direction.
        smoothing: weight of frame 0's shifted background in the background of the other frames, 0 to 1; the official
            code uses 0.6 (written as 1 - 0.4).
        mask: foreground, which is not smoothed: ``h w``, 0 to 1, of any size.
        begin: training timestep whose noise level frame 0 is shifted at (T' in the paper).
        renoised: training timestep from which all frames are denoised together (T).

    Raises:
        ClipError: a value is out of range or not finite, or smoothing lacks a mask.
    """

    motion: Shift = (_OFFICIAL_SHIFT, _OFFICIAL_SHIFT)
    smoothing: float = 0.0
    mask: Tensor | None = None
    begin: int = 881
    renoised: int = 941

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.motion)):
            raise ClipError(f"The motion of {NAME} must be two finite numbers, not {self.motion}.", code="AD-S05")
        if not 0 <= self.begin <= self.renoised < TRAINING_STEPS:
            raise ClipError(
                f"The timesteps of {NAME} must be from 0 to {TRAINING_STEPS - 1} and in ascending order, "
                f"not {self.begin} and {self.renoised}.",
                code="AD-S06",
            )
        if not 0 <= self.smoothing <= 1:
            raise ClipError(f"The smoothing of {NAME} must be between 0 and 1, not {self.smoothing}.", code="AD-S07")
        if self.smoothing and self.mask is None:
            raise ClipError(
                f"{NAME} needs a mask to smooth the background. Give a mask that is white on the foreground, "
                "or set the smoothing to 0.",
                code="AD-S08",
            )

    @property
    def name(self) -> str:
        """Display name, like that of a motion module."""
        return NAME

    def component(self) -> CrossFrameAttention:
        """The component that holds the clip together in a UNet."""
        return CrossFrameAttention(NAME)


def levels_of(alphas_cumprod: Tensor, method: Text2VideoZero) -> tuple[float, float]:
    """Noise levels (sigmas) at which frame 0 is shifted, and from which all frames are denoised together.

    Args:
        alphas_cumprod: the checkpoint's own schedule, ``(steps,)``.
    """
    sigmas = sigmas_of(alphas_cumprod)
    return float(sigmas[method.begin]), float(sigmas[method.renoised])


def sigmas_of(alphas_cumprod: Tensor) -> Tensor:
    """Sigma for each value of ``alphas_cumprod``: noise relative to the clean image, infinite where the value is 0."""
    left = alphas_cumprod.detach().cpu().double()  # MPS has no float64
    return ((1 - left) / left).sqrt()


def warp(latents: Tensor, motion: Shift | Sequence[Shift]) -> Tensor:
    """Shift the viewpoint of latents to the right and down; edges are mirrored.

    Sampling is nearest-neighbour, which preserves the statistics of noise. Results equal those of the official code,
    except that ties between two cells are resolved in the same direction everywhere.

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
    """Latents from which the frames of clips are denoised together.

    Frame 0 is ``own``. Frame k is ``first`` shifted by k times the motion, plus independent noise up to ``sigma_1``:
    the paper's x^k = sqrt(P) w^k + sqrt(1 - P) eps^k with P = abar(sigma_1) / abar(sigma_0), divided by sqrt(abar).
    Args:
        first: frame 0 of each clip at ``sigma_0``, ``b c h w``.
        own: frame 0 of each clip at ``sigma_1``, ``b c h w``.
        noise: unit noise of each frame, ``b f c h w``; frame 0's is not used.
        sigma_0, sigma_1: noise levels in ascending order; if they are equal, no noise is added.

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
    """Blend shifted frame 0 into the frames of one clip, ``f c h w``, where both show the background."""
    if not method.smoothing or method.mask is None:
        return frames
    mask = method.mask[None, None].float().cpu()  # antialiased resizing is not supported on every device
    fitted = F.interpolate(mask, size=frames.shape[-2:], mode="bilinear", antialias=True).to(frames)
    background = (1 - fitted) * (1 - warp(fitted.expand(len(frames), -1, -1, -1), shifts))
    return frames.lerp(warp(frames[:1].expand_as(frames), shifts), method.smoothing * background)


def _is_one(motion: Shift | Sequence[Shift]) -> bool:
    return all(isinstance(number, (int, float)) for number in motion)


def _warped(row: Tensor, right: float, down: float) -> Tensor:
    lines, columns = _sources(row.shape[-2], down), _sources(row.shape[-1], right)
    return row[..., lines.to(row.device), :][..., columns.to(row.device)]


def _sources(cells: int, pixels: float) -> Tensor:
    """Source index for each cell along one side.

    The official code places pixel p of a grid of 512 at 2 p / 512 - 1, resizes that grid to the latents, and passes it
    to `grid_sample`, which expects pixel p at (2 p + 1) / 512 - 1: a shift of half a pixel. This is reproduced, because
    it decides the rounding of shifts by one and a half cells, the defaults.
    """
    shift = math.ceil((pixels - 0.5) * cells / _SIDE - 0.5) if pixels else 0
    place = (torch.arange(cells) + shift) % (2 * cells)
    return torch.where(place < cells, place, 2 * cells - 1 - place)
