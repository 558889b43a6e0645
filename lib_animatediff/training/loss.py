"""The loss: error of the noise that the UNet predicts with the trained weights (arXiv 2307.04725, equation 4).

Independent noise per frame, one timestep per clip, mean squared error. Letters: b clips, f frames, t tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .rng import Draws

if TYPE_CHECKING:
    from .clips import Clip

Group = dict[str, Tensor]


class Objective(nn.Module):
    """Mean loss of a batch. Its parameters are the frozen UNet's and the trained ones.

    Args:
        unet: the base model's UNet.
        motion: motion module that runs inside it, so that accelerate finds its weights; None for an adapter.
        alphas: cumulative product of alphas per timestep, ``(steps,)``.
        largest_weight: upper bound of the weight 1 + sigma^2; 1 gives the unweighted loss.
        moving_weight: how much more the part of a clip that changes most weighs than one that stands still; 1: no more.
    """

    alphas: Tensor

    def __init__(
        self,
        unet: nn.Module,
        motion: nn.Module | None,
        alphas: Tensor,
        largest_weight: float,
        moving_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.motion = motion
        self.register_buffer("alphas", alphas)
        self._largest_weight = largest_weight
        self._moving_weight = moving_weight

    def forward(self, groups: list[Group]) -> Tensor:
        """Mean over all clips. Each group contains clips of one shape.

        Args:
            groups: tensors ``latents`` and ``noise`` ``b f c h w``, ``timesteps`` ``b``, ``text`` ``b t d``.
        """
        clips = sum(len(group["latents"]) for group in groups)
        losses = [self._weights(group["timesteps"]) * self.errors(group) for group in groups]
        return torch.cat(losses).sum() / clips

    def errors(self, group: Group) -> Tensor:
        """Mean squared error of the predicted noise per clip, ``b``."""
        noise = group["noise"]
        frames = noise.shape[1]
        signal = self.alphas[group["timesteps"]].view(-1, 1, 1, 1, 1)
        noisy = signal.sqrt() * group["latents"] + (1 - signal).sqrt() * noise
        timesteps = repeat(group["timesteps"], "b -> (b f)", f=frames)
        predicted = self.predicted(rearrange(noisy, "b f c h w -> (b f) c h w"), timesteps, group)
        error = rearrange(predicted.float(), "(b f) c h w -> b f c h w", f=frames) - noise
        squared = error.square()
        if self._moving_weight != 1:
            squared = squared * moving_weights(group["latents"], self._moving_weight)
        return squared.mean(dim=(1, 2, 3, 4))

    def predicted(self, rows: Tensor, timesteps: Tensor, group: Group) -> Tensor:
        """The noise in rows ``(b f) c h w`` of a group."""
        return predict(self.unet, rows, timesteps, group["text"])

    def given(self, _clip: Clip, _latents: Tensor, _draws: Draws, /) -> Group:
        """What the loss of a clip needs besides latents, noise and text: nothing here.

        Args:
            _clip: the clip, ``f`` frames.
            _latents: its latents, ``f c h w``.
            _draws: the random values of the example.
        """
        return {}

    def _weights(self, timesteps: Tensor) -> Tensor:
        return (1 / self.alphas[timesteps]).clamp(max=self._largest_weight)  # 1 / alpha = 1 + sigma^2


def moving_weights(latents: Tensor, most: float) -> Tensor:
    """Weights of the places of clips ``b f c h w``: ``b 1 1 h w``, 1 on average in each clip.

    A place that stands still has the share 1, the one that changes most over the frames the share ``most``, and those
    between in proportion to the standard deviation. Otherwise a small subject hardly counts beside its background.
    """
    changes = latents.float().std(dim=1, unbiased=False, keepdim=True).mean(dim=2, keepdim=True)
    largest = changes.amax(dim=(3, 4), keepdim=True).clamp(min=1e-12)
    weights = 1 + (most - 1) * changes / largest
    return weights / weights.mean(dim=(3, 4), keepdim=True)


def predict(unet: Any, rows: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
    """The noise in rows ``n c h w``, by an LDM or a diffusers UNet; ``text`` has one row each, or one for each clip."""
    dtype = next(unet.parameters()).dtype
    rows, text = rows.to(dtype), text.to(dtype)
    if hasattr(unet, "input_blocks"):  # LDM
        return unet(rows, timesteps, context=text)  # type: ignore[no-any-return]
    return unet(rows, timesteps, encoder_hidden_states=text).sample  # type: ignore[no-any-return]


@contextmanager
def text_once_per_clip(networks: nn.Module, frames: int) -> Iterator[None]:
    """Let cross-attention use one conditioning per clip, ``b t d``, for rows ``(b f) c h w``.

    Queries attend to text tokens only, so all frames of a clip can be queries of one row. Otherwise the text's keys and
    values would be computed for every frame, which costs more than the rest at small image sizes.

    Args:
        networks: a UNet, or an objective with several networks that read text.
        frames: of a clip.
    """

    def side_by_side(_layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return rearrange(inputs[0], "(b f) d c -> b (f d) c", f=frames), *inputs[1:]

    def apart(_layer: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return rearrange(output, "b (f d) c -> (b f) d c", f=frames)

    with ExitStack() as hooks:
        for name, layer in networks.named_modules():
            if name.endswith(".attn2"):
                hooks.callback(layer.register_forward_pre_hook(side_by_side).remove)
                hooks.callback(layer.register_forward_hook(apart).remove)
        yield
