"""Write a clip's frames to a file that plays everywhere."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import ClipError

if TYPE_CHECKING:
    from PIL.Image import Image

TICKS_PER_SECOND = 100  # GIF counts time in hundredths of a second
MILLISECONDS_PER_TICK = 10
GIF_COLOURS = 256


def there_and_back(frames: Sequence[Image]) -> list[Image]:
    """The frames, and then back to the first, without showing either end twice."""
    return [*frames, *frames[-2:0:-1]]


def write_gif(path: Path, frames: Sequence[Image], *, fps: float, loop_count: int = 0, comment: str = "") -> None:
    """Write an animated GIF under a temporary name and move it into place, so that no half file is ever seen.

    Args:
        path: where to; the folder is made.
        frames: pictures of one size.
        fps: frames per second; durations are spread over whole ticks so that the clip lasts as long as it should.
        loop_count: how often the clip plays; 0 for ever.
        comment: text inside the file, where the WebUI's PNG Info tab finds it.

    Raises:
        ClipError: there are no frames, or they differ in size.
        OSError: the folder cannot be written.
    """
    if not frames:
        raise ClipError("There are no frames to write.")
    if len({frame.size for frame in frames}) > 1:
        raise ClipError(f"The frames of a clip must have one size, not {sorted({frame.size for frame in frames})}.")
    pictures = _in_one_palette([frame.convert("RGB") for frame in frames])
    durations = frame_durations(len(frames), fps)
    shown = [(picture, sum(durations[i] for i in span)) for picture, span in _without_repeats(pictures)]
    buffer = io.BytesIO()
    shown[0][0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=[picture for picture, _ in shown[1:]],
        duration=[duration for _, duration in shown],
        comment=comment.encode(errors="replace"),
        # A file that plays once has no loop field; the field counts repetitions after the first time.
        **({} if loop_count == 1 else {"loop": max(loop_count - 1, 0)}),
    )
    _write_whole(path, buffer.getvalue())


def _in_one_palette(pictures: list[Image]) -> list[Image]:
    """The same 256 colours for all frames: colours of a palette per frame would flicker."""
    from PIL import Image

    width, height = pictures[0].size
    sheet = Image.new("RGB", (width, height * len(pictures)))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (0, index * height))
    palette = sheet.quantize(GIF_COLOURS)
    return [picture.quantize(palette=palette) for picture in pictures]


def _without_repeats(pictures: list[Image]) -> list[tuple[Image, list[int]]]:
    """Each picture with the frames that show it: a GIF shows a picture longer instead of storing it again."""
    groups = groupby(range(len(pictures)), key=lambda index: pictures[index].tobytes())
    return [(pictures[span[0]], span) for span in (list(group) for _, group in groups)]


def frame_durations(frames: int, fps: float) -> list[int]:
    """Milliseconds of each frame, whole ticks whose sum is the clip's length to half a tick (8 fps: 120, 130, ...)."""
    edges = [round(index * TICKS_PER_SECOND / fps) for index in range(frames + 1)]
    return [(after - before) * MILLISECONDS_PER_TICK for before, after in pairwise(edges)]


def write_contact_sheet(path: Path, frames: Sequence[Image], *, columns: int = 8) -> None:
    """Write a clip's frames side by side as a PNG, in reading order.

    Raises:
        ClipError: there are no frames.
        OSError: the folder cannot be written.
    """
    from PIL import Image

    if not frames:
        raise ClipError("There are no frames to write.")
    width, height = frames[0].size
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (width * min(columns, len(frames)), height * rows))
    for index, frame in enumerate(frames):
        sheet.paste(frame, (width * (index % columns), height * (index // columns)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    _write_whole(path, buffer.getvalue())


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)  # mkstemp's private mode would hide the clip from the user's other programs
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
