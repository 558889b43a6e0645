"""First steps: what a motion module is, where to get one, the built-in one; and the list, which finds new files."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_animatediff.builtin_model import DEFAULT
from lib_animatediff.builtin_model.copying import copy_to_models
from lib_animatediff.hosts.webui.catalog.checkpoint import Checkpoint, chosen_checkpoint
from lib_animatediff.hosts.webui.catalog.models import (
    WHERE_TO_GET,
    Entry,
    Use,
    choices,
    entries,
    method_without_file,
    models_folder,
    selected,
)
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.methods import WITHOUT_FILE
from motion_module import AnimateDiffError
from motion_module.kinds import BASES

_FULL_WIDTH = 320  # channels of the first blocks of Stable Diffusion 1.5 and of SDXL


@dataclass(frozen=True)
class _Download:
    """A motion module of the official repository."""

    name: str
    base: str
    size: str
    words: str

    def fits(self, checkpoint: Checkpoint | None) -> bool:
        """Whether it is known to fit the loaded checkpoint."""
        return (
            checkpoint is not None
            and checkpoint.base == self.base
            and (not checkpoint.widths or checkpoint.widths[0] == _FULL_WIDTH)
        )


_DOWNLOADS = (
    _Download("v3_sd15_mm.ckpt", "sd15", "1.7 GB", "A good first choice."),
    _Download("mm_sd_v15_v2.ckpt", "sd15", "1.8 GB", "Motion LoRAs for camera moves are made for it."),
    _Download("mm_sdxl_v10_beta.ckpt", "sdxl", "0.95 GB", "The smallest file; SDXL itself needs more memory."),
)


@dataclass(frozen=True)
class FirstSteps:
    """The components of the block.

    Attributes:
        block: contains the others, and is hidden while a motion module fits the checkpoint.
        guide: what a motion module is, and where to get one.
        try_it: the button that copies the built-in model.
        problem: why that failed.
    """

    tab: str
    block: Any
    guide: Any
    try_it: Any
    problem: Any


def build_first_steps(tab: str) -> FirstSteps:
    """Build the block, which is shown while no motion module fits the checkpoint."""
    listed = entries()
    shown = _is_needed("", listed)
    with gr.Column(
        visible=shown, elem_id=f"animatediff_{tab}_first_steps", elem_classes=["animatediff-first-steps"]
    ) as block:
        guide = gr.HTML(_guide(listed) if shown else "")
        with gr.Column(visible=DEFAULT.is_installed, elem_classes=["animatediff-try"]):
            gr.HTML(f"<p>{_offer() if DEFAULT.is_installed else ''}</p>")
            try_it = gr.Button("Try the built-in one", elem_id=f"animatediff_{tab}_try_builtin")
        problem = gr.HTML(elem_id=f"animatediff_{tab}_try_problem")
    return FirstSteps(tab, block, guide, try_it, problem)


def link_first_steps(steps: FirstSteps, accordion: Any, model: Any, refresh: Any) -> Any:
    """Keep the list and the block up to date; returns the event after a press of the refresh button.

    The refresh button, opening the accordion and every page load read the folders again. `animatediff_first_steps.js`
    presses the button when another checkpoint has been loaded, and the hidden button on every page load.

    Args:
        steps: see `build_first_steps`.
        accordion: the panel's accordion.
        model: the list of motion modules.
        refresh: its refresh button.
    """
    tab, outputs = steps.tab, [steps.block, steps.guide, model]
    page_loaded = gr.Button(
        "List the motion modules",
        elem_id=f"animatediff_{tab}_page_loaded",
        elem_classes=["animatediff-hidden"],
    )
    started = gr.Textbox(visible=False, elem_id=f"animatediff_{tab}_started")
    first = gr.Textbox(visible=False, elem_id=f"animatediff_{tab}_first")
    quietly = {"show_progress": False, "queue": False}

    def listing(event: Any, read: Any, inputs: list[Any], **more: Any) -> Any:
        asked = event(read, inputs=[*inputs, model], outputs=[*outputs, first], **quietly, **more)
        return asked.then(None, inputs=[model, first], outputs=[model], _js="animatediffFirstModule", queue=False)

    renewed = listing(refresh.click, _renewed, [])
    listing(page_loaded.click, _renewed_on_page_load, [], _js=f"(value) => animatediffPageLoaded('{tab}', value)")
    listing(accordion.change, _renewed_if_open, [accordion])
    model.change(_shown_if_needed, inputs=[model], outputs=[steps.block], **quietly)
    steps.try_it.click(_try_it, inputs=[], outputs=[*outputs, steps.problem, started], **quietly).then(
        None, inputs=[started], _js=f"(started) => animatediffTryBuiltin('{tab}', started)"
    )
    return renewed


def _renewed(value: str, *, is_choice: bool = True) -> tuple[Any, Any, Any, str]:
    """The block, its guide and the list after the folders were read again, and which entry the list is to show.

    Another entry may be chosen or pasted before the answer arrives. So the browser decides, by what the page showed
    when it asked: see `animatediffFirstModule`.
    """
    listed = entries()
    now = selected(value or "", listed, is_choice=is_choice)
    needed = _is_needed(now, listed)
    guide = _guide(listed) if needed else ""
    model = gr.update(choices=choices(listed))
    return gr.update(visible=needed), guide, model, json.dumps({"shown": value, "now": now})


def _renewed_on_page_load(value: str) -> tuple[Any, Any, Any, str]:
    """Nobody has chosen what a new page shows: it is what was listed when the WebUI started."""
    return _renewed(value, is_choice=False)


def _renewed_if_open(is_open: bool, value: str) -> tuple[Any, Any, Any, str]:
    return _renewed(value) if is_open else (gr.update(), gr.update(), gr.update(), "")


def _shown_if_needed(value: str) -> Any:
    return gr.update(visible=_is_needed(value or "", entries()))


def _is_needed(value: str, listed: Sequence[Entry]) -> bool:
    """Whether nothing can be animated: no motion module fits, and no method without a file is selected."""
    return not method_without_file(value) and all(entry.use is not Use.FITS for entry in listed)


def _offer() -> str:
    size = sum((DEFAULT.folder / name).stat().st_size for name in DEFAULT.files) / 1e6
    return (
        f"No time for a download? The built-in model is tiny ({DEFAULT.size} x {DEFAULT.size} pixels) and shows how "
        f"AnimateDiff works. {DEFAULT.checkpoint}, {DEFAULT.motion} and LoRAs for both ({size:.0f} MB in all) are "
        "copied into the WebUI's folders, and the first two are selected."
    )


def _try_it() -> tuple[Any, ...]:
    """Copy the built-in model and select its motion module; the browser selects the checkpoint, see `started`."""
    try:
        checkpoint, motion, *_ = copy_to_models(a1111.models_folder(), DEFAULT)
    except AnimateDiffError as error:
        problem = f"<p class='animatediff-advice'>{html.escape(str(error))}</p>"
        return gr.update(), gr.update(), gr.update(), problem, ""
    started = {
        "checkpoint": a1111.refreshed_checkpoint(checkpoint),
        "prompt": DEFAULT.prompt,
        "numbers": {"width": DEFAULT.size, "height": DEFAULT.size, "cfg_scale": DEFAULT.cfg},
    }
    listed = entries()
    model = gr.update(choices=choices(listed), value=selected(motion.name, listed))
    return gr.update(visible=False), gr.update(), model, "", json.dumps(started)


def _guide(listed: Sequence[Entry]) -> str:
    """What a motion module is, and the way to one."""
    folder = models_folder()
    with suppress(OSError):  # the user is about to open it
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint = chosen_checkpoint()
    path = html.escape(str(folder), quote=True)
    downloads = "".join(_download(each, checkpoint) for each in _DOWNLOADS)
    return (
        f"<p>{html.escape(_first_sentence(checkpoint, listed))}</p>"
        f"<ol><li>Download one:<ul>{downloads}</ul></li>"
        f"<li>Put the file into <code>{path}</code> "
        f"<button type='button' class='animatediff-copy-path' data-copy='{path}'>Copy the path</button></li>"
        "<li>Press 🔄 beside the list.</li></ol>"
        f"<p>Or choose {' or '.join(WITHOUT_FILE)} at the end of the list, which needs no file.</p>"
    )


def _first_sentence(checkpoint: Checkpoint | None, listed: Sequence[Entry]) -> str:
    bases = " or ".join(BASES.values())
    if checkpoint and checkpoint.base is None:
        return f"There are no motion modules for {checkpoint.name}. Choose a checkpoint of {bases}."
    if checkpoint and any(entry.is_module for entry in listed):
        return f"None of your motion modules fits the loaded checkpoint ({checkpoint.name})."
    return (
        "AnimateDiff needs a motion module: a file that makes the images of your checkpoint move. You download it once "
        "and use it with every checkpoint of the same base, such as Stable Diffusion 1.5."
    )


def _download(file: _Download, checkpoint: Checkpoint | None) -> str:
    fits = " <b>Fits the loaded checkpoint.</b>" if file.fits(checkpoint) else ""
    return (
        f"<li><a href='{WHERE_TO_GET}/resolve/main/{file.name}' target='_blank' rel='noopener'>{file.name}</a> for "
        f"{BASES[file.base]}, {file.size}. {file.words}{fits}</li>"
    )
