"""Make an LDM model sample with the noise levels of a motion module's training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from motion_module.schedules import BetaSchedule

_ORIGINAL = "alphas_cumprod_original"  # the WebUI's copy of the checkpoint's own table


_LAST_OF_ZERO_SNR = 4.8973451890853435e-08  # the WebUI's; samplers have no level for 0


def rescaled_to_zero_snr(table: Tensor) -> Tensor:
    """A table of ``alphas_cumprod`` whose last level has hardly any signal: algorithm 1 of arXiv 2305.08891."""
    root = table.sqrt()
    first, last = root[0].clone(), root[-1].clone()
    rescaled = ((root - last) * (first / (first - last))) ** 2
    rescaled[-1] = _LAST_OF_ZERO_SNR
    return rescaled


def _unchanged(table: Tensor) -> Tensor:
    return table


@contextmanager
def use_schedule(
    sd_model: Any, schedule: BetaSchedule, *, adjust: Callable[[Tensor], Tensor] = _unchanged
) -> Iterator[None]:
    """Replace ``sd_model.alphas_cumprod`` with the schedule's table inside the block, and restore it afterwards.

    Samplers read the table when they are created, so create them inside the block.

    Args:
        sd_model: an LDM ``LatentDiffusion``, or any object with ``alphas_cumprod``, a ``(steps,)`` tensor. (diffusers
            pipelines have a scheduler instead.)
        schedule: usually ``motion.schedule``.
        adjust: applies the host's own options, such as zero terminal SNR, to the table.
    """
    former, original = sd_model.alphas_cumprod, getattr(sd_model, _ORIGINAL, None)
    table = adjust(schedule.alphas_cumprod().to(former.device)).to(former.device)
    # A new tensor each time, because loading weights in the meantime copies the checkpoint's table into it.
    sd_model.alphas_cumprod = table.clone()
    try:
        yield
    finally:
        sd_model.alphas_cumprod = former
        # Loading weights that contain no table in the meantime stores the present one as the original.
        if original is not None and _same_values(getattr(sd_model, _ORIGINAL, None), table):
            setattr(sd_model, _ORIGINAL, original)


def _same_values(found: Tensor | None, table: Tensor) -> bool:
    # Not compared by identity: the model may have been moved or cast.
    return found is not None and torch.equal(found.float().cpu(), table.float().cpu())
