"""The conditions of a clip's frames, for a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.unet import UNetView
from lib_animatediff.prompts.interpolate import blend_rows
from lib_animatediff.request.plan import ClipPlan

from .conditions import check_grammar, condition, equally_long, is_plain

_CONDITIONS = "encoder_hidden_states"  # diffusers' keyword of them in a call of the UNet


def prompt_kwargs(pipeline: Any, plan: ClipPlan) -> dict[str, Any]:
    """The pipeline's keyword arguments for the prompts: texts, or one condition per frame for a prompt travel.

    A preview has the condition of its frame's prompt.
    """
    texts = {"prompt": plan.sampling.prompt, "negative_prompt": plan.sampling.negative_prompt}
    if not any(field in plan.travel for field in texts):
        if all(is_plain(pipeline, text) for text in texts.values()):
            return {**texts, "num_images_per_prompt": len(plan.rendered)}
        both = equally_long([_encoded(pipeline, [text]) for text in texts.values()])
        embeds = dict(zip((f"{field}_embeds" for field in texts), both, strict=True))
        return {**embeds, "num_images_per_prompt": len(plan.rendered)}
    kwargs: dict[str, Any] = {}
    for field, text in texts.items():
        travel = plan.travel.get(field)
        rows = [text] * plan.frames if travel is None else travel.prompts()
        encoded = _encoded(pipeline, [rows[frame] for frame in plan.rendered])
        if travel is not None and len(plan.rendered) == plan.frames:
            options = plan.travel_options
            encoded = blend_rows(encoded, options.blends(travel), options.interpolation)
        kwargs[f"{field}_embeds"] = encoded
    return dict(zip(kwargs, equally_long(list(kwargs.values())), strict=True))


class NumberedConditions:
    """A component of the UNet that gives each window the conditions of its numbers, see `conditions_by_number`.

    Args:
        table: the conditions, ``k t c``.
    """

    name = "conditions"
    frames_at_once: int | None = None

    def __init__(self, table: Tensor) -> None:
        self._table = table

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Nothing: all happens around the calls."""

    def around_call(
        self, _call: UNetCall, forward: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]
    ) -> Any:
        """Call with the conditions in place of their numbers."""
        numbers: Tensor = given[_CONDITIONS]
        return forward(*args, **given | {_CONDITIONS: self._table.index_select(0, numbers.flatten().long())})


def conditions_by_number(
    pipeline: Any, kwargs: Mapping[str, Any], frames: int
) -> tuple[dict[str, Any], list[NumberedConditions]]:
    """Let the pipeline carry a number for each row, from which each window gets its conditions.

    The pipeline repeats the conditions for each frame and copies them for CFG, which is most of what grows with a long
    clip: nearly a megabyte a frame in float32.

    Args:
        kwargs: the pipeline's keyword arguments for prompts, as `prompt_kwargs` returns them.
        frames: rows of a stream.

    Returns:
        The keyword arguments with numbers, and the component to inject last, so that others see the conditions. Where
        each frame has its own condition, as in a prompt travel, the arguments are as given, and there is no component.
    """
    count = kwargs.get("num_images_per_prompt", 1)
    rest = dict(kwargs)
    if count != frames or frames == 1:
        return rest, []
    names = ("prompt", "negative_prompt", "prompt_embeds", "negative_prompt_embeds")
    prompt, negative, *embeds = (rest.pop(name, None) for name in names)
    cond, uncond = pipeline.encode_prompt(
        prompt, pipeline.device, 1, True, negative, prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1]
    )
    table = torch.cat([cond, uncond])
    rest["prompt_embeds"], rest["negative_prompt_embeds"] = table.new_zeros(1, 1, 1), table.new_ones(1, 1, 1)
    return rest, [NumberedConditions(table)]


def check_prompts(plan: ClipPlan) -> None:
    """Check the grammar of all prompts.

    Raises:
        ClipError: a prompt has what only the WebUI understands.
    """
    for field in ("prompt", "negative_prompt"):
        travel = plan.travel.get(field)
        for text in [getattr(plan.sampling, field)] if travel is None else dict.fromkeys(travel.prompts()):
            check_grammar(text)


def _encoded(pipeline: Any, rows: Sequence[str]) -> Tensor:
    """The conditions of prompts, ``r n c``."""
    distinct = list(dict.fromkeys(rows))
    if all(is_plain(pipeline, row) for row in distinct):
        conditions, _ = pipeline.encode_prompt(distinct, pipeline.device, 1, False)
    else:
        with torch.no_grad():
            conditions = torch.cat(equally_long([condition(pipeline, row) for row in distinct]))
    return conditions[[distinct.index(row) for row in rows]]  # type: ignore[no-any-return]
