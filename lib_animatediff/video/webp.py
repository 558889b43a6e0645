"""WebP, written by Pillow, then read and corrected on the level of chunks."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

from .encoding import EncoderInput
from .exif import exif_of
from .observed import observed
from .timing import frame_durations

_TICKS = 1000  # per second
_ANIMATION, _ALPHA = 2, 16  # flags of the header
_PIXELS = (b"VP8 ", b"VP8L", b"ALPH")
_REPLACES = 2  # frame flag: do not blend with the previous frame


def write_webp(part: Path, clip: EncoderInput) -> None:
    """Write an animated WebP. Repeated frames are merged into one of longer duration, which looks the same."""
    first, *others = observed(clip, clip.with_alpha())
    durations = frame_durations(len(clip.frames), clip.fps, _TICKS)
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=clip.loop_count,
        quality=clip.encoding.quality,
        lossless=clip.encoding.lossless,
        exact=True,
        exif=exif_of(clip.infotext, clip.block) if clip.recipe else b"",
    )
    data = buffer.getvalue()
    if not any(kind == b"ANIM" for kind, _ in riff_chunks(data)):
        data = _as_animation(data, clip, sum(durations))
    part.write_bytes(data)


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk of a WebP."""
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        yield kind, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def webp_exif(path: Path) -> bytes:
    """The EXIF block of a WebP; empty without one."""
    return next((data for kind, data in riff_chunks(path.read_bytes()) if kind == b"EXIF"), b"")


def _as_animation(still: bytes, clip: EncoderInput, duration: int) -> bytes:
    """Turn a still image into an animation of one frame: libwebp stores a single frame without its duration."""
    chunks = list(riff_chunks(still))
    width, height = (_three_bytes(side - 1) for side in clip.size)
    pixels = b"".join(_chunk(kind, data) for kind, data in chunks if kind in _PIXELS)
    exif = b"".join(_chunk(kind, data) for kind, data in chunks if kind == b"EXIF")
    has_alpha = any(frame.mode == "RGBA" for frame in clip.with_alpha())
    flags = _ANIMATION | (_ALPHA if has_alpha else 0) | (8 if exif else 0)
    frame = bytes(6) + width + height + _three_bytes(duration) + bytes([_REPLACES]) + pixels
    body = _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + width + height)
    body += _chunk(b"ANIM", struct.pack("<IH", 0, clip.loop_count)) + _chunk(b"ANMF", frame) + exif
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _three_bytes(number: int) -> bytes:
    return number.to_bytes(3, "little")
