"""From the settings of a request to the images that its clip starts from, examined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib_animatediff.request.compat import RAMP
from lib_animatediff.request.plan import ClipPlan, add_ramp
from lib_animatediff.request.settings import SETTINGS, ClipSettings, clip_frames
from lib_animatediff.request.settings.start_from import AS_SET, IN_ITS_SHAPE, NO_RAMP
from lib_animatediff.sampling.image_start import LatentRamp
from lib_animatediff.video.fitting import Size, inherited_size
from lib_animatediff.video.source import examine
from motion_module import ClipError
from motion_module.limits import exists

from .continued import last_frames
from .pins import Pin, PinnedFrames, parse_keys
from .ramp import ImageRamp
from .rerender import Rerender, rerender

_LONGEST = 4  # times the shorter side
_OF_RAMP = (*RAMP, "last_frame")
OF_INIT_IMAGES = ("pin_init", *_OF_RAMP)
"""Settings that act on the init image of a host."""

Find = Callable[[str], tuple[Path, str]]
"""The file for a path of the request, and the path as infotexts have it."""


@dataclass(frozen=True)
class ImagesIn:
    """The images of a clip, examined.

    Attributes:
        pins: frames that are given images; None: none are.
        ramp: images in the initial latents; None: none are.
        size: width and height of the first image; None: there is none.
        again: a clip of which some frames are rendered again; None: there is none.
    """

    pins: PinnedFrames | None = None
    ramp: ImageRamp | None = None
    size: Size | None = None
    again: Rerender | None = None


def choose_images(
    settings: ClipSettings, find: Find, init_image: Callable[[], str | None] = lambda: None, *, has_init: bool = False
) -> tuple[ClipSettings, ImagesIn]:
    """Examine the images of a request.

    Args:
        settings: with the number of frames that the clip has.
        init_image: the path of the host's init image, if it is to be frame 0.
        has_init: whether the host has init images; otherwise the settings for them have no effect, and what clients of
            the existing extension send by themselves is left out.

    Returns:
        The settings with paths as infotexts have them, and the images.

    Raises:
        AnimateDiffError: an image is missing or is none, or a frame has two images or does not exist.
    """
    if not has_init and all(ramp_is_plain(name, getattr(settings, name)) for name in _OF_RAMP):
        settings = replace(settings, **{name: SETTINGS[name].default for name in _OF_RAMP})
    pins: list[Pin] = []
    texts: dict[str, Any] = {}
    again = None
    if text := settings.rerender_clip.strip():
        path, texts["rerender_clip"] = find(text)
        again = rerender(path, settings.rerender_frames, settings.rerender_strength)
        _refuse_other_starts(settings)
        pins += again.pins
        settings = replace(settings, frames=again.frames)
    frames = clip_frames(settings)
    if settings.pin_init and (own := init_image()):
        path, shown = find(own)
        pins.append(Pin(0, path))
        settings = replace(settings, pin_init=False)
        texts["image"] = shown
    for name, frame in (("image", 0), ("last_image", frames - 1)):
        if text := getattr(settings, name).strip():
            path, texts[name] = find(text)
            pins.append(Pin(frame, path))
    if text := settings.continue_clip.strip():
        path, texts["continue_clip"] = find(text)
        pins += last_frames(path, settings.keep_frames, frames)
    keys, texts["key_images"] = keys_of(settings.key_images, "key_images", frames, find)
    pins += keys
    ramp = ramp_of(settings) if has_init else None
    if ramp is not None and (text := settings.last_frame.strip()):
        last, texts["last_frame"] = find(text)
        size_of(Pin(frames - 1, last), settings.image_fit)
        ramp = replace(ramp, last_image=last)
    settings = replace(settings, **texts)
    if not pins:
        return settings, ImagesIn(ramp=ramp)
    pinned = PinnedFrames(
        tuple(pins),
        settings.pin_strength,
        settings.pin_inversion,
        settings.image_fit,
        keeps_pixels=again is not None,
        leads_on=bool(settings.continue_clip.strip()),
    )
    pinned.check_inside(frames)
    if again is not None:
        return settings, ImagesIn(pinned, ramp, again.size, again)
    sizes = [size_of(pin, pinned.fit) for pin in pinned.pins]
    return settings, ImagesIn(pinned, ramp, sizes[0])


def keys_of(text: str, name: str, frames: int, find: Find) -> tuple[list[Pin], str]:
    """Images at frames, from a text such as ``8: a.png, -1: b.png``, and the text as infotexts have it.

    Args:
        name: of the setting, for messages.

    Raises:
        ClipError: an entry is malformed, a path may not be read, or a frame does not exist.
    """
    pins, shown = [], []
    for frame, given in parse_keys(text, name):
        path, known = find(given)
        shown.append(f"{frame}: {known}")
        pins.append(Pin(_inside(frame, frames, path), path))
    return pins, ", ".join(shown)


def with_images(plan: ClipPlan, images: ImagesIn) -> ClipPlan:
    """The plan of a clip that starts from these images.

    Raises:
        ClipError: the clip is too short for them, or the method has no motion module.
    """
    if images.again is not None and plan.video is None:
        plan = plan.with_video(images.again.start)
    return add_ramp(plan.with_pins(images.pins), images.ramp)


def _refuse_other_starts(settings: ClipSettings) -> None:
    others = ("video", "continue_clip", "image", "last_image", "key_images", "pin_init")
    given = [name for name in others if getattr(settings, name)]
    if given:
        raise ClipError(
            f"rerender_clip keeps all other frames of its clip, beside which {', '.join(given)} cannot be used. Remove "
            "one of them.",
            code="AD-S37",
        )


def ramp_of(settings: ClipSettings) -> ImageRamp | None:
    """The init image in the initial latents, as the existing extension has it.

    None without a latent scale, and for a clip that starts from frames of another one.
    """
    if settings.latent_scale == NO_RAMP or settings.video or settings.rerender_clip:
        return None
    first = LatentRamp(settings.latent_power, settings.latent_scale)
    return ImageRamp(first, LatentRamp(settings.latent_power_last, settings.latent_scale_last))


def ramp_is_plain(name: str, value: Any) -> bool:
    """Whether clients of the existing extension send this value by themselves."""
    return value in (None, "", False, RAMP.get(name))


def chosen_size(settings: ClipSettings, source: Size | None, fit: str, own: Size) -> Size:
    """Width and height of a clip.

    Args:
        source: of the source video or the first image; None: there is neither.
        fit: how it fits the clip.
        own: of the host's request.

    Raises:
        ClipError: the source is too long and narrow for a clip.
    """
    if source is None or settings.source_size == AS_SET:
        return own
    if max(source) > _LONGEST * min(source):
        raise ClipError(
            f"The source has {source[0]}x{source[1]} pixels, which is too long and narrow for a clip. Set source_size "
            f"to {AS_SET}.",
            code="AD-S21",
        )
    if settings.source_size == IN_ITS_SHAPE:
        factor = min(own) / min(source)
        source = (round(source[0] * factor), round(source[1] * factor))
    return inherited_size(source, fit)


def size_of(pin: Pin, fit: str) -> Size:
    """Width and height of an image.

    Raises:
        AnimateDiffError: it is missing, or is none.
    """
    if not exists(pin.path):
        raise ClipError(f"There is no image {pin.path}. Check the path.", code="AD-S22")
    return examine(pin.source(fit), frames=1).size


def _inside(frame: int, frames: int, path: Path) -> int:
    """A frame that may be counted from the end; `PinnedFrames` checks the others."""
    if frame < -frames:
        raise ClipError(
            f"There is no frame {frame} for {path.name}: the clip has {frames} frames, so that -{frames} is the first. "
            "Choose a later frame, or render more frames.",
            code="AD-S23",
        )
    return frame + frames if frame < 0 else frame
