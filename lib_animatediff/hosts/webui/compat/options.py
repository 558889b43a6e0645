"""Our section of the WebUI's settings page. Keys of the existing extension keep their meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lib_animatediff.request.settings import FORMATS
from lib_animatediff.video.encoding import PRESETS

from . import a1111

FOLDER_OPTION = "animatediff_model_path"
NAME_OPTION = "animatediff_filename_pattern"
UNFINISHED_OPTION = "animatediff_unfinished_gb"
SECTION = ("animatediff", "AnimateDiff")


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        component: the name of gradio's component; None: by the type of the default.
        arguments: arguments of the component.
    """

    default: Any
    label: str
    component: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


OPTIONS: dict[str, Option] = {
    FOLDER_OPTION: Option("", "Additional folder with motion modules, searched after models/animatediff"),
    "animatediff_default_save_formats": Option(
        ["GIF"], "Formats selected by default (after Reload UI)", "CheckboxGroup", {"choices": list(FORMATS)}
    ),
    NAME_OPTION: Option(
        "",
        "File name of clips, with the WebUI's placeholders, such as [date]/[seed]-[prompt_words]; "
        "empty: date, number and seed",
    ),
    UNFINISHED_OPTION: Option(
        4,
        "Most GB of unfinished clips, from which a clip goes on after a crash; 0: none are kept",
        "Slider",
        {"minimum": 0, "maximum": 100, "step": 1},
    ),
    "animatediff_gif_palette_per_frame": Option(False, "GIF: 256 colours per frame instead of per clip (may flicker)"),
    "animatediff_gif_dither": Option(True, "GIF: dithering"),
    "animatediff_webp_quality": Option(
        90, "WebP and AVIF: quality", "Slider", {"minimum": 0, "maximum": 100, "step": 1}
    ),
    "animatediff_webp_lossless": Option(False, "WebP: lossless (much larger files)"),
    "animatediff_mp4_crf": Option(
        18,
        "MP4: CRF (lower values give better quality and larger files)",
        "Slider",
        {"minimum": 0, "maximum": 51, "step": 1},
    ),
    "animatediff_mp4_preset": Option(
        "medium", "MP4: preset (slower presets give smaller files)", "Dropdown", {"choices": list(PRESETS)}
    ),
    "animatediff_webm_crf": Option(
        24,
        "WebM: CRF (lower values give better quality and larger files)",
        "Slider",
        {"minimum": 0, "maximum": 63, "step": 1},
    ),
    "animatediff_odd_sizes": Option(
        "pad",
        "MP4: pad or scale frames of odd sizes, which the format does not support",
        "Radio",
        {"choices": ["pad", "scale"]},
    ),
}


def option(key: str) -> Any:
    """An option's value; its default if it was never set or the WebUI runs without a page (API only)."""
    value = a1111.opts().data.get(key)
    return OPTIONS[key].default if value is None else value
