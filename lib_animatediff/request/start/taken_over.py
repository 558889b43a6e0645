"""What a clip takes over from its source video: number of frames, rate, size and sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings import SETTINGS
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video.fitting import inherited_size
from lib_animatediff.video.mask import examine_mask
from lib_animatediff.video.metadata import kind_of
from lib_animatediff.video.series import deep_format, is_series
from lib_animatediff.video.sound import SOUND_FORMATS, Sound, check_sound, has_sound
from lib_animatediff.video.source import SourceFacts, examine
from lib_animatediff.video.timing import exact_fps
from motion_module import ClipError

_PACE = Fraction(1, 50)  # seconds by which image and sound may part
_DRAWS_ANEW = "LCM"


@dataclass(frozen=True)
class Names:
    """What a host calls the settings that messages name."""

    resample: str = "video_fps"
    fps: str = "fps"
    inversion: str = "video_inversion"


NAMES = Names()


@dataclass(frozen=True)
class VideoIn:
    """The video that a clip starts from, examined.

    Attributes:
        start: its chosen frames, and the denoising strength.
        facts: about these frames.
        is_muted: whether its sound is left out.
        names: of settings, for messages.
        has_more_masks: whether the masks go on after the last frame of the video.
    """

    start: VideoStart
    facts: SourceFacts
    is_muted: bool
    names: Names
    has_more_masks: bool = False

    @property
    def rate(self) -> float:
        """Frames per second that a clip can take over.

        Raises:
            ClipError: a clip cannot have so many or so few.
        """
        limits, fps, source = SETTINGS["fps"], self.facts.fps, self.start.source
        assert limits.minimum is not None
        assert limits.maximum is not None
        if not limits.minimum <= fps <= limits.maximum:
            raise ClipError(
                f"{source.name} has {float(fps):.4g} frames per second, and a clip can have {limits.minimum:g} to "
                f"{limits.maximum:g}. Resample it with {self.names.resample}, or play it at another speed with "
                f"{self.names.fps}.",
                code="AD-K26",
            )
        return float(fps)

    def size(self, width: int | None, height: int | None) -> tuple[int, int]:
        """Width and height of the clip, in which given sides stay."""
        return inherited_size(self.facts.size, self.start.source.fit, width=width, height=height)

    def sound(self, plan: ClipPlan, formats: Sequence[str]) -> Sound | None:
        """The sound of the clip's files; None if there is none, or none that fits.

        Raises:
            ClipError: it is damaged.
        """
        if not self._is_heard(formats) or self._why_silent(plan):
            return None
        sound = Sound(self.start.source.path, self.facts.start, _duration(plan))
        check_sound(sound)
        return sound

    def notes(self, plan: ClipPlan, formats: Sequence[str], sampler: str) -> list[Note]:
        """What the user should know about the clip and its source.

        Args:
            sampler: as the WebUI calls it.
        """
        source, found = self.start.source, []
        if self.start.inversion and sampler == _DRAWS_ANEW:
            text = f"has next to no effect with {sampler}, which draws new noise at every step. Choose another sampler."
            found.append(Note(self.names.inversion, text))
        if self.facts.varies:
            text = (
                "shows its frames for different times, which the clip does not: it has "
                f"{float(self.facts.fps):.4g} frames per second throughout. {self.names.resample} keeps the times."
            )
            found.append(Note(source.name, text))
        if self.has_more_masks and self.start.mask is not None:
            text = f"has more masks than {source.name} has frames. The first {self.facts.frames} are used."
            found.append(Note(self.start.mask.name, text))
        if self._is_heard(formats) and (why := self._why_silent(plan)):
            found.append(Note("The clip", f"has no sound, since {why}."))
        return found

    def _is_heard(self, formats: Sequence[str]) -> bool:
        """Whether there is sound, and a format that takes it."""
        path = self.start.source.path
        return not self.is_muted and bool(set(formats) & set(SOUND_FORMATS)) and _is_film(path) and has_sound(path)

    def _why_silent(self, plan: ClipPlan) -> str:
        if not plan.makes_clip:
            return "the preview is one image"
        if plan.output.ping_pong:
            return "it also plays backward"
        other_pace = abs(_duration(plan) - self.facts.duration) > _PACE
        return f"it plays at another speed than {self.start.source.name}" if other_pace else ""


@dataclass(frozen=True)
class ClipSource:
    """What the files of a clip take over from its source video and its images.

    Attributes:
        sound: None: they have none.
        recipe: what recipes say of the sources by their kind, such as the video's chosen frames, name and hash, but not
            its path.
    """

    sound: Sound | None
    recipe: dict[str, Any]

    def sound_of(self, frames: int, fps: float) -> Sound | None:
        """The sound of so many frames, which an interrupt makes fewer."""
        if self.sound is None:
            return None
        return replace(self.sound, duration=min(self.sound.duration, frames / exact_fps(fps)))


def examined(start: VideoStart, frames: int, *, is_muted: bool, names: Names) -> VideoIn:
    """Read the video of a start once.

    Args:
        frames: of the clip; 0: all that the video has.
        names: of settings, for messages.

    Raises:
        AnimateDiffError: the video cannot be used, see `examine`.
    """
    most = int(SETTINGS["frames"].maximum or 0)
    facts = examine(start.source, frames=min(max(frames, 0), most), most=most)
    goes_on = start.mask is not None and examine_mask(start.mask, start.source, facts)
    return VideoIn(start, facts, is_muted, names, goes_on and not frames and start.source.end is None)


def _duration(plan: ClipPlan) -> Fraction:
    return plan.frames / exact_fps(plan.output.fps)


def _is_film(path: Path) -> bool:
    return not is_series(path) and kind_of(path) == "video" and not deep_format(path)
