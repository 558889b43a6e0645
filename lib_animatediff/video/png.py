"""PNG by its chunks: stills with a recipe, and animations with exact times.

Pillow writes animations, too, but rounds their times to milliseconds, leaves out frames that are like the one before,
and needs all of them at once. The format itself counts in fractions of a second.
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
_TEXT = "parameters"  # where the WebUI looks
_BLOCK = b"adJs"  # by its letters' case: may be ignored, is private, may be copied by programs that do not know it
_MOST_TICKS = 0xFFFF
Chunk = tuple[bytes, bytes]


def write_apng(part: Path, clip: EncoderInput) -> None:
    """Write an animated PNG; every frame is there, and lasts for exactly as long as it should."""
    delay = (1 / clip.fps).limit_denominator(_MOST_TICKS)
    numerator, denominator = min(delay.numerator, _MOST_TICKS), delay.denominator
    width, height = clip.size
    number = 0
    with part.open("wb") as file:
        file.write(SIGNATURE)
        for index, frame in enumerate(clip.with_alpha()):
            header, *pieces = _stored(frame)
            if index == 0:
                _write(file, b"IHDR", header[1])
                _write(file, b"acTL", struct.pack(">II", len(clip.frames), clip.loop_count))
                for kind, data in recipe_chunks(clip):
                    _write(file, kind, data)
            place = (number, width, height, 0, 0, numerator, denominator, 0, 0)  # whole, replacing what was there
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
    """Write each frame as a PNG of its own, which carries the recipe: ``00000.png``, ``00001.png``, ..."""
    chunks = recipe_chunks(clip)
    for index, frame in enumerate(clip.frames):
        plain = frame if frame.mode in ("RGB", "RGBA", "L", "P") else frame.convert("RGB")
        header, *pieces = _stored(plain, keep=True)
        with (folder / f"{index:05}.png").open("wb") as file:
            file.write(SIGNATURE)
            for kind, data in (header, *chunks, *pieces, (b"IEND", b"")):
                _write(file, kind, data)


def recipe_chunks(clip: EncoderInput) -> list[Chunk]:
    """The recipe as chunks of a PNG: its text as in the WebUI's images, its JSON in a chunk that no viewer shows."""
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
    """The JSON block that a PNG carries."""
    return next((data for kind, data in read_chunks(path) if kind == _BLOCK), None)


def frame_delays(path: Path) -> list[Fraction]:
    """How many seconds each frame of an animated PNG is shown; none for a still one."""
    delays = []
    for kind, data in read_chunks(path):
        if kind == b"fcTL":
            numerator, denominator = struct.unpack_from(">2H", data, 20)
            delays.append(Fraction(numerator, denominator or 100))  # as the format says
    return delays


def read_chunks(path: Path) -> Iterator[Chunk]:
    """Name and content of each chunk, of those that are short; pixels are skipped. Ends where the file is broken."""
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
    """An image's header and its pixels as Pillow stores them; with its palette and transparency if ``keep``."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data, place, chunks = buffer.getvalue(), len(SIGNATURE), []
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind in (b"IHDR", b"IDAT") or (keep and kind in (b"PLTE", b"tRNS")):
            chunks.append((kind, data[place + 8 : place + 8 + length]))
        place += length + 12
    return chunks


def _write(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
