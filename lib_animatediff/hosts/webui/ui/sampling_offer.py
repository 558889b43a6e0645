"""Sets the page's own sampler, schedule type, steps and CFG scale to those that a distilled file was trained for.

The plan shows a button below its note about what does not fit. `animatediff_plan.js` passes its press on to the hidden
button here, whose outputs are the WebUI's fields.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.clip.speed import best_sampling, files_of
from lib_animatediff.request.distilled import combined

_FIELDS = ("sampling", "scheduler", "steps", "cfg_scale")  # ends of the ids of the WebUI's fields


def build_sampling_offer(tab: str, page: Any, model: Any) -> None:
    """Build the hidden button, if the tab has the fields that it sets.

    Args:
        page: the hidden text that receives the page's values.
        model: the list of motion modules.
    """
    fields = _fields_of(tab)
    if fields is None:
        return
    button = gr.Button(
        "Set what fits the motion module",
        elem_id=f"animatediff_{tab}_set_sampling",
        elem_classes=["animatediff-hidden"],
    )
    button.click(
        _best,
        inputs=[page, model],
        outputs=fields,
        _js=f"(page, model) => [animatediffPage('{tab}'), model]",
        show_progress=False,
        queue=False,
    )


def _best(page: str, model: str) -> tuple[Any, ...]:
    """The values of the fields; unchanged if no file is distilled any more."""
    needed = combined(files_of(model or "", str(json.loads(page or "{}").get("prompt") or "")))
    if needed is None:
        return tuple(gr.update() for _ in _FIELDS)
    best = best_sampling(needed)
    return tuple(gr.update(value=value) for value in (best.sampler_name, best.scheduler, best.steps, best.cfg_scale))


def _fields_of(tab: str) -> list[Any] | None:
    """The WebUI's fields of the tab that is being built; None if one of them is not there, or comes later."""
    context = getattr(getattr(gr, "context", None), "Context", None)
    blocks = getattr(getattr(context, "root_block", None), "blocks", {})
    by_id = {getattr(block, "elem_id", None): block for block in blocks.values()}
    found = [by_id.get(f"{tab}_{name}") for name in _FIELDS]
    return None if None in found else found
