"""Clips as files: written in any format with their recipe inside, and read again with exact times."""

from .clip import Encoding
from .formats import FORMATS
from .meter import Motion, measure, plot
from .names import place_within, safe_name
from .reader import ClipFrame, read_clip
from .recipe import Recipe
from .texts import read_recipe
from .timing import exact_fps, frame_durations, there_and_back
from .write import write_clip, write_contact_sheet, write_gif

__all__ = [
    "FORMATS",
    "ClipFrame",
    "Encoding",
    "Motion",
    "Recipe",
    "exact_fps",
    "frame_durations",
    "measure",
    "place_within",
    "plot",
    "read_clip",
    "read_recipe",
    "safe_name",
    "there_and_back",
    "write_clip",
    "write_contact_sheet",
    "write_gif",
]
