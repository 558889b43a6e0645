"""Images and videos within a request, as base64 or dropped into the panel: they become files in the folder of uploads.

A file is named by its hash. So the infotext of a clip has a short path, which makes the same clip again as long as the
file is there, and what is sent again is stored once. The oldest files make room for new ones.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import io
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.settings import canonical_name
from lib_animatediff.request.start.pins import parse_keys
from lib_animatediff.video.atomic import plain_reason, write_atomic
from motion_module import ClipError
from motion_module.limits import KEPT_BYTES, SENT_IMAGE_BYTES, SENT_VIDEO_BYTES

if TYPE_CHECKING:
    from PIL.Image import Image

_FOLDER = "animatediff"
_NAME_LENGTH = 16  # of a hash in hexadecimal
_KEYS = ("key_images", "scribbles")
_VIDEOS = ("video", "continue_clip", "rerender_clip")
_IMAGES = ("image", "last_image", "last_frame")
_LONGEST_HEAD = 256  # characters of a data URI before its comma
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}")
_OURS = re.compile(rf"[0-9a-f]{{{_NAME_LENGTH}}}\.\w+")  # names of kept files
_IN_USE = 3600  # seconds since its last request for which a file is kept, since a clip may still need it
_MODES = ("L", "LA", "RGB", "RGBA", "P")  # of images that a PNG holds as they are
_LONGEST_PATH = 4096  # characters; a path that is base64 besides is far shorter
_HEAD = 16  # characters of base64 that show what a file is: 12 bytes
_SUFFIXES = (  # a pattern of a file's first bytes, and its suffix
    (rb"\x89PNG", ".png"),
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"GIF8", ".gif"),
    (rb"RIFF.{4}WEBP", ".webp"),
    (rb"RIFF.{4}AVI ", ".avi"),
    (rb"BM", ".bmp"),
    (rb"II\*\x00|MM\x00\*", ".tif"),
    (rb".{4}ftypavi[fs]", ".avif"),
    (rb".{4}ftyp", ".mp4"),
    (rb"\x1aE\xdf\xa3", ".webm"),
    (rb"OggS", ".ogv"),
)


def with_kept_files(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a request with paths instead of files as base64, which are written into the folder of uploads.

    Raises:
        ClipError: a file is too large, is not of a known kind, or cannot be written.
    """
    return {name: _with_path(name, value) for name, value in asked.items()}


def kept_image(image: Image) -> str:
    """The path of an image that is in memory, written into the folder of uploads.

    Raises:
        ClipError: it cannot be written.
    """
    written = io.BytesIO()
    (image if image.mode in _MODES else image.convert("RGB")).save(written, "PNG")
    return str(_kept(written.getvalue(), ".png"))


def _with_path(name: str, value: Any) -> Any:
    setting = canonical_name(name)
    if not isinstance(value, str) or setting not in (*_IMAGES, *_VIDEOS, *_KEYS):
        return value
    if setting in _KEYS:
        if "base64," not in value:
            return value
        keys = parse_keys(value, name)
        return ", ".join(f"{frame}: {_path_for(name, text, SENT_IMAGE_BYTES)}" for frame, text in keys)
    return _path_for(name, value, SENT_VIDEO_BYTES if setting in _VIDEOS else SENT_IMAGE_BYTES)


def _path_for(name: str, text: str, limit: int) -> str:
    _check_length(name, text, limit + _LONGEST_HEAD)  # before anything reads it
    comma = text.find(",", 0, _LONGEST_HEAD) if text.startswith("data:") else -1
    if comma < 0 and not _is_base64(text.strip()):
        return text
    _check_length(name, text[comma + 1 :], limit)
    try:
        data = base64.b64decode("".join(text[comma + 1 :].split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    suffix = _suffix_of(data)
    if suffix is None:
        raise ClipError(
            f"{name} is base64 of neither an image nor a video. Send the bytes of a file, such as a PNG or an MP4, or "
            "the path of one.",
            code="AD-W41",
        )
    return str(_kept(data, suffix))


def _check_length(name: str, coded: str, limit: int) -> None:
    if len(coded) * 3 > limit * 4:
        raise ClipError(
            f"{name} has more than {limit // 2**20} MB. Copy the file into a folder of the WebUI, and send its path.",
            code="AD-W40",
        )


def _is_base64(text: str) -> bool:
    """Whether a text that may be a path is base64: too long for a path, or the beginning of a known kind of file."""
    head = text[:_HEAD]
    if len(text) < _HEAD or head != "".join(head.split()) or not _BASE64.fullmatch(text):
        return False
    return len(text) > _LONGEST_PATH or _suffix_of(base64.b64decode(head)) is not None


def _suffix_of(data: bytes) -> str | None:
    return next((suffix for pattern, suffix in _SUFFIXES if re.match(pattern, data, re.DOTALL)), None)


def _kept(data: bytes, suffix: str) -> Path:
    folder = a1111.readable_folders()[-1] / _FOLDER
    path = folder / f"{hashlib.sha256(data).hexdigest()[:_NAME_LENGTH]}{suffix}"
    try:
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a link")
        if path.is_file() and path.stat().st_size == len(data):
            path.touch()  # so that it stays
            return path
        _make_room(folder, len(data))
        write_atomic(path, data)
    except OSError as error:
        raise ClipError(
            f"What was sent cannot be stored in {folder}: {plain_reason(error)}. Free some space, or send the path of "
            "a file.",
            code="AD-W42",
        ) from error
    return path


def _make_room(folder: Path, size: int) -> None:
    """Remove the files that were not used for longest, until the folder has room for another one.

    Raises:
        OSError: those that clips may still need leave no room.
    """
    found = []
    for file in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # another request has removed it
            facts = file.lstat()
            if stat.S_ISREG(facts.st_mode) and _OURS.fullmatch(file.name):
                found.append((facts.st_mtime, facts.st_size, file))
    used = sum(bytes_of for _, bytes_of, _ in found)
    for last, bytes_of, file in sorted(found):
        if used + size <= KEPT_BYTES:
            return
        if time.time() - last < _IN_USE:
            break
        file.unlink(missing_ok=True)
        used -= bytes_of
    if used + size > KEPT_BYTES:
        raise OSError(f"files of the last hour fill its {KEPT_BYTES // 2**30} GB")
