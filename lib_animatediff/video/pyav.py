"""PyAV, opened with care: files come from strangers, and some formats name other files, or addresses, to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motion_module import AnimateDiffError

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,nut,mjpeg,"
    "yuv4mpegpipe,ivf,mxf,dv,rm,swf,wtv"
)


def need_av() -> Any:
    """PyAV.

    Raises:
        AnimateDiffError: it is not installed, or cannot be loaded.
    """
    try:
        import av
    except ImportError as error:
        raise AnimateDiffError(f"Video files need PyAV, which cannot be loaded ({error}): pip install av") from None
    return av


def open_media(path: Path) -> Any:
    """A PyAV container to read from. Playlists and other formats that lead elsewhere count as unknown."""
    av = need_av()
    # An absolute path is never taken for an address; without this a file could be named like one.
    name = str(path.resolve())
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    return av.open(name, options=options, metadata_errors="replace")


def media_texts(path: Path) -> tuple[str, str | None]:
    """Comment and description of a video file: the recipe's text, and our JSON block or what else stands there."""
    with open_media(path) as container:
        texts = {name.lower(): text for name, text in container.metadata.items()}
    return texts.get("comment", ""), texts.get("description")
