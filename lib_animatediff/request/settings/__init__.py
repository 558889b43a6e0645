"""All settings of a clip in one table, from which panel, API, infotext, X/Y/Z plot, command line and docs derive."""

from .checks import canonical_name, check_value, parse_settings
from .derived import (
    clip_frames,
    context_length,
    context_windows,
    feature_reuse,
    frame_seeds,
    given_windows,
    guidance_interval,
    interpolation,
    motion_scale,
    overlap,
    refuse_with_text2video_zero,
    refuse_without_effect,
    refuse_without_module,
    text2video_zero,
    travels_in_loop,
)
from .infotext import from_infotext, pasted_values, to_infotext
from .schema import json_schema
from .setting import GROUPS, LONGEST_HELP, Setting, by_group
from .table import AUTOMATIC_CONTEXT, FILE_FORMATS, FORMATS, FRAME, SETTINGS, VIDEO_SETTINGS, ClipSettings

__all__ = [
    "AUTOMATIC_CONTEXT",
    "FILE_FORMATS",
    "FORMATS",
    "FRAME",
    "GROUPS",
    "LONGEST_HELP",
    "SETTINGS",
    "VIDEO_SETTINGS",
    "ClipSettings",
    "Setting",
    "by_group",
    "canonical_name",
    "check_value",
    "clip_frames",
    "context_length",
    "context_windows",
    "feature_reuse",
    "frame_seeds",
    "from_infotext",
    "given_windows",
    "guidance_interval",
    "interpolation",
    "json_schema",
    "motion_scale",
    "overlap",
    "parse_settings",
    "pasted_values",
    "refuse_with_text2video_zero",
    "refuse_without_effect",
    "refuse_without_module",
    "text2video_zero",
    "to_infotext",
    "travels_in_loop",
]
