"""MP4 and WebM, written by PyAV, which bundles FFmpeg.

imageio wraps the same libraries, but lacks what makes these files exact: fractional frame rates, colour tags that match
the conversion, and text in the container.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion_module import AnimateDiffError

from .encoding import EncoderInput, Encoding
from .pyav import need_av, open_media
from .sound import SOUND_FORMATS, sound_track
from .timing import edges

if TYPE_CHECKING:
    from PIL.Image import Image

_BT709, _LIMITED = 1, 1  # FFmpeg's constants for the colour matrix and the range
_PIXELS = "yuv420p"  # the only pixel format that every player supports
_QUICKLY = {"row-mt": "1", "cpu-used": "4"}  # libvpx's default, 1, takes twice as long, for 0.4 dB
_MOST_THREADS = 8
_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"


def _threads() -> str:
    return str(min(os.cpu_count() or 1, _MOST_THREADS))


@dataclass(frozen=True)
class _VideoFormat:
    """A container and its codec.

    Attributes:
        ticks: time base in ticks per second; 0 if the container accepts the clip's own rate.
        even: whether width and height must be even.
        options: encoder options.
        container: container options for a frame rate.
    """

    name: str
    codec: str
    ticks: int
    even: bool
    options: Callable[[Encoding], dict[str, str]]
    container: Callable[[Fraction], dict[str, str]]


_MP4 = _VideoFormat(
    name="mp4",
    codec="libx264",
    ticks=0,
    even=True,
    options=lambda encoding: {"crf": str(encoding.mp4_crf), "preset": encoding.preset},
    # Playable while loading; duration stored in the clip's time base instead of milliseconds.
    container=lambda fps: {"movflags": "faststart", "movie_timescale": str(fps.numerator)},
)
_WEBM = _VideoFormat(
    name="webm",
    codec="libvpx-vp9",
    ticks=1000,
    even=False,
    options=lambda encoding: {"crf": str(encoding.webm_crf), "b": "0", **_QUICKLY, "threads": _threads()},
    container=lambda _fps: {},
)


def write_mp4(part: Path, clip: EncoderInput) -> None:
    """Write an MP4: H.264 in yuv420p with BT.709 colours, which plays everywhere."""
    _write(part, clip, _MP4)


def write_webm(part: Path, clip: EncoderInput) -> None:
    """Write a WebM: VP9 in yuv420p with BT.709 colours."""
    _write(part, clip, _WEBM)


def _write(part: Path, clip: EncoderInput, video: _VideoFormat) -> None:
    av = need_av()
    _need_codec(av, video)
    tick = Fraction(1, video.ticks) if video.ticks else 1 / clip.fps
    times = edges(len(clip.frames), clip.fps, video.ticks) if video.ticks else list(range(len(clip.frames) + 1))
    with av.open(str(part.resolve()), "w", format=video.name, options=video.container(clip.fps)) as container:
        if clip.infotext:
            container.metadata["comment"] = clip.infotext
        if clip.block:
            container.metadata["description"] = clip.block
        size = _even(clip.size) if video.even else clip.size
        stream, muxed = _stream(container, clip, video, size, tick), 0
        with sound_track(container, clip.sound, SOUND_FORMATS[video.name]) as track:
            for index, image in enumerate(_converted(av, clip, size, tick)):
                image.pts = times[index]
                muxed += _mux(container, stream.encode(image), times)
                track.write_until(times[muxed] * tick)
                clip.note((index + 1 + muxed) // 2)  # the encoder looks ahead before it gives the first packet
            for packet in _flushed(stream):
                muxed += _mux(container, [packet], times)
                clip.note((len(clip.frames) + muxed) // 2)
            track.write_until(None)
    _check(part, len(clip.frames))


def _need_codec(av: Any, video: _VideoFormat) -> None:
    try:
        av.codec.Codec(video.codec, "w")
    except Exception:
        raise AnimateDiffError(
            f"This version of PyAV cannot write {video.name.upper()}: it lacks {video.codec}. "
            "Update it: pip install --upgrade av",
            code="AD-V02",
        ) from None


def _stream(container: Any, clip: EncoderInput, video: _VideoFormat, size: tuple[int, int], tick: Fraction) -> Any:
    stream = container.add_stream(video.codec, rate=clip.fps, options=video.options(clip.encoding))
    stream.width, stream.height = size
    stream.pix_fmt = _PIXELS
    context = stream.codec_context
    context.time_base = stream.time_base = tick
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED
    return stream


def _converted(av: Any, clip: EncoderInput, size: tuple[int, int], tick: Fraction) -> Iterator[Any]:
    """The frames in the encoder's pixel format.

    Uses a filter graph, because `VideoFrame.reformat` before PyAV 17 confuses ranges and matrices, by up to 20 levels.
    """
    graph = av.filter.Graph()
    source = graph.add_buffer(width=size[0], height=size[1], format="rgb24", time_base=tick)
    scale = graph.add("scale", f"out_color_matrix=bt709:out_range=tv:{_EXACT}")
    layout = graph.add("format", f"pix_fmts={_PIXELS}")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(layout)
    layout.link_to(sink)
    graph.configure()
    for index, image in enumerate(clip.in_colour()):
        frame = av.VideoFrame.from_image(_fitted(image, size, clip.encoding.odd_sizes))
        frame.pts, frame.time_base = index, tick
        source.push(frame)
        converted = sink.pull()
        converted.time_base = tick
        converted.pict_type = 0  # lets the encoder choose, whatever the source frame was
        yield converted


def _even(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def _fitted(image: Image, size: tuple[int, int], how: str) -> Image:
    if image.size == size:
        return image
    from PIL import Image

    if how == "scale":
        return image.resize(size, Image.Resampling.LANCZOS)
    width, height = image.size
    padded = Image.new("RGB", size)
    padded.paste(image)
    padded.paste(padded.crop((width - 1, 0, width, height)), (size[0] - 1, 0))
    padded.paste(padded.crop((0, height - 1, size[0], height)), (0, size[1] - 1))
    return padded


def _flushed(stream: Any) -> Iterator[Any]:
    """The packets that the encoder still holds, one by one where PyAV can: each may take long."""
    one_by_one = getattr(stream.codec_context, "encode_lazy", None)
    if one_by_one is None:
        yield from stream.encode(None)
        return
    for packet in one_by_one(None):
        packet.stream = stream
        yield packet


def _mux(container: Any, packets: list[Any], times: list[int]) -> int:
    for packet in packets:
        frame = times.index(packet.pts)
        with suppress(AttributeError):  # early PyAV has no setter, and its guess is right within one tick
            packet.duration = times[frame + 1] - times[frame]  # otherwise the last frame would have no duration
        container.mux(packet)
    return len(packets)


def _check(part: Path, frames: int) -> None:
    """Count the written frames: FFmpeg does not report every write error."""
    with open_media(part) as container:
        written = sum(1 for packet in container.demux(video=0) if packet.size)
    if written != frames:
        raise OSError(f"only {written} of {frames} frames were written")
