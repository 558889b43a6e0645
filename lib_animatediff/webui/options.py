"""Our section of the WebUI's settings page."""

from __future__ import annotations

from modules import shared

FOLDER_OPTION = "animatediff_model_path"  # the existing extension's name for it
SECTION = ("animatediff", "AnimateDiff")


def register() -> None:
    """Add our options; the WebUI calls this before it builds the page."""
    shared.opts.add_option(
        FOLDER_OPTION,
        shared.OptionInfo(
            "", "Another folder with motion modules, searched besides models/animatediff", section=SECTION
        ),
    )
