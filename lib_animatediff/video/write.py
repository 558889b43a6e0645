"""Write a clip in any number of formats, and never lose its frames."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import AnimateDiffError, ClipError
from motion_module.errors import ClipNotWrittenError
from motion_module.limits import exists, is_folder

from .atomic import atomic_file, atomic_folder, plain_reason, write_atomic
from .encoding import EncoderInput, Encoding, StopWriting, check_frames
from .filenames import safe_name
from .formats import FORMATS, format_of, is_lossless, key_of, path_for
from .gif import write_gif_file
from .png import write_frames
from .recipe import Recipe
from .sound import Sound
from .timing import exact_fps

if TYPE_CHECKING:
    from PIL.Image import Image

_RESCUE = "AnimateDiff"  # subfolder of the system's temporary folder
_FRAME = re.compile(r"\d{5,}\.png")
_MOST_LOOPS = 65534  # GIF and WebP store 16 bits


def write_clip(
    path: Path,
    frames: Sequence[Image],
    *,
    formats: Sequence[str] = (),
    fps: float | Fraction = 8,
    loop_count: int = 0,
    recipe: Recipe | None = None,
    encoding: Encoding | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    sound: Sound | None = None,
) -> list[Path]:
    """Write a clip. Each file appears complete or not at all, and replaces an existing one.

    Args:
        path: target, with or without a suffix; missing folders are created.
        frames: images of one size.
        formats: keys of `FORMATS`; by default the format of the path's suffix.
        fps: frames per second, see `exact_fps`.
        loop_count: number of times the clip plays; 0 for infinite.
        recipe: recipe to embed; None for none.
        encoding: encoder options; None for the defaults.
        progress: called with the format's key, the number of encoded frames and the number of frames: before each
            format, and after most frames, and after it. It may raise `StopWriting`, which leaves no incomplete file.
        sound: sound of a video, for MP4 and WebM; None for none.

    Returns:
        The files in the order of ``formats``; a folder for PNG frames.

    Raises:
        ClipError: there are no frames, their sizes differ, a format is unknown, a number is out of range, or a target
            is a folder of other files. Nothing was written.
        ClipNotWrittenError: a format failed. The other formats and the frames were saved.
        StopWriting: raised by ``progress``; it names the files that are complete.
    """
    check_frames(frames)
    if isinstance(loop_count, bool) or not isinstance(loop_count, int) or not 0 <= loop_count <= _MOST_LOOPS:
        raise ClipError(
            f"loop_count must be a whole number from 0 to {_MOST_LOOPS}, not {loop_count!r}.", code="AD-V21"
        )
    keys = [key_of(name) for name in formats] or [format_of(path)]
    clip = EncoderInput(frames, exact_fps(fps), loop_count, recipe, encoding or Encoding(), sound=sound)
    places = {key: path_for(path, key) for key in keys}
    if "txt" in places and not clip.infotext:
        raise ClipError("There is no infotext for a TXT file. Remove this format.", code="AD-V22")
    for key, place in places.items():
        _check_place(key, place)
    return _write_all(path, clip, places, progress)


def write_gif(path: Path, frames: Sequence[Image], *, fps: float, loop_count: int = 0, comment: str = "") -> None:
    """Write an animated GIF with a comment; unlike `write_clip` without rescuing the frames on errors.

    Args:
        path: target; missing folders are created.
        frames: images of one size.
        fps: frames per second; durations are whole ticks that add up to the clip's length.
        loop_count: number of times the clip plays; 0 for infinite.
        comment: text to embed, which the WebUI's PNG Info tab displays.

    Raises:
        ClipError: there are no frames, or their sizes differ.
        OSError: the folder is not writable.
    """
    check_frames(frames)
    with atomic_file(path) as part:
        write_gif_file(part, EncoderInput(frames, exact_fps(fps), loop_count, Recipe(comment), Encoding()))


def write_contact_sheet(path: Path, frames: Sequence[Image], *, columns: int = 8) -> None:
    """Write the frames of a clip as a grid into one PNG, in reading order.

    Raises:
        ClipError: there are no frames.
        OSError: the folder is not writable.
    """
    from PIL import Image

    if not frames:
        raise ClipError("There are no frames for a contact sheet. Render or load some first.", code="AD-V23")
    width, height = frames[0].size
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (width * min(columns, len(frames)), height * rows))
    for index, frame in enumerate(frames):
        sheet.paste(frame, (width * (index % columns), height * (index // columns)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_atomic(path, buffer.getvalue())


def _check_place(key: str, place: Path) -> None:
    """Check that the target is not a folder, unless it contains frames only."""
    try:
        if not is_folder(place):
            return
    except OSError:  # the name is too long, which writing will report
        return
    if key != "frames":
        raise ClipError(f"{place} is a folder. Choose another name.", code="AD-V24")
    if not all(_FRAME.fullmatch(child.name) for child in place.iterdir()):
        raise ClipError(f"The folder {place} contains other files than frames. Choose another name.", code="AD-V25")


def _write_all(
    path: Path, clip: EncoderInput, places: dict[str, Path], progress: Callable[[str, int, int], None] | None
) -> list[Path]:
    written: dict[str, Path] = {}
    failures: dict[str, BaseException] = {}
    for key, place in places.items():
        try:
            _write_one(key, place, clip if progress is None else replace(clip, progress=partial(progress, key)))
            written[key] = place
            if progress is not None:
                progress(key, len(clip.frames), len(clip.frames))
        except StopWriting as stop:
            stop.written = list(written.values())
            raise
        except Exception as error:  # encoders raise all kinds of exceptions
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
    clip.note(0)  # the caller may stop before anything is created
    with whole(place) as part:
        FORMATS[key].write(part, clip)


def _rescue(path: Path, clip: EncoderInput) -> Path | None:
    """Save the frames as PNG next to the target, or else in the system's temporary folder."""
    name = f"{safe_name(path.stem)}-frames"
    for folder in (path.parent, Path(tempfile.gettempdir()) / _RESCUE):
        try:
            place = _free(folder / name)
            with atomic_folder(place) as part:
                write_frames(part, clip)
            return place
        except Exception:  # try the next folder; in the end the message reports it
            continue
    return None


def _free(path: Path) -> Path:
    place, number = path, 1
    while exists(place):
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def _not_written(sentences: list[str], written: list[Path], frames_at: Path | None) -> ClipNotWrittenError:
    if frames_at is None:
        sentences.append("The frames could not be saved either. Free some space or choose another folder.")
    else:
        sentences.append(f"The frames were saved in {frames_at}.")
    return ClipNotWrittenError(" ".join(sentences), frames_at=frames_at, written=written, code="AD-V26")


def _reason(error: BaseException) -> str:
    return error.message.rstrip(".") if isinstance(error, AnimateDiffError) else plain_reason(error)
