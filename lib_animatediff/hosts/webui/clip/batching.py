"""Prompts with AND: every call of the UNet holds whole clips, whatever the WebUI batches together.

The WebUI lays out cond rows prompt by prompt, each with all its parts, before the rows of uncond; and it cuts the
rows into calls by their number, where cond and uncond must go apart (`CFGDenoiser.forward`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lib_animatediff.engine.batch import RowOrder
from lib_animatediff.hosts.webui.compat import a1111
from motion_module import ClipError


def parts_of(prompts: Sequence[str]) -> list[int]:
    """Into how many parts AND divides each row's prompt."""
    return a1111.split_prompts(prompts)


def row_order(parts: Sequence[int], frames: int) -> RowOrder | None:
    """The order ``(k b f)`` of the denoiser's rows; None where they lie so, as they do without AND.

    Args:
        parts: of each row's prompt, ``(b f)``.
        frames: of a clip, which has one number of parts.
    """
    rows, cond_rows = len(parts), sum(parts)
    if cond_rows == rows:
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


def splits_clips(parts: Sequence[int]) -> bool:
    """Whether the WebUI would cut this batch's cond rows into calls that do not hold whole clips, or could."""
    rows, cond_rows = len(parts), sum(parts)
    return cond_rows > (2 * rows if a1111.opts().batch_cond_uncond else rows)


def match_token_lengths(params: Any) -> None:
    """Make the conditions of a denoiser's call equally long by repeating each as a whole; the numbers stay the same.

    Every token's weight in the attention is shared by its repetitions. So cond and uncond fit into one call, which
    padding would do, too, but with other pictures: where the user has asked for that, it is left to the WebUI.
    """
    if a1111.opts().pad_cond_uncond or a1111.opts().pad_cond_uncond_v0:
        return
    tokens, other = params.text_cond.shape[1], params.text_uncond.shape[1]
    together = math.lcm(tokens, other)
    params.text_cond = _repeated(params.text_cond, together // tokens)
    params.text_uncond = _repeated(params.text_uncond, together // other)


def _repeated(cond: Any, times: int) -> Any:
    if times == 1:
        return cond
    if isinstance(cond, Tensor):
        return cond.repeat(1, times, 1)
    return type(cond)({**cond, "crossattn": cond["crossattn"].repeat(1, times, 1)})  # SDXL's, which knows its shape
