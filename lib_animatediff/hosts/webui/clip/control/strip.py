"""Which ControlNet unit gets which images in a clip: a strip of thumbnails over its frames, for each unit."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_animatediff.request.control.hosted import HostedControl
from lib_animatediff.request.control.unit import ControlUnit, count_of
from lib_animatediff.video.fitting import CROP
from lib_animatediff.video.series import is_pattern
from lib_animatediff.video.source import Source, chosen_images, over_white
from motion_module import AnimateDiffError

MOST_SHOWN = 16  # frames of a strip
_SIDE = 56  # pixels of a thumbnail
_ALL_UNITS = -1


def control_strips(choose: Callable[[], HostedControl], frames: int) -> str:
    """HTML with a strip for each unit that a request names images for; empty if it names none.

    Args:
        choose: returns what the request says about units.
        frames: of the clip.
    """
    try:
        hosted = choose()
        named = sorted({_ALL_UNITS if image.unit is None else image.unit for image in hosted.images})
        strips = []
        for number in named:
            unit = hosted.unit(max(number, 0), "unit", frames)
            if unit is not None:
                title = "All units" if number == _ALL_UNITS else f"Unit {number}"
                strips.append(_strip(title, unit, hosted.weights(max(number, 0), frames), frames))
    except AnimateDiffError as error:
        return f"<p class='animatediff-plan animatediff-advice'>{html.escape(str(error))}</p>"
    return "".join(strips)


def shown_frames(frames: int) -> list[int]:
    """The frames of a strip: all, or some from the first to the last one."""
    count = min(frames, MOST_SHOWN)
    return [round(place * (frames - 1) / max(count - 1, 1)) for place in range(count)]


def _strip(title: str, unit: ControlUnit, factors: Sequence[float], frames: int) -> str:
    count = 0
    if unit.source is not None:
        count = _count(unit.source, _stamp(unit.source.path), unit.fill, frames)
    order, near = unit.order(frames, count), unit.weights(frames)
    shown = shown_frames(frames)
    pictures = _pictures(unit, [order[frame] for frame in shown])
    cells = [
        f"<figure data-frame='{frame}' data-image='{order[frame]}' data-weight='{factors[frame] * near[frame]:g}'>"
        f"<img src='{picture}' alt='' style='opacity:{min(0.25 + 0.75 * factors[frame] * near[frame], 1):.2f}'>"
        f"<figcaption>{frame}</figcaption></figure>"
        for frame, picture in zip(shown, pictures, strict=True)
    ]
    label = html.escape(f"{title}: {unit.images}")
    return f"<div class='animatediff-strip' aria-label='{label}'><b>{label}</b><div>{''.join(cells)}</div></div>"


def _pictures(unit: ControlUnit, numbers: Sequence[int]) -> list[str]:
    """Thumbnails of images with these numbers, as data URLs."""
    if unit.source is None:
        return [
            _thumbnails(unit.keys[number].source(CROP), _stamp(unit.keys[number].path), (0,))[0] for number in numbers
        ]
    used = tuple(sorted(set(numbers)))
    made = dict(zip(used, _thumbnails(unit.source, _stamp(unit.source.path), used), strict=True))
    return [made[number] for number in numbers]


def _stamp(path: Path) -> Any:
    """What changes when a file or folder does."""
    try:
        stat = (path.parent if is_pattern(path) else path).stat()
    except OSError:  # there is none; reading it says so
        return None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=64)
def _count(source: Source, _changed: Any, fill: str, frames: int) -> int:
    """Kept, since the panel asks at each change of any setting, and images of a video are counted by decoding them."""
    return count_of(source, fill, frames)


@lru_cache(maxsize=64)
def _thumbnails(source: Source, _changed: Any, numbers: tuple[int, ...]) -> tuple[str, ...]:
    found = {}
    for number, image in enumerate(chosen_images(source)):
        if number in numbers:
            found[number] = _data_url(over_white(image))
        if number >= numbers[-1]:
            break
    return tuple(found[number] for number in numbers)


def _data_url(image: Any) -> str:
    small, written = image.copy(), io.BytesIO()
    small.thumbnail((_SIDE, _SIDE))
    small.save(written, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
