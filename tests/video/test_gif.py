"""A GIF holds the frames, for as long as asked, and appears whole or not at all."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.clip_files import moving_bar

from lib_animatediff.video import frame_durations, write_gif


@given(frames=st.integers(1, 64), fps=st.floats(1, 50))
@settings(deadline=None)
def test_durations_are_whole_ticks_that_add_up_to_the_clips_length(frames, fps):
    durations = frame_durations(frames, fps)
    assert len(durations) == frames
    assert all(duration >= 20 and duration % 10 == 0 for duration in durations)  # players slow down what is shorter
    assert abs(sum(durations) - 1000 * frames / fps) <= 5 + 1e-6


def test_a_comment_that_is_no_text_does_not_cost_the_clip(tmp_path):
    write_gif(tmp_path / "clip.gif", moving_bar(2), fps=8, comment="half a pair: \ud83e")
    with Image.open(tmp_path / "clip.gif") as file:
        assert file.info["comment"] == b"half a pair: ?"


@pytest.mark.parametrize("name", ["clip.gif", "x" * 251 + ".gif", "狐 [1] %.gif"])
def test_nothing_but_the_clip_is_left_in_a_folder_made_for_it(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    write_gif(path, moving_bar(2), fps=8)
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_that_cannot_be_read_leaves_the_former_clip(tmp_path):
    path, png = tmp_path / "clip.gif", io.BytesIO()
    path.write_bytes(b"former")
    moving_bar(1)[0].save(png, "PNG")
    broken = Image.open(io.BytesIO(png.getvalue()[:-40]))
    with pytest.raises(OSError, match="truncated"):
        write_gif(path, [broken], fps=8)
    assert [(child, child.read_bytes()) for child in tmp_path.iterdir()] == [(path, b"former")]
