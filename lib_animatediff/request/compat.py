"""Names and values of the existing AnimateDiff extension (sd-webui-animatediff) that its clients still send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALIASES: dict[str, tuple[str, ...]] = {  # by the canonical name of the setting
    "enable": ("enabled",),
    "model": ("pia", "i2v"),  # as on the command line, where these models take the place of a motion module
    "frames": ("video_length",),
    "loop_count": ("loop_number", "loop"),
    "context_length": ("batch_size",),
    "formats": ("format",),
    "preview": ("poster",),  # our own earlier name
    "video": ("video_source", "video_path"),
    "mask": ("mask_path",),
}

# `closed_loop` was a checkbox in early releases: all windows looped, or none.
CHECKBOX_VALUES: dict[str, dict[bool, str]] = {"closed_loop": {True: "A", False: "N"}}

# `reverse` was a list of checkboxes by number: 0 appends the frames in reverse; 1 and 2 leave out the first and the
# last of them, as we always do.
LISTS_WITH_SWITCH: dict[str, int] = {"reverse": 0}

# Names without suffix under which one motion module is published: by its authors, and by the existing extension.
SAME_MODULES: tuple[tuple[str, ...], ...] = (
    ("v3_sd15_mm", "mm_sd15_v3"),
    ("mm_sd_v15_v2", "mm_sd15_v2"),
    ("mm_sd_v15", "mm_sd15_v1"),
    ("mm_sd_v14", "mm_sd14_v1"),
    ("mm_sdxl_v10_beta", "mm_sdxl_beta"),
    ("hotshotxl_mm_v1", "mm_sdxl_hs"),
    ("AnimateLCM_sd15_t2v", "mm_sd15_AnimateLCM"),
)

PLAIN_VALUES: dict[str, tuple[Any, ...] | None] = {
    # Arguments without a setting here, with the values that ask for nothing beyond a plain clip. None: any value is
    # accepted, because the argument only tunes a feature that is itself refused.
    "interp": ("Off", "off", "OFF", False),
    "interp_x": None,
    "is_i2i_batch": (False,),
    "video_default": (False,),
    "prompt_scheduler": (None, "", []),
}

RAMP = {"latent_power": 1.0, "latent_scale": 32.0, "latent_power_last": 1.0, "latent_scale_last": 32.0}
"""What the existing extension's image to video takes for a value that is not given."""
_LAST_FRAME = "last_frame"

_SOURCES = ("video_path", "video_source")  # the first one that is given counts

FILM_FACTOR = "interp_x"
LARGEST_FACTOR = 10  # of frame interpolation; what the panel there sets
_FILM_FACTOR_THERE = LARGEST_FACTOR
_FPS_THERE = 8.0
_SLOWEST = 1.0  # frames per second that a clip may have


def as_one_client(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a client of the existing extension without names that contradict each other there."""
    used = [name for name in _SOURCES if values.get(name)][:1]
    values = {name: value for name, value in values.items() if name not in _SOURCES or name in used}
    return with_whole_ramp(without_film(values))


def with_whole_ramp(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with a latent scale, if a client asks for the existing extension's image to video in any way.

    There, ``latent_scale`` is 32 if it is not given, and here 0, which turns it off.
    """
    asked = any(values.get(name) not in (None, "") for name in (*RAMP, _LAST_FRAME))
    is_given = values.get("latent_scale") is not None
    return {**values, "latent_scale": RAMP["latent_scale"]} if asked and not is_given else values


def asks_for_film(values: Mapping[str, Any]) -> bool:
    """Whether a client asks for the frame interpolation of the existing extension."""
    asked = values.get("interp")
    return isinstance(asked, str) and asked.strip().lower() == "film"


def without_film(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with ``interpolate`` instead of FILM.

    There, ``fps`` is the rate of the file, and more frames make it longer. So the clip's own rate is a fraction of it.
    """
    if not asks_for_film(values):
        return values
    rest = {name: value for name, value in values.items() if name not in ("interp", FILM_FACTOR)}
    given, fps = values.get(FILM_FACTOR), rest.get("fps")
    try:
        factor = float(_FILM_FACTOR_THERE if given is None else given)
        shown_at = float(_FPS_THERE if fps is None else fps)
    except (TypeError, ValueError):  # the check of the values says so
        return {"interpolate": f"x{given}", **rest}
    if not factor.is_integer() or not 1 < factor <= LARGEST_FACTOR:
        return {"interpolate": f"x{factor:g}", **rest}
    made_for = max(shown_at / factor, _SLOWEST)
    interpolate = f"x{factor:g}" if made_for * factor == shown_at else f"{shown_at:g}"
    return {"interpolate": interpolate, **rest, "fps": made_for}
