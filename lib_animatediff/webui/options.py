"""Our section of the WebUI's settings page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
