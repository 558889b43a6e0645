"""PNG on the level of chunks: stills with a recipe, and animations with exact times.

Pillow writes animations as well, but rounds times to milliseconds, drops repeated frames, and needs all frames in
memory. The format itself stores times as fractions of a second.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .encoding import EncoderInput

if TYPE_CHECKING:
    from PIL.Image import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = "parameters"  # keyword of the WebUI's infotext
_BLOCK = b"adJs"  # the case of its letters means: ancillary, private, safe to copy
_MOST_TICKS = 0xFFFF
_EFFORT = 4  # of zlib; its default, 6, takes up to three times as long, for files that are 9 % smaller
Chunk = tuple[bytes, bytes]


def write_apng(part: Path, clip: EncoderInput) -> None:
    """Write an animated PNG that keeps every frame and its exact duration."""
    delay = (1 / clip.fps).limit_denominator(_MOST_TICKS)
    numerator, denominator = min(delay.numerator, _MOST_TICKS), delay.denominator
    width, height = clip.size
    number = 0
    with part.open("wb") as file:
        file.write(SIGNATURE)
        for index, frame in enumerate(clip.counted(clip.with_alpha())):
            header, *pieces = _stored(frame)
            if index == 0:
                _write(file, b"IHDR", header[1])
                _write(file, b"acTL", struct.pack(">II", len(clip.frames), clip.loop_count))
                for kind, data in recipe_chunks(clip):
                    _write(file, kind, data)
            place = (number, width, height, 0, 0, numerator, denominator, 0, 0)  # full frame, replaces the previous one
            _write(file, b"fcTL", struct.pack(">5I2H2B", *place))
            number += 1
            for kind, data in pieces:
                if index == 0:
                    _write(file, kind, data)
                else:
                    _write(file, b"fdAT", struct.pack(">I", number) + data)
                    number += 1
        _write(file, b"IEND", b"")


def write_frames(folder: Path, clip: EncoderInput) -> None:
    """Write each frame as a PNG with the recipe: ``00000.png``, ``00001.png``, ..."""
    chunks = recipe_chunks(clip)
    for index, frame in enumerate(clip.counted(clip.frames)):
        plain = frame if frame.mode in ("RGB", "RGBA", "L", "P") else frame.convert("RGB")
        header, *pieces = _stored(plain, keep=True)
        with (folder / f"{index:05}.png").open("wb") as file:
            file.write(SIGNATURE)
            for kind, data in (header, *chunks, *pieces, (b"IEND", b"")):
                _write(file, kind, data)


def recipe_chunks(clip: EncoderInput) -> list[Chunk]:
    """PNG chunks of a recipe: infotext where the WebUI reads it, JSON block in a private chunk."""
    chunks = []
    if clip.infotext:
        try:
            chunks.append((b"tEXt", _TEXT.encode() + b"\0" + clip.infotext.encode("latin-1")))
        except UnicodeEncodeError:
            chunks.append((b"iTXt", _TEXT.encode() + b"\0\0\0\0\0" + clip.infotext.encode()))
    if clip.block:
        chunks.append((_BLOCK, clip.block.encode()))
    return chunks


def png_block(path: Path) -> bytes | None:
    """The JSON block of a PNG; None without one."""
    return next((data for kind, data in read_chunks(path) if kind == _BLOCK), None)


def frame_delays(path: Path) -> list[Fraction]:
    """Duration in seconds of each frame of an animated PNG; empty for a still image."""
    delays = []
    for kind, data in read_chunks(path):
        if kind == b"fcTL":
            numerator, denominator = struct.unpack_from(">2H", data, 20)
            delays.append(Fraction(numerator, denominator or 100))  # by the specification 0 means 100
    return delays


def read_chunks(path: Path) -> Iterator[Chunk]:
    """Yield type and content of all chunks except pixel data, until the end or the first damaged chunk."""
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"fdAT"):
                file.seek(length + 4, io.SEEK_CUR)
                continue
            data = file.read(length)
            if len(data) < length or len(file.read(4)) < 4:
                return
            yield kind, data


def _stored(image: Image, *, keep: bool = False) -> list[Chunk]:
    """Header and pixel chunks of an image as Pillow writes them; with ``keep`` also palette and transparency."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=_EFFORT)
    data, place, chunks = buffer.getvalue(), len(SIGNATURE), []
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind in (b"IHDR", b"IDAT") or (keep and kind in (b"PLTE", b"tRNS")):
            chunks.append((kind, data[place + 8 : place + 8 + length]))
        place += length + 12
    return chunks


def _write(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
