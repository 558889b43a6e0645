"""Let an LDM model sample on the noise levels that a motion module was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from motion_module.schedules import BetaSchedule

_ORIGINAL = "alphas_cumprod_original"  # where the WebUI keeps the checkpoint's own table


def _unchanged(table: Tensor) -> Tensor:
    return table


@contextmanager
def use_schedule(
    sd_model: Any, schedule: BetaSchedule, *, adjust: Callable[[Tensor], Tensor] = _unchanged
) -> Iterator[None]:
    """Give ``sd_model.alphas_cumprod`` the schedule's table, and put the former object back afterwards.

    Samplers read the table when they are created, so create them inside the block.

    Args:
        sd_model: an LDM ``LatentDiffusion`` or anything with ``alphas_cumprod``, a ``(steps,)`` tensor. A diffusers
            pipeline keeps its schedule in its scheduler instead.
        schedule: usually ``motion.schedule``.
        adjust: the host's own options on top, such as zero terminal SNR: table in, table out.
    """
    former, original = sd_model.alphas_cumprod, getattr(sd_model, _ORIGINAL, None)
    table = adjust(schedule.alphas_cumprod().to(former.device)).to(former.device)
    # A fresh tensor each time: loading weights meanwhile copies the checkpoint's table into whatever stands here.
    sd_model.alphas_cumprod = table.clone()
    try:
        yield
    finally:
        sd_model.alphas_cumprod = former
        # Loading weights without a table of their own declares whatever stands here to be theirs.
        if original is not None and _same_values(getattr(sd_model, _ORIGINAL, None), table):
            setattr(sd_model, _ORIGINAL, original)


def _same_values(found: Tensor | None, table: Tensor) -> bool:
    # Not the same object: the model may have been moved or cast since.
    return found is not None and torch.equal(found.float().cpu(), table.float().cpu())
