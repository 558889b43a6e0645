"""Frames of clips, decoded by Pillow and PyAV without the code under test."""

from __future__ import annotations

from pathlib import Path

from .prints import of_picture, of_tensor

FILMS = (".mp4", ".webm")
WITHOUT_FRAMES = (".txt",)


def decoded(path: Path) -> tuple[list[str], str]:
    """The hash of each frame, and a line on size, times and loop."""
    if path.suffix in WITHOUT_FRAMES:
        return [], f"{path.name}: {path.read_text(encoding='utf-8')}"
    return _film(path) if path.suffix in FILMS else _picture(path)


def _picture(path: Path) -> tuple[list[str], str]:
    from PIL import Image

    hashes, times = [], []
    with Image.open(path) as picture:
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            hashes.append(of_picture(picture.convert("RGBA")))
            times.append(picture.info.get("duration"))
        return hashes, f"{path.name}: {picture.size}, milliseconds {times}, loop {picture.info.get('loop')}"


def _film(path: Path) -> tuple[list[str], str]:
    """As it was encoded: PyAV's conversion to RGB is not part of the file."""
    import av

    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        frames = [(of_tensor(frame.to_ndarray()), frame.pts * stream.time_base) for frame in film.decode(stream)]
        kind = f"{stream.width}x{stream.height} {stream.pix_fmt}"
    times = ", ".join(str(time) for _, time in frames)
    return [hashed for hashed, _ in frames], f"{path.name}: {kind}, seconds {times}"
