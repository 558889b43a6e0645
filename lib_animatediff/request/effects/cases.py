"""What the rules about settings without effect ask of a clip, see `rules`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.request.methods import name_without_file
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE, parse_frames
from lib_animatediff.request.settings import (
    FILE_FORMATS,
    SETTINGS,
    ClipSettings,
    clip_frames,
    context_length,
    given_windows,
)
from lib_animatediff.request.settings.video import MOST_DENOISE
from lib_animatediff.sampling.frame_noise import FREENOISE, noise_sources
from lib_animatediff.video import FORMATS

_COMPARED_STEPS = 8  # of two plans: windows repeat or go on alike


@dataclass(frozen=True)
class Case:
    """The settings of a clip, and what follows from them.

    Attributes:
        travels: whether a prompt travels; None: unknown.
    """

    settings: ClipSettings
    travels: bool | None

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return clip_frames(self.settings)

    @property
    def fits(self) -> bool:
        """Whether one window holds the clip."""
        return self.frames <= context_length(self.settings)

    @property
    def is_zero(self) -> bool:
        """Whether a method without a motion module makes the clip."""
        return name_without_file(self.settings.model) is not None

    @property
    def is_loop(self) -> bool:
        """Whether the clip leads back to its start."""
        return bool(self.settings.closed_loop != SETTINGS["closed_loop"].default)

    @cached_property
    def has_no_motion(self) -> bool:
        """Whether the motion effect is 0 in every frame."""
        return not any(parse_frames("effect", self.settings.effect, self.frames, MOST_EFFECT))

    @cached_property
    def is_scaled(self) -> bool:
        """Whether anything sets another motion scale than 1."""
        given = self.settings
        return bool(given.scale_steps or "scale" in given.blocks) or any(
            value != 1 for value in parse_frames("scale", given.scale, self.frames, MOST_SCALE)
        )

    @cached_property
    def repeats_noise(self) -> bool:
        """Whether FreeNoise has another order than plain noise."""
        frames = self.frames
        return noise_sources(FREENOISE, frames, given_windows(self.settings), 0) != list(range(frames))

    @property
    def has_firm_windows(self) -> bool:
        """Whether a gentle loop has the windows of a firm one."""
        return _as_firm(given_windows(self.settings), self.frames)

    @property
    def keeps_video(self) -> bool:
        """Whether every frame of the source video stays as it is."""
        return not any(parse_frames("denoise", self.settings.denoise, self.frames, MOST_DENOISE))

    @property
    def has_images(self) -> bool:
        """Whether any frame is a given image."""
        given = self.settings
        images = given.image or given.last_image or given.key_images or given.pin_init
        return bool(images or given.continue_clip or given.rerender_clip)

    @property
    def stores_loop_count(self) -> bool:
        """Whether a format stores how often the clip plays."""
        return any(FORMATS[FILE_FORMATS[name]].loops for name in self.settings.formats if name in FILE_FORMATS)


@dataclass(frozen=True)
class Rule:
    """A case in which a setting has no effect.

    Attributes:
        holds: whether this is the case.
        reason: the end of a sentence about the setting; ``{frames}`` is the number of frames.
        of_value: the case depends on the setting's own value, so that another value would have an effect. The reason
            then follows the setting's name directly, and otherwise the words "has no effect, since".
    """

    holds: Callable[[Case], bool]
    reason: str
    of_value: bool = False

    def text(self, case: Case) -> str:
        """The rest of a sentence that begins with the setting's name."""
        lead = "" if self.of_value else "has no effect, since "
        return f"{lead}{self.reason.format(frames=case.frames)}."


@lru_cache(maxsize=64)
def _as_firm(windows: ContextWindows, frames: int) -> bool:
    firm = ContextWindows(windows.length, windows.overlap, windows.stride, windows.kind, windows.fusion, closed=True)
    return all(windows.plan(frames, step) == firm.plan(frames, step) for step in range(_COMPARED_STEPS))
