"""Detect files that end before their container says, of which decoders silently return fewer frames."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from .png import read_chunks

_GIF_TRAILER = b";"
_TAIL = 64
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx", b"uuid", b"pnot")


def is_cut_short(path: Path, kind: str) -> bool:
    """Whether a file lacks its end.

    Args:
        kind: see `kind_of`. Videos are recognised if they are MP4, MOV, WebM or Matroska.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind == "png":
            return all(chunk != b"IEND" for chunk, _ in read_chunks(path))
        if kind == "gif":
            file.seek(max(size - _TAIL, 0))
            return not file.read().rstrip(b"\0").endswith(_GIF_TRAILER)
        head = file.read(12)
        if kind == "webp":
            return int.from_bytes(head[4:8], "little") + 8 > size
        file.seek(0)
        if head[4:8] in _BOXES:
            return _lacks_box_data(file, size)
        return head.startswith(_EBML) and _lacks_segment_data(file, size)


def _lacks_box_data(file: BinaryIO, size: int) -> bool:
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return True
        length = struct.unpack_from(">I", head)[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack_from(">Q", head, 8)[0]
        if length < 8:  # 0: up to the end of the file
            return False
        place += length
    return place > size


def _lacks_segment_data(file: BinaryIO, size: int) -> bool:
    file.seek(len(_EBML))
    length, _ = _number(file)
    if length > size:
        return True
    file.seek(length, 1)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return False
    length, is_known = _number(file)
    return is_known and file.tell() + length > size


def _number(file: BinaryIO) -> tuple[int, bool]:
    """A number of variable length in EBML, and whether it is known: a stream has all bits set."""
    first = (file.read(1) or b"\x80")[0]
    width = 9 - first.bit_length() if first else 8
    value = int.from_bytes(bytes([first & (0xFF >> width)]) + file.read(width - 1), "big")
    return value, value != 2 ** (7 * width) - 1
