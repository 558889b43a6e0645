"""The world's pictures as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tools.village.draw import clip, still, truth
from tools.village.scene import CONCEPTS, FRAMES, Concept, Scene, scene

from .recipe import SIZE

CROP_JITTER = 10.0  # pixels


def frames(shown: Scene, size: int = SIZE) -> Tensor:
    """The frames of a scene, f c h w from 0 to 1."""
    return torch.from_numpy(clip(shown, size)).permute(0, 3, 1, 2).float() / 255


def picture(shown: Scene, frame: float, size: int = SIZE) -> Tensor:
    """One frame of a scene, c h w from 0 to 1."""
    return torch.from_numpy(still(shown, frame, size)).permute(2, 0, 1).float() / 255


def drawn(
    random: torch.Generator, styles: Sequence[str], count: int, concepts: Sequence[Concept] = CONCEPTS
) -> list[tuple[Scene, int]]:
    """Random scenes of some styles in equal parts, each with the number of one of its frames."""
    numbers = torch.randint(2**31, (count,), generator=random).tolist()
    first = int(torch.randint(len(styles), (1,), generator=random))
    return [
        (scene(number, 0, concepts, style=styles[(first + index) % len(styles)]), number % FRAMES)
        for index, number in enumerate(numbers)
    ]


def stills(shown: Sequence[tuple[Scene, int]]) -> Tensor:
    """The pictures of scenes and frames, n c h w."""
    return torch.stack([picture(*each) for each in shown])


def crops(shown: Sequence[tuple[Scene, int]], size: int, random: torch.Generator) -> Tensor:
    """Cut-outs around the subjects, n c size size, at whole latents' corners as the decoder will meet them."""
    found = []
    jitter = CROP_JITTER * (2 * torch.rand(len(shown), 2, generator=random) - 1)
    for (each, frame), shift in zip(shown, jitter.tolist(), strict=True):
        middle = truth(each, SIZE)[frame]
        left, top = (
            min(max(int(along + by) - size // 2, 0), SIZE - size) for along, by in zip(middle, shift, strict=True)
        )
        found.append(picture(each, frame)[:, top : top + size, left : left + size])
    return torch.stack(found)
