"""The training clips as latents, encoded once: what the base model and the motion module learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .loop import load, replacing
from .vae import Vae
from .world import CONCEPTS, FRAMES, TRAINED, Concept, Scene, clip, scene

CLIPS_AT_ONCE = 2
SAVE_EVERY = 64  # clips


@dataclass(frozen=True)
class Clips:
    """Clips with what their captions say.

    Attributes:
        latents: n f c h w, as the UNet sees them.
        concepts: number of each clip's concept in `CONCEPTS`, n.
    """

    latents: Tensor
    concepts: Tensor


def scenes(count: int, seed: int, style: str, concepts: Sequence[Concept] = TRAINED) -> list[Scene]:
    """The training scenes of a style."""
    return [scene(seed, number, style, concepts) for number in range(count)]


def numbers(shown: Sequence[Scene]) -> Tensor:
    """The number of each scene's concept."""
    return torch.tensor([CONCEPTS.index(each.concept) for each in shown])


@torch.no_grad()
def encode(vae: Vae, shown: Sequence[Scene], bfloat16: bool = False) -> Tensor:
    """The clips of scenes as latents, n f c h w."""
    frames = torch.cat([clip(each) for each in shown])
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        latents = vae.encode(frames)
    return latents.float().view(len(shown), FRAMES, *latents.shape[1:])


def encode_all(
    vae: Vae, shown: Sequence[Scene], state: Path, bfloat16: bool, until: int | None = None
) -> Tensor | None:
    """Encode many clips, going on from a state; None if stopped before clip `until`."""
    done = torch.load(state, weights_only=True) if state.exists() else []
    stop = len(shown) if until is None else min(until, len(shown))
    first = CLIPS_AT_ONCE * len(done)
    for start in tqdm(range(first, stop, CLIPS_AT_ONCE), desc="latents", disable=None):
        done.append(encode(vae, shown[start : start + CLIPS_AT_ONCE], bfloat16))
        if (start + CLIPS_AT_ONCE) % SAVE_EVERY == 0 or start + CLIPS_AT_ONCE >= stop:
            with replacing(state) as path:
                torch.save(done, path)
    return torch.cat(done) if stop == len(shown) else None


def load_clips(path: Path) -> Clips:
    """Clips from a stage's result."""
    tensors, _ = load(path)
    return Clips(tensors["latents"].float(), tensors["concepts"])
