"""A finished clip in the WebUI of which some frames are rendered again: its size is that of the new clip."""

from __future__ import annotations

from typing import Any

from lib_animatediff.request.effects import Note
from lib_animatediff.request.start.rerender import Rerender
from lib_animatediff.video.fitting import Size


def size_of_first_pass(p: Any, again: Rerender) -> Size:
    """The clip's size; with hires fix that of the request, since the second pass makes the clip's size."""
    return (int(p.width), int(p.height)) if getattr(p, "enable_hr", False) else again.size


def rerender_notes(p: Any, again: Rerender | None) -> list[Note]:
    """A note if the frames that stay have to be scaled, which hires fix can ask for."""
    if again is None or not getattr(p, "enable_hr", False):
        return []
    made = _size_of_second_pass(p)
    if made == again.size:
        return []
    width, height = again.size
    text = f"has {width}x{height} pixels, and hires fix makes {made[0]}x{made[1]}, so that its other frames are scaled."
    return [Note(again.path.name, text)]


def _size_of_second_pass(p: Any) -> Size:
    """As the WebUI computes it, later: of one given side, the other one has the clip's shape."""
    width, height = int(getattr(p, "hr_resize_x", 0)), int(getattr(p, "hr_resize_y", 0))
    if not width and not height:
        return int(p.width * p.hr_scale), int(p.height * p.hr_scale)
    return width or height * p.width // p.height, height or width * p.height // p.width
