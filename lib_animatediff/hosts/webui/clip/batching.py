"""Prompts with AND: every call of the UNet has whole clips, however the WebUI batches its rows.

AUTOMATIC1111 arranges cond rows prompt by prompt, each with all its parts, before the rows of uncond. If cond and
uncond cannot be in one call, it splits the rows into calls by their number (`CFGDenoiser.forward`). reForge and Forge
call the UNet with whole streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.batch import RowOrder
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.host_models import HostModel, current_model
from motion_module import ClipError


def parts_of(prompts: Sequence[str]) -> list[int]:
    """The number of parts into which AND divides each row's prompt."""
    return a1111.split_prompts(prompts)


def row_order(model: HostModel, parts: Sequence[int], frames: int) -> RowOrder | None:
    """The order ``(k b f)`` of the denoiser's rows; None if they are in that order, as without AND.

    Args:
        model: the checkpoint.
        parts: number of parts of each row's prompt, ``(b f)``; the same for all frames of a clip.
        frames: frames of a clip.

    Raises:
        ClipError: the host would leave out parts.
    """
    rows, cond_rows = len(parts), sum(parts)
    if model.calls_whole_streams and len(set(parts)) > 1:
        raise ClipError(
            "In this WebUI, the prompts of all clips of a batch need the same number of parts joined by AND. Set Batch "
            "size to 1.",
            code="AD-W36",
        )
    if cond_rows == rows or model.calls_whole_streams:
        return None
    firsts = [sum(parts[:row]) for row in range(rows)]
    clips = [range(start, start + frames) for start in range(0, rows, frames)]
    cond = [firsts[row] + part for clip in clips for part in range(parts[clip[0]]) for row in clip]
    uncond = list(range(cond_rows, cond_rows + rows))

    def order(called: int) -> list[int] | None:
        if called == rows:
            return None
        if called == cond_rows:
            return cond
        if called == cond_rows + rows:
            return cond + uncond
        raise ClipError(
            f"The UNet was called with {called} rows of a clip whose prompts have {cond_rows} parts: another extension "
            "batches them differently. Disable it, or remove AND from the prompt.",
            code="AD-W08",
        )

    return order


def splits_clips(model: HostModel | None, parts: Sequence[int]) -> bool:
    """Whether the WebUI may split this batch's cond rows into calls without whole clips."""
    if model is not None and model.calls_whole_streams:
        return False
    rows, cond_rows = len(parts), sum(parts)
    return cond_rows > (2 * rows if a1111.batches_cond_uncond() else rows)


def match_token_lengths(params: Any) -> None:
    """Make the conditions of a denoiser's call equally long by repeating them, which does not change the result.

    The repetitions of a token share its weight in the attention. Then cond and uncond fit into one call. Padding would
    change the images; if the user has enabled it, the WebUI pads instead.
    """
    if a1111.pads_conditions():
        return
    lengths = params.text_cond.shape[1], params.text_uncond.shape[1]
    marks = _mark_tokens(*lengths)
    tokens, other = (length - marks for length in lengths)
    together = math.lcm(tokens, other)
    params.text_cond = _repeated(params.text_cond, together // tokens, marks)
    params.text_uncond = _repeated(params.text_uncond, together // other, marks)


def _mark_tokens(*lengths: int) -> int:
    """Number of tokens before the prompts' chunks. ControlNet adds one there, which it removes inside the UNet."""
    chunk = current_model().empty_condition().shape[1]
    before = {length % chunk for length in lengths}
    return before.pop() if len(before) == 1 else 0


def _repeated(cond: Any, times: int, marks: int) -> Any:
    if times == 1:
        return cond
    if isinstance(cond, Tensor):
        return torch.cat([cond[:, :marks], cond[:, marks:].repeat(1, times, 1)], dim=1)
    # SDXL's dict type with a shape
    return type(cond)({**cond, "crossattn": _repeated(cond["crossattn"], times, marks)})
