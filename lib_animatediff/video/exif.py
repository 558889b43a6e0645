"""EXIF in WebP, AVIF and JPEG: the WebUI's infotext as user comment, our JSON block as maker note."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_EXIF_FIELDS, _MAKER_NOTE, _USER_COMMENT = 0x8769, 0x927C, 0x9286
_LONG, _BYTES = 4, 7
_OURS = b"AnimateDiff\0"
_IN_UTF_16, _IN_ASCII = b"UNICODE\0", b"ASCII\0\0\0"
_HEADER = b"Exif\0\0"


def exif_of(infotext: str, block: str) -> bytes:
    """An EXIF block with both, with the infotext in the WebUI's encoding."""
    note = _OURS + block.encode()
    comment = _IN_UTF_16 + infotext.encode("utf-16-be")
    at = 8 + 18  # after the header and a directory of one entry
    directory = struct.pack(">HHHIII", 1, _EXIF_FIELDS, _LONG, 1, at, 0)
    start = at + 2 + 2 * 12 + 4
    fields = struct.pack(">H", 2)
    fields += struct.pack(">HHII", _MAKER_NOTE, _BYTES, len(note), start)
    fields += struct.pack(">HHII", _USER_COMMENT, _BYTES, len(comment), start + len(note))
    return b"MM\0*\0\0\0\x08" + directory + fields + b"\0\0\0\0" + note + comment


def read_exif(data: bytes) -> tuple[str, bytes | None]:
    """The infotext and the JSON block of an EXIF block; as much as a damaged one contains."""
    data = data.removeprefix(_HEADER)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return "", None
    try:
        first = _directory(data, order, struct.unpack_from(order + "I", data, 4)[0], (_EXIF_FIELDS,))
        place = struct.unpack(order + "I", first[_EXIF_FIELDS])[0]
        inner = _directory(data, order, place, (_MAKER_NOTE, _USER_COMMENT))
    except (struct.error, KeyError):
        return "", None
    note = inner.get(_MAKER_NOTE, b"")
    return _text(inner.get(_USER_COMMENT, b""), order), note.removeprefix(_OURS) if note.startswith(_OURS) else None


def _directory(data: bytes, order: str, place: int, wanted: Sequence[int]) -> dict[int, bytes]:
    """The entries of a TIFF directory with these tags, if they are bytes or a single number, as bytes.

    A small block may have 65,535 entries, each as large as the block.
    """
    entries: dict[int, bytes] = {}
    for index in range(struct.unpack_from(order + "H", data, place)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", data, place + 2 + index * 12)
        if tag not in wanted or tag in entries:
            continue
        value = data[place + 10 + index * 12 : place + 14 + index * 12]
        if kind == _LONG:
            entries[tag] = value
        elif kind in (1, 2, _BYTES):
            at = struct.unpack(order + "I", value)[0]
            entries[tag] = data[at : at + count] if count > 4 else value[:count]
    return entries


def _text(comment: bytes, order: str) -> str:
    if comment.startswith(_IN_UTF_16):
        text = comment.removeprefix(_IN_UTF_16)
        # By the standard the text has the block's byte order, but the WebUI always writes big-endian.
        little = order == "<" and text[1:2] == b"\0" != text[:1]
        return text.decode("utf-16-le" if little else "utf-16-be", errors="replace")
    return comment.removeprefix(_IN_ASCII).rstrip(b"\0").decode(errors="replace")
