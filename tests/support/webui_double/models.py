"""The double's checkpoint."""

from __future__ import annotations

import torch
from support.webui_double.denoiser import CONTEXT, TOKENS
from support.webui_double.state import shared
from torch import Tensor, nn


class SdModel(nn.Module):
    """LDM's LatentDiffusion, as far as the WebUI's samplers and scripts look at it."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet
        self.is_sd1, self.is_sd2, self.is_sd3, self.is_sdxl, self.is_ssd = True, False, False, False, False
        self.register_buffer("alphas_cumprod", torch.linspace(0.999, 0.005, 1000))
        self.alphas_cumprod_original = self.alphas_cumprod
        self.cond_stage_model_empty_prompt = torch.zeros(1, TOKENS, CONTEXT)

    def decode_first_stage(self, z: Tensor) -> Tensor:
        """A frame is its latents."""
        if shared.during_decoding is not None:
            shared.during_decoding(z)
        return z

    def apply_model(self, x: Tensor, t: Tensor, cond: dict[str, list[Tensor]]) -> Tensor:
        return self.model.diffusion_model(x, t, context=torch.cat(cond["c_crossattn"], 1))

    def encode_first_stage(self, x: Tensor) -> Tensor:
        return x
