"""Decode video files into upright images with correct colours and transparency."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .images import check_size
from .pyav import need_av, open_media

if TYPE_CHECKING:
    from PIL.Image import Image

_UNSPECIFIED = 2  # FFmpeg's constant for an untagged colour matrix
_HD_LINES = 720  # from this height an untagged matrix is BT.709 by convention, below it BT.601
_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_RIGHT_ANGLE = 90
_MICROSECONDS = 1_000_000
_USUAL_RATE = 25  # frames per second, for streams without a rate
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's native decoders ignore transparency
_CLOCK = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")
_LAYOUTS = {("RGB", False): "rgb24", ("RGBA", False): "rgba", ("RGB", True): "rgb48le", ("RGBA", True): "rgba64le"}
_TICK = Fraction(1, 1000)  # seconds; arbitrary, because only pixels are converted


class DecodedFrame:
    """A frame and its time, converted to an image on demand.

    Args:
        time: when it appears, in seconds since the first frame.
        duration: in seconds; None if only the next frame's time reveals it.
        image: an image, or a frame of PyAV.
        convert: converts a frame of PyAV.
    """

    def __init__(self, time: Fraction, duration: Fraction | None, image: Any, convert: Any = None) -> None:
        self.time, self.duration = time, duration
        self._image, self._convert = image, convert

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored, before any rotation; nothing is converted for it."""
        return self._image.width, self._image.height

    def image(self) -> Image:
        """The upright image, RGB or RGBA."""
        image: Image = self._convert(self._image) if self._convert else self._image
        return image


def decode_frames(path: Path) -> Iterator[DecodedFrame]:
    """Decode the first video stream of a file. Raises any error of PyAV.

    Raises:
        AnimateDiffError: PyAV is missing.
    """
    av = need_av()
    with open_media(path) as container:
        stream = container.streams.video[0]
        check_size(str(path), stream.codec_context.width, stream.codec_context.height)
        stream.thread_type = "AUTO"
        convert = _Converter(av, _stream_angle(stream))
        step = 1 / Fraction(stream.average_rate or _USUAL_RATE)
        end = _end(container, stream)
        first, time = None, Fraction(0)
        for frame in _decoded(av, container, stream):
            # A stream may start late, and some formats have no times at all.
            stamp = None if frame.pts is None else frame.pts * Fraction(stream.time_base)
            first = stamp if first is None else first
            time = time if stamp is None or first is None else stamp - first
            yield DecodedFrame(time, _own_duration(frame, stream, end, step), frame, convert)
            time += step


def stated_frames(path: Path) -> int | None:
    """Number of frames that a video file states; None if it states none, as WebM."""
    with open_media(path) as container:
        return int(container.streams.video[0].frames) or None


def stated_end(path: Path) -> Fraction | None:
    """Duration in seconds of the images of a Matroska or WebM file; None for other files, and if it states none.

    Its readers skip damaged parts silently, so that only this tells that frames are missing.
    """
    with open_media(path) as container:
        if "matroska" not in container.format.name:
            return None
        texts = {key.lower(): text for key, text in container.streams.video[0].metadata.items()}
        if match := _CLOCK.match(texts.get("duration", "")):
            hours, minutes, seconds = map(Fraction, match.groups())
            return 3600 * hours + 60 * minutes + seconds
        if container.duration and len(container.streams) == 1:
            return Fraction(container.duration, _MICROSECONDS)
    return None


def still_frame(path: Path, name: str, *, is_linear: bool = False) -> DecodedFrame:
    """The one frame of an image file that Pillow reads with 8 bits or not at all. Raises any error of PyAV.

    Args:
        name: FFmpeg's name of its format, such as ``exr_pipe``.
        is_linear: whether its values are linear light, which becomes sRGB.
    """
    av = need_av()
    with open_media(path, name) as container:
        stream = container.streams.video[0]
        check_size(str(path), stream.codec_context.width, stream.codec_context.height)
        frame = next(container.decode(stream))
        return DecodedFrame(Fraction(0), Fraction(0), _Converter(av, 0, is_linear=is_linear)(frame))


def _end(container: Any, stream: Any) -> Fraction | None:
    """End of the last frame, in the stream's time."""
    if stream.duration:
        return Fraction((stream.start_time or 0) + stream.duration) * Fraction(stream.time_base)
    if container.duration and len(container.streams) == 1:  # sound may be longer
        return Fraction(container.duration, _MICROSECONDS)
    return None


def _own_duration(frame: Any, stream: Any, end: Fraction | None, step: Fraction) -> Fraction | None:
    """Duration that a frame states. Only used for the last one, which ends with the stream."""
    tick = Fraction(stream.time_base)
    left: Fraction = end - frame.pts * tick if end is not None and frame.pts is not None else Fraction(0)
    if 0 < left <= 2 * step:  # a truncated file would leave much more
        return left
    ticks = int(getattr(frame, "duration", 0) or 0)  # since PyAV 14
    return ticks * tick if ticks > 0 else None


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    name = _WITH_ALPHA.get(stream.codec_context.name)
    texts = {key.lower(): text for key, text in stream.metadata.items()}
    if name is None or texts.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder = av.CodecContext.create(name, "r")
    for packet in container.demux(stream):
        yield from decoder.decode(packet if packet.size else None)


def _stream_angle(stream: Any) -> float:
    """Rotation of the stream in degrees, for PyAV before 14; later versions report it per frame."""
    side_data = getattr(stream, "side_data", None) or {}
    return float(side_data.get("DISPLAYMATRIX", 0))


class _Converter:
    """Converts frames to images with a filter graph, which respects each frame's colour range and matrix.

    `VideoFrame.to_image` before PyAV 17 confuses them, by up to 20 levels.

    Args:
        angle: of the stream, in degrees.
        is_linear: whether frames hold linear light. FFmpeg's decoder of EXR could convert it only before FFmpeg 9.
    """

    def __init__(self, av: Any, angle: float, *, is_linear: bool = False) -> None:
        self._av, self._angle, self._is_linear = av, angle, is_linear
        self._key: tuple[Any, ...] = ()
        self._graph: Any = None
        self._ends: tuple[Any, Any] = (None, None)

    def __call__(self, frame: Any) -> Image:
        from PIL import Image

        mode = "RGBA" if _is_transparent(frame.format) else "RGB"
        assume = _matrix(frame)
        key = (frame.width, frame.height, frame.format.name, assume)
        if key != self._key:
            self._key = key
            self._build(frame, mode, assume)
        source, sink = self._ends
        source.push(frame)
        converted = sink.pull()
        plane = converted.planes[0]
        size = (converted.width, converted.height)
        data, line = bytes(plane), plane.line_size
        if self._is_linear:
            data, line = _srgb_bytes(data, mode), line // 2
        image = Image.frombytes(mode, size, data, "raw", mode, line)
        turns = round(getattr(frame, "rotation", self._angle) / _RIGHT_ANGLE) % 4
        turned = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[turns]
        return image if turned is None else image.transpose(turned)

    def _build(self, frame: Any, mode: str, assume: str) -> None:
        graph = self._av.filter.Graph()
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_TICK)
        scale = graph.add("scale", f"{_EXACT}{assume}")
        layout = graph.add("format", f"pix_fmts={_LAYOUTS[mode, self._is_linear]}")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(layout)
        layout.link_to(sink)
        graph.configure()
        self._graph = graph  # PyAV's filters do not keep it alive, and crash without it
        self._ends = source, sink


def _srgb_bytes(data: bytes, mode: str) -> bytes:
    """8 bits of sRGB for 16 bits of linear light. Alpha, which is never light, is only rounded."""
    import numpy

    deep = numpy.frombuffer(data, "<u2")
    shown = _srgb_table()[deep]
    if mode == "RGBA":
        shown[3::4] = (deep[3::4].astype("uint32") * 255 + 32767) // 65535
    return bytes(shown)


@cache
def _srgb_table() -> Any:
    """sRGB's curve (IEC 61966-2-1) at 16 bits of linear light, as an array of 8 bits."""
    import numpy

    linear = numpy.arange(65536) / 65535
    curve = numpy.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return numpy.round(255 * curve).astype("uint8")


def _is_transparent(layout: Any) -> bool:
    return bool(layout.has_palette or any(component.is_alpha for component in layout.components))


def _matrix(frame: Any) -> str:
    if frame.format.is_rgb or int(frame.colorspace) != _UNSPECIFIED or frame.height < _HD_LINES:
        return ""
    return ":in_color_matrix=bt709"
