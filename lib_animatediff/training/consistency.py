"""Distillation for few steps: consistency along the teacher's sampling path (LCM, arXiv 2310.04378, algorithm 1).

From a noisy clip the teacher, with CFG, takes one DDIM step. The student learns that both ends of the step lead to the
same clean clip, without CFG: so it needs neither the steps in between nor the negative prompt.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from lib_animatediff.engine.inject import inject
from motion_module import MotionModule

from .loss import Group, Objective, predict, text_once_per_clip

GRID_STEPS = 50  # steps of the path, as in LCM and in diffusers' LCMScheduler (original_inference_steps)
SIGMA_DATA = 0.5  # as there
TIMESTEP_SCALING = 10.0  # as there
HUBER_C = 1e-3  # of the pseudo-Huber loss, as in the public LCM training code


class Teacher:
    """The motion module that is distilled, in the frozen base model.

    Args:
        unet: the base model's UNet; while the teacher predicts, nothing else may be injected.
        motion: the teacher, which is frozen.
        alphas: cumulative product of alphas per timestep, ``(steps,)``.
        cfg: the CFG scale that the student takes over.
        empty: conditioning of the empty caption, ``1 t d``.
    """

    def __init__(self, unet: nn.Module, motion: MotionModule, alphas: Tensor, cfg: float, empty: Tensor) -> None:
        self._unet = unet
        self._motion = motion.requires_grad_(False)
        self._alphas = alphas
        self._cfg = cfg
        self._empty = empty

    @torch.no_grad()
    def extend(self, group: Group) -> Group:
        """Add the end of one DDIM step on the teacher's path to a group.

        Returns:
            The group with ``timesteps`` of the path, the ``earlier`` ones that the step ends at, ``b``, and the
            ``noisy`` and the ``stepped`` latents at both, ``b f c h w``.
        """
        alphas = self._alphas.to(group["latents"].device)
        stride = len(alphas) // GRID_STEPS
        # The last timestep belongs to the path; the first one's step ends at clean latents.
        timesteps = (group["timesteps"] // stride) * stride + stride - 1
        earlier = timesteps - stride
        signal = _along(alphas[timesteps])
        noisy = signal.sqrt() * group["latents"] + (1 - signal).sqrt() * group["noise"]
        noise = self._guided(noisy, timesteps, group["text"])
        clean = (noisy - (1 - signal).sqrt() * noise) / signal.sqrt()
        ends_at = _along(torch.where(earlier < 0, torch.ones_like(alphas[:1]), alphas[earlier.clamp(min=0)]))
        stepped = ends_at.sqrt() * clean + (1 - ends_at).sqrt() * noise
        return {**group, "timesteps": timesteps, "earlier": earlier, "noisy": noisy, "stepped": stepped}

    def _guided(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        frames = noisy.shape[1]
        streams = torch.cat([noisy, noisy]), torch.cat([timesteps, timesteps])
        texts = torch.cat([self._empty.to(text).expand_as(text), text])
        with inject(self._unet, self._motion, frames=frames), text_once_per_clip(self._unet, frames):
            uncond, cond = _noise_of(self._unet, *streams, texts).chunk(2)
        return uncond + self._cfg * (cond - uncond)


class ConsistencyObjective(Objective):
    """Mean distance between the clean clips that the student sees from both ends of the teacher's step."""

    def forward(self, groups: list[Group]) -> Tensor:
        """Mean over all clips of groups from `Teacher.extend`."""
        losses = []
        for group in groups:
            found = self.clean(group["noisy"], group["timesteps"], group["text"])
            with torch.no_grad():
                wanted = self.clean(group["stepped"], group["earlier"], group["text"])
            distance = ((found - wanted).square() + HUBER_C**2).sqrt() - HUBER_C
            losses.append(distance.mean(dim=(1, 2, 3, 4)))
        return torch.cat(losses).mean()

    def clean(self, latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The student's clean clip from latents at timesteps, ``b f c h w``; at -1 they are clean already."""
        at = timesteps.clamp(min=0)
        signal = _along(self.alphas[at])
        found = (latents - (1 - signal).sqrt() * _noise_of(self.unet, latents, at, text)) / signal.sqrt()
        scaled = _along(TIMESTEP_SCALING * at.float())
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
        return torch.where(_along(timesteps) < 0, latents, skip * latents + out * found)


def _along(values: Tensor) -> Tensor:
    """One value per clip, for tensors ``b f c h w``."""
    return values.view(-1, 1, 1, 1, 1)


def _noise_of(unet: nn.Module, latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
    frames = latents.shape[1]
    rows = predict(
        unet, rearrange(latents, "b f c h w -> (b f) c h w"), repeat(timesteps, "b -> (b f)", f=frames), text
    )
    return rearrange(rows.float(), "(b f) c h w -> b f c h w", f=frames)
