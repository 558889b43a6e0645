"""DDIM with classifier-free guidance in a few lines, for the gates.

Row order and timesteps are the hosts' (conditional rows first; leading spacing with offset 1), so a motion module
that is injected into the UNet finds a clip's frames as it does there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import TRAINING_STEPS, alphas_cumprod

STEPS = 25
CFG = 3.0


@torch.no_grad()
def ddim(
    unet: nn.Module,
    noise: Tensor,
    condition: Tensor,
    empty: Tensor,
    steps: int = STEPS,
    cfg: float = CFG,
    alphas: Tensor | None = None,
) -> Tensor:
    """Sample latents, n c h w.

    Args:
        unet: called with 2n rows, those with the condition first.
        noise: where to begin, n c h w.
        condition: of each row, n t d.
        empty: the empty caption for each row, n t d.
        steps: of the sampler.
        cfg: weight of the condition against the empty caption.
        alphas: the noise schedule; Stable Diffusion's by default.
    """
    alphas = alphas_cumprod() if alphas is None else alphas
    stride = TRAINING_STEPS // steps
    context = torch.cat([condition, empty])
    x = noise
    for t in reversed(range(1, 1 + stride * steps, stride)):
        rows = torch.full((len(context),), t)
        conditional, unconditional = unet(torch.cat([x, x]), rows, context=context).chunk(2)
        error = unconditional + cfg * (conditional - unconditional)
        here, there = alphas[t], alphas[max(t - stride, 0)]
        clean = (x - (1 - here).sqrt() * error) / here.sqrt()
        x = there.sqrt() * clean + (1 - there).sqrt() * error
    return x
