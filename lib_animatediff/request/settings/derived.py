"""Values derived from the settings of a clip, such as its windows and its seeds."""

from __future__ import annotations

from collections.abc import Sequence

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.engine.reuse.schedule import FEWEST_STEPS, FeatureReuse
from lib_animatediff.request.masks import unpacked_mask
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE, parse_blocks, parse_frames, parse_steps
from lib_animatediff.sampling.frame_noise import parse_frame_seeds
from lib_animatediff.sampling.guidance import GuidanceInterval
from lib_animatediff.sampling.text2video_zero import NAME, Text2VideoZero
from lib_animatediff.video import exact_fps
from lib_animatediff.video.interpolate import Interpolation
from motion_module import ClipError

from .interpolation import FASTEST, shown_fps
from .setting import CAMERA, CONTROLNET, GUIDES, START_FROM, VIDEO_IN
from .table import AUTOMATIC_CONTEXT, FIRM_LOOP, LOOPED, NO_LOOP, SETTINGS, ClipSettings

VIDEO_SETTINGS = tuple(name for name, each in SETTINGS.items() if each.group == VIDEO_IN)
IMAGE_SETTINGS = tuple(name for name, each in SETTINGS.items() if each.group == START_FROM)
GUIDE_SETTINGS = tuple(name for name, each in SETTINGS.items() if each.group in (GUIDES, CAMERA))
CONTROL_SETTINGS = tuple(name for name, each in SETTINGS.items() if each.group == CONTROLNET)

# Settings that need a motion module. The panel sends every setting, so default values are accepted.
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
    "reuse",
    "upscale",
)


def clip_frames(settings: ClipSettings) -> int:
    """Number of frames in the clip; ``frames=0`` means the context length."""
    return settings.frames or context_length(settings)


def context_length(settings: ClipSettings) -> int:
    """Number of frames in a context window; ``context_length=0`` means the length that modules are trained on."""
    return settings.context_length or AUTOMATIC_CONTEXT


def context_windows(settings: ClipSettings) -> ContextWindows | None:
    """The clip's context windows; None if one window covers the whole clip and does not roll."""
    windows = given_windows(settings)
    return windows if windows.apply_to(clip_frames(settings)) else None


def given_windows(settings: ClipSettings) -> ContextWindows:
    """The context windows of the settings, for clips of any length."""
    is_loop = settings.closed_loop != NO_LOOP
    return ContextWindows(
        length=context_length(settings),
        overlap=overlap(settings),
        stride=settings.stride,
        kind=LOOPED if is_loop else settings.context_kind,
        fusion=settings.fusion,
        closed=settings.closed_loop == FIRM_LOOP,
        as_views=settings.views,
    )


def overlap(settings: ClipSettings) -> int:
    """Number of frames that neighbouring windows share; ``overlap=-1`` means a quarter of a window."""
    return context_length(settings) // 4 if settings.overlap < 0 else settings.overlap


def motion_scale(settings: ClipSettings) -> MotionScale | None:
    """The amount of motion; None means as trained.

    Raises:
        ClipError: a list of numbers is malformed or does not fit the clip's length.
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
    """The seed of each frame; None if ``frame_seeds`` is empty.

    Raises:
        ClipError: a value is not a seed, or there are more seeds than frames.
    """
    return parse_frame_seeds(settings.frame_seeds, clip_frames(settings))


def travels_in_loop(settings: ClipSettings) -> bool:
    """Whether prompt travel loops from the last prompt to the first, as in the existing extension."""
    return settings.closed_loop in ("R+P", FIRM_LOOP)


def interpolation(settings: ClipSettings) -> Interpolation | None:
    """How frames are added to the clip; None: none are.

    Raises:
        ClipError: the file would have too many frames per second.
    """
    made_for, shown_at = exact_fps(settings.fps), shown_fps(settings.interpolate, settings.fps)
    if shown_at <= made_for or settings.preview:
        return None
    if shown_at > FASTEST:
        raise ClipError(
            f"interpolate={settings.interpolate} makes {float(shown_at):g} frames per second of fps={settings.fps:g}, "
            f"more than {FASTEST:g}. Lower one of them.",
            code="AD-C61",
        )
    return Interpolation(made_for, shown_at, ping_pong=settings.reverse, is_loop=is_loop(settings))


def is_loop(settings: ClipSettings) -> bool:
    """Whether the windows lead the end of the clip back to its start, which weak loops do in long clips only."""
    if settings.closed_loop == NO_LOOP:
        return False
    return settings.closed_loop == FIRM_LOOP or clip_frames(settings) > context_length(settings)


def feature_reuse(settings: ClipSettings, steps: int) -> FeatureReuse | None:
    """How features are reused over the steps; None: every step computes everything.

    Args:
        steps: of the sampler.

    Raises:
        ClipError: there are too few steps.
    """
    if settings.reuse == 1 or settings.preview:
        return None
    if steps < FEWEST_STEPS:
        raise ClipError(
            f"reuse={settings.reuse} needs at least {FEWEST_STEPS} sampling steps, not {steps}: so few steps differ "
            "too much to share features. Set reuse to 1, or raise the steps.",
            code="AD-C41",
        )
    return FeatureReuse(settings.reuse, settings.reuse_branch, settings.reuse_on_cpu)


def guidance_interval(settings: ClipSettings) -> GuidanceInterval:
    """The part of the sampling steps in which CFG acts."""
    return GuidanceInterval(settings.guidance_start, settings.guidance_end)


def text2video_zero(settings: ClipSettings) -> Text2VideoZero:
    """The parameters of Text2Video-Zero.

    Raises:
        ClipError: background smoothing is on without a motion mask, or off with one.
    """
    mask = unpacked_mask(settings.motion_mask) if settings.motion_mask else None
    if mask is not None and not settings.zero_smoothing:
        raise ClipError(
            f"{NAME} uses the motion mask only for background smoothing, which is off. Set zero_smoothing, such as "
            "0.6, or remove the motion mask.",
            code="AD-C13",
        )
    return Text2VideoZero((settings.zero_x, settings.zero_y), settings.zero_smoothing, mask)


def refuse_with_text2video_zero(settings: ClipSettings) -> None:
    """Refuse settings that need a motion module in a clip of Text2Video-Zero.

    Raises:
        ClipError: such settings differ from their defaults; the message names them.
    """
    refuse_without_module([name for name in _OF_MOTION_MODULES if getattr(settings, name) != SETTINGS[name].default])


def refuse_without_effect(settings: ClipSettings, names: Sequence[str], advice: str) -> None:
    """Refuse settings that were changed although they have no effect where they are used.

    Args:
        names: of these settings.
        advice: what to do instead.

    Raises:
        ClipError: with the settings' names.
    """
    changed = [name for name in names if getattr(settings, name) != SETTINGS[name].default]
    if changed:
        raise ClipError(
            f"{', '.join(changed)} would have no effect in this call. {advice}, or reset it to its default.",
            code="AD-C15",
        )


def refuse_without_module(asked: Sequence[str]) -> None:
    """Refuse what needs a motion module where there is none.

    Raises:
        ClipError: with what was asked for.
    """
    if asked:
        raise ClipError(
            f"{NAME} uses no motion module and cannot apply {', '.join(asked)}. Reset these settings to their "
            "defaults, or choose a motion module.",
            code="AD-C14",
        )
