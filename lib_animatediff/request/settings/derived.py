"""What follows from the settings of a clip."""

from __future__ import annotations

from collections.abc import Sequence

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.request.masks import unpacked_mask
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE, parse_blocks, parse_frames, parse_steps
from lib_animatediff.sampling.frame_noise import parse_frame_seeds
from lib_animatediff.sampling.freeinit import steps_of
from lib_animatediff.sampling.text2video_zero import NAME, Text2VideoZero
from motion_module import ClipError

from .table import AUTOMATIC_CONTEXT, FIRM_LOOP, LOOPED, NO_LOOP, SETTINGS, ClipSettings

# What only a motion module can do anything about. The panel sends all it has, so their defaults ask for nothing.
_OF_MOTION_MODULES = (
    "scale",
    "effect",
    "scale_steps",
    "effect_steps",
    "effect_start",
    "effect_end",
    "blocks",
    "mask_of",
    "motion_loras",
    "freeinit_enable",
    "views",
    "closed_loop",
)


def clip_frames(settings: ClipSettings) -> int:
    """Frames of the clip, where 0 stands for the context length."""
    return settings.frames or context_length(settings)


def context_length(settings: ClipSettings) -> int:
    """Frames of a context window, where 0 stands for what modules do best."""
    return settings.context_length or AUTOMATIC_CONTEXT


def context_windows(settings: ClipSettings) -> ContextWindows | None:
    """How the clip is cut into windows; None where one window sees all of it."""
    length = context_length(settings)
    if clip_frames(settings) <= length:
        return None
    is_loop = settings.closed_loop != NO_LOOP
    return ContextWindows(
        length=length,
        overlap=overlap(settings),
        stride=settings.stride,
        kind=LOOPED if is_loop else settings.context_kind,
        fusion=settings.fusion,
        closed=settings.closed_loop == FIRM_LOOP,
        as_views=settings.views,
    )


def overlap(settings: ClipSettings) -> int:
    """Frames that neighbouring windows share, where -1 stands for a quarter of a window."""
    return context_length(settings) // 4 if settings.overlap < 0 else settings.overlap


def motion_scale(settings: ClipSettings) -> MotionScale | None:
    """How much motion; None is as trained.

    Raises:
        ClipError: a text of numbers is wrong, or does not suit the clip's length.
    """
    frames = clip_frames(settings)
    mask = unpacked_mask(settings.motion_mask) if settings.motion_mask else None
    amount = MotionScale(
        scale=parse_frames("scale", settings.scale, frames, MOST_SCALE),
        effect=parse_frames("effect", settings.effect, frames, MOST_EFFECT),
        scale_mask=mask if settings.mask_of in ("scale", "both") else None,
        effect_mask=mask if settings.mask_of in ("effect", "both") else None,
        scale_steps=parse_steps("scale_steps", settings.scale_steps, MOST_SCALE),
        effect_steps=parse_steps("effect_steps", settings.effect_steps, MOST_EFFECT),
        start=settings.effect_start,
        end=settings.effect_end,
        blocks=parse_blocks("blocks", settings.blocks),
    )
    return None if mask is None and amount == MotionScale() else amount


def frame_seeds(settings: ClipSettings) -> list[int] | None:
    """The seed of each frame, where the user gives them.

    Raises:
        ClipError: they are no seeds, or too many.
    """
    return parse_frame_seeds(settings.frame_seeds, clip_frames(settings))


def freeinit_rounds(settings: ClipSettings, steps: int) -> list[int]:
    """Steps of each run of the sampler: one, or FreeInit's."""
    if not settings.freeinit_enable or settings.preview:
        return [steps]
    count = settings.freeinit_iters
    return [steps_of(number, count, steps, settings.freeinit_coarse) for number in range(count)]


def travels_in_loop(settings: ClipSettings) -> bool:
    """Whether the last prompt of a travel leads on to the first, as clients of the existing extension know it."""
    return settings.closed_loop in ("R+P", FIRM_LOOP)


def is_text2video_zero(model: str) -> bool:
    """Whether what stands where the name of a motion module is expected means Text2Video-Zero."""
    return model.strip().lower() == NAME.lower()


def text2video_zero(settings: ClipSettings) -> Text2VideoZero:
    """How Text2Video-Zero makes the clip.

    Raises:
        ClipError: the background is to be smoothed and there is no mask, or the other way round.
    """
    mask = unpacked_mask(settings.motion_mask) if settings.motion_mask else None
    if mask is not None and not settings.zero_smoothing:
        raise ClipError(
            f"With {NAME} the motion mask only tells background smoothing what to leave alone, and that is off. Set "
            "zero_smoothing, such as 0.6, or take the motion mask away."
        )
    return Text2VideoZero((settings.zero_x, settings.zero_y), settings.zero_smoothing, mask)


def refuse_with_text2video_zero(settings: ClipSettings) -> None:
    """What only a motion module does, asked for together with Text2Video-Zero.

    Raises:
        ClipError: with the settings' names.
    """
    refuse_without_module([name for name in _OF_MOTION_MODULES if getattr(settings, name) != SETTINGS[name].default])


def refuse_without_module(asked: Sequence[str]) -> None:
    """Refuse what needs a motion module where there is none.

    Raises:
        ClipError: with what was asked for.
    """
    if asked:
        raise ClipError(
            f"{NAME} has no motion module, which {', '.join(asked)} would need. Leave that as it is by default, or "
            "choose a motion module."
        )
