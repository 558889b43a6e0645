"""Train a SparseCtrl encoder (arXiv 2311.16933) on the frozen base model with a frozen motion module.

It starts as a copy of the UNet's encoder with the first temporal attentions of the motion module, and its outputs are
zero. Each example gives it some frames of the clip, drawn at random, and it learns to carry them to all other frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from motion_module import MotionModule
from motion_module.sparse_ctrl.load import LENGTH
from motion_module.sparse_ctrl.network import LATENT_CHANNELS, LEVELS, SCRIBBLE, EncoderLayout, SparseCtrl
from motion_module.temporal_transformer import TemporalTransformer

from .control import hints_of
from .loss import Group, Objective
from .rng import Draws, stream
from .settings import TrainingError, TrainingSettings

if TYPE_CHECKING:
    from .clips import Clip

FIRST_ALONE, BOTH_ENDS = 0.35, 0.25  # of the examples; the others have frames drawn at random
MOST_GIVEN = 4  # frames drawn at random

_NEW = "controlnet_"  # start of the names of what no UNet has: the outputs, and what embeds a condition
_UNUSED = "conv_in.weight"  # the encoder never sees the noisy latents, whose convolution its files hold nevertheless


class SparseCtrlObjective(Objective):
    """The loss of a UNet whose features a SparseCtrl encoder adds to.

    Args:
        unet: diffusers' UNet, with the motion module inside when it is called.
        motion: the motion module, frozen.
        encoder: the encoder.
        alphas, largest_weight, moving_weight: see `Objective`.
        preprocessor: makes the drawings of an encoder for scribbles.
    """

    def __init__(
        self,
        unet: nn.Module,
        motion: nn.Module | None,
        encoder: SparseCtrl,
        alphas: Tensor,
        largest_weight: float,
        moving_weight: float = 1.0,
        preprocessor: str = "",
    ) -> None:
        super().__init__(unet, motion, alphas, largest_weight, moving_weight)
        self.encoder = encoder
        self._preprocessor = preprocessor

    def given(self, clip: Clip, latents: Tensor, draws: Draws, /) -> Group:
        """The ``conditions`` of a clip, ``f c H W``, and its ``mask``, ``f``, which is 1 at the given frames."""
        mask = torch.zeros(len(latents))
        mask[given_frames(draws, len(latents))] = 1
        shown = hints_of(clip, self._preprocessor) if self.encoder.kind == SCRIBBLE else latents
        return {"conditions": shown * mask.to(shown).view(-1, 1, 1, 1), "mask": mask}

    def predicted(self, rows: Tensor, timesteps: Tensor, group: Group) -> Tensor:
        """The noise in rows ``(b f) c h w`` of a group; its ``text`` has one row for each clip."""
        frames = group["mask"].shape[1]
        conditions = rearrange(group["conditions"], "b f c h w -> (b f) c h w")
        mask = rearrange(group["mask"], "b f -> (b f) 1 1 1").expand(-1, -1, *conditions.shape[2:])
        embedded = self.encoder.controlnet_cond_embedding(torch.cat([conditions, mask], dim=1))

        def temporal(_name: str, transformer: TemporalTransformer, x: Tensor) -> Tensor:
            return transformer(x, frames)  # type: ignore[no-any-return]

        skips, middle = self.encoder(embedded, timesteps, group["text"].float(), temporal)
        dtype = next(self.unet.parameters()).dtype
        return self.unet(  # type: ignore[no-any-return]
            rows.to(dtype),
            timesteps,
            encoder_hidden_states=group["text"].to(dtype),
            down_block_additional_residuals=[skip.to(dtype) for skip in skips],
            mid_block_additional_residual=middle.to(dtype),
        ).sample


def given_frames(draws: Draws, frames: int) -> list[int]:
    """The frames of an example that the encoder is given: often the first one alone, or both ends, as users do."""
    kind = draws.uniform("given frames")
    if kind < FIRST_ALONE:
        return [0]
    if kind < FIRST_ALONE + BOTH_ENDS:
        return sorted({0, frames - 1})
    count = 1 + int(draws.uniform("number of given frames") * min(MOST_GIVEN, frames))
    order = torch.randperm(frames, generator=stream(draws.seed, "which given frames", draws.number))
    return sorted(order[:count].tolist())


def new_sparse_ctrl(unet: Any, motion: MotionModule, settings: TrainingSettings) -> SparseCtrl:
    """An encoder that leaves the UNet's output as it is, float32.

    One for images embeds them by the UNet's own first convolution. Its spatial attentions have the eight heads of
    Stable Diffusion 1.5, which its files do not state; of a UNet with others, its copies begin with other attentions.

    Raises:
        TrainingError: the UNet is none of diffusers, or not one of Stable Diffusion 1.5.
    """
    if not hasattr(unet, "config"):
        raise TrainingError(
            "A SparseCtrl encoder is trained on diffusers' UNet. Load the base model as a checkpoint or as a diffusers "
            "folder.",
            code="AD-T45",
        )
    widths = tuple(unet.config.block_out_channels)
    layout = EncoderLayout(settings.condition, widths, unet.config.cross_attention_dim, max(LENGTH, settings.frames))
    copied = {**unet.state_dict(), **motion.state_dict()}
    if len(widths) != LEVELS or not _is_there(SparseCtrl.expected_shapes(layout), copied):
        raise TrainingError(
            "A SparseCtrl encoder is a copy of Stable Diffusion 1.5's encoder, and this base model has another one. "
            "Choose another base model.",
            code="AD-T46",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(settings.seed, "initial weights").initial_seed())
        encoder = SparseCtrl(layout, "the new SparseCtrl encoder")
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if not name.startswith(_NEW):
                weight.copy_(copied[name])
            elif not name.startswith("controlnet_cond_embedding.") or ".conv_out." in name:
                weight.zero_()
        if encoder.kind != SCRIBBLE:
            embedding: Any = encoder.controlnet_cond_embedding
            embedding.weight.zero_()
            embedding.weight[:, :LATENT_CHANNELS].copy_(copied["conv_in.weight"])
            embedding.bias.zero_()
    encoder.get_parameter(_UNUSED).requires_grad_(False)
    return encoder.to(unet.device)


def trained_weights(encoder: SparseCtrl) -> dict[str, nn.Parameter]:
    """The weights of an encoder that are trained: all that are used."""
    return {name: weight for name, weight in encoder.named_parameters() if weight.requires_grad}


def _is_there(expected: Mapping[str, tuple[int, ...]], copied: Mapping[str, Tensor]) -> bool:
    return all(
        name in copied and tuple(copied[name].shape) == shape
        for name, shape in expected.items()
        if not name.startswith(_NEW)
    )
