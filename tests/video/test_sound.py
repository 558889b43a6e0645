"""The sound of a source stays beside its images in MP4 and WebM, and ends with the clip."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from support.clip_files import write_film
from support.source_files import CLICKS, clicks_of, shades, write_film_with_sound

from lib_animatediff import ClipError
from lib_animatediff.video import read_clip, write_clip
from lib_animatediff.video.sound import Sound, check_sound, has_sound

TOLERANCE = 0.020  # seconds
FILMS = {"a.mp4": "aac", "a.webm": "libopus", "a.mov": "pcm_s16le", "a.mkv": "libmp3lame"}


def streams_of(path):
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams]


@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 5)])
def test_clicks_stay_where_they_are_heard_and_the_sound_ends_with_the_clip(tmp_path, name, start):
    source = write_film_with_sound(tmp_path / name, FILMS[name])
    sound = Sound(source, start, Fraction(2))
    check_sound(sound)
    wanted = [seconds - float(start) for seconds in CLICKS if float(start) <= seconds < float(start) + 2]
    for clip in write_clip(tmp_path / "clip", shades(20), fps=10, formats=["mp4", "webm"], sound=sound):
        heard, end = clicks_of(clip)
        assert heard == pytest.approx(wanted, abs=TOLERANCE)
        assert end == pytest.approx(2, abs=TOLERANCE)
        frames = list(read_clip(clip))
        assert (len(frames), frames[-1].time + frames[-1].duration) == (20, 2)


def test_packets_are_copied_where_the_container_takes_them(tmp_path):
    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    for name, suffix in (("a.mp4", "mp4"), ("a.webm", "webm")):
        source = write_film_with_sound(tmp_path / name, FILMS[name])
        (clip,) = write_clip(tmp_path / f"clip.{suffix}", shades(20), fps=10, sound=Sound(source, Fraction(0), 2))
        assert packets(clip) == packets(source)[: len(packets(clip))]
        assert len(packets(clip)) > 20


def test_sound_that_is_shorter_than_the_clip_ends_before_it(tmp_path):
    source = write_film_with_sound(tmp_path / "a.mkv", "flac")
    (clip,) = write_clip(tmp_path / "a.mp4", shades(20), fps=5, sound=Sound(source, Fraction(2), Fraction(4)))
    heard, end = clicks_of(clip)
    assert (heard, end) == (pytest.approx([0.25, 0.75], abs=TOLERANCE), pytest.approx(1, abs=0.03))


def test_the_other_formats_and_films_without_sound_have_none(tmp_path):
    silent = write_film(tmp_path / "silent.mkv", shades(3), codec="ffv1", pix_fmt="bgr0")
    source = write_film_with_sound(tmp_path / "a.mp4", "aac")
    assert (has_sound(silent), has_sound(source)) == (False, True)
    (gif,) = write_clip(tmp_path / "a.gif", shades(3), fps=10, sound=Sound(source, Fraction(0), Fraction(1)))
    assert len(streams_of(gif)) == 1
    (clip,) = write_clip(tmp_path / "clip.mp4", shades(3), fps=10)
    assert streams_of(clip) == ["h264"]


def test_damaged_sound_is_refused_before_the_clip_is_made(tmp_path):
    source = write_film_with_sound(tmp_path / "a.mkv", "flac")
    with av.open(str(source)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    data = bytearray(source.read_bytes())
    for place in places[2:6]:
        data[place + 12 : place + 400] = bytes(388)
    source.write_bytes(data)
    with pytest.raises(ClipError, match=r"The sound of a\.mkv cannot be decoded"):
        check_sound(Sound(source, Fraction(0), Fraction(3)))
