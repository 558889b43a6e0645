"""Frames that are made while they are written: each once, no sooner than needed, and never all in memory."""

from __future__ import annotations

import tracemalloc
import weakref

import pytest
from PIL import Image
from support.clip_files import pillows, pyavs

from lib_animatediff import ClipError
from lib_animatediff.video import ping_pong, read_clip, write_clip
from lib_animatediff.video.spool import SpooledFrames
from motion_module.errors import ClipNotWrittenError

SIZE = (64, 48)
BYTES = 3 * SIZE[0] * SIZE[1]


class Maker:
    """Makes frames of many colours one by one, and counts them."""

    def __init__(self, count):
        self.made, self.count = 0, count

    def __iter__(self):
        for number in range(self.count):
            self.made += 1
            yield bytes((place * 7 + place // 192 * 5 + 3 * number) % 256 for place in range(BYTES))


def spooled(count):
    maker = Maker(count)
    return maker, SpooledFrames(iter(maker), count, SIZE)


def test_frames_are_made_once_when_they_are_read_and_can_be_read_in_any_order():
    maker, frames = spooled(9)
    assert (len(frames), frames.size, maker.made) == (9, SIZE, 0)
    third = frames[2]
    assert maker.made == 3
    expected = [Image.frombytes("RGB", SIZE, data).tobytes() for data in Maker(9)]
    assert third.tobytes() == expected[2]
    assert [frame.tobytes() for frame in frames] == expected
    assert frames[-1].tobytes() == expected[8]
    assert [frame.tobytes() for frame in frames[1:8:3]] == expected[1:8:3]
    assert [frame.tobytes() for frame in ping_pong(frames)] == ping_pong(expected)
    assert maker.made == 9
    with pytest.raises(IndexError):
        frames[9]


@pytest.mark.parametrize("key", ["mp4", "webm", "apng", "frames"])
def test_an_encoder_has_written_the_frames_so_far_when_the_next_one_is_made(tmp_path, key):
    maker, frames = spooled(12)
    ahead = []
    write_clip(
        tmp_path / "clip", frames, formats=[key], progress=lambda _key, done, _count: ahead.append(maker.made - done)
    )
    assert maker.made == 12
    assert ahead[0] == 0  # nothing was made before the encoder began
    assert max(ahead[:6]) <= (6 if key in ("mp4", "webm") else 1)  # films look ahead, and count half of what is ahead


def test_several_formats_make_each_frame_once_and_show_all(tmp_path):
    maker, frames = spooled(5)
    gif, mp4, folder = write_clip(tmp_path / "clip", frames, formats=["gif", "mp4", "frames"])
    assert maker.made == 5
    assert len(pillows(gif)) == len(pyavs(mp4)) == 5
    assert [frame.image.tobytes() for frame in read_clip(folder, fps=8)] == [frame.tobytes() for frame in frames]


@pytest.mark.parametrize(("key", "most"), [("mp4", 4), ("webm", 4), ("apng", 4), ("frames", 4), ("gif", 70)])
def test_a_thousand_frames_are_never_in_memory_at_once(tmp_path, key, most, monkeypatch):
    """A GIF converts at most 32 frames together, and has each as an image of colours and of indices."""
    live, greatest, original = set(), 0, Image.frombytes

    def watched(*args):
        nonlocal greatest
        image = original(*args)
        key = object()
        live.add(key)
        weakref.finalize(image, live.discard, key)
        greatest = max(greatest, len(live))
        return image

    monkeypatch.setattr(Image, "frombytes", watched)
    size = (16, 16)
    data = [bytes((place * place + number) % 256 for place in range(768)) for number in range(250)]
    frames = SpooledFrames((data[number % 250] for number in range(1000)), 1000, size)
    write_clip(tmp_path / "clip", frames, formats=[key])
    assert greatest <= most


def test_the_spool_of_a_long_clip_is_in_a_file(monkeypatch):
    monkeypatch.setattr("lib_animatediff.video.spool._IN_MEMORY", 8 * BYTES)

    def peak_of(count):
        frames = SpooledFrames((bytes([number % 256]) * BYTES for number in range(count)), count, SIZE)
        tracemalloc.start()
        for _ in frames:
            pass
        frames[0]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak_of(20)
    assert peak_of(600) <= peak_of(20) + 4 * BYTES


def test_what_fails_while_frames_are_made_is_said_for_every_format(tmp_path):
    def broken():
        yield bytes(BYTES)
        raise ClipError("The lamp is broken. Replace it.", code="AD-X01")

    with pytest.raises(ClipNotWrittenError) as refused:
        write_clip(tmp_path / "clip", SpooledFrames(broken(), 3, SIZE), formats=["apng", "mp4"])
    assert str(refused.value).count("The lamp is broken. Replace it") == 2
    with pytest.raises(EOFError, match="only 1 frames were made"):
        SpooledFrames(iter([bytes(BYTES)]), 3, SIZE)[1]
