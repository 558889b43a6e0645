"""PyAV with restrictions for untrusted files: some formats make FFmpeg open other files or network addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motion_module import AnimateDiffError

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,nut,mjpeg,"
    "yuv4mpegpipe,ivf,mxf,dv,rm,swf,wtv"
)


def need_av() -> Any:
    """Import PyAV.

    Raises:
        AnimateDiffError: it is not installed, or cannot be loaded.
    """
    try:
        import av
    except ImportError as error:
        raise AnimateDiffError(
            f"Video files need PyAV, which cannot be loaded ({error}). Install it: pip install av", code="AD-V13"
        ) from None
    return av


def open_media(path: Path, still: str | None = None) -> Any:
    """Open a file for reading. Playlists and other formats that refer to further files are rejected.

    Args:
        still: FFmpeg's name of the format of an image file; None: a video.
    """
    av = need_av()
    # FFmpeg takes a relative name like "http:..." for an address, but never an absolute path.
    name = str(path.resolve())
    options = {"protocol_whitelist": "file", "format_whitelist": still or _FORMATS}
    # Before PyAV 19, texts that are not UTF-8 raise errors unless asked otherwise.
    lenient = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    return av.open(name, format=still, options=options, **lenient)


def media_texts(path: Path) -> tuple[str, str | None]:
    """Comment and description of a video file, where we store the infotext and the JSON block."""
    with open_media(path) as container:
        texts = {name.lower(): _without_surrogates(text) for name, text in container.metadata.items()}
    return texts.get("comment", ""), texts.get("description")


def _without_surrogates(text: str) -> str:
    """PyAV 19 puts surrogates for bytes that are not UTF-8, and such a text cannot be written anywhere."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
