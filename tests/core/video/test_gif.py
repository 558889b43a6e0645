"""A GIF holds the frames, for as long as asked, and appears whole or not at all."""

from __future__ import annotations

import io
import random

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from lib_animatediff import ClipError
from lib_animatediff.video import frame_durations, write_gif

RED, BLUE = (250, 10, 20), (12, 20, 199)
SIZE = (24, 16)


def moving_bar(count, size=SIZE):
    """Red pictures with a blue bar at a place of its own in each."""
    frames = [Image.new("RGB", size, RED) for _ in range(count)]
    for index, frame in enumerate(frames):
        frame.paste(BLUE, (index % size[0], 0, index % size[0] + 1, size[1]))
    return frames


def pictures_of(path):
    """What a viewer shows: every picture in full colour, and for how many milliseconds."""
    with Image.open(path) as file:
        return [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(file)]


def info_of(path):
    with Image.open(path) as file:
        return dict(file.info)


@pytest.mark.parametrize("fps", [1, 7.5, 8, 12, 23.976, 24, 30, 50])
def test_a_player_finds_all_frames_at_their_times(tmp_path, fps):
    path = tmp_path / "clip.gif"
    write_gif(path, moving_bar(16), fps=fps)
    with av.open(str(path)) as file:
        shown = list(file.decode(video=0))
    with av.open(str(path)) as file:
        end = max(float((p.pts + p.duration) * p.time_base) for p in file.demux(video=0) if p.size)
    assert [(frame.width, frame.height) for frame in shown] == [SIZE] * 16
    for index, frame in enumerate(shown):
        assert float(frame.time) == pytest.approx(index / fps, abs=0.005001)
    assert end == pytest.approx(16 / fps, abs=0.005001)


@given(frames=st.integers(1, 64), fps=st.floats(1, 50))
@settings(deadline=None)
def test_durations_are_whole_ticks_that_add_up_to_the_clips_length(frames, fps):
    durations = frame_durations(frames, fps)
    assert len(durations) == frames
    assert all(duration >= 20 and duration % 10 == 0 for duration in durations)  # players slow down what is shorter
    assert abs(sum(durations) - 1000 * frames / fps) <= 5 + 1e-6


def test_the_frames_come_back_with_their_colours(tmp_path):
    frames = moving_bar(16)
    write_gif(tmp_path / "clip.gif", frames, fps=8)
    assert [picture.tobytes() for picture, _ in pictures_of(tmp_path / "clip.gif")] == [f.tobytes() for f in frames]


def test_all_frames_share_one_palette(tmp_path):
    """A palette per frame would change the colours of what does not move."""
    upper_half, noise = (0, 0, SIZE[0], SIZE[1] // 2), random.Random(0)
    frames = [Image.frombytes("RGB", SIZE, noise.randbytes(3 * SIZE[0] * SIZE[1])) for _ in range(4)]
    for frame in frames:
        frame.paste(frames[0].crop(upper_half), upper_half)
    write_gif(tmp_path / "clip.gif", frames, fps=8)
    assert len({picture.crop(upper_half).tobytes() for picture, _ in pictures_of(tmp_path / "clip.gif")}) == 1


def test_repeated_frames_keep_the_clips_length_and_the_order(tmp_path):
    one, other = moving_bar(2)
    write_gif(tmp_path / "clip.gif", [one, one, one, other, one, one], fps=10)
    shown = [(picture.tobytes(), duration) for picture, duration in pictures_of(tmp_path / "clip.gif")]
    assert shown == [(one.tobytes(), 300), (other.tobytes(), 100), (one.tobytes(), 200)]


@pytest.mark.parametrize("repeats", [1, 5])
def test_one_frame_alone_is_shown_for_its_time(tmp_path, repeats):
    frames = moving_bar(1) * repeats
    write_gif(tmp_path / "clip.gif", frames, fps=10)
    ((picture, duration),) = pictures_of(tmp_path / "clip.gif")
    assert picture.tobytes() == frames[0].tobytes()
    assert duration == 100 * repeats


@pytest.mark.parametrize(("loop_count", "field"), [(0, 0), (1, None), (3, 2)])
def test_the_clip_plays_as_often_as_asked(tmp_path, loop_count, field):
    """The file counts repetitions after the first time, 0 for ever; a file without the field plays once."""
    write_gif(tmp_path / "clip.gif", moving_bar(2), fps=8, loop_count=loop_count)
    assert info_of(tmp_path / "clip.gif").get("loop") == field


@pytest.mark.parametrize("comment", ["Steps: 20, Seed: 1", "ein Füchslein, 狐が走る 🦊\nSteps: 20", "long " * 1000])
@pytest.mark.parametrize("count", [1, 3])
def test_the_comment_comes_back(tmp_path, comment, count):
    write_gif(tmp_path / "clip.gif", moving_bar(count), fps=8, comment=comment)
    assert info_of(tmp_path / "clip.gif")["comment"].decode() == comment


def test_a_comment_that_is_no_text_does_not_cost_the_clip(tmp_path):
    write_gif(tmp_path / "clip.gif", moving_bar(2), fps=8, comment="half a pair: \ud83e")
    assert info_of(tmp_path / "clip.gif")["comment"] == b"half a pair: ?"


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_any_mode_are_taken(tmp_path, mode):
    write_gif(tmp_path / "clip.gif", [frame.convert(mode) for frame in moving_bar(3)], fps=8)
    assert len(pictures_of(tmp_path / "clip.gif")) == 3


@pytest.mark.parametrize(
    ("frames", "words"),
    [([], "no frames"), ([*moving_bar(2), *moving_bar(1, (16, 16))], r"the same size, not \[\(16, 16\), \(24, 16\)\]")],
)
def test_frames_that_make_no_clip_are_refused(tmp_path, frames, words):
    with pytest.raises(ClipError, match=words):
        write_gif(tmp_path / "clip.gif", frames, fps=8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clip.gif", "x" * 251 + ".gif", "狐 [1] %.gif"])
def test_nothing_but_the_clip_is_left_in_a_folder_made_for_it(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    write_gif(path, moving_bar(2), fps=8)
    assert list(path.parent.iterdir()) == [path]


def test_other_programs_may_read_the_clip(tmp_path):
    write_gif(tmp_path / "clip.gif", moving_bar(2), fps=8)
    assert (tmp_path / "clip.gif").stat().st_mode & 0o444 == 0o444


def test_a_former_clip_is_replaced(tmp_path):
    path = tmp_path / "clip.gif"
    path.write_bytes(b"former")
    write_gif(path, moving_bar(2), fps=8)
    assert len(pictures_of(path)) == 2


def test_a_picture_that_cannot_be_read_leaves_the_former_clip(tmp_path):
    path, png = tmp_path / "clip.gif", io.BytesIO()
    path.write_bytes(b"former")
    moving_bar(1)[0].save(png, "PNG")
    broken = Image.open(io.BytesIO(png.getvalue()[:-40]))
    with pytest.raises(OSError, match="truncated"):
        write_gif(path, [broken], fps=8)
    assert [(child, child.read_bytes()) for child in tmp_path.iterdir()] == [(path, b"former")]


def test_a_full_disk_leaves_the_former_clip(tmp_path):
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "clip.gif", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(b"former")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # no file may grow beyond
    try:
        with pytest.raises(OSError, match="too large"):
            write_gif(path, moving_bar(8), fps=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(child, child.read_bytes()) for child in tmp_path.iterdir()] == [(path, b"former")]


def test_a_place_that_is_taken_by_a_folder_is_left_as_it_was(tmp_path):
    path = tmp_path / "clip.gif"
    path.mkdir()
    with pytest.raises(OSError, match="clip"):
        write_gif(path, moving_bar(2), fps=8)
    assert list(tmp_path.iterdir()) == [path]
