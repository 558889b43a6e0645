"""The clip that options of `animate` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.hosts.diffusers.animate import notes_at
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS
from lib_animatediff.jobs.recipe import Request, recipe_of
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.taken_over import VideoIn
from lib_animatediff.video import Encoding, Recipe, write_clip
from lib_animatediff.video.formats import format_of, path_for

from .start.images_in import ImagesIn

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class AskedClip:
    """A request with what happens to its frames.

    Attributes:
        output: the file, whose suffix chooses the format where none is given.
        formats: as given.
        lines: about the choice of the sampler.
        video, images: what the clip starts from.
    """

    request: Request
    output: Path
    formats: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    video: VideoIn | None = None
    images: ImagesIn | None = None

    @property
    def keys(self) -> list[str]:
        """The keys of the formats.

        Raises:
            ClipError: the suffix of the output is that of no format.
        """
        return [key.lower() for key in self.formats] or [format_of(self.output)]

    @property
    def places(self) -> list[Path]:
        """The files of the clip."""
        return [path_for(self.output, key) for key in self.keys]

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that its files contain, with the hashes that the clip's files have when this is read first."""
        return recipe_of(self.request, asdict(Encoding()))

    def notes(self, plan: ClipPlan) -> list[str]:
        """Lines that the user should read before the clip is rendered."""
        sampler = SAMPLERS[self.request.sampler].webui
        of_video = map(str, self.video.notes(plan, self.keys, sampler) if self.video else ())
        of_plan = notes_at(plan, self.request.size)
        return [*self.lines, *of_plan, *of_video, *(self.images.lines if self.images else ())]

    def sound(self, plan: ClipPlan) -> Any:
        """The sound of the video, for the formats that have sound; None: there is none."""
        return self.video.sound(plan, self.keys) if self.video else None

    def write(self, plan: ClipPlan, images: Sequence[Image], sound: Any) -> tuple[list[Path], Sequence[Image]]:
        """Write the files; returns them with the frames that they show.

        Raises:
            ClipNotWrittenError: a file could not be written.
        """
        shown = plan.output.shown(images)
        written = write_clip(
            self.output,
            shown,
            formats=self.formats,
            fps=plan.output.shown_fps,
            loop_count=plan.output.loop_count,
            recipe=self.recipe,
            sound=sound,
        )
        return written, shown
