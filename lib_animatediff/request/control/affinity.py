"""How closely each frame of a PIA clip follows its image: the lists of the official release, by name.

A list has one value for each frame, by its distance from the frame of the image, for clips of 16 frames. Shorter clips
have its first values. Loops, and clips of more frames, stretch it to the clip, so that they end as those of 16 frames.
"""

from __future__ import annotations

from motion_module import ClipError

LENGTH = 16  # frames of the clips that PIA was trained on
_LISTS: dict[str, tuple[float, ...]] = {
    "small": (1, 0.9, 0.85, 0.85, 0.85, 0.8),
    "medium": (1, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large": (1, 0.8, *(0.7,) * 8, 0.6, 0.5),
    "small-loop": (1, 0.9, 0.85, 0.85, 0.85, *(0.8,) * 7, 0.85, 0.85, 0.9, 1),
    "medium-loop": (1, 0.8, 0.8, 0.8, 0.79, 0.78, *(0.75,) * 5, 0.78, 0.79, 0.8, 0.8, 1),
    "large-loop": (1, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1),
    "small-style": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
    "medium-style": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "large-style": (0.5, 0.2),
}
AFFINITIES = tuple(_LISTS)
SMALL = "small"
_LOOP = "-loop"


def affinity(name: str, frames: int, given: int = 0) -> tuple[float, ...]:
    """The affinity of each frame of a clip.

    Args:
        name: how much moves: small, medium or large; with -loop the clip returns to the image; with -style it takes the
            checkpoint's style.
        frames: of the clip.
        given: the frame of the image.

    Raises:
        ClipError: there is no such list.
    """
    if name not in _LISTS:
        raise ClipError(f"There is no {name!r:.40} motion of PIA. Use one of {', '.join(_LISTS)}.", code="AD-Q47")
    values = _LISTS[name]
    values += values[-1:] * (LENGTH - len(values))
    stretch = 1.0
    if frames > LENGTH or name.endswith(_LOOP):
        stretch = (LENGTH - 1) / max(frames - 1, 1)
    return tuple(_between(values, abs(frame - given) * stretch) for frame in range(frames))


def _between(values: tuple[float, ...], place: float) -> float:
    before = min(int(place), len(values) - 1)
    after = min(before + 1, len(values) - 1)
    share = place - before
    return values[before] + (values[after] - values[before]) * share if after > before else values[before]


def as_weights(values: tuple[float, ...]) -> str:
    """The affinities as the weight of a `ControlUnit`."""
    return ", ".join(f"{value:.6g}" for value in values)
