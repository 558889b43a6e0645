"""The second pass of other hosts, which is the WebUI's own."""

from __future__ import annotations

from lib_animatediff.request.effects import Note
from lib_animatediff.request.settings import ClipSettings
from lib_animatediff.request.settings.second_pass import NOT_ENLARGED


def second_pass_notes(settings: ClipSettings) -> tuple[Note, ...]:
    """A note if a request asks for the second pass of the command line."""
    if settings.upscale == NOT_ENLARGED:
        return ()
    return (Note("upscale", "has no effect in the WebUI. Use Hires. fix of txt2img, which enlarges clips as well."),)
