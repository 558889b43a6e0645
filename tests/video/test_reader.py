"""Frames of any clip, upright, in their colours, at exact times, one by one."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import islice, pairwise

import av
import numpy
import pytest
from PIL import Image
from support.clip_files import (
    BLUE,
    RED,
    moving_bar,
    psnr,
    skip_without_avif,
    smooth,
    transparent,
    turned,
    worst,
    write_film,
)

from lib_animatediff import ClipError
from lib_animatediff.video import FORMATS, Recipe, decode_video, exact_fps, read_clip, write_clip

CLIPS = [key for key in FORMATS if key != "txt"]
TICKS = {"gif": Fraction(1, 100), "webp": Fraction(1, 1000), "avif": Fraction(1, 1000), "webm": Fraction(1, 1000)}
GREY = 8  # levels from frame to frame


def shades(count, size=(64, 64)):
    """Frame i is i * GREY bright."""
    return [Image.new("RGB", size, (index * GREY,) * 3) for index in range(count)]


def numbers(frames):
    return [round(frame.image.getpixel((5, 5))[0] / GREY) for frame in frames]


@pytest.mark.parametrize("fps", [8, 23.976, 30])
@pytest.mark.parametrize("key", CLIPS)
def test_what_we_write_we_read_at_its_times(tmp_path, key, fps):
    skip_without_avif(key)
    (path,) = write_clip(tmp_path / "clip", shades(12, (63, 65)), formats=[key], fps=fps, recipe=Recipe("x"))
    frames, rate = list(read_clip(path)), exact_fps(fps)
    assert numbers(frames) == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    half = TICKS.get(key, Fraction(0)) / 2
    for frame in frames:
        assert abs(frame.time - frame.index / rate) <= half
    slack = Fraction(1, 1000) if key == "webm" and av.__version__.startswith("12.0") else 0
    assert abs(frames[-1].time + frames[-1].duration - 12 / rate) <= half + slack
    assert frames[0].array().shape == ((66, 64, 3) if key == "mp4" else (65, 63, 3))
    assert frames[0].array().dtype == numpy.uint8


@pytest.mark.parametrize("key", CLIPS)
def test_a_part_of_a_clip(tmp_path, key):
    skip_without_avif(key)
    (path,) = write_clip(tmp_path / "clip", shades(12), formats=[key], recipe=Recipe("x"))
    assert numbers(read_clip(path, start=3, count=4)) == [3, 4, 5, 6]
    assert [frame.index for frame in read_clip(path, start=3, count=4)] == [3, 4, 5, 6]
    assert numbers(read_clip(path, start=10, count=9)) == [10, 11]
    assert numbers(read_clip(path, start=12)) == numbers(read_clip(path, count=0)) == []


@pytest.mark.parametrize(
    ("fps", "shown"),
    [
        (4, [0, 2, 4, 6, 8, 10]),
        (8, list(range(12))),
        (12, [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10, 10, 11]),
        (16, [number // 2 for number in range(24)]),
        (Fraction(8, 7), [0, 7]),
        (0.1, [0]),
    ],
)
def test_at_another_speed_each_moment_shows_the_frame_then_on_show(tmp_path, fps, shown):
    (path,) = write_clip(tmp_path / "clip.png", shades(12), fps=8)
    frames = list(read_clip(path, fps=fps))
    assert numbers(frames) == shown
    rate = Fraction(fps).limit_denominator(100)
    assert [frame.time for frame in frames] == [index / rate for index in range(len(shown))]
    assert {frame.duration for frame in frames} == {1 / rate}
    assert numbers(read_clip(path, fps=fps, start=1, count=3)) == shown[1:4]


TIMES = [0, 33, 66, 120, 121, 300, 301, 900]  # milliseconds


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4"])
def test_a_variable_rate(tmp_path, name):
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = write_film(tmp_path / name, shades(8), times=[time + 500 for time in TIMES], codec=codec)
    frames = list(read_clip(path))
    assert numbers(frames) == list(range(8))
    assert [frame.time for frame in frames] == [Fraction(time, 1000) for time in TIMES]
    assert [frame.duration for frame in frames[:-1]] == [Fraction(b - a, 1000) for a, b in pairwise(TIMES)]
    assert numbers(read_clip(path, fps=10))[:9] == [0, 2, 4, 5, 6, 6, 6, 6, 6]


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_a_phones_video_stands_upright(tmp_path, angle):
    picture = Image.new("RGB", (128, 64), RED)
    picture.paste(BLUE, (0, 0, 32, 64))  # on the left
    path = turned(write_film(tmp_path / "a.mp4", [picture] * 2, codec="libx264"), angle)
    for frame in read_clip(path):
        assert psnr(frame.image, picture.rotate(-angle, expand=True)) > 30


@pytest.mark.parametrize("size", [(65, 63), (1, 1), (130, 7)])
def test_odd_sizes(tmp_path, size):
    path = write_film(tmp_path / "a.mkv", smooth(3, size), codec="ffv1", pix_fmt="bgr0")
    for frame, picture in zip(read_clip(path), smooth(3, size), strict=True):
        assert frame.image.tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mov", "qtrle", "argb"), ("a.mov", "png", "rgba"), ("a.webm", "libvpx-vp9", "yuva420p")],
)
def test_transparency_of_films(tmp_path, name, codec, pix_fmt):
    path = write_film(tmp_path / name, transparent(3), codec=codec, pix_fmt=pix_fmt)
    frames = [frame.image for frame in read_clip(path)]
    assert len(frames) == 3
    for frame in frames:
        assert frame.mode == "RGBA"
        assert frame.getpixel((60, 5))[3] <= 8
        assert frame.getpixel((16, 5)) == pytest.approx((*BLUE, 255), abs=8)


def untagged(path, size, matrix):
    """A plain red in YUV by some matrix, of which the file says nothing."""
    luma = {"601": (0.299, 0.587, 0.114), "709": (0.2126, 0.7152, 0.0722)}[matrix]
    red, green, blue = (value / 255 for value in RED)
    y = luma[0] * red + luma[1] * green + luma[2] * blue
    planes = (16 + 219 * y, 128 + 112 * (blue - y) / (1 - luma[2]), 128 + 112 * (red - y) / (1 - luma[0]))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("size", "matrix"), [((320, 240), "601"), ((1280, 720), "709")])
def test_colours_of_a_film_that_does_not_name_them_are_those_of_its_size(tmp_path, size, matrix):
    (frame,) = read_clip(untagged(tmp_path / "a.mp4", size, matrix))
    assert worst(frame.image, Image.new("RGB", size, RED)) <= 3


def test_a_size_that_changes_on_the_way(tmp_path):
    """A raw stream may begin anew with another size."""
    path, sizes = tmp_path / "both.h264", [(64, 64), (96, 32)]
    parts = [write_film(tmp_path / f"{size}.h264", shades(2, size), codec="libx264") for size in sizes]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [frame.image.size for frame in read_clip(path)] == [(64, 64)] * 2 + [(96, 32)] * 2


def test_a_gif_that_gives_no_time_is_shown_as_browsers_do(tmp_path):
    first, *frames = moving_bar(3)
    first.save(tmp_path / "a.gif", save_all=True, append_images=frames, duration=0)
    assert [frame.time for frame in read_clip(tmp_path / "a.gif")] == [0, Fraction(1, 10), Fraction(2, 10)]


def test_an_apng_that_begins_with_another_picture(tmp_path):
    poster, *frames = shades(4)
    poster.save(tmp_path / "a.png", save_all=True, default_image=True, append_images=frames, duration=[100, 200, 300])
    shown = list(read_clip(tmp_path / "a.png"))
    assert numbers(shown) == [1, 2, 3]
    assert [frame.time for frame in shown] == [0, Fraction(1, 10), Fraction(3, 10)]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".gif"])
def test_a_still_picture_is_a_clip_of_one_frame(tmp_path, suffix):
    smooth(1)[0].save(tmp_path / f"a{suffix}")
    (frame,) = read_clip(tmp_path / f"a{suffix}")
    assert (frame.time, frame.duration) == (0, 0)
    assert len(list(read_clip(tmp_path / f"a{suffix}", fps=8))) == 1


def test_a_folder_of_pictures_needs_a_speed(tmp_path):
    for index, picture in enumerate(shades(3)):
        picture.save(tmp_path / f"{index}.png")
    with pytest.raises(ClipError, match="Pass fps"):
        list(read_clip(tmp_path))
    assert [frame.time for frame in read_clip(tmp_path, fps=10)] == [0, Fraction(1, 10), Fraction(2, 10)]


@pytest.mark.parametrize("key", ["gif", "apng", "mp4", "webm", "frames"])
def test_few_frames_are_in_memory(tmp_path, key):
    (path,) = write_clip(tmp_path / "clip", shades(30, (256, 256)), formats=[key], recipe=Recipe("x"))
    size = 256 * 256 * 3
    tracemalloc.start()
    for frame in read_clip(path):
        frame.array()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * size


def test_frames_that_nobody_looks_at_are_not_converted(tmp_path, monkeypatch):
    (path,) = write_clip(tmp_path / "clip.mp4", shades(12))
    monkeypatch.setattr(decode_video._Converter, "__call__", lambda *_args: pytest.fail("converted"))
    assert len(list(read_clip(path))) == 12


def test_a_clip_that_is_left_early_is_closed(tmp_path):
    (path,) = write_clip(tmp_path / "clip.mp4", shades(12))
    frames = read_clip(path)
    assert numbers(islice(frames, 2)) == [0, 1]
    del frames
    path.unlink()


@pytest.mark.parametrize(
    ("changes", "words"), [({"start": -1}, "start"), ({"count": -1}, "count"), ({"fps": 0}, "fps")]
)
def test_arguments_out_of_range_and_files_that_are_not_there_are_refused_at_once(tmp_path, changes, words):
    (path,) = write_clip(tmp_path / "clip.gif", shades(2))
    with pytest.raises(ClipError, match=words):
        read_clip(path, **changes)
    with pytest.raises(ClipError, match="There is no file"):
        read_clip(tmp_path / "absent.mp4")
