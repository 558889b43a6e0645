"""Write a clip in as many formats as asked for, and never lose a frame over it."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import AnimateDiffError, ClipError
from motion_module.errors import ClipNotWrittenError

from .atomic import atomic_file, atomic_folder, plain_reason, write_atomic
from .encoding import EncoderInput, Encoding, check_frames
from .filenames import safe_name
from .formats import FORMATS, format_of, is_lossless, key_of, path_for
from .gif import write_gif_file
from .png import write_frames
from .recipe import Recipe
from .timing import exact_fps

if TYPE_CHECKING:
    from PIL.Image import Image

_RESCUE = "AnimateDiff"  # folder below the system's temporary one
_FRAME = re.compile(r"\d{5,}\.png")
_MOST_LOOPS = 65534  # GIF and WebP count in 16 bits


def write_clip(
    path: Path,
    frames: Sequence[Image],
    *,
    formats: Sequence[str] = (),
    fps: float | Fraction = 8,
    loop_count: int = 0,
    recipe: Recipe | None = None,
    encoding: Encoding | None = None,
) -> list[Path]:
    """Write a clip; each file appears whole or not at all, and replaces one of the same name.

    Args:
        path: where to, with or without a suffix; folders are made.
        frames: images of one size.
        formats: keys of `FORMATS`; none: the one that the path's suffix asks for.
        fps: frames per second, see `exact_fps`.
        loop_count: how often it plays; 0 for ever.
        recipe: what to say inside about what made it; None says nothing.
        encoding: how to spend bytes; None: the defaults.

    Returns:
        The files in the order of ``formats``; for frames, their folder.

    Raises:
        ClipError: there are no frames, they differ in size, a format is not known, a number is out of range, or
            something that is no clip has a file's name. Nothing was written.
        ClipNotWrittenError: a format could not be written. The others are there, and the frames are safe.
    """
    check_frames(frames)
    if isinstance(loop_count, bool) or not isinstance(loop_count, int) or not 0 <= loop_count <= _MOST_LOOPS:
        raise ClipError(f"loop_count must be a whole number from 0 to {_MOST_LOOPS}, not {loop_count!r}.")
    keys = [key_of(name) for name in formats] or [format_of(path)]
    clip = EncoderInput(frames, exact_fps(fps), loop_count, recipe, encoding or Encoding())
    places = {key: path_for(path, key) for key in keys}
    if "txt" in places and not clip.infotext:
        raise ClipError("There is no infotext to write into a TXT. Leave that format out.")
    for key, place in places.items():
        _check_place(key, place)
    return _write_all(path, clip, places)


def write_gif(path: Path, frames: Sequence[Image], *, fps: float, loop_count: int = 0, comment: str = "") -> None:
    """Write an animated GIF with a comment, and nothing but that: no rescue, see `write_clip`.

    Args:
        path: where to; the folder is made.
        frames: images of one size.
        fps: frames per second; durations are spread over whole ticks so that the clip lasts as long as it should.
        loop_count: how often the clip plays; 0 for ever.
        comment: text inside the file, where the WebUI's PNG Info tab finds it.

    Raises:
        ClipError: there are no frames, or they differ in size.
        OSError: the folder cannot be written.
    """
    check_frames(frames)
    with atomic_file(path) as part:
        write_gif_file(part, EncoderInput(frames, exact_fps(fps), loop_count, Recipe(comment), Encoding()))


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
    write_atomic(path, buffer.getvalue())


def _check_place(key: str, place: Path) -> None:
    """Only a folder that holds nothing but frames may be replaced."""
    try:
        if not place.is_dir():
            return
    except OSError:  # a name that is too long, which writing will tell
        return
    if key != "frames":
        raise ClipError(f"{place} is a folder. Choose another name.")
    if not all(_FRAME.fullmatch(child.name) for child in place.iterdir()):
        raise ClipError(f"The folder {place} holds other things than frames. Choose another name.")


def _write_all(path: Path, clip: EncoderInput, places: dict[str, Path]) -> list[Path]:
    written: dict[str, Path] = {}
    failures: dict[str, BaseException] = {}
    for key, place in places.items():
        try:
            _write_one(key, place, clip)
            written[key] = place
        except Exception as error:  # encoders raise all sorts
            failures[key] = error
    if not failures:
        return list(written.values())
    safe = next((place for key, place in written.items() if is_lossless(key, clip.encoding)), None)
    raise _not_written(
        [f"{places[key].name} was not written: {_reason(error)}." for key, error in failures.items()],
        list(written.values()),
        safe or _rescue(path, clip),
    ) from next(iter(failures.values()))


def _write_one(key: str, place: Path, clip: EncoderInput) -> None:
    whole = atomic_folder if key == "frames" else atomic_file
    with whole(place) as part:
        FORMATS[key].write(part, clip)


def _rescue(path: Path, clip: EncoderInput) -> Path | None:
    """The frames as PNG, beside where the clip was to be, or where the system keeps what is temporary."""
    name = f"{safe_name(path.stem)}-frames"
    for folder in (path.parent, Path(tempfile.gettempdir()) / _RESCUE):
        try:
            place = _free(folder / name)
            with atomic_folder(place) as part:
                write_frames(part, clip)
            return place
        except Exception:  # the next folder, or the message that says so
            continue
    return None


def _free(path: Path) -> Path:
    place, number = path, 1
    while place.exists():
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def _not_written(sentences: list[str], written: list[Path], frames_at: Path | None) -> ClipNotWrittenError:
    if frames_at is None:
        sentences.append("Its frames could not be saved, either: make room, or choose another folder.")
    else:
        sentences.append(f"Its frames are safe in {frames_at}.")
    return ClipNotWrittenError(" ".join(sentences), frames_at=frames_at, written=written)


def _reason(error: BaseException) -> str:
    return str(error).rstrip(".") if isinstance(error, AnimateDiffError) else plain_reason(error)
