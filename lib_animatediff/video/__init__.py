"""Clips as files: written in any format with their recipe inside, and read again with exact times."""

from .encoding import Encoding, StopWriting
from .filenames import place_within, safe_name
from .formats import FORMATS
from .metadata import read_recipe
from .motion_meter import Motion, measure
from .reader import ClipFrame, read_clip
from .recipe import Recipe
from .timing import exact_fps, frame_durations, ping_pong
from .write import write_clip, write_contact_sheet, write_gif

__all__ = [
    "FORMATS",
    "ClipFrame",
    "Encoding",
    "Motion",
    "Recipe",
    "StopWriting",
    "exact_fps",
    "frame_durations",
    "measure",
    "ping_pong",
    "place_within",
    "read_clip",
    "read_recipe",
    "safe_name",
    "write_clip",
    "write_contact_sheet",
    "write_gif",
]
