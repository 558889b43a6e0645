"""Every format read back by a reader that is not ours: frames, size, duration, colours, loop count."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import clip_files
from support.clip_files import BLUE, ODD, RECIPE, RED, moving_bar, pillows, psnr, smooth, worst
from support.matrix import every_once

from lib_animatediff import ClipError
from lib_animatediff.video import FORMATS, Encoding, exact_fps, frame_durations, read_clip, write_clip

COUNTS = [1, 3, 40]
EXACT = {8: Fraction(8), 23.976: Fraction(24000, 1001), 30: Fraction(30)}
PICTURES = {"gif": 0.01, "webp": 0.001, "apng": 0, "avif": 0.001}  # and the format's tick in seconds
FILMS = ["mp4", "webm"]


def written(tmp_path, key, count=3, fps=8, frames=None, **more):
    more |= {"formats": [key], "fps": fps, "recipe": RECIPE}
    return write_clip(tmp_path / "clip", frames or moving_bar(count), **more)[0]


@pytest.mark.parametrize(("key", "count", "fps"), every_once(PICTURES, COUNTS, EXACT))
def test_pillow_finds_the_frames_of_pictures_and_how_long_they_last(tmp_path, key, count, fps):
    clip_files.skip_without_avif(key)
    shown = pillows(written(tmp_path, key, count, fps))
    assert [picture.size for picture, _ in shown] == [ODD] * count
    if (key, count) == ("avif", 1):
        return  # a still picture, which has no duration
    seconds = sum(Fraction(duration) / 1000 for _, duration in shown)
    assert abs(seconds - count / EXACT[fps]) <= Fraction(PICTURES[key]) / 2 + Fraction(1, 10**9)


@pytest.mark.parametrize(("key", "count", "fps"), every_once(FILMS, COUNTS, EXACT))
def test_pyav_and_ffprobe_find_the_frames_of_films_at_their_times_rate_and_colour_tags(tmp_path, key, count, fps):
    path = written(tmp_path, key, count, fps)
    shown = clip_files.pyavs(path)
    tick = 0 if key == "mp4" else Fraction(1, 1000)
    assert [frame[:2] for frame in shown] == [(64, 66) if key == "mp4" else ODD] * count
    for index, (_, _, time) in enumerate(shown):
        assert abs(time - index / EXACT[fps]) <= tick / 2
    stream, container = clip_files.ffprobes(path)
    assert stream["codec_name"] == {"mp4": "h264", "webm": "vp9"}[key]
    assert int(stream["nb_read_frames"]) == count
    assert Fraction(stream["r_frame_rate"]) == EXACT[fps]
    assert stream["pix_fmt"] == "yuv420p"
    tags = ("color_range", "color_space", "color_transfer", "color_primaries")
    assert [stream[tag] for tag in tags] == ["tv", "bt709", "bt709", "bt709"]
    seconds = Fraction(stream["duration"] if key == "mp4" else container["duration"])
    tick = tick or Fraction(1, 10**6)  # of ffprobe's own printing
    # PyAV 12.0 cannot say how long the last frame lasts, and FFmpeg guesses it to a millisecond.
    untold = Fraction(1, 1000) if av.__version__.startswith("12.0") else 0
    assert abs(seconds - count / EXACT[fps]) <= tick / 2 + untold


def test_an_mp4_can_be_played_while_it_is_loaded(tmp_path):
    data = written(tmp_path, "mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("key", ["apng", "mp4", "webm", "avif"])
def test_frames_that_are_alike_are_kept(tmp_path, key):
    clip_files.skip_without_avif(key)
    path = written(tmp_path, key, frames=moving_bar(1) * 5)
    assert len(clip_files.pyavs(path) if key in FILMS else pillows(path)) == 5


@pytest.mark.parametrize("key", ["gif", "webp"])
def test_frames_that_are_alike_are_shown_for_as_long(tmp_path, key):
    one, other = moving_bar(2)
    shown = pillows(written(tmp_path, key, frames=[one, one, one, other], fps=10))
    assert [duration for _, duration in shown] == [300, 100]
    for count in (1, 5):  # of WebP, a picture alone has no duration
        ((_, duration),) = pillows(written(tmp_path, key, frames=[one] * count, fps=10))
        assert duration == 100 * count or (key, count) == ("webp", 1)


@pytest.mark.parametrize(("key", "encoding"), [("gif", {}), ("apng", {}), ("webp", {"lossless": True}), ("frames", {})])
def test_few_colours_come_back_as_they_were(tmp_path, key, encoding):
    path = written(tmp_path, key, encoding=Encoding(**encoding))
    files = sorted(path.iterdir()) if key == "frames" else [path]
    if key == "frames":
        assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    shown = [picture.tobytes() for file in files for picture, _ in pillows(file)]
    assert shown == [frame.tobytes() for frame in moving_bar(3)]


def test_a_gif_of_many_colours_is_as_near_as_256_colours_can_be(tmp_path):
    """The clip's ramps are planes of 256x256 colours at four depths, so that each colour stands for 32x32 of them.

    FFmpeg takes the nearest colour as eyes see it, which costs 2 dB of PSNR here.
    """
    frames = smooth(4)
    for dither, least in ((False, 24.5), (True, 23)):
        path = written(tmp_path, "gif", frames=frames, encoding=Encoding(dither=dither))
        assert all(psnr(shown, frame) > least for (shown, _), frame in zip(pillows(path), frames, strict=True))


@pytest.mark.parametrize("key", ["webp", "avif"])
def test_many_colours_come_back_within_the_formats_quantisation(tmp_path, key):
    """WebP and AVIF: chroma at half size and quality 90. In levels of 255."""
    clip_files.skip_without_avif(key)
    for (shown, _), frame in zip(pillows(written(tmp_path, key, frames=smooth(4))), smooth(4), strict=True):
        assert worst(shown, frame) <= 12


@pytest.mark.parametrize("colour", [RED, BLUE, (0, 0, 0), (255, 255, 255), (0, 255, 0), (128, 64, 200)])
@pytest.mark.parametrize("key", FILMS)
def test_a_plain_colour_of_a_film_comes_back_within_two_levels_by_its_tags(tmp_path, key, colour):
    """8-bit YUV of limited range has steps of up to 2.2 levels; a wrong matrix or range is off by 10 to 25."""
    frames = [Image.new("RGB", (64, 64), colour)] * 2
    path = written(tmp_path, key, frames=frames, encoding=Encoding(mp4_crf=4, webm_crf=4))
    assert worst(clip_files.ffmpegs(path, (64, 64)), frames[0]) <= 3


@pytest.mark.parametrize("key", FILMS)
def test_a_film_looks_like_its_frames_and_our_reader_sees_it_too(tmp_path, key):
    path = written(tmp_path, key, frames=smooth(4))
    theirs = clip_files.ffmpegs(path, (64, 64))
    assert worst(theirs, smooth(4)[0]) <= 16
    assert worst(next(read_clip(path)).image, theirs) <= 2


@pytest.mark.parametrize("key", PICTURES)
def test_our_reader_sees_what_pillow_sees(tmp_path, key):
    clip_files.skip_without_avif(key)
    path = written(tmp_path, key, 20)
    assert [frame.image.tobytes() for frame in read_clip(path)] == [picture.tobytes() for picture, _ in pillows(path)]


def test_more_quality_looks_better(tmp_path):
    for key, name, *values in (("mp4", "mp4_crf", 8, 40), ("webm", "webm_crf", 8, 55), ("webp", "quality", 95, 10)):
        made = (written(tmp_path, key, frames=smooth(6), encoding=Encoding(**{name: value})) for value in values)
        fine, coarse = (path.stat().st_size for path in made)
        assert fine > 1.2 * coarse, key


def test_presets_reach_the_encoder(tmp_path):
    for preset, search in {"ultrafast": rb"me=dia", "slow": rb"me=(umh|hex)"}.items():
        assert re.search(search, written(tmp_path, "mp4", encoding=Encoding(preset=preset)).read_bytes())


def local_tables(path):
    """How many of a GIF's four pictures of 64x64 have a palette of their own, by a flag of their descriptors."""
    flags = re.findall(rb",\0\0\0\0@\0@\0(.)", path.read_bytes(), re.DOTALL)
    assert len(flags) == 4
    return sum(flag[0] >= 0x80 for flag in flags)


def test_a_palette_for_the_clip_and_one_for_each_frame(tmp_path):
    assert local_tables(written(tmp_path, "gif", frames=smooth(4))) == 0
    assert local_tables(written(tmp_path, "gif", frames=smooth(4), encoding=Encoding(palette="frame"))) == 3


def test_dithering_mixes_colours_and_can_be_left_out(tmp_path):
    """A ramp of one colour in few steps has flat areas without dithering."""
    plain, dithered = (
        pillows(written(tmp_path, "gif", frames=smooth(16, (96, 96)), encoding=Encoding(dither=dither)))[0][0]
        for dither in (False, True)
    )
    rows = [[picture.getpixel((x, 48)) for x in range(96)] for picture in (plain, dithered)]
    few, many = (sum(one != other for one, other in pairwise(row)) for row in rows)
    assert many > few


def test_only_what_changes_is_stored_again(tmp_path):
    grain = Image.effect_noise((64, 64), 60).convert("RGB")
    frames = [grain.copy() for _ in range(8)]
    for index, frame in enumerate(frames):
        frame.putpixel((index, 5), RED)
    made = (written(tmp_path, "gif", frames=some, encoding=Encoding(dither=False)) for some in (frames[:1], frames))
    still, moving = (path.stat().st_size for path in made)
    assert moving < 1.3 * still


def test_without_pyav_a_gif_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for (shown, _), frame in zip(pillows(written(tmp_path, "gif", frames=smooth(4))), smooth(4), strict=True):
        assert psnr(shown, frame) > 25


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("loop_count", [0, 1, 3])
@pytest.mark.parametrize("key", ["gif", "webp", "apng"])
def test_the_clip_plays_as_often_as_asked(tmp_path, key, loop_count, count):
    """GIF counts repetitions after the first time and leaves the field out for none; the others count plays."""
    with Image.open(written(tmp_path, key, count, loop_count=loop_count)) as file:
        told = file.info.get("loop")
    assert told == ({0: 0, 1: None, 3: 2}[loop_count] if key == "gif" else loop_count)


@pytest.mark.parametrize("how", ["pad", "scale"])
@pytest.mark.parametrize("size", [(63, 65), (64, 65), (63, 64), (1, 1)])
def test_an_mp4_of_an_odd_size_is_padded_or_scaled(tmp_path, how, size):
    path = written(tmp_path, "mp4", frames=smooth(2, size), encoding=Encoding(odd_sizes=how, mp4_crf=4))
    even, frame = (size[0] + size[0] % 2, size[1] + size[1] % 2), smooth(2, size)[0]
    assert clip_files.pyavs(path)[0][:2] == even
    wanted = frame.resize(even, Image.Resampling.LANCZOS)
    for shift in ((1, 1), (1, 0), (0, 1), (0, 0)) if how == "pad" else ():
        wanted.paste(frame, shift)
    assert worst(clip_files.ffmpegs(path, even), wanted) <= 12


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("key", ["webp", "apng", "avif", "frames"])
def test_transparency_is_kept_where_it_can_be_also_if_only_some_frames_have_it(tmp_path, key, some):
    clip_files.skip_without_avif(key)
    frames = clip_files.transparent(3, 32)
    if some:
        frames[::2] = [frame.convert("RGB") for frame in frames[::2]]
    picture = [frame.image for frame in read_clip(written(tmp_path, key, frames=frames))][1]
    assert picture.mode == "RGBA"
    assert picture.getpixel((30, 5))[3] == 0
    assert picture.getpixel((8, 5))[3] == 255


MODES = ["L", "P", "1", "RGBA", "LA", "CMYK"]


@pytest.mark.parametrize(("key", "mode"), every_once([key for key in FORMATS if key not in ("txt", "avif")], MODES))
def test_pictures_of_any_mode_are_taken(tmp_path, key, mode):
    path = written(tmp_path, key, frames=[frame.convert(mode) for frame in smooth(3)])
    assert len(list(read_clip(path))) == 3


def test_several_formats_at_once(tmp_path):
    paths = write_clip(tmp_path / "a fox.gif", moving_bar(2), formats=["mp4", "GIF", "frames", "txt"], recipe=RECIPE)
    assert [path.name for path in paths] == ["a fox.mp4", "a fox.gif", "a fox", "a fox.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a fox", "a fox.gif", "a fox.mp4", "a fox.txt"]


@pytest.mark.parametrize("name", ["clip.GIF", "clip.webp", "clip.apng", "v1.5 clip.png", "clip.webm"])
def test_the_suffix_says_the_format_and_another_dot_is_kept(tmp_path, name):
    (path,) = write_clip(tmp_path / name, moving_bar(2))
    assert path.name == name
    (path,) = write_clip(tmp_path / "sd1.5", moving_bar(1), formats=["gif"])
    assert path.name == "sd1.5.gif"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": []}, "no frames"),
        ({"frames": [*moving_bar(1), *moving_bar(1, (16, 16))]}, "the same size"),
        ({"formats": ["gif", "tiff"]}, "no format 'tiff'"),
        ({"formats": []}, "a suffix of no known format"),
        ({"fps": 0}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"loop_count": -1}, "loop_count must be"),
        ({"formats": ["txt"]}, "no infotext"),
    ],
)
def test_what_makes_no_clip_is_refused_before_anything_is_written(tmp_path, changes, words):
    asked = {"frames": moving_bar(2), "formats": ["gif"], "fps": 8} | changes
    with pytest.raises(ClipError, match=words):
        write_clip(tmp_path / "clip.xyz", asked.pop("frames"), **asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [{"palette": "none"}, {"quality": 101}, {"mp4_crf": -1}, {"webm_crf": 64}, {"preset": "x"}, {"odd_sizes": ""}],
)
def test_an_encoding_out_of_range_is_refused(changes):
    with pytest.raises(ClipError, match=next(iter(changes))):
        Encoding(**changes)


@pytest.mark.parametrize("key", [*PICTURES, *FILMS, "frames"])
def test_without_a_recipe_nothing_is_said(tmp_path, key):
    clip_files.skip_without_avif(key)
    (path,) = write_clip(tmp_path / "clip", moving_bar(2), formats=[key])
    data = b"".join(file.read_bytes() for file in ([path] if path.is_file() else path.iterdir()))
    assert b"animatediff" not in data.lower()
    assert b"ANIMDIFF" not in data


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (24, Fraction(24)),
        (24.0, Fraction(24)),
        (7.5, Fraction(15, 2)),
        (12.3, Fraction(123, 10)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (1e-5, Fraction(1e-5)),
    ],
)
def test_rates_are_the_fractions_that_are_meant(said, meant):
    assert exact_fps(said) == meant


@given(frames=st.integers(1, 64), fps=st.floats(1, 50))
@settings(deadline=None)
def test_durations_are_whole_ticks_that_add_up_to_the_clips_length(frames, fps):
    durations = frame_durations(frames, fps)
    assert len(durations) == frames
    assert all(duration >= 20 and duration % 10 == 0 for duration in durations)  # players slow down what is shorter
    assert abs(sum(durations) - 1000 * frames / exact_fps(fps)) <= 5
