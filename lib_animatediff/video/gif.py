"""GIF: 256 colours, times in hundredths of a second, loop count, comment, and our JSON in an application extension.

Pillow compresses the images. Its own GIF writer would repeat the palette with every image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from .encoding import EncoderInput
from .quantise import in_palettes
from .timing import GIF_TICKS, edges

if TYPE_CHECKING:
    from PIL.Image import Image

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_COMMENT, _CONTROL, _APPLICATION = 0xFE, 0xF9, 0xFF
_LOOPS = b"NETSCAPE2.0"
_BLOCK = b"ANIMDIFF1.0"  # eight bytes of identifier and three of code, as the format requires
_LONGEST_PIECE = 255
_TABLE = 0x87  # flags: followed by a table of 256 colours
_STAYS = 1 << 2  # disposal: draw the next image on top of this one
_LONGEST = 0xFFFF  # ticks, in 16 bits
Box = tuple[int, int, int, int]


def write_gif_file(part: Path, clip: EncoderInput) -> None:
    """Write a GIF with the colours that `Encoding` selects. Repeated frames extend the duration of the first."""
    times = edges(len(clip.frames), clip.fps, GIF_TICKS)
    shared: bytes | None = None
    before: Image | None = None
    with part.open("wb") as file:
        for image, span in _without_repeats(_images(clip)):
            table = _table(image)
            if shared is None:
                shared = table
                file.write(b"GIF89a" + struct.pack("<HHBBB", *clip.size, _TABLE | 0x70, 0, 0) + table)
                file.write(_head(clip))
            duration = min(times[span[-1] + 1] - times[span[0]], _LONGEST)
            box = _changed(image, before)
            file.write(struct.pack("<BBBBHBB", _EXTENSION, _CONTROL, 4, _STAYS, duration, 0, 0))
            file.write(_drawn(image, box, b"" if table == shared else table))
            before = image
        file.write(bytes([_TRAILER]))


def gif_texts(path: Path) -> tuple[str, bytes | None]:
    """The first comment of a GIF and our JSON block; as much as a damaged file contains."""
    comment, block = None, None
    for kind, data in _extensions(path.read_bytes()):
        if kind == _COMMENT and comment is None:
            comment = data
        elif kind == _APPLICATION and data.startswith(_BLOCK):
            block = data.removeprefix(_BLOCK)
    return (comment or b"").decode(errors="replace"), block


def _images(clip: EncoderInput) -> Iterator[Image]:
    """The frames as palette images, each reported as encoded when the next one is asked for."""
    done = 0
    encoding = clip.encoding
    images = in_palettes(clip.frames, palette=encoding.palette, dither=encoding.dither, pause=lambda: clip.note(done))
    for image in images:
        yield image
        done += 1
        clip.note(done)


def _without_repeats(images: Iterator[Image]) -> Iterator[tuple[Image, list[int]]]:
    """Each distinct image with the frames that show it: GIF extends its duration instead of storing it again."""
    for _, group in groupby(enumerate(images), key=lambda item: (item[1].tobytes(), _table(item[1]))):
        shown, numbers = None, []
        for number, image in group:
            shown = image  # the others are dropped: a clip may repeat a frame a thousand times
            numbers.append(number)
        if shown is not None:
            yield shown, numbers


def _table(image: Image) -> bytes:
    return bytes(image.getpalette() or ())


def _changed(image: Image, before: Image | None) -> Box:
    """Bounding box of the changes since the previous image."""
    from PIL import ImageChops

    if before is not None:
        box = ImageChops.difference(image.convert("RGB"), before.convert("RGB")).getbbox()
        if box is not None:
            return box
    return (0, 0, *image.size)


def _head(clip: EncoderInput) -> bytes:
    head = b""
    if clip.loop_count != 1:  # a file that plays once has no loop field; it counts repetitions after the first time
        head += _extension(_APPLICATION, struct.pack("<BH", 1, max(clip.loop_count - 1, 0)), _LOOPS)
    if clip.infotext:
        head += _extension(_COMMENT, clip.infotext.encode())
    if clip.block:
        # As a comment the WebUI would display it; at the end FFmpeg would mistake it for another image.
        head += _extension(_APPLICATION, clip.block.encode(), _BLOCK)
    return head


def _drawn(image: Image, box: Box, table: bytes) -> bytes:
    """An image block with a crop of the image, and its own palette if ``table`` is not empty."""
    from PIL.GifImagePlugin import getdata

    stored = b"".join(getdata(image.crop(box)))
    left, top, right, bottom = box
    place = struct.pack("<BHHHHB", _IMAGE, left, top, right - left, bottom - top, _TABLE if table else 0)
    return place + table + stored[10 + _table_size(stored[9]) :]


def _extension(kind: int, data: bytes, name: bytes = b"") -> bytes:
    pieces = [data[start : start + _LONGEST_PIECE] for start in range(0, len(data), _LONGEST_PIECE)]
    stored = b"".join(bytes([len(piece)]) + piece for piece in ([name] if name else []) + pieces)
    return bytes([_EXTENSION, kind]) + stored + b"\0"


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each extension, until the end or the first invalid block."""
    try:
        place = 13 + _table_size(data[10])
        while data[place] != _TRAILER:
            if data[place] == _EXTENSION:
                kind, (content, place) = data[place + 1], _pieces(data, place + 2)
                yield kind, content
            elif data[place] == _IMAGE:
                place += 10 + _table_size(data[place + 9]) + 1
                _, place = _pieces(data, place)
            else:
                return
    except IndexError:
        return


def _table_size(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _pieces(data: bytes, place: int) -> tuple[bytes, int]:
    """Concatenated sub-blocks at an offset, and the offset behind them."""
    pieces = []
    while length := data[place]:
        pieces.append(data[place + 1 : place + 1 + length])
        place += 1 + length
    return b"".join(pieces), place + 1
