"""Conditions of long clips: the pipeline carries a number for each row, and each window gets the conditions themselves.

A diffusers pipeline repeats the conditions for each frame and copies them for CFG: half a megabyte a frame in float32.
All frames with one prompt have the same condition, so that a window needs no more than its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.patching import patch_forward

_NAME = "encoder_hidden_states"


@contextmanager
def conditions_by_number(pipeline: Any, kwargs: Mapping[str, Any], frames: int) -> Iterator[dict[str, Any]]:
    """Let the pipeline carry numbers instead of conditions inside the block. Enter it before windows are injected.

    Args:
        kwargs: the pipeline's keyword arguments for prompts, as `prompt_kwargs` returns them.
        frames: rows of a stream.

    Yields:
        The keyword arguments with numbers; unchanged where each frame has its own condition, as in a prompt travel.
    """
    count = kwargs.get("num_images_per_prompt", 1)
    if count != frames or frames == 1:
        yield dict(kwargs)
        return
    rest = dict(kwargs)
    names = ("prompt", "negative_prompt", "prompt_embeds", "negative_prompt_embeds")
    prompt, negative, *embeds = (rest.pop(name, None) for name in names)
    cond, uncond = pipeline.encode_prompt(
        prompt, pipeline.device, 1, True, negative, prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1]
    )
    table = torch.cat([cond, uncond])
    rest["prompt_embeds"], rest["negative_prompt_embeds"] = table.new_zeros(1, 1, 1), table.new_ones(1, 1, 1)

    def with_conditions(forward: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        numbers: Tensor = given[_NAME]
        return forward(*args, **given | {_NAME: table.index_select(0, numbers.flatten().long())})

    with patch_forward(pipeline.unet, with_conditions):
        yield rest
