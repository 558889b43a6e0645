"""Clips as files: written in any format with their recipe inside, and read again with exact times."""

from .encoding import Encoding, StopWriting
from .filenames import place_within, safe_name
from .formats import FORMATS
from .mask import VideoMask
from .metadata import read_recipe
from .motion_meter import Motion, measure
from .reader import ClipFrame, read_clip
from .recipe import Recipe
from .sound import Sound
from .source import Source, SourceFacts, examine, source_frames
from .timing import exact_fps, frame_durations, ping_pong
from .write import write_clip, write_contact_sheet, write_gif

__all__ = [
    "FORMATS",
    "ClipFrame",
    "Encoding",
    "Motion",
    "Recipe",
    "Sound",
    "Source",
    "SourceFacts",
    "StopWriting",
    "VideoMask",
    "exact_fps",
    "examine",
    "frame_durations",
    "measure",
    "ping_pong",
    "place_within",
    "read_clip",
    "read_recipe",
    "safe_name",
    "source_frames",
    "write_clip",
    "write_contact_sheet",
    "write_gif",
]
