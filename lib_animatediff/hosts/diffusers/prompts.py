"""The conditions of a clip's frames, for a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lib_animatediff.prompts.interpolate import blend_rows
from lib_animatediff.request.plan import ClipPlan


def prompt_kwargs(pipeline: Any, plan: ClipPlan) -> dict[str, Any]:
    """The pipeline's keyword arguments for the prompts: texts, or one condition per frame for a prompt travel.

    A preview has the condition of its frame's prompt.
    """
    texts = {"prompt": plan.sampling.prompt, "negative_prompt": plan.sampling.negative_prompt}
    if not any(field in plan.travel for field in texts):
        return {**texts, "num_images_per_prompt": len(plan.rendered)}
    kwargs: dict[str, Any] = {}
    for field, text in texts.items():
        travel = plan.travel.get(field)
        rows = [text] * plan.frames if travel is None else travel.prompts()
        condition = _encoded(pipeline, [rows[frame] for frame in plan.rendered])
        if travel is not None and len(plan.rendered) == plan.frames:
            options = plan.travel_options
            condition = blend_rows(condition, options.blends(travel), options.interpolation)
        kwargs[f"{field}_embeds"] = condition
    return kwargs


def _encoded(pipeline: Any, rows: Sequence[str]) -> Tensor:
    distinct = list(dict.fromkeys(rows))
    condition, _ = pipeline.encode_prompt(distinct, pipeline.device, 1, False)
    return condition[[distinct.index(row) for row in rows]]  # type: ignore[no-any-return]
