"""Clips inside a selectable script, such as "Prompts from file" or the X/Y/Z plot, which builds the reply itself."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lib_animatediff.hosts.webui.compat.base import State


class ClipImage(Image):
    """A clip's first frame for scripts. The WebUI's API, which saves images to memory, sends the clip."""

    clip_file: Path

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the clip into a buffer, the first frame into a file."""
        if isinstance(fp, io.BytesIO):
            fp.write(self.clip_file.read_bytes())
        else:
            super().save(fp, format, **params)


def clip_image(first_frame: Image, file: Path) -> ClipImage:
    """An image of the first frame that the API sends as this file."""
    image = first_frame.copy()
    image.__class__ = ClipImage
    assert isinstance(image, ClipImage)
    image.clip_file = file
    return image


class ClipFacts(tuple[dict[str, Any], ...]):
    """Data of clips in ``p.extra_generation_params``: the reply has them, infotexts do not.

    The WebUI calls a callable for each infotext, and leaves out None.
    """

    __slots__ = ()

    def __call__(self, **_given: Any) -> None:
        """The text for an infotext: none."""


@dataclass
class ScriptRun:
    """The clips of all runs inside one request.

    Attributes:
        facts: data of each clip so far. Replies share this list, since a script keeps that of any run.
    """

    facts: list[dict[str, Any]] = field(default_factory=list)
    _started: float | None = None

    def add(self, state: State, facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add a run's clips, and return those of all runs of the request."""
        if self._started != state.time_start:
            self.facts, self._started = [], state.time_start
        self.facts += facts
        return self.facts
