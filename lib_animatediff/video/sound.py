"""Sound of a source video in the files of a clip, cut to it.

Packets are copied if the container takes their codec and the clip begins where the sound does. Otherwise the sound is
encoded again, which cuts it exactly: packets last up to 26 milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from motion_module import AnimateDiffError, ClipError

from .atomic import plain_reason
from .pyav import need_av, open_media

_RATE = 48_000  # samples per second: Opus has no other
_BITS_PER_SECOND = 160_000
_AT_BEGINNING = Fraction(1, 1000)  # seconds


@dataclass(frozen=True)
class SoundFormat:
    """What a container takes.

    Attributes:
        copied: codecs whose packets can be copied.
        encoder: for all others.
    """

    copied: tuple[str, ...]
    encoder: str


SOUND_FORMATS = {"mp4": SoundFormat(("aac", "mp3"), "aac"), "webm": SoundFormat(("opus", "vorbis"), "libopus")}


@dataclass(frozen=True)
class Sound:
    """A part of the sound of a video file.

    Attributes:
        path: the file.
        start: of the part, in seconds since the first frame of the video.
        duration: in seconds. The sound may end before it.
    """

    path: Path
    start: Fraction
    duration: Fraction


def has_sound(path: Path) -> bool:
    """Whether a video file has sound."""
    with open_media(path) as container:
        return bool(container.streams.audio)


def check_sound(sound: Sound) -> None:
    """Decode the sound once.

    Raises:
        ClipError: it is damaged.
    """
    av = need_av()
    try:
        with open_media(sound.path) as container:
            for _ in _cut_frames(av, container, sound, _first_time(sound.path)):
                pass
    except AnimateDiffError:
        raise
    except Exception as error:
        raise ClipError(
            f"The sound of {sound.path.name} cannot be decoded ({plain_reason(error)}). Render the clip without it.",
            code="AD-V64",
        ) from error


class SoundTrack:
    """The sound of a clip on its way into a file that is being written.

    Args:
        output: the container.
        packets: of the sound, in its time base.
    """

    def __init__(self, output: Any, packets: Iterator[Any]) -> None:
        self._output = output
        self._packets = packets
        self._next = next(packets, None)

    def write_until(self, seconds: Fraction | None) -> None:
        """Write the sound up to a time of the clip, so that players find it beside the images; None: all of it."""
        while self._next is not None and (seconds is None or _time(self._next) <= seconds):
            self._output.mux(self._next)
            self._next = next(self._packets, None)


@contextmanager
def sound_track(output: Any, sound: Sound | None, takes: SoundFormat) -> Iterator[SoundTrack]:
    """The sound in a container before its first packet; None: a track without packets."""
    if sound is None:
        yield SoundTrack(output, iter(()))
        return
    first = _first_time(sound.path)
    with open_media(sound.path) as source:
        stream = source.streams.audio[0]
        is_whole = abs(first + sound.start) < _AT_BEGINNING
        if is_whole and stream.codec_context.name.removesuffix("float") in takes.copied:
            packets = _copied(source, stream, _stream_like(output, stream), sound)
        else:
            packets = _encoded(source, _new_stream(output, source, takes.encoder), sound, first)
        yield SoundTrack(output, packets)


def _time(packet: Any) -> Fraction:
    return Fraction(packet.pts or 0) * Fraction(packet.time_base)


def _first_time(path: Path) -> Fraction:
    """When the first frame of the video appears, in the file's own time."""
    with open_media(path) as container:
        frame = next(container.decode(container.streams.video[0]))
        return Fraction(frame.pts or 0) * Fraction(frame.time_base)


def _stream_like(output: Any, stream: Any) -> Any:
    copy: Callable[[Any], Any] | None = getattr(output, "add_stream_from_template", None)  # since PyAV 14
    return copy(stream) if copy else output.add_stream(template=stream)


def _copied(source: Any, stream: Any, target: Any, sound: Sound) -> Iterator[Any]:
    """The packets of which the greater part lies in the clip."""
    for packet in source.demux(stream):
        if packet.pts is None:  # the end of the stream
            continue
        length = Fraction(packet.duration or 0) * Fraction(packet.time_base)
        if _time(packet) + length / 2 > sound.duration:
            return
        packet.stream = target
        yield packet


def _new_stream(output: Any, source: Any, encoder: str) -> Any:
    stream = output.add_stream(encoder, rate=_RATE)
    stream.codec_context.layout = _layout(source)
    stream.codec_context.bit_rate = _BITS_PER_SECOND
    stream.codec_context.time_base = Fraction(1, _RATE)
    return stream


def _encoded(source: Any, stream: Any, sound: Sound, first: Fraction) -> Iterator[Any]:
    samples = 0
    for frame in _cut_frames(need_av(), source, sound, first):
        frame.pts, frame.time_base = samples, Fraction(1, _RATE)
        samples += frame.samples
        yield from stream.encode(frame)
    if samples:
        yield from stream.encode(None)


def _layout(source: Any) -> str:
    return "mono" if source.streams.audio[0].codec_context.channels == 1 else "stereo"


def _cut_frames(av: Any, source: Any, sound: Sound, first: Fraction) -> Iterator[Any]:
    """The sound as frames of samples, from the first sample of the clip to its last; gaps become silence."""
    stream = source.streams.audio[0]
    begin, end = first + sound.start, first + sound.start + sound.duration
    graph = av.filter.Graph()
    entry = graph.add_abuffer(template=stream, time_base=stream.time_base)
    chain = [
        entry,
        graph.add("atrim", f"start={float(begin)}:end={float(end)}"),
        graph.add("asetpts", f"PTS-{float(begin)}/TB"),
        graph.add("aresample", f"{_RATE}:async=1:first_pts=0"),
        graph.add("aformat", f"sample_fmts=fltp:sample_rates={_RATE}:channel_layouts={_layout(source)}"),
        graph.add("abuffersink"),
    ]
    for one, following in pairwise(chain):
        one.link_to(following)
    graph.configure()
    for frame in source.decode(stream):
        if frame.pts is not None and frame.pts * Fraction(frame.time_base) >= end:
            break
        entry.push(frame)
        yield from _pulled(av, chain[-1])
    entry.push(None)
    yield from _pulled(av, chain[-1])


def _pulled(av: Any, sink: Any) -> Iterator[Any]:
    while True:
        try:
            yield sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
