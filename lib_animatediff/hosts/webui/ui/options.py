"""Our section of the WebUI's settings page. Keys of the existing extension keep their meaning where we have it, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from modules import shared

from lib_animatediff.request.settings import FORMATS
from lib_animatediff.video.encoding import PRESETS

FOLDER_OPTION = "animatediff_model_path"
NAME_OPTION = "animatediff_filename_pattern"
SECTION = ("animatediff", "AnimateDiff")

_OPTIONS: dict[str, tuple[Any, str, Any, dict[str, Any]]] = {
    FOLDER_OPTION: ("", "Another folder with motion modules, searched besides models/animatediff", None, {}),
    "animatediff_default_save_formats": (
        ["GIF"],
        "Formats that are ticked at first (after Reload UI)",
        gr.CheckboxGroup,
        {"choices": list(FORMATS)},
    ),
    NAME_OPTION: (
        "",
        "File name of clips, with the placeholders of the WebUI's own, such as [date]/[seed]-[prompt_words]; "
        "empty: date, number and seed",
        None,
        {},
    ),
    "animatediff_gif_palette_per_frame": (
        False,
        "GIF: 256 colours for each frame instead of the whole clip, which may flicker",
        None,
        {},
    ),
    "animatediff_gif_dither": (True, "GIF: mix missing colours out of others", None, {}),
    "animatediff_webp_quality": (
        90,
        "WebP and AVIF: quality",
        gr.Slider,
        {"minimum": 0, "maximum": 100, "step": 1},
    ),
    "animatediff_webp_lossless": (False, "WebP: without loss, in much larger files", None, {}),
    "animatediff_mp4_crf": (
        18,
        "MP4: CRF; less is better and larger",
        gr.Slider,
        {"minimum": 0, "maximum": 51, "step": 1},
    ),
    "animatediff_mp4_preset": (
        "medium",
        "MP4: preset; slower is smaller",
        gr.Dropdown,
        {"choices": list(PRESETS)},
    ),
    "animatediff_webm_crf": (
        24,
        "WebM: CRF; less is better and larger",
        gr.Slider,
        {"minimum": 0, "maximum": 63, "step": 1},
    ),
    "animatediff_odd_sizes": (
        "pad",
        "MP4: odd sizes, which it does not take, are padded by a row or scaled",
        gr.Radio,
        {"choices": ["pad", "scale"]},
    ),
}


def register() -> None:
    """Add our options; the WebUI calls this before it builds the page."""
    for key, (default, label, component, arguments) in _OPTIONS.items():
        shared.opts.add_option(key, shared.OptionInfo(default, label, component, arguments, section=SECTION))


def option(key: str) -> Any:
    """An option's value, its default where the page was never built (the WebUI's API alone) or it was never set."""
    value = shared.opts.data.get(key)
    return _OPTIONS[key][0] if value is None else value


@contextmanager
def for_one_run(**values: Any) -> Iterator[None]:
    """For the time of the block the WebUI reads these options so, without a change of the user's settings.

    An attribute hides the option of its name, and what the user saves meanwhile is the option.
    """
    attributes = vars(shared.opts)
    before = {name: attributes[name] for name in values if name in attributes}
    attributes.update(values)
    try:
        yield
    finally:
        for name in values:
            del attributes[name]
        attributes.update(before)
